import { describe, expect, test } from "vitest";
import { formatUsd } from "../money/money.ts";
import { parsePriceRows, PriceDataError } from "./rows.ts";

const ROW = {
  model: "m-1",
  kind: "chat",
  inputUsdPerMTok: "3",
  outputUsdPerMTok: "15",
  source: "somewhere",
  confidence: "official",
};
const read = (...rows: Record<string, unknown>[]) =>
  parsePriceRows({ provider: "p", rows: rows.map((row) => ({ ...ROW, ...row })) });

describe("reading price data", () => {
  test("reads every field exactly and leaves absent what is not written", () => {
    const [row] = read({
      aliases: ["m-one"],
      released: "2026-09-22",
      cacheReadUsdPerMTok: "0.000000001",
      tiers: [{ aboveInputTokens: 100_000, inputUsdPerMTok: "6" }],
      batchMultiplier: "0.5",
      usOnlyMultiplier: "1.1",
      priorityMultiplier: "1.8182",
      webSearchUsdEach: "0.01",
      contextTokensMax: 200_000,
    });
    expect(row).toMatchObject({
      id: "p/m-1@2026-09-22",
      aliases: ["m-one"],
      fromMs: undefined,
      isFree: false,
      nanoUsdPerMTok: { uncachedInput: 3_000_000_000n, cacheRead: 1n, output: 15_000_000_000n },
      tiers: [{ aboveInputTokens: 100_000, nanoUsdPerMTok: { uncachedInput: 6_000_000_000n } }],
      batchBps: 5_000,
      usOnlyBps: 11_000,
      priorityBps: 18_182,
      fastBps: undefined,
      nanoUsdPerWebSearch: 10_000_000n,
      contextTokensMax: 200_000,
      outputTokensMax: undefined,
    });
    expect(row?.nanoUsdPerMTok.cacheWrite5m).toBeUndefined();
  });

  test("begins a later price at midnight UTC of its day", () => {
    const [, later] = read({}, { from: "2026-10-07", outputUsdPerMTok: "12" });
    expect(later).toMatchObject({ id: "p/m-1@2026-10-07", fromMs: Date.UTC(2026, 9, 7) });
    expect(formatUsd(later?.nanoUsdPerMTok.output ?? 0n)).toBe("12");
  });

  test("reads free only where it is written", () => {
    const [row] = read({ inputUsdPerMTok: undefined, outputUsdPerMTok: undefined, free: true });
    expect(row).toMatchObject({ isFree: true, nanoUsdPerMTok: {} });
  });

  test.each<[string, Record<string, unknown>, string]>([
    [
      "a price as a number",
      { inputUsdPerMTok: 3 },
      'rows[0] (m-1).inputUsdPerMTok: found 3, allowed: US dollars as decimal text with at most nine decimal places, such as "3.75"',
    ],
    ["a negative price", { outputUsdPerMTok: "-1" }, 'rows[0] (m-1).outputUsdPerMTok: found "-1"'],
    ["a price finer than a nano-dollar", { outputUsdPerMTok: "0.0000000001" }, 'found "0.0000000001"'],
    ["a price in exponent form", { outputUsdPerMTok: "3e-6" }, 'found "3e-6"'],
    ["a price of 0 that is not called free", { outputUsdPerMTok: "0" }, 'rows[0] (m-1): found "a price of 0"'],
    ["a row without any price", { inputUsdPerMTok: undefined, outputUsdPerMTok: undefined }, 'rows[0] (m-1): found "no price"'],
    ["a field nobody reads", { imageUsdEach: "1" }, 'rows[0] (m-1).imageUsdEach: found "1", allowed: one of the fields model,'],
    ["a day that does not exist", { from: "2026-02-30" }, 'rows[0] (m-1).from: found "2026-02-30"'],
    ["a time that is no day", { from: "2026-10-07T00:00" }, 'allowed: a day that exists, as "2026-10-07"'],
    ["an unknown kind", { kind: "image" }, 'rows[0] (m-1).kind: found "image", allowed: chat or embedding'],
    ["an unknown confidence", { confidence: "sure" }, "allowed: official or secondary or inferred or configured"],
    ["no source", { source: "" }, 'rows[0] (m-1).source: found ""'],
    ["a multiplier finer than basis points", { fastMultiplier: "1.00001" }, 'rows[0] (m-1).fastMultiplier: found "1.00001"'],
    ["a multiplier of 0", { batchMultiplier: "0" }, 'rows[0] (m-1).batchMultiplier: found "0"'],
    ["tiers out of order", { tiers: [{ aboveInputTokens: 2 }, { aboveInputTokens: 1 }] }, 'rows[0] (m-1).tiers: found "2, 1"'],
    [
      "a context of a broken number",
      { contextTokensMax: 1.5 },
      "rows[0] (m-1).contextTokensMax: found 1.5, allowed: a whole number above 0",
    ],
    ["an alias with white space", { aliases: [" m"] }, 'rows[0] (m-1).aliases[0]: found " m"'],
  ])("refuses %s, naming the place", (_, row, message) => {
    expect(() => read(row)).toThrow(PriceDataError);
    expect(() => read(row)).toThrow(message);
  });

  test("refuses one name twice in one period", () => {
    expect(() => read({}, { model: "m-2", aliases: ["m-1"] })).toThrow('rows: m-2: found "\\"m-1\\", also in m-1"');
  });

  test.each([null, [], "text", { rows: [] }, { provider: "p" }, { provider: "p", rows: [1] }])(
    "refuses %j as price data",
    (json) => {
      expect(() => parsePriceRows(json)).toThrow(PriceDataError);
    },
  );
});
