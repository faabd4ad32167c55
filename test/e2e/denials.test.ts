/**
 * Goal: a blocked agent stops. What real clients do with Purser's answers, counted at the provider's socket and by the gateway.
 */
import { describe, expect, it } from "vitest";
import { LedgerUnavailableError, type Ledger } from "../../src/ledger/ledger.ts";
import { createMemoryLedger } from "../../src/ledger/memory/memory-ledger.ts";
import { errorOf, REAL_CLIENTS, type RealClient } from "./clients.ts";
import { startBench } from "./harness.ts";

const model = "claude-sonnet-5-5";

describe.each(REAL_CLIENTS)("$name", ({ call }) => {
  it("gets its answer through the gateway", async () => {
    const bench = await startBench();
    bench.simulator.always({ kind: "answer", content: [{ type: "text", text: "hello" }] });

    const text = await call({ url: bench.url, model });

    expect(text).toContain("hello");
    const [recorded] = await bench.calls();
    expect(recorded).toMatchObject({ status: "settled", costNanoUsd: bench.simulator.bill.totalNanoUsd });
  });

  it("asks once when a limit is spent, and finds the limit, the figures and the reset in what it throws", async () => {
    const bench = await startBench({ yaml: "limits: [{ name: two-a-day, per: agent, requests: 2, every: day }]\n" });
    const headers = { "x-purser-agent": "ticket-bot" };
    await call({ url: bench.url, model, headers });
    await call({ url: bench.url, model, headers });

    const thrown = await call({ url: bench.url, model, headers }).catch((error: unknown) => error);

    expect(errorOf(thrown)).toMatchObject({
      type: "billing_error",
      details: { code: "limit_reached", limit: "two-a-day", scope: { agent: "ticket-bot" }, amount: 2, spent: 2, reserved: 0 },
    });
    expect(errorOf(thrown).details["resetsAt"]).toMatch(/^\d{4}-\d{2}-\d{2}T00:00:00Z$/);
    expect(bench.simulator.requests).toHaveLength(2);
    const calls = await bench.calls();
    expect(calls.filter(({ status }) => status === "denied")).toHaveLength(1);
  });

  it("asks once when the call alone is larger than the limit", async () => {
    const bench = await startBench({ yaml: "limits: [{ name: tiny, per: all, usd: 0.000001, every: day }]\n" });

    const thrown = await call({ url: bench.url, model }).catch((error: unknown) => error);

    expect(errorOf(thrown).details).toMatchObject({ code: "limit_too_small", limit: "tiny" });
    expect(bench.simulator.requests).toHaveLength(0);
    expect((await bench.calls()).filter(({ status }) => status === "denied")).toHaveLength(1);
  });
});

describe("a limit that clears within a minute", () => {
  it("is waited for once by every client, at least as long as stated, and then the call succeeds", async () => {
    // All clients at once: the wait is real, since it is the clients' own.
    const outcomes = await Promise.all(REAL_CLIENTS.map(waitAndSucceed));

    for (const { name, hasWaited, denied, requests } of outcomes) {
      expect({ name, hasWaited, denied, requests }).toEqual({ name, hasWaited: true, denied: 1, requests: 2 });
    }
  }, 60_000);
});

async function waitAndSucceed({ name, call }: RealClient) {
  const bench = await startBench({ yaml: "limits: [{ name: quick, per: all, requests: 1, every: 12s }]\n" });
  await call({ url: bench.url, model });
  const startedAtMs = performance.now();
  await call({ url: bench.url, model });
  const tookMs = performance.now() - startedAtMs;
  const denied = (await bench.calls()).filter(({ status }) => status === "denied");
  // Refused rather than kept waiting, so more than ten seconds were missing: what was stated is longer than that.
  return { name, hasWaited: tookMs >= 10_000, denied: denied.length, requests: bench.simulator.requests.length };
}

describe("a ledger that cannot be written for a moment", () => {
  it("answers 503, which every client tries again by its own rules, and then the call succeeds", async () => {
    // All clients at once: the wait is real, since it is the clients' own.
    const outcomes = await Promise.all(REAL_CLIENTS.map(retryAndSucceed));

    for (const { name, reservations, requests } of outcomes) {
      expect({ name, reservations, requests }).toEqual({ name, reservations: 2, requests: 1 });
    }
  }, 60_000);
});

async function retryAndSucceed({ name, call }: RealClient) {
  const memory = createMemoryLedger();
  let reservations = 0;
  const ledger: Ledger = new Proxy(memory, {
    get(target, property) {
      const value: unknown = Reflect.get(target, property, target);
      if (typeof value !== "function") return value;
      if (property !== "apply") return value.bind(target) as unknown;
      return (operations: Parameters<Ledger["apply"]>[0]) => {
        const isReserving = operations.some(({ kind }) => kind === "reserve");
        if (isReserving) reservations += 1;
        if (isReserving && reservations === 1) return Promise.reject(new LedgerUnavailableError("the disk is full"));
        return target.apply(operations);
      };
    },
  });
  const bench = await startBench({ gateway: { ledger } });
  await call({ url: bench.url, model });
  return { name, reservations, requests: bench.simulator.requests.length };
}
