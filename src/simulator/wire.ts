/**
 * Owns: putting an answer's bytes on the socket: encoding, splitting, back-pressure, breaking off.
 * Does not own: what the bytes say (`events.ts`), or what they cost.
 * Invariant: `send` resolves only when the socket has room for more, so a reader that stops stops the writer; it rejects with
 * `ClientLeft` as soon as the client is gone, and with `CutOff` once the wire has broken off by itself.
 */
import type { ServerResponse } from "node:http";
import { constants, createGzip, type Gzip } from "node:zlib";
import type { WireOptions } from "./behaviours.ts";

/** The client closed the connection before the answer was complete. */
export class ClientLeft extends Error {
  constructor() {
    super("the client left before the answer was complete");
    this.name = "ClientLeft";
  }
}

/** The simulator broke the connection off, as a behaviour told it to. */
export class CutOff extends Error {
  constructor() {
    super("the connection was broken off as the behaviour says");
    this.name = "CutOff";
  }
}

export interface WireInput {
  readonly response: ServerResponse;
  readonly options: WireOptions;
  readonly acceptsGzip: boolean;
  /** Rejects with `ClientLeft` when the client leaves; never resolves. */
  readonly gone: Promise<never>;
  readonly onBytes: (count: number) => void;
  readonly cut?: { readonly afterBytes?: number; readonly reset?: boolean };
}

export class Wire {
  readonly #input: WireInput;
  readonly #gzip: Gzip | undefined;
  readonly #compressed: Buffer[] = [];
  #bytesSent = 0;

  constructor(input: WireInput) {
    this.#input = input;
    if (input.options.gzip === true && input.acceptsGzip) {
      this.#gzip = createGzip();
      this.#gzip.on("data", (bytes: Buffer) => this.#compressed.push(bytes));
    }
  }

  /** Sends the informational responses and the head. */
  begin(status: number, headers: Readonly<Record<string, string>>): void {
    const { response, options } = this.#input;
    for (const code of options.informational ?? []) sendInformational(response, code);
    response.writeHead(status, {
      ...headers,
      ...(options.contentType === undefined ? {} : { "content-type": options.contentType }),
      ...(this.#gzip === undefined ? {} : { "content-encoding": "gzip", vary: "accept-encoding" }),
      ...options.headers,
    });
    response.flushHeaders();
  }

  /** Sends text and waits for room; every call is flushed, also through gzip. */
  async send(text: string): Promise<void> {
    const { options } = this.#input;
    const lines = options.crlf === true ? text.replaceAll("\n", "\r\n") : text;
    const plain = options.latin1 === true ? toLatin1(lines) : Buffer.from(lines);
    const bytes = await this.#compress(plain);
    for (const piece of split(bytes, options)) await this.#write(piece);
  }

  /** Sends the first half of a text and breaks off. */
  async sendHalfAndCut(text: string): Promise<never> {
    await this.send(text.slice(0, Math.ceil(text.length / 2)));
    await this.#flush();
    return this.cutNow();
  }

  async end(): Promise<void> {
    if (this.#gzip !== undefined) {
      const gzip = this.#gzip;
      await new Promise<void>((resolve) => {
        gzip.once("end", resolve);
        gzip.end();
      });
      await this.#write(Buffer.concat(this.#compressed.splice(0)));
    }
    const { response, gone } = this.#input;
    await Promise.race([new Promise<void>((resolve) => response.end(resolve)), gone]);
  }

  /** Breaks the connection off: with a FIN after what was written, or with a RST. */
  cutNow(): never {
    const { response, cut } = this.#input;
    breakOff(response, cut?.reset === true);
    throw new CutOff();
  }

  async #compress(bytes: Buffer): Promise<Buffer> {
    const gzip = this.#gzip;
    if (gzip === undefined) return bytes;
    await new Promise<void>((resolve) => gzip.write(bytes, () => gzip.flush(constants.Z_SYNC_FLUSH, resolve)));
    return Buffer.concat(this.#compressed.splice(0));
  }

  async #write(bytes: Buffer): Promise<void> {
    const { cut } = this.#input;
    const room = (cut?.afterBytes ?? Infinity) - this.#bytesSent;
    if (bytes.length < room) return this.#push(bytes, this.#mustFlushEach());
    await this.#push(bytes.subarray(0, room), true);
    this.cutNow();
  }

  /** What was written has left for the kernel: a connection destroyed before would lose it. */
  async #flush(): Promise<void> {
    const { response, gone } = this.#input;
    if (!response.writableNeedDrain && response.writableLength === 0) return;
    await Promise.race([new Promise<void>((resolve) => response.write("", () => resolve())), gone]);
  }

  /** @param mustFlush - wait until the bytes have left for the kernel, not only until there is room. */
  async #push(bytes: Buffer, mustFlush: boolean): Promise<void> {
    if (bytes.length === 0) return;
    const { response, gone, onBytes } = this.#input;
    if (response.destroyed) throw new ClientLeft();
    let onFlushed: () => void = () => undefined;
    const flushed = new Promise<void>((resolve) => (onFlushed = resolve));
    const hasRoom = response.write(bytes, onFlushed);
    this.#bytesSent += bytes.length;
    onBytes(bytes.length);
    if (mustFlush) await Promise.race([flushed, gone]);
    else if (!hasRoom) await Promise.race([new Promise<void>((resolve) => response.once("drain", resolve)), gone]);
  }

  #mustFlushEach(): boolean {
    const { chunkBytes, splitCharacters } = this.#input.options;
    return chunkBytes !== undefined || splitCharacters === true;
  }
}

/** Closes the connection under an answer: FIN, or RST where `reset`. */
export function breakOff(response: ServerResponse, reset: boolean): void {
  const socket = response.socket;
  if (reset) socket?.resetAndDestroy();
  else socket?.destroy();
}

function sendInformational(response: ServerResponse, code: 100 | 102 | 103): void {
  if (code === 100) response.writeContinue();
  else if (code === 102) response.writeProcessing();
  else response.writeEarlyHints({ link: "</v1/models>; rel=preload" });
}

/** One byte per character; what needs more is escaped, as JSON allows inside its strings. */
function toLatin1(text: string): Buffer {
  const escaped = text.replaceAll(/[\u0100-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
  return Buffer.from(escaped, "latin1");
}

function* split(bytes: Buffer, { chunkBytes, splitCharacters }: WireOptions): Generator<Buffer, void, undefined> {
  if (chunkBytes === undefined && splitCharacters !== true) return yield bytes;
  let start = 0;
  for (let index = 1; index <= bytes.length; index++) {
    const isFull = chunkBytes !== undefined && index - start >= chunkBytes;
    // Between the first byte of a character and its second one.
    const isInside = splitCharacters === true && (bytes[index - 1] ?? 0) >= 0xc0 && index < bytes.length;
    if (!isFull && !isInside && index < bytes.length) continue;
    yield bytes.subarray(start, index);
    start = index;
  }
}
