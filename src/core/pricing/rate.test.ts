import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { formatUsd, NANO_USD_PER_USD, parseUsd, toNanoUsd } from "../money/money.ts";
import { NO_TOKENS, usageOfUnits, type TokenParts, type Usage } from "../usage/usage.ts";
import { readShippedRows } from "../../../test/figures/shipped-prices.ts";
import { buildPriceBook } from "./price-book.ts";
import type { PriceRow } from "./price.ts";
import { priceCall } from "./price-call.ts";
import { rateUsage, sumCostParts, type RateResult } from "./rate.ts";
import { newPriceRow } from "./rows.ts";

const NOW_MS = Date.UTC(2026, 10, 22);
const book = buildPriceBook(readShippedRows());
const find = (model: string): PriceRow | undefined => book.find("anthropic", model, NOW_MS);

function usageOf(model: string, tokens: Partial<TokenParts>, rest: Partial<Usage> = {}): Usage {
  return {
    samplings: [{ kind: "message", model, tokens: { ...NO_TOKENS, ...tokens } }],
    webSearchRequests: 0,
    serviceTier: "standard",
    speed: "standard",
    isUsOnly: false,
    flags: [],
    ...rest,
  };
}

function costOf(result: RateResult): string {
  return result.outcome === "rated"
    ? formatUsd(result.costNanoUsd)
    : `unpriced: ${result.missing.map((each) => each.meter).join()}`;
}

const costUsd = (model: string, tokens: Partial<TokenParts>, rest: Partial<Usage> = {}): string =>
  costOf(rateUsage(usageOf(model, tokens, rest), find));

describe("rating one call", () => {
  test("prices every part of the input by its own meter", () => {
    // 1000·4 + 2000·0.2 + 3000·5 + 4000·8 + 500·20, all ÷ 1,000,000
    const tokens = {
      uncachedInputTokens: 1000,
      cacheReadTokens: 2000,
      cacheWrite5mTokens: 3000,
      cacheWrite1hTokens: 4000,
      outputTokens: 500,
    };
    expect(costUsd("claude-opus-5-5", tokens)).toBe("0.0614");
  });

  test("gives the cost of the night story's call", () => {
    expect(costUsd("claude-opus-5-5", { uncachedInputTokens: 60_000, outputTokens: 1_536 })).toBe("0.27072");
  });

  test("never adds reasoning to the output it is part of", () => {
    expect(costUsd("claude-opus-5-5", { outputTokens: 500, reasoningOutputTokens: 400 })).toBe("0.01");
  });

  test.each<[string, Partial<Usage>, string]>([
    ["batch at half price", { serviceTier: "batch" }, "0.007"],
    ["fast at twice the price", { speed: "fast" }, "0.028"],
    ["US-only inference at 1.1", { isUsOnly: true }, "0.0154"],
    ["US-only and fast together", { isUsOnly: true, speed: "fast" }, "0.0308"],
    ["US-only batch", { isUsOnly: true, serviceTier: "batch" }, "0.0077"],
    ["priority at the list price", { serviceTier: "priority" }, "0.014"],
    ["an unsaid tier and speed as standard", { serviceTier: undefined, speed: undefined }, "0.014"],
  ])("charges %s", (_, how, expected) => {
    expect(costUsd("claude-opus-5-5", { uncachedInputTokens: 1_000, outputTokens: 500 }, how)).toBe(expected);
  });

  test.each<[string, Partial<TokenParts>, Partial<Usage>, string]>([
    // 1000·2 + 2000·0.1 + 3000·2.5 + 4000·5 + 500·10, all ÷ 1,000,000
    [
      "cache writes of both its lifetimes",
      {
        uncachedInputTokens: 1_000,
        cacheReadTokens: 2_000,
        cacheWrite5mTokens: 3_000,
        cacheWrite1hTokens: 4_000,
        outputTokens: 500,
      },
      {},
      "0.0347",
    ],
    ["the priority tier at twice the price", { uncachedInputTokens: 1_000 }, { serviceTier: "priority" }, "0.004"],
    ["the flex tier at half the price", { uncachedInputTokens: 1_000 }, { serviceTier: "flex" }, "0.001"],
    // Above 272,000 tokens of input everything is dearer: input and cache twice, output once and a half.
    ["a long prompt", { uncachedInputTokens: 1, cacheReadTokens: 272_000, outputTokens: 100 }, {}, "0.055904"],
  ])("charges OpenAI's %s", (_, tokens, how, expected) => {
    const rated = rateUsage(usageOf("gpt-6.2-sol", tokens, how), (model) => book.find("openai", model, NOW_MS));

    expect(costOf(rated)).toBe(expected);
  });

  test("charges a web search one cent, whatever multiplies the tokens", () => {
    const rest: Partial<Usage> = { webSearchRequests: 3, serviceTier: "batch", isUsOnly: true };
    expect(costUsd("claude-opus-5-5", { uncachedInputTokens: 1_000 }, rest)).toBe("0.0322");
  });

  test("moves the whole request up a tier above 100,000 tokens of input, cached ones counted", () => {
    const atThreshold = { uncachedInputTokens: 1, cacheReadTokens: 99_999, outputTokens: 1_000 };
    expect(costUsd("claude-haiku-5-5", atThreshold)).toBe("0.00150009");
    expect(costUsd("claude-haiku-5-5", { ...atThreshold, cacheReadTokens: 100_000 })).toBe("0.0075005");
  });

  test("rates every sampling by its own model and its own tier", () => {
    const sampling = (model: string, uncachedInputTokens: number): Usage["samplings"][number] => ({
      kind: "message",
      model,
      tokens: { ...NO_TOKENS, uncachedInputTokens },
    });
    const usage = usageOf("claude-haiku-5-5", {});
    usage.samplings = [
      sampling("claude-haiku-5-5", 60_000),
      sampling("claude-haiku-5-5", 60_000),
      sampling("claude-opus-5-5", 1_000),
    ];
    // Two prompts of 60,000 stay in the lower tier although they add up to more: 2 × 0.006 + 0.004.
    expect(costOf(rateUsage(usage, find))).toBe("0.016");
  });

  test("rounds up once per call, not once per part", () => {
    const row = newPriceRow({
      provider: "anthropic",
      model: "m",
      nanoUsdPerMTok: { uncachedInput: parseUsd("0.0005") as never, output: parseUsd("0.0005") as never },
      source: "this test",
      confidence: "configured",
    });
    // Each part is half a nano-dollar: rounded one by one they would be 2.
    const result = rateUsage(usageOf("m", { uncachedInputTokens: 1, outputTokens: 1 }), () => row);
    expect(result).toMatchObject({ outcome: "rated", costNanoUsd: 1n });
    expect(result.parts.map((part) => part.costUsd)).toEqual(["0.0000000005", "0.0000000005"]);
    expect(rateUsage(usageOf("m", { outputTokens: 3 }), () => row)).toMatchObject({ costNanoUsd: 2n });
  });

  test("costs nothing where nothing was used, even on a model without a price", () => {
    expect(costUsd("no-such-model", {})).toBe("0");
  });

  test("leaves an unknown model unpriced", () => {
    expect(rateUsage(usageOf("no-such-model", { outputTokens: 1 }), find)).toMatchObject({
      outcome: "unpriced",
      missing: [{ model: "no-such-model", meter: "model" }],
    });
  });

  test.each<[string, Partial<TokenParts>, Partial<Usage>, string]>([
    ["a meter without a price", { cacheWrite5mTokens: 1 }, {}, "cacheWrite5m"],
    ["a way of running without a price", { outputTokens: 1 }, { speed: "fast" }, "fast"],
  ])("leaves %s unpriced, never 0", (_, tokens, rest, meter) => {
    const result = rateUsage(usageOf("claude-mythos-5-2", tokens, rest), find);
    expect(result).toMatchObject({ outcome: "unpriced", missing: [{ model: "claude-mythos-5-2", meter }] });
  });

  test("does not ask for the price of what was not used", () => {
    expect(costUsd("claude-mythos-5-2", { uncachedInputTokens: 1_000, outputTokens: 100 })).toBe("0.012");
  });

  test("costs nothing on a model that is explicitly free", () => {
    const free = newPriceRow({
      provider: "p",
      model: "m",
      nanoUsdPerMTok: {},
      source: "s",
      confidence: "configured",
      isFree: true,
    });
    const usage = usageOf("m", { uncachedInputTokens: 5, outputTokens: 7 }, { webSearchRequests: 1, speed: "fast" });
    expect(rateUsage(usage, () => free)).toMatchObject({ outcome: "rated", costNanoUsd: 0n, priceIds: [free.id] });
  });

  test("keeps the doubt about a total's tier only where a tier was reached", () => {
    const flags: Usage["flags"] = ["tier_of_total", "cache_ttl_unknown"];
    const below = rateUsage(usageOf("claude-sonnet-4-5", { uncachedInputTokens: 200_000 }, { flags }), find);
    const above = rateUsage(usageOf("claude-sonnet-4-5", { uncachedInputTokens: 200_001 }, { flags }), find);
    expect(below.flags).toEqual(["cache_ttl_unknown"]);
    expect(above.flags).toEqual(["tier_of_total", "cache_ttl_unknown"]);
  });

  test("writes parts that a person can check by hand", () => {
    const rest: Partial<Usage> = { isUsOnly: true, webSearchRequests: 2 };
    const result = rateUsage(usageOf("claude-opus-5-5", { uncachedInputTokens: 60_000 }, rest), find);
    expect(result.parts).toMatchObject([
      {
        meter: "uncachedInput",
        quantity: 60_000,
        unitQuantity: 1_000_000,
        unitUsd: "4",
        multipliers: [{ name: "usOnly", bps: 11_000 }],
        costUsd: "0.264",
      },
      { meter: "webSearch", quantity: 2, unitQuantity: 1, unitUsd: "0.01", multipliers: [], costUsd: "0.02" },
    ]);
    expect(result.priceIds).toEqual(["anthropic/claude-opus-5-5@2026-09-22"]);
    expect(() => structuredClone(result.parts) && JSON.stringify(result.parts)).not.toThrow();
  });

  test("prices an imagined call as a real one", () => {
    const tokens = { ...NO_TOKENS, uncachedInputTokens: 1_000, outputTokens: 500 };
    const call = { book, provider: "anthropic", model: "claude-opus-5-5", atMs: NOW_MS, tokens, isBatch: true };
    expect(costOf(priceCall(call))).toBe("0.007");
  });
});

const anyTokens = fc.record({
  uncachedInputTokens: fc.nat({ max: 1_200_000 }),
  cacheReadTokens: fc.nat({ max: 1_200_000 }),
  cacheWrite5mTokens: fc.nat({ max: 500_000 }),
  cacheWrite1hTokens: fc.nat({ max: 500_000 }),
  outputTokens: fc.nat({ max: 300_000 }),
  reasoningOutputTokens: fc.constant(0),
});

const anyUsage = fc.record({
  samplings: fc.array(
    fc.record({
      kind: fc.constant("message" as const),
      model: fc.constantFrom("claude-opus-5-5", "claude-haiku-5-5", "claude-sonnet-4-5", "claude-opus-5"),
      tokens: anyTokens,
    }),
    { minLength: 1, maxLength: 4 },
  ),
  webSearchRequests: fc.nat({ max: 20 }),
  serviceTier: fc.constantFrom("standard" as const, "batch" as const, undefined),
  speed: fc.constant("standard" as const),
  isUsOnly: fc.constant(false),
  flags: fc.constant<Usage["flags"]>([]),
});

describe("the sum of a call", () => {
  test("is its parts, exactly, rounded up once", () => {
    fc.assert(
      fc.property(anyUsage, (usage) => {
        const result = rateUsage(usage, find);
        if (result.outcome !== "rated") throw new Error("unpriced");
        const [whole = "0", fraction = ""] = sumCostParts(result.parts).split(".");
        const floor = BigInt(whole) * NANO_USD_PER_USD + BigInt(fraction.slice(0, 9).padEnd(9, "0"));
        expect(result.costNanoUsd).toBe(floor + (/[1-9]/.test(fraction.slice(9)) ? 1n : 0n));
      }),
    );
  });

  test("never falls when any count grows", () => {
    const part = fc.constantFrom(
      "uncachedInputTokens",
      "cacheReadTokens",
      "cacheWrite5mTokens",
      "cacheWrite1hTokens",
      "outputTokens",
    );
    fc.assert(
      fc.property(anyUsage, part, fc.nat({ max: 1_000_000 }), (usage, key, more) => {
        const grown = structuredClone(usage);
        const first = grown.samplings[0];
        if (first !== undefined) first.tokens[key] += more;
        const [before, after] = [rateUsage(usage, find), rateUsage(grown, find)];
        if (before.outcome !== "rated" || after.outcome !== "rated") throw new Error("unpriced");
        expect(after.costNanoUsd).toBeGreaterThanOrEqual(before.costNanoUsd);
      }),
    );
  });
});

describe("rating an API that is paid per call", () => {
  const search = newPriceRow({
    provider: "search",
    model: "search",
    kind: "metered",
    nanoUsdPerMTok: {},
    nanoUsdPerUnit: toNanoUsd(4_999_999n),
    source: "a test",
    confidence: "configured",
  });

  test("prices its units exactly, each part to be checked by hand", () => {
    const result = rateUsage(usageOfUnits({ count: 3 }, "search"), () => search);

    expect(costOf(result)).toBe("0.014999997");
    expect(result.parts).toEqual([
      {
        meter: "unit",
        model: "search",
        kind: "message",
        priceId: "configured:search/search@release",
        quantity: 3,
        unitQuantity: 1,
        unitUsd: "0.004999999",
        multipliers: [],
        costUsd: "0.014999997",
      },
    ]);
  });

  test("takes a cost that is stated as it is, without a price", () => {
    const result = rateUsage(usageOfUnits({ statedNanoUsd: toNanoUsd(1n) }, "search"), () => undefined);

    expect([costOf(result), result.priceIds, sumCostParts(result.parts)]).toEqual(["0.000000001", [], "0.000000001"]);
  });

  test("is unpriced, never free, without a price", () => {
    expect(costOf(rateUsage(usageOfUnits({ count: 0 }, "search"), () => undefined))).toBe("unpriced: unit");
  });
});
