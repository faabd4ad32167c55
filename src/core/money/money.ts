/**
 * Owns the unit of money: whole nano-US-dollars (1 USD = 1,000,000,000) as `bigint`, and how it is read and written as text.
 * Does not own prices or costs (core/pricing).
 * Invariant: no amount ever passes through a float; text that a nano-dollar cannot hold is refused, never rounded.
 */

declare const nanoUsd: unique symbol;

/** Whole nano-US-dollars. One currency, one unit, everywhere. */
export type NanoUsd = bigint & { readonly [nanoUsd]: true };

/** Nano-US-dollars per US dollar. */
export const NANO_USD_PER_USD = 1_000_000_000n;

/** Nothing. */
export const ZERO_USD: NanoUsd = 0n as NanoUsd;

/** Marks an integer that is known to count nano-dollars. */
export function toNanoUsd(value: bigint): NanoUsd {
  return value as NanoUsd;
}

/**
 * Reads a decimal amount of US dollars ("0.27072", "1_000", "12") exactly.
 *
 * @returns the amount, or `undefined` if the text is no plain non-negative decimal (no sign, no exponent; `_` between digits is
 * allowed) or has a digit other than 0 behind the ninth decimal place.
 */
export function parseUsd(text: string): NanoUsd | undefined {
  const match = /^(\d+(?:_\d+)*)(?:\.(\d+(?:_\d+)*))?$/.exec(text);
  if (match === null) return undefined;
  const whole = (match[1] ?? "").replaceAll("_", "");
  const fraction = (match[2] ?? "").replaceAll("_", "");
  if (/[1-9]/.test(fraction.slice(9))) return undefined;
  return toNanoUsd(BigInt(whole) * NANO_USD_PER_USD + BigInt(fraction.slice(0, 9).padEnd(9, "0")));
}

/** Writes an amount as exact decimal text without trailing zeros: 270720000n → "0.27072". Negative amounts keep their sign. */
export function formatUsd(amount: bigint): string {
  return formatDecimal(amount, 9);
}

/** Writes `value / 10^digits` as exact decimal text without trailing zeros. */
export function formatDecimal(value: bigint, digits: number): string {
  const sign = value < 0n ? "-" : "";
  const text = (value < 0n ? -value : value).toString().padStart(digits + 1, "0");
  const fraction = text.slice(text.length - digits).replace(/0+$/, "");
  const whole = text.slice(0, text.length - digits);
  return `${sign}${whole}${fraction === "" ? "" : `.${fraction}`}`;
}
