/**
 * Owns small readings of JSON strings as bytes: comparing with known words, decoding, checking UTF-8.
 * Does not own the grammar around them (scan.ts).
 * Invariant: nothing here reads outside `[start, end)`, and equal words compare equal however they are escaped.
 */

/** Known ASCII words, compared with bytes without decoding them. */
export class ByteTable {
  readonly #words: readonly string[];
  readonly #byLength: readonly (readonly { index: number; codes: Uint8Array }[])[];

  constructor(words: readonly string[]) {
    const longest = Math.max(0, ...words.map((word) => word.length));
    const byLength: { index: number; codes: Uint8Array }[][] = Array.from({ length: longest + 1 }, () => []);
    for (const [index, word] of words.entries()) byLength[word.length]?.push({ index, codes: encodeAscii(word) });
    this.#words = words;
    this.#byLength = byLength;
  }

  /**
   * Which word the bytes `[start, end)` are, or -1.
   *
   * @param hasEscapes true if the bytes hold a backslash: they are then decoded first.
   */
  indexOf(bytes: Uint8Array, start: number, end: number, hasEscapes: boolean): number {
    if (hasEscapes) return this.#indexOfEscaped(bytes, start, end);
    const candidates = this.#byLength[end - start];
    if (candidates === undefined) return -1;
    for (const { index, codes } of candidates) {
      let offset = 0;
      while (offset < codes.length && bytes[start + offset] === codes[offset]) offset += 1;
      if (offset === codes.length) return index;
    }
    return -1;
  }

  #indexOfEscaped(bytes: Uint8Array, start: number, end: number): number {
    // Six bytes per letter is the longest way to write a known word.
    if (end - start > 6 * (this.#byLength.length - 1)) return -1;
    return this.#words.indexOf(decodeString(bytes, start - 1, end + 1));
  }
}

/** The bytes of an ASCII word. */
export function encodeAscii(word: string): Uint8Array {
  return Uint8Array.from(word, (letter) => letter.charCodeAt(0));
}

/**
 * The text of a JSON string that the scanner has accepted.
 *
 * @param start where its opening quote stands
 * @param end just after its closing quote
 */
export function decodeString(bytes: Uint8Array, start: number, end: number): string {
  const text = decodeUtf8(bytes, start, end);
  return text.includes("\\") ? (JSON.parse(text) as string) : text.slice(1, -1);
}

/** Decodes valid UTF-8. By hand: this room knows no platform, hence no TextDecoder; used for short spans only. */
export function decodeUtf8(bytes: Uint8Array, start: number, end: number): string {
  let text = "";
  for (let at = start; at < end;) {
    const width = utf8Width(bytes, at, end);
    text += String.fromCodePoint(codePointAt(bytes, at, width));
    at += Math.max(1, width);
  }
  return text;
}

function codePointAt(bytes: Uint8Array, at: number, width: number): number {
  const first = bytes[at] ?? 0;
  if (width === 1) return first;
  let point = first & (0xff >> (width + 1));
  for (let offset = 1; offset < width; offset += 1) point = (point << 6) | ((bytes[at + offset] ?? 0) & 0x3f);
  return width === 0 ? 0xfffd : point;
}

/**
 * How many bytes the UTF-8 sequence at `at` has, or 0 if it is malformed: overlong, a surrogate, above U+10FFFF or cut by `end`.
 *
 * @see https://www.rfc-editor.org/rfc/rfc3629#section-4
 */
export function utf8Width(bytes: Uint8Array, at: number, end: number): number {
  const first = bytes[at] ?? 0;
  if (first < 0x80) return 1;
  if (first < 0xc2 || first > 0xf4) return 0;
  const width = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
  if (at + width > end) return 0;
  const second = bytes[at + 1] ?? 0;
  const lowest = first === 0xe0 ? 0xa0 : first === 0xf0 ? 0x90 : 0x80;
  const highest = first === 0xed ? 0x9f : first === 0xf4 ? 0x8f : 0xbf;
  if (second < lowest || second > highest) return 0;
  if (width > 2 && ((bytes[at + 2] ?? 0) & 0xc0) !== 0x80) return 0;
  if (width > 3 && ((bytes[at + 3] ?? 0) & 0xc0) !== 0x80) return 0;
  return width;
}
