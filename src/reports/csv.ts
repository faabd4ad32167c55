/**
 * Owns reports as CSV (RFC 4180), for spreadsheets.
 * Invariants: money is exact decimal text; a label can never become a formula: text that a spreadsheet would calculate begins with an
 * apostrophe.
 */
import { formatUsd } from "../core/money/money.ts";
import { formatInstant } from "../core/windows/instant.ts";
import type { UsageReport } from "./usage-report.ts";
import { toUsageJson } from "./usage-report.ts";

/** What spreadsheets take for the beginning of a formula, also behind white space. @see owasp.org/www-community/attacks/CSV_Injection */
const FORMULA = /^\s*[=+\-@\t\r|%]/;
/** Controls and characters that reorder text have no business in a cell. */
const UNSAFE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

/** A report as CSV, a header line first, each line ended by CR LF. The total is not in it: a spreadsheet would add it again. */
export function toReportCsv(report: UsageReport): string {
  const usageNames = Object.keys(toUsageJson(report.total.tokens));
  const header = ["from", "to", ...report.by, "calls", "denied", "costUsd", ...usageNames];
  const lines = report.groups.map((group) => [
    formatInstant(report.fromMs),
    formatInstant(report.toMs),
    ...report.by.map((dimension) => group.key[dimension] ?? ""),
    String(group.calls),
    String(group.denied),
    formatUsd(group.costNanoUsd),
    ...Object.values(toUsageJson(group.tokens)).map(String),
  ]);
  return [header, ...lines].map((cells) => `${cells.map((cell) => toCsvCell(cell)).join(",")}\r\n`).join("");
}

/** One cell: text that could be calculated is made text, quotes are doubled. */
export function toCsvCell(text: string): string {
  const cleaned = text.replaceAll(UNSAFE, (found) => `\\u{${(found.codePointAt(0) ?? 0).toString(16)}}`);
  const guarded = FORMULA.test(text) ? `'${cleaned}` : cleaned;
  return /[",\s']/.test(guarded) ? `"${guarded.replaceAll('"', '""')}"` : guarded;
}
