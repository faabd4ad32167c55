/**
 * Owns one pass over the bytes of a JSON text: strict grammar (RFC 8259), UTF-8, depth, known keys that stand twice, and the
 * spans of the values that slots name.
 * Does not own what the values mean (the provider's folder) and builds no tree: memory does not grow with the text.
 * Invariant: what is accepted here is exactly what `JSON.parse` accepts, except: known keys twice, more than
 * {@link DEPTH_MAX} levels, a byte order mark and malformed UTF-8 are refused.
 */
import { utf8Width } from "./bytes.ts";
import { type JsonFault, describeByte, locateFault } from "./fault.ts";
import { JSON_KIND, type JsonKind, type JsonSlot } from "./slot.ts";

/** Levels of nesting that are read. Real requests stay below 30; a deeper text is an attack on somebody's stack. */
export const DEPTH_MAX = 512;

const KIND_WORDS: readonly (readonly [JsonKind, string])[] = [
  [JSON_KIND.object, "an object"],
  [JSON_KIND.array, "an array"],
  [JSON_KIND.string, "a string"],
  [JSON_KIND.boolean, "a boolean"],
  [JSON_KIND.null, "null"],
];

/**
 * Scans a whole text.
 *
 * @param root what the text as a whole has to be
 * @param state handed to every slot's `open` and `read`
 * @returns `undefined` if the text is well-formed and every slot accepted its value, else the first fault
 */
export function scanJson<S>(bytes: Uint8Array, root: JsonSlot<S>, state: S): JsonFault | undefined {
  return new Scanner(bytes, state).scan(root);
}

class Scanner<S> {
  readonly #bytes: Uint8Array;
  /** The same memory in words of four bytes, for running over plain text; `#shift` is where our first byte stands in its word. */
  readonly #words: Int32Array;
  readonly #shift: number;
  readonly #state: S;
  /** The open objects and arrays, outermost first. */
  readonly #slots: (JsonSlot<S> | undefined)[] = [];
  readonly #starts: number[] = [];
  /** Known keys seen in an open object, as bits; the number of complete elements of an open array. */
  readonly #counts: number[] = [];
  readonly #isArray: boolean[] = [];
  #depth = 0;
  /** The slot of the value being read. */
  #slot: JsonSlot<S> | undefined;
  #hasEscapes = false;
  #fault: Omit<JsonFault, "line" | "column"> | undefined;

  constructor(bytes: Uint8Array, state: S) {
    this.#bytes = bytes;
    this.#state = state;
    this.#shift = bytes.byteOffset & 3;
    this.#words = new Int32Array(bytes.buffer, bytes.byteOffset - this.#shift, (this.#shift + bytes.length) >> 2);
  }

  scan(root: JsonSlot<S>): JsonFault | undefined {
    const bytes = this.#bytes;
    this.#slot = root;
    if (bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf) {
      this.#fail(0, "a byte order mark", "JSON in UTF-8 without a byte order mark");
    } else {
      let at = this.#skipSpace(0);
      while (at >= 0 && (at = this.#begin(at)) >= 0 && this.#depth > 0) at = this.#skipSpace(at);
      if (at >= 0 && (at = this.#skipSpace(at)) < bytes.length) this.#fail(at, describeByte(bytes[at]), "nothing more");
    }
    return this.#fault === undefined ? undefined : locateFault(bytes, this.#fault);
  }

  /** Reads one scalar, or opens one object or array; then goes on to where the next value begins, or to the end of the root. */
  #begin(at: number): number {
    const byte = this.#bytes[at];
    if (byte === 0x22) {
      const close = this.#string(at + 1);
      return close < 0 ? -1 : this.#complete(JSON_KIND.string, at, close + 1);
    }
    if (byte === 0x7b) return this.#openObject(at);
    if (byte === 0x5b) return this.#openArray(at);
    if (byte === 0x2d || (byte !== undefined && byte >= 0x30 && byte <= 0x39)) {
      const end = this.#number(at);
      return end < 0 ? -1 : this.#complete(JSON_KIND.number, at, end);
    }
    return this.#literal(at);
  }

  #openObject(at: number): number {
    if (!this.#push(at, false)) return -1;
    const next = this.#skipSpace(at + 1);
    return this.#bytes[next] === 0x7d ? this.#close(next + 1) : this.#key(next, `a key or "}"`);
  }

  #openArray(at: number): number {
    if (!this.#push(at, true)) return -1;
    const next = this.#skipSpace(at + 1);
    if (this.#bytes[next] === 0x5d) return this.#close(next + 1);
    this.#slot = this.#slot?.element;
    return next;
  }

  #push(at: number, isArray: boolean): boolean {
    const slot = this.#slot;
    const kind = isArray ? JSON_KIND.array : JSON_KIND.object;
    if (this.#depth === DEPTH_MAX) return this.#fail(at, "a deeper level", `at most ${DEPTH_MAX} levels of nesting`);
    if (slot !== undefined) {
      if ((slot.kinds & kind) === 0) return this.#failKind(slot, kind, at, at + 1);
      slot.open?.(this.#state, kind);
    }
    this.#slots[this.#depth] = slot;
    this.#starts[this.#depth] = at;
    this.#counts[this.#depth] = 0;
    this.#isArray[this.#depth] = isArray;
    this.#depth += 1;
    return true;
  }

  /** An object or array is over; `end` is just after its bracket. */
  #close(end: number): number {
    this.#depth -= 1;
    this.#slot = this.#slots[this.#depth];
    const kind = this.#isArray[this.#depth] === true ? JSON_KIND.array : JSON_KIND.object;
    return this.#complete(kind, this.#starts[this.#depth] ?? 0, end);
  }

  /** A value is complete: tells its slot, then reads up to the next value of the enclosing object or array. */
  #complete(kind: JsonKind, start: number, end: number): number {
    const slot = this.#slot;
    if (slot !== undefined && !this.#accept(slot, kind, start, end)) return -1;
    if (this.#depth === 0) return end;
    const top = this.#depth - 1;
    const at = this.#skipSpace(end);
    const byte = this.#bytes[at];
    if (this.#isArray[top] === true) {
      if (byte === 0x5d) return this.#close(at + 1);
      if (byte !== 0x2c) return this.#failAfter(at, `"," or "]"`);
      this.#counts[top] = (this.#counts[top] ?? 0) + 1;
      this.#slot = this.#slots[top]?.element;
      return at + 1;
    }
    if (byte === 0x7d) return this.#close(at + 1);
    if (byte !== 0x2c) return this.#failAfter(at, `"," or "}"`);
    return this.#key(this.#skipSpace(at + 1), "a key in quotes");
  }

  #accept(slot: JsonSlot<S>, kind: JsonKind, start: number, end: number): boolean {
    if ((slot.kinds & kind) === 0) return this.#failKind(slot, kind, start, end);
    const allowed = slot.read?.(this.#state, { kind, start, end });
    return allowed === undefined || this.#fail(start, this.#describeValue(kind, start, end), allowed);
  }

  /** Reads `"key" :` and finds the slot of the value behind it. */
  #key(at: number, allowed: string): number {
    this.#slot = undefined;
    if (this.#bytes[at] !== 0x22) return this.#failAfter(at, allowed);
    this.#hasEscapes = false;
    const close = this.#string(at + 1);
    if (close < 0) return -1;
    const members = this.#slots[this.#depth - 1]?.members;
    if (members !== undefined) {
      const index = members.indexOf(this.#bytes, at + 1, close, this.#hasEscapes);
      if (index >= 0) {
        this.#slot = members.at(index);
        if (!this.#see(1 << index, at)) return -1;
      }
    }
    const colon = this.#skipSpace(close + 1);
    if (this.#bytes[colon] !== 0x3a) return this.#failAfter(colon, `":" after a key`);
    return colon + 1;
  }

  #see(bit: number, at: number): boolean {
    const top = this.#depth - 1;
    const seen = this.#counts[top] ?? 0;
    this.#counts[top] = seen | bit;
    return (
      (seen & bit) === 0 ||
      this.#fail(at, `the key "${this.#slot?.name}" a second time in one object`, "each key that decides once")
    );
  }

  /** @returns where the closing quote stands, or -1. */
  #string(from: number): number {
    const bytes = this.#bytes;
    const words = this.#words;
    const shift = this.#shift;
    const lastWordAt = bytes.length - 4;
    let at = from;
    for (;;) {
      if (((at + shift) & 3) === 0) {
        // Four bytes at once, as long as none of them is below 0x20, above 0x7F, a quote or a backslash (each sets a high bit).
        while (at <= lastWordAt) {
          const word = words[(at + shift) >> 2] ?? 0;
          const isQuote = (word ^ 0x22222222) - 0x01010101;
          const isBackslash = (word ^ 0x5c5c5c5c) - 0x01010101;
          if (((word | (word - 0x20202020) | isQuote | isBackslash) & 0x80808080) !== 0) break;
          at += 4;
        }
      }
      const byte = bytes[at];
      if (byte === 0x22) return at;
      if (byte === undefined) return this.#failAfter(at, "a closing quote");
      if (byte === 0x5c) {
        this.#hasEscapes = true;
        at = isShortEscape(bytes[at + 1]) ? at + 2 : this.#longEscape(at);
        if (at < 0) return -1;
      } else if (byte < 0x20) return this.#failAfter(at, "an escape for a control character");
      else if (byte < 0x80) at += 1;
      else {
        at = skipThreeByteLetters(bytes, at);
        const width = utf8Width(bytes, at, bytes.length);
        if (width === 0) return this.#failAfter(at, "well-formed UTF-8");
        // What follows the letters may be the closing quote: it is judged like any other byte.
        if (width > 1) at += width;
      }
    }
  }

  #longEscape(at: number): number {
    const bytes = this.#bytes;
    if (bytes[at + 1] !== 0x75) return this.#failAfter(at + 1, `one of "\\/bfnrtu after a backslash`);
    for (let offset = 2; offset < 6; offset += 1) {
      if (!isHexDigit(bytes[at + offset])) return this.#failAfter(at + offset, "four hexadecimal digits after \\u");
    }
    return at + 6;
  }

  /** @returns just after the number, or -1. */
  #number(from: number): number {
    const bytes = this.#bytes;
    let at = bytes[from] === 0x2d ? from + 1 : from;
    at = bytes[at] === 0x30 ? at + 1 : this.#digits(at);
    if (at >= 0 && bytes[at] === 0x2e) at = this.#digits(at + 1);
    if (at >= 0 && (bytes[at] === 0x65 || bytes[at] === 0x45)) {
      at = this.#digits(bytes[at + 1] === 0x2b || bytes[at + 1] === 0x2d ? at + 2 : at + 1);
    }
    return at;
  }

  #digits(from: number): number {
    let at = from;
    while (isDigit(this.#bytes[at])) at += 1;
    return at > from ? at : this.#failAfter(at, "a digit");
  }

  #literal(at: number): number {
    const byte = this.#bytes[at];
    if (byte === 0x74) return this.#word(at, "true", JSON_KIND.boolean);
    if (byte === 0x66) return this.#word(at, "false", JSON_KIND.boolean);
    if (byte === 0x6e) return this.#word(at, "null", JSON_KIND.null);
    return this.#failAfter(at, this.#depth === 0 ? (this.#slot?.allowed ?? "a value") : "a value");
  }

  #word(at: number, word: string, kind: JsonKind): number {
    for (let offset = 1; offset < word.length; offset += 1) {
      if (this.#bytes[at + offset] !== word.charCodeAt(offset)) return this.#failAfter(at + offset, `the word ${word}`);
    }
    return this.#complete(kind, at, at + word.length);
  }

  #skipSpace(from: number): number {
    const bytes = this.#bytes;
    let at = from;
    for (;;) {
      const byte = bytes[at];
      if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) return at;
      at += 1;
    }
  }

  /** The grammar broke at this byte. @returns -1, which every caller hands on. */
  #failAfter(at: number, allowed: string): -1 {
    this.#fail(at, describeByte(this.#bytes[at]), allowed);
    return -1;
  }

  #failKind(slot: JsonSlot<S>, kind: JsonKind, start: number, end: number): false {
    return this.#fail(start, this.#describeValue(kind, start, end), slot.allowed);
  }

  #fail(offset: number, found: string, allowed: string): false {
    this.#fault = { offset, path: this.#path(), found, allowed };
    return false;
  }

  #describeValue(kind: JsonKind, start: number, end: number): string {
    if (kind === JSON_KIND.number) {
      const shown = Math.min(end, start + 24);
      return `the number ${String.fromCharCode(...this.#bytes.subarray(start, shown))}${shown < end ? "…" : ""}`;
    }
    if (kind === JSON_KIND.string && end - start === 2) return "an empty string";
    return KIND_WORDS.find(([bit]) => bit === kind)?.[1] ?? "a value";
  }

  #path(): string {
    let path = "";
    for (let level = 0; level < this.#depth; level += 1) {
      const child = level + 1 < this.#depth ? this.#slots[level + 1] : this.#slot;
      if (this.#slots[level] === undefined) return path;
      if (this.#isArray[level] === true) path += `[${this.#counts[level] ?? 0}]`;
      else if (child === undefined) return path;
      else path += path === "" ? child.name : `.${child.name}`;
    }
    return path;
  }
}

/** Runs over letters of three bytes that need no second look: most of the world's scripts beyond Latin, Greek and Cyrillic. */
function skipThreeByteLetters(bytes: Uint8Array, from: number): number {
  const last = bytes.length - 3;
  let at = from;
  while (at <= last) {
    const first = bytes[at] ?? 0;
    if (first < 0xe1 || first > 0xec) break;
    if ((((bytes[at + 1] ?? 0) & 0xc0) | (((bytes[at + 2] ?? 0) & 0xc0) >> 2)) !== 0xa0) break;
    at += 3;
  }
  return at;
}

/** The letters after a backslash that stand alone: `"` `/` `\` `b` `f` `n` `r` `t`. The most frequent first. */
function isShortEscape(byte: number | undefined): boolean {
  switch (byte) {
    case 0x6e:
    case 0x22:
    case 0x5c:
    case 0x74:
    case 0x72:
    case 0x2f:
    case 0x62:
    case 0x66:
      return true;
    default:
      return false;
  }
}

function isDigit(byte: number | undefined): boolean {
  return byte !== undefined && byte >= 0x30 && byte <= 0x39;
}

function isHexDigit(byte: number | undefined): boolean {
  return isDigit(byte) || (byte !== undefined && (byte | 0x20) >= 0x61 && (byte | 0x20) <= 0x66);
}
