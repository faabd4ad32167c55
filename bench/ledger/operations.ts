/** What a call writes into a ledger in the benchmarks: one reservation and one settlement. */
import type { Candidate } from "../../src/core/decisions/call.ts";
import type { ReserveOperation, SettleOperation } from "../../src/core/decisions/operations.ts";
import { toNanoUsd } from "../../src/core/money/money.ts";
import { NO_TOKENS } from "../../src/core/usage/usage.ts";

const candidate: Candidate = {
  model: "claude-opus-5-5",
  canonicalModel: "claude-opus-5-5",
  rejectedBy: undefined,
  maxTokens: 2_048,
  inputTokensBound: 60_000,
  outputTokensBound: 2_048,
  usdBound: toNanoUsd(351_200_000n),
  unboundedParts: [],
  tenCallsNanoUsd: undefined,
  priceIds: ["claude-opus-5-5@2026-08-01"],
};

/** @param sessions - how many sessions the calls are spread over, in turn. */
export function reserveOf(index: number, atMs: number, sessions = 64): ReserveOperation {
  const scopes = {
    project: `project-${index % 4}`,
    agent: `agent-${index % 16}`,
    session: `session-${index % sessions}`,
    parentSessions: [],
    user: `user-${index % 32}`,
    key: "key",
    task: "default",
    tags: {},
  };
  return {
    kind: "reserve",
    atMs,
    ownerId: "bench",
    call: {
      callId: `call_${atMs}_${index}`,
      scopes,
      provider: "anthropic",
      requestedModel: "claude-opus-5-5",
      attempt: 0,
      isStream: true,
      attribution: { user: scopes.user, tags: {} },
      history: { hasAssistantTurn: true, isAnsweringTool: true, hasThinking: false },
    },
    candidates: [candidate],
    heldBack: [],
    grantedStartsMs: {},
  };
}

export function settleOf(callId: string, atMs: number): SettleOperation {
  return {
    kind: "settle",
    atMs,
    callId,
    result: {
      costNanoUsd: toNanoUsd(270_720_000n),
      tokens: { ...NO_TOKENS, uncachedInputTokens: 60_000, outputTokens: 1_536 },
      costParts: [],
      priceIds: candidate.priceIds,
      webSearchRequests: 0,
      isEstimated: false,
      flags: [],
      model: candidate.model,
      status: 200,
      stopReason: "end_turn",
      providerRequestId: "req_011CQ",
      error: undefined,
    },
  };
}
