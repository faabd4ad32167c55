import { expect, test } from "vitest";
import type { Candidate } from "../../core/decisions/call.ts";
import type {
  EndResult,
  Operation,
  OperationResult,
  ReserveOperation,
  SettleOperation,
} from "../../core/decisions/operations.ts";
import { toNanoUsd, ZERO_USD } from "../../core/money/money.ts";
import { NO_TOKENS } from "../../core/usage/usage.ts";
import { operationsFromText, operationsToText, resultsFromText, resultsToText } from "./operation-text.ts";

const candidate: Candidate = {
  model: "claude-opus-5-5",
  canonicalModel: "claude-opus-5-5",
  rejectedBy: undefined,
  maxTokens: undefined,
  inputTokensBound: 60_000,
  outputTokensBound: 2_048,
  usdBound: toNanoUsd(2n ** 62n),
  unboundedParts: ["web search"],
  tenCallsNanoUsd: 12_345_678_901_234_567_890n,
  priceIds: ["claude-opus-5-5@2026-08-01"],
  extension: { inputTokens: 1, outputTokens: 2, newTokens: 3 },
  fit: { leastMaxTokens: 1_024, usd: { fixed: 2n ** 80n, perOutputToken: 3n, searches: toNanoUsd(4n) } },
};

const reserve: ReserveOperation = {
  kind: "reserve",
  atMs: 1_764_000_000_000,
  ownerId: "owner\n1",
  call: {
    callId: "call\u2028one\ud800",
    scopes: {
      project: "p",
      agent: "a\nb",
      session: '"s"',
      parentSessions: ["above"],
      user: "ü",
      key: "k",
      task: "default",
      tags: { "#": "123", __proto__: "x" },
    },
    provider: "anthropic",
    requestedModel: "m",
    attempt: 1,
    isStream: true,
    attribution: { user: "u", tags: { "#": "inf" } },
    history: { hasAssistantTurn: true, isAnsweringTool: false, hasThinking: false },
  },
  candidates: [{ ...candidate, usdBound: undefined, fit: { leastMaxTokens: 1, usd: undefined } }, candidate],
  heldBack: ["agent=a usd@day:UTC"],
  grantedStartsMs: { pace: 12 },
  deadlineAtMs: 1_764_000_060_000,
  pausedSinceMs: 1_763_999_999_000,
  isForced: true,
  batch: { isFirst: true, rest: [{ lines: 3, candidate }] },
};

const settle: SettleOperation = {
  kind: "settle",
  atMs: 1_764_000_001_000,
  callId: "call 1",
  result: {
    costNanoUsd: toNanoUsd(270_720_000n),
    tokens: { ...NO_TOKENS, cacheReadTokens: 7 },
    costParts: [],
    priceIds: ["x"],
    webSearchRequests: 2,
    isEstimated: true,
    flags: ["estimated"],
    model: "m",
    status: undefined,
    stopReason: "end_turn",
    providerRequestId: undefined,
    error: { type: "overloaded_error", message: "line one\nline two" },
  },
};

const others: Operation[] = [
  { kind: "renew", atMs: 1, callId: "c", usdBound: toNanoUsd(5n), inputTokensBound: 6, outputTokensBound: 7 },
  { kind: "void", atMs: 2, callId: "c", reason: "two\nlines" },
  { kind: "expire", atMs: 3, callId: "c", reason: "gone" },
  { kind: "adjust", atMs: 4, callId: "c", adjustmentId: "adj", deltaNanoUsd: -5n, reason: "r", by: "b" },
  { kind: "refuse", atMs: 5, call: reserve.call, code: "halted", view: undefined },
];

const end: EndResult = { kind: "settle", outcome: "done", overrunNanoUsd: ZERO_USD, alerts: [], freedCounterIds: ["a b", "c d"] };

test("operations come back as they were said, in their order", () => {
  const unpriced = { ...settle, result: { ...settle.result, costNanoUsd: undefined, error: undefined } };
  const said = [reserve, settle, ...others, unpriced];

  expect(operationsFromText(operationsToText(said)).map(({ operation }) => operation)).toEqual(said);
  expect(operationsFromText(operationsToText([]))).toEqual([]);
});

test("an amount where none belongs is refused and not lost", () => {
  const odd = { ...reserve, oddity: 1n } as Operation;

  expect(() => operationsToText([odd])).toThrow(TypeError);
});

const reserved: OperationResult = {
  kind: "reserve",
  outcome: "reserved",
  candidate: reserve.candidates[1] ?? candidate,
  marks: ["downgraded"],
  skippedReason: undefined,
  alerts: [],
  counterIds: ["all usd@day:UTC"],
};
const alert = {
  limit: "l",
  scope: { agent: "a" },
  threshold: "80%",
  actions: ["alert" as const],
  measure: "usd" as const,
  amount: 10n,
  thresholdAmount: 8n,
  spent: 9n,
  atMs: 1,
  windowEndMs: Infinity,
};

test.each<[string, OperationResult, Operation]>([
  ["a reservation of a candidate as it was given", reserved, reserve],
  ["a reservation made smaller", { ...reserved, candidate: { ...candidate, maxTokens: 1_024 } }, reserve],
  ["a reservation that reached a threshold", { ...reserved, alerts: [alert] }, reserve],
  ["a wait", { kind: "reserve", outcome: "wait", blockedOn: ["x"], view: undefined, untilMs: Infinity }, reserve],
  ["a second reservation", { kind: "reserve", outcome: "duplicate" }, reserve],
  ["a settlement", end, settle],
  ["an overrun", { ...end, overrunNanoUsd: toNanoUsd(2n ** 61n), alerts: [alert] }, settle],
  ["a renewal", { kind: "renew", outcome: "renewed", freedCounterIds: ["x"] }, others[0] ?? settle],
])("the result comes back: %s", (_what, result, operation) => {
  const text = resultsToText([end, result], [settle, operation]);

  expect(resultsFromText(text, [settle, operation])).toEqual([end, result]);
});
