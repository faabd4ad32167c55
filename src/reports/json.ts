/**
 * Owns how amounts and instants stand in reports that programs read: the same everywhere.
 * Invariants: money is exact decimal text; an instant is ISO 8601 in UTC with `Z`, and `null` where there is none.
 */
import type { Measure } from "../core/limits/limit.ts";
import { formatUsd } from "../core/money/money.ts";
import { formatInstant } from "../core/windows/instant.ts";

/** Amounts of usd as decimal text, of other measures as numbers. */
export function toJsonAmount(measure: Measure, amount: bigint): string | number {
  return measure === "usd" ? formatUsd(amount) : Number(amount);
}

/** `2026-11-22T10:00:00Z`, or `null` for an instant that never comes. */
export function toJsonInstant(atMs: number): string | null {
  return Number.isFinite(atMs) ? formatInstant(atMs) : null;
}
