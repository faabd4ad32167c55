/**
 * Owns turning Anthropic's `usage` into disjoint parts, by sampling and model. Does not own reading a stream (stream.ts) or prices.
 * Invariant: never throws, whatever was sent; where two readings are possible the one that is not below the bill is taken and flagged.
 *
 * @see github.com/gpambrozio/ClaudeDocs@ff5b8ed9 docs-md/api: build-with-claude/prompt-caching, compaction, advisor-tool
 * @see npm @anthropic-ai/sdk 1.12.0 resources/messages/messages.d.ts (Usage, BetaIterationsUsage)
 */
import { NO_TOKENS, type Sampling, type TokenParts, type Usage, type UsageFlag } from "../../core/usage/usage.ts";
import { toObject, toText, type JsonObject } from "../json/values.ts";

/** What the call knows that its usage does not say. */
export interface ReadUsageOptions {
  /** The model the caller asked for: what a fallback's declined attempt ran on where its entry names none. */
  requestedModel?: string | undefined;
  /** The longest-lived cache write the request can cause; decides the price of writes reported without their lifetime. */
  cacheWrites?: "none" | "5m" | "1h" | undefined;
  stopReason?: string | undefined;
}

/** A figure above this is a mistake: no call has ten billion tokens, and everything below stays far inside a ledger's 64 bits. */
export const TOKENS_MAX = 10_000_000_000;

/** What the top level of usage may hold. A count under any other name is a meter without a price. */
const KNOWN_KEYS = new Set(
  ["input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "cache_creation", "output_tokens"].concat([
    "output_tokens_details",
    "server_tool_use",
    "service_tier",
    "speed",
    "inference_geo",
    "iterations",
    "fallback_credit",
  ]),
);
/** Server tools that cost nothing besides their tokens, or (searches) have their own meter. Container time is in no usage. */
const PRICED_TOOL_COUNTS = new Set(["web_search_requests", "web_fetch_requests"]);
const KNOWN_GEOS = new Set<unknown>(["us", "global", "not_available", null, undefined]);

const KIND_OF_ITERATION: Readonly<Record<string, Sampling["kind"]>> = {
  message: "message",
  compaction: "compaction",
  advisor_message: "advisor",
  fallback_message: "fallback",
};

interface Context {
  model: string;
  options: ReadUsageOptions;
  flags: Set<UsageFlag>;
}

/**
 * Reads one `usage` object, from a JSON answer or merged over the events of a stream.
 *
 * @param json as it came; anything that is no object counts as no usage at all, flagged.
 * @param model the model that answered.
 */
export function fromUsage(json: unknown, model: string, options: ReadUsageOptions = {}): Usage {
  const context: Context = { model, options, flags: new Set() };
  const usage = toObject(json);
  if (usage === undefined) context.flags.add("malformed_usage");
  const top = usage ?? {};
  flagUnknownMeters(top, context);
  const samplings = creditFallback(top, readSamplings(top, context)).filter(({ tokens }) => hasTokens(tokens));
  return {
    samplings: isRefusedUnbilled(samplings, options) ? samplings.filter(({ kind }) => !isExecutor(kind)) : samplings,
    webSearchRequests: readCount(toObject(top["server_tool_use"])?.["web_search_requests"], context),
    serviceTier: readChoice(top["service_tier"], ["standard", "batch", "priority"], context),
    speed: readChoice(top["speed"], ["standard", "fast"], context),
    isUsOnly: top["inference_geo"] === "us",
    flags: [...context.flags],
  };
}

/** True for a whole number of tokens or requests that can be believed. */
export function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0 && value <= TOKENS_MAX;
}

/**
 * True if usage holds what every finished answer reports. Absent is not zero: an answer that has ended without one of these has not said
 * what it cost.
 */
export function isComplete(usage: JsonObject): boolean {
  return isCount(usage["input_tokens"]) && isCount(usage["output_tokens"]);
}

/**
 * With `iterations`, those are what is billed: top-level totals leave compaction and advisor out, and after a fallback cover only the
 * attempt that answered. Without, the totals are one sampling, which for a server-tool loop picks the tier of the sum: the dearer reading.
 */
function readSamplings(top: JsonObject, context: Context): Sampling[] {
  const total: Sampling = { kind: "message", model: context.model, tokens: readTokens(top, context) };
  const iterations = readIterations(top["iterations"], context);
  if (iterations.length === 0) {
    const tools = Object.values(toObject(top["server_tool_use"]) ?? {});
    if (tools.some((count) => isCount(count) && count > 0)) context.flags.add("tier_of_total");
    return [total];
  }
  const rest = restOf(total, iterations, context);
  return rest === undefined ? iterations : [...iterations, rest];
}

function readIterations(value: unknown, context: Context): Sampling[] {
  if (value === null || value === undefined) return [];
  if (!Array.isArray(value)) {
    context.flags.add("malformed_usage");
    return [];
  }
  const entries = value.map(toObject).filter((entry) => entry !== undefined);
  if (entries.length < value.length) context.flags.add("malformed_usage");
  const hasFallback = entries.some((entry) => entry["type"] === "fallback_message");
  return entries.flatMap((entry) => readIteration(entry, hasFallback, context));
}

function readIteration(entry: JsonObject, hasFallback: boolean, context: Context): Sampling[] {
  const type = entry["type"];
  const kind = typeof type === "string" && Object.hasOwn(KIND_OF_ITERATION, type) ? KIND_OF_ITERATION[type] : undefined;
  // A kind of sampling this version does not know was run by some model, so it is counted, and said.
  if (kind === undefined) context.flags.add("unknown_meter");
  const isAttempt = hasFallback && kind === "message";
  const unnamed = isAttempt ? (context.options.requestedModel ?? context.model) : context.model;
  const tokens = readTokens(entry, context);
  // A fallback's attempt that declined before any output is listed and not billed.
  if (isAttempt && tokens.outputTokens === 0) return [];
  return [{ kind: kind ?? "message", model: toText(entry["model"]) ?? unnamed, tokens }];
}

/** What the totals hold beyond the iterations they add up: counted as one more sampling, so that nothing billed is lost. */
function restOf(total: Sampling, iterations: readonly Sampling[], context: Context): Sampling | undefined {
  const fallback = iterations.findLast(({ kind }) => kind === "fallback");
  const serving = iterations.filter(({ kind }) => kind === (fallback === undefined ? "message" : "fallback"));
  const tokens = { ...NO_TOKENS };
  for (const part of ["uncachedInputTokens", "cacheReadTokens", "outputTokens"] as const) {
    tokens[part] = Math.max(0, total.tokens[part] - sumOf(serving, ({ tokens: each }) => each[part]));
  }
  // Compared as one figure: the split of the totals may be older than that of the iterations.
  const written = Math.max(0, writtenTokens(total.tokens) - sumOf(serving, ({ tokens: each }) => writtenTokens(each)));
  if (written > 0) addWritten(tokens, written, total.tokens.cacheWrite1hTokens > 0, context);
  if (!hasTokens(tokens)) return undefined;
  context.flags.add("usage_contradicts");
  return { kind: fallback === undefined ? "message" : "fallback", model: fallback?.model ?? total.model, tokens };
}

function readTokens(json: JsonObject, context: Context): TokenParts {
  const outputTokens = readCount(json["output_tokens"], context);
  const tokens: TokenParts = {
    uncachedInputTokens: readCount(json["input_tokens"], context),
    cacheReadTokens: readCount(json["cache_read_input_tokens"], context),
    cacheWrite5mTokens: 0,
    cacheWrite1hTokens: 0,
    outputTokens,
    reasoningOutputTokens: readThinking(json, outputTokens, context),
  };
  readCacheWrites(json, tokens, context);
  return tokens;
}

/** A breakdown of the output, never billed by itself: a broken one costs only the breakdown. */
function readThinking(json: JsonObject, outputTokens: number, context: Context): number {
  const thinking = toObject(json["output_tokens_details"])?.["thinking_tokens"] ?? 0;
  if (isCount(thinking) && thinking <= outputTokens) return thinking;
  context.flags.add("usage_contradicts");
  return isCount(thinking) ? outputTokens : 0;
}

/**
 * The split by lifetime, and what the total holds beyond it. That rest is there when a stream's server-tool loop wrote more than
 * message_start could know, or when no split was sent at all.
 */
function readCacheWrites(json: JsonObject, tokens: TokenParts, context: Context): void {
  const split = toObject(json["cache_creation"]);
  tokens.cacheWrite5mTokens = readCount(split?.["ephemeral_5m_input_tokens"], context);
  tokens.cacheWrite1hTokens = readCount(split?.["ephemeral_1h_input_tokens"], context);
  const total = json["cache_creation_input_tokens"];
  if (total === null || total === undefined) return;
  const rest = readCount(total, context) - writtenTokens(tokens);
  if (rest > 0) addWritten(tokens, rest, tokens.cacheWrite1hTokens > 0, context);
  // A split above its total: the split is kept, being the dearer of two statements.
  if (rest < 0) context.flags.add("usage_contradicts");
}

/**
 * Writes of unknown lifetime. A request that can only write for 5 minutes wrote for 5 minutes: exact. One that can write for an hour is
 * taken at its word, the dearer reading, flagged. Where the request is not known, 5 minutes (Anthropic's default, and what server tools
 * write by themselves) unless the same usage shows 1-hour writes.
 */
function addWritten(tokens: TokenParts, count: number, hasHourWrites: boolean, context: Context): void {
  const { cacheWrites } = context.options;
  const isHour = cacheWrites === "1h" || (cacheWrites !== "5m" && hasHourWrites);
  tokens[isHour ? "cacheWrite1hTokens" : "cacheWrite5mTokens"] += count;
  if (cacheWrites !== "5m") context.flags.add("cache_ttl_unknown");
}

/** A redeemed fallback credit bills the retry's cache writes at the cache-read rate, so they are counted as reads. */
function creditFallback(top: JsonObject, samplings: Sampling[]): Sampling[] {
  const status = toObject(toObject(top["fallback_credit"])?.["status"]);
  if (status?.["type"] !== "redeemed") return samplings;
  return samplings.map((sampling) => {
    if (sampling.kind !== "message") return sampling;
    const cacheReadTokens = sampling.tokens.cacheReadTokens + writtenTokens(sampling.tokens);
    return { ...sampling, tokens: { ...sampling.tokens, cacheReadTokens, cacheWrite5mTokens: 0, cacheWrite1hTokens: 0 } };
  });
}

/** A request refused before any output is not billed (docs-md/api/about-claude/models/migration-guide). */
function isRefusedUnbilled(samplings: readonly Sampling[], options: ReadUsageOptions): boolean {
  return (
    options.stopReason === "refusal" && samplings.every(({ kind, tokens }) => !isExecutor(kind) || tokens.outputTokens === 0)
  );
}

function isExecutor(kind: Sampling["kind"]): boolean {
  return kind === "message" || kind === "fallback";
}

function flagUnknownMeters(top: JsonObject, context: Context): void {
  const isUnread = ([key, value]: [string, unknown]): boolean => !KNOWN_KEYS.has(key) && typeof value === "number" && value > 0;
  const tools = Object.entries(toObject(top["server_tool_use"]) ?? {});
  const isUnpricedTool = ([key, value]: [string, unknown]): boolean =>
    !PRICED_TOOL_COUNTS.has(key) && typeof value === "number" && value > 0;
  if (Object.entries(top).some(isUnread) || tools.some(isUnpricedTool)) context.flags.add("unknown_meter");
  if (!KNOWN_GEOS.has(top["inference_geo"])) context.flags.add("unknown_meter");
}

/** Absent and null are "not said" and count nothing; anything that is no count is left out and flagged. */
function readCount(value: unknown, context: Context): number {
  if (value === undefined || value === null) return 0;
  if (isCount(value)) return value;
  context.flags.add("malformed_usage");
  return 0;
}

function readChoice<Choice extends string>(value: unknown, known: readonly Choice[], context: Context): Choice | undefined {
  if (value === null || value === undefined) return undefined;
  const choice = known.find((each) => each === value);
  if (choice === undefined) context.flags.add("unknown_meter");
  return choice;
}

function hasTokens(tokens: TokenParts): boolean {
  return tokens.uncachedInputTokens + tokens.cacheReadTokens + writtenTokens(tokens) + tokens.outputTokens > 0;
}

function writtenTokens(tokens: TokenParts): number {
  return tokens.cacheWrite5mTokens + tokens.cacheWrite1hTokens;
}

function sumOf(samplings: readonly Sampling[], count: (sampling: Sampling) => number): number {
  return samplings.reduce((sum, sampling) => sum + count(sampling), 0);
}
