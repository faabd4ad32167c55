import { describe, expect, test } from "vitest";
import { formatUsd, parseUsd, type NanoUsd } from "../money/money.ts";
import { readShippedRows } from "../../../test/figures/shipped-prices.ts";
import { buildPriceBook } from "./price-book.ts";
import type { PriceRow } from "./price.ts";
import { newPriceRow } from "./rows.ts";

const NOW_MS = Date.UTC(2026, 10, 22);
const rows = readShippedRows();
const book = buildPriceBook(rows);
const find = (model: string, atMs = NOW_MS): PriceRow | undefined => book.find("anthropic", model, atMs);
const usd = (text: string): NanoUsd => parseUsd(text) as NanoUsd;

describe("finding a model", () => {
  test.each([
    ["claude-opus-5", "claude-opus-5"],
    ["claude-opus-5-5", "claude-opus-5-5"],
    ["claude-opus-5-5[1m]", "claude-opus-5-5"],
    ["claude-opus-5-5-20260922", "claude-opus-5-5"],
    ["claude-haiku-4-5", "claude-haiku-4-5-20251001"],
    ["claude-haiku-4-5-20251001", "claude-haiku-4-5-20251001"],
    ["claude-haiku-4-5@20251001", "claude-haiku-4-5-20251001"],
    ["claude-opus-4-6@default", "claude-opus-4-6"],
    ["claude-opus-4-7-20260416", "claude-opus-4-7"],
    ["claude-4-opus-20250514", "claude-opus-4-20250514"],
    ["claude-sonnet-4-0", "claude-sonnet-4-20250514"],
    ["anthropic.claude-haiku-5-5", "claude-haiku-5-5"],
    ["anthropic.claude-haiku-4-5-20251001-v1:0", "claude-haiku-4-5-20251001"],
    ["global.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5-20250929"],
    ["us.anthropic.claude-opus-4-6-v1", "claude-opus-4-6"],
    ["eu.anthropic.claude-3-5-sonnet-20241022-v2:0", "claude-3-5-sonnet-20241022"],
    ["apac.anthropic.claude-sonnet-4-20250514-v1:0[1m]", "claude-sonnet-4-20250514"],
  ])("reads %s as %s", (spelling, model) => {
    expect(find(spelling)?.model).toBe(model);
  });

  test.each([
    ["another case", "Claude-Opus-5-5"],
    ["white space before", " claude-opus-5-5"],
    ["white space after", "claude-opus-5-5 "],
    ["a Cyrillic letter that looks like Latin o", "claude-\u043Epus-5-5"],
    ["a full-width digit", "claude-opus-5-\uFF15"],
    ["a beginning of a name", "claude-opus"],
    ["a name with more behind it", "claude-opus-5-5-turbo"],
    ["a day that no calendar has", "claude-opus-5-5-20261341"],
    ["a model that does not exist", "claude-haiku-4-20250514"],
    ["a model without a published price", "claude-mythos-preview"],
    ["an AWS region with prices of its own", "us-gov.anthropic.claude-sonnet-4-5-20250929-v1:0"],
    ["another provider's model", "gpt-5.4"],
    ["nothing", ""],
    ["a key of every object", "__proto__"],
  ])("does not match %s", (_, model) => {
    expect(find(model)).toBeUndefined();
  });

  test("keeps the prices of two models apart where one name begins the other", () => {
    expect(find("claude-opus-5")?.nanoUsdPerMTok.output).toBe(usd("25"));
    expect(find("claude-opus-5-5")?.nanoUsdPerMTok.output).toBe(usd("20"));
  });

  test("reads OpenAI's dated snapshots, and a snapshot with its own price by itself", () => {
    expect(book.find("openai", "gpt-4.1-2025-04-14", NOW_MS)?.model).toBe("gpt-4.1");
    expect(book.find("openai", "gpt-6.2-sol-2026-11-17", NOW_MS)?.model).toBe("gpt-6.2-sol");
    expect(book.find("openai", "gpt-4o-2024-05-13", NOW_MS)?.nanoUsdPerMTok.output).toBe(usd("15"));
  });

  test("adds the regional surcharge of another platform from Claude 4.5 on, and not before", () => {
    const outputUsd = (model: string): string => formatUsd(find(model)?.nanoUsdPerMTok.output ?? 0n);
    expect(outputUsd("us.anthropic.claude-haiku-4-5-20251001-v1:0")).toBe("5.5");
    expect(outputUsd("global.anthropic.claude-haiku-4-5-20251001-v1:0")).toBe("5");
    expect(outputUsd("us.anthropic.claude-opus-4-1-20250805-v1:0")).toBe("75");
    expect(find("eu.anthropic.claude-haiku-5-5")?.tiers[0]?.nanoUsdPerMTok.uncachedInput).toBe(usd("0.55"));
    expect(find("eu.anthropic.claude-haiku-5-5")?.id).toBe("anthropic/claude-haiku-5-5@2026-10-07#regional");
  });
});

describe("finding the price in force", () => {
  const changeMs = Date.UTC(2026, 9, 7);
  const readUsd = (atMs: number): string => formatUsd(find("claude-sonnet-5-5", atMs)?.nanoUsdPerMTok.cacheRead ?? 0n);

  test("takes a new price from its first millisecond on", () => {
    expect(readUsd(changeMs - 1)).toBe("0.2");
    expect(readUsd(changeMs)).toBe("0.1");
  });

  test("applies a model's first price however early the clock is", () => {
    expect(readUsd(0)).toBe("0.2");
  });

  test("knows no price before the first that is known", () => {
    const at = (atMs: number): PriceRow | undefined => book.find("openai", "gpt-5.6-terra", atMs);
    expect(at(Date.UTC(2026, 6, 30) - 1)).toBeUndefined();
    expect(at(Date.UTC(2026, 6, 30))?.model).toBe("gpt-5.6-terra");
  });

  test("ends a period where the next begins", () => {
    const [first, second] = book.rows.filter((row) => row.model === "claude-sonnet-5-5");
    expect([first?.untilMs, second?.fromMs, second?.untilMs]).toEqual([changeMs, changeMs, undefined]);
  });
});

describe("own prices", () => {
  const own = (model: string, outputUsd: string, rest: Partial<PriceRow> = {}): PriceRow =>
    newPriceRow({
      provider: "anthropic",
      model,
      nanoUsdPerMTok: { uncachedInput: usd("1"), output: usd(outputUsd) },
      source: "purser.yaml",
      confidence: "configured",
      ...rest,
    });
  const outputUsd = (model: string, configured: PriceRow[], atMs = NOW_MS): string =>
    formatUsd(buildPriceBook([...rows, ...configured]).find("anthropic", model, atMs)?.nanoUsdPerMTok.output ?? 0n);

  test("win over built-in ones, under every spelling of the model", () => {
    const configured = [own("claude-haiku-4-5", "4")];
    for (const model of ["claude-haiku-4-5", "claude-haiku-4-5-20251001", "anthropic.claude-haiku-4-5-20251001-v1:0"]) {
      expect(outputUsd(model, configured)).toBe("4");
    }
  });

  test("leave the built-in price in force until they begin", () => {
    const configured = [own("claude-haiku-4-5", "4", { fromMs: NOW_MS })];
    expect(outputUsd("claude-haiku-4-5", configured, NOW_MS - 1)).toBe("5");
    expect(outputUsd("claude-haiku-4-5", configured, NOW_MS)).toBe("4");
  });

  test("do not end the built-in row's period for other spellings of a region", () => {
    const configured = [own("us.anthropic.claude-haiku-4-5-20251001-v1:0", "6")];
    expect(outputUsd("us.anthropic.claude-haiku-4-5-20251001-v1:0", configured)).toBe("6");
    expect(outputUsd("claude-haiku-4-5", configured)).toBe("5");
  });

  test("name a model the book does not know", () => {
    expect(outputUsd("my-model", [own("my-model", "2")])).toBe("2");
  });
});

describe("the dearest row of a provider", () => {
  test("is at least as dear as every row in force, meter by meter", () => {
    for (const provider of ["anthropic", "openai"]) {
      const dearest = book.dearest(provider, NOW_MS);
      const inForce = book.rows.filter((row) => row.provider === provider);
      for (const row of inForce) {
        for (const [meter, price] of Object.entries(row.nanoUsdPerMTok)) {
          expect(dearest?.nanoUsdPerMTok[meter as "output"] ?? -1n).toBeGreaterThanOrEqual(price);
        }
      }
    }
  });

  test("names the row it comes from and assumes no discount", () => {
    const dearest = book.dearest("anthropic", NOW_MS);
    expect(dearest?.id).toMatch(/#dearest$/);
    expect(dearest?.batchBps).toBe(10_000);
    expect(formatUsd(dearest?.nanoUsdPerMTok.output ?? 0n)).toBe("75");
    expect(dearest?.fastBps).toBe(20_000);
  });

  test("does not exist for a provider without prices", () => {
    expect(book.dearest("nobody", NOW_MS)).toBeUndefined();
  });
});
