/**
 * Owns reading one answer out of bytes that were cut anywhere: its head, its payload, its end. Does not own the socket (connection.ts).
 * Invariants: an end is told only where the answer says it ends; whatever cannot be read is an error and never an end; memory is bounded
 * by one head.
 */
import { readHead, type AnswerHead, type Framing } from "./answer-head.ts";
import { BadAnswerError } from "./bad-answer.ts";
import { ChunkReader } from "./chunks.ts";

const HEAD_BYTES_MAX = 65_536;
/** "100 Continue", "103 Early Hints": a few may come; whoever sends more sends for ever. */
const INTERIM_MAX = 32;
const BEGINNING = "HTTP/1.";
const CR = 0x0d;
const LF = 0x0a;

/** Told of an answer in this order: the head once, payload any number of times, the end once. */
export interface AnswerSink {
  onHead(head: AnswerHead): void;
  /** @param bytes the next payload: a view of what was pushed. */
  onPayload(bytes: Buffer): void;
  onEnd(): void;
}

export class AnswerReader {
  readonly #sink: AnswerSink;
  /** Of a head that is not whole. */
  #early: Buffer | undefined;
  #interimCount = 0;
  #framing: Framing | undefined;
  #left = 0;
  #chunks: ChunkReader | undefined;
  #isWhole = false;
  #hasMore = false;

  constructor(sink: AnswerSink) {
    this.#sink = sink;
  }

  /** True once the answer's end was read. */
  get isWhole(): boolean {
    return this.#isWhole;
  }

  /** True if bytes came behind the end: whatever they are, the connection is not what it seems. */
  get hasMore(): boolean {
    return this.#hasMore;
  }

  /**
   * Reads on. Chunked payload is moved together inside `bytes`, which are the reader's from here on.
   *
   * @throws BadAnswerError
   */
  push(bytes: Buffer): void {
    if (this.#isWhole) {
      this.#hasMore ||= bytes.length > 0;
      return;
    }
    let rest: Buffer | undefined = bytes;
    while (this.#framing === undefined) {
      rest = this.#readHead(rest);
      if (rest === undefined) return;
    }
    this.#readBody(rest);
  }

  /**
   * The other side sent its last byte.
   *
   * @throws BadAnswerError if that was not the answer's end.
   */
  end(): void {
    if (this.#isWhole) return;
    if (this.#framing !== "connection") throw new BadAnswerError("ended_early");
    this.#end();
  }

  /** @returns what stands behind the head; `undefined`: it is not whole. */
  #readHead(bytes: Buffer): Buffer | undefined {
    const all: Buffer = this.#early === undefined ? bytes : Buffer.concat([this.#early, bytes]);
    const end = all.indexOf("\r\n\r\n", Math.max(0, (this.#early?.length ?? 0) - 3), "latin1");
    if ((end < 0 ? all.length : end) > HEAD_BYTES_MAX) throw new BadAnswerError("head_too_large");
    if (end < 0) {
      // What can become no head is told now: nobody waits for the rest of it.
      if (!BEGINNING.startsWith(all.toString("latin1", 0, BEGINNING.length))) throw new BadAnswerError("bad_status_line");
      if (hasBareLineFeed(all, this.#early?.length ?? 0)) throw new BadAnswerError("bad_header");
      this.#early = all;
      return undefined;
    }
    this.#early = undefined;
    this.#takeHead(readHead(all.toString("latin1", 0, end + 2)));
    return all.subarray(end + 4);
  }

  #takeHead(head: AnswerHead): void {
    if (head.status === 101) throw new BadAnswerError("switched_protocols");
    if (head.status < 200) {
      // One that ends the connection, or announces a body, contradicts the answer that it says is still to come.
      if (!head.isKept) throw new BadAnswerError("bad_header");
      this.#interimCount += 1;
      if (this.#interimCount > INTERIM_MAX) throw new BadAnswerError("too_many_interim_answers");
      return;
    }
    this.#framing = head.framing;
    this.#left = head.bodyBytes;
    if (head.framing === "chunked") this.#chunks = new ChunkReader();
    this.#sink.onHead(head);
  }

  #readBody(bytes: Buffer): void {
    if (this.#chunks !== undefined) return this.#readChunks(bytes, this.#chunks);
    if (this.#framing === "connection") {
      if (bytes.length > 0) this.#sink.onPayload(bytes);
      return;
    }
    const taken = Math.min(this.#left, bytes.length);
    this.#left -= taken;
    if (taken > 0) this.#sink.onPayload(taken === bytes.length ? bytes : bytes.subarray(0, taken));
    if (this.#left === 0) this.#end(bytes.length > taken);
  }

  #readChunks(bytes: Buffer, chunks: ChunkReader): void {
    const payloadEnd = chunks.push(bytes, 0);
    if (payloadEnd > 0) this.#sink.onPayload(payloadEnd === bytes.length ? bytes : bytes.subarray(0, payloadEnd));
    if (chunks.fault !== undefined) throw chunks.fault;
    if (chunks.isAtEnd) this.#end(chunks.readTo < bytes.length);
  }

  #end(hasMore = false): void {
    this.#isWhole = true;
    this.#hasMore = hasMore;
    this.#sink.onEnd();
  }
}

function hasBareLineFeed(bytes: Buffer, start: number): boolean {
  for (let at = bytes.indexOf(LF, start); at >= 0; at = bytes.indexOf(LF, at + 1)) if (bytes[at - 1] !== CR) return true;
  return false;
}
