/**
 * Owns reports as Markdown tables, for tickets and chats.
 * Invariant: money is exact; a label can neither end its cell nor become a link, a picture or HTML.
 */
import { formatUsd } from "../core/money/money.ts";
import { totalInputTokens } from "../core/usage/usage.ts";
import { formatInstant } from "../core/windows/instant.ts";
import type { ReportSums, UsageReport } from "./usage-report.ts";

const UNSAFE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

/** A report as a Markdown table under a line that says what it is about, the total as last row. */
export function toReportMarkdown(report: UsageReport): string {
  const titles = [...report.by, "calls", "denied", "input tokens", "output tokens", "cost USD"].map((title) =>
    toMarkdownText(title),
  );
  const rules = [...report.by.map(() => ":--"), "--:", "--:", "--:", "--:", "--:"];
  const groups = report.groups.map((group) => [
    ...report.by.map((dimension) => toMarkdownText(group.key[dimension] ?? "")),
    ...figuresOf(group),
  ]);
  const total = [...report.by.map((_dimension, index) => (index === 0 ? "**total**" : "")), ...figuresOf(report.total)];
  const about = `Spend from ${formatInstant(report.fromMs)} to ${formatInstant(report.toMs)}\n\n`;
  return about + [titles, rules, ...groups, total].map((cells) => `| ${cells.join(" | ")} |\n`).join("");
}

function figuresOf({ calls, denied, tokens, costNanoUsd }: ReportSums): string[] {
  return [String(calls), String(denied), String(totalInputTokens(tokens)), String(tokens.outputTokens), formatUsd(costNanoUsd)];
}

/** Text in which every character that Markdown or HTML could act on is only itself. */
export function toMarkdownText(text: string): string {
  return text
    .replaceAll(UNSAFE, (found) => `u{${(found.codePointAt(0) ?? 0).toString(16)}}`)
    .replaceAll(/[\\`*_{}[\]()<>#+!|~&]/g, (found) => `&#${found.charCodeAt(0)};`);
}
