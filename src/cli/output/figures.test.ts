import * as fc from "fast-check";
import { expect, it } from "vitest";
import {
  decimalsFor,
  formatAmount,
  formatBar,
  formatDollars,
  formatLengthShort,
  formatMoney,
  formatShare,
  shareBps,
} from "./figures.ts";

it.each([
  [1_137_020_000_000n, 2, "nearest", "$1,137.02"],
  [270_720_000n, 4, "nearest", "$0.2707"],
  [270_720_000n, 4, "up", "$0.2708"],
  [270_790_000n, 4, "down", "$0.2707"],
  [999_999_999n, 2, "nearest", "$1.00"],
  [999_999_999n, 2, "down", "$0.99"],
  [1n, 4, "nearest", "<$0.0001"],
  [0n, 4, "nearest", "$0.0000"],
  [123n, 9, "nearest", "$0.000000123"],
] as const)("writes %i nano-dollars with %i decimals, %s, as %s", (amount, decimals, rounding, text) => {
  expect(formatMoney(amount, decimals, rounding)).toBe(text);
});

it("never shows less spent or more left than there is", () => {
  const toNano = (text: string): bigint => {
    const [whole = "0", fraction = ""] = text.replaceAll(/[$,]/g, "").split(".");
    return BigInt(whole) * 1_000_000_000n + BigInt(fraction.padEnd(9, "0"));
  };
  fc.assert(
    fc.property(fc.bigInt({ min: 100_000n, max: 10n ** 18n }), (amount) => {
      expect(toNano(formatAmount("usd", amount, "up"))).toBeGreaterThanOrEqual(amount);
      expect(toNano(formatAmount("usd", amount, "down"))).toBeLessThanOrEqual(amount);
    }),
  );
});

it("chooses decimals by what has to be told apart", () => {
  expect(decimalsFor([50_000_000_000n, 0n])).toBe(2);
  expect(decimalsFor([1_270_720_000n])).toBe(4);
  expect(decimalsFor([270_720_000n])).toBe(6);
});

it("gives exact dollars at least their cents", () => {
  expect(["2.5", "4", "0.000123", "1234567.1"].map((text) => formatDollars(text))).toEqual([
    "$2.50",
    "$4.00",
    "$0.000123",
    "$1,234,567.10",
  ]);
});

it("says 100 % and draws a full bar only when nothing is left", () => {
  expect(formatShare(9_999)).toBe("99 %");
  expect(formatShare(10_000)).toBe("100 %");
  expect(formatShare(1)).toBe("1 %");
  expect(formatBar({ spentBps: 9_999, reservedBps: 0, cells: 10 })).toBe("█████████░");
  expect(formatBar({ spentBps: 10_000, reservedBps: 0, cells: 10 })).toBe("██████████");
  expect(formatBar({ spentBps: 2_500, reservedBps: 2_500, cells: 8 })).toBe("██▒▒░░░░");
  expect(formatBar({ spentBps: 0, reservedBps: 1, cells: 8 })).toBe("▒░░░░░░░");
});

it("draws every bar as wide as the others", () => {
  const bps = fc.integer({ min: 0, max: 30_000 });
  fc.assert(
    fc.property(bps, bps, (spentBps, reservedBps) => {
      expect(formatBar({ spentBps, reservedBps, cells: 10 })).toHaveLength(10);
    }),
  );
});

it("takes a limit of zero as full as soon as something is spent", () => {
  expect([shareBps(0n, 0n), shareBps(1n, 0n), shareBps(1n, 3n)]).toEqual([0, 10_000, 3_333]);
});

it.each([
  [0, "0s"],
  [999, "0s"],
  [90_000, "1m 30s"],
  [3_600_000, "1h"],
  [3_601_000, "1h"],
  [187_200_000, "2d 4h"],
  [Infinity, "never"],
])("writes %i ms as %s", (lengthMs, text) => {
  expect(formatLengthShort(lengthMs)).toBe(text);
});
