/**
 * Owns reading server-sent events out of bytes that were cut anywhere. Does not own what the events mean (PROVIDER/stream.ts).
 * Invariant: holds at most `dataBytesMax` bytes, and of an event nobody wants no more than its first {@link HEAD_BYTES}; the common
 * event costs a prefix compare and a search for the end of its line.
 *
 * @see https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
 */

/** One event that was wanted. */
export interface SseEvent {
  /** The value of its `event:` line; `undefined` if it had none, or one too long to be a name. */
  name: string | undefined;
  /** Its data lines joined by line feeds; `undefined` if they were longer than `dataBytesMax`. */
  data: Uint8Array | undefined;
  /** False if the stream ended before the event did: the data may be cut. */
  isWhole: boolean;
}

export interface SseReaderInput {
  /**
   * Beginnings of whole events that are dropped, from their first byte into their one data line. A shortcut for the commonest ones, taken
   * where the event lies whole in one chunk: `wants` would refuse them as well.
   */
  skipEvents: readonly Uint8Array[];
  /** Beginnings of lines whose whole event is dropped at once. A shortcut: `wants` would refuse them as well. */
  skipLines: readonly Uint8Array[];
  /** Asked once per event, when the first bytes of its data are known (or all, if there are fewer), as one character per byte. */
  wants(name: string | undefined, head: string): boolean;
  /** Most bytes of one event's data that are kept. */
  dataBytesMax: number;
  onEvent(event: SseEvent): void;
}

/** How many bytes of data `wants` decides by. */
export const HEAD_BYTES = 64;

const LF = 0x0a;
const CR = 0x0d;
const SPACE = 0x20;
const COLON = 0x3a;
const BOM = [0xef, 0xbb, 0xbf] as const;
const NAME_BYTES_MAX = 128;
/** "event" is the longest field name that matters. */
const FIELD_BYTES_MAX = 5;
const DATA_FIELD = Uint8Array.from("data:", (letter) => letter.charCodeAt(0));
const EVENT_FIELD = Uint8Array.from("event:", (letter) => letter.charCodeAt(0));

/** Where in a line the next byte belongs: its field name, or the value of a field. */
type Place = "field" | "data" | "event" | "ignored";

export class SseReader {
  readonly #input: SseReaderInput;
  #place: Place = "field";
  #field = "";
  #isAtValueStart = false;
  #isAfterCr = false;
  #bomBytes = 0;

  /** Kept as bytes: most names are never looked at. One byte more than a name may have tells one that is too long. */
  readonly #name = new Uint8Array(NAME_BYTES_MAX + 1);
  #nameBytes = 0;
  #dataLines = 0;
  #decision: "open" | "keep" | "drop" | "too long" = "open";
  #data = new Uint8Array(256);
  #dataBytes = 0;

  constructor(input: SseReaderInput) {
    this.#input = input;
  }

  /** Reads the next bytes. `onEvent` is called before it returns. */
  push(chunk: Uint8Array): void {
    let at = this.#skipBom(chunk);
    let [lf, cr] = [-2, -2];
    while (at < chunk.length) {
      if (this.#isAfterCr) {
        this.#isAfterCr = false;
        if (chunk[at] === LF) {
          at += 1;
          continue;
        }
      }
      if (this.#place === "field") {
        if (cr === -2) cr = chunk.indexOf(CR, at);
        const next = cr === -1 && this.#isBetweenEvents() ? this.#skipEvent(chunk, at) : at;
        at = next > at ? next : this.#readField(chunk, at);
        continue;
      }
      // Each search is repeated only once its last find is behind: a chunk is never searched twice for the same byte.
      if (lf !== -1 && lf < at) lf = chunk.indexOf(LF, at);
      if (cr !== -1 && cr < at) cr = chunk.indexOf(CR, at);
      const end = lf === -1 ? cr : cr === -1 ? lf : Math.min(lf, cr);
      this.#takeValue(chunk, at, end === -1 ? chunk.length : end);
      if (end === -1) return;
      this.#endLine(chunk[end] === CR);
      at = end + 1;
    }
  }

  /** The stream is over: an event that was begun and not ended is handed over as it is. */
  end(): void {
    this.#dispatch(false);
  }

  /** A byte order mark counts only as the first thing of a stream; it may be cut like anything else. */
  #skipBom(chunk: Uint8Array): number {
    let at = 0;
    while (this.#bomBytes < BOM.length && at < chunk.length) {
      if (chunk[at] !== BOM[this.#bomBytes]) {
        // What began like a mark and is none belongs to a field name, which no known field begins with.
        if (this.#bomBytes > 0) this.#place = "ignored";
        this.#bomBytes = BOM.length;
        break;
      }
      this.#bomBytes += 1;
      at += 1;
    }
    return at;
  }

  /** Reads a line up to the colon behind its field name, or to its end if there is none. */
  #readField(chunk: Uint8Array, start: number): number {
    if (this.#field === "" && this.#dataLines === 0 && this.#skips(chunk, start)) {
      this.#dataLines += 1;
      this.#decision = "drop";
      this.#place = "ignored";
      return start;
    }
    const known = this.#field === "" ? this.#openKnownField(chunk, start) : start;
    if (known > start) return known;
    for (let at = start; at < chunk.length; at += 1) {
      const byte = chunk[at] ?? 0;
      if (byte === LF || byte === CR) {
        const isBlank = this.#field === "";
        if (!isBlank) this.#openValue();
        this.#endLine(byte === CR);
        if (isBlank) this.#dispatch(true);
        return at + 1;
      }
      if (byte === COLON) {
        this.#openValue();
        return at + 1;
      }
      this.#field += String.fromCharCode(byte);
      if (this.#field.length > FIELD_BYTES_MAX) {
        this.#place = "ignored";
        return at + 1;
      }
    }
    return chunk.length;
  }

  #isBetweenEvents(): boolean {
    return this.#field === "" && this.#nameBytes === 0 && this.#dataLines === 0;
  }

  /** In a chunk without carriage returns. @returns where the next event begins; `at`: this one is to be read. */
  #skipEvent(chunk: Uint8Array, at: number): number {
    for (const beginning of this.#input.skipEvents) {
      if (!startsWith(chunk, at, beginning)) continue;
      const end = chunk.indexOf(LF, at + beginning.length);
      return end >= 0 && chunk[end + 1] === LF ? end + 2 : at;
    }
    return at;
  }

  /** The two fields that matter, where their names lie whole in the chunk: a comparison instead of a byte at a time. */
  #openKnownField(chunk: Uint8Array, at: number): number {
    const isData = startsWith(chunk, at, DATA_FIELD);
    if (!isData && !startsWith(chunk, at, EVENT_FIELD)) return at;
    this.#field = isData ? "data" : "event";
    this.#openValue();
    return at + (isData ? DATA_FIELD.length : EVENT_FIELD.length);
  }

  #skips(chunk: Uint8Array, at: number): boolean {
    for (const line of this.#input.skipLines) if (startsWith(chunk, at, line)) return true;
    return false;
  }

  #openValue(): void {
    this.#isAtValueStart = true;
    this.#place = this.#field === "data" || this.#field === "event" ? this.#field : "ignored";
    if (this.#place === "event") this.#nameBytes = 0;
    if (this.#place !== "data") return;
    if (this.#dataLines > 0) this.#append(Uint8Array.of(LF));
    this.#dataLines += 1;
  }

  #takeValue(chunk: Uint8Array, from: number, to: number): void {
    if (this.#place === "ignored" || from === to) return;
    const start = this.#isAtValueStart && chunk[from] === SPACE ? from + 1 : from;
    this.#isAtValueStart = false;
    if (this.#place === "data") this.#append(chunk.subarray(start, to));
    else {
      const room = this.#name.length - this.#nameBytes;
      const taken = chunk.subarray(start, Math.min(to, start + room));
      this.#name.set(taken, this.#nameBytes);
      this.#nameBytes += taken.length;
    }
  }

  #endLine(isCr: boolean): void {
    this.#isAfterCr = isCr;
    this.#place = "field";
    this.#field = "";
    this.#isAtValueStart = false;
  }

  #append(bytes: Uint8Array): void {
    let rest = bytes;
    if (this.#decision === "open") {
      const head = rest.subarray(0, HEAD_BYTES - this.#dataBytes);
      this.#keep(head);
      if (this.#dataBytes < HEAD_BYTES) return;
      this.#decide();
      rest = rest.subarray(head.length);
    }
    if (this.#decision === "keep") this.#keep(rest);
  }

  #decide(): void {
    const head = String.fromCharCode(...this.#data.subarray(0, Math.min(this.#dataBytes, HEAD_BYTES)));
    this.#decision = this.#input.wants(this.#readName(), head) ? "keep" : "drop";
  }

  #keep(bytes: Uint8Array): void {
    const needed = this.#dataBytes + bytes.length;
    if (needed > this.#input.dataBytesMax) {
      this.#decision = "too long";
      this.#data = new Uint8Array(256);
      return;
    }
    if (needed > this.#data.length) {
      const larger = new Uint8Array(Math.max(needed, this.#data.length * 2));
      larger.set(this.#data.subarray(0, this.#dataBytes));
      this.#data = larger;
    }
    this.#data.set(bytes, this.#dataBytes);
    this.#dataBytes = needed;
  }

  #dispatch(isWhole: boolean): void {
    if (this.#dataLines > 0) {
      if (this.#decision === "open") this.#decide();
      const data = this.#decision === "keep" ? this.#data.slice(0, this.#dataBytes) : undefined;
      if (this.#decision !== "drop") this.#input.onEvent({ name: this.#readName(), data, isWhole });
    }
    this.#nameBytes = 0;
    this.#dataLines = 0;
    this.#dataBytes = 0;
    this.#decision = "open";
  }

  /** An empty name is none (HTML standard); one that is too long is nobody's. */
  #readName(): string | undefined {
    const isName = this.#nameBytes > 0 && this.#nameBytes <= NAME_BYTES_MAX;
    return isName ? String.fromCharCode(...this.#name.subarray(0, this.#nameBytes)) : undefined;
  }
}

function startsWith(bytes: Uint8Array, at: number, beginning: Uint8Array): boolean {
  if (bytes.length - at < beginning.length) return false;
  for (let index = 0; index < beginning.length; index += 1) if (bytes[at + index] !== beginning[index]) return false;
  return true;
}
