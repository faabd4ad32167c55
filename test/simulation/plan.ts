/**
 * Owns what a schedule consists of: limits, calls and what goes wrong when, all drawn from its seed before it runs.
 * Amounts are drawn so that some calls fit, some wait and some are refused.
 */
import type { Action, Limit, Measure, ScopeName, Window } from "../../src/core/limits/limit.ts";
import { createRandom, type Random } from "./random.ts";
import { costOf, ENDS, mostTokens, MODELS, type End, type ModelName } from "./upstream.ts";

export interface PlannedCall {
  atMs: number;
  agent: string;
  session: string;
  parents: readonly string[];
  user: string;
  task: string;
  tag: string;
  project: string;
  key: string | undefined;
  model: ModelName;
  maxTokens: number;
  textBytes: number;
  isStream: boolean;
  cache: "none" | "5m" | "1h";
  end: End;
  leavesAfterMs: number | undefined;
  deadlineMs: number | undefined;
  idempotencyKey: string | undefined;
  /** How often the client tries again what it may. */
  retries: number;
}

export type PlannedTrouble =
  | { kind: "crash"; atMs: number; which: number; downMs: number; upstreamStops: boolean }
  | { kind: "stall"; atMs: number; which: number; forMs: number }
  | { kind: "clock"; atMs: number; which: number; byMs: number }
  | { kind: "outage"; atMs: number; forMs: number }
  /** An operator corrects what a call that is over is counted with. */
  | { kind: "adjust"; atMs: number; which: number; deltaBps: number }
  | { kind: "reload"; atMs: number; limits: readonly Limit[] };

export interface Plan {
  seed: number;
  startMs: number;
  processes: number;
  skewsMs: readonly number[];
  limits: readonly Limit[];
  downgrade: ReadonlyMap<string, string>;
  onLedgerUnavailable: "deny" | "allow";
  /** Whether processes can see that another is dead; otherwise only that it is silent. */
  seesDead: boolean;
  isGreedy: boolean;
  /** Whether the ledger is a real file. */
  isOnFile: boolean;
  /** Share of commits that fail, before or after they happened. */
  faultShare: number;
  slowShare: number;
  calls: readonly PlannedCall[];
  troubles: readonly PlannedTrouble[];
  /** After this instant nothing goes wrong any more. */
  calmAtMs: number;
}

/** A second to midnight in UTC, minutes to the hour in Kolkata, and an ordinary noon. */
const STARTS_MS = [1_795_391_999_000, 1_795_350_598_000, 1_795_348_800_000] as const;

const utc = (unit: "hour" | "day" | "week"): Window => ({ kind: "calendar", unit, timeZone: "UTC", weekStart: 1, monthDay: 1 });
/** The same objects for all schedules: what the arithmetic of zones remembers hangs on them. */
const WINDOWS: readonly [Window, ...Window[]] = [
  utc("day"),
  utc("hour"),
  utc("week"),
  { kind: "calendar", unit: "hour", timeZone: "Asia/Kolkata", weekStart: 1, monthDay: 1 },
  { kind: "rolling", lengthMs: 60_000 },
  { kind: "rolling", lengthMs: 7_777 },
  { kind: "rolling", lengthMs: 1_800_000 },
  { kind: "lifetime" },
];
const SCOPES: readonly [ScopeName, ...ScopeName[]] = [
  "all",
  "all",
  "project",
  "agent",
  "session",
  "user",
  "key",
  "model",
  "task",
  "tag:team",
];
const MEASURES: readonly [Measure, ...Measure[]] = [
  "usd",
  "usd",
  "usd",
  "tokens",
  "inputTokens",
  "outputTokens",
  "requests",
  "concurrency",
];

/**
 * What schedules consist of; a seed that is kept names the one it failed under. 2: limits that pause or do not fit, corrections, the
 * ledger in SQLite.
 */
export const GRAMMAR = 2;

export function planOf(seed: number, grammar: number = GRAMMAR): Plan {
  const plan = firstPlanOf(seed);
  return grammar < 2 ? plan : widened(plan, createRandom(seed).fork("second"));
}

/** A real file, and threads for every process, cost a hundred times as much: one seed in so many has them. */
export const ON_FILE_EVERY = 1_000;

/** Each limit's own draws hang on its name, so that a reload that keeps it changes nothing else of it. */
function widened(plan: Plan, random: Random): Plan {
  const widen = (limits: readonly Limit[]): Limit[] => limits.map((limit) => widenedLimit(limit, random.fork(limit.name)));
  const troubles = plan.troubles.map((trouble) =>
    trouble.kind === "reload" ? { ...trouble, limits: widen(trouble.limits) } : trouble,
  );
  const adjusting = Array.from({ length: random.pick([0, 0, 0, 1, 4]) }, (): PlannedTrouble => {
    return { kind: "adjust", atMs: random.int(1, plan.calmAtMs), which: random.int(0, 99), deltaBps: random.int(-9_000, 9_000) };
  });
  const isOnFile = plan.seed % ON_FILE_EVERY === 0;
  return { ...plan, isOnFile, limits: widen(plan.limits), troubles: [...troubles, ...adjusting] };
}

function widenedLimit(limit: Limit, random: Random): Limit {
  const canPause = limit.window.kind !== "lifetime" && limit.measure !== "concurrency" && random.chance(0.2);
  const pause: Action = { kind: "pause", upToMs: random.pick([15_000, 60_000, 300_000]) };
  return {
    ...limit,
    ...(random.chance(0.2) ? { fit: "off" as const } : {}),
    thresholds: limit.thresholds.map((threshold) => ({
      ...threshold,
      actions: threshold.actions.map((action) => (canPause && action.kind === "stop" ? pause : action)),
    })),
  };
}

function firstPlanOf(seed: number): Plan {
  const root = createRandom(seed);
  const random = root.fork("shape");
  const processes = random.pick([1, 1, 2, 3]);
  const spanMs = random.pick([3_000, 10_000, 10_000, 40_000, 120_000]);
  const isCalm = random.chance(0.35);
  const calls = callsOf(root.fork("calls"), { spanMs, isGreedy: random.chance(0.3) });
  const limits = limitsOf(root.fork("limits"), calls.all);
  return {
    seed,
    startMs: random.pick(STARTS_MS),
    processes,
    skewsMs: Array.from({ length: processes }, (_, index) => (index === 0 ? 0 : random.int(-5_000, 5_000))),
    limits,
    downgrade: random.chance(0.3) ? new Map([["claude-opus-5-5", "claude-sonnet-5-5"]]) : new Map(),
    onLedgerUnavailable: random.chance(0.08) ? "allow" : "deny",
    seesDead: random.chance(0.7),
    isGreedy: calls.isGreedy,
    isOnFile: false,
    faultShare: isCalm ? 0 : random.pick([0, 0.02, 0.1]),
    slowShare: isCalm ? 0 : random.pick([0, 0.05]),
    calls: calls.all,
    troubles: isCalm ? [] : troublesOf(root.fork("troubles"), { spanMs, processes, limits, calls: calls.all }),
    calmAtMs: spanMs + 5_000,
  };
}

function callsOf(random: Random, { spanMs, isGreedy }: { spanMs: number; isGreedy: boolean }) {
  const count = random.int(6, 24);
  const isBurst = random.chance(0.4);
  const agents = random.int(1, 3);
  const sessions = random.int(1, 4);
  const isMild = random.chance(0.5);
  const all = Array.from({ length: count }, (): PlannedCall => {
    const session = `s${random.int(1, sessions)}`;
    return {
      atMs: isBurst ? random.int(0, 5) : random.int(0, spanMs),
      agent: `a${random.int(1, agents)}`,
      session,
      parents: session !== "s1" && random.chance(0.2) ? ["s1"] : [],
      user: `u${random.int(1, 2)}`,
      task: `t${random.int(1, 2)}`,
      tag: `g${random.int(1, 2)}`,
      project: `p${random.int(1, 2)}`,
      key: random.chance(0.2) ? `k${random.int(1, 2)}` : undefined,
      model: random.pick(MODELS),
      maxTokens: random.pick([1, 64, 500, 1_000, 2_000, 4_000]),
      textBytes: random.int(1, 1_500),
      isStream: random.chance(0.7),
      cache: random.chance(0.2) ? random.pick(["5m", "1h"]) : "none",
      end: isMild ? (random.chance(0.9) ? "ok" : random.pick(ENDS.slice(0, 9) as [End, ...End[]])) : random.pick(ENDS),
      leavesAfterMs: random.chance(0.12) ? random.int(0, 8_000) : undefined,
      deadlineMs: random.chance(0.15) ? random.int(1, 70_000) : undefined,
      idempotencyKey: random.chance(0.15) ? `i${random.int(1, 3)}` : undefined,
      retries: random.chance(0.5) ? random.int(1, 2) : 0,
    };
  });
  return { all, isGreedy };
}

function limitsOf(random: Random, calls: readonly PlannedCall[]): Limit[] {
  return Array.from({ length: random.int(1, 4) }, (_, index) => limitOf(random, calls, `limit-${index + 1}`));
}

function limitOf(random: Random, calls: readonly PlannedCall[], name: string): Limit {
  const measure = random.pick(MEASURES);
  const window = measure === "concurrency" ? ({ kind: "lifetime" } as const) : random.pick(WINDOWS);
  const amount = amountOf(random, measure, calls);
  const isGrace = window.kind !== "lifetime" && measure !== "concurrency" && random.chance(0.12);
  const last: Action = isGrace
    ? { kind: "grace", overdraftBps: random.pick([500, 2_000]), callsMax: random.int(1, 4) }
    : { kind: "stop" };
  const early: Action[] = [];
  if (random.chance(0.2) && measure !== "concurrency")
    early.push({ kind: "throttle", intervalMs: random.pick([200, 2_000, 12_000]) });
  if (random.chance(0.15) && measure === "usd") early.push({ kind: "downgrade" });
  if (random.chance(0.3)) early.push({ kind: "alert" });
  const half = { amount: (amount + 1n) / 2n, label: "50%", actions: early };
  const first = random.pick(SCOPES);
  const second = random.pick(SCOPES);
  const isPair = first !== "all" && second !== "all" && first !== second && random.chance(0.25);
  return {
    name,
    per: isPair ? [first, second].sort((a, b) => SCOPES.indexOf(a) - SCOPES.indexOf(b)) : [first],
    where: random.chance(0.1) ? [{ scope: "agent", anyOf: [{ text: "a1", isPrefix: random.chance(0.3) }] }] : [],
    measure,
    amount,
    window,
    cacheReads: measure !== "usd" && random.chance(0.3) ? "ignore" : "count",
    unboundedReserveNanoUsd: undefined,
    thresholds: [...(early.length > 0 ? [half] : []), { amount, label: "100%", actions: [last] }],
  };
}

/** So much that a handful of calls like one of these fit, now and then to the last unit, now and then none. */
function amountOf(random: Random, measure: Measure, calls: readonly PlannedCall[]): bigint {
  if (measure === "concurrency") return BigInt(random.int(1, 4));
  if (measure === "requests") return BigInt(random.int(1, 15));
  const [first, ...others] = calls;
  if (first === undefined) return 1n;
  const call = random.pick([first, ...others]);
  const most = mostTokens({ bytes: call.textBytes + 150, maxTokens: call.maxTokens, cache: call.cache });
  const inputs = most.input + most.write5m + most.write1h;
  const one =
    measure === "usd"
      ? costOf(call.model, most, true)
      : BigInt(measure === "tokens" ? inputs + most.output : measure === "inputTokens" ? inputs : most.output);
  return (one * BigInt(random.int(30, 700))) / 100n;
}

function troublesOf(
  random: Random,
  input: { spanMs: number; processes: number; limits: readonly Limit[]; calls: readonly PlannedCall[] },
): PlannedTrouble[] {
  const { spanMs, processes, limits, calls } = input;
  const troubles: PlannedTrouble[] = [];
  const at = (): number => random.int(1, spanMs);
  const which = (): number => random.int(0, processes - 1);
  for (let count = random.pick([0, 0, 1, 1, 2]); count > 0; count -= 1) {
    troubles.push({
      kind: "crash",
      atMs: at(),
      which: which(),
      downMs: random.int(10, 4_000),
      upstreamStops: random.chance(0.5),
    });
  }
  if (random.chance(0.15)) {
    troubles.push({ kind: "stall", atMs: at(), which: which(), forMs: random.pick([300, 3_000, 20_000, 70_000]) });
  }
  if (random.chance(0.2)) {
    const byMs = random.pick([-86_400_000, -3_600_000, -5_000, -400, 1_500, 30_000, 3_600_000, 86_400_000]);
    troubles.push({ kind: "clock", atMs: at(), which: which(), byMs });
  }
  if (random.chance(0.2)) troubles.push({ kind: "outage", atMs: at(), forMs: random.pick([50, 1_000, 6_000]) });
  for (let count = random.pick([0, 0, 0, 1, 2]); count > 0; count -= 1) {
    troubles.push({ kind: "reload", atMs: at(), limits: changedLimits(random, limits, calls) });
  }
  return troubles;
}

/** Raised, lowered, taken away, added. */
function changedLimits(random: Random, limits: readonly Limit[], calls: readonly PlannedCall[]): Limit[] {
  const kept = limits
    .filter(() => random.chance(0.85))
    .map((limit) => (random.chance(0.5) ? scaled(limit, random.int(40, 220)) : limit));
  return kept.length === 0 || random.chance(0.5) ? [...kept, limitOf(random, calls, `added-${random.int(1, 1_000)}`)] : kept;
}

function scaled(limit: Limit, percent: number): Limit {
  const scale = (amount: bigint): bigint => (amount * BigInt(percent) + 99n) / 100n;
  return {
    ...limit,
    amount: scale(limit.amount),
    thresholds: limit.thresholds.map((threshold) => ({ ...threshold, amount: scale(threshold.amount) })),
  };
}
