/**
 * Owns what is counted where: which counters a call touches, what they hold, and when what they hold clears.
 * Does not own admission (admit.ts) or how counters are stored (ledger/).
 * Invariants: a counter is named by what it counts, never by a limit's name, so editing a limit loses nothing; the window is part
 * of the name, so nothing is ever reset; a charge stays at the instant of its reservation.
 */
import { bucketAt, bucketLeavesAtMs, bucketStartMs, firstCountedBucket, parseWindowKey, windowAt } from "../windows/windows.ts";
import {
  ceilingOf,
  refusingThresholdOf,
  toolOf,
  type Action,
  type Limit,
  type ScopeName,
  type Scopes,
  type WherePattern,
} from "../limits/limit.ts";

/** Spent S and reserved R of one (measure, scope value, window), in the measure's unit. */
export interface Counter {
  spent: bigint;
  reserved: bigint;
  /** From this instant on no decision looks at it (epoch ms); `Infinity` for counters without a window. */
  untilMs: number;
}

/** Everything remembered about one scope value. */
export interface ScopeState {
  /** By what is counted (`usd@day:UTC:1:1`), then by window (`2026-11-22`, or a bucket's index). */
  counters: Map<string, Map<string, Counter>>;
  /** When the next throttled call may start, by what throttles it (epoch ms). */
  nextStartMs: Map<string, number>;
  /** Thresholds already told, by limit and threshold. */
  told: Map<string, Told>;
  /** Only for a session's own value. */
  session: SessionState | undefined;
  /** The latest end of a window whose counter was put away (epoch ms); 0: none was. A clock set back before it asks for them again. */
  droppedUntilMs: number;
}

/** That a threshold was told, and for which window. */
export interface Told {
  windowKey: string;
  /** Rolling limits: when S falls below the threshold if nothing more is spent. Told again only a window's length after that. */
  belowFromMs: number;
}

/** What a session remembers between its calls. */
export interface SessionState {
  /** Model asked for → model given, for the rest of the session. */
  downgraded: Map<string, string>;
  /** Calls since a downgrade fell due without a moment to switch. */
  callsSinceDowngradeDue: number;
  lastStopReason: string | undefined;
  /** The latest instant of a reservation of this session that was settled. */
  lastSettledChargeAtMs: number | undefined;
  /** Calls let through beyond a limit by `grace`, by limit and window. */
  graceCalls: Map<string, number>;
}

/** A copy that shares nothing that changes. */
export function copyScopeState(state: ScopeState): ScopeState {
  const counters = [...state.counters].map(
    ([what, series]) => [what, new Map([...series].map(([key, counter]) => [key, { ...counter }]))] as const,
  );
  const { session } = state;
  return {
    counters: new Map(counters),
    nextStartMs: new Map(state.nextStartMs),
    told: new Map([...state.told].map(([key, told]) => [key, { ...told }])),
    droppedUntilMs: state.droppedUntilMs,
    session: session && { ...session, downgraded: new Map(session.downgraded), graceCalls: new Map(session.graceCalls) },
  };
}

/** A scope value nothing is known of. */
export function emptyScopeState(): ScopeState {
  return { counters: new Map(), nextStartMs: new Map(), told: new Map(), session: undefined, droppedUntilMs: 0 };
}

/** A session nothing is known of. */
export function emptySessionState(): SessionState {
  return {
    downgraded: new Map(),
    callsSinceDowngradeDue: 0,
    lastStopReason: undefined,
    lastSettledChargeAtMs: undefined,
    graceCalls: new Map(),
  };
}

/** A limit with what every decision needs of it worked out once. */
export interface CompiledLimit {
  limit: Limit;
  /** Names what is counted, apart from scope value and window. */
  what: string;
  /** `undefined`: never refuses. */
  ceiling: bigint | undefined;
  /** The kinds of action that some threshold has. */
  actionKinds: ReadonlySet<Action["kind"]>;
  /** How long a call that finds it spent waits for it to clear; `undefined`: such a call is refused. */
  pauseUpToMs: number | undefined;
  /** Counters found before, by their scope values: a memo that changes no answer. */
  found: Map<string, CallCounter>;
}

/** So many scope values are remembered per limit; the memo of a limit that meets more begins anew. */
const FOUND_MAX = 10_000;

/** The rules in force: a version, its limits and the models to fall back to. */
export interface LimitSet {
  version: string;
  limits: readonly CompiledLimit[];
  /** Model → the next cheaper one to try. */
  downgrade: ReadonlyMap<string, string>;
}

/** Works out once what every decision needs of each limit. */
export function compileLimits(input: {
  version: string;
  limits: readonly Limit[];
  downgrade: ReadonlyMap<string, string>;
}): LimitSet {
  const limits = input.limits.map((limit) => ({
    limit,
    what: nameOfWhat(limit),
    ceiling: ceilingOf(limit),
    actionKinds: new Set(limit.thresholds.flatMap(({ actions }) => actions.map(({ kind }) => kind))),
    pauseUpToMs: pauseUpToMsOf(limit),
    found: new Map(),
  }));
  return { version: input.version, limits, downgrade: input.downgrade };
}

function pauseUpToMsOf(limit: Limit): number | undefined {
  const pause = refusingThresholdOf(limit)?.actions.find(({ kind }) => kind === "pause");
  return pause?.kind === "pause" ? pause.upToMs : undefined;
}

function nameOfWhat(limit: Limit): string {
  const reads = limit.cacheReads === "ignore" ? "-reads" : "";
  const where = limit.where.map(({ scope, anyOf }) => `?${scope}=${anyOf.map(nameOfPattern).sort().join("|")}`).sort();
  return `${limit.measure}${reads}${where.join("")}${nameOfWindow(limit)}`;
}

function nameOfPattern({ text, isPrefix }: WherePattern["anyOf"][number]): string {
  return escapeName(text) + (isPrefix ? "*" : "");
}

function nameOfWindow({ measure, window }: Limit): string {
  if (measure === "concurrency") return "";
  if (window.kind === "lifetime") return "@life";
  if (window.kind === "rolling") return `@${window.lengthMs}`;
  const { unit, timeZone, weekStart, monthDay } = window;
  return `@${unit}:${timeZone}${unit === "week" ? `:${weekStart}` : unit === "month" ? `:${monthDay}` : ""}`;
}

/**
 * Separators of names inside values: written so that no value can pretend to be two. Half characters become the replacement character
 * here and not first in a store, where two values would become one behind the back of a decision.
 */
function escapeName(text: string): string {
  if (!/[%&=?|@* /\ud800-\udfff]/.test(text)) return text;
  return text.toWellFormed().replaceAll(/[%&=?|@* /]/g, (found) => `%${found.charCodeAt(0).toString(16)}`);
}

/** One counter series that a call touches because of one limit. */
export interface CallCounter {
  compiled: CompiledLimit;
  /** The scope values, for people: `{ agent: "a" }`; empty for `all`. */
  scope: Readonly<Record<string, string>>;
  scopeKey: string;
  /** Names the counter series across scope values. */
  counterId: string;
}

/** True if both name the same counter. */
export function isSameCounter(
  a: Pick<Charge, "scopeKey" | "what" | "windowKey">,
  b: Pick<Charge, "scopeKey" | "what" | "windowKey">,
): boolean {
  return a.scopeKey === b.scopeKey && a.what === b.what && a.windowKey === b.windowKey;
}

/** Names a counter series across scope values. */
export function counterIdOf(scopeKey: string, what: string): string {
  return `${scopeKey} ${what}`;
}

/** The name of a scope value, such as `agent=a&model=m`. */
export function scopeKeyOf(scope: Readonly<Record<string, string>>): string {
  let key = "";
  for (const name of Object.keys(scope)) key += `${key === "" ? "" : "&"}${escapeName(name)}=${escapeName(scope[name] ?? "")}`;
  return key === "" ? "all" : key;
}

/**
 * The name of a session's own state. Callers choose session names themselves: under different keys the same name is two sessions, or
 * one caller could spend, slow or stop another's.
 */
export function sessionKeyOf({ session, key }: Pick<Scopes, "session" | "key">): string {
  return scopeKeyOf({ session }) + ownerSuffix(key);
}

/** What tells equal session names of different keys apart inside scope keys. Not a scope: it is not shown and no limit names it. */
export const OWNER_NAME = "~key";

function ownerSuffix(key: string): string {
  return key === "default" ? "" : `&${OWNER_NAME}=${escapeName(key)}`;
}

/**
 * The counters that a call on a model touches: one per limit that matches, several where a session counts for its parents. Limits of tool
 * calls look at invocations of tools, all others at all else.
 */
export function countersOf(set: LimitSet, scopes: Scopes, model: string): CallCounter[] {
  const found: CallCounter[] = [];
  const isTool = toolOf(scopes) !== undefined;
  for (const compiled of set.limits) {
    const { per, where, measure } = compiled.limit;
    if ((measure === "toolCalls") !== isTool) continue;
    if (where.length > 0 && !where.every((pattern) => isMatched(pattern, scopes, model))) continue;
    if (!per.includes("session")) {
      found.push(counterOf(compiled, { scopes, model, session: "" }));
      continue;
    }
    found.push(counterOf(compiled, { scopes, model, session: scopes.session }));
    for (const session of scopes.parentSessions) found.push(counterOf(compiled, { scopes, model, session }));
  }
  return found;
}

interface CountedValues {
  scopes: Scopes;
  model: string;
  session: string;
}

function counterOf(compiled: CompiledLimit, values: CountedValues): CallCounter {
  const value = memoKeyOf(compiled, values);
  const known = value === undefined ? undefined : compiled.found.get(value);
  if (known !== undefined) return known;
  const { per } = compiled.limit;
  const scope: Record<string, string> = {};
  for (const name of per) {
    if (name !== "all") scope[name] = name === "session" ? values.session : valueOf(name, values.scopes, values.model);
  }
  const scopeKey = scopeKeyOf(scope) + (per.includes("session") ? ownerSuffix(values.scopes.key) : "");
  const counter = { compiled, scope, scopeKey, counterId: counterIdOf(scopeKey, compiled.what) };
  if (value !== undefined) remember(compiled, value, counter);
  return counter;
}

/** Most limits count over one scope: then its value alone says which counter it is; a session's together with its key. */
function memoKeyOf({ limit: { per } }: CompiledLimit, { scopes, model, session }: CountedValues): string | undefined {
  const [first = "all"] = per;
  if (per.length > 1) return undefined;
  return first === "session" ? `${scopes.key.length} ${scopes.key} ${session}` : valueOf(first, scopes, model);
}

function remember({ found }: CompiledLimit, value: string, counter: CallCounter): void {
  if (found.size >= FOUND_MAX) found.clear();
  found.set(value, counter);
}

function isMatched({ scope, anyOf }: WherePattern, scopes: Scopes, model: string): boolean {
  const value = valueOf(scope, scopes, model);
  return anyOf.some(({ text, isPrefix }) => (isPrefix ? value.startsWith(text) : value === text));
}

function valueOf(name: ScopeName, scopes: Scopes, model: string): string {
  switch (name) {
    case "all":
      return "";
    case "model":
      return model;
    case "tool":
      return toolOf(scopes) ?? "default";
    case "project":
    case "agent":
    case "session":
    case "user":
    case "key":
    case "task":
      return scopes[name];
    default:
      return scopes.tags[name.slice("tag:".length)] ?? "default";
  }
}

/** Where in a series charges belong: those of the instants from `startMs` to before `nextMs`. */
export interface CountingWindow {
  key: string;
  startMs: number;
  nextMs: number;
  /** When the window is over, as people are told. */
  endMs: number;
  /** From this instant on no decision looks at it. */
  untilMs: number;
}

const NOW: CountingWindow = { key: "now", startMs: -Infinity, nextMs: Infinity, endMs: Infinity, untilMs: Infinity };

/** The last answer per limit: a memo that changes none. Calls come in the order of time, thousands in a window. */
const lastWindows = new WeakMap<Limit, CountingWindow>();

/** Where in a series a charge of this instant belongs. */
export function windowOf(limit: Limit, atMs: number): CountingWindow {
  if (limit.measure === "concurrency") return NOW;
  const last = lastWindows.get(limit);
  if (last !== undefined && last.startMs <= atMs && atMs < last.nextMs) return last;
  const window = limit.window.kind === "rolling" ? rollingWindow(limit.window.lengthMs, atMs) : fixedWindow(limit.window, atMs);
  lastWindows.set(limit, window);
  return window;
}

function rollingWindow(lengthMs: number, atMs: number): CountingWindow {
  const bucket = bucketAt(lengthMs, atMs);
  const leavesAtMs = bucketLeavesAtMs(lengthMs, bucket);
  const [startMs, nextMs] = [bucketStartMs(lengthMs, bucket), bucketStartMs(lengthMs, bucket + 1)];
  return { key: String(bucket), startMs, nextMs, endMs: leavesAtMs, untilMs: leavesAtMs };
}

function fixedWindow(window: Limit["window"], atMs: number): CountingWindow {
  const { key, startMs, endMs } = windowAt(window, atMs);
  return { key, startMs, nextMs: endMs, endMs, untilMs: endMs };
}

/** The first instant that a limit counts at another one. */
export function countedFromMs(limit: Limit, atMs: number): number {
  if (limit.measure === "concurrency") return 0;
  return limit.window.kind === "rolling" ? atMs - limit.window.lengthMs : windowOf(limit, atMs).startMs;
}

/** Until when a counter counts, from its names alone: what {@link windowOf} says of every charge in it. */
export function untilOf(what: string, windowKey: string): number {
  const window = parseWindowKey(windowKey);
  if (window?.kind === "calendar") return window.endMs;
  if (!/^-?\d+$/.test(windowKey)) return Infinity;
  return bucketLeavesAtMs(lengthOf(what.slice(what.lastIndexOf("@") + 1)), Number(windowKey));
}

/** What a limit looks at, at an instant. */
export interface Totals {
  readonly spent: bigint;
  readonly reserved: bigint;
}

const NOTHING: Totals = { spent: 0n, reserved: 0n };

/** Spent and reserved that a limit looks at, at an instant. */
export function totalsOf(state: ScopeState, { limit, what }: CompiledLimit, atMs: number): Totals {
  const series = state.counters.get(what);
  if (series === undefined) return NOTHING;
  const { window, measure } = limit;
  const totals =
    window.kind === "rolling" && measure !== "concurrency"
      ? rollingSumOf(series, firstCountedBucket(window.lengthMs, atMs))
      : series.get(windowOf(limit, atMs).key);
  return totals === undefined ? NOTHING : { spent: totals.spent, reserved: totals.reserved };
}

/** The buckets of a series from one on, summed. */
interface RollingSum {
  firstBucket: number;
  spent: bigint;
  reserved: bigint;
}

/**
 * The last sum per series: a memo that changes no answer. Every charge goes through {@link chargeCounter}, which keeps it right; whatever
 * else changes a series forgets it.
 */
const rollingSums = new WeakMap<ReadonlyMap<string, Counter>, RollingSum>();

function rollingSumOf(series: ReadonlyMap<string, Counter>, firstBucket: number): RollingSum {
  const known = rollingSums.get(series);
  if (known?.firstBucket === firstBucket) return known;
  const sum: RollingSum = { firstBucket, spent: 0n, reserved: 0n };
  for (const [bucket, counter] of series) {
    if (Number(bucket) < firstBucket) continue;
    sum.spent += counter.spent;
    sum.reserved += counter.reserved;
  }
  rollingSums.set(series, sum);
  return sum;
}

/**
 * The first instant at which spent is at most `target`, if nothing more is spent. `Infinity`: never by itself.
 */
export function clearsAtMs(state: ScopeState, { limit, what }: CompiledLimit, atMs: number, target: bigint): number {
  if (target < 0n) return Infinity;
  if (limit.measure === "concurrency" || limit.window.kind === "lifetime") return Infinity;
  if (limit.window.kind === "calendar") return windowOf(limit, atMs).endMs;
  const { lengthMs } = limit.window;
  const firstBucket = firstCountedBucket(lengthMs, atMs);
  const buckets = [...(state.counters.get(what) ?? [])]
    .map(([bucket, { spent }]) => ({ bucket: Number(bucket), spent }))
    .filter(({ bucket, spent }) => spent > 0n && bucket >= firstBucket)
    .sort((a, b) => a.bucket - b.bucket);
  let left = buckets.reduce((sum, { spent }) => sum + spent, 0n);
  for (const { bucket, spent } of buckets) {
    if (left <= target) break;
    left -= spent;
    if (left <= target) return bucketLeavesAtMs(lengthMs, bucket);
  }
  return atMs;
}

/** The next instant at which something leaves a rolling window, spent or held; `Infinity`: nothing in it does. */
export function leavesNextAtMs(state: ScopeState, { limit, what }: CompiledLimit, atMs: number): number {
  if (limit.window.kind !== "rolling" || limit.measure === "concurrency") return Infinity;
  const { lengthMs } = limit.window;
  const firstBucket = firstCountedBucket(lengthMs, atMs);
  let next = Infinity;
  for (const [bucket, { spent, reserved }] of state.counters.get(what) ?? []) {
    if (Number(bucket) < firstBucket || (spent === 0n && reserved === 0n)) continue;
    next = Math.min(next, bucketLeavesAtMs(lengthMs, Number(bucket)));
  }
  return next;
}

/** One change of one counter. The sum of all charges ever written for a counter is that counter. */
export interface Charge {
  scopeKey: string;
  what: string;
  windowKey: string;
  spent: bigint;
  reserved: bigint;
}

/**
 * How long a counter outlives its window before it is put away: once more its length for calendar windows, so that a clock set back
 * finds it at hand; a sixth of it for the sixty buckets of a rolling one, which every change of the scope value writes again.
 */
const KEPT_MS_MIN = 10_000;

/** Adds a charge to a scope value's counters. */
export function chargeCounter(state: ScopeState, charge: Charge, untilMs: number): void {
  let series = state.counters.get(charge.what);
  if (series === undefined) state.counters.set(charge.what, (series = new Map()));
  const counter = series.get(charge.windowKey);
  if (counter === undefined) {
    series.set(charge.windowKey, { spent: charge.spent, reserved: charge.reserved, untilMs });
  } else {
    counter.spent += charge.spent;
    counter.reserved += charge.reserved;
  }
  const sum = rollingSums.get(series);
  if (sum === undefined || Number(charge.windowKey) < sum.firstBucket) return;
  sum.spent += charge.spent;
  sum.reserved += charge.reserved;
}

/** Puts a counter back that was put away. */
export function restoreCounter(state: ScopeState, { what, windowKey, spent, untilMs }: DroppedCounter): void {
  let series = state.counters.get(what);
  if (series === undefined) state.counters.set(what, (series = new Map()));
  series.set(windowKey, { spent, reserved: 0n, untilMs });
  rollingSums.delete(series);
}

/** A counter that no decision is expected to look at any more. Nothing is reserved in it. */
export interface DroppedCounter {
  what: string;
  windowKey: string;
  spent: bigint;
  untilMs: number;
}

/** Takes out the counters whose windows are over for long, for the store to put away. */
export function pruneCounters(state: ScopeState, nowMs: number): DroppedCounter[] {
  const dropped: DroppedCounter[] = [];
  for (const [what, series] of state.counters) {
    if (series.size < 2) continue;
    const keptMs = keptAfterMs(what);
    for (const [windowKey, { spent, reserved, untilMs }] of series) {
      if (reserved !== 0n || untilMs + keptMs >= nowMs) continue;
      series.delete(windowKey);
      rollingSums.delete(series);
      dropped.push({ what, windowKey, spent, untilMs });
      state.droppedUntilMs = Math.max(state.droppedUntilMs, untilMs);
    }
  }
  return dropped;
}

/** How long the counters of a series are kept after their window's end. */
export function keptAfterMs(what: string): number {
  const name = what.slice(what.lastIndexOf("@") + 1);
  const lengthMs = lengthOf(name);
  return Math.max(KEPT_MS_MIN, /^\d/.test(name) ? Math.ceil(lengthMs / 6) : lengthMs);
}

/** How long a window of this name lasts at most: a length, or a unit and what belongs to it. */
function lengthOf(name: string): number {
  const dayMs = 86_400_000;
  if (name.startsWith("hour")) return 3_600_000;
  if (name.startsWith("day")) return 2 * dayMs;
  if (name.startsWith("week")) return 8 * dayMs;
  if (name.startsWith("month")) return 32 * dayMs;
  return Number(name) || 0;
}
