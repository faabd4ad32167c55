/**
 * Owns how instants look to a person: on the wall of the configuration's zone. Does not own what programs read (reports/, always UTC).
 */
import { Temporal } from "temporal-polyfill";

/** `2026-11-22 10:04:05`. */
export function formatLocal(
  atMs: number,
  timeZone: string,
  smallestUnit: "minute" | "second" | "millisecond" = "second",
): string {
  if (!Number.isFinite(atMs)) return "never";
  const local = Temporal.Instant.fromEpochMilliseconds(atMs).toZonedDateTimeISO(timeZone).toPlainDateTime();
  return local.toString({ smallestUnit, roundingMode: "floor" }).replace("T", " ");
}

/** An instant near `nowMs` in as few characters as say it: `14:00:07` today, else `11-23 00:00`, in another year with its year. */
export function formatNear(atMs: number, nowMs: number, timeZone: string): string {
  const text = formatLocal(atMs, timeZone);
  const now = formatLocal(nowMs, timeZone);
  if (text.slice(0, 10) === now.slice(0, 10)) return text.slice(11);
  return text.slice(0, 4) === now.slice(0, 4) ? text.slice(5, 16) : text.slice(0, 16);
}

/** `Sunday 2026-11-22`. */
export function formatDay(atMs: number, timeZone: string): string {
  const date = Temporal.Instant.fromEpochMilliseconds(atMs).toZonedDateTimeISO(timeZone).toPlainDate();
  const names = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
  return `${names[date.dayOfWeek - 1] ?? ""} ${date.toString()}`;
}
