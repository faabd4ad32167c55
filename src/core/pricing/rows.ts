/**
 * Owns how price data (prices/*.json) becomes rows. Does not own the data or reading files.
 * Invariant: a price is read from decimal text, never through a float; what is not written is absent, and absent is unpriced.
 */
import { formatInstant, parseDay } from "../windows/instant.ts";
import { parseUsd, ZERO_USD, type NanoUsd } from "../money/money.ts";
import type { PriceConfidence, PriceRow, TokenMeter, TokenPrices } from "./price.ts";
import { ONCE_BPS } from "./rate.ts";

/** Price data that cannot be used: the place, what was found, what is allowed. */
export class PriceDataError extends Error {
  override readonly name = "PriceDataError";
}

/** The name each meter's price has in data: the unit is in it. */
export const PRICE_FIELDS = {
  uncachedInput: "inputUsdPerMTok",
  cacheRead: "cacheReadUsdPerMTok",
  cacheWrite5m: "cacheWrite5mUsdPerMTok",
  cacheWrite1h: "cacheWrite1hUsdPerMTok",
  cacheWrite30m: "cacheWrite30mUsdPerMTok",
  cacheWrite12h: "cacheWrite12hUsdPerMTok",
  output: "outputUsdPerMTok",
} as const satisfies Record<TokenMeter, string>;

const MULTIPLIER_FIELDS = {
  batchBps: "batchMultiplier",
  fastBps: "fastMultiplier",
  priorityBps: "priorityMultiplier",
  flexBps: "flexMultiplier",
  usOnlyBps: "usOnlyMultiplier",
  regionalBps: "regionalMultiplier",
} as const;

const ROW_FIELDS = new Set<string>(
  [
    "model",
    "aliases",
    "kind",
    "released",
    "from",
    "until",
    "free",
    "tiers",
    "webSearchUsdEach",
    "source",
    "confidence",
    "note",
  ].concat(["contextTokensMax", "outputTokensMax"], Object.values(PRICE_FIELDS), Object.values(MULTIPLIER_FIELDS)),
);
const TIER_FIELDS = new Set<string>(["aboveInputTokens", ...Object.values(PRICE_FIELDS)]);
const CONFIDENCES: readonly string[] = ["official", "secondary", "inferred", "configured"] satisfies PriceConfidence[];

/**
 * Reads one provider's price data.
 *
 * @remarks `released` only names the row: no call was made before a model's release, so its first price has no beginning to check, and
 * a clock that is behind does not make a known model unpriced. `from` begins a price in the middle of a model's life.
 * @param json the parsed file: `{ provider, rows: [{ model, kind, …UsdPerMTok, source, confidence, … }] }`.
 * @throws {@link PriceDataError} naming the place, what was found and what is allowed.
 */
export function parsePriceRows(json: unknown): PriceRow[] {
  const file = parseObject(json, "price data");
  const provider = parseText(file["provider"], "provider");
  const list = file["rows"];
  if (!Array.isArray(list)) throw refuse("rows", list, "a list of price rows");
  const rows = list.map((item, index) => parseRow(provider, item, `rows[${index}]`));
  refuseTwice(rows);
  return rows;
}

/**
 * A row from the few things every row has, with everything else absent, and the id every row of that model and period has.
 *
 * @param row `fromMs` and all else may be left out: what is left out has no price.
 */
export function newPriceRow(
  row: Partial<PriceRow> & Pick<PriceRow, "provider" | "model" | "nanoUsdPerMTok" | "source" | "confidence">,
): PriceRow {
  return {
    id: idOf(row.provider, row.model, row.fromMs, row.confidence),
    aliases: [],
    kind: "chat",
    fromMs: undefined,
    untilMs: undefined,
    isFree: false,
    tiers: [],
    batchBps: undefined,
    fastBps: undefined,
    priorityBps: undefined,
    flexBps: undefined,
    usOnlyBps: undefined,
    nanoUsdPerWebSearch: undefined,
    contextTokensMax: undefined,
    outputTokensMax: undefined,
    ...row,
  };
}

function parseRow(provider: string, json: unknown, place: string): PriceRow {
  const item = parseObject(json, place);
  const model = parseText(item["model"], `${place}.model`);
  const here = `${place} (${model})`;
  refuseUnknown(item, ROW_FIELDS, here);
  const isFree = item["free"] === true;
  const fromMs = parseInstant(item["from"], `${here}.from`);
  const releasedMs = parseInstant(item["released"], `${here}.released`);
  const row = newPriceRow({
    id: idOf(provider, model, fromMs ?? releasedMs, "official"),
    provider,
    model,
    aliases: parseAliases(item["aliases"], `${here}.aliases`),
    kind: parseChoice(item["kind"], ["chat", "embedding"], `${here}.kind`),
    fromMs,
    untilMs: parseInstant(item["until"], `${here}.until`),
    isFree,
    nanoUsdPerMTok: parsePrices(item, here),
    tiers: parseTiers(item["tiers"], `${here}.tiers`),
    ...parseMultipliers(item, here),
    nanoUsdPerWebSearch: parsePrice(item["webSearchUsdEach"], `${here}.webSearchUsdEach`),
    contextTokensMax: parseCount(item["contextTokensMax"], `${here}.contextTokensMax`),
    outputTokensMax: parseCount(item["outputTokensMax"], `${here}.outputTokensMax`),
    source: parseText(item["source"], `${here}.source`),
    confidence: parseChoice(item["confidence"], CONFIDENCES, `${here}.confidence`) as PriceConfidence,
  });
  const hasPrice = Object.keys(row.nanoUsdPerMTok).length > 0;
  if (!isFree && !hasPrice) throw refuse(here, "no price", 'at least one price per million tokens, or "free": true');
  // A zero is more often a gap in a data set than a gift. An embedding has no output, so its zero says nothing.
  const isZero = row.kind !== "embedding" && Object.values(row.nanoUsdPerMTok).includes(ZERO_USD);
  if (isZero) throw refuse(here, "a price of 0", 'a price above 0, no price at all where it is not known, or "free": true');
  return row;
}

function parsePrices(item: Readonly<Record<string, unknown>>, place: string): TokenPrices {
  const prices: Partial<Record<TokenMeter, NanoUsd>> = {};
  for (const [meter, field] of Object.entries(PRICE_FIELDS) as [TokenMeter, string][]) {
    const price = parsePrice(item[field], `${place}.${field}`);
    if (price !== undefined) prices[meter] = price;
  }
  return prices;
}

function parsePrice(value: unknown, place: string): NanoUsd | undefined {
  if (value === undefined) return undefined;
  const price = typeof value === "string" ? parseUsd(value) : undefined;
  if (price === undefined)
    throw refuse(place, value, 'US dollars as decimal text with at most nine decimal places, such as "3.75"');
  return price;
}

function parseTiers(value: unknown, place: string): PriceRow["tiers"] {
  if (value === undefined) return [];
  if (!Array.isArray(value)) throw refuse(place, value, "a list of tiers");
  const tiers = value.map((entry, index) => {
    const item = parseObject(entry, `${place}[${index}]`);
    refuseUnknown(item, TIER_FIELDS, `${place}[${index}]`);
    const aboveInputTokens = parseCount(item["aboveInputTokens"], `${place}[${index}].aboveInputTokens`);
    if (aboveInputTokens === undefined) throw refuse(`${place}[${index}].aboveInputTokens`, undefined, "a number of tokens");
    return { aboveInputTokens, nanoUsdPerMTok: parsePrices(item, `${place}[${index}]`) };
  });
  const isRising = tiers.every(({ aboveInputTokens }, index) => aboveInputTokens > (tiers[index - 1]?.aboveInputTokens ?? 0));
  if (!isRising) throw refuse(place, tiers.map((tier) => tier.aboveInputTokens).join(", "), "tiers with rising aboveInputTokens");
  return tiers;
}

function parseMultipliers(item: Readonly<Record<string, unknown>>, place: string): Partial<PriceRow> {
  const multipliers: Partial<Record<keyof typeof MULTIPLIER_FIELDS, number>> = {};
  for (const [key, field] of Object.entries(MULTIPLIER_FIELDS) as [keyof typeof MULTIPLIER_FIELDS, string][]) {
    const value = item[field];
    if (value === undefined) continue;
    const nano = typeof value === "string" ? parseUsd(value) : undefined;
    // The text has nine decimal places at most; a multiplier has four, the precision of basis points.
    const perBps = 1_000_000_000n / BigInt(ONCE_BPS);
    if (nano === undefined || nano % perBps !== 0n || nano === 0n) {
      throw refuse(
        `${place}.${field}`,
        value,
        'a multiplier above 0 as decimal text with at most four decimal places, such as "1.1"',
      );
    }
    multipliers[key] = Number(nano / perBps);
  }
  return multipliers;
}

function parseInstant(value: unknown, place: string): number | undefined {
  if (value === undefined) return undefined;
  const atMs = typeof value === "string" ? parseDay(value) : undefined;
  if (atMs !== undefined) return atMs;
  throw refuse(place, value, 'a day that exists, as "2026-10-07": the price holds from its beginning in UTC');
}

function parseAliases(value: unknown, place: string): string[] {
  if (value === undefined) return [];
  if (!Array.isArray(value)) throw refuse(place, value, "a list of names");
  return value.map((alias, index) => parseText(alias, `${place}[${index}]`));
}

function parseCount(value: unknown, place: string): number | undefined {
  if (value === undefined) return undefined;
  if (typeof value === "number" && Number.isSafeInteger(value) && value > 0) return value;
  throw refuse(place, value, "a whole number above 0");
}

function parseText(value: unknown, place: string): string {
  if (typeof value === "string" && value.trim() === value && value !== "") return value;
  throw refuse(place, value, "text without surrounding white space");
}

function parseChoice<Choice extends string>(value: unknown, allowed: readonly Choice[], place: string): Choice {
  const choice = allowed.find((each) => each === value);
  if (choice === undefined) throw refuse(place, value, allowed.join(" or "));
  return choice;
}

function parseObject(value: unknown, place: string): Readonly<Record<string, unknown>> {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw refuse(place, value, "an object");
}

function refuseUnknown(item: Readonly<Record<string, unknown>>, allowed: ReadonlySet<string>, place: string): void {
  const unknown = Object.keys(item).find((key) => !allowed.has(key));
  if (unknown !== undefined) throw refuse(`${place}.${unknown}`, item[unknown], `one of the fields ${[...allowed].join(", ")}`);
}

/** One name and period twice would make the price depend on the order of rows. */
function refuseTwice(rows: readonly PriceRow[]): void {
  const seen = new Map<string, PriceRow>();
  for (const row of rows) {
    for (const name of [row.model, ...row.aliases]) {
      const other = seen.get(`${name}@${row.fromMs}`);
      if (other !== undefined)
        throw refuse(`rows: ${row.model}`, `"${name}", also in ${other.model}`, "every name once per period");
      seen.set(`${name}@${row.fromMs}`, row);
    }
  }
}

function idOf(provider: string, model: string, fromMs: number | undefined, confidence: PriceConfidence): string {
  const from = fromMs === undefined ? "release" : formatInstant(fromMs).replace("T00:00:00Z", "");
  return `${confidence === "configured" ? "configured:" : ""}${provider}/${model}@${from}`;
}

function refuse(place: string, found: unknown, allowed: string): PriceDataError {
  return new PriceDataError(`${place}: found ${JSON.stringify(found) ?? "nothing"}, allowed: ${allowed}`);
}
