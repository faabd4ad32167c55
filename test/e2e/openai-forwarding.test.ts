/**
 * Goal: what an OpenAI client gets through the gateway is what it would get without it, byte for byte, and every call is settled at what
 * the provider bills. Bytes are compared with those that the provider sends to whoever asks it directly.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { hashSecret } from "../../src/exchange/system.ts";
import { createVirtualKeySecret } from "../../src/gateway/virtual-key.ts";
import type { OpenAiBehaviour } from "../../src/testing/testing.ts";
import type { CallRecord } from "../../src/ledger/ledger.ts";
import { startBench, startSharedBench, type Bench } from "./harness.ts";
import { ask, type Answer } from "./http.ts";

const model = "gpt-6.2-sol";
const BEARER = { "x-api-key": undefined, "anthropic-version": undefined, authorization: "Bearer sk-own" };

let shared: Bench;
let closeShared: () => Promise<void>;
beforeAll(async () => {
  ({ bench: shared, close: closeShared } = await startSharedBench());
});
afterAll(() => closeShared());

/** The call recorded last, and what the provider's bill says of it. */
async function lastCall(): Promise<{ call: CallRecord | undefined; billedNanoUsd: bigint | undefined }> {
  const call = (await shared.calls()).at(-1);
  const line = shared.openai.bill.lines.find(({ requestId }) => requestId === call?.result?.providerRequestId);
  return { call, billedNanoUsd: line?.costNanoUsd };
}

/** What reached the provider last through the gateway: calls that go to it directly do not say so. */
function lastSent(bench: Bench): Record<string, unknown> {
  const request = bench.openai.requests.findLast(({ headers }) => headers["x-direct"] === undefined);
  return JSON.parse(request?.body ?? "") as Record<string, unknown>;
}

function askOpenAi(url: string, path: string, body: Record<string, unknown> | string, headers = {}): Promise<Answer> {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  return ask(url, { path, body: text, headers: { ...BEARER, ...headers } });
}

const chat = (extra: Record<string, unknown> = {}): Record<string, unknown> => ({
  model,
  max_completion_tokens: 64,
  messages: [{ role: "user", content: "Hello." }],
  ...extra,
});

/** The same answer twice: through the gateway, and directly. */
async function both(path: string, body: Record<string, unknown>, behaviour: OpenAiBehaviour, direct = body) {
  const told = { input: 100, output: 7, ...behaviour };
  shared.openai.next(told);
  const through = await askOpenAi(shared.url, path, body);
  shared.openai.next(told);
  const straight = await askOpenAi(shared.openai.url, path, direct, { "x-direct": "1" });
  // The simulator numbers its answers.
  const same = (text: string): string => text.replaceAll(/(chatcmpl|resp|call|msg|fc)_[a-z_]*\d+/g, "$1_N");
  return { through: { ...through, text: same(through.text) }, straight: { ...straight, text: same(straight.text) } };
}

describe("a streamed chat", () => {
  it.each<[string, Record<string, unknown> | null | undefined]>([
    ["no stream_options", undefined],
    ["stream_options: null", null],
    ["empty stream_options", {}],
    ["include_usage: false", { include_usage: false }],
    ["another option", { include_obfuscation: false }],
  ])("with %s gets no usage chunk, and is settled by its usage", async (_name, options) => {
    const body = chat({ stream: true, ...(options === undefined ? {} : { stream_options: options }) });

    // What the provider sends when asked for usage, less the chunk that holds it.
    const asking = chat({ stream: true, stream_options: { ...options, include_usage: true } });
    const { through, straight } = await both("/v1/chat/completions", body, {}, asking);

    const usageChunk = straight.text.split(/(?<=\n\n)/).find((event) => event.includes('"choices":[]')) ?? "none";
    expect(through.text).toBe(straight.text.replace(usageChunk, ""));
    expect(through.text).toContain('"usage":null');
    expect(through.text.endsWith("data: [DONE]\n\n")).toBe(true);
    const { call, billedNanoUsd } = await lastCall();
    expect(call).toMatchObject({ status: "settled", result: { tokens: { outputTokens: 7 }, isEstimated: false, flags: [] } });
    expect(call?.costNanoUsd).toBe(billedNanoUsd);
    const sent = lastSent(shared);
    expect(sent).toEqual({ ...body, stream_options: { ...options, include_usage: true } });
  });

  it("that asks for usage itself gets every byte, and its request travels unchanged", async () => {
    const body = chat({ stream: true, stream_options: { include_usage: true } });

    const { through, straight } = await both("/v1/chat/completions", body, {});

    expect(through.text).toBe(straight.text);
    expect(JSON.stringify(lastSent(shared))).toBe(JSON.stringify(body));
  });

  it.each<[string, OpenAiBehaviour]>([
    ["the last choice's chunk holds the usage", { usage: "last_choice" }],
    ["every chunk holds the usage so far", { usage: "every" }],
    ["the provider's filter speaks first", { hasFilterChunk: true, usage: "last_choice" }],
  ])("gets every byte where %s", async (_name, behaviour) => {
    const asking = chat({ stream: true, stream_options: { include_usage: true } });

    const { through, straight } = await both("/v1/chat/completions", chat({ stream: true }), behaviour, asking);

    expect(through.text).toBe(straight.text);
    expect((await shared.calls()).slice(-1)).toMatchObject([
      { status: "settled", result: { tokens: { outputTokens: 7 }, flags: [] } },
    ]);
  });

  it("passes on each event as it comes, none of them waiting for the next", async () => {
    let step = Promise.withResolvers<void>();
    shared.openai.next({ text: "ab", step: () => step.promise });
    const response = await fetch(`${shared.url}/v1/chat/completions`, {
      method: "POST",
      headers: { authorization: "Bearer sk-own" },
      body: JSON.stringify(chat({ stream: true })),
    }).then(({ body }) => body?.getReader());
    const seen: string[] = [];
    for (let events = 0; events < 3; events += 1) {
      const go = step;
      step = Promise.withResolvers<void>();
      go.resolve();
      seen.push(new TextDecoder().decode((await response?.read())?.value));
    }

    expect(seen).toHaveLength(3);
    expect(seen.every((event) => event.startsWith("data: {") && event.endsWith("}\n\n"))).toBe(true);
    step.resolve();
    await response?.cancel();
  });

  it.each([1, 2, 4])("that breaks off after %i events is counted, never for nothing", async (cutAfterEvents) => {
    shared.openai.next({ input: 100, output: 7, cutAfterEvents });

    await askOpenAi(shared.url, "/v1/chat/completions", chat({ stream: true })).catch(() => undefined);

    const { call, billedNanoUsd } = await lastCall();
    expect(call).toMatchObject({ status: "settled", result: { flags: ["unknown"], isEstimated: true } });
    expect(call?.costNanoUsd).toBeGreaterThanOrEqual(billedNanoUsd ?? 1n << 62n);
  });
});

describe("an answer whose usage is", () => {
  it("missing is settled at its whole bound, and says so", async () => {
    shared.openai.next({ usage: "missing", input: 20, output: 7 });

    await askOpenAi(shared.url, "/v1/chat/completions", chat());

    const { call } = await lastCall();
    expect(call).toMatchObject({ status: "settled", result: { flags: ["unknown"], tokens: { outputTokens: 64 } } });
    expect(call?.costNanoUsd).toBe(call?.reservedNanoUsd);
  });
});

describe("several answers at once", () => {
  it("are reserved for all of them and settled at their sum", async () => {
    shared.openai.next({ input: 20, output: 30 });

    await askOpenAi(shared.url, "/v1/chat/completions", chat({ n: 3 }));

    const { call, billedNanoUsd } = await lastCall();
    expect(call).toMatchObject({ result: { tokens: { outputTokens: 90 }, flags: [] }, overrunNanoUsd: 0n });
    expect(call?.costNanoUsd).toBe(billedNanoUsd);
    // Three times 64 tokens of output at the dearest tier a project may have by default.
    expect(call?.reservedNanoUsd).toBeGreaterThanOrEqual(3n * 64n * 10_000n * 2n);
  });
});

describe("a tier", () => {
  it.each<[string, string, bigint]>([
    ["flex", "flex", 1n],
    ["priority", "priority", 4n],
    ["priority, answered by the default one,", "default", 2n],
  ])("of %s is priced by what the answer says", async (_name, tier, halves) => {
    shared.openai.next({ input: 20, output: 30, tier: tier as "flex" });

    await askOpenAi(shared.url, "/v1/responses", { model, input: "Hello.", max_output_tokens: 64, service_tier: "priority" });

    const { call, billedNanoUsd } = await lastCall();
    expect(call?.costNanoUsd).toBe(((20n * 2_000n + 30n * 10_000n) * halves) / 2n);
    expect(call?.costNanoUsd).toBe(billedNanoUsd);
  });
});

describe("a response", () => {
  it("is passed on byte for byte, as JSON and as a stream", async () => {
    const body = { model, input: "Hello.", max_output_tokens: 64 };

    const json = await both("/v1/responses", body, {});
    const stream = await both("/v1/responses", { ...body, stream: true }, {});

    expect(json.through.text).toBe(json.straight.text);
    expect(json.through.headers["x-purser-cost-usd"]).toBe("0.00027");
    expect(stream.through.text).toBe(stream.straight.text);
    expect((await shared.calls()).slice(-2)).toMatchObject([{ costNanoUsd: 270_000n }, { costNanoUsd: 270_000n }]);
  });

  it.each<[OpenAiBehaviour["status"], string]>([
    ["incomplete", "max_output_tokens"],
    ["failed", "failed"],
  ])("whose stream ends as %s is settled by the usage it reports", async (status, stopReason) => {
    shared.openai.next({ input: 20, output: 30, ...(status === undefined ? {} : { status }) });

    await askOpenAi(shared.url, "/v1/responses", { model, input: "Hello.", max_output_tokens: 64, stream: true });

    const { call, billedNanoUsd } = await lastCall();
    expect(call).toMatchObject({ status: "settled", result: { stopReason, flags: [] } });
    expect(call?.costNanoUsd).toBe(billedNanoUsd);
  });
});

describe("embeddings", () => {
  it("cost their input", async () => {
    shared.openai.next({ input: 1_000 });

    const { status } = await askOpenAi(shared.url, "/v1/embeddings", { model: "text-embedding-3-small", input: ["a", "b"] });

    expect(status).toBe(200);
    expect((await shared.calls()).slice(-1)).toMatchObject([
      { status: "settled", costNanoUsd: 20_000n, result: { tokens: { uncachedInputTokens: 1_000, outputTokens: 0 }, flags: [] } },
    ]);
  });
});

describe("the provider's own error", () => {
  it("passes unchanged and costs nothing", async () => {
    shared.openai.next({ error: { status: 429, type: "requests", code: "rate_limit_exceeded", retryAfterSeconds: 7 } });

    const { status, headers, text } = await askOpenAi(shared.url, "/v1/chat/completions", chat());

    expect({ status, retryAfter: headers["retry-after"] }).toEqual({ status: 429, retryAfter: "7" });
    expect(JSON.parse(text)).toMatchObject({ error: { code: "rate_limit_exceeded" } });
    expect((await shared.calls()).slice(-1)).toMatchObject([{ costNanoUsd: 0n, result: { flags: ["unbilled_error"] } }]);
  });
});

describe("a credential", () => {
  it("of either provider never reaches the other, and a virtual key is replaced by that provider's own", async () => {
    const bench = await startBench({ env: { ANTHROPIC_API_KEY: "sk-ant-real", OPENAI_API_KEY: "sk-oai-real" } });
    const { keyId, secret } = createVirtualKeySecret();
    const times = { createdAtMs: 0, expiresAtMs: undefined, revokedAtMs: undefined };
    await bench.gateway.ledger.createKey({
      keyId,
      secretHash: hashSecret(secret),
      project: "p",
      agent: "a",
      allow: [],
      ...times,
    });

    await askOpenAi(bench.url, "/v1/chat/completions", chat(), { authorization: `Bearer ${secret}` });
    await askOpenAi(bench.url, "/openai/v1/responses", { model, input: "Hi" }, { authorization: `Bearer ${secret}` });
    await ask(bench.url, { headers: { "x-api-key": secret } });
    await askOpenAi(bench.url, "/v1/embeddings", { model: "text-embedding-3-small", input: "a" });

    const [first, second, third] = bench.openai.requests.map(({ headers }) => headers);
    expect([first?.authorization, second?.authorization, third?.authorization]).toEqual([
      "Bearer sk-oai-real",
      "Bearer sk-oai-real",
      "Bearer sk-own",
    ]);
    expect(bench.simulator.requests.map(({ headers }) => headers["x-api-key"])).toEqual(["sk-ant-real"]);
    const sent = JSON.stringify([bench.openai.requests, bench.simulator.requests.map(({ rawHeaders }) => rawHeaders)]);
    expect(sent).not.toContain("prs_");
    expect(JSON.stringify(bench.openai.requests)).not.toContain("sk-ant");
  });

  it("of the gateway's own that is missing is told by the name of its variable", async () => {
    const bench = await startBench({ env: { ANTHROPIC_API_KEY: "sk-ant-real" } });
    const { keyId, secret } = createVirtualKeySecret();
    const times = { createdAtMs: 0, expiresAtMs: undefined, revokedAtMs: undefined };
    await bench.gateway.ledger.createKey({
      keyId,
      secretHash: hashSecret(secret),
      project: "p",
      agent: "a",
      allow: [],
      ...times,
    });

    const { status, text } = await askOpenAi(bench.url, "/v1/chat/completions", chat(), { authorization: `Bearer ${secret}` });

    expect(status).toBe(401);
    expect(JSON.parse(text)).toMatchObject({
      error: { type: "invalid_request_error", code: "invalid_api_key", param: null, details: { code: "unauthorized" } },
    });
    expect(text).toContain("OPENAI_API_KEY");
  });
});

describe("a request that cannot be read", () => {
  it.each<[string, string, RegExp]>([
    ["a model twice", '{"model":"a","mod\\u0065l":"b","messages":[]}', /the key \\"model\\" a second time/],
    ["two largest outputs", '{"model":"a","max_tokens":1,"max_completion_tokens":2,"messages":[]}', /max_tokens beside/],
    ["no model", '{"messages":[]}', /no member model/],
  ])("with %s is answered 400 in OpenAI's shape", async (_name, body, problem) => {
    const before = shared.openai.requests.length;
    const { status, text } = await askOpenAi(shared.url, "/v1/chat/completions", body);

    expect(status).toBe(400);
    expect(JSON.parse(text)).toMatchObject({ error: { type: "invalid_request_error", details: { code: "invalid_request" } } });
    expect(text).toMatch(problem);
    expect(shared.openai.requests).toHaveLength(before);
  });
});

describe("a limit that has no room for what was asked", () => {
  it.each<[string, string, Record<string, unknown>, string]>([
    ["chat", "/v1/chat/completions", chat({ max_completion_tokens: 100_000 }), "max_completion_tokens"],
    [
      "chat that names no largest output",
      "/v1/chat/completions",
      chat({ max_completion_tokens: undefined }),
      "max_completion_tokens",
    ],
    [
      "chat with the older name",
      "/v1/chat/completions",
      chat({ max_completion_tokens: undefined, max_tokens: 90_000 }),
      "max_tokens",
    ],
    ["response", "/v1/responses", { model, input: "Hello." }, "max_output_tokens"],
  ])("makes a %s smaller by the right field", async (_name, path, body, field) => {
    const bench = await startBench({ yaml: "limits: [{ name: small, per: all, usd: 0.1, every: day }]\n" });

    const { status, headers } = await askOpenAi(bench.url, path, body);

    expect({ status, decision: headers["x-purser-decision"] }).toEqual({ status: 200, decision: "fitted" });
    const sent = JSON.parse(bench.openai.requests[0]?.body ?? "") as Record<string, unknown>;
    expect(String(sent[field])).toBe(headers["x-purser-max-tokens"]);
    expect(Number(sent[field])).toBeGreaterThan(1_024);
    expect(Number(sent[field])).toBeLessThan(5_000);
  });
});

describe("what nothing bounds", () => {
  it.each<[string, string, Record<string, unknown>, RegExp]>([
    ["a web search", "/v1/responses", { model, input: "Hi", tools: [{ type: "web_search" }] }, /web_search/],
    ["a search beside a chat", "/v1/chat/completions", chat({ web_search_options: {} }), /web_search/],
    ["a code interpreter", "/v1/responses", { model, input: "Hi", tools: [{ type: "code_interpreter" }] }, /code_interpreter/],
    ["sound", "/v1/chat/completions", chat({ modalities: ["text", "audio"] }), /audio/],
    ["an unknown tier", "/v1/responses", { model, input: "Hi", service_tier: "ultrafast" }, /service_tier/],
  ])("of %s is refused under a hard limit on money", async (_name, path, body, part) => {
    const before = shared.openai.requests.length;
    const { status, text } = await askOpenAi(shared.url, path, body);

    expect(status).toBe(402);
    expect(JSON.parse(text)).toMatchObject({ error: { code: "unbounded_cost", details: { code: "unbounded_cost" } } });
    expect(text).toMatch(part);
    expect(shared.openai.requests).toHaveLength(before);
  });

  it("passes where the limit says what to reserve for it", async () => {
    const bench = await startBench({
      yaml: "limits: [{ name: roomy, per: all, usd: 100, every: day, unbounded: { reserve: 2.00 } }]\n",
    });

    const { status } = await askOpenAi(bench.url, "/v1/responses", { model, input: "Hi", tools: [{ type: "web_search" }] });

    expect(status).toBe(200);
    expect((await bench.calls())[0]?.reservedNanoUsd).toBeGreaterThanOrEqual(2_000_000_000n);
  });
});

describe("a server of another maker", () => {
  const prices = `prices:
  local/llama: { provider: openai, free: true }
  anthropic/claude-sonnet-5.5: { provider: openai, inputUsdPerMTok: 2, outputUsdPerMTok: 10, cacheReadUsdPerMTok: 0.1 }
`;

  it("is refused for a model nobody priced, and passes one that is free also when nothing is left", async () => {
    const bench = await startBench({ yaml: `limits: [{ name: none, per: all, usd: 0, every: day }]\n${prices}` });

    const unpriced = await askOpenAi(bench.url, "/v1/chat/completions", chat({ model: "local/other" }));
    const free = await askOpenAi(bench.url, "/v1/chat/completions", chat({ model: "local/llama" }));

    expect(JSON.parse(unpriced.text)).toMatchObject({ error: { code: "unpriced_model" } });
    // The simulator does not sell it; that it was asked is what counts.
    expect(free.status).toBe(404);
    expect(bench.openai.requests).toHaveLength(1);
  });
});
