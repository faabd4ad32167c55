/**
 * Owns bringing the built-in price data and the configuration's own prices together. Does not own either.
 * Invariant: an own price never loosens what is known of a model: its sizes, surcharges and long-context tiers stay.
 */
import anthropicPrices from "../../prices/anthropic.json" with { type: "json" };
import openaiPrices from "../../prices/openai.json" with { type: "json" };
import { buildPriceBook } from "../core/pricing/price-book.ts";
import type { BuiltPriceBook } from "../core/pricing/price-book.ts";
import type { PriceBook, PriceRow } from "../core/pricing/price.ts";
import { parsePriceRows } from "../core/pricing/rows.ts";
import { PROVIDERS } from "./prices-reader.ts";

/** Modules rather than files that are read: a program that is bundled carries them along. */
const PRICES: Readonly<Record<(typeof PROVIDERS)[number], unknown>> = { anthropic: anthropicPrices, openai: openaiPrices };

/**
 * The price data that comes with Purser.
 *
 * @throws Error naming the file, if it cannot be used: the installation is broken.
 */
export function builtInPrices(): BuiltPriceBook {
  return buildPriceBook(PROVIDERS.flatMap(readPrices));
}

/** The prices calls are rated by: the built-in ones, and the configuration's own, which come first from their `from` on. */
export function priceBookOf(config: { prices: readonly PriceRow[] }): BuiltPriceBook {
  return withOwnPrices(builtInPrices(), config.prices);
}

/** The same, where the built-in prices are at hand. */
export function withOwnPrices(builtIn: PriceBook, own: readonly PriceRow[]): BuiltPriceBook {
  const completed = own.map((row) => completeFrom(row, builtIn.find(row.provider, row.model, row.fromMs ?? Infinity)));
  return buildPriceBook([...builtIn.rows, ...completed]);
}

/**
 * A person who writes five prices of a known model says nothing about its size or its surcharges, so those stay as they are known.
 * Token prices are not filled in: what the person left out is unpriced, because a list price beside a negotiated one is a guess.
 */
function completeFrom(row: PriceRow, known: PriceRow | undefined): PriceRow {
  if (known === undefined || row.isFree) return row;
  const { tiers, batchBps, fastBps, priorityBps, flexBps, usOnlyBps, regionalBps, nanoUsdPerWebSearch } = known;
  const surcharges = { tiers, batchBps, fastBps, priorityBps, flexBps, usOnlyBps, nanoUsdPerWebSearch };
  const sizes = { contextTokensMax: known.contextTokensMax, outputTokensMax: known.outputTokensMax };
  return { ...row, kind: known.kind, ...surcharges, ...sizes, ...(regionalBps === undefined ? {} : { regionalBps }) };
}

function readPrices(provider: (typeof PROVIDERS)[number]): PriceRow[] {
  try {
    return parsePriceRows(PRICES[provider]);
  } catch (cause) {
    throw new Error(`prices/${provider}.json: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
}
