/**
 * `purser report`: spend by anything.
 * Owns which period and which form is meant, and the table; the report itself is made in reports/.
 */
import type { Command } from "commander";
import { totalInputTokens } from "../../core/usage/usage.ts";
import type { Ledger, ReportDimension } from "../../ledger/ledger.ts";
import { toReportCsv } from "../../reports/csv.ts";
import { toReportMarkdown } from "../../reports/markdown.ts";
import { dayAt, dayBefore, parseDay, parseEdge, type Period } from "../../reports/period.ts";
import {
  buildUsageReport,
  groupKeyOf,
  parseDimensions,
  toReportJson,
  type ReportSums,
  type UsageReport,
} from "../../reports/usage-report.ts";
import { parseChoice, quoteArgument } from "../arguments.ts";
import { writeJson, writeLines, type CliIo } from "../cli-io.ts";
import { wrongUsage } from "../exit.ts";
import { decimalsFor, formatCount, formatMoney } from "../output/figures.ts";
import { formatDay, formatLocal } from "../output/instants.ts";
import { renderTable, type Cell, type Column, type TableInput } from "../output/table.ts";
import { wrap } from "../output/text.ts";
import {
  addCommonOptions,
  noLedgerLines,
  openExistingLedger,
  readSettings,
  withLedger,
  type CommonOptions,
} from "../settings.ts";

const FORMATS = ["table", "json", "csv", "md"] as const;

interface ReportOptions extends CommonOptions {
  day?: string;
  since?: string;
  until?: string;
  by?: string;
  format: (typeof FORMATS)[number];
}

/** What is asked: a period, and for a day's report the day before beside it. */
interface Asked {
  period: Period;
  previous: Period | undefined;
  by: readonly ReportDimension[];
  title: string;
}

const BY_DEFAULT: readonly ReportDimension[] = ["agent", "model"];
const DATE_HELP = "a date such as 2026-11-22, today, yesterday, or an instant such as 2026-11-22T10:00Z";

/** Adds the command. */
export function addReportCommand(program: Command, io: CliIo): void {
  const command = program
    .command("report")
    .description("print spend by agent, model or anything else; without options today's, yesterday beside it")
    .option("--day <date>", "one day, the day before beside it: a date, today or yesterday")
    .option("--since <when>", "from a date (its beginning) or an instant on")
    .option("--until <when>", "to a date (its end) or an instant (default: now)")
    .option(
      "--by <names>",
      "project, agent, user, model, task, session, key, tag:NAME; several with commas (default: agent,model)",
    )
    .option("--format <name>", FORMATS.join(", "), parseChoice(FORMATS), "table");
  addCommonOptions(command).action(async (options: ReportOptions) => runReport(io, options));
}

async function runReport(io: CliIo, options: ReportOptions): Promise<void> {
  const settings = await readSettings(io, options);
  const { timeZone } = settings.config;
  const asked = readAsked(options, timeZone, io.nowMs());
  const ledger = await openExistingLedger(io, settings);
  if (ledger === undefined && options.format === "table") {
    writeLines(io, noLedgerLines(settings.config.ledger.path));
    return;
  }
  const reports = ledger === undefined ? emptyReports(asked) : await withLedger(ledger, async () => readReports(ledger, asked));
  switch (options.format) {
    case "json":
      return writeJson(io, {
        ...toReportJson(reports.report),
        ...(reports.previous === undefined ? {} : { previous: toReportJson(reports.previous) }),
      });
    case "csv":
      return io.write(toReportCsv(reports.report));
    case "md":
      return io.write(toReportMarkdown(reports.report));
    case "table":
      return writeLines(io, showReport(io, asked, reports));
  }
}

function readAsked(options: ReportOptions, timeZone: string, nowMs: number): Asked {
  const read = options.by === undefined ? ({ outcome: "read", by: BY_DEFAULT } as const) : parseDimensions(options.by);
  if (read.outcome === "invalid") throw wrongUsage(`--by: found ${quoteArgument(read.found)}; allowed: ${read.allowed}`);
  const { by } = read;
  if (options.since === undefined && options.until === undefined) {
    const today = dayAt(timeZone, nowMs);
    const period = options.day === undefined ? today : parseDay(options.day, timeZone, nowMs);
    if (period === undefined)
      throw wrongUsage(
        `--day: found ${quoteArgument(options.day ?? "")}; allowed: a date such as 2026-11-22, today or yesterday`,
      );
    const isToday = period.fromMs === today.fromMs;
    const title = `${formatDay(period.fromMs, timeZone)} (${timeZone})${isToday ? `, until now (${formatLocal(nowMs, timeZone).slice(11, 16)})` : ""}`;
    return { period, previous: dayBefore(timeZone, period), by, title };
  }
  if (options.day !== undefined) throw wrongUsage("--day cannot stand beside --since or --until");
  if (options.since === undefined) throw wrongUsage("--until needs --since: from when on?");
  const fromMs = parseEdge(options.since, "start", timeZone, nowMs);
  if (fromMs === undefined) throw wrongUsage(`--since: found ${quoteArgument(options.since)}; allowed: ${DATE_HELP}`);
  const toMs = options.until === undefined ? nowMs : parseEdge(options.until, "end", timeZone, nowMs);
  if (toMs === undefined) throw wrongUsage(`--until: found ${quoteArgument(options.until ?? "")}; allowed: ${DATE_HELP}`);
  if (toMs <= fromMs) throw wrongUsage("--until is not after --since: nothing lies between them");
  const title = `${formatLocal(fromMs, timeZone)} to ${formatLocal(toMs, timeZone)} (${timeZone})`;
  return { period: { fromMs, toMs }, previous: undefined, by, title };
}

interface Reports {
  report: UsageReport;
  previous: UsageReport | undefined;
}

async function readReports(ledger: Ledger, { period, previous, by }: Asked): Promise<Reports> {
  const build = async (of: Period): Promise<UsageReport> => {
    const groups = await ledger.report({ ...of, by });
    return buildUsageReport({ period: of, by, groups });
  };
  return { report: await build(period), previous: previous === undefined ? undefined : await build(previous) };
}

function emptyReports({ period, previous, by }: Asked): Reports {
  const build = (of: Period): UsageReport => buildUsageReport({ period: of, by, groups: [] });
  return { report: build(period), previous: previous === undefined ? undefined : build(previous) };
}

function showReport(io: CliIo, { title, by, period }: Asked, { report, previous }: Reports): string[] {
  const { screen } = io;
  const { bold } = screen.style;
  const before = previous === undefined ? undefined : isYesterdayOf(period, io.nowMs()) ? "yesterday" : "the day before";
  const summary = [
    sentenceOf(report.total),
    ...(previous === undefined || before === undefined ? [] : [`${before}: ${sentenceOf(previous.total)}`]),
  ].join("; ");
  const head = [bold(title), ...wrap(`${summary.charAt(0).toUpperCase()}${summary.slice(1)}.`, screen.width)];
  if (report.groups.length === 0 && (previous?.groups.length ?? 0) === 0) {
    return [
      ...head,
      "Another day:  npx purser report --day yesterday",
      "Any stretch:  npx purser report --since 2026-11-01 --by project,model",
    ];
  }
  return [...head, ...renderTable(reportTable(report, previous, by, before), screen)];
}

/** True if the period is the day that holds now, so that the one before it is yesterday. */
function isYesterdayOf({ fromMs, toMs }: Period, nowMs: number): boolean {
  return fromMs <= nowMs && nowMs < toMs;
}

function sentenceOf({ calls, denied, costNanoUsd }: ReportSums): string {
  if (calls === 0 && denied === 0) return "no calls";
  const refused = denied === 0 ? "" : `, ${formatCount(denied)} refused`;
  return `${formatMoney(costNanoUsd, decimalsFor([costNanoUsd]))} in ${formatCount(calls)} call${calls === 1 ? "" : "s"}${refused}`;
}

function reportTable(
  report: UsageReport,
  previous: UsageReport | undefined,
  by: readonly ReportDimension[],
  before: string | undefined,
): TableInput {
  const earlier = new Map(previous?.groups.map((group) => [groupKeyOf(group, by), group]));
  const now = new Map(report.groups.map((group) => [groupKeyOf(group, by), group]));
  const all = [...report.groups, ...(previous?.groups ?? []).filter((group) => !now.has(groupKeyOf(group, by)))];
  const amounts = [...report.groups, ...(previous?.groups ?? []), report.total].map(({ costNanoUsd }) => costNanoUsd);
  const decimals = decimalsFor(amounts);
  const figures = (sums: ReportSums | undefined, past: ReportSums | undefined): Cell[] => [
    formatCount(sums?.calls ?? 0),
    formatCount(sums?.denied ?? 0),
    formatCount(sums?.tokens.uncachedInputTokens ?? 0),
    formatCount(sums?.tokens.cacheReadTokens ?? 0),
    formatCount((sums?.tokens.cacheWrite5mTokens ?? 0) + (sums?.tokens.cacheWrite1hTokens ?? 0)),
    formatCount(sums?.tokens.outputTokens ?? 0),
    formatCount(sums === undefined ? 0 : totalInputTokens(sums.tokens) + sums.tokens.outputTokens),
    formatMoney(sums?.costNanoUsd ?? 0n, decimals),
    ...(previous === undefined ? [] : [past === undefined ? "–" : formatMoney(past.costNanoUsd, decimals)]),
  ];
  return {
    columns: [...by.map((dimension) => dimensionColumn(dimension)), ...figureColumns(before)],
    rows: all.map((group) => {
      const id = groupKeyOf(group, by);
      return [...by.map((dimension) => group.key[dimension] ?? ""), ...figures(now.get(id), earlier.get(id))];
    }),
    total: [...by.map((_dimension, index) => (index === 0 ? "Total" : "")), ...figures(report.total, previous?.total)],
  };
}

function dimensionColumn(dimension: ReportDimension): Column {
  return {
    title: dimension.startsWith("tag:") ? dimension : dimension.charAt(0).toUpperCase() + dimension.slice(1),
    kind: "text",
    widthMin: 12,
  };
}

function figureColumns(before: string | undefined): Column[] {
  const columns: Column[] = [
    { title: "Calls", kind: "figure" },
    { title: "Refused", kind: "figure", dropOrder: 2 },
    { title: "Input", kind: "figure", dropOrder: 4 },
    { title: "Cache read", kind: "figure", dropOrder: 6 },
    { title: "Cache write", kind: "figure", dropOrder: 7 },
    { title: "Output", kind: "figure", dropOrder: 5 },
    { title: "All tokens", kind: "figure", dropOrder: 3 },
    { title: "Cost", kind: "figure" },
  ];
  if (before !== undefined)
    columns.push({ title: before === "yesterday" ? "Yesterday" : "Day before", kind: "figure", dropOrder: 1 });
  return columns;
}
