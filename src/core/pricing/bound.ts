/**
 * Owns the most a call can cost before it has run: the dearest rate that may apply, times the most tokens there may be.
 * Does not own how many tokens those are (providers/), nor parts of a call that nothing bounds.
 * Invariant: no usage within the bounds is ever rated above the bound (held by a property test over every row of the book).
 */
import { toNanoUsd, ZERO_USD, type NanoUsd } from "../money/money.ts";
import { hasOwnCacheWrites, type PriceRow, type TokenMeter, type TokenPrices } from "./price.ts";
import { ONCE_BPS } from "./rate.ts";

/** How much a call can use at most, and in which ways it may run. */
export interface BoundCostInput {
  /** All input of all its samplings, cached or not. */
  inputTokens: number;
  outputTokens: number;
  /** The longest-lived cache write the request can cause; 1h includes 5m. */
  cacheWrites: "none" | "5m" | "1h";
  /** What was asked. A fast call may still run at standard speed, so the dearer of the two counts. */
  speed: "standard" | "fast";
  /** `undefined`: not said, so the account's default may be US-only, and the surcharge counts where the model has one. */
  isUsOnly: boolean | undefined;
  /** `undefined`: not said, so the account's default may be a priority tier, and its multiplier counts where the model has one. */
  isPriority: boolean | undefined;
  /** True: one line of a batch. A fast one counts as if it were none: what a provider makes of both together is not published. */
  isBatch?: boolean;
  webSearches: number;
}

/**
 * The bound of a call by its output: rounded up once, `(fixed + output tokens × perOutputToken) / {@link LINE_DIVISOR}`, plus what its
 * searches cost. Exact, so that it can be turned round: how much output an amount of money affords.
 */
export interface BoundLine {
  fixed: bigint;
  perOutputToken: bigint;
  searches: NanoUsd;
}

/** Nano-dollars per million tokens, times two factors in basis points. */
const LINE_DIVISOR = 1_000_000n * BigInt(ONCE_BPS) ** 2n;

/**
 * The most a call can cost, in nano-dollars, rounded up.
 *
 * @returns `undefined` if a price that may be needed is unknown: such a call has no bound.
 */
export function boundCost(row: PriceRow, input: BoundCostInput): NanoUsd | undefined {
  const line = boundLine(row, input);
  return line && boundAt(line, input.outputTokens);
}

/** The same for any output up to `input.outputTokens`. */
export function boundLine(row: PriceRow, input: BoundCostInput): BoundLine | undefined {
  if (row.isFree) return { fixed: 0n, perOutputToken: 0n, searches: ZERO_USD };
  const speedBps = input.speed === "fast" ? row.fastBps : ONCE_BPS;
  const geoBps = surchargeBps(row.usOnlyBps, input.isUsOnly);
  const priorityBps = surchargeBps(row.priorityBps, input.isPriority);
  const nanoUsdPerSearch = input.webSearches === 0 ? ZERO_USD : row.nanoUsdPerWebSearch;
  const inputPrice = input.inputTokens === 0 ? ZERO_USD : dearestInput(row, input);
  const outputPrice = input.outputTokens === 0 ? ZERO_USD : dearestOutput(row, input);
  const isBatchPriced = input.isBatch === true && input.speed === "standard" && input.isPriority === false;
  const wayBps = isBatchPriced ? row.batchBps : dearestWay(speedBps, priorityBps);
  if (wayBps === undefined || geoBps === undefined || nanoUsdPerSearch === undefined) return undefined;
  if (inputPrice === undefined || outputPrice === undefined) return undefined;

  const factor = BigInt(wayBps) * BigInt(Math.max(geoBps, ONCE_BPS));
  return {
    fixed: BigInt(input.inputTokens) * inputPrice * factor,
    perOutputToken: outputPrice * factor,
    searches: toNanoUsd(BigInt(input.webSearches) * nanoUsdPerSearch),
  };
}

/** The bound with so many tokens of output. */
export function boundAt({ fixed, perOutputToken, searches }: BoundLine, outputTokens: number): NanoUsd {
  const scaled = fixed + BigInt(outputTokens) * perOutputToken;
  return toNanoUsd((scaled + LINE_DIVISOR - 1n) / LINE_DIVISOR + searches);
}

/** The most tokens of output, up to `most`, whose bound is within an amount; negative if not even none are. */
export function outputWithin({ fixed, perOutputToken, searches }: BoundLine, nanoUsd: bigint, most: number): number {
  // Rounded up, a sum is within a whole amount exactly if it is so unrounded.
  const left = (nanoUsd - searches) * LINE_DIVISOR - fixed;
  if (left < 0n) return -1;
  if (perOutputToken === 0n) return most;
  const tokens = left / perOutputToken;
  return tokens < BigInt(most) ? Number(tokens) : most;
}

/** No model runs fast and with priority at once. */
function dearestWay(speedBps: number | undefined, priorityBps: number | undefined): number | undefined {
  return speedBps === undefined || priorityBps === undefined ? undefined : Math.max(speedBps, priorityBps, ONCE_BPS);
}

/** What is not said may apply where it has a price; what is asked for needs one. */
function surchargeBps(bps: number | undefined, isAsked: boolean | undefined): number | undefined {
  return isAsked === false ? ONCE_BPS : (bps ?? (isAsked === true ? undefined : ONCE_BPS));
}

/** Every set of prices some sampling of the call may be rated by: input may be spread over several samplings, so base always counts. */
function reachablePrices(row: PriceRow, inputTokens: number): TokenPrices[] {
  const tiers = row.tiers.filter(({ aboveInputTokens }) => inputTokens > aboveInputTokens);
  return [row.nanoUsdPerMTok, ...tiers.map(({ nanoUsdPerMTok }) => nanoUsdPerMTok)];
}

function dearestInput(row: PriceRow, input: BoundCostInput): NanoUsd | undefined {
  const needed: TokenMeter[] = ["uncachedInput"];
  if (input.cacheWrites !== "none" && !hasOwnCacheWrites(row)) needed.push("cacheWrite5m");
  if (input.cacheWrites === "1h" && !hasOwnCacheWrites(row)) needed.push("cacheWrite1h");
  if (input.cacheWrites === "1h" && hasOwnCacheWrites(row)) needed.push("cacheWrite12h");
  // OpenAI writes its cache unasked from 1,024 tokens on, so those meters count whenever the row prices them.
  const possible: TokenMeter[] = ["cacheRead", "cacheWrite30m"];
  return dearest(reachablePrices(row, input.inputTokens), needed, possible);
}

function dearestOutput(row: PriceRow, input: BoundCostInput): NanoUsd | undefined {
  return dearest(reachablePrices(row, input.inputTokens), ["output"], []);
}

function dearest(prices: readonly TokenPrices[], needed: TokenMeter[], possible: TokenMeter[]): NanoUsd | undefined {
  let most = ZERO_USD;
  for (const set of prices) {
    if (needed.some((meter) => set[meter] === undefined)) return undefined;
    for (const meter of [...needed, ...possible]) {
      const price = set[meter];
      if (price !== undefined && price > most) most = price;
    }
  }
  return most;
}
