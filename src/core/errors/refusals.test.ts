import { describe, expect, it } from "vitest";

import { heldByCallsInFlight, limitReached, limitTooSmall, rateLimited, unpricedModel, type LimitFigures } from "./refusals.ts";

const TOKENS: LimitFigures = {
  limit: "agent-day",
  scope: { agent: "reviewer", project: "web" },
  measure: "tokens",
  amount: 1_500_000n,
  spent: 1_400_000n,
  reserved: 90_000n,
  requested: 120_000n,
};

describe("a refusal's sentence", () => {
  it("names limit, scope, spent, held and bound, and until when", () => {
    expect(limitReached(TOKENS, { resetsAt: "2026-11-23T00:00:00Z" }).message).toBe(
      "The limit agent-day of agent reviewer and project web leaves no room for this call: 1,400,000 of 1,500,000 tokens are used and " +
        "90,000 tokens held by calls in flight, and this call may need up to 120,000 tokens; it resets at 2026-11-23T00:00:00Z, so " +
        "stop until then or ask the operator to raise it.",
    );
  });

  it("says that a lifetime limit never resets", () => {
    const { message, details } = limitReached(TOKENS, { resetsAt: null });

    expect(message).toContain("it never resets by itself");
    expect(details.resetsAt).toBeNull();
  });

  it("speaks of nothing held where nothing is held", () => {
    expect(rateLimited({ ...TOKENS, reserved: 0n }, { retryAfterSeconds: 1 }).message).not.toContain("held");
    expect(rateLimited(TOKENS, { retryAfterSeconds: 1 }).message).toContain("wait 1 second and");
  });

  it("tells what is held from what is spent", () => {
    expect(heldByCallsInFlight(TOKENS, { retryAfterSeconds: 9 }).message).toContain(
      "calls in flight hold what is left: 1,400,000 of",
    );
  });

  it("counts running calls for a concurrency limit", () => {
    const figures: LimitFigures = { ...TOKENS, measure: "concurrency", amount: 4n, spent: 0n, reserved: 4n, requested: 1n };

    expect(heldByCallsInFlight(figures, { retryAfterSeconds: 3 }).message).toContain(
      "hold what is left: 4 of 4 calls at once are running; wait",
    );
  });

  it("says all calls where a limit counts everything", () => {
    expect(limitReached({ ...TOKENS, scope: { all: "all" } }, { resetsAt: null }).message).toMatch(
      /^The limit agent-day of all calls leaves/,
    );
  });

  it("writes usd as exact decimal text and other amounts as numbers", () => {
    expect(limitTooSmall(TOKENS).details).toMatchObject({ amount: 1_500_000, requested: 120_000 });
    expect(limitTooSmall({ ...TOKENS, measure: "usd" }).details).toMatchObject({ amount: "0.0015", requested: "0.00012" });
  });

  it.each([
    ["usd", undefined, "lower max_tokens, shorten the input, use a cheaper model or ask the operator to raise the limit."],
    ["usd", 1_024, "shorten the input, use a cheaper model or ask the operator to raise the limit."],
    ["inputTokens", 1_024, "shorten the input or ask the operator to raise the limit."],
    ["outputTokens", undefined, "lower max_tokens or ask the operator to raise the limit."],
    ["requests", 1_024, "ask the operator to raise the limit."],
  ] as const)(
    "names what helps a call that is too large for its limit in %s (least max_tokens: %s)",
    (measure, leastMaxTokens, helps) => {
      const { message } = limitTooSmall({ ...TOKENS, measure }, { leastMaxTokens });

      expect(message.split("waiting does not help: ")[1]).toBe(helps);
      expect(message.includes("even with max_tokens 1,024")).toBe(measure === "usd" && leastMaxTokens === 1_024);
    },
  );

  it("shows so much of a caller's text that it can be recognised", () => {
    const { message } = unpricedModel(undefined, { model: "m".repeat(10_000) });

    expect(message.length).toBeLessThan(500);
  });
});
