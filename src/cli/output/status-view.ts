/**
 * Owns how the state of all limits looks to a person.
 * Does not own the figures (reports/).
 * Invariant: what is spent is rounded up and what is left rounded down; a limit never looks better than it is.
 */
import type { Alert } from "../../core/decisions/alerts.ts";
import { formatMeasured } from "../../core/limits/describe.ts";
import type { Limit } from "../../core/limits/limit.ts";
import type { CallRecord } from "../../ledger/ledger.ts";
import type { StatusLine } from "../../reports/status-report.ts";
import { formatAmount, formatBar, formatCount, formatLengthShort, formatShare, paintOf, shareBps } from "./figures.ts";
import { formatLocal, formatNear } from "./instants.ts";
import type { Screen } from "./screen.ts";
import { renderTable, type Cell, type Column } from "./table.ts";
import { clean, wrap } from "./text.ts";

/** Everything that is shown. */
export interface StatusFacts {
  lines: readonly StatusLine[];
  limits: readonly Limit[];
  running: number;
  /** Newest first. */
  alerts: readonly Alert[];
  /** The newest calls, for what bounds are worth. */
  recent: readonly CallRecord[];
  timeZone: string;
  ledgerPath: string;
  nowMs: number;
}

/** Scope values of one limit that are shown; the others are counted. */
const VALUES_SHOWN = 10;
/** From here on there is room for longer bars. */
const WIDE_COLUMNS = 110;
/** Fewer settled calls say nothing about bounds. */
const BOUND_CALLS_MIN = 5;

/** Shows the state of all limits, in lines. */
export function showStatus(facts: StatusFacts, screen: Screen): string[] {
  const { bold, dim } = screen.style;
  const { nowMs, timeZone, running, limits } = facts;
  const shown = limits.flatMap((limit) => rowsOf(limit, facts, screen));
  const head = `${bold(`${formatLocal(nowMs, timeZone)} ${timeZone}`)}, ${formatCount(running)} call${running === 1 ? "" : "s"} running`;
  return [
    head,
    ...(limits.length === 0
      ? ["There is no limit: nothing is ever refused for its cost."]
      : renderTable({ columns: columnsFor(screen), rows: shown }, screen)),
    ...[...boundLines(facts.recent), ...facts.lines.flatMap(passedLines)]
      .flatMap((line) => wrap(line, screen.width))
      .map((line) => dim(line)),
    ...alertLines(facts, screen),
    ...(facts.recent.length === 0 ? emptyLines() : []),
  ];
}

/** On a terminal a limit's name heads its scope values; elsewhere every line says all, so that a program can read it. */
function columnsFor(screen: Screen): Column[] {
  return [
    ...(screen.isTerminal
      ? [{ title: "Limit", kind: "text" as const, widthMin: 18 }]
      : [
          { title: "Limit", kind: "text" as const },
          { title: "Scope", kind: "text" as const },
        ]),
    { title: "Used", kind: "figure" },
    { title: "Spent", kind: "figure" },
    { title: "Reserved", kind: "figure", dropOrder: 4 },
    { title: "Left", kind: "figure" },
    { title: "Of", kind: "figure", dropOrder: 3 },
    { title: "Resets", kind: "whole", dropOrder: 1 },
    { title: "Burn", kind: "figure", dropOrder: 5 },
    { title: "Runway", kind: "figure", dropOrder: 2 },
    { title: "Bound", kind: "figure", dropOrder: 6 },
  ];
}

function rowsOf(limit: Limit, facts: StatusFacts, screen: Screen): Cell[][] {
  const lines = facts.lines.filter((line) => line.limit === limit.name);
  const { dim, bold } = screen.style;
  const isGrouped = screen.isTerminal && !limit.per.every((scope) => scope === "all");
  const width = columnsFor(screen).length;
  const row = (...cells: Cell[]): Cell[] => [...cells, ...Array.from({ length: width - cells.length }, () => "")];
  const name = (text: string): Cell[] => (screen.isTerminal ? [text] : [limit.name, text]);
  const rows = lines
    .slice(0, VALUES_SHOWN)
    .map((line) => [
      ...(isGrouped || !screen.isTerminal ? name(`${isGrouped ? "  " : ""}${scopeText(line)}`) : [limit.name]),
      ...figuresOf(limit, line, facts, screen),
    ]);
  const more = lines.length - rows.length;
  return [
    ...(isGrouped ? [row({ text: limit.name, paint: bold })] : []),
    ...rows,
    ...(lines.length === 0 ? [row(...name(`${isGrouped ? "  " : ""}no ${limit.per.join(" and ")} yet`))] : []),
    ...(more === 0
      ? []
      : [row(...name(`${isGrouped ? "  " : ""}… ${formatCount(more)} less busy`))].map((cells) =>
          cells.map((cell) => (typeof cell === "string" ? { text: cell, paint: dim } : cell)),
        )),
  ];
}

function scopeText({ scope }: StatusLine): string {
  const values = Object.entries(scope).map(([name, value]) => `${name} ${value}`);
  return values.length === 0 ? "all calls" : values.join(", ");
}

function figuresOf(limit: Limit, line: StatusLine, { nowMs, timeZone }: StatusFacts, screen: Screen): Cell[] {
  const { measure, spent, reserved, burnRateBps, runwayMs, boundToActualBps } = line;
  const most = line.ceiling ?? line.amount;
  const spentBps = shareBps(spent, most);
  const reservedBps = shareBps(reserved, most);
  const usedBps = measure === "concurrency" ? reservedBps : spentBps;
  const bar = screen.isTerminal ? `${formatBar({ spentBps, reservedBps, cells: screen.width < WIDE_COLUMNS ? 8 : 12 })} ` : "";
  return [
    { text: `${bar}${formatShare(usedBps).padStart(bar === "" ? 0 : 5)}`, paint: paintOf(usedBps, screen) },
    formatAmount(measure, spent, "up"),
    formatAmount(measure, reserved, "up"),
    formatAmount(measure, line.left, "down"),
    `${formatMeasured(measure, most)}${UNITS[measure]}`,
    resetText(limit, line, { nowMs, timeZone }),
    burnRateBps === undefined ? "–" : formatBurn(burnRateBps),
    runwayMs === undefined ? "–" : runwayMs === 0 ? "reached" : formatLengthShort(runwayMs),
    boundToActualBps === undefined ? "–" : formatBurn(boundToActualBps),
  ];
}

const UNITS: Readonly<Record<Limit["measure"], string>> = {
  usd: "",
  tokens: " tokens",
  inputTokens: " in",
  outputTokens: " out",
  requests: " calls",
  concurrency: " at once",
  toolCalls: " tool calls",
};

function resetText(limit: Limit, line: StatusLine, { nowMs, timeZone }: { nowMs: number; timeZone: string }): string {
  if (limit.measure === "concurrency") return "–";
  const { window } = limit;
  if (window.kind === "lifetime") return "never";
  if (window.kind === "rolling") return `any ${formatLengthShort(window.lengthMs)}`;
  const at = formatNear(line.windowEndMs, nowMs, window.timeZone);
  return window.timeZone === timeZone ? at : `${at} ${window.timeZone}`;
}

function formatBurn(bps: number): string {
  const tenths = Math.round(bps / 1_000);
  return tenths >= 1_000 ? `${formatCount(Math.round(tenths / 10))}×` : `${Math.floor(tenths / 10)}.${tenths % 10}×`;
}

/** How much more is set aside than is spent in the end: what a reservation is worth. And whether it was ever too little. */
function boundLines(recent: readonly CallRecord[]): string[] {
  let bound = 0n;
  let cost = 0n;
  let count = 0;
  let passed = 0;
  let overrun = 0n;
  for (const { status, reservedNanoUsd, costNanoUsd, overrunNanoUsd } of recent) {
    if (status !== "settled" || reservedNanoUsd === undefined || costNanoUsd === undefined) continue;
    bound += reservedNanoUsd;
    cost += costNanoUsd;
    count += 1;
    if (overrunNanoUsd > 0n) passed += 1;
    overrun += overrunNanoUsd;
  }
  if (count < BOUND_CALLS_MIN || cost === 0n) return [];
  const tenths = Number((bound * 10n) / cost);
  return [
    `Bound ÷ actual: ${Math.floor(tenths / 10)}.${tenths % 10} over the last ${count} settled calls (how much is set aside for each dollar spent).`,
    passed === 0
      ? "None of them cost more than its bound."
      : `${formatCount(passed)} of them cost more than the bound, ${formatAmount("usd", overrun, "up")} in all.`,
  ];
}

/** What the sum over all calls does not say: whose bounds they were, in tokens as in money. */
function passedLines(line: StatusLine): string[] {
  const { limit, boundsPassed } = line;
  if (boundsPassed === 0) return [];
  return [clean(`${limit}, ${scopeText(line)}: ${formatCount(boundsPassed)} used more than their bound; all of it is counted.`)];
}

function alertLines({ alerts, nowMs, timeZone }: StatusFacts, screen: Screen): string[] {
  if (alerts.length === 0) return [];
  const { bold, yellow } = screen.style;
  const lines = alerts.flatMap((alert) =>
    wrap(`${formatNear(alert.atMs, nowMs, timeZone)}  ${alertSentence(alert)}`, screen.width, "  "),
  );
  return [bold("Thresholds reached lately"), ...lines.map((line) => yellow(line))];
}

/** `everything-day, all calls: $25.00 of $50.00 spent, past 50%.` */
export function alertSentence({ limit, scope, measure, spent, amount, threshold, thresholdAmount, actions }: Alert): string {
  const values = Object.entries(scope).map(([name, value]) => `${name} ${value}`);
  const who = values.length === 0 ? "all calls" : values.join(", ");
  const then = actions.filter((action) => action !== "alert");
  const follows = then.length === 0 ? "" : ` From here on: ${then.join(", ")}.`;
  const state = `${formatMeasured(measure, spent)} of ${formatMeasured(measure, amount)} ${measure === "usd" ? "spent" : "used"}`;
  const reached = spent >= thresholdAmount ? `past ${threshold}` : "too little left for the calls that come";
  return clean(`${limit}, ${who}: ${state}, ${reached}.${follows}`);
}

function emptyLines(): string[] {
  return ["No call was recorded yet. Point an agent at the gateway:", "  export ANTHROPIC_BASE_URL=http://127.0.0.1:4141"];
}
