/**
 * Goal: message batches are held whole before they are handed in and settled per line from their results, whoever reads those. Method: the
 * official SDK against a gateway on real sockets and a real ledger, in front of a provider that bills batches itself.
 */
import Anthropic, { APIError } from "@anthropic-ai/sdk";
import { expect, test, vi } from "vitest";
import { compileLimits, totalsOf } from "../../src/core/decisions/counters.ts";
import { hashSecret } from "../../src/exchange/system.ts";
import { createVirtualKeySecret } from "../../src/gateway/virtual-key.ts";
import { LedgerUnavailableError } from "../../src/ledger/ledger.ts";
import { createTestClock, startBench, type Bench } from "./harness.ts";

const MODEL = "claude-haiku-4-5";
const START_MS = Date.UTC(2026, 10, 25, 12);

function clientOf(bench: Pick<Bench, "url">, apiKey = "sk-test"): Anthropic {
  return new Anthropic({ apiKey, baseURL: bench.url, maxRetries: 0 });
}

function lines(count: number, maxTokens = 1_000): Anthropic.Messages.BatchCreateParams["requests"] {
  return Array.from({ length: count }, (_, index) => ({
    custom_id: `line-${index}`,
    params: { model: MODEL, max_tokens: maxTokens, messages: [{ role: "user" as const, content: `question ${index}` }] },
  }));
}

/** What the only limit says now. */
async function totals({ gateway }: Bench, nowMs = Date.now()): Promise<{ spent: bigint; reserved: bigint }> {
  const states = await gateway.ledger.scopeStates();
  const [compiled] = compileLimits({ version: "", limits: gateway.config().limits, downgrade: new Map() }).limits;
  const state = states.get("all");
  return compiled === undefined || state === undefined ? { spent: 0n, reserved: 0n } : totalsOf(state, compiled, nowMs);
}

/** A virtual key of an agent. */
async function openBatchKey({ gateway }: Bench, clock: { nowMs(): number }, agent: string): Promise<string> {
  const { keyId, secret } = createVirtualKeySecret();
  const times = { createdAtMs: clock.nowMs(), expiresAtMs: undefined, revokedAtMs: undefined };
  await gateway.ledger.createKey({ keyId, secretHash: hashSecret(secret), project: "p", agent, allow: [], ...times });
  return secret;
}

async function statuses(bench: Bench): Promise<string[]> {
  return (await bench.calls()).map(({ status }) => status);
}

async function settledWhole(bench: Bench): Promise<void> {
  await vi.waitFor(
    async () => expect((await bench.gateway.ledger.batches()).map(({ endedAtMs }) => endedAtMs !== undefined)).toEqual([true]),
    {
      timeout: 20_000,
      interval: 20,
    },
  );
}

test("holds every line at half its bound, and settles each at the provider's bill as its results pass", async () => {
  const bench = await startBench();
  const client = clientOf(bench);

  const batch = await client.messages.batches.create({ requests: lines(5) });
  const held = await totals(bench);
  const outcomes = ["succeeded", "errored", "canceled", "expired", "succeeded"] as const;
  bench.simulator.endBatch(batch.id, (_, index) => outcomes[index] ?? "succeeded");
  const results: string[] = [];
  for await (const { custom_id: customId, result } of await client.messages.batches.results(batch.id)) {
    results.push(`${customId} ${result.type}`);
  }

  // 1,000 tokens of output at $2.50 and some 100 bytes of input at $0.50 per million, five times.
  expect(held.spent).toBe(0n);
  expect(held.reserved).toBeGreaterThan(5n * 2_500_000n);
  expect(held.reserved).toBeLessThan(5n * 2_600_000n);
  expect(results.toSorted()).toEqual(outcomes.map((type, index) => `line-${index} ${type}`));
  expect(await totals(bench)).toEqual({ spent: bench.simulator.bill.totalNanoUsd, reserved: 0n });
  expect(await statuses(bench)).toEqual(["settled", "voided", "voided", "voided", "settled"]);
  expect(bench.simulator.bill.totalNanoUsd).toBeGreaterThan(0n);
  expect(bench.warnings).toEqual([]);
});

test("settles a batch whose results nobody fetches, once somebody has seen that it ended", async () => {
  const bench = await startBench();
  const client = clientOf(bench);
  const { id } = await client.messages.batches.create({ requests: lines(3) });
  bench.simulator.endBatch(id);

  const batch = await client.messages.batches.retrieve(id);
  await settledWhole(bench);

  expect(batch.results_url).toBe(`/v1/messages/batches/${id}/results`);
  expect(await totals(bench)).toEqual({ spent: bench.simulator.bill.totalNanoUsd, reserved: 0n });
});

test("settles a batch of a virtual key by itself, and once, however often its results are read", async () => {
  const clock = createTestClock(START_MS);
  const bench = await startBench({ clock, env: { ANTHROPIC_API_KEY: "sk-own" } });
  const client = clientOf(bench, await openBatchKey(bench, clock, "team"));
  const { id } = await client.messages.batches.create({ requests: lines(3) });
  bench.simulator.endBatch(id);

  clock.advance(10_000);
  await settledWhole(bench);
  for (let reading = 0; reading < 3; reading += 1) for await (const _ of await client.messages.batches.results(id)) void _;

  expect(await totals(bench, START_MS)).toEqual({ spent: bench.simulator.bill.totalNanoUsd, reserved: 0n });
  expect((await bench.calls()).filter(({ status }) => status === "settled")).toHaveLength(3);
  expect(bench.simulator.requests.every(({ headers }) => headers["x-api-key"] === "sk-own")).toBe(true);
});

test("keeps a virtual key from the batches of another", async () => {
  const clock = createTestClock(START_MS);
  const bench = await startBench({ clock, env: { ANTHROPIC_API_KEY: "sk-own" } });
  const [mine, other] = [await openBatchKey(bench, clock, "mine"), await openBatchKey(bench, clock, "other")];
  const { id } = await clientOf(bench, mine).messages.batches.create({ requests: lines(1) });
  const before = bench.simulator.requests.length;

  const tries = [
    clientOf(bench, other).messages.batches.retrieve(id),
    clientOf(bench, other).messages.batches.cancel(id),
    clientOf(bench, other).messages.batches.delete(id),
  ];

  for (const each of tries) await expect(each).rejects.toMatchObject({ status: 404 });
  expect(bench.simulator.requests.length).toBe(before);
});

test("refuses a batch whole that does not fit, with what all of it would take, and holds nothing", async () => {
  const bench = await startBench({ yaml: "limits: [{ name: tight, per: all, usd: 0.01, every: day }]\n" });
  const client = clientOf(bench);

  const error = await client.messages.batches.create({ requests: lines(5) }).catch((caught: unknown) => caught);

  expect(error).toBeInstanceOf(APIError);
  expect(error).toMatchObject({
    status: 402,
    error: { error: { type: "billing_error", details: { code: "limit_too_small", limit: "tight" } } },
  });
  expect(await totals(bench)).toEqual({ spent: 0n, reserved: 0n });
  expect(bench.simulator.requests).toEqual([]);
  expect(await bench.gateway.ledger.batches()).toEqual([]);
  await client.messages.batches.create({ requests: lines(3) });
});

test("is one request for a rate of a minute, and as many as its lines for a day", async () => {
  const yaml = "limits: [{ name: rate, per: all, requests: 1, every: 1m }, { name: daily, per: all, requests: 3, every: day }]\n";
  const bench = await startBench({ yaml });
  const client = clientOf(bench);

  await client.messages.batches.create({ requests: lines(3) });
  const second = await client.messages.batches.create({ requests: lines(1) }).catch((caught: unknown) => caught);

  expect(second).toMatchObject({ status: 402, error: { error: { details: { limit: "daily", spent: 3 } } } });
});

test("gives everything back that the provider refuses, and keeps what it lost at its bound until its day is over", async () => {
  const clock = createTestClock(START_MS);
  const bench = await startBench({ clock });
  const client = clientOf(bench);
  const isSubmission = ({ method }: { method: string }): boolean => method === "POST";

  bench.simulator.next({ kind: "status", status: 400 }, isSubmission);
  await expect(client.messages.batches.create({ requests: lines(2) })).rejects.toMatchObject({ status: 400 });
  expect(await totals(bench, START_MS)).toEqual({ spent: 0n, reserved: 0n });

  bench.simulator.next({ kind: "close" }, isSubmission);
  await expect(client.messages.batches.create({ requests: lines(2) })).rejects.toMatchObject({ status: 502 });
  const { reserved } = await totals(bench, START_MS);
  expect(reserved).toBeGreaterThan(0n);

  for (let hour = 0; hour < 26; hour += 1) clock.advance(3_600_000);
  await vi.waitFor(async () => expect(await bench.gateway.ledger.openCalls()).toEqual([]), { timeout: 20_000, interval: 20 });
  expect((await statuses(bench)).toSorted()).toEqual(["expired", "expired", "voided", "voided"]);
  expect((await bench.calls()).reduce((sum, { costNanoUsd }) => sum + (costNanoUsd ?? 0n), 0n)).toBe(reserved);
});

test("counts at its bound what is over its time, and replaces that when its results come after all", async () => {
  const clock = createTestClock(START_MS);
  const bench = await startBench({ clock });
  const { id } = await clientOf(bench).messages.batches.create({ requests: lines(4) });
  // Whoever handed it in is gone, and with them what they knew: only the ledger is left.
  await bench.gateway.ledger.updateBatch({ ...(await onlyBatch(bench)), batchId: "msgbatch_hidden" });
  for (let hour = 0; hour < 26; hour += 1) clock.advance(3_600_000);
  await vi.waitFor(async () => expect(await statuses(bench)).toEqual(Array(4).fill("expired")), {
    timeout: 20_000,
    interval: 20,
  });
  await bench.gateway.ledger.updateBatch({ ...(await onlyBatch(bench)), batchId: id });

  bench.simulator.endBatch(id, (_, index) => (index === 0 ? "errored" : "succeeded"));
  for await (const _ of await clientOf(bench).messages.batches.results(id)) void _;

  const calls = await bench.calls();
  expect(calls.map(({ status, isLate }) => `${status} ${isLate}`)).toEqual(Array(4).fill("settled true"));
  expect(calls.reduce((sum, { costNanoUsd }) => sum + (costNanoUsd ?? 0n), 0n)).toBe(bench.simulator.bill.totalNanoUsd);
});

async function onlyBatch({ gateway }: Bench) {
  const [batch] = await gateway.ledger.batches();
  if (batch === undefined) throw new Error("no batch");
  return batch;
}

test("settles before a batch is deleted, for nobody can read its results afterwards", async () => {
  const bench = await startBench();
  const client = clientOf(bench);
  const { id } = await client.messages.batches.create({ requests: lines(2) });
  bench.simulator.endBatch(id);

  await client.messages.batches.delete(id);

  expect(await totals(bench)).toEqual({ spent: bench.simulator.bill.totalNanoUsd, reserved: 0n });
});

test("takes a batch under one idempotency key once, and again after it was refused", async () => {
  const bench = await startBench({ yaml: "limits: [{ name: tight, per: all, usd: 0.01, every: day }]\n" });
  const client = clientOf(bench);
  const headers = { "x-purser-idempotency-key": "nightly" };
  const submit = (count: number): Promise<unknown> =>
    client.messages.batches.create({ requests: lines(count) }, { headers }).catch((error: unknown) => error);

  expect(await submit(5)).toMatchObject({ status: 402 });
  expect(await submit(2)).toMatchObject({ type: "message_batch" });
  expect(await submit(1)).toMatchObject({ status: 409, error: { error: { details: { code: "duplicate_call" } } } });
  expect(bench.simulator.batchIds).toHaveLength(1);
});

test("is refused where the ledger cannot be written, whatever is allowed to calls, and holds nothing for good", async () => {
  const bench = await startBench({ yaml: "onLedgerUnavailable: allow\nlimits: [{ name: roomy, per: all, usd: 100 }]\n" });
  const { ledger } = bench.gateway;
  const apply = ledger.apply.bind(ledger);
  ledger.apply = async (operations) => {
    ledger.apply = apply;
    await apply(operations);
    throw new LedgerUnavailableError("the answer is lost");
  };

  const error = await clientOf(bench)
    .messages.batches.create({ requests: lines(2) })
    .catch((caught: unknown) => caught);

  expect(error).toMatchObject({ status: 503 });
  await vi.waitFor(async () => expect(await ledger.batches()).toEqual([]), { timeout: 20_000, interval: 20 });
  expect(await totals(bench)).toEqual({ spent: 0n, reserved: 0n });
  expect(bench.simulator.requests).toEqual([]);
});

test.each([
  ["no requests", { requests: [] }, "requests"],
  ["two of one name", { requests: [...lines(1), ...lines(1)] }, "another for every request"],
  [
    "one without a model",
    { requests: [{ custom_id: "a", params: { max_tokens: 1, messages: [] } }] },
    "in the request a of the batch",
  ],
])("refuses a batch with %s", async (_what, body, words) => {
  const bench = await startBench();

  const response = await fetch(`${bench.url}/v1/messages/batches`, {
    method: "POST",
    headers: { "x-api-key": "sk", "anthropic-version": "2023-06-01", "content-type": "application/json" },
    body: JSON.stringify(body),
  });

  expect(response.status).toBe(400);
  expect(await response.text()).toContain(words);
  expect(bench.simulator.requests).toEqual([]);
});
