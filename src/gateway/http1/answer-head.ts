/**
 * Owns what the head of an answer says: status, headers as they came, and where its body ends. Does not own finding the head in the
 * bytes (answer-reader.ts).
 * Invariant: only what two readers of HTTP/1.1 cannot read differently is accepted: no folded line, no bare line feed, no space before a
 * colon, one statement of the body's end.
 *
 * @see https://www.rfc-editor.org/rfc/rfc9112#section-6.3
 */
import { BadAnswerError } from "./bad-answer.ts";

/** As many header lines as an answer may have: a provider's have about 30. */
const HEADERS_MAX = 512;
/** Of one line. */
const LINE_BYTES_MAX = 16_384;

/** Where a body ends: nowhere, after a length, with the last chunk, or with the connection. */
export type Framing = "none" | "length" | "chunked" | "connection";

export interface AnswerHead {
  status: number;
  /** Names and values as they came, alternating. */
  headers: string[];
  framing: Framing;
  /** Of the body; 0 unless its framing is a length. */
  bodyBytes: number;
  /** True if the connection may carry another request after this answer. */
  isKept: boolean;
  /** How long the other side keeps the idle connection, if it says so. */
  keepAliveMs: number | undefined;
}

const STATUS_LINE = /HTTP\/1\.([01]) ([1-9]\d\d)(?: [\t\x20-\x7e\x80-\xff]*)?\r\n/y;
const HEADER_LINE = /([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([\t\x20-\x7e\x80-\xff]*)\r\n/y;
const LENGTH = /^\d{1,16}$/;

/**
 * Reads a head.
 *
 * @param text its lines, one character a byte, each with its end, without the empty line.
 * @throws BadAnswerError
 */
export function readHead(text: string): AnswerHead {
  STATUS_LINE.lastIndex = 0;
  const line = STATUS_LINE.exec(text);
  if (line === null) throw new BadAnswerError("bad_status_line");
  const isOld = line[1] === "0";
  const status = Number(line[2]);
  const headers = readHeaderLines(text, STATUS_LINE.lastIndex);
  const said = new Said();
  for (let index = 0; index < headers.length; index += 2) said.hear(headers[index] ?? "", headers[index + 1] ?? "");
  const { length, isChunked } = said;
  if (isChunked && (length !== undefined || isOld)) throw new BadAnswerError("bad_length");
  const hasBody = status >= 200 && status !== 204 && status !== 304;
  const framing = !hasBody ? "none" : isChunked ? "chunked" : length === undefined ? "connection" : "length";
  // Whoever announces a body where there can be none may send one all the same.
  const isClear = hasBody ? framing !== "connection" : !isChunked && (length ?? 0) === 0;
  return {
    status,
    headers,
    framing,
    bodyBytes: framing === "length" ? (length ?? 0) : 0,
    isKept: isClear && !isOld && !said.isClosing,
    keepAliveMs: said.keepAliveMs,
  };
}

/**
 * Reads header lines, of a head or behind the last chunk.
 *
 * @returns names and values, alternating, without the spaces around values.
 */
export function readHeaderLines(text: string, start: number): string[] {
  const headers: string[] = [];
  for (let at = start; at < text.length; at = HEADER_LINE.lastIndex) {
    HEADER_LINE.lastIndex = at;
    const line = HEADER_LINE.exec(text);
    if (line === null || line[0].length > LINE_BYTES_MAX || headers.length === 2 * HEADERS_MAX) {
      throw new BadAnswerError("bad_header");
    }
    headers.push(line[1] ?? "", withoutSpaceAround(line[2] ?? ""));
  }
  return headers;
}

/** By hand: an expression for what stands around a value may try every way to part a long run of spaces. */
function withoutSpaceAround(value: string): string {
  let [start, end] = [0, value.length];
  while (start < end && isSpace(value.charCodeAt(start))) start += 1;
  while (end > start && isSpace(value.charCodeAt(end - 1))) end -= 1;
  return value.slice(start, end);
}

function isSpace(code: number): boolean {
  return code === 0x20 || code === 0x09;
}

/** What headers say of the connection and of the body's end. */
class Said {
  length: number | undefined;
  isChunked = false;
  isClosing = false;
  keepAliveMs: number | undefined;

  hear(name: string, value: string): void {
    // Lengths are compared first: this is on every call's path, and most names are others.
    if (name.length === 14 && name.toLowerCase() === "content-length") this.#hearLength(value);
    else if (name.length === 17 && name.toLowerCase() === "transfer-encoding") this.#hearCoding(value);
    else if (name.length === 10) this.#hearConnection(name.toLowerCase(), value.toLowerCase());
  }

  /** Said twice is refused also where both say the same: nobody who means well does that. */
  #hearLength(value: string): void {
    const length = Number(value);
    if (this.length !== undefined || !LENGTH.test(value) || !Number.isSafeInteger(length)) throw new BadAnswerError("bad_length");
    this.length = length;
  }

  #hearCoding(value: string): void {
    if (this.isChunked || value.toLowerCase() !== "chunked") throw new BadAnswerError("bad_transfer_encoding");
    this.isChunked = true;
  }

  #hearConnection(name: string, value: string): void {
    if (name === "connection") this.isClosing ||= value.split(",").some((token) => token.trim() === "close");
    else if (name === "keep-alive") {
      const seconds = /(?:^|[,; ])timeout=(\d{1,9})/.exec(value)?.[1];
      if (seconds !== undefined) this.keepAliveMs = Number(seconds) * 1_000;
    }
  }
}
