import * as fc from "fast-check";
import { describe, expect, it } from "vitest";

import { ERROR_CODES, type Refusal } from "../../core/errors/codes.ts";
import { heldByCallsInFlight, limitReached, rateLimited, type LimitFigures } from "../../core/errors/refusals.ts";
import { shapeError } from "./errors.ts";

const FIGURES: LimitFigures = {
  limit: "agent-day",
  scope: { agent: "reviewer" },
  measure: "usd",
  amount: 10_000_000_000n,
  spent: 9_500_000_000n,
  reserved: 250_000_000n,
  requested: 300_000_000n,
};

function refusalOf(code: (typeof ERROR_CODES)[number]): Refusal {
  return { details: { code }, message: "No.", retryAfterSeconds: 12 };
}

function shaped(
  refusal: Refusal,
  userAgent?: string,
): { status: number; headers: Record<string, string>; error: Record<string, unknown> } {
  const { status, headers, body } = shapeError(refusal, { userAgent, requestId: "req_1" });
  const parsed = JSON.parse(body) as { type: string; error: Record<string, unknown>; request_id: string };
  expect(parsed).toMatchObject({ type: "error", request_id: "req_1" });
  expect(headers).toMatchObject({ "content-type": "application/json", "request-id": "req_1" });
  return { status, headers, error: parsed.error };
}

/** The contract's table, typed by hand. */
const TABLE: [
  code: (typeof ERROR_CODES)[number],
  status: number,
  type: string,
  shouldRetry: string | undefined,
  retryAfter: string | undefined,
][] = [
  ["limit_reached", 402, "billing_error", "false", undefined],
  ["limit_too_small", 402, "billing_error", "false", undefined],
  ["unbounded_cost", 402, "billing_error", "false", undefined],
  ["unpriced_model", 402, "billing_error", "false", undefined],
  ["halted", 403, "permission_error", "false", undefined],
  ["rate_limited", 429, "rate_limit_error", undefined, "12"],
  ["held_by_calls_in_flight", 429, "rate_limit_error", undefined, "12"],
  ["ledger_unavailable", 503, "api_error", undefined, "5"],
  ["overloaded", 503, "overloaded_error", undefined, "5"],
  ["invalid_request", 400, "invalid_request_error", "false", undefined],
  ["unauthorized", 401, "authentication_error", "false", undefined],
  ["unknown_path", 404, "not_found_error", "false", undefined],
  ["not_metered", 404, "not_found_error", "false", undefined],
  ["ambiguous_path", 404, "not_found_error", "false", undefined],
  ["duplicate_call", 409, "conflict_error", "false", undefined],
  ["request_too_large", 413, "request_too_large", "false", undefined],
  ["unsupported_encoding", 415, "invalid_request_error", "false", undefined],
  ["upstream_unreachable", 502, "api_error", undefined, undefined],
  ["upstream_timeout", 504, "timeout_error", undefined, undefined],
];

describe("the contract's table", () => {
  it("covers every code", () => {
    expect(TABLE.map(([code]) => code).toSorted()).toEqual([...ERROR_CODES].toSorted());
  });

  it.each(TABLE)("answers %s with %i %s", (code, status, type, shouldRetry, retryAfter) => {
    const { status: actual, headers, error } = shaped(refusalOf(code), "Anthropic/JS 1.8.0");

    expect({ status: actual, type: error["type"] }).toEqual({ status, type });
    expect(headers["x-should-retry"]).toBe(shouldRetry);
    expect(headers["retry-after"]).toBe(retryAfter);
  });

  it.each(["limit_reached", "limit_too_small", "unbounded_cost", "unpriced_model", "halted"] as const)(
    "answers Claude Code with a 429 on which it stops, for %s",
    (code) => {
      const { status, headers, error } = shaped(refusalOf(code), "claude-cli/2.1.0 (external, cli)");

      expect(status).toBe(429);
      expect(error).toMatchObject({ type: "billing_error", details: { code } });
      expect(headers["x-should-retry"]).toBe("false");
      expect(headers["retry-after"]).toBeUndefined();
    },
  );

  it("answers Claude Code like everybody else where it shall come back", () => {
    expect(shaped(refusalOf("rate_limited"), "claude-cli/2.1.0")).toEqual(shaped(refusalOf("rate_limited")));
    expect(shaped(refusalOf("ledger_unavailable"), "claude-cli/2.1.0").status).toBe(503);
  });

  it("gives the figures as they are", () => {
    const { error } = shaped(limitReached(FIGURES, { resetsAt: "2026-11-23T00:00:00Z" }));

    expect(error["details"]).toEqual({
      code: "limit_reached",
      limit: "agent-day",
      scope: { agent: "reviewer" },
      measure: "usd",
      amount: "10",
      spent: "9.5",
      reserved: "0.25",
      requested: "0.3",
      resetsAt: "2026-11-23T00:00:00Z",
    });
  });

  it.each([
    [undefined, "1"],
    [0, "1"],
    [-3, "1"],
    [0.2, "1"],
    [7.1, "8"],
    [59, "59"],
    [86_400, "59"],
  ])("turns a wait of %s s into %s whole seconds", (retryAfterSeconds, expected) => {
    const refusal: Refusal = {
      details: { code: "rate_limited" },
      message: "No.",
      ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }),
    };

    expect(shaped(refusal).headers["retry-after"]).toBe(expected);
  });
});

describe("words on which clients give up", () => {
  /** LangChain core 1.4.0 gives up on a 429 whose whole body matches one of these; the last ones are the contract's own. */
  const GIVE_UP = [
    /billing/i,
    /usage quota/i,
    /quota (has been )?exhausted/i,
    /insufficient[_ -]?quota/i,
    /credit balance/i,
    /out of credits/i,
    /will reset at/i,
    /quota/i,
    /credit/i,
    /reset at/i,
  ];

  function bodies(figures: LimitFigures): string[] {
    return [rateLimited(figures, { retryAfterSeconds: 5 }), heldByCallsInFlight(figures, { retryAfterSeconds: 5 })].map(
      (refusal) => shapeError(refusal, { userAgent: undefined, requestId: "req_1" }).body,
    );
  }

  it.each([
    ["billing", { agent: "a" }],
    ["Billing-Day", { agent: "billing-bot" }],
    ["usage quota exhausted", { "tag:credit": "x" }],
    ["limit", { "tag:team": "insufficient_quota" }],
    ["will reset at noon", { user: "out of credits", agent: "fine" }],
    ["bbillingilling", { agent: "quoquotata" }],
  ])("do not stand in a 429 for the limit %j of %j", (limit, scope) => {
    for (const body of bodies({ ...FIGURES, limit, scope })) {
      for (const word of GIVE_UP) expect(body).not.toMatch(word);
      expect(body).toContain("shortened");
    }
  });

  it("leave the other names and all figures in place", () => {
    const [body] = bodies({ ...FIGURES, limit: "billing", scope: { user: "credit", agent: "reviewer" } });
    const { error } = JSON.parse(body ?? "") as { error: { details: unknown; message: string } };

    expect(error.details).toMatchObject({ code: "rate_limited", scope: { agent: "reviewer" }, spent: "9.5", reserved: "0.25" });
    expect(error.details).not.toHaveProperty("limit");
    expect(error.message).toContain("agent reviewer");
  });

  it("never stand in a 429 that asks to come back, whatever names users choose", () => {
    const hostile = fc.array(
      fc.constantFrom(
        "billing",
        "BILLING",
        "quota",
        "credit",
        "resets at",
        "reset",
        " at",
        "will ",
        "cre",
        "dit",
        "bil",
        "ling",
        "…",
        "x",
      ),
      { maxLength: 6 },
    );
    fc.assert(
      fc.property(hostile, hostile, hostile, (limit, key, value) => {
        for (const body of bodies({ ...FIGURES, limit: limit.join(""), scope: { [key.join("")]: value.join("") } })) {
          for (const word of GIVE_UP) expect(body).not.toMatch(word);
        }
      }),
    );
  });

  it("stay in final answers, which nobody retries", () => {
    const { error } = shaped(limitReached({ ...FIGURES, limit: "billing" }, { resetsAt: null }));

    expect(error["details"]).toMatchObject({ limit: "billing" });
  });
});
