/**
 * Owns which stretch of time an instant falls into: calendar hours, days, weeks and months of a zone, buckets of a rolling length.
 * Does not own what is counted there (the ledger) or whose window it is (core/limits).
 * Invariant: the windows of one setting tile time: half-open, no gap, no overlap, whatever a zone does with its clock. Equal keys mean
 * the same interval, so a counter can never change its meaning, not even when a zone's rules do.
 */
import { Temporal } from "temporal-polyfill";
import type { WeekDay, Window } from "../limits/limit.ts";

/** One window of time, `startMs` inclusive, `endMs` exclusive (`Infinity`: never ends), in epoch milliseconds. */
export interface WindowInterval {
  /** `c:START:END` in epoch seconds, `r:LENGTH_MS:BUCKET`, or `life`. At most 32 characters, stored with every counter. */
  key: string;
  startMs: number;
  endMs: number;
}

/** The parts a rolling window is counted in: money comes back at most a sixtieth of the length late. */
export const ROLLING_BUCKETS = 60;

const HOUR_MS = 3_600_000;
const LIFE: WindowInterval = { key: "life", startMs: -Infinity, endMs: Infinity };

type CalendarWindow = Extract<Window, { kind: "calendar" }>;

/**
 * The last two intervals asked for, per window. A pure memo: the same arguments give the same answer with and without it. It is there
 * because the arithmetic of zones costs tens of microseconds; two, because settlements of the window before arrive after its end.
 */
const recentIntervals = new WeakMap<Window, [WindowInterval, WindowInterval | undefined]>();

/**
 * The window that an instant falls into.
 *
 * @remarks A local day begins at the first instant at which the zone's clock shows that date, and lasts until the next day begins: where
 * a clock goes back over midnight the repeated minutes belong to the later day. An hour begins at each full hour of the local clock and
 * wherever the clock is changed: an hour is cut short there, never longer than 60 minutes. For a rolling window: its bucket.
 * @param atMs whole epoch milliseconds.
 * @throws RangeError if the window names an unknown time zone: the configuration checks it first.
 */
export function windowAt(window: Window, atMs: number): WindowInterval {
  if (window.kind === "lifetime") return LIFE;
  const recent = recentIntervals.get(window);
  if (recent !== undefined) {
    const [last, previous] = recent;
    if (contains(last, atMs)) return last;
    if (previous !== undefined && contains(previous, atMs)) return previous;
  }
  const interval = window.kind === "rolling" ? bucketInterval(window.lengthMs, atMs) : calendarInterval(window, atMs);
  recentIntervals.set(window, [interval, recent?.[0]]);
  return interval;
}

/** What a window key says, or `undefined` if it is none. */
export function parseWindowKey(
  key: string,
):
  | { kind: "calendar"; startMs: number; endMs: number }
  | { kind: "rolling"; lengthMs: number; bucketIndex: number }
  | { kind: "lifetime" }
  | undefined {
  if (key === LIFE.key) return { kind: "lifetime" };
  const match = /^([cr]):(-?\d+):(-?\d+)$/.exec(key);
  if (match === null) return undefined;
  const [first, second] = [Number(match[2]), Number(match[3])];
  if (match[1] === "c") return { kind: "calendar", startMs: first * 1000, endMs: second * 1000 };
  return { kind: "rolling", lengthMs: first, bucketIndex: second };
}

/**
 * The bucket of a rolling window that an instant falls into. Exact for every length: a sixtieth of it need not be whole.
 *
 * @param lengthMs whole milliseconds, from `ROLLING_LENGTH_MS_MIN` on.
 */
export function bucketAt(lengthMs: number, atMs: number): number {
  return Math.floor((atMs * ROLLING_BUCKETS) / lengthMs);
}

/** The first whole millisecond of a bucket. */
export function bucketStartMs(lengthMs: number, bucketIndex: number): number {
  return Math.ceil((bucketIndex * lengthMs) / ROLLING_BUCKETS);
}

/**
 * True if a bucket counts now: it touches (now − length, now], the oldest one whole. Buckets after now count as well: they exist only if
 * a clock went back, and that gives no money back.
 */
export function isBucketCounted(lengthMs: number, bucketIndex: number, nowMs: number): boolean {
  return bucketIndex >= firstCountedBucket(lengthMs, nowMs);
}

/** The oldest bucket that counts now. */
export function firstCountedBucket(lengthMs: number, nowMs: number): number {
  return bucketAt(lengthMs, nowMs) - ROLLING_BUCKETS;
}

/** The first whole millisecond at which a bucket no longer counts. */
export function bucketLeavesAtMs(lengthMs: number, bucketIndex: number): number {
  return bucketStartMs(lengthMs, bucketIndex + ROLLING_BUCKETS + 1);
}

function contains(interval: WindowInterval, atMs: number): boolean {
  return interval.startMs <= atMs && atMs < interval.endMs;
}

function bucketInterval(lengthMs: number, atMs: number): WindowInterval {
  const index = bucketAt(lengthMs, atMs);
  return { key: `r:${lengthMs}:${index}`, startMs: bucketStartMs(lengthMs, index), endMs: bucketStartMs(lengthMs, index + 1) };
}

function calendarInterval(window: CalendarWindow, atMs: number): WindowInterval {
  const [startMs, endMs] = window.unit === "hour" ? hourEdges(window.timeZone, atMs) : dateEdges(window, atMs);
  // Every zone's clock changes at whole seconds, so the key loses nothing.
  return { key: `c:${startMs / 1000}:${endMs / 1000}`, startMs, endMs };
}

function hourEdges(timeZone: string, atMs: number): [number, number] {
  const offsetMs = offsetAt(timeZone, atMs);
  const sinceFullHourMs = (((atMs + offsetMs) % HOUR_MS) + HOUR_MS) % HOUR_MS;
  const startMs = atMs - sinceFullHourMs;
  const endMs = startMs + HOUR_MS;
  const isCutBefore = offsetAt(timeZone, startMs) !== offsetMs;
  const isCutAfter = offsetAt(timeZone, endMs - 1) !== offsetMs;
  return [
    isCutBefore ? transitionNear(timeZone, atMs + 1, "previous", startMs) : startMs,
    isCutAfter ? transitionNear(timeZone, atMs, "next", endMs) : endMs,
  ];
}

function offsetAt(timeZone: string, atMs: number): number {
  return zoned(timeZone, atMs).offsetNanoseconds / 1_000_000;
}

function transitionNear(timeZone: string, fromMs: number, direction: "next" | "previous", otherwiseMs: number): number {
  return zoned(timeZone, fromMs).getTimeZoneTransition(direction)?.epochMilliseconds ?? otherwiseMs;
}

function zoned(timeZone: string, atMs: number): Temporal.ZonedDateTime {
  return Temporal.Instant.fromEpochMilliseconds(atMs).toZonedDateTimeISO(timeZone);
}

/**
 * The edges are the starts of two dates. The date shown at the instant only gives a first guess: a clock that goes back over midnight
 * shows yesterday's date after today has begun.
 */
function dateEdges(window: CalendarWindow, atMs: number): [number, number] {
  let firstDate = firstDateOf(window, zoned(window.timeZone, atMs).toPlainDate());
  let startMs = startOfDateMs(window.timeZone, firstDate);
  while (startMs > atMs) {
    firstDate = firstDateOf(window, firstDate.subtract({ days: 1 }));
    startMs = startOfDateMs(window.timeZone, firstDate);
  }
  for (;;) {
    const nextFirstDate = firstDate.add(stepOf(window));
    const endMs = startOfDateMs(window.timeZone, nextFirstDate);
    if (atMs < endMs) return [startMs, endMs];
    firstDate = nextFirstDate;
    startMs = endMs;
  }
}

function stepOf({ unit }: CalendarWindow): { months: number } | { days: number } {
  if (unit === "month") return { months: 1 };
  return { days: unit === "week" ? 7 : 1 };
}

/** The date on which the window that holds a date begins. */
function firstDateOf(window: CalendarWindow, date: Temporal.PlainDate): Temporal.PlainDate {
  if (window.unit === "week") return date.subtract({ days: daysSince(window.weekStart, date.dayOfWeek) });
  if (window.unit !== "month") return date;
  const monthOfDate = date.day >= window.monthDay ? date : date.subtract({ months: 1 });
  return monthOfDate.with({ day: window.monthDay });
}

function daysSince(weekStart: WeekDay, dayOfWeek: number): number {
  return (dayOfWeek - weekStart + 7) % 7;
}

/** The first instant of a date; for a date that a zone left out, the first instant after the gap. */
function startOfDateMs(timeZone: string, date: Temporal.PlainDate): number {
  return date.toZonedDateTime({ timeZone }).startOfDay().epochMilliseconds;
}
