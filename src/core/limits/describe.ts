/**
 * Owns the sentence that says what a limit means. Does not own its rules (core/decisions) or its spelling (config/).
 * Invariant: every threshold and every action of the limit is in the sentence, in exact amounts.
 */
import { Temporal } from "temporal-polyfill";
import { formatUsd } from "../money/money.ts";
import { windowAt } from "../windows/windows.ts";
import type { Action, Limit, Measure, ScopeName, Threshold, WherePattern, Window } from "./limit.ts";
import { isRefusing, isRefusingAction } from "./limit.ts";

const FULL_SHARE_BPS = 10_000n;
const WEEK_DAY_NAMES = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"] as const;
const LENGTH_UNITS = [
  ["day", 86_400_000],
  ["hour", 3_600_000],
  ["minute", 60_000],
  ["second", 1_000],
] as const;

/**
 * Says what a limit means, in a sentence with its actions and when its window ends next.
 *
 * @param options.nowMs the instant from which "next" is meant, in epoch milliseconds.
 * @example
 * `everything-day: all calls together may spend $50.00 a day (UTC; ends 2026-11-23 00:00 UTC); told at $25.00, stopped at $50.00.`
 */
export function describeLimit(limit: Limit, options: { nowMs: number }): string {
  const window = limit.measure === "concurrency" ? " at once" : describeWindow(limit.window, options.nowMs);
  const rule = `${describePer(limit.per)}${describeWhere(limit.where)} ${describeAmount(limit)}${window}`;
  const reserve = limit.unboundedReserveNanoUsd;
  const unbounded = reserve === undefined ? [] : [`a call without a provable bound sets ${formatMeasured("usd", reserve)} aside`];
  const fit = limit.fit === "off" ? ["calls are not made smaller to fit"] : [];
  return `${limit.name}: ${[rule, describeThresholds(limit), ...fit, ...unbounded].join("; ")}.`;
}

/** An amount of a measure for a person's eyes: `$2.50`, `400,000`. Exact: no digit is dropped. */
export function formatMeasured(measure: Measure, amount: bigint): string {
  if (measure !== "usd") return groupThousands(amount.toString());
  const [whole = "0", fraction = ""] = formatUsd(amount).split(".");
  return `$${groupThousands(whole)}.${fraction.padEnd(2, "0")}`;
}

/** A length of time in the largest unit that holds it exactly: `5 hours`, `90 minutes`, `1 second`. */
export function formatLength(lengthMs: number): string {
  for (const [name, unitMs] of LENGTH_UNITS) {
    if (lengthMs >= unitMs && lengthMs % unitMs === 0) return plural(lengthMs / unitMs, name);
  }
  return `${lengthMs} ms`;
}

function groupThousands(digits: string): string {
  return digits.replaceAll(/\B(?=(?:\d{3})+$)/g, ",");
}

function plural(count: number, name: string): string {
  return `${count} ${name}${count === 1 ? "" : "s"}`;
}

function describePer(per: readonly ScopeName[]): string {
  const [first] = per;
  if (first === "all") return "all calls together";
  if (per.length === 1 && first !== undefined) return `each ${scopeWord(first)}`;
  return `each combination of ${joinWords(per.map(scopeWord), "and")}`;
}

function scopeWord(scope: ScopeName): string {
  return scope.startsWith("tag:") ? `value of the tag ${scope.slice("tag:".length)}` : scope;
}

function describeWhere(where: readonly WherePattern[]): string {
  if (where.length === 0) return "";
  const conditions = where.map(({ scope, anyOf }) => {
    const values = anyOf.map(({ text, isPrefix }) => `${text}${isPrefix ? "*" : ""}`);
    return `${scopeWord(scope)} is ${joinWords(values, "or")}`;
  });
  return ` (only calls whose ${joinWords(conditions, "and")})`;
}

function describeAmount(limit: Limit): string {
  const { measure, amount } = limit;
  const isOne = limit.per[0] !== "all";
  // A limit that never refuses promises nothing: it says what is expected.
  const may = isRefusing(limit) ? "may" : "should";
  const most = isRefusing(limit) ? "" : "at most ";
  const figure = `${most}${formatMeasured(measure, amount)}`;
  const reads = limit.cacheReads === "ignore" ? " (cache reads not counted)" : "";
  switch (measure) {
    case "usd":
      return `${may} spend ${figure}`;
    case "tokens":
      return `${may} use ${figure} tokens${reads}`;
    case "inputTokens":
      return `${may} use ${figure} input tokens${reads}`;
    case "outputTokens":
      return `${may} use ${figure} output tokens`;
    case "requests":
      return `${may} make ${figure} request${amount === 1n ? "" : "s"}`;
    case "toolCalls":
      return `${may} run ${figure} tool call${amount === 1n ? "" : "s"}`;
    case "concurrency":
      return `${may} have ${figure} call${amount === 1n ? "" : "s"} in flight${isOne ? "" : " in all"}`;
  }
}

function describeWindow(window: Window, nowMs: number): string {
  if (window.kind === "lifetime") return " in total (never starts anew)";
  if (window.kind === "rolling") return ` in any ${formatLength(window.lengthMs)}`;
  const { unit, timeZone } = window;
  const article = unit === "hour" ? "an" : "a";
  const weekStart = unit === "week" ? `, from ${WEEK_DAY_NAMES[window.weekStart - 1]}` : "";
  const monthDay = unit === "month" && window.monthDay !== 1 ? `, from day ${window.monthDay}` : "";
  return ` ${article} ${unit} (${timeZone}${weekStart}${monthDay}; ends ${formatInstant(windowAt(window, nowMs).endMs, timeZone)})`;
}

/** An instant on the wall of a zone: `2026-11-23 00:00 Europe/Berlin`. */
function formatInstant(atMs: number, timeZone: string): string {
  const local = Temporal.Instant.fromEpochMilliseconds(atMs).toZonedDateTimeISO(timeZone).toPlainDateTime();
  return `${local.toString({ smallestUnit: "minute" }).replace("T", " ")} ${timeZone}`;
}

function describeThresholds(limit: Limit): string {
  const told = limit.thresholds
    .filter(({ actions }) => isTold(actions))
    .map(({ amount }) => formatMeasured(limit.measure, amount));
  const steps = limit.thresholds.flatMap((threshold) =>
    threshold.actions.map((action) => describeAction(limit, threshold, action)),
  );
  const parts = [
    ...(told.length === 0 ? [] : [`told at ${joinWords(told, "and")}`]),
    ...steps.filter((step) => step !== undefined),
    ...(isRefusing(limit) ? [] : ["never stopped"]),
  ];
  return parts.join(", ");
}

/** A threshold that refuses tells by refusing: saying both would be saying it twice. */
function isTold(actions: readonly Action[]): boolean {
  return actions.some(({ kind }) => kind === "alert") && !actions.some(isRefusingAction);
}

function describeAction(limit: Limit, threshold: Threshold, action: Action): string | undefined {
  const at = formatMeasured(limit.measure, threshold.amount);
  switch (action.kind) {
    case "alert":
      return undefined;
    case "downgrade":
      return `on a cheaper model from ${at}`;
    case "throttle":
      return `one start every ${formatLength(action.intervalMs)} from ${at}`;
    case "grace":
      return describeGrace(limit.measure, threshold.amount, action);
    case "pause":
      return `paused at ${at} (a call waits up to ${formatLength(action.upToMs)} for the limit to clear)`;
    case "stop":
      return limit.measure === "concurrency" ? `a call over ${at} waits` : `stopped at ${at}`;
  }
}

function describeGrace(measure: Measure, amount: bigint, grace: Extract<Action, { kind: "grace" }>): string {
  const ceiling = (amount * (FULL_SHARE_BPS + BigInt(grace.overdraftBps))) / FULL_SHARE_BPS;
  const bounds = `at most ${plural(grace.callsMax, "call")} each, never above ${formatMeasured(measure, ceiling)}`;
  return `from ${formatMeasured(measure, amount)} on running sessions may finish (${bounds}) and nothing new starts`;
}

function joinWords(words: readonly string[], last: "and" | "or"): string {
  if (words.length < 2) return words.join("");
  return `${words.slice(0, -1).join(", ")} ${last} ${words.at(-1) ?? ""}`;
}
