/**
 * Owns reading along with an Anthropic event stream: usage merged over its events, its model, its end. Does not own events as bytes
 * (sse.ts) or what usage means (usage.ts).
 * Invariant: reports are cumulative, so a later figure replaces an earlier one and is never added; a figure that falls keeps the higher
 * value unless the iterations account for it. The end is only what the provider reported as the end.
 *
 * @see github.com/gpambrozio/ClaudeDocs@ff5b8ed9 docs-md/api/build-with-claude/streaming
 */
import type { Usage, UsageFlag } from "../../core/usage/usage.ts";
import { parseObject, toObject, toText, type JsonObject } from "../json/values.ts";
import type { MeterReading, ResponseMeter } from "../provider.ts";
import { SseReader, type SseEvent } from "../sse.ts";
import { decodeUtf8 } from "../utf8.ts";
import { fromUsage, isComplete, isCount, type ReadUsageOptions } from "./usage.ts";

/** What a meter is told of the call whose answer it reads. */
export interface StreamMeterInput extends Pick<ReadUsageOptions, "cacheWrites"> {
  requestedModel: string;
}

/** The events that say something about cost. message_start can carry long lists; nothing that matters is near this size. */
const WANTED = new Set(["message_start", "message_delta", "message_stop", "error"]);
const EVENT_BYTES_MAX = 1_048_576;

/** `type` is the first key of every event the provider writes; other writers are read by the event's name, or wholly. */
const TYPE_AT_START = /^\s*\{\s*"type"\s*:\s*"([a-z_]+)"/;
const SKIP_LINES = [
  'data: {"type":"content_block_',
  'data: {"type": "content_block_',
  'data: {"type":"ping"',
  'data: {"type": "ping"',
].map(bytesOf);
/** Nearly all of a stream. */
const SKIP_EVENTS = ['{"type":"content_block_delta"', '{"type": "content_block_delta"'].map((beginning) =>
  bytesOf(`event: content_block_delta\ndata: ${beginning}`),
);

/** Counts of which the higher value is kept. */
const COUNT_KEYS = ["input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens"] as const;

/** One message as far as it was reported. */
interface Message {
  id: string | undefined;
  model: string | undefined;
  stopReason: string | undefined;
  /** Merged over the events; `undefined` until the first report. */
  usage: JsonObject | undefined;
  /** False while `output_tokens` is message_start's, which is a placeholder of 1 to 4. */
  isOutputReported: boolean;
}

export class AnthropicStreamMeter implements ResponseMeter {
  readonly #input: StreamMeterInput;
  readonly #reader: SseReader;
  #message: Message = newMessage();
  /** Messages that another one replaced in the same stream. */
  #earlier: Message[] = [];
  readonly #flags = new Set<UsageFlag>();
  #isStopped = false;
  #isUnreadable = false;
  #error: MeterReading["error"];
  #usage: { isFresh: boolean; value: Usage | undefined } = { isFresh: false, value: undefined };

  constructor(input: StreamMeterInput) {
    this.#input = input;
    this.#reader = new SseReader({
      skipEvents: SKIP_EVENTS,
      skipLines: SKIP_LINES,
      wants: isWanted,
      dataBytesMax: EVENT_BYTES_MAX,
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
    const usage = this.#readUsage();
    const isRead = usage?.flags.includes("malformed_usage") === false && !this.#isUnreadable;
    return {
      usage,
      isFinal: this.#isStopped && this.#message.isOutputReported && isRead && this.#error === undefined,
      // After a server-side fallback the model that answered is not the one message_start named.
      model: usage?.samplings.findLast(({ kind }) => kind === "fallback")?.model ?? this.#message.model,
      stopReason: this.#message.stopReason,
      error: this.#error,
    };
  }

  #readEvent(event: SseEvent): void {
    const json = event.data === undefined ? undefined : parseObject(event.data);
    if (json === undefined) {
      // An event cut by the stream's end says nothing; a whole one that cannot be read may have held the bill.
      if (event.isWhole && mayMatter(event)) this.#isUnreadable = true;
      return;
    }
    this.#usage.isFresh = false;
    const type = json["type"] ?? event.name;
    if (type === "message_start") this.#start(toObject(json["message"]) ?? {});
    else if (type === "message_delta") this.#delta(json);
    else if (type === "message_stop") this.#isStopped = true;
    else if (type === "error") this.#error = readError(json);
  }

  #start(json: JsonObject): void {
    const id = toText(json["id"]);
    const isSame = this.#message.usage === undefined || id === undefined || id === this.#message.id;
    if (!isSame) {
      this.#earlier.push(this.#message);
      this.#message = newMessage();
      this.#flags.add("message_restarted");
      this.#isStopped = false;
    }
    const message = this.#message;
    message.id = id ?? message.id;
    message.model = toText(json["model"]) ?? message.model;
    message.stopReason = toText(json["stop_reason"]) ?? message.stopReason;
    const usage = toObject(json["usage"]);
    if (usage === undefined) return;
    const { output_tokens: placeholder, ...reported } = usage;
    this.#merge(reported);
    if (!message.isOutputReported && message.usage !== undefined) message.usage["output_tokens"] = placeholder;
  }

  #delta(json: JsonObject): void {
    this.#message.stopReason = toText(toObject(json["delta"])?.["stop_reason"]) ?? this.#message.stopReason;
    const usage = toObject(json["usage"]);
    if (usage === undefined) return;
    if (!this.#message.isOutputReported && isCount(usage["output_tokens"])) {
      this.#message.isOutputReported = true;
      if (this.#message.usage !== undefined) delete this.#message.usage["output_tokens"];
    }
    this.#merge(usage);
  }

  /** Overwrites what was reported again; null means "not said again". */
  #merge(reported: JsonObject): void {
    const merged = (this.#message.usage ??= {});
    const iterations = reported["iterations"] ?? merged["iterations"];
    for (const [key, value] of Object.entries(reported)) {
      if (value === null || value === undefined) continue;
      if (key === "server_tool_use") merged[key] = this.#mergeTools(toObject(merged[key]), value);
      else if ((COUNT_KEYS as readonly string[]).includes(key))
        merged[key] = this.#higher(merged[key], value, sumIterations(iterations, key));
      else merged[key] = value;
    }
  }

  #mergeTools(before: JsonObject | undefined, value: unknown): unknown {
    const reported = toObject(value);
    if (reported === undefined) return before ?? value;
    const merged: JsonObject = { ...before };
    for (const [key, count] of Object.entries(reported)) {
      if (count !== null) merged[key] = this.#higher(merged[key], count, 0);
    }
    return merged;
  }

  /** @param explained what the iterations hold of this figure: compaction moves tokens out of the totals without unbilling them. */
  #higher(before: unknown, reported: unknown, explained: number): unknown {
    if (!isCount(before)) return reported;
    if (!isCount(reported)) {
      this.#flags.add("malformed_usage");
      return before;
    }
    if (reported >= before || explained >= before) return reported;
    this.#flags.add("usage_fell");
    return before;
  }

  #readUsage(): Usage | undefined {
    if (!this.#usage.isFresh) this.#usage = { isFresh: true, value: this.#buildUsage() };
    return this.#usage.value;
  }

  #buildUsage(): Usage | undefined {
    const usages = [...this.#earlier, this.#message].flatMap((message) => this.#usageOf(message) ?? []);
    const last = usages.at(-1);
    if (last === undefined) return undefined;
    return {
      ...last,
      samplings: usages.flatMap(({ samplings }) => samplings),
      webSearchRequests: usages.reduce((sum, usage) => sum + usage.webSearchRequests, 0),
      flags: [...new Set([...usages.flatMap(({ flags }) => flags), ...this.#flags])],
    };
  }

  #usageOf(message: Message): Usage | undefined {
    if (message.usage === undefined) return undefined;
    const { requestedModel, cacheWrites } = this.#input;
    const { usage, stopReason } = message;
    const read = fromUsage(usage, message.model ?? requestedModel, { requestedModel, cacheWrites, stopReason });
    // A stop reason comes with the last report: what that did not say is not going to be said.
    const isMissing = stopReason !== undefined && !(message.isOutputReported && isComplete(usage));
    return isMissing ? { ...read, flags: [...read.flags, "malformed_usage"] } : read;
  }
}

function newMessage(): Message {
  return { id: undefined, model: undefined, stopReason: undefined, usage: undefined, isOutputReported: false };
}

function bytesOf(ascii: string): Uint8Array {
  return Uint8Array.from(ascii, (letter) => letter.charCodeAt(0));
}

function isWanted(name: string | undefined, head: string): boolean {
  const type = TYPE_AT_START.exec(head)?.[1] ?? name;
  return type === undefined || WANTED.has(type);
}

/** False for what is no event of the provider's at all, such as a proxy's `data: [DONE]`. */
function mayMatter(event: SseEvent): boolean {
  const head = event.data === undefined ? "" : decodeUtf8(event.data.subarray(0, 64));
  const type = TYPE_AT_START.exec(head)?.[1] ?? event.name;
  return type === undefined ? event.data === undefined : WANTED.has(type);
}

function sumIterations(iterations: unknown, key: string): number {
  if (!Array.isArray(iterations)) return 0;
  const counts = iterations.map((entry) => toObject(entry)?.[key]).filter(isCount);
  return counts.reduce((sum, count) => sum + count, 0);
}

function readError(json: JsonObject): MeterReading["error"] {
  const error = toObject(json["error"]);
  return { type: toText(error?.["type"]) ?? "unknown", message: toText(error?.["message"]) ?? "" };
}
