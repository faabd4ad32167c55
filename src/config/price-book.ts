/**
 * Owns bringing the built-in price data and the configuration's own prices together. Does not own either.
 * Invariant: an own price never loosens what is known of a model: its sizes, surcharges and long-context tiers stay.
 */
import { readFile } from "node:fs/promises";
import { buildPriceBook } from "../core/pricing/price-book.ts";
import type { BuiltPriceBook } from "../core/pricing/price-book.ts";
import type { PriceBook, PriceRow } from "../core/pricing/price.ts";
import { parsePriceRows } from "../core/pricing/rows.ts";
import { PROVIDERS } from "./prices-reader.ts";

/** Beside `src/` and `dist/` alike. */
const PRICES_FOLDER = new URL("../../prices/", import.meta.url);

/**
 * Reads the price data that comes with Purser.
 *
 * @throws Error naming the file, if it cannot be read or used: the installation is broken.
 */
export async function loadBuiltInPrices(): Promise<BuiltPriceBook> {
  const rows = await Promise.all(PROVIDERS.map(async (provider) => readPriceFile(`${provider}.json`)));
  return buildPriceBook(rows.flat());
}

/**
 * The prices a gateway rates by: the built-in ones, and the configuration's own, which come first from their `from` on.
 *
 * @throws Error as {@link loadBuiltInPrices}.
 */
export async function loadPriceBook(config: { prices: readonly PriceRow[] }): Promise<BuiltPriceBook> {
  return withOwnPrices(await loadBuiltInPrices(), config.prices);
}

/** The same without reading files: for a reload, when the built-in prices are at hand. */
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

async function readPriceFile(name: string): Promise<PriceRow[]> {
  try {
    return parsePriceRows(JSON.parse(await readFile(new URL(name, PRICES_FOLDER), "utf8")));
  } catch (cause) {
    throw new Error(`prices/${name}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
}
