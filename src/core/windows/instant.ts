/**
 * Owns how an instant is written for people and machines, and reading a day. Does not own time zones (windows.ts): this is what a program
 * has to carry that asks for none.
 * Invariant: always UTC, always ISO 8601 with `Z`; the calendar is the Gregorian one, also before it was there.
 *
 * @see https://howardhinnant.github.io/date_algorithms.html
 */

const DAY_MS = 86_400_000;
/** A calendar repeats after so many years, which are so many days. */
const ERA_YEARS = 400;
const ERA_DAYS = 146_097;
/** Days from 0000-03-01 to 1970-01-01: years are counted from March, so that the day that leap years add comes last. */
const EPOCH_DAY = 719_468;

/** 1795305600000 → "2026-11-22T00:00:00Z"; milliseconds only where there are any. @param atMs epoch milliseconds, whole. */
export function formatInstant(atMs: number): string {
  const day = Math.floor(atMs / DAY_MS);
  const ms = atMs - day * DAY_MS;
  const time = [ms / 3_600_000, (ms / 60_000) % 60, (ms / 1_000) % 60].map((part) => pad(Math.floor(part), 2)).join(":");
  const fraction = ms % 1_000 === 0 ? "" : `.${pad(ms % 1_000, 3).replace(/0+$/, "")}`;
  return `${formatDay(day)}T${time}${fraction}Z`;
}

/** "2026-11-22" → when that day begins; `undefined`: there is no such day. */
export function parseDay(text: string): number | undefined {
  const [year, month, day] = (/^(\d{4})-(\d{2})-(\d{2})$/.exec(text) ?? []).slice(1).map(Number);
  if (year === undefined || month === undefined || day === undefined) return undefined;
  const yearOfMarch = month <= 2 ? year - 1 : year;
  const era = Math.floor(yearOfMarch / ERA_YEARS);
  const yearOfEra = yearOfMarch - era * ERA_YEARS;
  const dayOfYear = Math.floor((153 * ((month + 9) % 12) + 2) / 5) + day - 1;
  const dayOfEra = yearOfEra * 365 + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100) + dayOfYear;
  const count = era * ERA_DAYS + dayOfEra - EPOCH_DAY;
  // A day that does not exist is written as another one.
  return month >= 1 && month <= 12 && formatDay(count) === text ? count * DAY_MS : undefined;
}

/** @param count days since the epoch. */
function formatDay(count: number): string {
  const days = count + EPOCH_DAY;
  const era = Math.floor(days / ERA_DAYS);
  const dayOfEra = days - era * ERA_DAYS;
  const leapDays = Math.floor(dayOfEra / 1_460) - Math.floor(dayOfEra / 36_524) + Math.floor(dayOfEra / 146_096);
  const yearOfEra = Math.floor((dayOfEra - leapDays) / 365);
  const dayOfYear = dayOfEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100));
  const monthFromMarch = Math.floor((5 * dayOfYear + 2) / 153);
  const day = dayOfYear - Math.floor((153 * monthFromMarch + 2) / 5) + 1;
  const month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9;
  return `${formatYear(era * ERA_YEARS + yearOfEra + (month <= 2 ? 1 : 0))}-${pad(month, 2)}-${pad(day, 2)}`;
}

function formatYear(year: number): string {
  if (year >= 0 && year <= 9_999) return pad(year, 4);
  return `${year < 0 ? "-" : "+"}${pad(Math.abs(year), 6)}`;
}

function pad(number: number, length: number): string {
  return String(number).padStart(length, "0");
}
