/**
 * `purser cost`: one call's price, each part on a line.
 * Owns how a price is shown; the arithmetic is core's, the same a real call is settled by.
 */
import type { Command } from "commander";
import { priceBookOf } from "../../config/price-book.ts";
import { nearest } from "../../config/problems.ts";
import type { PriceRow } from "../../core/pricing/price.ts";
import { priceCall } from "../../core/pricing/price-call.ts";
import type { CostMeter, CostPart, MissingPrice } from "../../core/pricing/rate.ts";
import type { BuiltPriceBook } from "../../core/pricing/price-book.ts";
import { NO_TOKENS, totalInputTokens, type TokenParts } from "../../core/usage/usage.ts";
import { formatUsd } from "../../core/money/money.ts";
import { formatInstant } from "../../core/windows/instant.ts";
import { parseEdge } from "../../reports/period.ts";
import { parseCount, quoteArgument } from "../arguments.ts";
import { writeJson, writeLines, type CliIo } from "../cli-io.ts";
import { CliError, EXIT, wrongUsage } from "../exit.ts";
import { costTable, METER_NAMES, roundingText } from "../output/cost-table.ts";
import { formatDay } from "../output/instants.ts";
import { renderTable } from "../output/table.ts";
import { clean, wrap } from "../output/text.ts";
import { addCommonOptions, readSettings, type CommonOptions } from "../settings.ts";

interface CostOptions extends CommonOptions {
  model: string;
  input: number;
  output: number;
  cacheRead: number;
  cacheWrite5m: number;
  cacheWrite1h: number;
  batch?: boolean;
  at?: string;
  json?: boolean;
}

const PROVIDERS = ["anthropic", "openai"] as const;
const SUGGESTIONS_MAX = 3;

/** Adds the command. */
export function addCostCommand(program: Command, io: CliIo): void {
  const tokens = parseCount(0, 10_000_000_000);
  const command = program
    .command("cost")
    .description("say what one call costs, each part on a line")
    .requiredOption("--model <name>", "the model, as a call would name it")
    .option("--input <tokens>", "input tokens that no cache holds", tokens, 0)
    .option("--output <tokens>", "output tokens, reasoning included", tokens, 0)
    .option("--cache-read <tokens>", "input tokens read from a cache", tokens, 0)
    .option("--cache-write-5m <tokens>", "input tokens written to a 5-minute cache", tokens, 0)
    .option("--cache-write-1h <tokens>", "input tokens written to a 1-hour cache", tokens, 0)
    .option("--batch", "at the price of a batch")
    .option("--at <date>", "at the prices of a day or instant (default: now)")
    .option("--json", "print JSON");
  addCommonOptions(command).action(async (options: CostOptions) => runCost(io, options));
}

async function runCost(io: CliIo, options: CostOptions): Promise<void> {
  if (sumOf(options) === 0)
    throw wrongUsage(
      "nothing to price: name at least one of --input, --output, --cache-read, --cache-write-5m, --cache-write-1h",
    );
  const { config } = await readSettings(io, options);
  const nowMs = io.nowMs();
  const atMs = options.at === undefined ? nowMs : parseEdge(options.at, "start", config.timeZone, nowMs);
  if (atMs === undefined) {
    throw wrongUsage(
      `--at: found ${quoteArgument(options.at ?? "")}; allowed: a date such as 2026-11-22, or an instant such as 2026-11-22T10:00Z`,
    );
  }
  const book = priceBookOf(config);
  const row = findRow(book, options.model, atMs);
  if (row === undefined) throw unknownModel(book, options.model, atMs, formatDay(atMs, config.timeZone));
  const isBatch = options.batch === true;
  const rated = priceCall({ book, provider: row.provider, model: options.model, atMs, tokens: tokensOf(options), isBatch });
  if (rated.outcome === "unpriced") throw missingPrice(options.model, rated.missing);
  const priced = { options, row, atMs, parts: rated.parts, costNanoUsd: rated.costNanoUsd, timeZone: config.timeZone };
  if (options.json === true) writeJson(io, toCostJson(priced));
  else writeLines(io, showCost(io, priced));
}

interface Priced {
  options: CostOptions;
  row: PriceRow;
  atMs: number;
  parts: readonly CostPart[];
  costNanoUsd: bigint;
  timeZone: string;
}

function toCostJson({ options, row, atMs, parts, costNanoUsd }: Priced): unknown {
  const { provider, id, source, confidence } = row;
  const price = { id, source, confidence };
  return { provider, model: options.model, at: formatInstant(atMs), costUsd: formatUsd(costNanoUsd), costParts: parts, price };
}

function showCost(io: CliIo, { options, row, atMs, parts, costNanoUsd, timeZone }: Priced): string[] {
  const { screen } = io;
  const { bold, dim } = screen.style;
  const title = `${bold(clean(options.model))} at the prices of ${formatDay(atMs, timeZone)}${options.batch === true ? ", as a batch" : ""}`;
  const rounding = roundingText(parts, costNanoUsd);
  const about = [
    ...(rounding === undefined ? [] : [`The total is ${rounding}.`]),
    `Price row ${clean(row.id)}, ${confidenceText(row.confidence)}.`,
    ...(row.isFree ? ["This model is marked as free."] : []),
    `Source: ${clean(row.source)}`,
  ].flatMap((line) => wrap(line, screen.width));
  return [title, ...renderTable(costTable(parts, costNanoUsd), screen), ...about.map((line) => dim(line))];
}

function confidenceText(confidence: PriceRow["confidence"]): string {
  switch (confidence) {
    case "official":
      return "from the publisher's own page (official)";
    case "secondary":
      return "from somebody who quotes the publisher (secondary)";
    case "inferred":
      return "concluded from neighbouring prices (inferred)";
    case "configured":
      return "from your own configuration (configured)";
  }
}

function tokensOf({ input, output, cacheRead, cacheWrite5m, cacheWrite1h }: CostOptions): TokenParts {
  return {
    ...NO_TOKENS,
    uncachedInputTokens: input,
    outputTokens: output,
    cacheReadTokens: cacheRead,
    cacheWrite5mTokens: cacheWrite5m,
    cacheWrite1hTokens: cacheWrite1h,
  };
}

function sumOf(options: CostOptions): number {
  return totalInputTokens(tokensOf(options)) + options.output;
}

function findRow(book: BuiltPriceBook, model: string, atMs: number): PriceRow | undefined {
  const providers = new Set([...PROVIDERS, ...book.rows.map(({ provider }) => provider)]);
  for (const provider of providers) {
    const row = book.find(provider, model, atMs);
    if (row !== undefined) return row;
  }
  return undefined;
}

function unknownModel(book: BuiltPriceBook, model: string, atMs: number, day: string): CliError {
  const names = new Set(book.rows.flatMap(({ model: name, aliases }) => [name, ...aliases]));
  const near: string[] = [];
  for (
    let name = nearest(model, [...names]);
    name !== undefined && near.length < SUGGESTIONS_MAX;
    name = nearest(model, [...names])
  ) {
    near.push(name);
    names.delete(name);
  }
  const known = book.rows.filter((row) => book.find(row.provider, row.model, atMs) !== undefined).length;
  const meant = near.length > 0 ? ` Nearest known: ${near.join(", ")}.` : "";
  const text = `no price is known for ${quoteArgument(model)} on ${day}.${meant} Models match exactly (${known} are known); a price of your own goes under prices: in purser.yaml.`;
  return new CliError(EXIT.foundWrong, text);
}

function missingPrice(model: string, missing: readonly MissingPrice[]): CliError {
  const what = missing.map(({ meter }) => (meter in METER_NAMES ? METER_NAMES[meter as CostMeter] : meter)).join(" and ");
  const text = `${clean(model)} has no known price for ${what}. Unknown is not free, so there is no total; a price of your own goes under prices: in purser.yaml.`;
  return new CliError(EXIT.foundWrong, text);
}
