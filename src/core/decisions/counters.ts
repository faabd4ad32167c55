/**
 * Owns what is counted where: which counters a call touches, what they hold, and when what they hold clears.
 * Does not own admission (admit.ts) or how counters are stored (ledger/).
 * Invariants: a counter is named by what it counts, never by a limit's name, so editing a limit loses nothing; the window is part
 * of the name, so nothing is ever reset; a charge stays at the instant of its reservation.
 */
import { bucketAt, bucketLeavesAtMs, firstCountedBucket, parseWindowKey, windowAt } from "../windows/windows.ts";
import { ceilingOf, type Action, type Limit, type ScopeName, type Scopes, type WherePattern } from "../limits/limit.ts";

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
    found: new Map(),
  }));
  return { version: input.version, limits, downgrade: input.downgrade };
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

/** The counters that a call on a model touches: one per limit that matches, several where a session counts for its parents. */
export function countersOf(set: LimitSet, scopes: Scopes, model: string): CallCounter[] {
  const found: CallCounter[] = [];
  for (const compiled of set.limits) {
    const { per, where } = compiled.limit;
    if (!where.every((pattern) => isMatched(pattern, scopes, model))) continue;
    const isPerSession = per.includes("session");
    const sessions = isPerSession ? [scopes.session, ...scopes.parentSessions] : [scopes.session];
    for (const session of sessions) {
      const [first = "all"] = per;
      // Most limits count over one scope: then its value alone says which counter it is.
      const value = per.length > 1 || isPerSession ? undefined : valueOf(first, scopes, model);
      const known = value === undefined ? undefined : compiled.found.get(value);
      if (known !== undefined) {
        found.push(known);
        continue;
      }
      const scope: Record<string, string> = {};
      for (const name of per) if (name !== "all") scope[name] = name === "session" ? session : valueOf(name, scopes, model);
      const counter = { compiled, scope, scopeKey: scopeKeyOf(scope) + (isPerSession ? ownerSuffix(scopes.key) : "") };
      if (value !== undefined) remember(compiled, value, counter);
      found.push(counter);
    }
  }
  return found;
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

/** Where in a series a charge of this instant belongs. */
export function windowOf(limit: Limit, atMs: number): { key: string; startMs: number; endMs: number; untilMs: number } {
  if (limit.measure === "concurrency") return { key: "now", startMs: 0, endMs: Infinity, untilMs: Infinity };
  if (limit.window.kind === "rolling") {
    const bucket = bucketAt(limit.window.lengthMs, atMs);
    const untilMs = bucketLeavesAtMs(limit.window.lengthMs, bucket);
    return { key: String(bucket), startMs: atMs - limit.window.lengthMs, endMs: untilMs, untilMs };
  }
  const window = windowAt(limit.window, atMs);
  return { ...window, untilMs: window.endMs };
}

/** Until when a counter counts, from its names alone: what {@link windowOf} says of every charge in it. */
export function untilOf(what: string, windowKey: string): number {
  const window = parseWindowKey(windowKey);
  if (window?.kind === "calendar") return window.endMs;
  if (!/^-?\d+$/.test(windowKey)) return Infinity;
  return bucketLeavesAtMs(lengthOf(what.slice(what.lastIndexOf("@") + 1)), Number(windowKey));
}

/** Spent and reserved that a limit looks at, at an instant. */
export function totalsOf(state: ScopeState, { limit, what }: CompiledLimit, atMs: number): { spent: bigint; reserved: bigint } {
  const series = state.counters.get(what);
  if (series === undefined) return { spent: 0n, reserved: 0n };
  if (limit.window.kind !== "rolling" || limit.measure === "concurrency") {
    const counter = series.get(windowOf(limit, atMs).key);
    return { spent: counter?.spent ?? 0n, reserved: counter?.reserved ?? 0n };
  }
  let spent = 0n;
  let reserved = 0n;
  const firstBucket = firstCountedBucket(limit.window.lengthMs, atMs);
  for (const [bucket, counter] of series) {
    if (Number(bucket) < firstBucket) continue;
    spent += counter.spent;
    reserved += counter.reserved;
  }
  return { spent, reserved };
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
    return;
  }
  counter.spent += charge.spent;
  counter.reserved += charge.reserved;
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
