/** Goal: the arithmetic of days is the calendar's, over all instants there are; the oracle is the platform's own. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { formatInstant, parseDay } from "./instant.ts";

/** The farthest instants of the platform, in epoch milliseconds. */
const FARTHEST_MS = 8.64e15;

/** As ISO 8601, milliseconds only where there are any. */
function asWritten(atMs: number): string {
  return new Date(atMs)
    .toISOString()
    .replace(/\.000Z$/, "Z")
    .replace(/(\.\d*?)0+Z$/, "$1Z");
}

test.each([
  [1_795_305_600_000, "2026-11-22T00:00:00Z"],
  [1_795_305_600_120, "2026-11-22T00:00:00.12Z"],
  [0, "1970-01-01T00:00:00Z"],
  [-1, "1969-12-31T23:59:59.999Z"],
  [951_782_400_000, "2000-02-29T00:00:00Z"],
  [-62_167_219_200_000, "0000-01-01T00:00:00Z"],
  [FARTHEST_MS, "+275760-09-13T00:00:00Z"],
  [-FARTHEST_MS, "-271821-04-20T00:00:00Z"],
])("%d is written %s", (atMs, text) => {
  expect(formatInstant(atMs)).toBe(text);
  expect(asWritten(atMs)).toBe(text);
});

test("any instant is written as the platform writes it", () => {
  const near = fc.integer({ min: -2e12, max: 4e12 });
  const any = fc.oneof(near, fc.integer({ min: -FARTHEST_MS, max: FARTHEST_MS }));

  fc.assert(
    fc.property(any, (atMs) => {
      expect(formatInstant(atMs)).toBe(asWritten(atMs));
    }),
    { numRuns: 5_000 },
  );
});

test("every day of 400 years and around them is read as it is written, and nothing else is", () => {
  const wrong: string[] = [];
  for (let atMs = Date.UTC(1899, 11, 25); atMs < Date.UTC(2300, 0, 5); atMs += 86_400_000) {
    const day = asWritten(atMs).slice(0, 10);
    if (parseDay(day) !== atMs) wrong.push(day);
  }
  expect(wrong).toEqual([]);
  for (const text of [
    "2026-02-29",
    "2026-13-01",
    "2026-00-10",
    "2026-04-31",
    "2026-01-00",
    "2026-1-1",
    "26-01-01",
    "2026-01-01T00",
    "",
  ]) {
    expect([text, parseDay(text)]).toEqual([text, undefined]);
  }
});
