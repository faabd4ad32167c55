/**
 * Owns taking the chunks of a body apart, in bytes that were cut anywhere. Does not own heads (answer-head.ts) or what the payload means.
 * Invariants: what is no chunk by the letter of the standard is refused; the payload of one push lies together, in the memory it came in.
 *
 * @see https://www.rfc-editor.org/rfc/rfc9112#section-7.1
 */
import { readHeaderLines } from "./answer-head.ts";
import { BadAnswerError } from "./bad-answer.ts";

/** Of all extensions of an answer's chunks, and of all its trailers: nobody sends any. */
const EXTRA_BYTES_MAX = 16_384;
const EXTENSIONS =
  /^(?:;[!#$%&'*+\-.^_`|~0-9A-Za-z]+(?:=(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+|"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"))?)*$/;

const FRAMING_NAME = /^(?:content-length|transfer-encoding)$/i;
const DIGITS_MAX = 16;
const CR = 0x0d;
const LF = 0x0a;
const SEMICOLON = 0x3b;

/** What the next byte belongs to. */
type Place = "size" | "extension" | "size end" | "data" | "data end" | "data line feed" | "trailer" | "end";

export class ChunkReader {
  #place: Place = "size";
  /** Of the chunk that is being read; while its size is read, as far as it was read. */
  #left = 0;
  #digits = 0;
  /** Extensions of one size line, or the trailers so far: one character a byte. */
  #extra = "";
  #extraBytes = 0;
  /** Behind the last byte that belongs to the body: bytes of the last push. */
  #readTo = 0;
  #fault: BadAnswerError | undefined;

  /** True once the last chunk and its trailers were read. */
  get isAtEnd(): boolean {
    return this.#place === "end";
  }

  /** Why nothing more can be read; what came before it is payload all the same. */
  get fault(): BadAnswerError | undefined {
    return this.#fault;
  }

  /** Where in the last push reading stopped: at its end, or where the body ended. */
  get readTo(): number {
    return this.#readTo;
  }

  /**
   * Reads on, and moves the payload in `bytes` together, to `start`.
   *
   * @returns the end of that payload.
   */
  push(bytes: Uint8Array, start: number): number {
    let at = start;
    let payloadEnd = start;
    while (at < bytes.length && this.#place !== "end" && this.#fault === undefined) {
      if (this.#place !== "data") {
        this.#readFraming(bytes[at] ?? 0);
        at += 1;
        continue;
      }
      const end = Math.min(bytes.length, at + this.#left);
      if (payloadEnd !== at) bytes.copyWithin(payloadEnd, at, end);
      payloadEnd += end - at;
      this.#left -= end - at;
      at = end;
      if (this.#left === 0) this.#place = "data end";
    }
    this.#readTo = at;
    return payloadEnd;
  }

  #readFraming(byte: number): void {
    switch (this.#place) {
      case "size":
        return this.#readSize(byte);
      case "size end":
        return this.#endSize(byte);
      case "data end":
        return byte === CR ? this.#go("data line feed") : this.#refuse();
      case "data line feed":
        return byte === LF ? this.#go("size") : this.#refuse();
      case "extension":
        return byte === CR ? this.#go("size end") : this.#keepExtra(byte);
      case "trailer":
        this.#keepExtra(byte);
        if (byte === LF) this.#endTrailer();
        return;
      case "data":
      case "end":
        return;
    }
  }

  #readSize(byte: number): void {
    const digit = hexOf(byte);
    if (digit >= 0) {
      this.#left = this.#left * 16 + digit;
      this.#digits += 1;
      if (!Number.isSafeInteger(this.#left) || this.#digits > DIGITS_MAX) this.#refuse();
    } else if (this.#digits > 0 && byte === CR) this.#go("size end");
    else if (this.#digits > 0 && byte === SEMICOLON) {
      this.#go("extension");
      this.#keepExtra(byte);
    } else this.#refuse();
  }

  #endSize(byte: number): void {
    if (byte !== LF || (this.#extra !== "" && !EXTENSIONS.test(this.#extra))) return this.#refuse();
    this.#extra = "";
    this.#digits = 0;
    this.#place = this.#left === 0 ? "trailer" : "data";
  }

  #keepExtra(byte: number): void {
    this.#extraBytes += 1;
    if (this.#extraBytes > EXTRA_BYTES_MAX) return this.#refuse();
    this.#extra += String.fromCharCode(byte);
  }

  /** Trailers are read to be refused where they are no headers, and dropped: nobody asked for any. */
  #endTrailer(): void {
    const isLast = this.#extra === "\r\n" || this.#extra.endsWith("\r\n\r\n");
    if (isLast && areTrailers(this.#extra.slice(0, -2))) this.#go("end");
    else if (isLast || !this.#extra.endsWith("\r\n")) this.#refuse();
  }

  #go(to: Place): void {
    this.#place = to;
  }

  #refuse(): void {
    this.#fault = new BadAnswerError("bad_chunk");
  }
}

/** True for header lines that say nothing of where the body ends: it has ended. */
function areTrailers(text: string): boolean {
  try {
    return readHeaderLines(text, 0).every((part, index) => index % 2 === 1 || !FRAMING_NAME.test(part));
  } catch {
    // Whatever is wrong with them, they are none.
    return false;
  }
}

function hexOf(byte: number): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30;
  const lower = byte | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1;
}
