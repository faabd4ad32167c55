/**
 * Goal: a blocked agent stops, whichever of OpenAI's protocols it speaks. What real clients do with Purser's answers, counted at the
 * provider's socket and by the gateway.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { LedgerUnavailableError, type CallRecord, type Ledger } from "../../src/ledger/ledger.ts";
import { createMemoryLedger } from "../../src/ledger/memory/memory-ledger.ts";
import { errorOf, type RealClient } from "./clients.ts";
import { startBench, startSharedBench, type Bench } from "./harness.ts";
import { OPENAI_CLIENTS } from "./openai-clients.ts";

const model = "gpt-6.2-sol";

/** One gateway for all clients: each is an agent of its own. */
const YAML = `limits:
  - { name: two-a-day, per: agent, where: { agent: "ticket-*" }, requests: 2, every: day }
  - { name: tiny, per: agent, where: { agent: "tiny-*" }, usd: 0.000001, every: day }
  - { name: roomy, per: all, usd: 1_000_000, every: day }
`;
let bench: Bench;
let close: () => Promise<void>;
beforeAll(async () => {
  ({ bench, close } = await startSharedBench({ yaml: YAML }));
  bench.openai.always({ text: "hello", input: 1_500, cached: 1_024, written: 256, output: 40, reasoning: 32 });
});
afterAll(() => close());

/** A client leaves at `[DONE]`, which is a moment before the answer's end. */
async function lastEnded(): Promise<CallRecord | undefined> {
  for (;;) {
    const last = (await bench.calls()).at(-1);
    if (last?.status !== "reserved") return last;
    await new Promise((resolve) => setImmediate(resolve));
  }
}

const deniedOf = async (agent: string): Promise<number> =>
  (await bench.calls()).filter(({ status, facts }) => status === "denied" && facts.scopes.agent === agent).length;

describe.each(OPENAI_CLIENTS)("$name", ({ name, call }) => {
  const asAgent = (kind: string) => ({ "x-purser-agent": `${kind}-${name.replaceAll(/[^a-z0-9]+/g, "-")}` });

  it("gets its answer through the gateway, at the cost of the provider's bill", async () => {
    const text = await call({ url: bench.url, model });

    expect(text).toContain("hello");
    const recorded = await lastEnded();
    const line = bench.openai.bill.lines.at(-1);
    expect(recorded).toMatchObject({
      status: "settled",
      facts: { provider: "openai", requestedModel: model },
      costNanoUsd: line?.costNanoUsd,
      overrunNanoUsd: 0n,
      result: {
        tokens: {
          uncachedInputTokens: 220,
          cacheReadTokens: 1_024,
          cacheWrite5mTokens: 256,
          outputTokens: 40,
          reasoningOutputTokens: 32,
        },
        isEstimated: false,
        flags: [],
        providerRequestId: line?.requestId,
      },
    });
    expect(bench.openai.requests.at(-1)?.headers.authorization).toBe("Bearer sk-test");
    expect(bench.simulator.requests).toHaveLength(0);
  });

  it("asks once when a limit is spent, and finds the limit, the figures and the reset in what it throws", async () => {
    const headers = asAgent("ticket");
    const before = bench.openai.requests.length;
    await call({ url: bench.url, model, headers });
    await call({ url: bench.url, model, headers });

    const thrown = await call({ url: bench.url, model, headers }).catch((error: unknown) => error);

    expect(errorOf(thrown)).toMatchObject({
      type: "insufficient_quota",
      details: {
        code: "limit_reached",
        limit: "two-a-day",
        scope: { agent: headers["x-purser-agent"] },
        amount: 2,
        spent: 2,
        reserved: 0,
      },
    });
    expect(errorOf(thrown).details["resetsAt"]).toMatch(/^\d{4}-\d{2}-\d{2}T00:00:00Z$/);
    expect(bench.openai.requests).toHaveLength(before + 2);
    expect(await deniedOf(headers["x-purser-agent"])).toBe(1);
  });

  it("asks once when the call alone is larger than the limit", async () => {
    const headers = asAgent("tiny");
    const before = bench.openai.requests.length;

    const thrown = await call({ url: bench.url, model, headers }).catch((error: unknown) => error);

    expect(errorOf(thrown).details).toMatchObject({ code: "limit_too_small", limit: "tiny" });
    expect(bench.openai.requests).toHaveLength(before);
    expect(await deniedOf(headers["x-purser-agent"])).toBe(1);
  });
});

describe("a limit that clears within a minute", () => {
  it("is waited for once by every client, at least as long as stated, and then the call succeeds", async () => {
    // All clients at once: the wait is real, since it is the clients' own.
    const outcomes = await Promise.all(OPENAI_CLIENTS.map(waitAndSucceed));

    for (const { name, hasWaited, denied, requests } of outcomes) {
      expect({ name, hasWaited, denied, requests }).toEqual({ name, hasWaited: true, denied: 1, requests: 2 });
    }
  }, 60_000);
});

async function waitAndSucceed({ name, call }: RealClient) {
  const own = await startBench({ yaml: "limits: [{ name: quick, per: all, requests: 1, every: 12s }]\n" });
  await call({ url: own.url, model });
  const startedAtMs = performance.now();
  await call({ url: own.url, model });
  const tookMs = performance.now() - startedAtMs;
  const denied = (await own.calls()).filter(({ status }) => status === "denied");
  // Refused rather than kept waiting, so more than ten seconds were missing: what was stated is longer than that.
  return { name, hasWaited: tookMs >= 10_000, denied: denied.length, requests: own.openai.requests.length };
}

describe("a ledger that cannot be written for a moment", () => {
  it("answers 503, which every client tries again by its own rules, and then the call succeeds", async () => {
    // All clients at once: the wait is real, since it is the clients' own.
    const outcomes = await Promise.all(OPENAI_CLIENTS.map(retryAndSucceed));

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
  const own = await startBench({ gateway: { ledger } });
  await call({ url: own.url, model });
  return { name, reservations, requests: own.openai.requests.length };
}
