import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { formatUsd } from "../money/money.ts";
import { NO_TOKENS, type Sampling, type Usage } from "../usage/usage.ts";
import { boundAt, boundCost, boundLine, outputWithin, type BoundCostInput } from "./bound.ts";
import { readShippedRows } from "../../../test/figures/shipped-prices.ts";
import { buildPriceBook, dearestRow } from "./price-book.ts";
import { hasOwnCacheWrites, type PriceRow } from "./price.ts";
import { rateUsage } from "./rate.ts";
import { newPriceRow } from "./rows.ts";

const NOW_MS = Date.UTC(2026, 10, 22);
const rows = readShippedRows();
const book = buildPriceBook(rows);

function rowOf(model: string): PriceRow {
  const row = book.find(model.startsWith("gpt-") ? "openai" : "anthropic", model, NOW_MS);
  if (row === undefined) throw new Error(`no row for ${model}`);
  return row;
}

const PLAIN: BoundCostInput = {
  inputTokens: 60_000,
  outputTokens: 2_048,
  cacheWrites: "none",
  speed: "standard",
  isUsOnly: false,
  isPriority: false,
  webSearches: 0,
};
const boundUsd = (model: string, input: Partial<BoundCostInput>): string => {
  const bound = boundCost(rowOf(model), { ...PLAIN, ...input });
  return bound === undefined ? "no bound" : formatUsd(bound);
};

describe("the bound of a call", () => {
  test.each<[string, string, Partial<BoundCostInput>, string]>([
    ["plain input and all the output", "claude-opus-5-5", {}, "0.28096"],
    ["5-minute cache writes instead of plain input", "claude-opus-5-5", { cacheWrites: "5m" }, "0.34096"],
    ["1-hour cache writes instead of plain input", "claude-opus-5-5", { cacheWrites: "1h" }, "0.52096"],
    ["fast mode", "claude-opus-5-5", { speed: "fast" }, "0.56192"],
    ["the US surcharge where asked", "claude-opus-5-5", { isUsOnly: true }, "0.309056"],
    ["the US surcharge where nothing is said", "claude-opus-5-5", { isUsOnly: undefined }, "0.309056"],
    ["no US surcharge on a model without one", "claude-haiku-4-5", { isUsOnly: undefined }, "0.07024"],
    ["searches without any multiplier", "claude-opus-5-5", { isUsOnly: true, webSearches: 5 }, "0.359056"],
    ["the lower tier up to its threshold", "claude-haiku-5-5", { inputTokens: 100_000 }, "0.011024"],
    ["the upper tier as soon as it may be passed", "claude-haiku-5-5", { inputTokens: 100_001 }, "0.0551205"],
  ])("counts %s", (_, model, input, expected) => {
    expect(boundUsd(model, input)).toBe(expected);
  });

  test.each<[string, string, Partial<BoundCostInput>]>([
    ["the model has no cache write price", "claude-mythos-5-2", { cacheWrites: "5m" }],
    ["the model has no fast price", "claude-sonnet-5-5", { speed: "fast" }],
    ["the model has no price for the longer of its own lifetimes", "gpt-6.1-sol", { cacheWrites: "1h" }],
    ["the model has no US-only price", "claude-haiku-4-5", { isUsOnly: true }],
  ])("does not exist where %s", (_, model, input) => {
    expect(boundUsd(model, input)).toBe("no bound");
  });

  test("is nothing on a free model", () => {
    const free = newPriceRow({
      provider: "p",
      model: "m",
      nanoUsdPerMTok: {},
      source: "s",
      confidence: "configured",
      isFree: true,
    });
    expect(boundCost(free, PLAIN)).toBe(0n);
  });
});

/** Some usage that stays within the bounds: input split over one to three samplings and over the meters that may be used. */
function usageWithin(
  row: PriceRow,
  input: BoundCostInput,
  cuts: readonly number[],
  ways: { isBatch: boolean; isFast: boolean; isUs: boolean; isPriority: boolean },
): Usage {
  const [first = 0, second = 0, read = 0, write5m = 0, write1h = 0, used = 0] = cuts;
  const isPriority = ways.isPriority && input.isPriority !== false && row.priorityBps !== undefined;
  const shares = [first, (1 - first) * second, (1 - first) * (1 - second)];
  const samplings = shares.map((share): Sampling => {
    const total = Math.floor(input.inputTokens * share * used);
    const cacheReadTokens = row.nanoUsdPerMTok.cacheRead === undefined ? 0 : Math.floor(total * read);
    const isWritten = input.cacheWrites !== "none" || hasOwnCacheWrites(row);
    const cacheWrite5mTokens = !isWritten ? 0 : Math.floor((total - cacheReadTokens) * write5m);
    const cacheWrite1hTokens =
      input.cacheWrites === "1h" ? Math.floor((total - cacheReadTokens - cacheWrite5mTokens) * write1h) : 0;
    const uncachedInputTokens = total - cacheReadTokens - cacheWrite5mTokens - cacheWrite1hTokens;
    const outputTokens = row.nanoUsdPerMTok.output === undefined ? 0 : Math.floor(input.outputTokens * share);
    const tokens = { ...NO_TOKENS, uncachedInputTokens, cacheReadTokens, cacheWrite5mTokens, cacheWrite1hTokens, outputTokens };
    return { kind: "message", model: row.model, tokens };
  });
  return {
    samplings,
    webSearchRequests: Math.floor(input.webSearches * used),
    serviceTier: ways.isBatch ? "batch" : isPriority ? "priority" : "standard",
    speed: ways.isFast && input.speed === "fast" ? "fast" : "standard",
    isUsOnly: ways.isUs && input.isUsOnly !== false && row.usOnlyBps !== undefined,
    flags: [],
  };
}

/** Only ways of running that the row prices: the rest has no bound, which other tests hold. */
const inputFor = (row: PriceRow): fc.Arbitrary<BoundCostInput> =>
  fc.record({
    inputTokens: fc.oneof(fc.nat({ max: 1_100_000 }), fc.constantFrom(100_000, 100_001, 200_000, 200_001, 272_000, 272_001)),
    outputTokens: fc.nat({ max: 128_000 }),
    cacheWrites: fc.constantFrom(
      ...((row.nanoUsdPerMTok.cacheWrite1h ?? row.nanoUsdPerMTok.cacheWrite12h) === undefined
        ? (["none"] as const)
        : (["none", "5m", "1h"] as const)),
    ),
    speed: fc.constantFrom(...(row.fastBps === undefined ? (["standard"] as const) : (["standard", "fast"] as const))),
    isPriority: fc.constantFrom(...(row.priorityBps === undefined ? [false, undefined] : [true, false, undefined])),
    isUsOnly: fc.constantFrom(...(row.usOnlyBps === undefined ? [false, undefined] : [true, false, undefined])),
    webSearches: row.nanoUsdPerWebSearch === undefined ? fc.constant(0) : fc.nat({ max: 10 }),
  });
const share = fc.double({ min: 0, max: 1, noNaN: true });
const corner = fc.oneof(share, fc.constantFrom(0, 1));

describe("every row of the price book", () => {
  const all = [...rows, ...["anthropic", "openai"].map((provider) => dearestRow(rows, provider, NOW_MS) as PriceRow)];
  test.each(all.map((row) => [row.id, row] as const))("bounds all usage within the bounds: %s", (_, row) => {
    const ways = fc.record({ isBatch: fc.boolean(), isFast: fc.boolean(), isUs: fc.boolean(), isPriority: fc.boolean() });
    let priced = 0;
    fc.assert(
      fc.property(inputFor(row), fc.array(corner, { minLength: 6, maxLength: 6 }), ways, (input, cuts, how) => {
        const bound = boundCost(row, input);
        const rated = rateUsage(usageWithin(row, input, cuts, how), () => row);
        if (bound === undefined || rated.outcome !== "rated") return false;
        priced += 1;
        return rated.costNanoUsd <= bound;
      }),
      { numRuns: 150 },
    );
    // A run in which nothing had a price would prove nothing.
    expect(priced).toBe(150);
  });

  test.each(all.map((row) => [row.id, row] as const))("affords exactly so much output, and no token more: %s", (_, row) => {
    const share = fc.bigInt({ min: 0n, max: 11_000n });
    let cut = 0;
    fc.assert(
      fc.property(inputFor(row), share, (input, shareBps) => {
        const line = boundLine(row, input);
        if (line === undefined) return false;
        const nanoUsd = (boundAt(line, input.outputTokens) * shareBps) / 10_000n;
        const boundWith = (outputTokens: number) => boundCost(row, { ...input, outputTokens }) ?? -1n;
        const most = outputWithin(line, nanoUsd, input.outputTokens);
        if (most < 0) return boundAt(line, 0) > nanoUsd;
        if (most < input.outputTokens) cut += 1;
        return boundWith(most) <= nanoUsd && (most === input.outputTokens || boundWith(most + 1) > nanoUsd);
      }),
      { numRuns: 150 },
    );
    // Embeddings have no output: there is nothing to make less of.
    expect(cut > 0).toBe((row.nanoUsdPerMTok.output ?? 0n) > 0n);
  });
});
