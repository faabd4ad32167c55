/**
 * The shipped prices against the publishers' tables, typed by hand from a fact sheet of 2026-11-22 (USD per million tokens), not from the
 * data they check. `undefined` is a price no source states.
 */
import { describe, expect, test } from "vitest";
import { readShippedRows } from "../../../test/figures/shipped-prices.ts";
import { formatUsd } from "../money/money.ts";
import { buildPriceBook } from "./price-book.ts";
import type { PriceRow, TokenMeter, TokenPrices } from "./price.ts";

const TODAY_MS = Date.UTC(2026, 10, 22);
const rows = readShippedRows();
const book = buildPriceBook(rows);

function cells(prices: TokenPrices | undefined, meters: readonly TokenMeter[]): (string | undefined)[] {
  return meters.map((meter) => (prices?.[meter] === undefined ? undefined : formatUsd(prices[meter])));
}

const K = 1_000;
const M = 1_000_000;
const _ = undefined;

const ANTHROPIC_METERS: readonly TokenMeter[] = ["uncachedInput", "cacheWrite5m", "cacheWrite1h", "cacheRead", "output"];
type AnthropicLine = [
  names: string,
  input: string,
  w5m: string | undefined,
  w1h: string | undefined,
  read: string | undefined,
  output: string,
  context: number | undefined,
  outputMax: number | undefined,
];

// prettier-ignore
const ANTHROPIC: AnthropicLine[] = [
  ["claude-fable-5-2",                                        "8",    "10",    "16",  "0.2",  "40",   1 * M, 128 * K],
  ["claude-mythos-5-2",                                       "8",    _,       _,     _,      "40",   1 * M, 128 * K],
  ["claude-opus-5-5",                                         "4",    "5",     "8",   "0.2",  "20",   1 * M, 128 * K],
  ["claude-sonnet-5-5",                                       "2",    "2.5",   "4",   "0.1",  "10",   1 * M, 128 * K],
  ["claude-haiku-5-5",                                        "0.1",  "0.125", "0.2", "0.01", "0.5",  1 * M, 128 * K],
  ["claude-fable-5-1 claude-mythos-5-1",                      "10",   "12.5",  "20",  "0.25", "50",   1 * M, 128 * K],
  ["claude-fable-5 claude-mythos-5",                          "10",   "12.5",  "20",  "1",    "50",   1 * M, 128 * K],
  ["claude-opus-5",                                           "5",    "6.25",  "10",  "0.5",  "25",   1 * M, 128 * K],
  ["claude-opus-4-8",                                         "5",    "6.25",  "10",  "0.5",  "25",   1 * M, 128 * K],
  ["claude-opus-4-7 claude-opus-4-7-20260416",                "5",    "6.25",  "10",  "0.5",  "25",   1 * M, 128 * K],
  ["claude-opus-4-6 claude-opus-4-6-20260205",                "5",    "6.25",  "10",  "0.5",  "25",   1 * M, 128 * K],
  ["claude-opus-4-5-20251101 claude-opus-4-5",                "5",    "6.25",  "10",  "0.5",  "25",   200 * K, 64 * K],
  ["claude-sonnet-5",                                         "2",    "2.5",   "4",   "0.2",  "10",   1 * M, 128 * K],
  ["claude-sonnet-4-6",                                       "3",    "3.75",  "6",   "0.3",  "15",   1 * M, 128 * K],
  ["claude-sonnet-4-5-20250929 claude-sonnet-4-5",            "3",    "3.75",  "6",   "0.3",  "15",   200 * K, 64 * K],
  ["claude-haiku-4-5-20251001 claude-haiku-4-5",              "1",    "1.25",  "2",   "0.1",  "5",    200 * K, 64 * K],
  ["claude-opus-4-1-20250805 claude-opus-4-1",                "15",   "18.75", "30",  "1.5",  "75",   200 * K, 32 * K],
  ["claude-opus-4-20250514 claude-opus-4-0 claude-4-opus-20250514",       "15", "18.75", "30", "1.5", "75", 200 * K, 32 * K],
  ["claude-sonnet-4-20250514 claude-sonnet-4-0 claude-4-sonnet-20250514", "3",  "3.75",  "6",  "0.3", "15", 1 * M,   64 * K],
  ["claude-3-7-sonnet-20250219",                              "3",    "3.75",  "6",   "0.3",  "15",   200 * K, 64 * K],
  ["claude-3-5-haiku-20241022",                               "0.8",  "1",     "1.6", "0.08", "4",    200 * K, 8_192],
  ["claude-3-5-sonnet-20240620 claude-3-5-sonnet-20241022",   "3",    "3.75",  "6",   "0.3",  "15",   200 * K, 8_192],
  ["claude-3-haiku-20240307",                                 "0.25", "0.3",   "0.5", "0.03", "1.25", 200 * K, 4_096],
  ["claude-3-opus-20240229",                                  "15",   "18.75", "30",  "1.5",  "75",   200 * K, 4_096],
  ["claude-3-sonnet-20240229",                                "3",    _,       _,     _,      "15",   _, _],
  ["claude-2.0 claude-2.1",                                   "8",    _,       _,     _,      "24",   _, _],
];

describe("Anthropic's prices", () => {
  test.each(ANTHROPIC)("are those of the table: %s", (names, ...expected) => {
    for (const name of names.split(" ")) {
      const row = book.find("anthropic", name, TODAY_MS);
      expect([name, ...cells(row?.nanoUsdPerMTok, ANTHROPIC_METERS), row?.contextTokensMax, row?.outputTokensMax]).toEqual([
        name,
        ...expected,
      ]);
    }
  });

  test("have no row that the table does not have", () => {
    const named = new Set(ANTHROPIC.flatMap(([names]) => names.split(" ")));
    expect(rows.filter((row) => row.provider === "anthropic" && !named.has(row.model)).map((row) => row.id)).toEqual([]);
  });

  test.each<[string, number, (string | undefined)[]]>([
    ["claude-haiku-5-5", 100_000, ["0.5", "0.625", "1", "0.05", "2.5"]],
    ["claude-sonnet-4-20250514", 200_000, ["6", "7.5", "12", "0.6", "22.5"]],
    ["claude-sonnet-4-5", 200_000, ["6", "7.5", "12", "0.6", "22.5"]],
  ])("have the long-context tier of %s above %d", (model, aboveInputTokens, expected) => {
    const tiers = book.find("anthropic", model, TODAY_MS)?.tiers ?? [];
    expect(tiers.map((tier) => [tier.aboveInputTokens, cells(tier.nanoUsdPerMTok, ANTHROPIC_METERS)])).toEqual([
      [aboveInputTokens, expected],
    ]);
  });

  test("have tiers at no other model", () => {
    const tiered = rows.filter((row) => row.provider === "anthropic" && row.tiers.length > 0).map((row) => row.model);
    expect(tiered).toEqual(["claude-haiku-5-5", "claude-sonnet-4-5-20250929", "claude-sonnet-4-20250514"]);
  });

  test("read Sonnet 5.5's cache at 0.20 before 2026-10-07", () => {
    const before = book.find("anthropic", "claude-sonnet-5-5", Date.UTC(2026, 9, 7) - 1);
    expect(cells(before?.nanoUsdPerMTok, ANTHROPIC_METERS)).toEqual(["2", "2.5", "4", "0.2", "10"]);
  });

  const SINCE_4_6 =
    "claude-fable-5-2 claude-mythos-5-2 claude-opus-5-5 claude-sonnet-5-5 claude-haiku-5-5 claude-fable-5-1 claude-mythos-5-1 claude-fable-5 " +
    "claude-mythos-5 claude-opus-5 claude-opus-4-8 claude-opus-4-7 claude-opus-4-6 claude-sonnet-5 claude-sonnet-4-6";
  const named = (pick: (row: PriceRow) => boolean): string[] =>
    [...new Set(book.rows.filter((row) => row.provider === "anthropic" && pick(row)).map((row) => row.model))].toSorted();

  test("charge 1.1 for US-only inference from Claude 4.6 on", () => {
    expect(named((row) => row.usOnlyBps === 11_000)).toEqual(SINCE_4_6.split(" ").toSorted());
    expect(named((row) => row.usOnlyBps !== undefined && row.usOnlyBps !== 11_000)).toEqual([]);
  });

  test("charge 1.1 on other platforms' regional endpoints from Claude 4.5 on", () => {
    const also = ["claude-opus-4-5-20251101", "claude-sonnet-4-5-20250929", "claude-haiku-4-5-20251001"];
    expect(named((row) => row.regionalBps === 11_000)).toEqual([...SINCE_4_6.split(" "), ...also].toSorted());
  });

  test("charge twice for fast mode where it exists, and once on Opus 4.6, which ignores it", () => {
    expect(named((row) => row.fastBps === 20_000)).toEqual([
      "claude-fable-5-2",
      "claude-opus-4-8",
      "claude-opus-5",
      "claude-opus-5-5",
    ]);
    expect(named((row) => row.fastBps !== undefined && row.fastBps !== 20_000)).toEqual(["claude-opus-4-6"]);
  });

  test("halve a batch, leave Priority Tier at list price and charge a cent per search everywhere", () => {
    const every = (row: PriceRow): boolean =>
      row.batchBps === 5_000 && row.priorityBps === 10_000 && row.nanoUsdPerWebSearch === 10_000_000n;
    expect(rows.filter((row) => row.provider === "anthropic" && !every(row))).toEqual([]);
  });
});

const OPENAI_METERS: readonly TokenMeter[] = ["uncachedInput", "cacheRead", "cacheWrite30m", "cacheWrite12h", "output"];
type OpenAiLine = [
  name: string,
  input: string,
  cached: string | undefined,
  write: string | undefined,
  write12h: string | undefined,
  output: string,
];

// prettier-ignore
const OPENAI: OpenAiLine[] = [
  ["gpt-6.2-astra",          "8",    _,       _,       _,     "40"],
  ["gpt-6.2-sol",            "2",    "0.1",   "2.5",   "5",   "10"],
  ["gpt-6.1-sol",            "2",    "0.1",   "2.5",   _,     "10"],
  ["gpt-6.1-terra",          "1",    "0.05",  "1.25",  "2.5", "5"],
  ["gpt-6-astra",            "10",   "1",     "12.5",  _,     "50"],
  ["gpt-6-sol",              "2",    "0.2",   "2.5",   _,     "10"],
  ["gpt-6-luna",             "0.1",  "0.01",  "0.125", _,     "0.5"],
  ["gpt-5.6-sol",            "4",    _,       _,       _,     "20"],
  ["gpt-5.6-terra",          "2",    "0.2",   "2.5",   _,     "12"],
  ["gpt-5.6-luna",           "0.2",  "0.02",  "0.25",  _,     "1.2"],
  ["gpt-5.5",                "5",    "0.5",   _,       _,     "30"],
  ["gpt-5.5-pro",            "30",   "3",     _,       _,     "180"],
  ["gpt-5.4",                "2.5",  "0.25",  _,       _,     "15"],
  ["gpt-5.4-mini",           "0.75", "0.075", _,       _,     "4.5"],
  ["gpt-5.4-nano",           "0.2",  "0.02",  _,       _,     "1.25"],
  ["gpt-5.2",                "1.75", "0.175", _,       _,     "14"],
  ["gpt-5.2-codex",          "1.75", "0.175", _,       _,     "14"],
  ["gpt-5.1",                "1.25", "0.125", _,       _,     "10"],
  ["gpt-5",                  "1.25", "0.125", _,       _,     "10"],
  ["gpt-5-mini",             "0.25", "0.025", _,       _,     "2"],
  ["gpt-5-nano",             "0.05", "0.005", _,       _,     "0.4"],
  ["gpt-4.1",                "2",    "0.5",   _,       _,     "8"],
  ["gpt-4.1-mini",           "0.4",  "0.1",   _,       _,     "1.6"],
  ["gpt-4.1-nano",           "0.1",  "0.025", _,       _,     "0.4"],
  ["gpt-4o",                 "2.5",  "1.25",  _,       _,     "10"],
  ["gpt-4o-mini",            "0.15", "0.075", _,       _,     "0.6"],
  ["o3",                     "2",    "0.5",   _,       _,     "8"],
  ["o4-mini",                "1.1",  "0.275", _,       _,     "4.4"],
  ["o3-mini",                "1.1",  "0.55",  _,       _,     "4.4"],
  ["o1",                     "15",   "7.5",   _,       _,     "60"],
  ["text-embedding-3-small", "0.02", _,       _,       _,     "0"],
  ["text-embedding-3-large", "0.13", _,       _,       _,     "0"],
  ["text-embedding-ada-002", "0.1",  _,       _,       _,     "0"],
];

describe("OpenAI's prices", () => {
  test.each(OPENAI)("are those of the table: %s", (name, ...expected) => {
    expect(cells(book.find("openai", name, TODAY_MS)?.nanoUsdPerMTok, OPENAI_METERS)).toEqual(expected);
  });

  test("keep the price of gpt-5.6-sol before its cut", () => {
    const before = book.find("openai", "gpt-5.6-sol", Date.UTC(2026, 9, 4) - 1);
    expect(cells(before?.nanoUsdPerMTok, OPENAI_METERS)).toEqual(["5", "0.5", "6.25", _, "30"]);
  });

  test("double input and cache and add half to output above 272,000, from GPT-5.4 on", () => {
    const tiered = book.rows.filter((row) => row.provider === "openai" && row.tiers.length > 0);
    const families = new Set(tiered.map((row) => row.model.slice(0, 5)));
    expect([...families].toSorted()).toEqual(["gpt-5", "gpt-6"]);
    for (const row of tiered) {
      const [tier, ...more] = row.tiers;
      expect([row.id, tier?.aboveInputTokens, more]).toEqual([row.id, 272_000, []]);
      for (const [meter, price] of Object.entries(row.nanoUsdPerMTok) as [TokenMeter, bigint][]) {
        const share = meter === "output" ? 15n : 20n;
        expect([row.id, meter, tier?.nanoUsdPerMTok[meter]]).toEqual([row.id, meter, (price * share) / 10n]);
      }
    }
  });

  test("leave out an implausible priority price and search prices that depend on a setting", () => {
    expect(book.find("openai", "gpt-5-nano", TODAY_MS)?.priorityBps).toBeUndefined();
    expect(book.find("openai", "gpt-4o-search-preview", TODAY_MS)).toBeUndefined();
  });
});

test("every shipped row says its source and how sure it is", () => {
  expect(rows.filter((row) => row.source.length < 10 && row.source !== "codexometer")).toEqual([]);
  expect(new Set(rows.map((row) => row.confidence))).toEqual(new Set(["official", "secondary"]));
});
