import * as fc from "fast-check";
import { Temporal } from "temporal-polyfill";
import { describe, expect, test } from "vitest";
import type { WeekDay, Window } from "../limits/limit.ts";
import { bucketAt, bucketLeavesAtMs, bucketStartMs, isBucketCounted, parseWindowKey, windowAt } from "./windows.ts";
import { ROLLING_LENGTH_MS_MAX, ROLLING_LENGTH_MS_MIN } from "./rolling-length.ts";

type CalendarWindow = Extract<Window, { kind: "calendar" }>;

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const FROM_MS = Date.UTC(2000, 0, 1);
const TO_MS = Date.UTC(2041, 0, 1);

/** Zones that once did something a naive day gets wrong, and a spread of ordinary ones. */
const SPREAD = [
  "UTC",
  "Africa/Cairo",
  "Africa/Casablanca",
  "Africa/Johannesburg",
  "Africa/Khartoum",
  "America/Argentina/San_Luis",
  "America/Asuncion",
  "America/Caracas",
  "America/Godthab",
  "America/Goose_Bay",
  "America/Havana",
  "America/Los_Angeles",
  "America/Mexico_City",
  "America/New_York",
  "America/Sao_Paulo",
  "America/Scoresbysund",
  "America/St_Johns",
  "Antarctica/Casey",
  "Antarctica/Troll",
  "Asia/Amman",
  "Asia/Beirut",
  "Asia/Calcutta",
  "Asia/Dhaka",
  "Asia/Gaza",
  "Asia/Katmandu",
  "Asia/Pyongyang",
  "Asia/Tehran",
  "Asia/Tokyo",
  "Atlantic/Azores",
  "Australia/Adelaide",
  "Australia/Eucla",
  "Australia/Lord_Howe",
  "Australia/Sydney",
  "Europe/Berlin",
  "Europe/Dublin",
  "Europe/Istanbul",
  "Europe/London",
  "Europe/Volgograd",
  "Pacific/Apia",
  "Pacific/Chatham",
  "Pacific/Fakaofo",
  "Pacific/Kiritimati",
] as const;
const isLong = process.env["PURSER_LONG"] === "1";
const ZONES: readonly string[] = isLong ? [...new Set([...SPREAD, ...Intl.supportedValuesOf("timeZone")])] : SPREAD;

function calendar(unit: CalendarWindow["unit"], timeZone: string, settings: Partial<CalendarWindow> = {}): CalendarWindow {
  return { kind: "calendar", unit, timeZone, weekStart: 1, monthDay: 1, ...settings };
}

/** Every instant at which a zone changes its clock. */
function transitionsOf(timeZone: string): number[] {
  const found: number[] = [];
  let at = Temporal.Instant.fromEpochMilliseconds(FROM_MS).toZonedDateTimeISO(timeZone);
  for (;;) {
    const next = at.getTimeZoneTransition("next");
    if (next === null || next.epochMilliseconds >= TO_MS) return found;
    found.push(next.epochMilliseconds);
    at = next;
  }
}

/** What a clock on the wall shows, by the platform's own zone data: the oracle that does not use the code's library. */
function wallClock(timeZone: string): (atMs: number) => { date: string; time: string; weekday: string; day: number } {
  const format = new Intl.DateTimeFormat("en-CA", {
    timeZone,
    hourCycle: "h23",
    weekday: "short",
    year: "numeric",
    month: "2-digit",
    day: "2-digit",
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
  });
  return (atMs) => {
    const parts = Object.fromEntries(format.formatToParts(atMs).map(({ type, value }) => [type, value]));
    return {
      date: `${parts["year"]}-${parts["month"]}-${parts["day"]}`,
      time: `${parts["hour"]}:${parts["minute"]}:${parts["second"]}`,
      weekday: parts["weekday"] ?? "",
      day: Number(parts["day"]),
    };
  };
}

/** Walks from window to window over a stretch of time and holds them to be seamless. A copy of the setting has no memo to lean on. */
function expectTiled(window: CalendarWindow, fromMs: number, toMs: number): number {
  let count = 0;
  let { startMs, endMs, key } = windowAt({ ...window }, fromMs);
  expect(startMs).toBeLessThanOrEqual(fromMs);
  while (startMs < toMs) {
    expect(endMs).toBeGreaterThan(startMs);
    for (const inside of [startMs, Math.floor((startMs + endMs) / 2), endMs - 1]) {
      expect(windowAt({ ...window }, inside)).toEqual({ key, startMs, endMs });
    }
    const next = windowAt({ ...window }, endMs);
    expect(next.startMs).toBe(endMs);
    expect(next.key).not.toBe(key);
    ({ startMs, endMs, key } = next);
    count += 1;
  }
  return count;
}

const TRANSITIONS = ZONES.flatMap((timeZone) => transitionsOf(timeZone).map((atMs) => ({ timeZone, atMs })));

describe("calendar windows", () => {
  test(`tile every clock change of ${ZONES.length} zones from 2000 to 2040 without gap or overlap`, { timeout: 600_000 }, () => {
    // Every change in the long run, every sixth in the ordinary one.
    const chosen = isLong ? TRANSITIONS : TRANSITIONS.filter((_, index) => index % 6 === 0);
    let windows = 0;
    for (const { timeZone, atMs } of chosen) {
      windows += expectTiled(calendar("hour", timeZone), atMs - HOUR_MS, atMs + 2 * HOUR_MS);
      windows += expectTiled(calendar("day", timeZone), atMs - DAY_MS, atMs + DAY_MS);
      const weekStart = ((Math.floor(atMs / DAY_MS) % 7) + 1) as WeekDay;
      windows += expectTiled(calendar("week", timeZone, { weekStart }), atMs, atMs + 1);
      const monthDay = (Math.floor(atMs / DAY_MS) % 28) + 1;
      windows += expectTiled(calendar("month", timeZone, { monthDay }), atMs, atMs + 1);
    }

    expect(chosen.length).toBeGreaterThan(isLong ? 10_000 : 250);
    expect(windows).toBeGreaterThan(chosen.length * 6);
  });

  test("begin at the first instant of their date on the wall, and never again", { timeout: 600_000 }, () => {
    const chosen = isLong ? TRANSITIONS : TRANSITIONS.filter((_, index) => index % 12 === 5);
    for (const { timeZone, atMs } of chosen) {
      const clock = wallClock(timeZone);
      const before = windowAt(calendar("day", timeZone), atMs - DAY_MS);
      const latest = windowAt(calendar("day", timeZone), atMs + DAY_MS);

      for (let window = before; window.startMs <= latest.startMs; window = windowAt(calendar("day", timeZone), window.endMs)) {
        const { date } = clock(window.startMs);
        expect(clock(window.startMs - 1).date < date).toBe(true);
        expect(clock(window.endMs).date > date).toBe(true);
        // Where the clock goes back over midnight the wall shows the day before once more.
        expect(clock(window.endMs - 1).date <= date).toBe(true);
      }
    }
  });

  test("hold any instant of any zone, week start and month day", { timeout: 600_000 }, () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...ZONES),
        fc.integer({ min: FROM_MS, max: TO_MS }),
        fc.constantFrom("hour", "day", "week", "month"),
        fc.integer({ min: 1, max: 7 }),
        fc.integer({ min: 1, max: 28 }),
        (timeZone, atMs, unit, weekStart, monthDay) => {
          const window = calendar(unit, timeZone, { weekStart: weekStart as WeekDay, monthDay });
          expectTiled(window, atMs, atMs + 1);

          const clock = wallClock(timeZone);
          const { startMs, endMs } = windowAt(window, atMs);
          const start = clock(startMs);
          // A date that a zone left out (Apia, Fakaofo) begins with the date after it.
          const isDateLeftOut = clock(startMs - 1).date < isoDateBefore(start.date);
          expect(unit !== "month" || isDateLeftOut || start.day === monthDay).toBe(true);
          expect(unit !== "week" || isDateLeftOut || start.weekday === WEEKDAYS[weekStart - 1]).toBe(true);
          expect(unit !== "hour" || endMs - startMs <= HOUR_MS).toBe(true);
        },
      ),
      { numRuns: isLong ? 20_000 : 600 },
    );
  });

  test.each([
    ["UTC day", calendar("day", "UTC"), "2026-11-22T10:00Z", "2026-11-22T00:00Z", "2026-11-23T00:00Z"],
    ["leap day", calendar("day", "UTC"), "2028-02-29T23:59:59.999Z", "2028-02-29T00:00Z", "2028-03-01T00:00Z"],
    [
      "month from the 28th over February",
      calendar("month", "UTC", { monthDay: 28 }),
      "2027-03-01T00:00Z",
      "2027-02-28T00:00Z",
      "2027-03-28T00:00Z",
    ],
    [
      "month over the year's end",
      calendar("month", "UTC", { monthDay: 15 }),
      "2027-01-14T23:59Z",
      "2026-12-15T00:00Z",
      "2027-01-15T00:00Z",
    ],
    [
      "week from Sunday",
      calendar("week", "UTC", { weekStart: 7 }),
      "2026-11-22T00:00Z",
      "2026-11-22T00:00Z",
      "2026-11-29T00:00Z",
    ],
    ["week from Monday", calendar("week", "UTC"), "2026-11-22T23:59Z", "2026-11-16T00:00Z", "2026-11-23T00:00Z"],
    ["23 hours in Berlin", calendar("day", "Europe/Berlin"), "2026-03-29T12:00Z", "2026-03-28T23:00Z", "2026-03-29T22:00Z"],
    ["25 hours in Berlin", calendar("day", "Europe/Berlin"), "2026-10-25T12:00Z", "2026-10-24T22:00Z", "2026-10-25T23:00Z"],
    [
      "24.5 hours on Lord Howe",
      calendar("day", "Australia/Lord_Howe"),
      "2026-04-05T00:00Z",
      "2026-04-04T13:00Z",
      "2026-04-05T13:30Z",
    ],
    [
      "half an hour where Lord Howe's clock went back",
      calendar("hour", "Australia/Lord_Howe"),
      "2026-04-04T15:10Z",
      "2026-04-04T15:00Z",
      "2026-04-04T15:30Z",
    ],
    [
      "the day before Apia's missing one",
      calendar("day", "Pacific/Apia"),
      "2011-12-30T09:59Z",
      "2011-12-29T10:00Z",
      "2011-12-30T10:00Z",
    ],
    [
      "the day after Apia's missing one",
      calendar("day", "Pacific/Apia"),
      "2011-12-30T10:00Z",
      "2011-12-30T10:00Z",
      "2011-12-31T10:00Z",
    ],
    [
      "minutes repeated before midnight in St. John's",
      calendar("day", "America/St_Johns"),
      "2010-11-07T02:45Z",
      "2010-11-07T02:30Z",
      "2010-11-08T03:30Z",
    ],
    [
      "hour of a zone a quarter off",
      calendar("hour", "Asia/Kathmandu"),
      "2026-11-22T10:20Z",
      "2026-11-22T10:15Z",
      "2026-11-22T11:15Z",
    ],
    ["hour before 1970", calendar("hour", "UTC"), "1969-12-31T23:30Z", "1969-12-31T23:00Z", "1970-01-01T00:00Z"],
  ])("of %s have exact edges", (_, window, at, start, end) => {
    const interval = windowAt(window, Date.parse(at));

    expect([new Date(interval.startMs), new Date(interval.endMs)]).toEqual([new Date(start), new Date(end)]);
    expect(parseWindowKey(interval.key)).toEqual({ kind: "calendar", startMs: interval.startMs, endMs: interval.endMs });
    expect(interval.key.length).toBeLessThanOrEqual(32);
  });

  test("answer the same with and without the memo, also when the clock goes back", () => {
    const window = calendar("hour", "Europe/Berlin");
    const start = Date.UTC(2026, 9, 25, 0, 30);
    for (const minutes of [0, 10, 40, 20, 95, 35, 160, 5, 160, 95]) {
      const atMs = start + minutes * 60_000;
      expect(windowAt(window, atMs)).toEqual(windowAt({ ...window }, atMs));
    }
  });
});

describe("rolling windows", () => {
  const length = fc.integer({ min: ROLLING_LENGTH_MS_MIN, max: ROLLING_LENGTH_MS_MAX });
  const instant = fc.integer({ min: 0, max: TO_MS });

  test("have buckets that tile time for every length, also one that no 60 whole milliseconds divide", () => {
    fc.assert(
      fc.property(length, instant, (lengthMs, atMs) => {
        const { key, startMs, endMs } = windowAt({ kind: "rolling", lengthMs }, atMs);
        const index = bucketAt(lengthMs, atMs);

        expect(startMs <= atMs && atMs < endMs).toBe(true);
        expect(bucketAt(lengthMs, startMs)).toBe(index);
        expect(bucketAt(lengthMs, startMs - 1)).toBe(index - 1);
        expect(bucketAt(lengthMs, endMs)).toBe(index + 1);
        expect(bucketStartMs(lengthMs, index)).toBe(startMs);
        expect(parseWindowKey(key)).toEqual({ kind: "rolling", lengthMs, bucketIndex: index });
      }),
      { numRuns: 5_000 },
    );
  });

  test("count every bucket that touches the last length, and give money back at most a sixtieth late", () => {
    fc.assert(
      fc.property(length, instant, fc.double({ min: 0, max: 2, noNaN: true }), (lengthMs, spentAtMs, share) => {
        const nowMs = spentAtMs + Math.floor(share * lengthMs);
        const index = bucketAt(lengthMs, spentAtMs);
        // By exact integers: the bucket ends at (index + 1) · length / 60.
        const touches = (BigInt(index) + 1n) * BigInt(lengthMs) > 60n * BigInt(nowMs - lengthMs);

        expect(isBucketCounted(lengthMs, index, nowMs)).toBe(touches);
        expect(touches || nowMs - spentAtMs >= lengthMs).toBe(true);
        const leavesAtMs = bucketLeavesAtMs(lengthMs, index);
        expect(isBucketCounted(lengthMs, index, leavesAtMs - 1)).toBe(true);
        expect(isBucketCounted(lengthMs, index, leavesAtMs)).toBe(false);
        expect(leavesAtMs).toBeGreaterThanOrEqual(spentAtMs + lengthMs);
        expect(leavesAtMs).toBeLessThanOrEqual(spentAtMs + lengthMs + lengthMs / 60 + 1);
      }),
      { numRuns: 5_000 },
    );
  });

  test("give nothing back when a clock goes back", () => {
    const lengthMs = 60_000;
    const spentAtMs = Date.UTC(2026, 10, 22, 12);

    expect(isBucketCounted(lengthMs, bucketAt(lengthMs, spentAtMs), spentAtMs - HOUR_MS)).toBe(true);
  });
});

test("a lifetime is one window without end", () => {
  const life = windowAt({ kind: "lifetime" }, Date.UTC(2026, 10, 22));

  expect(life.key).toBe("life");
  expect(life.endMs).toBe(Infinity);
  expect(parseWindowKey("life")).toEqual({ kind: "lifetime" });
});

test.each(["", "life ", "c:1", "d:1:2", "r:1.5:2", "c:1:2:3"])("%j is no window key", (key) => {
  expect(parseWindowKey(key)).toBeUndefined();
});

const WEEKDAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

function isoDateBefore(date: string): string {
  return new Date(Date.parse(`${date}T00:00Z`) - DAY_MS).toISOString().slice(0, 10);
}
