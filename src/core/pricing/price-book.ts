/**
 * Owns finding the price row of a model at an instant. Does not own which spellings name a model (match.ts) or the rows.
 * Invariant: rows of the configuration come before built-in ones; a model without a row in force is `undefined`, never a neighbour's.
 */
import { toNanoUsd, type NanoUsd } from "../money/money.ts";
import { spellingsOf } from "./match.ts";
import type { PriceBook, PriceRow, TokenMeter, TokenPrices } from "./price.ts";
import { ONCE_BPS } from "./rate.ts";

/** A price book that also knows the dearest it has. */
export interface BuiltPriceBook extends PriceBook {
  /** See {@link dearestRow}. */
  dearest(provider: string, atMs: number): PriceRow | undefined;
}

/**
 * Indexes rows for lookup.
 *
 * @param rows in any order. Periods of one model follow each other: a row without `untilMs` ends where its next begins. A row with
 * confidence `configured` counts for every spelling of the built-in model it names.
 */
export function buildPriceBook(rows: readonly PriceRow[]): BuiltPriceBook {
  const closed = closePeriods(rows);
  const index = new Map<string, PriceRow[]>();
  for (const row of byPrecedence(closed)) {
    for (const name of namesOf(row, closed)) {
      const key = keyOf(row.provider, name);
      const list = index.get(key);
      if (list === undefined) index.set(key, [row]);
      else if (!list.includes(row)) list.push(row);
    }
  }
  const regional = new Map<PriceRow, PriceRow>();
  for (const row of closed) regional.set(row, withRegionalSurcharge(row));
  /** Rows of a name as it was asked for, best spelling first: a memo that changes no answer. */
  const known = new Map<string, readonly PriceRow[]>();
  const rowsOf = (provider: string, model: string): readonly PriceRow[] => {
    const key = keyOf(provider, model);
    const before = known.get(key);
    if (before !== undefined) return before;
    const found = spellingsOf(model).flatMap(({ name, isRegional }) =>
      (index.get(keyOf(provider, name)) ?? []).map((row) => (isRegional ? (regional.get(row) ?? row) : row)),
    );
    if (known.size >= KNOWN_NAMES_MAX) known.clear();
    known.set(key, found);
    return found;
  };
  return {
    rows: closed,
    find: (provider, model, atMs) => rowsOf(provider, model).find((row) => isInForce(row, atMs)),
    dearest: (provider, atMs) => dearestRow(closed, provider, atMs),
  };
}

/** Callers write names as they like: so many are remembered, then the memo begins anew. */
const KNOWN_NAMES_MAX = 1_000;

/** True if a row's period holds an instant: its beginning is in, its end is out. */
export function isInForce(row: PriceRow, atMs: number): boolean {
  return (row.fromMs === undefined || atMs >= row.fromMs) && (row.untilMs === undefined || atMs < row.untilMs);
}

/**
 * The row to price an unknown model of a provider by (`onUnpricedModel: dearest`): no rate of any row in force is above it.
 *
 * @remarks It carries the id and model of the row with the dearest output, marked `#dearest`, and every meter, multiplier and size at the
 * largest found among all rows in force, long-context tiers included: an unknown model may run in ways the dearest known one cannot.
 * @returns `undefined` if the provider has no priced row in force.
 */
export function dearestRow(rows: readonly PriceRow[], provider: string, atMs: number): PriceRow | undefined {
  const inForce = rows.filter((row) => row.provider === provider && !row.isFree && isInForce(row, atMs));
  const top = inForce.toSorted(byDearestOutput)[0];
  if (top === undefined) return undefined;
  const most = (pick: (row: PriceRow) => number | undefined): number | undefined => largest(inForce.map(pick));
  return {
    ...top,
    id: `${top.id}#dearest`,
    aliases: [],
    confidence: "inferred",
    nanoUsdPerMTok: dearestPrices(
      inForce.flatMap((row) => [row.nanoUsdPerMTok, ...row.tiers.map((tier) => tier.nanoUsdPerMTok)]),
    ),
    tiers: [],
    // A discount nobody published for this model is not assumed.
    batchBps: ONCE_BPS,
    flexBps: ONCE_BPS,
    fastBps: most((row) => row.fastBps),
    priorityBps: most((row) => row.priorityBps),
    usOnlyBps: most((row) => row.usOnlyBps),
    regionalBps: most((row) => row.regionalBps),
    nanoUsdPerWebSearch: largest(inForce.map((row) => row.nanoUsdPerWebSearch)),
    contextTokensMax: most((row) => row.contextTokensMax),
    outputTokensMax: most((row) => row.outputTokensMax),
  };
}

function keyOf(provider: string, name: string): string {
  return `${provider}\n${name}`;
}

/** Configured rows first, and of those the one written last; inside one origin the periods do not overlap. */
function byPrecedence(rows: readonly PriceRow[]): PriceRow[] {
  const configured = rows.filter((row) => row.confidence === "configured");
  return [...configured.reverse(), ...rows.filter((row) => row.confidence !== "configured")];
}

/** A price written for an alias is meant for the model, under all its names. */
function namesOf(row: PriceRow, rows: readonly PriceRow[]): string[] {
  const names = [row.model, ...row.aliases];
  if (row.confidence !== "configured") return names;
  const isSame = (other: PriceRow): boolean =>
    other.provider === row.provider && (other.model === row.model || other.aliases.includes(row.model));
  return [...names, ...rows.filter(isSame).flatMap((other) => [other.model, ...other.aliases])];
}

function closePeriods(rows: readonly PriceRow[]): PriceRow[] {
  return rows.map((row) => {
    if (row.untilMs !== undefined) return row;
    const isConfigured = row.confidence === "configured";
    const later = rows
      .filter((other) => other.provider === row.provider && other.model === row.model)
      .filter((other) => (other.confidence === "configured") === isConfigured)
      .map((other) => other.fromMs ?? -Infinity)
      .filter((fromMs) => fromMs > (row.fromMs ?? -Infinity));
    return later.length === 0 ? row : { ...row, untilMs: Math.min(...later) };
  });
}

function withRegionalSurcharge(row: PriceRow): PriceRow {
  const bps = row.regionalBps;
  if (bps === undefined) return row;
  const scale = (prices: TokenPrices): TokenPrices => {
    const scaled: Partial<Record<TokenMeter, NanoUsd>> = {};
    for (const [meter, price] of Object.entries(prices) as [TokenMeter, NanoUsd][]) scaled[meter] = timesBps(price, bps);
    return scaled;
  };
  return {
    ...row,
    id: `${row.id}#regional`,
    nanoUsdPerMTok: scale(row.nanoUsdPerMTok),
    tiers: row.tiers.map((tier) => ({ ...tier, nanoUsdPerMTok: scale(tier.nanoUsdPerMTok) })),
    // A region is not a place of inference within the provider's own API: the two surcharges never meet.
    usOnlyBps: undefined,
  };
}

/** Rounds a price up, so that a surcharge is never below the published share. */
function timesBps(price: NanoUsd, bps: number): NanoUsd {
  const once = BigInt(ONCE_BPS);
  return toNanoUsd((price * BigInt(bps) + once - 1n) / once);
}

function byDearestOutput(left: PriceRow, right: PriceRow): number {
  const rank = (row: PriceRow): [bigint, bigint] => [row.nanoUsdPerMTok.output ?? 0n, row.nanoUsdPerMTok.uncachedInput ?? 0n];
  const [leftOutput, leftInput] = rank(left);
  const [rightOutput, rightInput] = rank(right);
  if (leftOutput !== rightOutput) return leftOutput > rightOutput ? -1 : 1;
  if (leftInput !== rightInput) return leftInput > rightInput ? -1 : 1;
  return left.id < right.id ? -1 : 1;
}

function dearestPrices(all: readonly TokenPrices[]): TokenPrices {
  const most: Partial<Record<TokenMeter, NanoUsd>> = {};
  for (const prices of all) {
    for (const [meter, price] of Object.entries(prices) as [TokenMeter, NanoUsd][]) {
      const known = most[meter];
      if (known === undefined || price > known) most[meter] = price;
    }
  }
  return most;
}

function largest<Value extends number | bigint>(values: readonly (Value | undefined)[]): Value | undefined {
  return values.reduce((most, value) => (value !== undefined && (most === undefined || value > most) ? value : most), undefined);
}
