/**
 * Owns the arithmetic usage × price → cost, and the parts that explain it.
 * Does not own prices (prices/), the choice of a row (price-book.ts) or the bound of a call that has not run (bound.ts).
 * Invariant: everything is summed exactly and rounded up once, at the end, to a nano-dollar; what has no price is unpriced, never 0.
 */
import { formatDecimal, formatUsd, toNanoUsd, ZERO_USD, type NanoUsd } from "../money/money.ts";
import { totalInputTokens, type Sampling, type TokenParts, type Usage } from "../usage/usage.ts";
import { hasOwnCacheWrites, type PriceRow, type TokenMeter, type TokenPrices } from "./price.ts";

/** What a cost part counts. */
export type CostMeter = TokenMeter | "webSearch" | "unit";

/** A way of running that multiplies the price of tokens. */
export type MultiplierName = "batch" | "priority" | "flex" | "fast" | "usOnly";

/** One line of a cost, complete enough to check by hand: quantity ÷ unitQuantity × unitUsd × multipliers = costUsd. */
export interface CostPart {
  meter: CostMeter;
  /** The model that ran, as the provider named it. */
  model: string;
  kind: Sampling["kind"];
  /** The price row used. */
  priceId: string;
  quantity: number;
  /** Exact decimal text of US dollars per `unitQuantity`. */
  unitUsd: string;
  /** 1,000,000 for tokens, 1 for searches and units. */
  unitQuantity: 1_000_000 | 1;
  /** In basis points; all of them apply. Empty: none. */
  multipliers: { name: MultiplierName; bps: number }[];
  /** Exact decimal text, not rounded: the parts of a call add up to its cost before the one rounding. */
  costUsd: string;
}

/** A price that would have been needed. `model`: the model itself has no row. */
export interface MissingPrice {
  model: string;
  meter: CostMeter | MultiplierName | "model";
}

/**
 * - `rated`: the cost, rounded up to a nano-dollar once.
 * - `unpriced`: at least one count above zero has no price; `parts` holds what could be priced, as information only.
 *
 * `flags` are the usage's own, less those that made no difference to this cost. Any flag left means: not exact.
 */
export type RateResult =
  | { outcome: "rated"; costNanoUsd: NanoUsd; parts: CostPart[]; priceIds: string[]; flags: string[] }
  | { outcome: "unpriced"; missing: MissingPrice[]; parts: CostPart[]; priceIds: string[]; flags: string[] };

/** 1 in basis points. */
export const ONCE_BPS = 10_000;

/** Most multipliers that can apply to one token at once: tier, speed, geography. */
const MULTIPLIERS_MAX = 3;
const BPS = BigInt(ONCE_BPS);
const TOKENS_PER_MTOK = 1_000_000n;
/** Exact costs are whole numbers of 10^-18 nano-dollars: a millionth (per MTok) times 10^-4 for each multiplier. */
const EXACT_PER_NANO_USD = TOKENS_PER_MTOK * BPS ** BigInt(MULTIPLIERS_MAX);
const EXACT_DIGITS = 27;

/** Which part of a sampling each meter prices, and which one does in rows of a provider with cache lifetimes of its own. */
const METER_OF_PART: readonly [keyof TokenParts, TokenMeter, TokenMeter?][] = [
  ["uncachedInputTokens", "uncachedInput"],
  ["cacheReadTokens", "cacheRead"],
  ["cacheWrite5mTokens", "cacheWrite5m", "cacheWrite30m"],
  ["cacheWrite1hTokens", "cacheWrite1h", "cacheWrite12h"],
  ["outputTokens", "output"],
];

/**
 * Rates one call.
 *
 * @param find the row in force for a model, by the spelling the provider used; each sampling is rated by its own.
 */
export function rateUsage(usage: Usage, find: (model: string) => PriceRow | undefined): RateResult {
  const sheet: Sheet = { exact: 0n, parts: [], missing: [], priceIds: new Set(), isTierReached: false };
  for (const sampling of usage.samplings) rateSampling(sampling, usage, find(sampling.model), sheet);
  rateWebSearches(usage, find, sheet);
  rateUnits(usage, find, sheet);
  const flags = [...new Set(usage.flags)].filter((flag) => flag !== "tier_of_total" || sheet.isTierReached);
  const shared = { parts: sheet.parts, priceIds: [...sheet.priceIds], flags };
  if (sheet.missing.length > 0) return { outcome: "unpriced", missing: sheet.missing, ...shared };
  return { outcome: "rated", costNanoUsd: roundUp(sheet.exact), ...shared };
}

/** Adds the exact costs of parts, as decimal text: what a sum by hand must give. */
export function sumCostParts(parts: readonly CostPart[]): string {
  return formatDecimal(
    parts.map((part) => parseExact(part.costUsd)).reduce((sum, cost) => sum + cost, 0n),
    EXACT_DIGITS,
  );
}

/** The prices of a row for a sampling with this much input: the last tier whose threshold is passed, else the row's own. */
export function pricesFor(row: PriceRow, inputTokens: number): TokenPrices {
  return row.tiers.findLast((tier) => inputTokens > tier.aboveInputTokens)?.nanoUsdPerMTok ?? row.nanoUsdPerMTok;
}

interface Sheet {
  exact: bigint;
  parts: CostPart[];
  missing: MissingPrice[];
  priceIds: Set<string>;
  isTierReached: boolean;
}

function rateSampling(sampling: Sampling, usage: Usage, row: PriceRow | undefined, sheet: Sheet): void {
  const { model, tokens, kind } = sampling;
  const counted = METER_OF_PART.filter(([part]) => tokens[part] > 0);
  if (counted.length === 0) return;
  if (row === undefined) {
    sheet.missing.push({ model, meter: "model" });
    return;
  }
  sheet.priceIds.add(row.id);
  if (row.isFree) return;
  const multipliers = chooseMultipliers(usage, row, model, sheet);
  const prices = pricesFor(row, totalInputTokens(tokens));
  if (prices !== row.nanoUsdPerMTok) sheet.isTierReached = true;
  for (const [part, usual, own] of counted) {
    const meter = own !== undefined && hasOwnCacheWrites(row) ? own : usual;
    const price = prices[meter];
    if (price === undefined) sheet.missing.push({ model, meter });
    else
      addPart(
        sheet,
        { meter, model, kind, priceId: row.id, quantity: tokens[part], unitQuantity: 1_000_000 },
        price,
        multipliers,
      );
  }
}

/**
 * A search costs the same whatever ran around it: no multiplier is published for it. It belongs to the whole call, so the first
 * sampling's model prices it; a call whose tokens were not billed has no model left, and its searches stay unpriced.
 */
function rateWebSearches(usage: Usage, find: (model: string) => PriceRow | undefined, sheet: Sheet): void {
  if (usage.webSearchRequests === 0) return;
  const first = usage.samplings[0];
  const model = first?.model ?? "";
  const row = first === undefined ? undefined : find(model);
  if (row?.isFree === true) return;
  if (row?.nanoUsdPerWebSearch === undefined) {
    sheet.missing.push({ model, meter: "webSearch" });
    return;
  }
  sheet.priceIds.add(row.id);
  const kind = first?.kind ?? "message";
  const part = { meter: "webSearch", model, kind, priceId: row.id, quantity: usage.webSearchRequests, unitQuantity: 1 } as const;
  addPart(sheet, part, row.nanoUsdPerWebSearch, []);
}

/** The `priceId` of a cost that was stated, not counted. */
const STATED = "stated";

function rateUnits({ units, samplings }: Usage, find: (model: string) => PriceRow | undefined, sheet: Sheet): void {
  if (units === undefined) return;
  const { model = "", kind = "message" } = samplings[0] ?? {};
  if ("statedNanoUsd" in units) {
    addPart(sheet, { meter: "unit", model, kind, priceId: STATED, quantity: 1, unitQuantity: 1 }, units.statedNanoUsd, []);
    return;
  }
  const row = find(model);
  if (row?.nanoUsdPerUnit === undefined) {
    sheet.missing.push({ model, meter: "unit" });
    return;
  }
  sheet.priceIds.add(row.id);
  addPart(sheet, { meter: "unit", model, kind, priceId: row.id, quantity: units.count, unitQuantity: 1 }, row.nanoUsdPerUnit, []);
}

function chooseMultipliers(usage: Usage, row: PriceRow, model: string, sheet: Sheet): CostPart["multipliers"] {
  const wanted: [MultiplierName, number | undefined, boolean][] = [
    ["batch", row.batchBps, usage.serviceTier === "batch"],
    ["priority", row.priorityBps, usage.serviceTier === "priority"],
    ["flex", row.flexBps, usage.serviceTier === "flex"],
    ["fast", row.fastBps, usage.speed === "fast"],
    ["usOnly", row.usOnlyBps, usage.isUsOnly],
  ];
  const multipliers: CostPart["multipliers"] = [];
  for (const [name, bps, isWanted] of wanted) {
    if (!isWanted) continue;
    if (bps === undefined) sheet.missing.push({ model, meter: name });
    else if (bps !== ONCE_BPS) multipliers.push({ name, bps });
  }
  return multipliers;
}

function addPart(
  sheet: Sheet,
  part: Omit<CostPart, "unitUsd" | "multipliers" | "costUsd">,
  price: NanoUsd,
  multipliers: CostPart["multipliers"],
): void {
  let exact = BigInt(part.quantity) * price * (EXACT_PER_NANO_USD / BigInt(part.unitQuantity));
  // Each division is exact: EXACT_PER_NANO_USD holds a factor of 10,000 for every multiplier that can apply.
  for (const { bps } of multipliers) exact = (exact / BPS) * BigInt(bps);
  sheet.exact += exact;
  sheet.parts.push({ ...part, unitUsd: formatUsd(price), multipliers, costUsd: formatDecimal(exact, EXACT_DIGITS) });
}

function roundUp(exact: bigint): NanoUsd {
  if (exact === 0n) return ZERO_USD;
  return toNanoUsd((exact + EXACT_PER_NANO_USD - 1n) / EXACT_PER_NANO_USD);
}

function parseExact(text: string): bigint {
  const [whole = "0", fraction = ""] = text.split(".");
  return BigInt(whole) * 10n ** BigInt(EXACT_DIGITS) + BigInt(fraction.padEnd(EXACT_DIGITS, "0"));
}
