/**
 * Owns how fast a limit is being used and how long it lasts at that pace.
 * Invariants: figures for people, worked out from exact counters; what is not known is `undefined`, never zero.
 *
 * - Calendar windows: the pace is the average since the window began, over at least five minutes, so that the first call of a day is no alarm.
 * - Rolling windows: the pace is that of the last sixth of the window (ten of its sixty buckets), and the runway counts what leaves
 *   the window meanwhile.
 * - Lifetime limits have no pace: nothing says since when they count.
 */
import { totalsOf, type CompiledLimit, type ScopeState } from "../core/decisions/counters.ts";
import { bucketAt, bucketLeavesAtMs, bucketStartMs, isBucketCounted, windowAt } from "../core/windows/windows.ts";

export interface Pace {
  /** Pace ÷ the pace that uses the limit exactly at its window's end, in basis points: 10,000 is on pace. */
  burnRateBps: number | undefined;
  /** Until the limit is reached at this pace; `undefined`: not before its window ends, or not known. */
  runwayMs: number | undefined;
}

const ELAPSED_MS_MIN = 5 * 60_000;
/** The part of a rolling window whose pace counts as the present one. */
const RECENT_BUCKETS = 10;
const NONE: Pace = { burnRateBps: undefined, runwayMs: undefined };

/** The pace of one scope value under one limit. @param ceiling what is "reached": above 0. */
export function paceOf(input: { state: ScopeState; compiled: CompiledLimit; ceiling: bigint; nowMs: number }): Pace {
  const { compiled, ceiling } = input;
  if (compiled.limit.measure === "concurrency" || ceiling <= 0n) return NONE;
  switch (compiled.limit.window.kind) {
    case "lifetime":
      return NONE;
    case "calendar":
      return calendarPace(input);
    case "rolling":
      return rollingPace({ ...input, lengthMs: compiled.limit.window.lengthMs });
  }
}

interface PaceInput {
  state: ScopeState;
  compiled: CompiledLimit;
  ceiling: bigint;
  nowMs: number;
}

function calendarPace({ state, compiled, ceiling, nowMs }: PaceInput): Pace {
  const { startMs, endMs } = windowAt(compiled.limit.window, nowMs);
  const { spent } = totalsOf(state, compiled, nowMs);
  const lengthMs = endMs - startMs;
  const elapsedMs = Math.min(lengthMs, Math.max(ELAPSED_MS_MIN, nowMs - startMs));
  const perMs = Number(spent) / elapsedMs;
  const burnRateBps = Math.round((perMs * lengthMs * 10_000) / Number(ceiling));
  if (spent >= ceiling) return { burnRateBps, runwayMs: 0 };
  const runwayMs = perMs === 0 ? Infinity : Number(ceiling - spent) / perMs;
  return { burnRateBps, runwayMs: nowMs + runwayMs < endMs ? Math.floor(runwayMs) : undefined };
}

function rollingPace({ state, compiled, ceiling, nowMs, lengthMs }: PaceInput & { lengthMs: number }): Pace {
  const buckets = [...(state.counters.get(compiled.what) ?? [])]
    .map(([key, { spent }]) => ({ index: Number(key), spent: Number(spent) }))
    .filter(({ index }) => isBucketCounted(lengthMs, index, nowMs));
  const latest = bucketAt(lengthMs, nowMs);
  const recent = buckets.filter(({ index }) => index > latest - RECENT_BUCKETS);
  // The latest bucket has only begun: what lies in the recent ones took from the first one's start until now.
  const recentMs = Math.max(1, nowMs - bucketStartMs(lengthMs, latest - RECENT_BUCKETS + 1));
  const perMs = recent.reduce((sum, { spent }) => sum + spent, 0) / recentMs;
  const burnRateBps = Math.round((perMs * lengthMs * 10_000) / Number(ceiling));
  return { burnRateBps, runwayMs: rollingRunway({ buckets, perMs, ceiling: Number(ceiling), nowMs, lengthMs }) };
}

/** Walks over the instants at which buckets leave: between two of them the sum only grows. */
function rollingRunway(input: {
  buckets: readonly { index: number; spent: number }[];
  perMs: number;
  ceiling: number;
  nowMs: number;
  lengthMs: number;
}): number | undefined {
  const { perMs, ceiling, nowMs, lengthMs } = input;
  let sum = input.buckets.reduce((total, { spent }) => total + spent, 0);
  if (sum >= ceiling) return 0;
  if (perMs === 0) return undefined;
  let atMs = nowMs;
  for (const { index, spent } of input.buckets.toSorted((a, b) => a.index - b.index)) {
    const leavesAtMs = bucketLeavesAtMs(lengthMs, index);
    const reachedAtMs = atMs + (ceiling - sum) / perMs;
    if (reachedAtMs <= leavesAtMs) return Math.floor(reachedAtMs - nowMs);
    sum += perMs * (leavesAtMs - atMs) - spent;
    atMs = leavesAtMs;
  }
  return undefined;
}
