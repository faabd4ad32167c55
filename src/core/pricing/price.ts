/**
 * Owns the shape of a price row. Does not own the rows (prices/ and the configuration) or the arithmetic (rate.ts).
 * Invariant: a meter that is absent is unpriced, never free; free is written as `isFree`.
 */
import type { NanoUsd } from "../money/money.ts";

/** What a token can be counted as. `cacheWrite30m` and `cacheWrite12h` are OpenAI's. */
export type TokenMeter =
  | "uncachedInput"
  | "cacheRead"
  | "cacheWrite5m"
  | "cacheWrite1h"
  | "cacheWrite30m"
  | "cacheWrite12h"
  | "output";

/** Nano-dollars per million tokens, by meter. */
export type TokenPrices = Readonly<Partial<Record<TokenMeter, NanoUsd>>>;

/** How sure a row is: the publisher's own page, somebody quoting it, or concluded from neighbours. */
export type PriceConfidence = "official" | "secondary" | "inferred" | "configured";

/** The price of one model over one period. */
export interface PriceRow {
  /** Stable name of this row: `provider/model@from`. Stored with every cost. */
  id: string;
  provider: string;
  /** The provider's own full model name. */
  model: string;
  /** Other exact spellings of the same model: aliases and other platforms' ids. */
  aliases: readonly string[];
  kind: "chat" | "embedding" | "metered";
  /** In force from this instant on (epoch ms, inclusive); absent: from the model's release on. */
  fromMs: number | undefined;
  /** In force before this instant (epoch ms, exclusive): the next row of the model begins here. Absent: still in force. */
  untilMs: number | undefined;
  /** True only if somebody wrote that this model costs nothing. */
  isFree: boolean;
  nanoUsdPerMTok: TokenPrices;
  /**
   * Whole-request tiers by the total input of one sampling, rising: the last tier whose `aboveInputTokens` is passed replaces all prices.
   */
  tiers: readonly { aboveInputTokens: number; nanoUsdPerMTok: TokenPrices }[];
  /** Multipliers in basis points (10,000 = once). Absent: that way of running has no published price for this model. */
  batchBps: number | undefined;
  fastBps: number | undefined;
  priorityBps: number | undefined;
  flexBps: number | undefined;
  usOnlyBps: number | undefined;
  /**
   * Surcharge of other platforms' regional endpoints, where their model id names a region (`us.anthropic.…`). Absent: none is known,
   * and such a spelling has the row's own price.
   */
  regionalBps?: number | undefined;
  /** Nano-dollars per web search. Absent: unpriced. No multiplier applies to it. */
  nanoUsdPerWebSearch: NanoUsd | undefined;
  /** Nano-dollars per unit of an API that is paid per call. Absent: it is not, or unpriced. */
  nanoUsdPerUnit?: NanoUsd;
  /** Largest input of one sampling, in tokens. */
  contextTokensMax: number | undefined;
  /** Largest output of one call, in tokens. */
  outputTokensMax: number | undefined;
  /** Where the row comes from: an address, or the data set and its date. */
  source: string;
  confidence: PriceConfidence;
}

/** Finds the row in force for a model at an instant, by exact spelling (plus date suffixes and platform spellings). */
export interface PriceBook {
  /** All rows, for listings. */
  readonly rows: readonly PriceRow[];
  find(provider: string, model: string, atMs: number): PriceRow | undefined;
}

/** True for rows whose provider has cache lifetimes of its own (30 minutes, 12 hours) instead of 5 minutes and 1 hour. */
export function hasOwnCacheWrites(row: PriceRow): boolean {
  return row.nanoUsdPerMTok.cacheWrite30m !== undefined;
}
