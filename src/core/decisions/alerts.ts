/**
 * Owns when a threshold is told: once per limit, scope value, threshold and window. Does not own who is told (alerts/).
 * Invariant: telling depends on spent alone; a rolling limit is told again only after spent was below the threshold for the
 * window's length, which is worked out from the buckets and so needs no timer.
 */
import { parseWindowKey } from "../windows/windows.ts";
import { clearsAtMs, totalsOf, windowOf, type CallCounter, type ScopeState } from "./counters.ts";
import { refusingThresholdOf, type Action, type Limit, type Threshold } from "../limits/limit.ts";

/** A threshold was reached; or, with less than `thresholdAmount` spent, its limit refused a call that what is left is too little for. */
export interface Alert {
  limit: string;
  scope: Readonly<Record<string, string>>;
  threshold: string;
  /** What begins here, the alert itself included. */
  actions: readonly Action["kind"][];
  measure: Limit["measure"];
  amount: bigint;
  thresholdAmount: bigint;
  spent: bigint;
  atMs: number;
  /** When the window ends; `Infinity`: never. */
  windowEndMs: number;
}

/** `alert` tells, and so does everything that stops or holds calls. `downgrade` and `throttle` alone change calls without telling. */
const TELLING: ReadonlySet<Action["kind"]> = new Set(["alert", "stop", "grace", "pause"]);

/** Finds the thresholds to tell now and remembers that they were told. */
export function collectAlerts(
  state: ScopeState,
  counter: CallCounter,
  atMs: number,
): { alerts: readonly Alert[]; isToldChanged: boolean } {
  const { limit } = counter.compiled;
  const { spent } = totalsOf(state, counter.compiled, atMs);
  const [lowest] = limit.thresholds;
  if (lowest === undefined || spent < lowest.amount) return NOTHING_TO_TELL;
  const alerts: Alert[] = [];
  let isToldChanged = false;
  for (const threshold of limit.thresholds) {
    if (spent < threshold.amount) break;
    if (!threshold.actions.some(({ kind }) => TELLING.has(kind))) continue;
    const { isDue, isChanged } = tell(state, counter, threshold, atMs);
    isToldChanged ||= isChanged;
    if (isDue) alerts.push(alertOf(counter, threshold, spent, atMs));
  }
  return { alerts, isToldChanged };
}

const NOTHING_TO_TELL = { alerts: [], isToldChanged: false };

/**
 * Tells that a limit refuses, although less than its threshold is spent: what is left is too little for the calls that come. The same
 * threshold is not told again when it is reached.
 */
export function collectRefusalAlert(state: ScopeState, counter: CallCounter, atMs: number): Alert | undefined {
  const { limit } = counter.compiled;
  const threshold = refusingThresholdOf(limit);
  if (threshold === undefined || !tell(state, counter, threshold, atMs).isDue) return undefined;
  return alertOf(counter, threshold, totalsOf(state, counter.compiled, atMs).spent, atMs);
}

function alertOf(counter: CallCounter, threshold: Threshold, spent: bigint, atMs: number): Alert {
  const { limit } = counter.compiled;
  return {
    limit: limit.name,
    scope: counter.scope,
    threshold: threshold.label,
    actions: threshold.actions.map(({ kind }) => kind),
    measure: limit.measure,
    amount: limit.amount,
    thresholdAmount: threshold.amount,
    spent,
    atMs,
    windowEndMs: windowOf(limit, atMs).endMs,
  };
}

/** Remembers that a threshold is reached. `isDue`: it is to be told now. */
function tell(
  state: ScopeState,
  { compiled }: CallCounter,
  threshold: Threshold,
  atMs: number,
): { isDue: boolean; isChanged: boolean } {
  const key = `${compiled.limit.name}/${threshold.label}/${threshold.amount}`;
  const told = state.told.get(key);
  const isRolling = compiled.limit.window.kind === "rolling";
  const windowKey = isRolling ? "rolling" : windowOf(compiled.limit, atMs).key;
  const belowFromMs = isRolling ? clearsAtMs(state, compiled, atMs, threshold.amount - 1n) : Infinity;
  const lengthMs = compiled.limit.window.kind === "rolling" ? compiled.limit.window.lengthMs : 0;
  const isDue =
    told === undefined || isLaterWindow(windowKey, told.windowKey) || (isRolling && atMs >= told.belowFromMs + lengthMs);
  if (!isDue && told.windowKey !== windowKey) return { isDue: false, isChanged: false };
  const isChanged = told?.windowKey !== windowKey || told.belowFromMs !== belowFromMs;
  if (isChanged) state.told.set(key, { windowKey, belowFromMs });
  return { isDue, isChanged };
}

/** A clock set back over an edge must not tell the window before once more. */
function isLaterWindow(windowKey: string, toldKey: string): boolean {
  const [window, told] = [parseWindowKey(windowKey), parseWindowKey(toldKey)];
  if (window?.kind === "calendar" && told?.kind === "calendar") return window.startMs > told.startMs;
  return windowKey !== toldKey;
}
