/**
 * Owns choosing how an answer is read along with, and reading one that is a single JSON body. Does not own streams (stream.ts).
 * Invariant: no byte is changed, and of a body no more than {@link BODY_BYTES_MAX} is held.
 */
import type { Usage } from "../../core/usage/usage.ts";
import { parseObject, toObject, toText, type JsonObject } from "../json/values.ts";
import type { MeterReading, ResponseMeter } from "../provider.ts";
import { AnthropicStreamMeter, type StreamMeterInput } from "./stream.ts";
import { fromUsage, isComplete } from "./usage.ts";

/** What a meter is opened with. */
export interface OpenMeterInput extends StreamMeterInput {
  /** As the answer's header said it. */
  contentType: string;
}

/**
 * Most bytes of a JSON answer that are kept for reading its usage. The provider's own limit on a request is 32 MB, and an answer of
 * 128,000 tokens is below 1 MB. Above it the answer still passes untouched, but says nothing of its usage, so the call is settled as one
 * without.
 */
export const BODY_BYTES_MAX = 33_554_432;

/** Opens the meter for an answer: an event stream by its events, anything else as one JSON body. */
export function openMeter(input: OpenMeterInput): ResponseMeter {
  const isStream = /^\s*text\/event-stream\s*(?:;|$)/i.test(input.contentType);
  return isStream ? new AnthropicStreamMeter(input) : new AnthropicJsonMeter(input);
}

const NOTHING_READ: MeterReading = {
  usage: undefined,
  isFinal: false,
  model: undefined,
  stopReason: undefined,
  error: undefined,
};

export class AnthropicJsonMeter implements ResponseMeter {
  readonly #input: StreamMeterInput;
  #chunks: Uint8Array[] = [];
  #bytes = 0;
  #reading = NOTHING_READ;

  constructor(input: StreamMeterInput) {
    this.#input = input;
  }

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
    this.#reading = this.#read(body);
  }

  reading(): MeterReading {
    return this.#reading;
  }

  #read(body: Uint8Array): MeterReading {
    const json = parseObject(body);
    if (json === undefined) return NOTHING_READ;
    const model = toText(json["model"]);
    const stopReason = toText(json["stop_reason"]);
    const usage = this.#readUsage(json, model, stopReason);
    const isFinal = usage !== undefined && !usage.flags.includes("malformed_usage");
    return { usage, isFinal, model: servedBy(usage) ?? model, stopReason, error: readError(json) };
  }

  #readUsage(json: JsonObject, model: string | undefined, stopReason: string | undefined): Usage | undefined {
    const usage = toObject(json["usage"]);
    if (usage === undefined) return undefined;
    const { requestedModel, cacheWrites } = this.#input;
    const read = fromUsage(usage, model ?? requestedModel, { requestedModel, cacheWrites, stopReason });
    return isComplete(usage) ? read : { ...read, flags: [...new Set([...read.flags, "malformed_usage" as const])] };
  }
}

function servedBy(usage: Usage | undefined): string | undefined {
  return usage?.samplings.findLast(({ kind }) => kind === "fallback")?.model;
}

function readError(json: JsonObject): MeterReading["error"] {
  const error = toObject(json["error"]);
  if (error === undefined) return undefined;
  return { type: toText(error["type"]) ?? "unknown", message: toText(error["message"]) ?? "" };
}
