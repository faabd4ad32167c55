/** The shipped price data as rows, for tests. */
import { readFileSync } from "node:fs";
import type { PriceRow } from "../../src/core/pricing/price.ts";
import { parsePriceRows } from "../../src/core/pricing/rows.ts";

export function readPriceData(provider: "anthropic" | "openai"): unknown {
  return JSON.parse(readFileSync(new URL(`../../prices/${provider}.json`, import.meta.url), "utf8"));
}

export function readShippedRows(): PriceRow[] {
  return [...parsePriceRows(readPriceData("anthropic")), ...parsePriceRows(readPriceData("openai"))];
}
