/**
 * Owns what a provider counted for one call, in disjoint parts, without any money in it but a cost that is stated instead of counted.
 * Does not own how a provider spells it (providers/) or what it costs (core/pricing).
 * Invariant: the five token parts never overlap; `undefined` means "the provider did not say", zero means zero.
 */
import type { NanoUsd } from "../money/money.ts";

/** Tokens of one sampling in disjoint parts. Whole numbers, at least 0. */
export interface TokenParts {
  /** Input neither read from nor written to a cache. */
  uncachedInputTokens: number;
  cacheReadTokens: number;
  /** Written with the provider's shorter lifetime: 5 minutes at Anthropic, 30 at OpenAI. */
  cacheWrite5mTokens: number;
  /** Written with the longer one: an hour at Anthropic, twelve at OpenAI. */
  cacheWrite1hTokens: number;
  /** All output, reasoning included: what is billed as output. */
  outputTokens: number;
  /** The part of `outputTokens` spent on reasoning. A breakdown, never added. */
  reasoningOutputTokens: number;
}

/** One run of one model inside a call. Most calls are one sampling; server-tool loops, fallbacks and advisors are several. */
export interface Sampling {
  kind: "message" | "compaction" | "advisor" | "fallback";
  /** The model that ran, as the provider named it. */
  model: string;
  tokens: TokenParts;
}

/** What an API that is paid per call counted (searches, images, seconds), or what it said that they cost. */
export type PaidUnits = { count: number } | { statedNanoUsd: NanoUsd };

/** What one call used, as far as its provider said. */
export interface Usage {
  /** Billed samplings, in order. Empty: nothing was billed. */
  samplings: Sampling[];
  webSearchRequests: number;
  /** Absent: it is paid by tokens. Belongs to the first sampling's model. */
  units?: PaidUnits;
  /** The tier that really ran. */
  serviceTier: "standard" | "batch" | "priority" | "flex" | undefined;
  speed: "standard" | "fast" | undefined;
  /** True if inference ran in the US only, at the provider's surcharge. */
  isUsOnly: boolean;
  /** Reasons to doubt a figure, such as `cache_ttl_unknown` or `usage_fell`; a call with one of them is not exact. */
  flags: UsageFlag[];
}

/**
 * - `cache_ttl_unknown`: cache writes without their lifetime; priced as said at the place that sets it.
 * - `usage_fell`: a later report was lower than an earlier one; the higher value was kept.
 * - `tier_of_total`: a server-tool loop without its single samplings, priced in the tier of its total (the dearer reading).
 * - `malformed_usage`: a figure is no whole number from 0 to 10^10, or is missing although the answer has ended: what is left may be any
 *   part of the truth.
 * - `usage_contradicts`: two figures that should agree do not; the dearer reading was taken.
 * - `unknown_meter`: something was counted, or a way of running named, that this version has no price for.
 * - `message_restarted`: a second message began inside one stream; what the first had used so far is counted beside it.
 */
export type UsageFlag =
  | "cache_ttl_unknown"
  | "usage_fell"
  | "tier_of_total"
  | "malformed_usage"
  | "usage_contradicts"
  | "unknown_meter"
  | "message_restarted";

/** No tokens at all. */
export const NO_TOKENS: Readonly<TokenParts> = {
  uncachedInputTokens: 0,
  cacheReadTokens: 0,
  cacheWrite5mTokens: 0,
  cacheWrite1hTokens: 0,
  outputTokens: 0,
  reasoningOutputTokens: 0,
};

/** The usage of a call that is paid by units alone. */
export function usageOfUnits(units: PaidUnits, model: string): Usage {
  return {
    samplings: [{ kind: "message", model, tokens: { ...NO_TOKENS } }],
    webSearchRequests: 0,
    units,
    serviceTier: undefined,
    speed: undefined,
    isUsOnly: false,
    flags: [],
  };
}

/** All input of one sampling: what long-context tiers are chosen by. */
export function totalInputTokens(tokens: TokenParts): number {
  return tokens.uncachedInputTokens + tokens.cacheReadTokens + tokens.cacheWrite5mTokens + tokens.cacheWrite1hTokens;
}

/** The parts of all samplings added up, for reports and token limits. */
export function sumTokens(usage: Usage): TokenParts {
  const sum = { ...NO_TOKENS };
  for (const { tokens } of usage.samplings) {
    for (const part of Object.keys(NO_TOKENS) as (keyof TokenParts)[]) sum[part] += tokens[part];
  }
  return sum;
}
