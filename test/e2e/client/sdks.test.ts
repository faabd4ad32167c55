/**
 * Goal: one line puts an SDK under limits, and everything else of it stays: real SDKs with `purser.fetch`, counted at the provider's socket
 * and in the ledger's file.
 */
import { describe, expect, it } from "vitest";
import { LimitReachedError } from "../../../src/client/entry.ts";
import { REAL_CLIENTS, type RealClient } from "../clients.ts";
import { MODEL, startClientBench } from "./harness.ts";

describe.each(REAL_CLIENTS)("$name with purser.fetch", ({ call }) => {
  it("gets its answer, and the ledger holds what the provider bills", async () => {
    const { simulator, url, purser, calls } = await startClientBench();
    simulator.always({ kind: "answer", content: [{ type: "text", text: "hello" }] });

    const text = await purser.run({ agent: "greeter", session: "s-1" }, () => call({ url, model: MODEL, fetch: purser.fetch }));

    expect(text).toContain("hello");
    const [recorded, ...others] = await calls();
    expect(others).toEqual([]);
    expect(recorded).toMatchObject({
      status: "settled",
      costNanoUsd: simulator.bill.totalNanoUsd,
      facts: { scopes: { agent: "greeter", session: "s-1" } },
    });
  });

  it("sends nothing when a limit is spent, does not try again, and throws what the typed decision is found in", async () => {
    const { simulator, url, purser, calls } = await startClientBench({
      limits: [{ name: "two-a-day", per: "agent", requests: 2, every: "day" }],
    });
    const ask = () => purser.run({ agent: "ticket-bot" }, () => call({ url, model: MODEL, fetch: purser.fetch }));
    await ask();
    await ask();

    const thrown = await ask().catch((error: unknown) => error);

    const limit = LimitReachedError.from(thrown);
    expect(limit).toMatchObject({
      name: "LimitReachedError",
      code: "limit_reached",
      limit: "two-a-day",
      scope: { agent: "ticket-bot" },
      measure: "requests",
      isRetryable: false,
      details: { amount: 2, spent: 2 },
    });
    expect(limit?.resetsAt?.toISOString()).toMatch(/T00:00:00.000Z$/);
    expect(limit?.message).toMatch(/^The limit two-a-day of agent ticket-bot leaves no room/);
    expect(limit?.cause).toBe(thrown);
    const wrapped = new Error("step 3 failed", { cause: new AggregateError([new Error("other"), thrown]) });
    expect(LimitReachedError.from(wrapped)?.callId).toBe(limit?.callId);
    expect(simulator.requests).toHaveLength(2);
    const denied = (await calls()).filter(({ status }) => status === "denied");
    expect(denied.map(({ callId }) => callId)).toEqual([limit?.callId]);
  });

  it("tries a provider's overload again by its own rules, each attempt a call of its own", async () => {
    const { simulator, url, purser, calls } = await startClientBench();
    simulator.next({ kind: "status", status: 529, retryAfterSeconds: 1 });

    await call({ url, model: MODEL, fetch: purser.fetch });

    expect(simulator.requests).toHaveLength(2);
    const recorded = await calls();
    expect(recorded.map(({ status, costNanoUsd }) => [status, costNanoUsd])).toEqual([
      ["settled", 0n],
      ["settled", simulator.bill.totalNanoUsd],
    ]);
  });
});

describe("a limit that clears within a minute", () => {
  it("is waited for once by every SDK, at least as long as stated, and then the call succeeds", async () => {
    // All at once: the wait is real, since it is the SDKs' own.
    const outcomes = await Promise.all(REAL_CLIENTS.map(waitAndSucceed));

    for (const { name, hasWaited, denied, requests } of outcomes) {
      expect({ name, hasWaited, denied, requests }).toEqual({ name, hasWaited: true, denied: 1, requests: 2 });
    }
  }, 60_000);
});

async function waitAndSucceed({ name, call }: RealClient) {
  const { simulator, url, purser, calls } = await startClientBench({
    limits: [{ name: "quick", per: "all", requests: 1, every: "12s" }],
  });
  const ask = () => call({ url, model: MODEL, fetch: purser.fetch });
  await ask();
  const startedAtMs = performance.now();
  await ask();
  const tookMs = performance.now() - startedAtMs;
  const denied = (await calls()).filter(({ status }) => status === "denied");
  // Refused rather than kept waiting, so more than ten seconds were missing: what was stated is longer than that.
  return { name, hasWaited: tookMs >= 10_000, denied: denied.length, requests: simulator.requests.length };
}
