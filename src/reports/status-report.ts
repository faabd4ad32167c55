/**
 * Owns what every limit says now: one line per scope value, and the contract's shape of it.
 * Does not own the counters (core/decisions, ledger/).
 * Invariant: the figures are those a decision at this instant would look at.
 */
import { scopeOfKey } from "../core/decisions/scope-of-key.ts";
import {
  compileLimits,
  emptyScopeState,
  countedFromMs,
  totalsOf,
  type CompiledLimit,
  type ScopeState,
} from "../core/decisions/counters.ts";
import type { Limit, Measure } from "../core/limits/limit.ts";
import { windowAt } from "../core/windows/windows.ts";
import type { CallRecord } from "../ledger/ledger.ts";
import { measureBounds, type BoundWorth, type BoundWorthOf } from "./bound-worth.ts";
import { paceOf } from "./burn-rate.ts";
import { toJsonAmount, toJsonInstant } from "./json.ts";

/** One limit for one scope value. */
export interface StatusLine extends BoundWorth {
  limit: string;
  scope: Readonly<Record<string, string>>;
  measure: Measure;
  amount: bigint;
  /** Where calls are refused; `undefined`: never. */
  ceiling: bigint | undefined;
  spent: bigint;
  reserved: bigint;
  /** Up to the ceiling, or to the amount where there is none; at least 0. */
  left: bigint;
  windowStartMs: number;
  /** When what is spent begins to count no more; `Infinity`: never. */
  windowEndMs: number;
  burnRateBps: number | undefined;
  runwayMs: number | undefined;
}

/** The contract's shape. `null`: there is none, or it is not known here. */
export interface StatusJson {
  limit: string;
  scope: Record<string, string>;
  measure: Measure;
  amount: string | number;
  spent: string | number;
  reserved: string | number;
  left: string | number;
  waiting: number | null;
  windowStart: string | null;
  windowEnd: string | null;
  burnRate: number | null;
  runwaySeconds: number | null;
  /** Over the newest settled calls that the limit counted. */
  boundToActual: number | null;
  boundsPassed: number;
}

/**
 * What every limit holds for every scope value that spent or reserved something, busiest first inside each limit. A limit over `all`
 * always has its line.
 */
export function buildStatus(input: {
  limits: readonly Limit[];
  states: ReadonlyMap<string, ScopeState>;
  /** The newest calls, for what bounds are worth. */
  recent: readonly CallRecord[];
  nowMs: number;
}): StatusLine[] {
  const now = { states: input.states, nowMs: input.nowMs, worthOf: measureBounds(input.recent) };
  const { limits } = compileLimits({ version: "", limits: input.limits, downgrade: new Map() });
  return limits.flatMap((compiled) => linesOf(compiled, now).toSorted(compareLines));
}

/** A line in the contract's shape. @param waiting how many calls wait on it; `undefined`: not known outside the gateway. */
export function toStatusJson(line: StatusLine, waiting?: number): StatusJson {
  const { measure, burnRateBps, runwayMs, boundToActualBps } = line;
  return {
    limit: line.limit,
    scope: { ...line.scope },
    measure,
    amount: toJsonAmount(measure, line.amount),
    spent: toJsonAmount(measure, line.spent),
    reserved: toJsonAmount(measure, line.reserved),
    left: toJsonAmount(measure, line.left),
    waiting: waiting ?? null,
    windowStart: toJsonInstant(line.windowStartMs),
    windowEnd: toJsonInstant(line.windowEndMs),
    burnRate: burnRateBps === undefined ? null : burnRateBps / 10_000,
    runwaySeconds: runwayMs === undefined ? null : Math.floor(runwayMs / 1_000),
    boundToActual: boundToActualBps === undefined ? null : boundToActualBps / 10_000,
    boundsPassed: line.boundsPassed,
  };
}

interface Now {
  states: ReadonlyMap<string, ScopeState>;
  nowMs: number;
  worthOf: BoundWorthOf;
}

function linesOf(compiled: CompiledLimit, now: Now): StatusLine[] {
  const { limit } = compiled;
  const { states } = now;
  const isForAll = limit.per.every((scope) => scope === "all");
  if (isForAll) return [lineOf(compiled, {}, states.get("all") ?? emptyScopeState(), now)];
  const lines: StatusLine[] = [];
  for (const [scopeKey, state] of states) {
    if (!state.counters.has(compiled.what)) continue;
    const scope = scopeOfKey(scopeKey);
    const isOurs = Object.keys(scope).length === limit.per.length && limit.per.every((name) => Object.hasOwn(scope, name));
    if (!isOurs) continue;
    const line = lineOf(compiled, scope, state, now);
    if (line.spent !== 0n || line.reserved !== 0n) lines.push(line);
  }
  return lines;
}

function lineOf(compiled: CompiledLimit, scope: Record<string, string>, state: ScopeState, { nowMs, worthOf }: Now): StatusLine {
  const { limit, ceiling, what } = compiled;
  const { spent, reserved } = totalsOf(state, compiled, nowMs);
  const end = ceiling ?? limit.amount;
  const left = end - spent - reserved;
  const window = windowEdges(compiled, nowMs);
  return {
    limit: limit.name,
    scope,
    measure: limit.measure,
    amount: limit.amount,
    ceiling,
    spent,
    reserved,
    left: left > 0n ? left : 0n,
    ...window,
    ...worthOf({ name: limit.name, what }, scope),
    ...paceOf({ state, compiled, ceiling: end, nowMs }),
  };
}

/** A rolling window always ends now and begins its length ago; nothing of it "resets". */
function windowEdges({ limit }: CompiledLimit, nowMs: number): { windowStartMs: number; windowEndMs: number } {
  if (limit.measure === "concurrency") return { windowStartMs: -Infinity, windowEndMs: Infinity };
  if (limit.window.kind === "rolling") {
    return { windowStartMs: countedFromMs(limit, nowMs), windowEndMs: nowMs };
  }
  const { startMs, endMs } = windowAt(limit.window, nowMs);
  return { windowStartMs: startMs, windowEndMs: endMs };
}

function compareLines(a: StatusLine, b: StatusLine): number {
  const [left, right] = [a.spent + a.reserved, b.spent + b.reserved];
  if (left !== right) return left > right ? -1 : 1;
  const [leftKey, rightKey] = [JSON.stringify(a.scope), JSON.stringify(b.scope)];
  return leftKey < rightKey ? -1 : leftKey > rightKey ? 1 : 0;
}
