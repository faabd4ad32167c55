/** Goal: OpenAI's SDKs stand under the same limits with the same line: real SDKs with `purser.fetch`, counted at the provider's socket. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createPurser, LimitReachedError, type Purser } from "../../../src/client/entry.ts";
import type { CallRecord, Ledger } from "../../../src/ledger/ledger.ts";
import { createMemoryLedger } from "../../../src/ledger/memory/memory-ledger.ts";
import { startOpenAiSimulator, type OpenAiSimulator } from "../../../src/testing/testing.ts";
import { OPENAI_CLIENTS } from "../openai-clients.ts";

const model = "gpt-6.2-sol";
const limits = [
  { name: "tiny", per: "agent", where: { agent: "tiny" }, usd: 0.000001, every: "day" },
  { name: "roomy", per: "all", usd: 1_000_000, every: "day" },
];
let openai: OpenAiSimulator;
let ledger: Ledger;
let purser: Purser;
beforeAll(async () => {
  openai = await startOpenAiSimulator();
  openai.always({ text: "hello", input: 1_500, cached: 1_024, written: 256, output: 40, reasoning: 32 });
  ledger = createMemoryLedger();
  purser = await createPurser({ config: { limits, upstreams: { openai: openai.url } }, ledger });
});
afterAll(async () => {
  await purser.close();
  await openai.close();
});

/** A client leaves at `[DONE]`, which is a moment before the answer's end. */
async function lastEnded(): Promise<CallRecord | undefined> {
  for (;;) {
    const [last] = await ledger.calls({ limit: 1 });
    if (last?.status !== "reserved") return last;
    await new Promise((resolve) => setImmediate(resolve));
  }
}

describe.each(OPENAI_CLIENTS)("$name with purser.fetch", ({ name, call }) => {
  it("gets its answer, and the ledger holds what the provider bills", async () => {
    const text = await purser.run({ agent: name }, () => call({ url: openai.url, model, fetch: purser.fetch }));

    expect(text).toContain("hello");
    expect(await lastEnded()).toMatchObject({
      status: "settled",
      costNanoUsd: openai.bill.lines.at(-1)?.costNanoUsd,
      facts: { provider: "openai", scopes: { agent: name } },
    });
  });

  it("sends nothing when a limit says no, does not try again, and throws what the typed decision is found in", async () => {
    const before = openai.requests.length;

    const thrown = await purser
      .run({ agent: "tiny" }, () => call({ url: openai.url, model, fetch: purser.fetch }))
      .catch((error: unknown) => error);

    const limit = LimitReachedError.from(thrown);
    expect(limit).toMatchObject({ code: "limit_too_small", limit: "tiny", scope: { agent: "tiny" } });
    expect(limit?.message).toMatch(/^This call may need up to /);
    expect(openai.requests).toHaveLength(before);
    expect((await ledger.calls({ limit: 1 }))[0]).toMatchObject({ status: "denied", callId: limit?.callId });
  });
});

describe("OpenAI's paths", () => {
  it("that are not metered are refused in its own words, and nothing is sent", async () => {
    const before = openai.requests.length;

    const response = await purser.fetch(`${openai.url}/v1/images/generations`, { method: "POST", body: "{}" });

    expect(response.status).toBe(404);
    expect(await response.json()).toMatchObject({ error: { code: "not_metered", details: { code: "not_metered" } } });
    expect(openai.requests).toHaveLength(before);
  });

  it("of streams show the usage only to who asks for it", async () => {
    const ask = async (more: object): Promise<string> => {
      const body = JSON.stringify({
        model,
        stream: true,
        max_completion_tokens: 64,
        messages: [{ role: "user", content: "hi" }],
        ...more,
      });
      const headers = { "content-type": "application/json", authorization: "Bearer k" };
      const response = await purser.fetch(`${openai.url}/v1/chat/completions`, { method: "POST", headers, body });
      return response.text();
    };

    expect(await ask({})).not.toContain('"usage":{');
    expect(await ask({ stream_options: { include_usage: true } })).toContain('"usage":{');
    expect(await lastEnded()).toMatchObject({ costNanoUsd: openai.bill.lines.at(-1)?.costNanoUsd });
  });
});
