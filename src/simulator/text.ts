/**
 * Owns: generated text: any number of bytes of it, the same for the same seed, made when it is needed.
 * Invariant: exactly as many UTF-8 bytes as asked for, whole characters only. It holds characters of one to four bytes, so
 * that a stream can be split inside one.
 */

const PASSAGE = Buffer.from(
  "The purser keeps the books of the ship. Every coin that leaves the chest is written down before it leaves, naïvely or " +
    "not; “nothing is lost,” she says — 帳簿は嘘をつかない — and a café on the quay ☕ gets its 3 € back 🙂 when the tide " +
    "turns. Señor Ñandú weighs the sacks, ﬁrst in, first out, and the sum is the same in every language: exakt, точно, 정확히.\n",
);

/** Text of exactly `bytes` bytes. @param offset - 0 or more; the byte of the endless passage at which it starts. */
export function textOfBytes(bytes: number, offset: number): string {
  if (bytes <= 0) return "";
  const start = toCharacterStart(offset % PASSAGE.length);
  const repeated = Buffer.alloc(start + bytes, PASSAGE).subarray(start);
  let end = repeated.length;
  // A character that does not fit whole is replaced by full stops.
  while (end > 0 && end > repeated.length - 4 && !isWhole(repeated, end)) end--;
  return repeated.subarray(0, end).toString("utf8") + ".".repeat(repeated.length - end);
}

function toCharacterStart(offset: number): number {
  let start = offset;
  while (isContinuation(PASSAGE[start])) start--;
  return start;
}

/** Whether a character ends at `end`: what follows in the repeated passage starts a new one. */
function isWhole(bytes: Buffer, end: number): boolean {
  let lead = end - 1;
  while (lead > 0 && isContinuation(bytes[lead])) lead--;
  const first = bytes[lead] ?? 0;
  const length = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
  return lead + length === end;
}

function isContinuation(byte: number | undefined): boolean {
  return byte !== undefined && byte >= 0x80 && byte < 0xc0;
}

/** A small integer that depends on every byte. */
export function seedOf(bytes: Uint8Array): number {
  let hash = 2_166_136_261;
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 16_777_619);
  return (hash >>> 0) % 1_000_003;
}
