/**
 * Owns where an HTTP/1.1 message ends: a length or chunks, as little as a load generator needs. load.c does the same.
 * Does not own HTTP: whatever it does not know is an error, since everybody it talks to is known.
 */
const TAIL_BYTES = 96;
const LINE_FEED = 10;
const CARRIAGE_RETURN = 13;

type State = "head" | "length" | "chunkSize" | "chunk" | "chunkEnd" | "trailer";

/** One message as it arrives, request or answer. Nothing may stand behind it: nobody pipelines here. */
export class Message {
  /** Status or request line and headers, once they are whole. */
  head = "";
  payloadBytes = 0;
  #state: State = "head";
  #left = 0;
  #lineBytes = 0;
  #tail = "";
  #pieces = "";

  /** The last bytes of the payload. */
  get tail(): string {
    return this.#tail;
  }

  /** Reads on, and tells each part of the payload. Returns true when the message is whole. */
  take(data: Buffer, onPayload?: (part: Buffer) => void): boolean {
    let at = 0;
    while (at < data.length) {
      if (this.#state === "head") {
        const from = this.#pieces.length;
        this.#pieces += data.toString("latin1", at, Math.min(data.length, at + 16_384));
        const end = this.#pieces.indexOf("\r\n\r\n", Math.max(0, from - 3));
        if (end < 0) {
          if (this.#pieces.length > 16_384) throw new Error("a head without an end");
          return false;
        }
        at += end + 4 - from;
        if (this.#readHead(this.#pieces.slice(0, end))) return true;
      } else if (this.#state === "length" || this.#state === "chunk") {
        const part = data.subarray(at, at + this.#left);
        onPayload?.(part);
        this.payloadBytes += part.length;
        this.#left -= part.length;
        at += part.length;
        this.#tail = (this.#tail + part.toString("latin1", Math.max(0, part.length - TAIL_BYTES))).slice(-TAIL_BYTES);
        if (this.#left > 0) continue;
        if (this.#state === "length") return true;
        this.#state = "chunkEnd";
      } else if (this.#readFraming(data[at++] ?? 0)) return true;
    }
    return false;
  }

  /** True if nothing follows the head. */
  #readHead(head: string): boolean {
    this.head = head;
    const length = /\r\ncontent-length: *(\d+)/i.exec(head);
    if (length !== null) {
      this.#left = Number(length[1]);
      this.#state = "length";
      return this.#left === 0;
    }
    // Nothing follows, as after a GET; an answer that should have had a payload is caught by its bytes.
    if (!/\r\ntransfer-encoding: *chunked/i.test(head)) return true;
    this.#state = "chunkSize";
    return false;
  }

  /** True at the end of the last line. */
  #readFraming(byte: number): boolean {
    if (this.#state === "chunkEnd") {
      if (byte === LINE_FEED) this.#state = "chunkSize";
    } else if (byte === LINE_FEED) {
      if (this.#state === "trailer" && this.#lineBytes === 0) return true;
      if (this.#state === "chunkSize") this.#state = this.#left === 0 ? "trailer" : "chunk";
      this.#lineBytes = 0;
    } else if (byte !== CARRIAGE_RETURN) {
      this.#lineBytes += 1;
      if (this.#state === "chunkSize") this.#left = this.#left * 16 + Number.parseInt(String.fromCharCode(byte), 16);
      if (Number.isNaN(this.#left)) throw new Error("a chunk without a size");
    }
    return false;
  }
}
