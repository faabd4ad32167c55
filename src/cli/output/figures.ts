/**
 * Owns how figures look to a person: money, counts, shares, lengths of time, bars.
 * Does not own exact figures: those are core's `formatUsd`, and stand wherever a figure is explained or read by a program.
 * Invariant: no figure passes through a float; a sum above zero never looks like zero; what is spent is never shown smaller than it
 * is, and what is left never larger.
 */
import { formatMeasured } from "../../core/limits/describe.ts";
import type { Measure } from "../../core/limits/limit.ts";
import { formatDecimal, NANO_USD_PER_USD } from "../../core/money/money.ts";
import type { Screen } from "./screen.ts";
import type { Paint } from "./style.ts";

export type Rounding = "nearest" | "up" | "down";

const MONEY_DIGITS = 9;
/** Enough to see a single call of a small model under a limit of dollars. */
const LIMIT_DECIMALS = 4;

/** Dollars with a fixed number of decimals: `$1,137.0200`. An amount too small for them is `<$0.0001`. */
export function formatMoney(amount: bigint, decimals: number, rounding: Rounding = "nearest"): string {
  const step = 10n ** BigInt(MONEY_DIGITS - decimals);
  const add = rounding === "up" ? step - 1n : rounding === "down" ? 0n : step / 2n;
  const steps = (amount + add) / step;
  if (steps === 0n && amount > 0n) return `<$${formatDecimal(1n, decimals)}`;
  const [whole = "0", fraction = ""] = formatDecimal(steps, decimals).split(".");
  return `$${groupThousands(whole)}${decimals === 0 ? "" : `.${fraction.padEnd(decimals, "0")}`}`;
}

/** Exact dollars with at least two decimals: `$0.27072`, `$50.00`. */
export function formatExactMoney(amount: bigint): string {
  return formatMeasured("usd", amount);
}

/** A change of an amount, exact, with its sign: `+$0.10`, `-$0.25`. */
export function formatSignedMoney(change: bigint): string {
  return change < 0n ? `-${formatExactMoney(-change)}` : `+${formatExactMoney(change)}`;
}

/** How many decimals a column of amounts needs so that a person sees what differs: 2 where all are whole cents, else 4 or 6. */
export function decimalsFor(amounts: readonly bigint[]): number {
  const cent = NANO_USD_PER_USD / 100n;
  if (amounts.every((amount) => amount % cent === 0n)) return 2;
  return amounts.some((amount) => amount >= NANO_USD_PER_USD) ? 4 : 6;
}

/** Exact decimal text of dollars with at least two decimals: `2.5` is `$2.50`. */
export function formatDollars(text: string): string {
  const [whole = "0", fraction = ""] = text.split(".");
  return `$${groupThousands(whole)}.${fraction.padEnd(2, "0")}`;
}

/** An amount of a limit: money with four decimals, anything else in full. */
export function formatAmount(measure: Measure, amount: bigint, rounding: Rounding): string {
  if (measure !== "usd") return groupThousands(amount.toString());
  return formatMoney(amount, LIMIT_DECIMALS, rounding);
}

/** `60,000`. */
export function formatCount(count: number | bigint): string {
  return groupThousands(count.toString());
}

/** A share in basis points as percent, rounded up, but never to a full 100 %: `99 %`. */
export function formatShare(bps: number): string {
  const percent = Math.ceil(bps / 100);
  return `${bps < 10_000 ? Math.min(percent, 99) : percent} %`;
}

/** What part of the whole, in basis points, at most 9,999 times the whole. */
export function shareBps(part: bigint, whole: bigint): number {
  if (whole <= 0n) return part > 0n ? 10_000 : 0;
  return Math.min(Number((part * 10_000n) / whole), 99_990_000);
}

const LENGTHS = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["m", 60_000],
  ["s", 1_000],
] as const;

/** The two largest units of a length of time: `2d 4h`, `12m 30s`, `0s`. */
export function formatLengthShort(lengthMs: number): string {
  if (!Number.isFinite(lengthMs)) return "never";
  let rest = Math.max(0, Math.floor(lengthMs / 1_000) * 1_000);
  const parts: string[] = [];
  for (const [unit, unitMs] of LENGTHS) {
    const count = Math.floor(rest / unitMs);
    rest -= count * unitMs;
    if (count > 0) parts.push(`${count}${unit}`);
    else if (parts.length > 0) break;
    if (parts.length === 2) break;
  }
  return parts.length === 0 ? "0s" : parts.join(" ");
}

/** Spent and, lighter, reserved as a part of the whole. */
export function formatBar(input: { spentBps: number; reservedBps: number; cells: number }): string {
  const { spentBps, reservedBps, cells } = input;
  const toCells = (bps: number): number => Math.min(cells, Math.ceil((bps * cells) / 10_000));
  // Full only when it is: a bar that looks full at 99 % would say that nothing is left.
  const full = spentBps >= 10_000 ? cells : Math.min(toCells(spentBps), cells - 1);
  const held = reservedBps <= 0 ? 0 : Math.max(0, toCells(spentBps + reservedBps) - full);
  return "█".repeat(full) + "▒".repeat(held) + "░".repeat(cells - full - held);
}

/** Green, from 80 % on yellow, from 100 % on red. */
export function paintOf(bps: number, { style }: Screen): Paint {
  if (bps >= 10_000) return style.red;
  return bps >= 8_000 ? style.yellow : style.green;
}

function groupThousands(digits: string): string {
  return digits.replaceAll(/\B(?=(?:\d{3})+$)/g, ",");
}
