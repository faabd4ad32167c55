/**
 * Owns what a call is settled at, whatever way it ended (design §10). Does not own how usage is read (providers/) or rated
 * (core/pricing).
 * Invariants: final usage is taken as it is; where it is missing the amount is never below what the provider can have billed; a
 * missing figure is never zero.
 */
import type { CallResult } from "../core/decisions/operations.ts";
import { ZERO_USD } from "../core/money/money.ts";
import { rateUsage } from "../core/pricing/rate.ts";
import type { BuiltPriceBook } from "../core/pricing/price-book.ts";
import { hasOwnCacheWrites, type PriceRow } from "../core/pricing/price.ts";
import { NO_TOKENS, sumTokens, totalInputTokens, usageOfUnits, type TokenParts, type Usage } from "../core/usage/usage.ts";
import type { Candidate } from "../core/decisions/call.ts";
import { webSearchesMax } from "./candidates.ts";
import type { MeterReading, RequestFacts } from "../providers/provider.ts";

/** How a call that was sent ended. */
export type CallEnd =
  /** The answer came whole. */
  | { kind: "completed"; status: number; reading: MeterReading }
  /** The answer began and broke off, or the caller left while it came. */
  | { kind: "cut"; status: number; reading: MeterReading; by: "upstream" | "caller" }
  /** Sent, and no answer began: timed out, connection lost, or the caller left before it. */
  | { kind: "lost"; by: "upstream" | "caller" };

/** The fastest a model is taken to write until the ledger knows better (design §10). */
export const OUTPUT_TOKENS_PER_SECOND_MAX = 500;
/** Fast mode writes up to so many times as fast. */
const FAST_MODE_TIMES = 2.5;

export interface SettlementInput {
  end: CallEnd;
  candidate: Candidate;
  facts: RequestFacts;
  provider: string;
  book: BuiltPriceBook;
  onUnpricedModel: "deny" | "dearest";
  /** What a stream reported at its beginning, where the reservation was lowered to it; `undefined`: nothing that could be used. */
  reported?: Usage | undefined;
  /** When it was sent, and when it ended. Prices are those of the sending. */
  sentAtMs: number;
  endedAtMs: number;
  providerRequestId: string | undefined;
}

/** What the call is settled at. */
export function resultOf(input: SettlementInput): CallResult {
  const { end } = input;
  const reading = end.kind === "lost" ? undefined : end.reading;
  if (end.kind !== "lost" && isErrorStatus(end.status)) return nothingBilled(input, end.status, reading);
  // An error event before anything was generated is the provider's error answer in another coat.
  if (reading?.error !== undefined && reading.usage === undefined && input.facts.isBackground !== true) {
    return nothingBilled(input, end.kind === "lost" ? undefined : end.status, reading);
  }
  // A figure that is no count was left out by the reader: what is left may be any part of the truth. What was reported before stays.
  if (reading?.usage?.flags.includes("malformed_usage") === true) {
    const reported = atLeastReported(input.reported, reading.usage);
    const usage = reported === undefined ? unknownUsage(input) : cutUsage(input, reported);
    const flags = [reported === undefined ? "unknown" : "estimated", "malformed_usage"];
    return atLeastBound(input, ratedResult(input, usage, reading, flags));
  }
  if (reading?.usage !== undefined && isAllReported(reading)) return ratedResult(input, reading.usage, reading, []);
  if (reading?.usage !== undefined) {
    return atLeastBound(input, ratedResult(input, cutUsage(input, reading.usage), reading, ["estimated"]));
  }
  return atLeastBound(input, ratedResult(input, unknownUsage(input), reading, ["unknown"]));
}

/** What nothing in the request bounds may have cost as much as was reserved for it; no usage we could assume says so. */
function atLeastBound({ candidate, facts }: SettlementInput, result: CallResult): CallResult {
  const { costNanoUsd } = result;
  const { usdBound } = candidate;
  if (facts.unboundedParts.length === 0 || costNanoUsd === undefined || usdBound === undefined || costNanoUsd >= usdBound) {
    return result;
  }
  return { ...result, costNanoUsd: usdBound, flags: [...result.flags, "at_bound"] };
}

function isErrorStatus(status: number): boolean {
  return status < 200 || status >= 300;
}

/** A stop reason is only given once generation has ended: what was reported with it is all there is, whatever broke afterwards. */
function isAllReported({ isFinal, stopReason }: MeterReading): boolean {
  return isFinal || stopReason !== undefined;
}

function nothingBilled(input: RatedInput, status: number | undefined, reading: MeterReading | undefined): CallResult {
  return {
    ...describe(input, reading, status),
    costNanoUsd: ZERO_USD,
    tokens: { ...NO_TOKENS },
    costParts: [],
    priceIds: [],
    webSearchRequests: 0,
    isEstimated: false,
    flags: ["unbilled_error"],
  };
}

/** What rating a call's usage needs to know of it. */
export type RatedInput = Pick<SettlementInput, "book" | "provider" | "onUnpricedModel" | "sentAtMs" | "providerRequestId"> & {
  end: { kind: "lost" } | { kind: "completed" | "cut"; status: number };
  candidate: Pick<Candidate, "model">;
};

/** What a call is settled at by this usage, by the prices of its sending. */
export function ratedResult(
  input: RatedInput,
  usage: Usage,
  reading: MeterReading | undefined,
  flags: readonly string[],
): CallResult {
  const rated = rateUsage(usage, finderFor(input));
  // What has no price is unpriced, never free: such a call is counted at its bound until somebody prices it.
  const isPriced = rated.outcome === "rated" && !rated.flags.includes("unknown_meter");
  const isDearest = rated.priceIds.some((id) => id.endsWith("#dearest"));
  const all = [...flags, ...rated.flags, ...(isPriced ? [] : ["unpriced"]), ...(isDearest ? ["dearest_price"] : [])];
  return {
    ...describe(input, reading, input.end.kind === "lost" ? undefined : input.end.status),
    costNanoUsd: isPriced ? rated.costNanoUsd : undefined,
    tokens: sumTokens(usage),
    costParts: rated.parts,
    priceIds: rated.priceIds,
    webSearchRequests: usage.webSearchRequests,
    isEstimated: all.length > 0,
    flags: all,
  };
}

function finderFor({ book, provider, onUnpricedModel, sentAtMs }: RatedInput): (model: string) => PriceRow | undefined {
  return (model) =>
    book.find(provider, model, sentAtMs) ?? (onUnpricedModel === "dearest" ? book.dearest(provider, sentAtMs) : undefined);
}

function describe(input: RatedInput, reading: MeterReading | undefined, status: number | undefined) {
  return {
    model: reading?.model ?? input.candidate.model,
    status,
    stopReason: reading?.stopReason,
    providerRequestId: input.providerRequestId,
    error: reading?.error,
  };
}

/** What was reported while it could be read, and of what came later no figure that is lower. `undefined`: nothing to go by. */
function atLeastReported(reported: Usage | undefined, later: Usage): Usage | undefined {
  const [first] = reported?.samplings ?? [];
  const [last] = later.samplings;
  if (reported === undefined || first === undefined || last === undefined || later.samplings.length > 1) return undefined;
  const tokens = { ...first.tokens };
  for (const part of Object.keys(tokens) as (keyof TokenParts)[]) tokens[part] = Math.max(tokens[part], last.tokens[part]);
  return { ...reported, samplings: [{ ...first, tokens }] };
}

/** Reported input, and as much output as the model can have written by now. */
function cutUsage(input: SettlementInput, usage: Usage): Usage {
  const [last, ...before] = usage.samplings.toReversed();
  if (last === undefined) return unknownUsage(input);
  const written = before.reduce((sum, { tokens }) => sum + tokens.outputTokens, 0);
  const tokens = { ...last.tokens, outputTokens: Math.max(last.tokens.outputTokens, timeBasedOutput(input) - written) };
  const samplings = [...before.toReversed(), { ...last, tokens }];
  const serviceTier = usage.serviceTier ?? dearestTier(input);
  if (!isOpenEnded(input.facts)) return { ...usage, serviceTier, samplings };
  const reported = samplings.reduce((sum, sampling) => sum + totalInputTokens(sampling.tokens), 0);
  tokens[dearestInput(input)] += Math.max(0, input.candidate.inputTokensBound - reported);
  return { ...usage, serviceTier, samplings, webSearchRequests: Math.max(usage.webSearchRequests, webSearchesMax(input.facts)) };
}

/**
 * A tool loop of the provider's own reads its input again with every step and says of its searches at the end only: the first report
 * bounds nothing.
 */
function isOpenEnded({ serverTools, unboundedParts }: RequestFacts): boolean {
  return serverTools.length > 0 || unboundedParts.length > 0;
}

/** The part of input that is billed highest of those this request can cause. */
function dearestInput(input: SettlementInput): "cacheWrite1hTokens" | "cacheWrite5mTokens" | "uncachedInputTokens" {
  const { facts, candidate } = input;
  if (facts.cacheWrites === "1h") return "cacheWrite1hTokens";
  // A provider with lifetimes of its own writes its cache unasked.
  const row = finderFor(input)(candidate.model);
  const isWritten = facts.cacheWrites === "5m" || (row !== undefined && hasOwnCacheWrites(row));
  return isWritten ? "cacheWrite5mTokens" : "uncachedInputTokens";
}

/** Nothing was reported: the input bound at the dearest meter, the searches allowed, and the output that may have been written. */
function unknownUsage(input: SettlementInput): Usage {
  const { candidate, facts, end } = input;
  // Nobody can see whether the other side counted it: all that was asked for is taken as used.
  if (facts.units !== undefined) return usageOfUnits(facts.units, candidate.model);
  // An answer that came whole has all its output, however fast it was written; one that goes on in the background will have.
  const goesOn = facts.isBackground === true || (end.kind === "cut" && end.reading.continuesAs !== undefined);
  const isWritten = end.kind === "completed" || goesOn;
  const outputTokens = isWritten ? candidate.outputTokensBound : timeBasedOutput(input);
  const tokens: TokenParts = { ...NO_TOKENS, outputTokens };
  tokens[dearestInput(input)] = candidate.inputTokensBound;
  return {
    samplings: [{ kind: "message", model: candidate.model, tokens }],
    webSearchRequests: webSearchesMax(facts),
    serviceTier: dearestTier(input),
    speed: facts.speed,
    // Where the request does not say, the account's default decides, and it may be the dearer one.
    isUsOnly: facts.isUsOnly ?? finderFor(input)(candidate.model)?.usOnlyBps !== undefined,
    flags: [],
  };
}

/** Where nothing says which tier ran: the dearer one, if it may have been. */
function dearestTier(input: SettlementInput): Usage["serviceTier"] {
  const { facts, candidate } = input;
  const isPriority = facts.isPriority ?? finderFor(input)(candidate.model)?.priorityBps !== undefined;
  return isPriority ? "priority" : undefined;
}

function timeBasedOutput({ candidate, facts, sentAtMs, endedAtMs }: SettlementInput): number {
  const isFast = facts.speed === "fast" || facts.isPriority === true;
  const tokensPerSecond = OUTPUT_TOKENS_PER_SECOND_MAX * facts.choices * (isFast ? FAST_MODE_TIMES : 1);
  const seconds = (endedAtMs - sentAtMs) / 1_000 + 1;
  return Math.min(candidate.outputTokensBound, Math.ceil(seconds * tokensPerSecond) + facts.extraOutputTokens);
}

/** What a running call still needs, once its input was reported. */
export interface RenewedBounds {
  inputTokensBound: number;
  outputTokensBound: number;
  reported: Usage;
  /** What was reported, with all the output that was asked for. */
  usage: Usage;
}

/** Bounds that a running call still needs; `undefined`: nothing is known that lowers them. */
export function renewedBounds(reading: MeterReading, candidate: Candidate, facts: RequestFacts): RenewedBounds | undefined {
  // At its end there is nothing left to lower; and what has no price is counted at what stays reserved.
  if (reading.usage === undefined || reading.isFinal || isOpenEnded(facts)) return undefined;
  if (reading.usage.flags.some((flag) => flag === "malformed_usage" || flag === "unknown_meter")) return undefined;
  // Which of two prices applies is said at the end.
  if (reading.usage.serviceTier === undefined && facts.isPriority !== false) return undefined;
  const [last] = reading.usage.samplings;
  if (last === undefined || reading.usage.samplings.length > 1) return undefined;
  const tokens = { ...last.tokens, outputTokens: candidate.outputTokensBound };
  const usage = { ...reading.usage, samplings: [{ ...last, tokens }] };
  const { outputTokensBound } = candidate;
  return { inputTokensBound: totalInputTokens(tokens), outputTokensBound, reported: reading.usage, usage };
}
