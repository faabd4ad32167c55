/**
 * Owns reading along with an event stream of a chat or a response: its usage, its model, its end. Does not own events as bytes (sse.ts) or
 * what usage means (usage.ts).
 * Invariant: reports are cumulative, so a later figure replaces an earlier one and is never added; a figure that falls keeps the higher
 * value. The end is only what the provider reported as the end.
 *
 * @see providers.md §12; `ChatCompletionChunk`, `ResponseStreamEvent` in openai 7.57.0
 */
import { parseObject, toObject, toText, type JsonObject } from "../json/values.ts";
import type { MeterReading, ResponseMeter } from "../provider.ts";
import { SseReader, type SseEvent } from "../sse.ts";
import { decodeUtf8 } from "../utf8.ts";
import { asStopReason, readError, readWhole, unsaidUsage, type OpenAiMeterInput } from "./meter.ts";
import { fromUsage, isComplete, isCount } from "./usage.ts";

/** One chunk of a chat is some hundred bytes; one that is near this size says nothing of cost that another does not. */
const CHUNK_BYTES_MAX = 1_048_576;
/** The event that ends a response holds all of it, and all that was asked. */
const RESPONSE_BYTES_MAX = 33_554_432;

/** What says something besides text. In a string a quote is escaped, so these are keys. */
const TELLS_SOMETHING = /"(?:usage|error)"\s*:\s*\{|"finish_reason"\s*:\s*"/;

/** A stream of `chat.completion.chunk`s: the usage comes with the last of them, before `[DONE]`. */
export class ChatStreamMeter implements ResponseMeter {
  readonly #input: OpenAiMeterInput;
  readonly #reader: SseReader;
  #usage: JsonObject | undefined;
  #hasFallen = false;
  #isLastReport = false;
  #serviceTier: unknown;
  #model: string | undefined;
  #finishReason: string | undefined;
  #error: MeterReading["error"];
  #chunkCount = 0;
  #isDone = false;
  #isUnreadable = false;
  #reading: MeterReading | undefined;

  constructor(input: OpenAiMeterInput) {
    this.#input = input;
    this.#reader = new SseReader({
      skipEvents: [],
      skipLines: [],
      wants: () => true,
      dataBytesMax: CHUNK_BYTES_MAX,
      onEvent: (event) => this.#readEvent(event),
    });
  }

  push(chunk: Uint8Array): void {
    this.#reader.push(chunk);
  }

  end(): void {
    this.#reader.end();
  }

  reading(): MeterReading {
    return (this.#reading ??= this.#build());
  }

  #readEvent({ data, isWhole }: SseEvent): void {
    this.#reading = undefined;
    if (data === undefined) {
      this.#isUnreadable = true;
      return;
    }
    const text = decodeUtf8(data);
    if (text.trim() === "[DONE]") {
      this.#isDone = isWhole;
      return;
    }
    this.#chunkCount += 1;
    // Azure's first chunk, of what its filter found, names no model yet.
    if (this.#model !== undefined && !TELLS_SOMETHING.test(text)) return;
    const json = parseObject(data);
    if (json !== undefined) this.#readChunk(json);
    // A chunk cut by the stream's end says nothing; a whole one that cannot be read may have held the bill.
    else if (isWhole) this.#isUnreadable = true;
  }

  #readChunk(json: JsonObject): void {
    const model = toText(json["model"]);
    if (model !== "") this.#model ??= model;
    this.#serviceTier = json["service_tier"] ?? this.#serviceTier;
    this.#error ??= readError(json["error"]);
    if (json["error"] !== undefined && json["choices"] === undefined) this.#chunkCount -= 1;
    const choices: unknown = json["choices"];
    const reasons = Array.isArray(choices) ? choices.map((choice) => toText(toObject(choice)?.["finish_reason"])) : [];
    this.#finishReason = reasons.find((reason) => reason !== undefined) ?? this.#finishReason;
    const usage = toObject(json["usage"]);
    if (usage === undefined) return;
    this.#usage = this.#usage === undefined ? usage : this.#later(this.#usage, usage);
    this.#isLastReport = Array.isArray(choices) && choices.length === 0;
  }

  #later(before: JsonObject, usage: JsonObject): JsonObject {
    const kept: JsonObject = { ...usage };
    for (const key of ["prompt_tokens", "completion_tokens"]) {
      const [earlier, later] = [before[key], usage[key]];
      if (!isCount(earlier) || (isCount(later) && later >= earlier)) continue;
      kept[key] = earlier;
      // It adds up what fell.
      delete kept["total_tokens"];
      this.#hasFallen = true;
    }
    return kept;
  }

  #build(): MeterReading {
    const isEnded = this.#isDone || this.#isLastReport;
    const usage = this.#buildUsage(isEnded);
    const isRead = usage?.flags.includes("malformed_usage") === false && !this.#isUnreadable;
    return {
      usage,
      isFinal: isEnded && isRead,
      model: this.#model,
      // Of several answers one may end while another goes on: only the end of the stream says that all have.
      stopReason: isEnded && usage !== undefined ? asStopReason(this.#finishReason) : undefined,
      error: this.#error,
    };
  }

  #buildUsage(isEnded: boolean): MeterReading["usage"] {
    const model = this.#model ?? this.#input.requestedModel;
    if (this.#usage === undefined) return this.#error !== undefined && this.#chunkCount > 0 ? unsaidUsage(model) : undefined;
    const { cacheWrites, isPriority } = this.#input;
    const read = fromUsage(this.#usage, model, { serviceTier: this.#serviceTier, cacheWrites, isPriority });
    const flags = new Set(read.flags);
    if (this.#hasFallen) flags.add("usage_fell");
    if (isEnded && !isComplete(this.#usage)) flags.add("malformed_usage");
    return { ...read, flags: [...flags] };
  }
}

/** The events that say something about cost. */
const WANTED = new Set([
  "response.created",
  "response.queued",
  "response.in_progress",
  "response.completed",
  "response.incomplete",
  "response.failed",
  "response.cancelled",
  "error",
]);
const ENDS = new Set(["response.completed", "response.incomplete", "response.failed", "response.cancelled"]);

/** `type` is the first key of every event the provider writes; other writers are read by the event's name, or wholly. */
const TYPE_AT_START = /^\s*\{\s*"type"\s*:\s*"([a-z_.]+)"/;
/** Nearly all of a stream. */
const SKIP_EVENTS = ["response.output_text.delta", "response.function_call_arguments.delta"].map((type) =>
  Uint8Array.from(`event: ${type}\ndata: {"type":"${type}"`, (letter) => letter.charCodeAt(0)),
);

/** A stream of a response's events: each that wraps the response tells it as far as it is, the last one with its usage. */
export class ResponsesStreamMeter implements ResponseMeter {
  readonly #input: OpenAiMeterInput;
  readonly #reader: SseReader;
  /** As it was told last. */
  #response: JsonObject = {};
  #isEnded = false;
  #hasOutput = false;
  #error: MeterReading["error"];
  #isUnreadable = false;
  #reading: MeterReading | undefined;

  constructor(input: OpenAiMeterInput) {
    this.#input = input;
    this.#reader = new SseReader({
      skipEvents: SKIP_EVENTS,
      skipLines: [],
      wants: (name, head) => this.#wants(name, head),
      dataBytesMax: RESPONSE_BYTES_MAX,
      onEvent: (event) => this.#readEvent(event),
    });
  }

  push(chunk: Uint8Array): void {
    this.#reader.push(chunk);
  }

  end(): void {
    this.#reader.end();
  }

  reading(): MeterReading {
    return (this.#reading ??= this.#build());
  }

  #wants(name: string | undefined, head: string): boolean {
    const type = TYPE_AT_START.exec(head)?.[1] ?? name;
    if (type === undefined || WANTED.has(type)) return true;
    this.#hasOutput ||= type.startsWith("response.");
    return false;
  }

  #readEvent({ name, data, isWhole }: SseEvent): void {
    this.#reading = undefined;
    const json = data === undefined ? undefined : parseObject(data);
    if (json === undefined) {
      // An event cut by the stream's end says nothing; a whole one that cannot be read may have held the bill.
      if (isWhole && data !== undefined && decodeUtf8(data).trim() !== "[DONE]") this.#isUnreadable = true;
      if (isWhole && data === undefined) this.#isUnreadable = true;
      return;
    }
    const type = toText(json["type"]) ?? name ?? "";
    const response = toObject(json["response"]);
    if (type === "error") this.#error = readError(json["error"]) ?? readError(json);
    else if (response !== undefined) this.#response = response;
    if (ENDS.has(type)) this.#isEnded = true;
  }

  #build(): MeterReading {
    const told = readWhole(this.#response, this.#input);
    const error = this.#error ?? told.error;
    const isUnsaid = told.usage === undefined && error !== undefined && this.#hasOutput;
    const usage = isUnsaid ? unsaidUsage(told.model ?? this.#input.requestedModel) : told.usage;
    // Whoever stops listening to a response in the background does not stop it.
    const isInBackground = !this.#isEnded && this.#response["background"] === true && this.#error === undefined;
    const continuesAs = isInBackground ? toText(this.#response["id"]) : undefined;
    return {
      usage,
      isFinal: this.#isEnded && told.isFinal && !this.#isUnreadable,
      model: told.model,
      stopReason: this.#isEnded ? told.stopReason : undefined,
      error,
      ...(continuesAs === undefined ? {} : { continuesAs }),
    };
  }
}
