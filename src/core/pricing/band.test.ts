import { describe, expect, test } from "vitest";
import { readShippedRows } from "../../../test/figures/shipped-prices.ts";
import { parseUsd, type NanoUsd } from "../money/money.ts";
import { checkPriceBand, workedExample } from "./band.ts";
import { buildPriceBook } from "./price-book.ts";
import type { PriceRow, TokenPrices } from "./price.ts";
import { newPriceRow } from "./rows.ts";

const rows = readShippedRows();
const book = buildPriceBook(rows);
const usd = (text: string): NanoUsd => parseUsd(text) as NanoUsd;
const own = (nanoUsdPerMTok: TokenPrices, rest: Partial<PriceRow> = {}): PriceRow =>
  newPriceRow({
    provider: "anthropic",
    model: "my-model",
    nanoUsdPerMTok,
    source: "purser.yaml",
    confidence: "configured",
    ...rest,
  });

describe("the sanity band", () => {
  test("holds every shipped price", () => {
    expect(rows.map((row) => checkPriceBand(row, row)).filter((problem) => problem !== undefined)).toEqual([]);
  });

  test("names a price per token typed as per million, and what to write instead", () => {
    expect(checkPriceBand(own({ uncachedInput: usd("0.000003") }))).toBe(
      "inputUsdPerMTok of my-model: found $0.000003 per million tokens; usual is $0.01 to $600 per million tokens. " +
        "If $0.000003 is the price of one token, write 3; of a thousand tokens, 0.003.",
    );
  });

  test.each<[string, string, string]>([
    ["a million times too low", "3", "0.000003"],
    ["a million times too high", "3", "3000000"],
    ["a thousand times too low", "3", "0.003"],
    ["a thousand times too high", "3", "3000"],
  ])("refuses a price %s at an unknown model", (_, __, wrong) => {
    expect(checkPriceBand(own({ uncachedInput: usd("3"), output: usd(wrong) }))).toContain(`found $${wrong} per million tokens`);
  });

  test("refuses a thousand-fold mistake at every known chat model", () => {
    for (const row of rows) {
      for (const factor of [1_000n, 1_000_000n]) {
        const scaled = (scale: (price: bigint) => bigint): PriceRow => ({
          ...row,
          nanoUsdPerMTok: Object.fromEntries(Object.entries(row.nanoUsdPerMTok).map(([meter, price]) => [meter, scale(price)])),
        });
        expect([
          row.id,
          checkPriceBand(
            scaled((price) => price * factor),
            row,
          ),
        ]).not.toEqual([row.id, undefined]);
        expect([
          row.id,
          checkPriceBand(
            scaled((price) => price / factor),
            row,
          ),
        ]).not.toEqual([row.id, undefined]);
      }
    }
  });

  test("compares with the model's own price where it is known", () => {
    const known = book.find("openai", "gpt-5-nano", Date.UTC(2026, 10, 22));
    // 50 dollars is a plausible price, but not a thousand times what this model costs.
    expect(checkPriceBand(own({ uncachedInput: usd("50") }))).toBeUndefined();
    expect(checkPriceBand(own({ uncachedInput: usd("50") }), known)).toContain("its known price is $0.05 per million tokens");
  });

  test("lets a negotiated price and an explicit zero pass", () => {
    const known = book.find("anthropic", "claude-opus-5-5", Date.UTC(2026, 10, 22));
    expect(checkPriceBand(own({ uncachedInput: usd("3.2"), output: usd("16") }), known)).toBeUndefined();
    expect(checkPriceBand(own({}, { isFree: true }))).toBeUndefined();
  });
});

describe("the worked example", () => {
  test("says what a small call costs", () => {
    expect(workedExample(own({ uncachedInput: usd("3"), output: usd("15") }))).toBe(
      "1,000 input + 500 output tokens on my-model cost $0.0105",
    );
  });

  test("leaves output out for embeddings", () => {
    const row = own({ uncachedInput: usd("0.02") }, { kind: "embedding" });
    expect(workedExample(row)).toBe("1,000 input tokens on my-model cost $0.00002");
  });

  test("says zero for a free model and names what is missing", () => {
    expect(workedExample(own({}, { isFree: true }))).toBe("1,000 input + 500 output tokens on my-model cost $0");
    expect(workedExample(own({ uncachedInput: usd("3") }))).toContain("output is missing");
  });
});
