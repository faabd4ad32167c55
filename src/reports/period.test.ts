import { expect, it } from "vitest";
import { dayAt, dayBefore, parseDay, parseEdge } from "./period.ts";

const at = (text: string): number => Date.parse(text);
const BERLIN = "Europe/Berlin";
const HOUR_MS = 3_600_000;

it.each([
  ["of 23 hours when the clock goes forward", "2026-03-29T12:00:00Z", 23],
  ["of 25 hours when it goes back", "2026-10-25T12:00:00Z", 25],
  ["of 24 hours otherwise", "2026-11-22T12:00:00Z", 24],
])("knows days %s", (_what, instant, hours) => {
  const { fromMs, toMs } = dayAt(BERLIN, at(instant));

  expect((toMs - fromMs) / HOUR_MS).toBe(hours);
});

it("puts yesterday right before today", () => {
  const today = dayAt(BERLIN, at("2026-10-26T05:00:00Z"));
  const yesterday = dayBefore(BERLIN, today);

  expect(yesterday).toEqual({ fromMs: at("2026-10-24T22:00:00Z"), toMs: today.fromMs });
});

const NOW = at("2026-11-22T23:30:00Z");

it("reads today, yesterday and a date in the zone", () => {
  expect(parseDay("today", "UTC", NOW)?.fromMs).toBe(at("2026-11-22T00:00:00Z"));
  expect(parseDay("today", BERLIN, NOW)?.fromMs).toBe(at("2026-11-22T23:00:00Z"));
  expect(parseDay("yesterday", BERLIN, NOW)?.fromMs).toBe(at("2026-11-21T23:00:00Z"));
  expect(parseDay("2026-02-28", BERLIN, NOW)).toEqual({ fromMs: at("2026-02-27T23:00:00Z"), toMs: at("2026-02-28T23:00:00Z") });
});

it.each(["2026-02-30", "26-1-1", "tomorrow", "", "2026-11-22 ", "-1"])("takes %j for no day", (text) => {
  expect(parseDay(text, "UTC", NOW)).toBeUndefined();
});

it("reads a date as its beginning or its end, an instant as itself, and a wall clock in the zone", () => {
  expect(parseEdge("2026-11-22", "start", "UTC", NOW)).toBe(at("2026-11-22T00:00:00Z"));
  expect(parseEdge("2026-11-22", "end", "UTC", NOW)).toBe(at("2026-11-23T00:00:00Z"));
  expect(parseEdge("2026-11-22T10:00Z", "end", BERLIN, NOW)).toBe(at("2026-11-22T10:00:00Z"));
  expect(parseEdge("2026-11-22T10:00", "start", BERLIN, NOW)).toBe(at("2026-11-22T09:00:00Z"));
  expect(parseEdge("2026-11-22T25:00", "start", BERLIN, NOW)).toBeUndefined();
});
