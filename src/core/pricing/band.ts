/**
 * Owns telling a plausible price from a mistake of unit, and the worked example a person checks a price by.
 * Does not own refusing a configuration (config/): it says what was found and what is usual.
 * Invariant: every row of the built-in price data is inside the band (held by a test).
 */
import { formatUsd, NANO_USD_PER_USD } from "../money/money.ts";
import { NO_TOKENS } from "../usage/usage.ts";
import type { PriceRow, TokenMeter } from "./price.ts";
import { rateUsage } from "./rate.ts";
import { PRICE_FIELDS } from "./rows.ts";

/**
 * What a million tokens cost at known models, in US dollars: input from 0.02 (text-embedding-3-small) to 150 (o1-pro), output to 600
 * (o1-pro), cache reads from 0.005 (gpt-5-nano). A price per token written as per million is a million times too low, a price per
 * thousand a thousand times: both fall out of the band for all but the very cheapest and dearest models, and for a known model the
 * comparison with its own row catches those too.
 */
const BAND_USD: Readonly<Record<"input" | "cacheRead" | "output", { min: string; minNano: bigint; maxUsd: bigint }>> = {
  input: { min: "0.01", minNano: 10_000_000n, maxUsd: 600n },
  cacheRead: { min: "0.001", minNano: 1_000_000n, maxUsd: 600n },
  output: { min: "0.01", minNano: 10_000_000n, maxUsd: 1_200n },
};

/** How far an own price may be from the built-in price of the same model: a real discount is less, a wrong unit is a thousand or more. */
const KNOWN_RATIO_MAX = 100n;

/**
 * Checks that no price of a row looks like a wrong unit.
 *
 * @param known the built-in row of the same model, if there is one.
 * @returns a sentence with what was found and what is usual, or `undefined` if nothing looks wrong.
 */
export function checkPriceBand(row: PriceRow, known?: PriceRow): string | undefined {
  for (const prices of [row.nanoUsdPerMTok, ...row.tiers.map((tier) => tier.nanoUsdPerMTok)]) {
    for (const [meter, price] of Object.entries(prices) as [TokenMeter, bigint][]) {
      const problem = price === 0n ? undefined : (checkKnown(row, meter, price, known) ?? checkBand(row, meter, price));
      if (problem !== undefined) return problem;
    }
  }
  return undefined;
}

/** "1,000 input + 500 output tokens on MODEL cost $0.0105", for a person to see whether a price is what was meant. */
export function workedExample(row: PriceRow): string {
  const tokens = { ...NO_TOKENS, uncachedInputTokens: 1_000, outputTokens: row.kind === "embedding" ? 0 : 500 };
  const usage = {
    samplings: [{ kind: "message" as const, model: row.model, tokens }],
    webSearchRequests: 0,
    serviceTier: undefined,
    speed: undefined,
    isUsOnly: false,
    flags: [],
  };
  const rated = rateUsage(usage, () => row);
  const what = row.kind === "embedding" ? "1,000 input tokens" : "1,000 input + 500 output tokens";
  if (rated.outcome === "rated") return `${what} on ${row.model} cost $${formatUsd(rated.costNanoUsd)}`;
  const missing = rated.missing.map(({ meter }) => meter).join(" and ");
  return `${what} on ${row.model} have no price: ${missing} is missing`;
}

function checkBand(row: PriceRow, meter: TokenMeter, price: bigint): string | undefined {
  const band = BAND_USD[meter === "output" || meter === "cacheRead" ? meter : "input"];
  const isLow = price < band.minNano;
  if (!isLow && price <= band.maxUsd * NANO_USD_PER_USD) return undefined;
  return `${foundText(row, meter, price)}; usual is $${band.min} to $${band.maxUsd} per million tokens.${unitHint(price, isLow)}`;
}

function checkKnown(row: PriceRow, meter: TokenMeter, price: bigint, known: PriceRow | undefined): string | undefined {
  const usual = known?.nanoUsdPerMTok[meter];
  if (usual === undefined || usual === 0n) return undefined;
  const isLow = price * KNOWN_RATIO_MAX <= usual;
  if (!isLow && price < usual * KNOWN_RATIO_MAX) return undefined;
  return `${foundText(row, meter, price)}; its known price is $${formatUsd(usual)} per million tokens.${unitHint(price, isLow)}`;
}

function foundText(row: PriceRow, meter: TokenMeter, price: bigint): string {
  return `${PRICE_FIELDS[meter]} of ${row.model}: found $${formatUsd(price)} per million tokens`;
}

function unitHint(price: bigint, isLow: boolean): string {
  if (!isLow) {
    const smaller = [price / 1_000n, price / 1_000_000n].map((each) => formatUsd(each)).join(" or ");
    return ` If it is the price of a thousand or a million times as many tokens, write ${smaller}.`;
  }
  return ` If $${formatUsd(price)} is the price of one token, write ${formatUsd(price * 1_000_000n)}; of a thousand tokens, ${formatUsd(price * 1_000n)}.`;
}
