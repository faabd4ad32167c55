import { expect, test } from "vitest";
import { workedExample } from "../core/pricing/band.ts";
import { readConfig } from "./config.ts";
import { builtInPrices, priceBookOf, withOwnPrices } from "./price-book.ts";

const NOV_1_MS = Date.UTC(2026, 10, 1);

function ownPrices(text: string): { prices: Parameters<typeof withOwnPrices>[1] } {
  const result = readConfig({ text, fileName: "purser.yaml", env: {} });
  if (result.outcome === "invalid") throw new Error(result.problems.map(({ message }) => message).join("\n"));
  return result.config;
}

const OWN = ownPrices(`prices:
  claude-sonnet-4-5: { inputUsdPerMTok: 2, outputUsdPerMTok: 10, from: 2026-11-01 }
  my-model: { inputUsdPerMTok: 3, outputUsdPerMTok: 15 }
  gift: { free: true }
`);

test("the built-in prices know both providers", () => {
  const book = builtInPrices();

  expect(new Set(book.rows.map(({ provider }) => provider))).toEqual(new Set(["anthropic", "openai"]));
});

test("an own price holds from its day on, the built-in one before it", () => {
  const book = priceBookOf(OWN);

  expect(book.find("anthropic", "claude-sonnet-4-5", NOV_1_MS - 1)?.confidence).not.toBe("configured");
  expect(book.find("anthropic", "claude-sonnet-4-5", NOV_1_MS)).toMatchObject({
    confidence: "configured",
    nanoUsdPerMTok: { uncachedInput: 2_000_000_000n, output: 10_000_000_000n },
  });
});

test("an own price keeps what is known of its model besides token prices, and fills no price in", () => {
  const builtIn = builtInPrices();
  const known = builtIn.find("anthropic", "claude-sonnet-4-5", NOV_1_MS);
  const own = withOwnPrices(builtIn, OWN.prices).find("anthropic", "claude-sonnet-4-5", NOV_1_MS);

  expect(known?.contextTokensMax).toBeGreaterThan(0);
  for (const key of ["contextTokensMax", "outputTokensMax", "usOnlyBps", "batchBps", "tiers", "nanoUsdPerWebSearch"] as const) {
    expect(own?.[key]).toEqual(known?.[key]);
  }
  expect(own?.nanoUsdPerMTok).not.toHaveProperty("cacheRead");
});

test("a model of one's own and a free one are found", () => {
  const book = priceBookOf(OWN);

  expect(book.find("anthropic", "my-model", 0)?.isFree).toBe(false);
  expect(book.find("anthropic", "gift", 0)?.isFree).toBe(true);
});

test("every own price has a worked example to check it by", () => {
  expect(OWN.prices.map(workedExample)[1]).toBe("1,000 input + 500 output tokens on my-model cost $0.0105");
});
