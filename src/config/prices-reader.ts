/**
 * Owns the spelling of a person's own prices: `prices: { MODEL: … }` becomes price rows. Does not own the arithmetic (core/pricing).
 * Invariant: a price is exact text in nano-dollars per million tokens; what is not priced stays unpriced, and free is written as free.
 */
import type { NanoUsd } from "../core/money/money.ts";
import { checkPriceBand } from "../core/pricing/band.ts";
import type { PriceBook, PriceRow, TokenMeter } from "../core/pricing/price.ts";
import { newPriceRow, PRICE_FIELDS } from "../core/pricing/rows.ts";
import type { ConfigNode, MapEntry } from "./node.ts";
import { addMissing, describeFound, readChoice, readEntries, readFields, readText, readUsd } from "./fields.ts";
import type { Fields } from "./fields.ts";
import type { Place, Problems } from "./problems.ts";
import { quote } from "./problems.ts";

/** A price row with the place it was read at. */
export interface PlacedPrice {
  row: PriceRow;
  place: Place;
}

/** The meters a person can price, in the order in which they are told. */
export const PRICE_METERS = [
  "uncachedInput",
  "output",
  "cacheRead",
  "cacheWrite5m",
  "cacheWrite1h",
] as const satisfies readonly TokenMeter[];
const METER_KEYS = PRICE_METERS.map((meter) => PRICE_FIELDS[meter]);
export const UNIT_KEY = "usdPerUnit";
export const PRICE_KEYS = ["provider", ...METER_KEYS, UNIT_KEY, "from", "source", "free"] as const;
export const PROVIDERS = ["anthropic", "openai"] as const;
/** Names that an API which is paid per call cannot have. */
const RESERVED_NAMES: readonly string[] = [...PROVIDERS, "tool"];
export const FROM_DATE = /^\d{4}-\d{2}-\d{2}$/;
export const FROM_INSTANT = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(?::\d{2})?Z$/;

type PriceFields = Fields<(typeof PRICE_KEYS)[number]>;

/**
 * Reads `prices:` into rows, in the order in which they stand.
 *
 * @param known the built-in prices, if there are any at hand: an own price far from the known one of its model is a mistake of unit.
 */
export function readPrices(node: ConfigNode | undefined, known: PriceBook | undefined, problems: Problems): PlacedPrice[] {
  const allowed = "models and their prices: { MODEL: { inputUsdPerMTok: 3, outputUsdPerMTok: 15 } }";
  const entries = node === undefined ? [] : (readEntries(node, allowed, problems) ?? []);
  return entries.map((entry) => readPrice(entry, known, problems)).filter((price) => price !== undefined);
}

function readPrice(
  { key: model, keyPlace, value }: MapEntry,
  known: PriceBook | undefined,
  problems: Problems,
): PlacedPrice | undefined {
  const noted = problems.problems.length;
  const fields = readFields(value, PRICE_KEYS, problems);
  if (fields === undefined) return undefined;
  if (model.trim() === "" || model.includes("*")) {
    return problems.add(keyPlace, quote(model), "the full name of one model: prices match exactly");
  }
  if (fields.has(UNIT_KEY)) return readUnitPrice({ key: model, keyPlace, value }, fields, problems);
  const providerNode = fields.get("provider")?.value;
  const provider = providerNode === undefined ? "anthropic" : readChoice(providerNode, PROVIDERS, problems);
  const isFree = readFree(fields, problems);
  const prices = readMeters(fields, value.place, isFree, provider ?? "anthropic", problems);
  const from = readFrom(fields.get("from")?.value, problems);
  const sourceNode = fields.get("source")?.value;
  const source = sourceNode === undefined ? keyPlace.file : readText(sourceNode, "where the price comes from", problems);
  if (problems.problems.length > noted || provider === undefined || source === undefined) return undefined;
  const isEmbedding = !isFree && prices.output === undefined;
  const row = newPriceRow({
    provider,
    model,
    isFree,
    kind: isEmbedding ? "embedding" : "chat",
    fromMs: from,
    nanoUsdPerMTok: prices,
    source,
    confidence: "configured",
  });
  return checkUnits(row, fields, known, problems) ? { row, place: keyPlace } : undefined;
}

/** The price of an API that is paid per call: it is its own provider, and zero is free. */
function readUnitPrice({ key: name, keyPlace }: MapEntry, fields: PriceFields, problems: Problems): PlacedPrice | undefined {
  const noted = problems.problems.length;
  const beside = (["provider", "free", ...METER_KEYS] as const)
    .map((key) => fields.get(key))
    .find((entry) => entry !== undefined);
  const allowed = `${UNIT_KEY} with from and source alone: it prices what purser.meter(${quote(name)}, …) counts`;
  if (beside !== undefined) problems.add(beside.keyPlace, `${quote(beside.key)} beside ${UNIT_KEY}`, allowed);
  const taken = RESERVED_NAMES.find((reserved) => reserved === name);
  if (taken !== undefined) problems.add(keyPlace, quote(name), `another name: ${quote(name)} is a provider's`);
  const node = fields.get(UNIT_KEY)?.value;
  const nanoUsdPerUnit = node === undefined ? undefined : readUsd(node, problems);
  const fromMs = readFrom(fields.get("from")?.value, problems);
  const sourceNode = fields.get("source")?.value;
  const source = sourceNode === undefined ? keyPlace.file : readText(sourceNode, "where the price comes from", problems);
  if (problems.problems.length > noted || nanoUsdPerUnit === undefined || source === undefined) return undefined;
  const row = newPriceRow({
    provider: name,
    model: name,
    kind: "metered",
    isFree: nanoUsdPerUnit === 0n,
    fromMs,
    nanoUsdPerMTok: {},
    nanoUsdPerUnit,
    source,
    confidence: "configured",
  });
  return { row, place: keyPlace };
}

/** A price per token written as a price per million is a million times too low: refused at its line. */
function checkUnits(row: PriceRow, fields: PriceFields, known: PriceBook | undefined, problems: Problems): boolean {
  const noted = problems.problems.length;
  const knownRow = known?.find(row.provider, row.model, row.fromMs ?? Infinity);
  for (const meter of PRICE_METERS) {
    const price = row.nanoUsdPerMTok[meter];
    const node = fields.get(PRICE_FIELDS[meter])?.value;
    if (price === undefined || node === undefined) continue;
    const unusual = checkPriceBand({ ...row, nanoUsdPerMTok: { [meter]: price } }, knownRow);
    if (unusual !== undefined) problems.add(node.place, describeFound(node), `US dollars per million tokens (${unusual})`);
  }
  return problems.problems.length === noted;
}

function readFree(fields: PriceFields, problems: Problems): boolean {
  const entry = fields.get("free");
  if (entry === undefined) return false;
  const choice = readChoice(entry.value, ["true", "false"], problems);
  // What was meant as free is not told about missing prices as well.
  const isFree = choice !== "false";
  const priced = METER_KEYS.map((key) => fields.get(key)).find((price) => price !== undefined);
  if (choice === "true" && priced !== undefined)
    problems.add(priced.keyPlace, `${quote(priced.key)} beside free: true`, "prices, or free: true, not both");
  return isFree;
}

/** OpenAI's cache lifetimes are others: the shorter and the longer one have the prices of the shorter and the longer one. */
const OPENAI_METERS: Partial<Record<TokenMeter, TokenMeter>> = { cacheWrite5m: "cacheWrite30m", cacheWrite1h: "cacheWrite12h" };

/** Input is always needed; output as well, save for OpenAI's embedding models, which have none. */
function readMeters(
  fields: PriceFields,
  place: Place,
  isFree: boolean,
  provider: string,
  problems: Problems,
): Partial<Record<TokenMeter, NanoUsd>> {
  const prices: Partial<Record<TokenMeter, NanoUsd>> = {};
  for (const meter of PRICE_METERS) {
    const node = fields.get(PRICE_FIELDS[meter])?.value;
    const price = node === undefined ? undefined : readUsd(node, problems);
    if (price !== undefined) prices[(provider === "openai" ? OPENAI_METERS[meter] : undefined) ?? meter] = price;
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

function readFrom(node: ConfigNode | undefined, problems: Problems): number | undefined {
  if (node === undefined) return undefined;
  const allowed = "a day like 2026-11-01 (it begins at 00:00 UTC), or an instant like 2026-11-01T12:00Z";
  const text = node.kind === "text" && (FROM_DATE.test(node.text) || FROM_INSTANT.test(node.text)) ? node.text : undefined;
  const atMs = text === undefined ? Number.NaN : Date.parse(text);
  // The platform rolls 30 February over into March: what it reads has to be the day that was written.
  const isWritten = text !== undefined && !Number.isNaN(atMs) && new Date(atMs).toISOString().startsWith(text.slice(0, 10));
  return isWritten ? atMs : problems.add(node.place, describeFound(node), allowed);
}
