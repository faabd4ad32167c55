/**
 * Owns what a decision is asked about: a call, and the models it could run on with the bound of each.
 * Does not own how bounds are found (engine/, providers/, core/pricing).
 */
import type { NanoUsd } from "../money/money.ts";
import { boundAt, type BoundLine } from "../pricing/bound.ts";
import { isSpentAtOnce, type Limit, type Measure, type Scopes } from "../limits/limit.ts";

/** One model that a call could run on, and the most it could cost there. The first candidate is the model asked for. */
export interface Candidate {
  /** As it is spelled upstream. */
  model: string;
  /** The price book's own name of the model, so that another spelling is no other scope value. */
  canonicalModel: string;
  /** Why this model would not accept the request; `undefined`: it would. */
  rejectedBy: string | undefined;
  /** max_tokens to run with; `undefined`: the request names none. */
  maxTokens: number | undefined;
  inputTokensBound: number;
  /** Present where its input is bounded by an earlier call that it extends. */
  extension?: Extension;
  /** Present where its input is bounded by the provider's own count of it. */
  countedTokens?: number;
  /** True: the provider can still be asked for its count. */
  isCountable?: boolean;
  outputTokensBound: number;
  /** The proven bound without unbounded parts; `undefined`: no price is known. */
  usdBound: NanoUsd | undefined;
  /** Parts of the request that nothing bounds, by name. */
  unboundedParts: readonly string[];
  /** What ten more calls like this are expected to cost, a cache rewrite included; `undefined`: unknown. */
  tenCallsNanoUsd: bigint | undefined;
  priceIds: readonly string[];
  /** How its bound follows max_tokens; absent: it cannot be made smaller, or has parts that max_tokens does not bound. */
  fit?: Fit;
}

/** What bounds the input of a call that extends an earlier one: what that one read, its answer, and what is new. */
export interface Extension {
  /** What the provider reported of the earlier call. */
  inputTokens: number;
  outputTokens: number;
  /** The most that its answer can be, as it is sent back. Absent in decisions stored before: it was part of what is new. */
  answerTokens?: number;
  /** The most that the rest of what is new can add. */
  newTokens: number;
}

/** The most it reads: of the answer as it was reported and as it is sent back, the greater counts. */
export function extendedTokens({ inputTokens, outputTokens, answerTokens = 0, newTokens }: Extension): number {
  return inputTokens + Math.max(outputTokens, answerTokens) + newTokens;
}

/** A call that may run with less output than it asked for. */
export interface Fit {
  /** The smallest max_tokens with which its answer is still of use; below what was asked. */
  leastMaxTokens: number;
  /** Its bound in money; `undefined`: no price is known. */
  usd: BoundLine | undefined;
}

/** The candidate with fewer tokens of output. */
export function withMaxTokens(candidate: Candidate, maxTokens: number): Candidate {
  const usdBound = candidate.fit?.usd === undefined ? candidate.usdBound : boundAt(candidate.fit.usd, maxTokens);
  return { ...candidate, maxTokens, outputTokensBound: maxTokens, usdBound };
}

/** What is known of a call before it is decided. */
export interface CallFacts {
  callId: string;
  scopes: Scopes;
  provider: string;
  requestedModel: string;
  /** 0 for the first attempt, as the client counts. */
  attempt: number;
  isStream: boolean;
  /** What the caller says of itself without being allowed to be limited by it: what reports group `user` and tags by. */
  attribution: { user: string; tags: Readonly<Record<string, string>> };
  history: { hasAssistantTurn: boolean; isAnsweringTool: boolean; hasThinking: boolean };
}

/**
 * How much of a limit a candidate may take: in nano-dollars for usd, whole numbers otherwise; `undefined` where nothing bounds it.
 */
export function boundIn(limit: Limit, candidate: Candidate): bigint | undefined {
  if (limit.measure !== "usd") {
    // A part without a bound is unbounded in tokens as it is in money; what one call counts once is bounded by being one call.
    const isCounted = isSpentAtOnce(limit.measure) || limit.measure === "concurrency";
    return isCounted || candidate.unboundedParts.length === 0 ? boundOf(limit.measure, candidate) : undefined;
  }
  if (candidate.usdBound === undefined) return undefined;
  if (candidate.unboundedParts.length === 0) return candidate.usdBound;
  const reserve = limit.unboundedReserveNanoUsd;
  return reserve === undefined ? undefined : reserve > candidate.usdBound ? reserve : candidate.usdBound;
}

function boundOf(measure: Exclude<Measure, "usd">, { inputTokensBound, outputTokensBound }: Candidate): bigint {
  switch (measure) {
    case "tokens":
      return BigInt(inputTokensBound + outputTokensBound);
    case "inputTokens":
      return BigInt(inputTokensBound);
    case "outputTokens":
      return BigInt(outputTokensBound);
    case "requests":
    case "concurrency":
    case "toolCalls":
      return 1n;
  }
}
