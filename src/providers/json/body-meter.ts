/**
 * Owns reading along with an answer that is a single JSON body. Does not own what its fields mean (PROVIDER/meter.ts).
 * Invariant: no byte is changed, and of a body no more than {@link BODY_BYTES_MAX} is held.
 */
import type { MeterReading, ResponseMeter } from "../provider.ts";
import { parseObject, type JsonObject } from "./values.ts";

/**
 * Most bytes of a JSON answer that are kept for reading its usage. The provider's own limit on a request is 32 MB, and an answer of
 * 128,000 tokens is below 1 MB. Above it the answer still passes untouched, but says nothing of its usage, so the call is settled as one
 * without.
 */
export const BODY_BYTES_MAX = 33_554_432;

/** What is read of an answer that says nothing. */
export const NOTHING_READ: MeterReading = {
  usage: undefined,
  isFinal: false,
  model: undefined,
  stopReason: undefined,
  error: undefined,
};

/** True for an answer that is a stream of events, by its header. */
export function isEventStream(contentType: string): boolean {
  return /^\s*text\/event-stream\s*(?:;|$)/i.test(contentType);
}

export abstract class JsonBodyMeter implements ResponseMeter {
  #chunks: Uint8Array[] = [];
  #bytes = 0;
  #reading = NOTHING_READ;

  /** What the whole body says. */
  protected abstract read(json: JsonObject): MeterReading;

  push(chunk: Uint8Array): void {
    this.#bytes += chunk.length;
    // Copied, because the chunk belongs to whoever forwards it.
    if (this.#bytes <= BODY_BYTES_MAX) this.#chunks.push(chunk.slice());
    else this.#chunks = [];
  }

  end(): void {
    if (this.#bytes === 0 || this.#bytes > BODY_BYTES_MAX) return;
    const body = new Uint8Array(this.#bytes);
    let at = 0;
    for (const chunk of this.#chunks) {
      body.set(chunk, at);
      at += chunk.length;
    }
    this.#chunks = [];
    const json = parseObject(body);
    if (json !== undefined) this.#reading = this.read(json);
  }

  reading(): MeterReading {
    return this.#reading;
  }
}
