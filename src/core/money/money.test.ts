import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { formatDecimal, formatUsd, NANO_USD_PER_USD, parseUsd } from "./money.ts";

describe("reading an amount of dollars", () => {
  test.each<[string, bigint]>([
    ["0", 0n],
    ["12", 12_000_000_000n],
    ["0.27072", 270_720_000n],
    ["1_000", 1_000_000_000_000n],
    ["1_000.000_000_001", 1_000_000_000_001n],
    ["0.000000001", 1n],
    ["0.0000000010", 1n],
    ["00.50", 500_000_000n],
    ["90071992547409930.000000001", 90_071_992_547_409_930_000_000_001n],
  ])("takes %s exactly", (text, nanoUsd) => {
    expect(parseUsd(text)).toBe(nanoUsd);
  });

  test.each([
    ["finer than a nano-dollar", "0.0000000001"],
    ["negative", "-1"],
    ["signed", "+1"],
    ["an exponent", "1e3"],
    ["without digits before the point", ".5"],
    ["without digits behind the point", "5."],
    ["empty", ""],
    ["white space", " 1"],
    ["a comma", "1,5"],
    ["a dollar sign", "$1"],
    ["an underscore at the edge", "_1"],
    ["two underscores", "1__0"],
    ["hexadecimal", "0x10"],
    ["digits of another script", "١"],
    ["not a number", "NaN"],
  ])("refuses what is %s", (_, text) => {
    expect(parseUsd(text)).toBeUndefined();
  });
});

describe("writing an amount of dollars", () => {
  test.each<[bigint, string]>([
    [0n, "0"],
    [1n, "0.000000001"],
    [270_720_000n, "0.27072"],
    [12n * NANO_USD_PER_USD, "12"],
    [-1_500_000_000n, "-1.5"],
  ])("writes %d without trailing zeros", (nanoUsd, text) => {
    expect(formatUsd(nanoUsd)).toBe(text);
  });

  test("is read back as the same amount", () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 2n ** 80n }), (nanoUsd) => {
        expect(parseUsd(formatUsd(nanoUsd))).toBe(nanoUsd);
      }),
    );
  });

  test("writes any number of decimal places exactly", () => {
    expect(formatDecimal(500n, 27)).toBe("0.0000000000000000000000005");
    expect(formatDecimal(12_345n, 4)).toBe("1.2345");
  });
});
