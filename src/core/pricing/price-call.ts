/**
 * Owns pricing one imagined call from its token counts, for the command line and for advice. Does not own real usage (providers/).
 * Invariant: the same arithmetic as a real call, so a figure shown before is the figure settled after.
 */
import type { TokenParts, Usage } from "../usage/usage.ts";
import type { PriceBook } from "./price.ts";
import { rateUsage, type RateResult } from "./rate.ts";

/** A call as a person describes it. */
export interface PriceCallInput {
  book: PriceBook;
  provider: string;
  model: string;
  /** When the call would be made: prices are dated. */
  atMs: number;
  tokens: TokenParts;
  isBatch: boolean;
  webSearchRequests?: number;
}

/** Prices one call of one sampling. */
export function priceCall(input: PriceCallInput): RateResult {
  const usage: Usage = {
    samplings: [{ kind: "message", model: input.model, tokens: input.tokens }],
    webSearchRequests: input.webSearchRequests ?? 0,
    serviceTier: input.isBatch ? "batch" : "standard",
    speed: "standard",
    isUsOnly: false,
    flags: [],
  };
  return rateUsage(usage, (model) => input.book.find(input.provider, model, input.atMs));
}
