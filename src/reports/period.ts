/**
 * Owns which stretch of time a report is about, as people name it: a day, today, since when, until when.
 * Does not own windows of limits (core/windows).
 * Invariant: periods are half-open; a day is the zone's own, of 23, 24 or 25 hours.
 */
import { Temporal } from "temporal-polyfill";
import { windowAt, type WindowInterval } from "../core/windows/windows.ts";

/** `fromMs` inclusive, `toMs` exclusive. */
export interface Period {
  fromMs: number;
  toMs: number;
}

/** The zone's day that holds an instant. */
export function dayAt(timeZone: string, atMs: number): Period {
  return toPeriod(windowAt({ kind: "calendar", unit: "day", timeZone, weekStart: 1, monthDay: 1 }, atMs));
}

/** The day before. */
export function dayBefore(timeZone: string, day: Period): Period {
  return dayAt(timeZone, day.fromMs - 1);
}

/** A day by its name: `2026-11-22`, `today`, `yesterday`. `undefined`: it is none. */
export function parseDay(text: string, timeZone: string, nowMs: number): Period | undefined {
  const today = dayAt(timeZone, nowMs);
  if (text === "today") return today;
  if (text === "yesterday") return dayBefore(timeZone, today);
  const startMs = parseDate(text, timeZone);
  return startMs === undefined ? undefined : dayAt(timeZone, startMs);
}

/**
 * An instant by its name: a date (the start of that day in the zone; for `end`, the end of it), `today`, `yesterday`, or an instant
 * such as `2026-11-22T10:00Z` or, on the zone's wall, `2026-11-22T10:00`. `undefined`: it is none.
 */
export function parseEdge(text: string, edge: "start" | "end", timeZone: string, nowMs: number): number | undefined {
  const day = parseDay(text, timeZone, nowMs);
  if (day !== undefined) return edge === "start" ? day.fromMs : day.toMs;
  return attempt(() => Temporal.Instant.from(text).epochMilliseconds) ?? attempt(() => wallInstant(text, timeZone));
}

function wallInstant(text: string, timeZone: string): number {
  return Temporal.PlainDateTime.from(text).toZonedDateTime(timeZone).epochMilliseconds;
}

function parseDate(text: string, timeZone: string): number | undefined {
  if (!/^\d{4}-\d{2}-\d{2}$/.test(text)) return undefined;
  return attempt(
    () => Temporal.PlainDate.from(text, { overflow: "reject" }).toZonedDateTime({ timeZone }).startOfDay().epochMilliseconds,
  );
}

function attempt(read: () => number): number | undefined {
  try {
    return read();
  } catch (error) {
    // Temporal says with a RangeError that a text is no such thing, which is an answer here.
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}

function toPeriod({ startMs, endMs }: WindowInterval): Period {
  return { fromMs: startMs, toMs: endMs };
}
