/** Goal: only an answer of Purser's own is a limit's, wherever it is kept. */
import { describe, expect, test } from "vitest";
import { LimitReachedError } from "./limit-reached-error.ts";

const details = {
  code: "limit_reached",
  limit: "agent-day",
  scope: { agent: "a" },
  measure: "usd",
  amount: "5",
  spent: "5",
  resetsAt: "2026-11-26T00:00:00Z",
  callId: "call_1",
};
const inner = { type: "billing_error", message: "The limit agent-day leaves no room.", details };
const body = { type: "error", error: inner, request_id: "call_1" };

describe("the decision is found", () => {
  test.each<[string, unknown]>([
    ["in a body", body],
    ["in text behind a status", Object.assign(new Error(`402 ${JSON.stringify(body)}`))],
    ["behind an SDK's own message beside the same details", Object.assign(new Error("402 …"), { details, error: body })],
    [
      "in a last error's text",
      Object.assign(new Error("failed after 3 attempts"), { lastError: { responseBody: JSON.stringify(body) } }),
    ],
    ["as one of several causes", new AggregateError([new Error("other"), new Error("step", { cause: { data: body } })])],
    ["in a rejection's reason", { status: "rejected", reason: { error: body } }],
  ])("%s", (_where, thrown) => {
    const limit = LimitReachedError.from(thrown);

    expect(limit).toMatchObject({ code: "limit_reached", limit: "agent-day", message: inner.message, callId: "call_1" });
    expect(limit?.resetsAt).toEqual(new Date("2026-11-26T00:00:00Z"));
    expect(limit?.cause).toBe(thrown);
    expect(LimitReachedError.is(limit)).toBe(true);
    expect(LimitReachedError.from(new Error("again", { cause: limit }))).toBe(limit);
  });

  test("in an error that goes round in circles, and in none of the errors around it", () => {
    const first = new Error("first");
    const second = Object.assign(new Error("second", { cause: first }), { errors: [{ error: body }] });
    first.cause = second;

    expect(LimitReachedError.from(first)?.limit).toBe("agent-day");
    second.errors = [];
    expect(LimitReachedError.from(first)).toBeUndefined();
  });
});

describe("nobody else's error is taken for one", () => {
  test.each<[string, unknown]>([
    [
      "the provider's own billing error",
      { type: "error", error: { type: "billing_error", message: "Your credit balance is too low" } },
    ],
    ["a code of ours with neither a call nor a limit", { error: { message: "no", details: { code: "rate_limited" } } }],
    ["details of somebody else's", { error: { message: "no", details: { code: "quota_exceeded" } } }],
    ["a refusal of ours that no limit made", { error: { message: "no", details: { code: "invalid_request" } } }],
    ["a ledger that cannot be written", { error: { message: "no", details: { code: "ledger_unavailable" } } }],
    ["text with broken JSON", new Error('402 {"details": {"code": "limit_reached"')],
    ["nothing", undefined],
    ["a number", 402],
  ])("%s", (_what, thrown) => {
    expect(LimitReachedError.from(thrown)).toBeUndefined();
  });
});
