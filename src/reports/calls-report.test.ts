import { beforeAll, expect, it } from "vitest";
import type { CallRecord, Ledger } from "../ledger/ledger.ts";
import { createMemoryLedger } from "../ledger/memory/memory-ledger.ts";
import { seedLedger } from "../../test/e2e/cli-seed.ts";
import { toCallJson } from "./calls-report.ts";
import { decideAgain } from "./decide-again.ts";

let ledger: Ledger;
beforeAll(async () => {
  ledger = createMemoryLedger();
  await seedLedger(ledger);
});

async function recordOf(callId: string): Promise<CallRecord> {
  const [record] = await ledger.calls({ limit: 1, callId });
  if (record === undefined) throw new Error(`no call ${callId}`);
  return record;
}

it("gives a settled call in the contract's shape", async () => {
  const { decision, ...call } = toCallJson(await recordOf("call_r1"));

  expect(call).toEqual({
    id: "call_r1",
    startedAt: "2026-11-22T10:03:25Z",
    endedAt: "2026-11-22T10:03:29.2Z",
    scopes: {
      project: "support",
      agent: "runaway",
      session: "night-shift",
      parentSession: null,
      user: "ann",
      key: "default",
      task: "default",
      tags: { team: "blue" },
    },
    provider: "anthropic",
    model: "claude-opus-5-5",
    requestedModel: "claude-opus-5-5",
    attempt: 0,
    providerRequestId: "req_call_r1",
    status: "settled",
    reservedUsd: "0.52096",
    costUsd: "0.27072",
    costParts: [
      expect.objectContaining({ meter: "uncachedInput", quantity: 60_000, unitUsd: "4", costUsd: "0.24" }),
      expect.objectContaining({ meter: "output", quantity: 1_536, unitUsd: "20", costUsd: "0.03072" }),
    ],
    priceIds: ["anthropic/claude-opus-5-5@2026-09-22"],
    usage: {
      uncachedInputTokens: 60_000,
      cacheReadTokens: 0,
      cacheWrite5mTokens: 0,
      cacheWrite1hTokens: 0,
      outputTokens: 1_536,
      reasoningOutputTokens: 0,
    },
    estimated: false,
    flags: [],
    error: null,
  });
  expect(decision).toMatchObject({ outcome: "allowed", code: null, limit: null, boundUsd: "0.52096", maxTokens: 2_048 });
  expect(decision.limits.map(({ limit }) => limit)).toEqual([
    "everything-day",
    "session-spend",
    "agent-rate",
    "in-flight",
    "project-month",
  ]);
});

it("gives a refused call with the limit and its figures, and no cost", async () => {
  const call = toCallJson(await recordOf("call_r3"));

  expect(call).toMatchObject({ status: "denied", costUsd: null, reservedUsd: null, usage: null });
  expect(call.decision).toMatchObject({ outcome: "denied", code: "limit_reached", limit: "session-spend" });
  expect(call.decision.limits.find(({ limit }) => limit === "session-spend")).toMatchObject({
    spent: "0.54144",
    bound: "0.52096",
    ceiling: "1",
    clearsAt: null,
  });
});

it.each([
  ["call_open", { status: "reserved", endedAt: null, costUsd: null }],
  ["call_v", { status: "voided", costUsd: "0" }],
  ["call_x", { status: "expired", costUsd: "0.001124", estimated: true }],
  ["call_e", { status: "settled", costUsd: "0", error: { type: "overloaded_error", message: "Overloaded" } }],
])("gives %s as it ended", async (callId, shape) => {
  expect(toCallJson(await recordOf(callId))).toMatchObject(shape);
});

it("decides every stored call again, and comes to the same", async () => {
  const records = await ledger.calls({ limit: 1_000 });

  expect(records.length).toBeGreaterThan(25);
  expect(records.map((record) => decideAgain(record).outcome)).toEqual(records.map(() => "same"));
});

it("notices a decision that its stored inputs do not lead to", async () => {
  const record = await recordOf("call_r1");
  const { decision } = record;
  if (decision === undefined) throw new Error("no decision");
  const views = decision.admit.views.map((view) =>
    view.limit === "session-spend" ? { ...view, spent: view.spent + 500_000_000n } : view,
  );

  const again = decideAgain({ ...record, decision: { ...decision, admit: { ...decision.admit, views } } });

  expect(again).toMatchObject({ outcome: "different", before: "admitted", now: "told to wait" });
});

it("has nothing to decide again where no decision was stored", async () => {
  expect(decideAgain({ ...(await recordOf("call_r1")), decision: undefined }).outcome).toBe("not_stored");
});
