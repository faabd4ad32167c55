/** The Cost figure: usage → cost cases that other projects wrote down, computed here from the same usage. */
import { afterAll, describe, expect, test } from "vitest";
import { formatUsd, toNanoUsd } from "../../src/core/money/money.ts";
import { buildPriceBook } from "../../src/core/pricing/price-book.ts";
import type { PriceRow, TokenMeter, TokenPrices } from "../../src/core/pricing/price.ts";
import { rateUsage, type CostPart } from "../../src/core/pricing/rate.ts";
import { newPriceRow } from "../../src/core/pricing/rows.ts";
import { NO_TOKENS, type TokenParts, type Usage } from "../../src/core/usage/usage.ts";
import { fromUsage } from "../../src/providers/anthropic/usage.ts";
import { addUpNanoUsd, costExceptions } from "./cost-exceptions.ts";
import { dataFolder, dataPath, NO_DATA, readJsonLines, reportFigure } from "./figures.ts";
import { readShippedRows } from "./shipped-prices.ts";

/** The day of the genai-prices commit and of the LiteLLM table the cases were written against. */
const CASES_AT_MS = Date.UTC(2026, 7, 21);
const book = buildPriceBook(readShippedRows());
const notOurs = new Set(costExceptions.notOurs.map(({ id }) => id));
const counts: Record<string, { measured: number; listed: number; all: number }> = {};
const because = dataFolder === undefined ? ` (${NO_DATA})` : "";

/** US dollars as exact decimal text with an exponent or none, in nano-dollars as a number: for comparing to within one. */
const nanoOf = (usd: string): number => Number(usd) * 1e9;

interface GenaiCase {
  source_cassette: string;
  model: string;
  provider: string;
  raw_usage: Record<string, number>;
  normalised_usage: Record<string, number>;
  expected_input_usd: string;
  expected_output_usd: string;
}

describe.skipIf(dataFolder === undefined)(`Anthropic's cases of genai-prices${because}`, () => {
  const cases = dataFolder === undefined ? [] : readJsonLines<GenaiCase>(dataPath("cost-genai-prices-usages", "cases.jsonl"));
  const ours = cases.filter(({ provider }) => provider === "anthropic");
  const idOf = (each: GenaiCase): string =>
    `${each.source_cassette.split("/").at(-1)} ${each.raw_usage["input_tokens"]}/${each.raw_usage["output_tokens"]}`;

  /** Their expected values are of tokens alone: without the fee of searches. */
  function tokenCostNanoUsd(each: GenaiCase): number | undefined {
    const result = rateUsage(fromUsage(each.raw_usage, each.model), (model) => book.find("anthropic", model, CASES_AT_MS));
    if (result.outcome === "unpriced") return undefined;
    const searches = result.parts.filter(({ meter }) => meter === "webSearch").map(({ costUsd }) => nanoOf(costUsd));
    return Number(result.costNanoUsd) - searches.reduce((sum, cost) => sum + cost, 0);
  }
  const isEqual = (each: GenaiCase): boolean =>
    Math.abs((tokenCostNanoUsd(each) ?? Number.NaN) - nanoOf(each.expected_input_usd) - nanoOf(each.expected_output_usd)) <= 1;

  test("cost what they say, except those on the list", () => {
    const different = [...new Set(ours.filter((each) => !isEqual(each)).map(idOf))];
    const listed = costExceptions.genaiCases.map(({ id }) => id);
    const foreign = different.filter((id) => notOurs.has(id));
    expect(different.toSorted()).toEqual([...listed, ...foreign].toSorted());
    expect(foreign).toHaveLength(1);
    counts["genai-prices, Anthropic"] = { measured: ours.filter(isEqual).length, listed: different.length, all: ours.length };
  });

  test.each(costExceptions.genaiCases)("differ as the list says: $id", ({ id, labelUsd, oursUsd, sum }) => {
    const each = ours.find((candidate) => idOf(candidate) === id) as GenaiCase;
    expect(formatUsd(BigInt(tokenCostNanoUsd(each) ?? 0))).toBe(oursUsd);
    expect(formatUsd(addUpNanoUsd(sum))).toBe(oursUsd);
    expect(nanoOf(each.expected_input_usd) + nanoOf(each.expected_output_usd)).toBeCloseTo(nanoOf(labelUsd), 0);
  });
});

type OwnRates = Partial<Record<"input" | "output" | "cache_read" | "cache_write" | `input_above_${string}`, string>>;

interface LiteLlmCase {
  id: string;
  rates_usd_per_token: OwnRates | null;
  usage: Record<string, unknown>;
  expect: Record<string, string>;
}

/** Exact: the digits of "0.00000625" or "5e-7" moved, never multiplied. */
function perMTok(usdPerToken: string): bigint {
  const [, whole = "", fraction = "", exponent = "0"] = /^(\d+)(?:\.(\d+))?(?:e(-?\d+))?$/.exec(usdPerToken) ?? [];
  return BigInt(whole + fraction) * 10n ** BigInt(15 - fraction.length + Number(exponent));
}

function pricesOf(rates: OwnRates): TokenPrices {
  const names: [keyof OwnRates, TokenMeter][] = [
    ["input", "uncachedInput"],
    ["output", "output"],
    ["cache_read", "cacheRead"],
    ["cache_write", "cacheWrite5m"],
  ];
  return Object.fromEntries(
    names.flatMap(([name, meter]) => (rates[name] === undefined ? [] : [[meter, toNanoUsd(perMTok(rates[name]))]])),
  );
}

function rowOf(rates: OwnRates, tiers: PriceRow["tiers"] = []): PriceRow {
  return newPriceRow({
    provider: "case",
    model: "case",
    nanoUsdPerMTok: pricesOf(rates),
    tiers,
    source: "the case",
    confidence: "configured",
  });
}

/** OpenAI's input holds cached and written tokens; a case is read here by that rule, since OpenAI's usage has no reader yet. */
function openAiTokens(usage: Record<string, unknown>): TokenParts {
  const count = (value: unknown): number => (typeof value === "number" ? value : 0);
  const details = (usage["prompt_tokens_details"] ?? usage["input_tokens_details"] ?? {}) as Record<string, unknown>;
  const cacheReadTokens = count(details["cached_tokens"]);
  const cacheWrite5mTokens = count(details["cache_creation_tokens"]) + count(details["cache_write_tokens"]);
  const input = count(usage["prompt_tokens"]) + count(usage["input_tokens"]);
  const outputTokens = count(usage["completion_tokens"]) + count(usage["output_tokens"]);
  return {
    ...NO_TOKENS,
    uncachedInputTokens: input - cacheReadTokens - cacheWrite5mTokens,
    cacheReadTokens,
    cacheWrite5mTokens,
    outputTokens,
  };
}

function usageOf(tokens: TokenParts, serviceTier: Usage["serviceTier"] = "standard"): Usage {
  return {
    samplings: [{ kind: "message", model: "case", tokens }],
    webSearchRequests: 0,
    serviceTier,
    speed: undefined,
    isUsOnly: false,
    flags: [],
  };
}

function partsBy(usage: Usage, row: PriceRow): { totalUsd: string; parts: CostPart[] } {
  const result = rateUsage(usage, () => row);
  if (result.outcome !== "rated") throw new Error(JSON.stringify(result.missing));
  return { totalUsd: formatUsd(result.costNanoUsd), parts: result.parts };
}

/** OpenAI's cache writes are a meter of their own, which usage carries once OpenAI's is read; here they go through one it has. */
function withWritesAs5m(row: PriceRow): PriceRow {
  const rename = ({ cacheWrite30m, ...prices }: TokenPrices): TokenPrices => ({
    ...prices,
    ...(cacheWrite30m === undefined ? {} : { cacheWrite5m: cacheWrite30m }),
  });
  const tiers = row.tiers.map((tier) => ({ ...tier, nanoUsdPerMTok: rename(tier.nanoUsdPerMTok) }));
  return { ...row, nanoUsdPerMTok: rename(row.nanoUsdPerMTok), tiers };
}

describe.skipIf(dataFolder === undefined)(`OpenAI's cases of genai-prices, from its own reading of usage${because}`, () => {
  const cases = dataFolder === undefined ? [] : readJsonLines<GenaiCase>(dataPath("cost-genai-prices-usages", "cases.jsonl"));
  const theirs = cases.filter(({ provider }) => provider === "openai");
  const isEqual = (each: GenaiCase, row: PriceRow): boolean => {
    const {
      input_tokens: input = 0,
      cache_read_tokens: read = 0,
      cache_write_tokens: written = 0,
      output_tokens: output = 0,
    } = each.normalised_usage;
    const uncachedInputTokens = input - read - written;
    const tokens = {
      ...NO_TOKENS,
      uncachedInputTokens,
      cacheReadTokens: read,
      cacheWrite5mTokens: written,
      outputTokens: output,
    };
    const expected = nanoOf(each.expected_input_usd ?? "0") + nanoOf(each.expected_output_usd ?? "0");
    return Math.abs(nanoOf(partsBy(usageOf(tokens), withWritesAs5m(row)).totalUsd) - expected) <= 1;
  };

  test("cost what they say wherever the book has the model", () => {
    const found = theirs.map((each) => ({ each, row: book.find("openai", each.model, CASES_AT_MS) }));
    const priced = found.flatMap(({ each, row }) => (row === undefined ? [] : [{ each, row }]));
    expect(priced.filter(({ each, row }) => !isEqual(each, row)).map(({ each }) => each)).toEqual([]);
    const unpriced = new Set(found.filter(({ row }) => row === undefined).map(({ each }) => each.model));
    expect([...unpriced].toSorted()).toEqual([
      "computer-use-preview-2025-03-11",
      "gpt-4.5-preview-2025-02-27",
      "gpt-4o-audio-preview-2024-12-17",
      "gpt-4o-search-preview-2025-03-11",
      "gpt-oss-120b",
      "o1-mini-2024-09-12",
    ]);
    counts["genai-prices, OpenAI"] = { measured: priced.length, listed: theirs.length - priced.length, all: theirs.length };
  });
});

describe.skipIf(dataFolder === undefined)(`LiteLLM's own test cases${because}`, () => {
  const cases = dataFolder === undefined ? [] : readJsonLines<LiteLlmCase>(dataPath("cost-cases-litellm-tests", "cases.jsonl"));
  const caseOf = (id: string): LiteLlmCase => cases.find((each) => each.id === id) as LiteLlmCase;
  const measured = new Set<string>();
  const measure = (id: string): LiteLlmCase => {
    measured.add(id);
    return caseOf(id);
  };
  const gpt56 = (): PriceRow => withWritesAs5m(book.find("openai", "gpt-5.6", CASES_AT_MS) as PriceRow);
  const inputUsd = (parts: readonly CostPart[]): number =>
    parts.filter(({ meter }) => meter !== "output").reduce((sum, { costUsd }) => sum + Number(costUsd), 0);

  test.each(["openai-cache-read", "openai-cache-write", "openai-cache-both", "no-cache-fields"])(
    "with cache tokens inside the input: %s",
    (id) => {
      const { usage, rates_usd_per_token: rates, expect: expected } = measure(id);
      const { totalUsd, parts } = partsBy(usageOf(openAiTokens(usage)), rowOf(rates ?? {}));
      expect(nanoOf(totalUsd)).toBeCloseTo(nanoOf(expected["total_usd"] ?? ""), 6);
      const costOf = (meter: TokenMeter): string => parts.find((part) => part.meter === meter)?.costUsd ?? "0";
      const lines = [costOf("cacheRead"), costOf("cacheWrite5m")].map(Number);
      expect(lines).toEqual([Number(expected["cache_read_usd"] ?? lines[0]), Number(expected["cache_write_usd"] ?? lines[1])]);
    },
  );

  test("with Anthropic's cache tokens outside the input", () => {
    const { usage, rates_usd_per_token: rates, expect: expected } = measure("anthropic-top-level-cache");
    expect(Number(partsBy(fromUsage(usage, "case"), rowOf(rates ?? {})).totalUsd)).toBe(Number(expected["total_usd"]));
  });

  // Rates of the table's gpt-5.6 row, typed by hand, in dollars per million tokens.
  test.each<[string, string, Usage["serviceTier"], number]>([
    ["openai-chat-cache_write_tokens", "3*5 + 12314*6.25", "standard", 1],
    ["openai-responses-cache_write_tokens", "3*5 + 12314*6.25", "standard", 1],
    ["openai-cache-write-tier-None-100000", "1000*5 + 99000*6.25", "standard", 1],
    ["openai-cache-write-tier-priority-100000", "1000*5 + 99000*6.25", "priority", 2],
    ["openai-cache-write-tier-None-300000", "1000*10 + 299000*12.5", "standard", 1],
  ])("with OpenAI's cache writes, tiers and priority: %s", (id, sum, serviceTier, times) => {
    const { parts } = partsBy(usageOf(openAiTokens(measure(id).usage), serviceTier), gpt56());
    expect(inputUsd(parts) * 1e9).toBeCloseTo(Number(addUpNanoUsd(sum)) * times, 0);
  });

  test("with the highest tier passed, by number and not by its spelling", () => {
    const { usage, rates_usd_per_token: rates, expect: expected } = measure("highest-crossed-tier-90k-128k");
    const tier = (aboveInputTokens: number, input: string | undefined) => ({
      aboveInputTokens,
      nanoUsdPerMTok: pricesOf({ ...rates, input: input ?? "" }),
    });
    const tiers = [tier(90_000, rates?.["input_above_90k"]), tier(128_000, rates?.["input_above_128k"])];
    const { parts } = partsBy(usageOf(openAiTokens(usage)), rowOf(rates ?? {}, tiers));
    expect(parts[0]?.unitUsd).toBe(formatUsd(perMTok(expected["input_rate"] ?? "")));
  });

  test("with reasoning inside the output", () => {
    const tokens = openAiTokens(measure("o1-reasoning-not-separate").usage);
    const { totalUsd } = partsBy(usageOf(tokens), book.find("openai", "o1", CASES_AT_MS) as PriceRow);
    expect(totalUsd).toBe(formatUsd(addUpNanoUsd("17*15 + 1578*60")));
  });

  test("are each measured here or on the list of what is not ours", () => {
    const rest = cases.map(({ id }) => id).filter((id) => !measured.has(id));
    expect(rest.filter((id) => !notOurs.has(id))).toEqual([]);
    expect([...measured].filter((id) => notOurs.has(id))).toEqual([]);
    counts["LiteLLM's tests"] = { measured: measured.size, listed: rest.length, all: cases.length };
  });
});

interface IssueCase {
  id: string;
  rates_usd_per_mtok?: Record<string, number>;
  usage?: Record<string, number>;
  formula_usd?: string;
}

describe.skipIf(dataFolder === undefined)(`bills that users reported${because}`, () => {
  const cases = dataFolder === undefined ? [] : readJsonLines<IssueCase>(dataPath("cost-cases-issues-dev", "cases.jsonl"));
  const priced = cases.filter(({ formula_usd: formula }) => formula !== undefined);

  test("cost what the provider's console or the reporter's sum says", () => {
    for (const { usage, rates_usd_per_mtok: rates, formula_usd: formula } of priced) {
      const perToken = (name: string): string | undefined => (rates?.[name] === undefined ? undefined : `${rates[name]}e-6`);
      const own = {
        input: perToken("input"),
        output: perToken("output"),
        cache_read: perToken("cache_read"),
        cache_write: perToken("cache_write"),
      };
      const row = rowOf(Object.fromEntries(Object.entries(own).filter(([, rate]) => rate !== undefined)));
      const tokens = {
        ...NO_TOKENS,
        uncachedInputTokens: usage?.["uncached_input"] ?? 0,
        cacheReadTokens: usage?.["cache_read"] ?? 0,
        cacheWrite5mTokens: usage?.["cache_write_5m"] ?? 0,
        outputTokens: usage?.["output"] ?? 0,
      };
      expect(partsBy(usageOf(tokens), row).totalUsd).toBe(formula);
    }
    expect(priced).toHaveLength(2);
  });

  test("cost nothing where explicit zeros were reported", () => {
    expect(cases.find(({ id }) => id === "litellm-37992")?.usage).toMatchObject({ total_tokens: 0 });
    const zero = fromUsage({ input_tokens: 0, output_tokens: 0 }, "case");
    expect(rateUsage(zero, () => undefined)).toMatchObject({ outcome: "rated", costNanoUsd: 0n });
  });

  test("are each measured here or on the list of what is not ours", () => {
    const rest = cases.map(({ id }) => id).filter((id) => id !== "litellm-37992" && !priced.some((each) => each.id === id));
    expect(rest.filter((id) => !notOurs.has(id))).toEqual([]);
    counts["reported bills"] = { measured: priced.length + 1, listed: rest.length, all: cases.length };
  });
});

afterAll(() => {
  if (dataFolder === undefined || Object.keys(counts).length < 4) return;
  const texts = Object.entries(counts).map(
    ([name, { measured, listed, all }]) => `${name} ${measured} of ${all} equal, ${listed} listed or without a price here`,
  );
  reportFigure("Cost", "cost cases", texts.join("; "));
});
