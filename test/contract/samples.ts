/** Limits, calls and operations with everything filled in that a test does not care about. */
import type { Candidate } from "../../src/core/decisions/call.ts";
import type {
  AdjustOperation,
  CallResult,
  ExpireOperation,
  RenewOperation,
  ReserveOperation,
  SettleOperation,
  VoidOperation,
} from "../../src/core/decisions/operations.ts";
import type { Action, Limit, Measure, ScopeName, Scopes, Threshold, Window } from "../../src/core/limits/limit.ts";
import { toNanoUsd } from "../../src/core/money/money.ts";
import { NO_TOKENS, type TokenParts } from "../../src/core/usage/usage.ts";
import type { BatchRecord, Owner, VirtualKey } from "../../src/ledger/ledger.ts";

/** 2026-11-22T12:00:00Z, the middle of a UTC day. */
export const NOON_MS = Date.UTC(2026, 10, 22, 12);
export const HOUR_MS = 3_600_000;

export const DAY: Window = { kind: "calendar", unit: "day", timeZone: "UTC", weekStart: 1, monthDay: 1 };
export const LIFETIME: Window = { kind: "lifetime" };
export const MINUTE: Window = { kind: "rolling", lengthMs: 60_000 };

/** A threshold at an amount. */
export function at(amount: bigint, ...actions: Action[]): Threshold {
  return { amount, label: `at ${amount}`, actions };
}

/** A limit per day over everything that stops at its amount, unless said otherwise. */
export function limitOf(input: {
  name?: string;
  per?: readonly ScopeName[];
  where?: Limit["where"];
  measure?: Measure;
  amount: bigint;
  window?: Window;
  cacheReads?: "count" | "ignore";
  unbounded?: bigint;
  thresholds?: readonly Threshold[];
}): Limit {
  const { name = "limit", per = ["all"], where = [], measure = "usd", amount, window = DAY, cacheReads = "count" } = input;
  const thresholds = input.thresholds ?? [at(amount, { kind: "stop" })];
  return { name, per, where, measure, amount, window, cacheReads, unboundedReserveNanoUsd: input.unbounded, thresholds };
}

/** Rules with these limits. */
export function rulesOf(limits: readonly Limit[], atMs: number = NOON_MS, version = "v1") {
  return { version, limits, downgrade: new Map<string, string>(), atMs };
}

export function scopesOf(scopes: Partial<Scopes> = {}): Scopes {
  return {
    project: "p",
    agent: "a",
    session: "s",
    parentSessions: [],
    user: "u",
    key: "default",
    task: "default",
    tags: {},
    ...scopes,
  };
}

/** A model to run on, with a bound of 100 nano-dollars and 100 + 50 tokens unless said otherwise. */
export function candidateOf(candidate: Partial<Candidate> = {}): Candidate {
  return {
    model: "claude-opus-5-5",
    canonicalModel: "claude-opus-5-5",
    rejectedBy: undefined,
    maxTokens: 50,
    inputTokensBound: 100,
    outputTokensBound: 50,
    usdBound: toNanoUsd(100n),
    unboundedParts: [],
    tenCallsNanoUsd: 1_000n,
    priceIds: ["claude-opus-5-5@2026-08-01"],
    ...candidate,
  };
}

export function reserveOf(
  callId: string,
  input: Partial<Omit<ReserveOperation, "call">> & { scopes?: Partial<Scopes>; usd?: bigint } = {},
): ReserveOperation {
  const { scopes, usd = 100n, ...operation } = input;
  return {
    kind: "reserve",
    atMs: NOON_MS,
    ownerId: "owner-1",
    call: {
      callId,
      scopes: scopesOf(scopes),
      provider: "anthropic",
      requestedModel: "claude-opus-5-5",
      attempt: 0,
      isStream: false,
      attribution: { user: scopes?.user ?? "u", tags: scopes?.tags ?? {} },
      history: { hasAssistantTurn: false, isAnsweringTool: false, hasThinking: false },
    },
    candidates: [candidateOf({ usdBound: toNanoUsd(usd) })],
    heldBack: [],
    grantedStartsMs: {},
    ...operation,
  };
}

/** A batch that nothing is known of yet. */
export function batchOf(submissionId: string): BatchRecord {
  return {
    submissionId,
    provider: "anthropic",
    keyId: undefined,
    batchId: undefined,
    submittedAtMs: NOON_MS,
    endedAtMs: undefined,
  };
}

/** Reserves a batch whose lines have these bounds, as `NAME-0`, `NAME-1`, …, owned by `NAME`. */
export function batchOfLines(name: string, bounds: readonly bigint[], models: readonly string[] = []): ReserveOperation[] {
  const candidates = bounds.map((bound, index) => {
    const model = models[index] ?? "claude-opus-5-5";
    return candidateOf({ model, canonicalModel: model, usdBound: toNanoUsd(bound) });
  });
  return candidates.map((candidate, index) => ({
    ...reserveOf(`${name}-${index}`, { ownerId: name }),
    candidates: [candidate],
    batch:
      index === 0
        ? { isFirst: true, rest: candidates.slice(1).map((each) => ({ lines: 1, candidate: each })) }
        : { isFirst: false, firstCallId: `${name}-0` },
  }));
}

export function resultOf(usd: bigint | undefined, result: Partial<CallResult> = {}): CallResult {
  return {
    costNanoUsd: usd === undefined ? undefined : toNanoUsd(usd),
    tokens: tokensOf(10, 5),
    costParts: [],
    priceIds: [],
    webSearchRequests: 0,
    isEstimated: false,
    flags: [],
    model: "claude-opus-5-5",
    status: 200,
    stopReason: "end_turn",
    providerRequestId: "req_1",
    error: undefined,
    ...result,
  };
}

export function tokensOf(uncachedInputTokens: number, outputTokens: number, cacheReadTokens = 0): TokenParts {
  return { ...NO_TOKENS, uncachedInputTokens, outputTokens, cacheReadTokens };
}

export function settleOf(
  callId: string,
  usd: bigint | undefined,
  input: { atMs?: number; result?: Partial<CallResult> } = {},
): SettleOperation {
  return { kind: "settle", atMs: input.atMs ?? NOON_MS + 1_000, callId, result: resultOf(usd, input.result) };
}

export function adjustOf(
  callId: string,
  deltaNanoUsd: bigint,
  input: Partial<Pick<AdjustOperation, "adjustmentId" | "atMs" | "reason" | "by">> = {},
): AdjustOperation {
  const { adjustmentId = "adj-1", atMs = NOON_MS + 2_000, reason = "billed otherwise", by = "ann" } = input;
  return { kind: "adjust", atMs, callId, adjustmentId, deltaNanoUsd, reason, by };
}

export function voidOf(callId: string, atMs: number = NOON_MS + 1_000): VoidOperation {
  return { kind: "void", atMs, callId, reason: "nothing was sent" };
}

export function expireOf(callId: string, atMs: number = NOON_MS + 1_000): ExpireOperation {
  return { kind: "expire", atMs, callId, reason: "its owner is gone" };
}

export function renewOf(
  callId: string,
  usd: bigint | undefined,
  tokens: [input: number, output: number] = [100, 50],
): RenewOperation {
  return {
    kind: "renew",
    atMs: NOON_MS + 500,
    callId,
    usdBound: usd === undefined ? undefined : toNanoUsd(usd),
    inputTokensBound: tokens[0],
    outputTokensBound: tokens[1],
  };
}

export function ownerOf(ownerId: string, beatAtMs: number = NOON_MS): Owner {
  return {
    ownerId,
    pid: 4_711,
    processStart: "123456",
    bootId: "boot-1",
    machineId: "machine-1",
    startedAtMs: NOON_MS,
    beatAtMs,
  };
}

export function keyOf(keyId: string): VirtualKey {
  return {
    keyId,
    secretHash: `${keyId}-hash`,
    project: "p",
    agent: "a",
    allow: ["user", "tag:team"],
    createdAtMs: NOON_MS,
    expiresAtMs: undefined,
    revokedAtMs: undefined,
  };
}
