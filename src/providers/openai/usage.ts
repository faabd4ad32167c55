/**
 * Owns turning OpenAI's `usage` into disjoint parts. Does not own reading a stream (stream.ts) or prices.
 * Invariant: never throws, whatever was sent; where two readings are possible the one that is not below the bill is taken and flagged.
 *
 * @see providers.md §12: input holds cached and cache-written tokens, output holds reasoning and rejected predictions
 * @see `CompletionUsage`, `ResponseUsage` in openai 7.57.0
 */
import { NO_TOKENS, type TokenParts, type Usage, type UsageFlag } from "../../core/usage/usage.ts";
import { toObject, type JsonObject } from "../json/values.ts";

/** What the answer says beside its usage, and what the call knows. */
export interface ReadUsageOptions {
  /** The tier that ran, as the answer names it. */
  serviceTier?: unknown;
  cacheWrites?: "none" | "5m" | "1h" | undefined;
  /** The dearer tier was asked for. */
  isPriority?: boolean | undefined;
  /** True if the answer shows work that is billed and stands in no usage. */
  hasUnreportedFees?: boolean;
}

/** A figure above this is a mistake: no call has ten billion tokens, and everything below stays far inside a ledger's 64 bits. */
const TOKENS_MAX = 10_000_000_000;

/** `undefined` there: a tier without a price of its own. A request that asked for `fast` is answered `priority`; both are read. */
const TIERS: Readonly<Record<string, Usage["serviceTier"]>> = {
  default: "standard",
  standard: "standard",
  flex: "flex",
  priority: "priority",
  fast: "priority",
  batch: "batch",
};

/**
 * Reads one `usage` object of a chat, a response or an embedding.
 *
 * @param json as it came; anything that is no object counts as no usage at all, flagged.
 * @param model the model that answered.
 */
export function fromUsage(json: unknown, model: string, options: ReadUsageOptions = {}): Usage {
  const flags = new Set<UsageFlag>();
  const usage = toObject(json);
  if (usage === undefined) flags.add("malformed_usage");
  const tokens = readTokens(usage ?? {}, options, flags);
  if (options.hasUnreportedFees === true) flags.add("unknown_meter");
  return {
    samplings: hasTokens(tokens) ? [{ kind: "message", model, tokens }] : [],
    webSearchRequests: 0,
    serviceTier: readTier(options, flags),
    speed: "standard",
    isUsOnly: false,
    flags: [...flags],
  };
}

/** True for a whole number of tokens that can be believed. */
export function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0 && value <= TOKENS_MAX;
}

/** True if usage holds what every finished answer reports. An embedding has no output, and does not say so. */
export function isComplete(usage: JsonObject): boolean {
  const isEmbedding = usage["completion_tokens"] === undefined && usage["output_tokens"] === undefined;
  const output = isEmbedding ? totalMinusInput(usage) : (usage["completion_tokens"] ?? usage["output_tokens"]);
  return isCount(usage["prompt_tokens"] ?? usage["input_tokens"]) && isCount(output);
}

function totalMinusInput(usage: JsonObject): number | undefined {
  const input = usage["prompt_tokens"] ?? usage["input_tokens"];
  const total = usage["total_tokens"];
  return isCount(input) && isCount(total) && total >= input ? total - input : undefined;
}

function readTokens(usage: JsonObject, { cacheWrites }: ReadUsageOptions, flags: Set<UsageFlag>): TokenParts {
  const input = readCount(usage["prompt_tokens"] ?? usage["input_tokens"], flags);
  const inputDetails = toObject(usage["prompt_tokens_details"] ?? usage["input_tokens_details"]) ?? {};
  const outputDetails = toObject(usage["completion_tokens_details"] ?? usage["output_tokens_details"]) ?? {};
  const outputTokens = readOutput(usage, input, flags);
  const cacheReadTokens = readCount(inputDetails["cached_tokens"], flags);
  const written = readWritten(inputDetails, cacheWrites, flags);
  const uncached = input - cacheReadTokens - written.cacheWrite5mTokens - written.cacheWrite1hTokens;
  // Parts above their whole: the parts are kept, being the dearer of two statements.
  if (uncached < 0) flags.add("usage_contradicts");
  // Sound has prices of its own, which no row holds.
  if (readCount(inputDetails["audio_tokens"], flags) + readCount(outputDetails["audio_tokens"], flags) > 0)
    flags.add("unknown_meter");
  return {
    ...NO_TOKENS,
    uncachedInputTokens: Math.max(0, uncached),
    cacheReadTokens,
    ...written,
    outputTokens,
    reasoningOutputTokens: Math.min(outputTokens, readCount(outputDetails["reasoning_tokens"], flags)),
  };
}

/** Some servers leave reasoning out of the output and in the total: what the total holds beyond its parts is output. */
function readOutput(usage: JsonObject, input: number, flags: Set<UsageFlag>): number {
  const said = usage["completion_tokens"] ?? usage["output_tokens"];
  const output = readCount(said, flags);
  const total = usage["total_tokens"];
  if (!isCount(total) || total <= input + output) return output;
  if (said !== undefined && said !== null) flags.add("usage_contradicts");
  return total - input;
}

function readWritten(
  details: JsonObject,
  cacheWrites: ReadUsageOptions["cacheWrites"],
  flags: Set<UsageFlag>,
): Pick<TokenParts, "cacheWrite5mTokens" | "cacheWrite1hTokens"> {
  const split = toObject(details["cache_write_tokens_details"]);
  const shorter = readCount(split?.["ttl_30m_tokens"], flags);
  const longer = readCount(split?.["ttl_12h_tokens"], flags);
  const rest = readCount(details["cache_write_tokens"], flags) - shorter - longer;
  if (rest < 0 && details["cache_write_tokens"] !== undefined) flags.add("usage_contradicts");
  const isLong = rest > 0 && cacheWrites === "1h";
  if (isLong) flags.add("cache_ttl_unknown");
  return {
    cacheWrite5mTokens: shorter + (isLong ? 0 : Math.max(0, rest)),
    cacheWrite1hTokens: longer + (isLong ? rest : 0),
  };
}

/** An answer that names no tier ran in the one everybody has, or in the dearer one that was asked for. */
function readTier({ serviceTier: value, isPriority }: ReadUsageOptions, flags: Set<UsageFlag>): Usage["serviceTier"] {
  if (value === null || value === undefined) return isPriority === true ? "priority" : undefined;
  const tier = typeof value === "string" && Object.hasOwn(TIERS, value) ? TIERS[value] : undefined;
  if (tier === undefined) flags.add("unknown_meter");
  return tier;
}

/** Absent and null are "not said" and count nothing; anything that is no count is left out and flagged. */
function readCount(value: unknown, flags: Set<UsageFlag>): number {
  if (value === undefined || value === null) return 0;
  if (isCount(value)) return value;
  flags.add("malformed_usage");
  return 0;
}

function hasTokens(tokens: TokenParts): boolean {
  return Object.values(tokens).some((count) => count > 0);
}
