/**
 * Owns the spelling of a person's own prices: `prices: { MODEL: … }` becomes price rows. Does not own the arithmetic (core/pricing).
 * Invariant: a price is exact text in nano-dollars per million tokens; what is not priced stays unpriced, and free is written as free.
 */
import type { NanoUsd } from "../core/money/money.ts";
import type { PriceRow, TokenMeter } from "../core/pricing/price.ts";
import type { ConfigNode, MapEntry } from "./document.ts";
import { addMissing, describeFound, readChoice, readEntries, readFields, readText, readUsd } from "./fields.ts";
import type { Fields } from "./fields.ts";
import type { Place, Problems } from "./problems.ts";
import { quote } from "./problems.ts";

/** A price row with the place it was read at. */
export interface PlacedPrice {
  row: PriceRow;
  place: Place;
}

export const PRICE_METERS = [
  ["inputUsdPerMTok", "uncachedInput"],
  ["outputUsdPerMTok", "output"],
  ["cacheReadUsdPerMTok", "cacheRead"],
  ["cacheWrite5mUsdPerMTok", "cacheWrite5m"],
  ["cacheWrite1hUsdPerMTok", "cacheWrite1h"],
] as const satisfies readonly (readonly [string, TokenMeter])[];
export const PRICE_KEYS = ["provider", ...PRICE_METERS.map(([key]) => key), "from", "source", "free"] as const;
export const PROVIDERS = ["anthropic", "openai"] as const;
export const FROM_DATE = /^\d{4}-\d{2}-\d{2}$/;
export const FROM_INSTANT = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(?::\d{2})?Z$/;

type PriceFields = Fields<(typeof PRICE_KEYS)[number]>;

/** Reads `prices:` into rows, in the order in which they stand. */
export function readPrices(node: ConfigNode | undefined, problems: Problems): PlacedPrice[] {
  const allowed = "models and their prices: { MODEL: { inputUsdPerMTok: 3, outputUsdPerMTok: 15 } }";
  const entries = node === undefined ? [] : (readEntries(node, allowed, problems) ?? []);
  return entries.map((entry) => readPrice(entry, problems)).filter((price) => price !== undefined);
}

function readPrice({ key: model, keyPlace, value }: MapEntry, problems: Problems): PlacedPrice | undefined {
  const noted = problems.problems.length;
  const fields = readFields(value, PRICE_KEYS, problems);
  if (fields === undefined) return undefined;
  if (model.trim() === "" || model.includes("*")) {
    return problems.add(keyPlace, quote(model), "the full name of one model: prices match exactly");
  }
  const providerNode = fields.get("provider")?.value;
  const provider = providerNode === undefined ? "anthropic" : readChoice(providerNode, PROVIDERS, problems);
  const isFree = readFree(fields, problems);
  const prices = readMeters(fields, value.place, isFree, provider ?? "anthropic", problems);
  const from = readFrom(fields.get("from")?.value, problems);
  const sourceNode = fields.get("source")?.value;
  const source = sourceNode === undefined ? keyPlace.file : readText(sourceNode, "where the price comes from", problems);
  if (problems.problems.length > noted || provider === undefined || source === undefined) return undefined;
  return { row: buildRow({ model, provider, isFree, prices, from, source }), place: keyPlace };
}

function readFree(fields: PriceFields, problems: Problems): boolean {
  const entry = fields.get("free");
  if (entry === undefined) return false;
  const isFree = readChoice(entry.value, ["true", "false"], problems) === "true";
  const priced = PRICE_METERS.map(([key]) => fields.get(key)).find((price) => price !== undefined);
  if (isFree && priced !== undefined)
    problems.add(priced.keyPlace, `${quote(priced.key)} beside free: true`, "prices, or free: true, not both");
  return isFree;
}

/** Input is always needed; output as well, save for OpenAI's embedding models, which have none. */
function readMeters(
  fields: PriceFields,
  place: Place,
  isFree: boolean,
  provider: string,
  problems: Problems,
): Partial<Record<TokenMeter, NanoUsd>> {
  const prices: Partial<Record<TokenMeter, NanoUsd>> = {};
  for (const [key, meter] of PRICE_METERS) {
    const node = fields.get(key)?.value;
    const price = node === undefined ? undefined : readUsd(node, problems);
    if (price !== undefined) prices[meter] = price;
  }
  if (isFree) return prices;
  const allowed = "US dollars per million tokens like 3 (or free: true)";
  if (!fields.has("inputUsdPerMTok")) addMissing(place, "inputUsdPerMTok", allowed, problems);
  if (!fields.has("outputUsdPerMTok") && provider === "anthropic") addMissing(place, "outputUsdPerMTok", allowed, problems);
  const written = Object.values(prices);
  if (written.length > 0 && written.every((price) => price === 0n)) {
    problems.add(place, "prices that are all 0", "free: true for a model that costs nothing");
  }
  return prices;
}

function readFrom(node: ConfigNode | undefined, problems: Problems): { text: string; atMs: number } | undefined {
  if (node === undefined) return undefined;
  const allowed = "a day like 2026-11-01 (it begins at 00:00 UTC), or an instant like 2026-11-01T12:00Z";
  const text = node.kind === "text" && (FROM_DATE.test(node.text) || FROM_INSTANT.test(node.text)) ? node.text : undefined;
  const atMs = text === undefined ? Number.NaN : Date.parse(text);
  // The platform rolls 30 February over into March: what it reads has to be the day that was written.
  if (text !== undefined && !Number.isNaN(atMs) && new Date(atMs).toISOString().startsWith(text.slice(0, 10)))
    return { text, atMs };
  return problems.add(node.place, describeFound(node), allowed);
}

function buildRow(price: {
  model: string;
  provider: string;
  isFree: boolean;
  prices: PriceRow["nanoUsdPerMTok"];
  from: { text: string; atMs: number } | undefined;
  source: string;
}): PriceRow {
  const { model, provider, isFree, prices, from, source } = price;
  return {
    id: `configured/${model}@${from?.text ?? "always"}`,
    provider,
    model,
    aliases: [],
    kind: isFree || prices.output !== undefined ? "chat" : "embedding",
    fromMs: from?.atMs,
    untilMs: undefined,
    isFree,
    nanoUsdPerMTok: prices,
    tiers: [],
    batchBps: undefined,
    fastBps: undefined,
    priorityBps: undefined,
    flexBps: undefined,
    usOnlyBps: undefined,
    nanoUsdPerWebSearch: undefined,
    contextTokensMax: undefined,
    outputTokensMax: undefined,
    source,
    confidence: "configured",
  };
}
