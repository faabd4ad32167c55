/**
 * Builds prices/anthropic.json and prices/openai.json from a reference folder that holds `model_prices.json` (LiteLLM's table, copy of
 * 2026-08-01, MIT) and `model_prices_overlay.json` (what came after it, and corrections), plus what is written here by hand: names,
 * sources, dated periods and rows the table lacks.
 *
 *     node scripts/build-prices.ts FOLDER        (or PURSER_REFERENCE=FOLDER)
 *
 * The reference is not part of the repository; its result is, and a test compares that with tables typed by hand. Invariant: a price
 * that no source states is left out, never guessed.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";

type Source = Record<string, unknown>;
type Row = Record<string, unknown>;

const DOCS = "github.com/gpambrozio/ClaudeDocs@ff5b8ed9 docs-md/api/about-claude/pricing";
const TABLE = "model_prices.json@2026-08-01";
const FACT_LOG = "public fact log quoting platform.claude.com, accessed 2026-10-08";

const METERS: Record<string, { base: string; anthropic?: string; openai?: string }> = {
  input: { base: "input_cost_per_token", anthropic: "inputUsdPerMTok", openai: "inputUsdPerMTok" },
  read: { base: "cache_read_input_token_cost", anthropic: "cacheReadUsdPerMTok", openai: "cacheReadUsdPerMTok" },
  write: { base: "cache_creation_input_token_cost", anthropic: "cacheWrite5mUsdPerMTok", openai: "cacheWrite30mUsdPerMTok" },
  write1h: { base: "cache_creation_input_token_cost_above_1hr", anthropic: "cacheWrite1hUsdPerMTok" },
  write12h: { base: "_cache_creation_input_token_cost_12h", openai: "cacheWrite12hUsdPerMTok" },
  output: { base: "output_cost_per_token", anthropic: "outputUsdPerMTok", openai: "outputUsdPerMTok" },
};

/** What the table does not say about a model: how it is also spelled, where its price stands, since when. */
interface Named {
  source?: string;
  confidence?: string;
  released?: string;
  aliases?: string[];
  note?: string;
  /** Fields of the result that replace those built from the table; `undefined` removes one. */
  set?: Row;
  /** Later periods: their day and what changes. */
  later?: { from: string; set: Row }[];
}

const SINCE_4_5 = { regionalMultiplier: "1.1" };
const SINCE_4_6 = { ...SINCE_4_5, usOnlyMultiplier: "1.1" };

/**
 * Anthropic's models. For every one of them a search costs $10 per 1,000, a batch half, and Priority Tier the list price per token
 * (docs-md/api/about-claude/pricing, api/service-tiers).
 */
const ANTHROPIC: Record<string, Named> = {
  "claude-fable-5-2": {
    released: "2026-11-09",
    source: "platform.claude.com release notes; cache: rightsize v0.10.2, apiyi; fast: Google partner page",
    confidence: "secondary",
    set: SINCE_4_6,
  },
  "claude-mythos-5-2": {
    released: "2026-11-09",
    source: "platform.claude.com release notes",
    note: "No source states its cache prices.",
    set: { ...SINCE_4_6, cacheReadUsdPerMTok: undefined, cacheWrite5mUsdPerMTok: undefined, cacheWrite1hUsdPerMTok: undefined },
  },
  "claude-opus-5-5": {
    released: "2026-09-22",
    source: "platform.claude.com models overview; cache and fast mode: pages quoting the pricing page",
    confidence: "secondary",
    set: SINCE_4_6,
  },
  "claude-sonnet-5-5": {
    released: "2026-09-28",
    source: FACT_LOG,
    set: { ...SINCE_4_6, cacheReadUsdPerMTok: "0.2" },
    later: [{ from: "2026-10-07", set: { cacheReadUsdPerMTok: "0.1", confidence: "secondary" } }],
  },
  "claude-haiku-5-5": {
    released: "2026-10-07",
    source: `platform.claude.com models overview; ${FACT_LOG}`,
    note: "The whole request moves to the upper tier when the input of one sampling, cached tokens included, is above 100,000.",
    set: SINCE_4_6,
  },
  "claude-fable-5-1": { released: "2026-09-01", source: FACT_LOG, set: SINCE_4_6 },
  "claude-mythos-5-1": { released: "2026-09-01", source: FACT_LOG, set: SINCE_4_6 },
  "claude-fable-5": { source: DOCS, set: SINCE_4_6 },
  "claude-mythos-5": { released: "2026-06-09", source: DOCS, set: SINCE_4_6 },
  "claude-opus-5": { source: DOCS, set: SINCE_4_6 },
  "claude-opus-4-8": { source: DOCS, note: "Fast mode ends 2026-11-30.", set: SINCE_4_6 },
  "claude-opus-4-7": { source: DOCS, note: "Fast mode was removed 2026-07-24: it is an error.", set: SINCE_4_6 },
  "claude-opus-4-6": {
    source: DOCS,
    note: "speed: fast runs and bills as standard (code.claude.com fast-mode).",
    set: { ...SINCE_4_6, fastMultiplier: "1" },
  },
  "claude-opus-4-5-20251101": { source: DOCS, aliases: ["claude-opus-4-5"], set: SINCE_4_5 },
  "claude-sonnet-5": { source: DOCS, note: "The rise to 3/15 planned for 2026-09-01 was cancelled.", set: SINCE_4_6 },
  "claude-sonnet-4-6": {
    source: DOCS,
    note: "Largest output: the docs' 128,000; the table says 64,000.",
    set: { ...SINCE_4_6, outputTokensMax: 128_000 },
  },
  "claude-sonnet-4-5-20250929": { source: DOCS, aliases: ["claude-sonnet-4-5"], set: SINCE_4_5 },
  "claude-haiku-4-5-20251001": { source: DOCS, aliases: ["claude-haiku-4-5"], set: SINCE_4_5 },
  "claude-opus-4-1-20250805": { source: DOCS, aliases: ["claude-opus-4-1"] },
  "claude-opus-4-20250514": { source: DOCS, aliases: ["claude-opus-4-0", "claude-4-opus-20250514"] },
  "claude-sonnet-4-20250514": {
    source: DOCS,
    aliases: ["claude-sonnet-4-0", "claude-4-sonnet-20250514"],
    // The table has no 1-hour write for its tier; the docs' table of the 1M beta does.
    set: {
      tiers: [
        {
          aboveInputTokens: 200_000,
          inputUsdPerMTok: "6",
          cacheReadUsdPerMTok: "0.6",
          cacheWrite5mUsdPerMTok: "7.5",
          cacheWrite1hUsdPerMTok: "12",
          outputUsdPerMTok: "22.5",
        },
      ],
    },
  },
  "claude-3-7-sonnet-20250219": { source: DOCS },
  "claude-3-5-haiku-20241022": { source: DOCS },
  "claude-3-5-sonnet-20241022": { source: DOCS },
  "claude-3-5-sonnet-20240620": { source: DOCS },
  "claude-3-haiku-20240307": { source: `${DOCS} (old copy); pydantic/genai-prices@47df840a` },
  "claude-3-opus-20240229": { source: DOCS },
  "claude-3-sonnet-20240229": { source: DOCS, note: "No source at hand states its cache prices." },
  "claude-2.1": { source: DOCS },
  "claude-2.0": { source: DOCS },
};

/** Models the table lacks, in its schema. */
const ADDED: Record<string, Source> = {
  "claude-3-5-haiku-20241022": anthropicSource([0.8, 1, 1.6, 0.08, 4], 200_000, 8_192),
  "claude-3-5-sonnet-20241022": anthropicSource([3, 3.75, 6, 0.3, 15], 200_000, 8_192),
  "claude-3-5-sonnet-20240620": anthropicSource([3, 3.75, 6, 0.3, 15], 200_000, 8_192),
  "claude-3-sonnet-20240229": anthropicSource([3, undefined, undefined, undefined, 15]),
  "claude-2.1": anthropicSource([8, undefined, undefined, undefined, 24]),
  "claude-2.0": anthropicSource([8, undefined, undefined, undefined, 24]),
};

const OPENAI: Record<string, Named> = {
  "gpt-6.2-astra": { released: "2026-11-17", source: "laozhang; apidog", note: "No source states its cache prices." },
  "gpt-6.2-sol": { released: "2026-11-17", source: "developers.openai.com gpt-6.2-sol page" },
  "gpt-6.1-sol": { released: "2026-09-29", source: "developers.openai.com gpt-6.1-sol page" },
  "gpt-6.1-terra": { released: "2026-10-26", source: "LiteLLM blog; apidog" },
  "gpt-6-astra": { released: "2026-09-03", source: "github.com/BerriAI/litellm/discussions/39633" },
  "gpt-6-sol": { released: "2026-09-22", source: "codexometer" },
  "gpt-6-luna": { released: "2026-09-22", source: "codexometer" },
  "gpt-5.6-sol": {
    note: "The cut is known from a price page read 2026-10-04; cache prices after it are not.",
    later: [
      {
        from: "2026-10-04",
        set: {
          inputUsdPerMTok: "4",
          outputUsdPerMTok: "20",
          cacheReadUsdPerMTok: undefined,
          cacheWrite30mUsdPerMTok: undefined,
          // Above 272,000 tokens of input the whole request costs 2x for input and 1.5x for output, from GPT-5.4 on.
          tiers: [{ aboveInputTokens: 272_000, inputUsdPerMTok: "8", outputUsdPerMTok: "30" }],
          source: "OpenAI pricing page read 2026-10-04",
        },
      },
    ],
  },
  "gpt-5.6-terra": { set: { from: "2026-07-30" } },
  "gpt-5.6-luna": { set: { from: "2026-07-30" } },
  "gpt-5-nano": {
    note: "The table's priority price is 50 times its input price: left out.",
    set: { priorityMultiplier: undefined },
  },
};

/**
 * Left out of OpenAI's rows: fine-tunes (their ids are made per customer), audio (bills tokens this price data has no meter for), models
 * that search on every call at a fee that depends on a setting (search and deep research), and the container fee.
 */
const LEFT_OUT = /^ft:|audio|search|^openai\/container$/;
const FIELD_ORDER =
  "model aliases kind released from " +
  "inputUsdPerMTok cacheReadUsdPerMTok cacheWrite5mUsdPerMTok cacheWrite1hUsdPerMTok cacheWrite30mUsdPerMTok cacheWrite12hUsdPerMTok " +
  "outputUsdPerMTok tiers batchMultiplier flexMultiplier fastMultiplier priorityMultiplier usOnlyMultiplier regionalMultiplier " +
  "webSearchUsdEach contextTokensMax outputTokensMax source confidence note";
const MODES = ["chat", "responses", "embedding"];

function main(): void {
  const folder = process.argv[2] ?? process.env["PURSER_REFERENCE"];
  if (folder === undefined)
    throw new Error("which folder holds model_prices.json? Give it as an argument or as PURSER_REFERENCE");
  const table = merge(readJson(join(folder, "model_prices.json")), readJson(join(folder, "model_prices_overlay.json")));
  write("anthropic", buildAnthropic({ ...table, ...ADDED }));
  write("openai", buildOpenAi(table));
}

function buildAnthropic(table: Record<string, Source>): Row[] {
  const priced = Object.keys(table).filter((model) => table[model]?.["litellm_provider"] === "anthropic");
  const known = new Set(Object.entries(ANTHROPIC).flatMap(([model, { aliases }]) => [model, ...(aliases ?? [])]));
  const unnamed = priced.filter((model) => !known.has(model) && !known.has(model.replace(/-\d{8}$/, "")));
  if (unnamed.length > 0) throw new Error(`models of the table without an entry here: ${unnamed.join(", ")}`);
  return Object.entries(ANTHROPIC).flatMap(([model, named]) => {
    const source = table[model];
    if (source === undefined) throw new Error(`${model} is named here and not in the table`);
    const every = { batchMultiplier: "0.5", priorityMultiplier: "1", webSearchUsdEach: "0.01" };
    const fast = multiplierOf(source, "fast");
    const built = { ...pricesOf(source, "anthropic"), ...every, ...(fast === undefined ? {} : { fastMultiplier: fast }) };
    return periodsOf(model, named, {
      ...built,
      ...sizesOf(source),
      source: named.source,
      confidence: named.confidence ?? "official",
    });
  });
}

function buildOpenAi(table: Record<string, Source>): Row[] {
  const models = Object.keys(table).filter((model) => {
    const mode = table[model]?.["mode"];
    return table[model]?.["litellm_provider"] === "openai" && MODES.includes(String(mode)) && !LEFT_OUT.test(model);
  });
  const rows = new Map<string, Row[]>();
  for (const model of models) rows.set(model, openAiRows(model, table[model] ?? {}));
  for (const model of models) foldDated(model, rows);
  return [...rows.values()].flat();
}

function openAiRows(model: string, source: Source): Row[] {
  const named = OPENAI[model] ?? {};
  const isEmbedding = source["mode"] === "embedding";
  const official = JSON.stringify(source["_confidence"] ?? "").startsWith('"official');
  const built: Row = {
    ...pricesOf(source, "openai"),
    // The Batch API is half price for responses, chat and embeddings alike (OpenAI's batch guide).
    batchMultiplier: "0.5",
    ...ratioField(source, "flex", "flexMultiplier"),
    ...ratioField(source, "priority", "priorityMultiplier"),
    ...sizesOf(source),
    source: named.source ?? TABLE,
    confidence: official ? "official" : "secondary",
  };
  return periodsOf(model, named, built, isEmbedding ? "embedding" : "chat");
}

/** A dated snapshot with its model's own prices becomes another spelling of it. */
function foldDated(model: string, rows: Map<string, Row[]>): void {
  const undated = /^(.+?)-\d{4}-\d{2}-\d{2}$/.exec(model)?.[1];
  const family = undated === undefined ? undefined : rows.get(undated);
  const own = rows.get(model)?.[0];
  if (family === undefined || own === undefined || !isSamePrice(family[0] ?? {}, own)) return;
  const renamed = family.map((row) => inOrder({ ...row, aliases: [...((row["aliases"] as string[] | undefined) ?? []), model] }));
  rows.set(undated ?? "", renamed);
  rows.delete(model);
}

function isSamePrice(left: Row, right: Row): boolean {
  const pricesIn = (row: Row): string =>
    JSON.stringify(Object.entries(row).filter(([key]) => key.endsWith("UsdPerMTok") || key === "tiers"));
  return pricesIn(left) === pricesIn(right);
}

function periodsOf(model: string, named: Named, built: Row, kind = "chat"): Row[] {
  const head: Row = { model, ...(named.aliases === undefined ? {} : { aliases: named.aliases }), kind };
  const first: Row = { ...head, released: named.released, ...built, ...named.set, note: named.note };
  const later = (named.later ?? []).map(({ from, set }) => ({ ...first, released: undefined, from, ...set }));
  return [first, ...later].map(inOrder);
}

/** The same order of fields in every row, without those that are not there. */
function inOrder(row: Row): Row {
  const order = FIELD_ORDER.split(" ");
  const strange = Object.keys(row).filter((key) => !order.includes(key));
  if (strange.length > 0) throw new Error(`${String(row["model"])}: fields without a place: ${strange.join(", ")}`);
  return Object.fromEntries(order.filter((key) => row[key] !== undefined).map((key) => [key, row[key]]));
}

function pricesOf(source: Source, provider: "anthropic" | "openai"): Row {
  const prices = metersOf(source, provider, "");
  const aboves = Object.keys(source).flatMap((key) => /^input_cost_per_token_above_(\d+)k_tokens$/.exec(key)?.[1] ?? []);
  const tiers = aboves.map(Number).toSorted((left, right) => left - right);
  if (tiers.length === 0) return prices;
  return {
    ...prices,
    tiers: tiers.map((thousands) => {
      const tier = metersOf(source, provider, `_above_${thousands}k_tokens`);
      // The table has no field for the 12-hour write of the tier; OpenAI doubles input and cache prices alike there.
      if (prices["cacheWrite12hUsdPerMTok"] !== undefined && thousands === 272) {
        tier["cacheWrite12hUsdPerMTok"] = perMTok(Number(source["_cache_creation_input_token_cost_12h"]) * 2);
      }
      return { aboveInputTokens: thousands * 1_000, ...tier };
    }),
  };
}

function metersOf(source: Source, provider: "anthropic" | "openai", suffix: string): Row {
  const prices: Row = {};
  for (const meter of Object.values(METERS)) {
    const field = meter[provider];
    const value = source[`${meter.base}${suffix}`];
    if (field !== undefined && typeof value === "number") prices[field] = perMTok(value);
  }
  return prices;
}

function sizesOf(source: Source): Row {
  return { contextTokensMax: source["max_input_tokens"], outputTokensMax: source["max_output_tokens"] };
}

function multiplierOf(source: Source, name: string): string | undefined {
  const entry = source["provider_specific_entry"] as Record<string, number> | undefined;
  const value = entry?.[name];
  return value === undefined ? undefined : String(value);
}

/** A tier's price as a multiple of the standard one, rounded up to four places: the table gives prices, a row holds one multiplier. */
function ratioField(source: Source, tier: "flex" | "priority", field: string): Row {
  const ratios = [METERS["input"], METERS["output"]].flatMap((meter) => {
    const standard = source[meter?.base ?? ""];
    const special = source[`${meter?.base ?? ""}_${tier}`];
    return typeof standard === "number" && typeof special === "number" && standard > 0 ? [ratioUp(special, standard)] : [];
  });
  const largest = ratios.toSorted((left, right) => Number(right - left))[0];
  return largest === undefined ? {} : { [field]: shift(largest, 4) };
}

function ratioUp(numerator: number, denominator: number): bigint {
  const top = digitsOf(numerator, 18) * 10_000n;
  const bottom = digitsOf(denominator, 18);
  return (top + bottom - 1n) / bottom;
}

/** US dollars per token, as the table's number, to US dollars per million tokens as decimal text: digits are moved, never multiplied. */
function perMTok(usdPerToken: number): string {
  return shift(digitsOf(usdPerToken, 18), 12);
}

/** A number's shortest decimal digits as a whole number of 10^-places. */
function digitsOf(value: number, places: number): bigint {
  const match = /^(\d+)(?:\.(\d+))?(?:e([+-]\d+))?$/.exec(String(value));
  if (match === null) throw new Error(`not a plain number: ${value}`);
  const fraction = match[2] ?? "";
  const zeros = places + Number(match[3] ?? 0) - fraction.length;
  if (zeros < 0) throw new Error(`more than ${places} decimal places: ${value}`);
  return BigInt((match[1] ?? "") + fraction) * 10n ** BigInt(zeros);
}

function shift(value: bigint, places: number): string {
  const text = value.toString().padStart(places + 1, "0");
  return `${text.slice(0, -places)}.${text.slice(-places)}`.replace(/\.?0+$/, "");
}

/** Rows of later pages replace those of the table; rows marked as corrections change single fields. */
function merge(table: Record<string, Source>, overlay: Record<string, Source>): Record<string, Source> {
  const merged = { ...table };
  for (const [model, source] of Object.entries(overlay)) {
    if (model.startsWith("_")) continue;
    // The correction of gpt-5.6-sol is a later period, written above with its day.
    if (model === "gpt-5.6-sol") continue;
    merged[model] = source["_correction"] === true ? { ...merged[model], ...source } : source;
  }
  return merged;
}

/** A row in the table's schema from prices per million tokens: input, 5m write, 1h write, read, output. */
function anthropicSource(prices: readonly (number | undefined)[], contextTokensMax?: number, outputTokensMax?: number): Source {
  const perToken = prices.map((price) => (price === undefined ? undefined : Number(`${price}e-6`)));
  const fields = ["input", "write", "write1h", "read", "output"].map((meter, index) => [METERS[meter]?.base, perToken[index]]);
  const sizes = { max_input_tokens: contextTokensMax, max_output_tokens: outputTokensMax };
  return { litellm_provider: "anthropic", mode: "chat", ...Object.fromEntries(fields), ...sizes };
}

function readJson(path: string): Record<string, Source> {
  return JSON.parse(readFileSync(path, "utf8")) as Record<string, Source>;
}

function write(provider: string, rows: Row[]): void {
  const head = { provider, unit: "US dollars per million tokens, as decimal text; a price that is not there is not known" };
  const lines = rows.map((row) => `    ${JSON.stringify(row)}`).join(",\n");
  const path = new URL(`../prices/${provider}.json`, import.meta.url);
  writeFileSync(path, `${JSON.stringify(head, null, 2).slice(0, -2)},\n  "rows": [\n${lines}\n  ]\n}\n`);
  process.stdout.write(`${provider}: ${rows.length} rows\n`);
}

main();
