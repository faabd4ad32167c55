/**
 * Random programs for a ledger: limits of every kind, and what callers, crashed processes, clocks and operators do to it.
 * Amounts are small on purpose, so that most limits are met within a program.
 */
import * as fc from "fast-check";
import type { CallFacts, Candidate } from "../../src/core/decisions/call.ts";
import {
  scopesOfTool,
  type Action,
  type Limit,
  type Measure,
  type ScopeName,
  type Scopes,
  type Threshold,
  type WherePattern,
  type Window,
} from "../../src/core/limits/limit.ts";
import { toNanoUsd, ZERO_USD } from "../../src/core/money/money.ts";
import { NO_TOKENS } from "../../src/core/usage/usage.ts";

/** One step of a program. `pick` chooses among the calls there are by then. */
export type Step =
  | {
      kind: "reserve";
      scopes: Scopes;
      candidates: Candidate[];
      history: CallFacts["history"];
      isForced: boolean;
      isHeldBack: boolean;
    }
  | { kind: "wake"; pick: number }
  | { kind: "repeatReserve"; pick: number }
  | { kind: "settle"; pick: number; shareBps: number; isUnpriced: boolean; stopReason: string; readsBps: number }
  | { kind: "repeatSettle"; pick: number; isOther: boolean }
  | { kind: "renew"; pick: number; shareBps: number }
  | { kind: "void"; pick: number }
  | { kind: "expire"; pick: number }
  | { kind: "adjust"; pick: number; delta: number; isAgain: boolean }
  | { kind: "refuse"; scopes: Scopes }
  | { kind: "clock"; byMs: number }
  | { kind: "configure"; pick: number }
  | { kind: "reopen" };

/** A run: sets of limits to put in force, and steps. The first set is in force from the start. */
export interface Program {
  configs: { limits: Limit[] }[];
  steps: Step[];
}

export const DAY_MS = 86_400_000;
/** 2026-11-22T00:00:00Z, a Sunday. */
export const START_MS = Date.UTC(2026, 10, 22);

const windows: fc.Arbitrary<Window> = fc.constantFrom(
  { kind: "calendar", unit: "day", timeZone: "UTC", weekStart: 1, monthDay: 1 },
  { kind: "calendar", unit: "hour", timeZone: "UTC", weekStart: 1, monthDay: 1 },
  { kind: "calendar", unit: "day", timeZone: "Asia/Kolkata", weekStart: 1, monthDay: 1 },
  { kind: "calendar", unit: "week", timeZone: "UTC", weekStart: 1, monthDay: 1 },
  { kind: "rolling", lengthMs: 60_000 },
  { kind: "rolling", lengthMs: 5 * 3_600_000 },
  { kind: "lifetime" },
);

const pers: fc.Arbitrary<ScopeName[]> = fc.constantFrom<ScopeName[]>(
  ["all"],
  ["project"],
  ["agent"],
  ["session"],
  ["user"],
  ["model"],
  ["agent", "model"],
  ["tool"],
  ["tag:team"],
);

const wheres: fc.Arbitrary<WherePattern[]> = fc.constantFrom<WherePattern[]>(
  [],
  [],
  [],
  [{ scope: "agent", anyOf: [{ text: "a0", isPrefix: false }] }],
  [{ scope: "model", anyOf: [{ text: "big", isPrefix: true }] }],
  [{ scope: "tool", anyOf: [{ text: "t0", isPrefix: false }] }],
);

const AMOUNTS: Record<Measure, [number, number]> = {
  usd: [0, 900],
  tokens: [0, 900],
  inputTokens: [0, 600],
  outputTokens: [0, 600],
  requests: [0, 12],
  concurrency: [0, 5],
  toolCalls: [0, 12],
};

const ends: fc.Arbitrary<Action[]> = fc.oneof(
  { weight: 4, arbitrary: fc.constant<Action[]>([{ kind: "stop" }]) },
  { weight: 2, arbitrary: fc.constant<Action[]>([{ kind: "grace", overdraftBps: 2_000, callsMax: 2 }]) },
  {
    weight: 1,
    arbitrary: fc.constantFrom<Action[]>([{ kind: "pause", upToMs: 900_000 }], [{ kind: "pause", upToMs: 2 * DAY_MS }]),
  },
  { weight: 1, arbitrary: fc.constant<Action[]>([{ kind: "alert" }]) },
);

const thresholds = (amount: bigint): fc.Arbitrary<Threshold[]> =>
  fc
    .record({
      middle: fc.subarray<[number, Action[]]>([
        [3_000, [{ kind: "alert" }]],
        [4_000, [{ kind: "downgrade" }]],
        [6_000, [{ kind: "throttle", intervalMs: 2_000 }]],
        [8_000, [{ kind: "alert" }, { kind: "throttle", intervalMs: 5_000 }]],
      ]),
      last: ends,
    })
    .map(({ middle, last }) =>
      [...middle, [10_000, last] as [number, Action[]]].map(([bps, actions]) => ({
        amount: (amount * BigInt(bps)) / 10_000n,
        label: `${bps / 100}%`,
        actions,
      })),
    );

const limit: fc.Arbitrary<Omit<Limit, "name">> = fc
  .record({
    measure: fc.constantFrom<Measure>(
      "usd",
      "usd",
      "usd",
      "tokens",
      "inputTokens",
      "outputTokens",
      "requests",
      "concurrency",
      "toolCalls",
    ),
    share: fc.integer({ min: 0, max: 100 }),
    per: pers,
    where: wheres,
    window: windows,
    cacheReads: fc.constantFrom("count", "count", "ignore"),
    unboundedReserveNanoUsd: fc.constantFrom(undefined, 40n, 90n),
    isFitOff: fc.constantFrom(true, false, false, false),
  })
  .chain(({ share, isFitOff, ...limited }) => {
    const rest = isFitOff ? { ...limited, fit: "off" as const } : limited;
    const [min, max] = AMOUNTS[rest.measure];
    const amount = BigInt(min + Math.round(((max - min) * share) / 100));
    return thresholds(amount).map((list) => ({ ...rest, amount, thresholds: list }));
  });

const config = fc
  .array(limit, { minLength: 1, maxLength: 5 })
  .map((limits) => ({ limits: limits.map((one, index) => ({ ...one, name: `limit-${index}` })) }));

const name = (prefix: string, count: number): fc.Arbitrary<string> =>
  fc.integer({ min: 0, max: count - 1 }).map((index) => `${prefix}${index}`);

const scopes: fc.Arbitrary<Scopes> = fc.record({
  project: name("p", 2),
  agent: name("a", 2),
  session: name("s", 3),
  parentSessions: fc.constantFrom<string[]>([], [], ["s0"]),
  user: name("u", 2),
  key: fc.constant("default"),
  task: fc.constant("default"),
  tags: fc.constantFrom<Record<string, string>>({}, { team: "t1" }, { team: "t&2 =x" }),
});

/** Of a call, or one time in four of a tool's invocation. */
const asked: fc.Arbitrary<Scopes> = fc
  .tuple(scopes, fc.constantFrom(undefined, undefined, undefined, undefined, undefined, undefined, "t0", "t&1"))
  .map(([values, tool]) => (tool === undefined ? values : scopesOfTool(values, tool)));

const candidate = (model: string, usdMax: number): fc.Arbitrary<Candidate> =>
  fc.record({
    model: fc.constant(model),
    canonicalModel: fc.constant(model),
    rejectedBy: fc.constantFrom(undefined, undefined, undefined, "no tools"),
    maxTokens: fc.constant(100),
    inputTokensBound: fc.integer({ min: 0, max: 100 }),
    isCountable: fc.constantFrom(false, false, true),
    outputTokensBound: fc.integer({ min: 0, max: 60 }),
    usdBound: fc.oneof(
      { weight: 20, arbitrary: fc.integer({ min: 0, max: usdMax }).map((amount) => toNanoUsd(BigInt(amount))) },
      { weight: 1, arbitrary: fc.constant(undefined) },
    ),
    unboundedParts: fc.oneof(
      { weight: 12, arbitrary: fc.constant<string[]>([]) },
      { weight: 1, arbitrary: fc.constant(["web_search"]) },
    ),
    tenCallsNanoUsd: fc.integer({ min: 0, max: usdMax * 10 }).map(BigInt),
    priceIds: fc.constant([`price-${model}`]),
  });

/** A candidate whose bound follows its output, one nano-dollar for a token, where there is output and a price to follow. */
function fittable(candidate: Candidate, leastMaxTokens: number): Candidate {
  const { usdBound, outputTokensBound, unboundedParts } = candidate;
  const fixed = (usdBound ?? 0n) - BigInt(outputTokensBound);
  if (unboundedParts.length > 0 || usdBound === undefined || fixed < 0n || leastMaxTokens >= outputTokensBound) return candidate;
  const usd = { fixed: fixed * 10n ** 14n, perOutputToken: 10n ** 14n, searches: ZERO_USD };
  return { ...candidate, maxTokens: outputTokensBound, fit: { leastMaxTokens, usd } };
}

const history = fc.record({ hasAssistantTurn: fc.boolean(), isAnsweringTool: fc.boolean(), hasThinking: fc.boolean() });
const pick = fc.nat({ max: 1_000 });
const rarely = fc.integer({ min: 0, max: 39 }).map((value) => value === 0);

const reserve: fc.Arbitrary<Step> = fc.record({
  kind: fc.constant("reserve" as const),
  scopes: asked,
  candidates: fc
    .tuple(candidate("big-1", 100), candidate("small-1", 30), fc.integer({ min: 0, max: 60 }))
    .map(([asked, cheaper, least]) => [fittable({ ...asked, rejectedBy: undefined }, least), fittable(cheaper, least)]),
  history,
  isForced: rarely,
  isHeldBack: rarely,
});

const settle: fc.Arbitrary<Step> = fc.record({
  kind: fc.constant("settle" as const),
  pick,
  shareBps: fc.oneof(
    { weight: 9, arbitrary: fc.integer({ min: 0, max: 10_000 }) },
    { weight: 1, arbitrary: fc.constant(15_000) },
  ),
  isUnpriced: rarely,
  stopReason: fc.constantFrom("end_turn", "tool_use", "tool_use", "max_tokens"),
  readsBps: fc.integer({ min: 0, max: 10_000 }),
});

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 40, arbitrary: reserve },
  { weight: 8, arbitrary: fc.record({ kind: fc.constant("wake" as const), pick }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("repeatReserve" as const), pick }) },
  { weight: 30, arbitrary: settle },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("repeatSettle" as const), pick, isOther: fc.boolean() }) },
  {
    weight: 5,
    arbitrary: fc.record({ kind: fc.constant("renew" as const), pick, shareBps: fc.integer({ min: 0, max: 11_000 }) }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("void" as const), pick }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("expire" as const), pick }) },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant("adjust" as const),
      pick,
      delta: fc.integer({ min: -40, max: 40 }).filter((delta) => delta !== 0),
      isAgain: fc.boolean(),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("refuse" as const), scopes }) },
  {
    weight: 12,
    arbitrary: fc.record({
      kind: fc.constant("clock" as const),
      byMs: fc.oneof(
        { weight: 6, arbitrary: fc.integer({ min: 1, max: 3_000 }) },
        { weight: 4, arbitrary: fc.integer({ min: 1_000, max: 90_000 }) },
        { weight: 3, arbitrary: fc.integer({ min: 600_000, max: 3 * 3_600_000 }) },
        { weight: 1, arbitrary: fc.integer({ min: DAY_MS / 2, max: 3 * DAY_MS }) },
        { weight: 2, arbitrary: fc.integer({ min: -5_000, max: -1 }) },
        { weight: 1, arbitrary: fc.integer({ min: -3_600_000, max: -60_000 }) },
        // A clock that is ten years off, and comes back.
        { weight: 1, arbitrary: fc.constantFrom(3_650 * DAY_MS, -3_650 * DAY_MS) },
      ),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("configure" as const), pick }) },
  { weight: 1, arbitrary: fc.constant<Step>({ kind: "reopen" }) },
);

/** Programs of at most the given number of steps. */
export function programs(stepCount: number): fc.Arbitrary<Program> {
  return fc.record({
    configs: fc.array(config, { minLength: 1, maxLength: 3 }),
    steps: fc.array(step, { minLength: 1, maxLength: stepCount, size: "max" }),
  });
}

/** Tokens of a call that used a share of its bounds. */
export function tokensOf(bounds: { inputTokensBound: number; outputTokensBound: number }, shareBps: number, readsBps: number) {
  const input = Math.floor((bounds.inputTokensBound * shareBps) / 10_000);
  const cacheReadTokens = Math.floor((input * readsBps) / 10_000);
  const outputTokens = Math.floor((bounds.outputTokensBound * shareBps) / 10_000);
  return { ...NO_TOKENS, uncachedInputTokens: input - cacheReadTokens, cacheReadTokens, outputTokens };
}
