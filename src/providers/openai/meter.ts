/**
 * Owns reading an answer that is a single JSON body: of a chat, a response, an embedding. Does not own streams (stream.ts).
 * Invariant: no byte is changed.
 */
import type { Usage } from "../../core/usage/usage.ts";
import { JsonBodyMeter } from "../json/body-meter.ts";
import { toObject, toText, type JsonObject } from "../json/values.ts";
import type { MeterReading } from "../provider.ts";
import { fromUsage, isComplete, type ReadUsageOptions } from "./usage.ts";

/** What a meter is told of the call whose answer it reads. */
export interface OpenAiMeterInput extends Pick<ReadUsageOptions, "cacheWrites" | "isPriority"> {
  requestedModel: string;
}

/** Items that stand for work with a fee of its own: a search, a container, an image. */
const FEE_ITEMS = new Set([
  "web_search_call",
  "file_search_call",
  "code_interpreter_call",
  "image_generation_call",
  "shell_call",
]);
/** Items that ask the caller to run something. */
const CALL_ITEMS = new Set([
  "function_call",
  "custom_tool_call",
  "computer_call",
  "local_shell_call",
  "apply_patch_call",
  "mcp_approval_request",
]);

export class OpenAiJsonMeter extends JsonBodyMeter {
  readonly #input: OpenAiMeterInput;

  constructor(input: OpenAiMeterInput) {
    super();
    this.#input = input;
  }

  protected override read(json: JsonObject): MeterReading {
    return readWhole(json, this.#input);
  }
}

/** What a whole answer says: the body of a JSON answer, or the response that a stream ends with. */
export function readWhole(json: JsonObject, input: OpenAiMeterInput): MeterReading {
  const model = toText(json["model"]);
  const error = readError(json["error"]);
  const usage = readUsage(json, model ?? input.requestedModel, input);
  const continuesAs = isGoingOn(json) ? toText(json["id"]) : undefined;
  return {
    usage: usage ?? (error !== undefined && hasWritten(json) ? unsaidUsage(input.requestedModel) : undefined),
    isFinal: usage !== undefined && !usage.flags.includes("malformed_usage") && continuesAs === undefined,
    model,
    stopReason: continuesAs === undefined ? stopReasonOf(json) : undefined,
    error,
    ...(continuesAs === undefined ? {} : { continuesAs }),
  };
}

function hasWritten(json: JsonObject): boolean {
  const choices: unknown = json["choices"];
  return itemsOf(json).length > 0 || (Array.isArray(choices) && choices.length > 0);
}

/** Something was written and what it cost is not said: no figure at all, which is not the same as nothing. */
export function unsaidUsage(model: string): Usage {
  return fromUsage(undefined, model);
}

function readUsage(json: JsonObject, model: string, { cacheWrites, isPriority }: OpenAiMeterInput): Usage | undefined {
  const usage = toObject(json["usage"]);
  if (usage === undefined) return undefined;
  const hasUnreportedFees = itemsOf(json).some(({ type }) => FEE_ITEMS.has(String(type)));
  const read = fromUsage(usage, model, { serviceTier: json["service_tier"], cacheWrites, isPriority, hasUnreportedFees });
  return isComplete(usage) ? read : { ...read, flags: [...new Set([...read.flags, "malformed_usage" as const])] };
}

/** A response that works in the background is answered at once, and asked for later. */
function isGoingOn({ status }: JsonObject): boolean {
  return status === "queued" || status === "in_progress";
}

function stopReasonOf(json: JsonObject): string | undefined {
  const choices: unknown = json["choices"];
  if (Array.isArray(choices)) {
    const reasons = choices.map((choice) => toText(toObject(choice)?.["finish_reason"]));
    return asStopReason(reasons.find((reason) => reason !== undefined));
  }
  if (itemsOf(json).some(({ type }) => CALL_ITEMS.has(String(type)))) return "tool_use";
  return toText(toObject(json["incomplete_details"])?.["reason"]) ?? toText(json["status"]);
}

/** An answer that waits for a tool's result has one name for all providers: what ends a turn is decided by it. */
export function asStopReason(reason: string | undefined): string | undefined {
  return reason === "tool_calls" || reason === "function_call" ? "tool_use" : reason;
}

function itemsOf(json: JsonObject): JsonObject[] {
  const output: unknown = json["output"];
  return Array.isArray(output) ? output.map(toObject).filter((item) => item !== undefined) : [];
}

/** OpenAI names an error by its code, or, where it has none, by its type. */
export function readError(value: unknown): MeterReading["error"] {
  const error = toObject(value);
  if (error === undefined) return undefined;
  return { type: toText(error["code"]) ?? toText(error["type"]) ?? "unknown", message: toText(error["message"]) ?? "" };
}
