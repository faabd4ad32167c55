/**
 * Owns: the usage objects of answers and events, how they are spoiled on request, and what a reader of them would pay.
 * Does not own: what was really consumed (`answer.ts`).
 * Invariant: reading back an unspoiled report gives the cost of what was consumed, except where the protocol itself hides it
 * (no `iterations`, no lifetimes of writes).
 * @see platform.claude.com/docs/en/build-with-claude/streaming (usage in `message_delta` is cumulative)
 */
import type { UsageFault, TellingOptions } from "./behaviours.ts";
import { NO_TOKENS, toCostNanoUsd, type Consumption, type Sampling, type TokenParts } from "./bill.ts";
import { asArray, asRecord, asText, isRecord, type JsonRecord } from "./json.ts";

export interface UsageFacts {
  readonly consumption: Consumption;
  readonly thinkingTokens: number;
  readonly showIterations: boolean;
}

/**
 * The totals a report shows: the sum over the `message` samplings; after a fallback, the fallback alone. Compaction and
 * advisors stand outside (platform.claude.com/docs/en/build-with-claude/compaction, …/agents-and-tools/tool-use/advisor-tool).
 */
export function toTotals(consumption: Consumption): TokenParts {
  const fallback = consumption.samplings.findLast(({ kind }) => kind === "fallback_message");
  const counted = fallback === undefined ? consumption.samplings.filter(({ kind }) => kind === "message") : [fallback];
  return counted.reduce<TokenParts>(addTokens, NO_TOKENS);
}

function addTokens(a: TokenParts, b: TokenParts): TokenParts {
  return {
    inputTokens: a.inputTokens + b.inputTokens,
    cacheReadTokens: a.cacheReadTokens + b.cacheReadTokens,
    cacheWrite5mTokens: a.cacheWrite5mTokens + b.cacheWrite5mTokens,
    cacheWrite1hTokens: a.cacheWrite1hTokens + b.cacheWrite1hTokens,
    outputTokens: a.outputTokens + b.outputTokens,
  };
}

/** The usage of a JSON answer. */
export function toJsonUsage(facts: UsageFacts): JsonRecord {
  return {
    ...toInputFields(toTotals(facts.consumption)),
    output_tokens: toTotals(facts.consumption).outputTokens,
    ...toPlaceFields(facts.consumption),
    ...toFinalFields(facts),
  };
}

/** The usage in `message_start`: the input of the first sampling, and a placeholder of 1 to 4 output tokens. */
export function toStartUsage(facts: UsageFacts): JsonRecord {
  const first = facts.consumption.samplings.find(({ kind }) => kind === "message" || kind === "fallback_message") ?? NO_TOKENS;
  return {
    ...toInputFields(first),
    output_tokens: Math.min(1 + (first.inputTokens % 4), toTotals(facts.consumption).outputTokens),
    ...toPlaceFields(facts.consumption),
    server_tool_use: null,
    output_tokens_details: null,
  };
}

/** The usage in `message_delta`: cumulative, without lifetimes of writes, tier, speed or geography. */
export function toDeltaUsage(facts: UsageFacts): JsonRecord {
  const totals = toTotals(facts.consumption);
  return {
    input_tokens: totals.inputTokens,
    cache_creation_input_tokens: totals.cacheWrite5mTokens + totals.cacheWrite1hTokens,
    cache_read_input_tokens: totals.cacheReadTokens,
    output_tokens: totals.outputTokens,
    ...toFinalFields(facts),
  };
}

function toInputFields(parts: TokenParts): JsonRecord {
  return {
    input_tokens: parts.inputTokens,
    cache_creation_input_tokens: parts.cacheWrite5mTokens + parts.cacheWrite1hTokens,
    cache_read_input_tokens: parts.cacheReadTokens,
    cache_creation: {
      ephemeral_5m_input_tokens: parts.cacheWrite5mTokens,
      ephemeral_1h_input_tokens: parts.cacheWrite1hTokens,
    },
  };
}

function toPlaceFields({ serviceTier, inferenceGeo, speed }: Consumption): JsonRecord {
  return { service_tier: serviceTier, inference_geo: inferenceGeo, speed };
}

function toFinalFields({ consumption, thinkingTokens, showIterations }: UsageFacts): JsonRecord {
  const searches = consumption.webSearchRequests;
  return {
    server_tool_use: searches === 0 ? null : { web_search_requests: searches, web_fetch_requests: 0 },
    output_tokens_details: { thinking_tokens: thinkingTokens },
    ...(showIterations ? { iterations: consumption.samplings.map(toIteration) } : {}),
  };
}

function toIteration(sampling: Sampling): JsonRecord {
  const namesModel = sampling.kind === "advisor_message" || sampling.kind === "fallback_message";
  return {
    type: sampling.kind,
    ...(namesModel ? { model: sampling.modelId } : {}),
    ...toInputFields(sampling),
    output_tokens: sampling.outputTokens,
  };
}

const NULLABLE = [
  "input_tokens",
  "cache_creation_input_tokens",
  "cache_read_input_tokens",
  "cache_creation",
  "server_tool_use",
  "output_tokens_details",
  "iterations",
  "service_tier",
  "inference_geo",
  "speed",
];

/** The usage as it is sent, after the fault and the edit that were asked for. */
export function spoilUsage(usage: JsonRecord, place: "start" | "delta" | "json", options: TellingOptions): unknown {
  const spoilt = options.usage === undefined ? usage : applyFault(usage, place, options.usage, options.usageField);
  return options.editUsage === undefined || !isRecord(spoilt) ? spoilt : options.editUsage(spoilt, place);
}

function applyFault(usage: JsonRecord, place: "start" | "delta" | "json", fault: UsageFault, field = "output_tokens"): unknown {
  if (fault === "missing") return undefined;
  if (fault === "zero") return zeroCounts(usage);
  if (place === "start") return usage;
  const count = Number(usage[field] ?? 0);
  switch (fault) {
    case "missing_final":
      return undefined;
    case "null":
      return null;
    case "null_fields":
      return nullFields(usage, place);
    case "negative":
      return { ...usage, [field]: -Math.max(1, count) };
    case "float":
      return { ...usage, [field]: count + 0.5 };
    case "string":
      return { ...usage, [field]: String(count) };
    case "huge":
      return { ...usage, [field]: 1e308 };
    case "repeated":
    case "falling":
      // Two reports: the events make them, one report is unspoiled.
      return usage;
  }
}

/** In `message_delta` a null means "as before"; in a JSON answer the prompt's own count has no before and stays. */
function nullFields(usage: JsonRecord, place: "delta" | "json"): JsonRecord {
  const nulled = NULLABLE.filter((name) => name in usage && (place === "delta" || name !== "input_tokens"));
  const kept = nulled.filter((name) => place === "json" && name.startsWith("cache_") && Number(usage[name]) > 0);
  return { ...usage, ...Object.fromEntries(nulled.filter((name) => !kept.includes(name)).map((name) => [name, null])) };
}

function zeroCounts(value: JsonRecord): JsonRecord {
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => {
      if (typeof inner === "number") return [key, 0];
      if (Array.isArray(inner)) return [key, inner.map((each) => zeroCounts(asRecord(each)))];
      return [key, isRecord(inner) ? zeroCounts(inner) : inner];
    }),
  );
}

export interface ReportedUsage {
  /** Of `message_start`; undefined in a JSON answer. */
  readonly start?: unknown;
  /** The reports that went out after it, in order; of a JSON answer, its one usage. */
  readonly final: readonly unknown[];
}

/**
 * What somebody pays who believes the last report.
 * @returns undefined where there is no final report, or a count in it is no count.
 */
export function toReportedCost(reported: ReportedUsage, truth: Consumption): bigint | undefined {
  const reports = reported.final.filter(isRecord);
  if (reports.length === 0) return undefined;
  const merged = [asRecord(reported.start), ...reports].reduce<JsonRecord>(overwriteNonNull, {});
  if (merged["output_tokens"] === undefined) return undefined;
  const samplings = readSamplings(merged, truth);
  const searches = readCount(asRecord(merged["server_tool_use"])["web_search_requests"]);
  if (samplings === undefined || searches === undefined) return undefined;
  return toCostNanoUsd({ ...truth, samplings, webSearchRequests: searches });
}

function overwriteNonNull(before: JsonRecord, after: JsonRecord): JsonRecord {
  return { ...before, ...Object.fromEntries(Object.entries(after).filter(([, value]) => value !== null)) };
}

function readSamplings(usage: JsonRecord, truth: Consumption): Sampling[] | undefined {
  const main = truth.samplings.findLast(({ kind }) => kind === "message" || kind === "fallback_message");
  const modelId = main?.modelId ?? "";
  const listed = asArray(usage["iterations"]).filter(isRecord);
  const total = readParts(usage);
  if (total === undefined) return undefined;
  if (listed.length === 0) return [{ kind: "message", modelId, ...total }];
  const samplings = listed.map((each) => toSampling(each, modelId));
  return samplings.every((sampling) => sampling !== undefined) ? samplings : undefined;
}

function toSampling(iteration: JsonRecord, modelId: string): Sampling | undefined {
  const parts = readParts(iteration);
  if (parts === undefined) return undefined;
  return { kind: iteration["type"] as Sampling["kind"], modelId: asText(iteration["model"]) ?? modelId, ...parts };
}

function readParts(usage: JsonRecord): TokenParts | undefined {
  const input = readCount(usage["input_tokens"]);
  const read = readCount(usage["cache_read_input_tokens"]);
  const output = readCount(usage["output_tokens"]);
  const written = readCount(usage["cache_creation_input_tokens"]);
  const written1h = readCount(asRecord(usage["cache_creation"])["ephemeral_1h_input_tokens"]);
  if (input === undefined || read === undefined || output === undefined || written === undefined || written1h === undefined)
    return undefined;
  return {
    inputTokens: input,
    cacheReadTokens: read,
    // Growth after message_start has no lifetimes; five minutes is what automatic writes get.
    cacheWrite5mTokens: Math.max(0, written - written1h),
    cacheWrite1hTokens: Math.min(written, written1h),
    outputTokens: output,
  };
}

/** Absent and null are none; anything that is no whole number from 0 to 2^53 − 1 is no count. */
function readCount(value: unknown): number | undefined {
  if (value === undefined || value === null) return 0;
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0 ? value : undefined;
}
