/**
 * Owns choosing how an answer is read along with, and reading one that is a single JSON body. Does not own streams (stream.ts).
 * Invariant: no byte is changed.
 */
import type { Usage } from "../../core/usage/usage.ts";
import { isEventStream, JsonBodyMeter } from "../json/body-meter.ts";
import { toObject, toText, type JsonObject } from "../json/values.ts";
import type { MeterReading, ResponseMeter } from "../provider.ts";
import { AnthropicStreamMeter, type StreamMeterInput } from "./stream.ts";
import { fromUsage, isComplete } from "./usage.ts";

/** What a meter is opened with. */
export interface OpenMeterInput extends StreamMeterInput {
  /** As the answer's header said it. */
  contentType: string;
}

/** Opens the meter for an answer: an event stream by its events, anything else as one JSON body. */
export function openMeter(input: OpenMeterInput): ResponseMeter {
  return isEventStream(input.contentType) ? new AnthropicStreamMeter(input) : new AnthropicJsonMeter(input);
}

export class AnthropicJsonMeter extends JsonBodyMeter {
  readonly #input: StreamMeterInput;

  constructor(input: StreamMeterInput) {
    super();
    this.#input = input;
  }

  protected override read(json: JsonObject): MeterReading {
    return readMessage(json, this.#input);
  }
}

/** What a whole answer says of itself. */
export function readMessage(json: JsonObject, input: StreamMeterInput): MeterReading {
  const model = toText(json["model"]);
  const stopReason = toText(json["stop_reason"]);
  const usage = readUsage(json, { ...input, model, stopReason });
  const isFinal = usage !== undefined && !usage.flags.includes("malformed_usage");
  return { usage, isFinal, model: servedBy(usage) ?? model, stopReason, error: readError(json) };
}

function readUsage(
  json: JsonObject,
  input: StreamMeterInput & { model: string | undefined; stopReason: string | undefined },
): Usage | undefined {
  const usage = toObject(json["usage"]);
  if (usage === undefined) return undefined;
  const { requestedModel, cacheWrites, model, stopReason } = input;
  const read = fromUsage(usage, model ?? requestedModel, { requestedModel, cacheWrites, stopReason });
  return isComplete(usage) ? read : { ...read, flags: [...new Set([...read.flags, "malformed_usage" as const])] };
}

function servedBy(usage: Usage | undefined): string | undefined {
  return usage?.samplings.findLast(({ kind }) => kind === "fallback")?.model;
}

function readError(json: JsonObject): MeterReading["error"] {
  const error = toObject(json["error"]);
  if (error === undefined) return undefined;
  return { type: toText(error["type"]) ?? "unknown", message: toText(error["message"]) ?? "" };
}
