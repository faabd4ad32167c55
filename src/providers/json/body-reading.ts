/**
 * Owns reading the single values of a request's body: names, counts, known words. Does not own what they mean (PROVIDER/reading.ts).
 * Invariant: a count that is read keeps every sum of money inside the ledger's 64 bits.
 */
import { decodeString, decodeUtf8, type ByteTable } from "./bytes.ts";
import { JSON_KIND, type JsonValueSpan } from "./slot.ts";

/**
 * The largest count that is read. No model takes a thousandth of it; above it, sums of money could leave the ledger's 64 bits.
 */
const COUNT_MAX = 1_000_000_000;

export const COUNT_ALLOWED = `a whole number from 0 to ${COUNT_MAX}`;

/** Bytes of a name that decides something (model, type). Longest known today: 46. */
export const NAME_BYTES_MAX = 256;

/** What has been read of one body so far. */
export class BodyReading {
  readonly bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  /** The text of a name; `undefined` for null, and for a name longer than any real one. */
  name(value: JsonValueSpan): string | undefined {
    if (value.kind !== JSON_KIND.string || value.end - value.start > NAME_BYTES_MAX) return undefined;
    return decodeString(this.bytes, value.start, value.end);
  }

  /** A whole number from 0 to {@link COUNT_MAX}, however JSON writes it ("4096", "4096.0", "4e3"). */
  wholeNumber(value: JsonValueSpan): number | undefined {
    if (value.kind !== JSON_KIND.number || value.end - value.start > 40) return undefined;
    const text = decodeUtf8(this.bytes, value.start, value.end);
    const number = Number(text);
    return /^\d+(\.0+)?([eE]\+?\d+)?$/.test(text) && number <= COUNT_MAX ? number : undefined;
  }

  /** Which known word a string is, or -1. */
  protected indexIn(table: ByteTable, value: JsonValueSpan): number {
    if (value.kind !== JSON_KIND.string) return -1;
    const index = table.indexOf(this.bytes, value.start + 1, value.end - 1, false);
    // A word that is written with escapes is rare: looked at again only if it did not match as it stands.
    return index >= 0 ? index : table.indexOf(this.bytes, value.start + 1, value.end - 1, true);
  }
}
