/**
 * Goal: `purser.fetch` is `fetch`. It takes what `fetch` takes, sends what `fetch` sends, and answers what `fetch` answers; which requests
 * are calls is decided by their address as it is called.
 */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { runInNewContext } from "node:vm";
import { describe, expect, it, onTestFinished } from "vitest";
import { messageInit, MODEL, REQUEST, startClientBench, sumOf, type ClientBench } from "./harness.ts";

const TEXT = JSON.stringify(REQUEST);
const HEADERS = {
  "content-type": "application/json",
  "x-api-key": "sk-test",
  "anthropic-version": "2023-06-01",
  "X-Own": "kept",
};
const POST = { method: "POST", headers: HEADERS };

describe("what fetch takes", () => {
  const ways: Record<string, (url: string) => Parameters<typeof fetch>> = {
    "an address and text": (url) => [url, { ...POST, body: TEXT }],
    "a URL and bytes": (url) => [new URL(url), { ...POST, body: new TextEncoder().encode(TEXT) }],
    "an address and a buffer": (url) => [url, { ...POST, body: new TextEncoder().encode(TEXT).buffer }],
    "an address and a blob": (url) => [url, { ...POST, body: new Blob([TEXT]) }],
    "an address and a stream": (url) => [url, { ...POST, body: new Blob([TEXT]).stream(), duplex: "half" } as RequestInit],
    "a Request": (url) => [new Request(url, { ...POST, body: TEXT })],
    "a Request and other headers": (url) => [new Request(url, { method: "POST", body: TEXT }), { headers: HEADERS }],
    "another realm's URL": (url) => [runInNewContext("({ toString: () => url })", { url }) as URL, { ...POST, body: TEXT }],
    "headers as pairs": (url) => [url, { method: "POST", headers: Object.entries(HEADERS), body: TEXT }],
    "text without a type": (url) => [
      url,
      { method: "POST", headers: { "x-api-key": "k", "anthropic-version": "2023-06-01" }, body: TEXT },
    ],
  };

  it("reaches the provider as by fetch, whatever shape it has", async () => {
    const { simulator, url, purser, calls } = await startClientBench();

    for (const [name, way] of Object.entries(ways)) {
      const direct = await fetch(...way(`${url}/v1/messages?beta=true`));
      await direct.text();
      const through = await purser.fetch(...way(`${url}/v1/messages?beta=true`));
      const answer = (await through.json()) as object;

      const [one, other] = simulator.requests.slice(-2);
      const sent = ({ method, path, headers, body }: NonNullable<typeof one>) => ({
        method,
        path,
        // A stream is sent in chunks of unknown length; what was read is sent with its length.
        headers: { ...headers, "transfer-encoding": undefined, "content-length": undefined },
        body: body.toString(),
      });
      expect({ name, ...(other && sent(other)) }).toEqual({ name, ...(one && sent(one)) });
      expect([through.status, through.statusText, through.url, through.redirected, through.type]).toEqual([
        direct.status,
        direct.statusText,
        direct.url,
        direct.redirected,
        direct.type,
      ]);
      expect(answer).toHaveProperty("usage");
    }
    expect((await calls()).map(({ status }) => status)).toEqual(Array(Object.keys(ways).length).fill("settled"));
  });

  it("is refused as fetch refuses it, before anything is decided", async () => {
    const { url, purser, calls } = await startClientBench();
    const wrong: Parameters<typeof fetch>[] = [
      ["no address"],
      [`${url}/v1/messages`, { method: "POST", headers: { "no spaces": "x" }, body: TEXT }],
      [`${url}/v1/messages`, { ...POST, body: new Blob([TEXT]).stream() }],
      [`${url.replace("//", "//me:secret@")}/v1/messages`, { ...POST, body: TEXT }],
      [`${url}/v1/messages`, { ...POST, body: TEXT, redirect: "sometimes" as RequestRedirect }],
      [`${url}/v1/messages`, { ...POST, body: TEXT, signal: {} as AbortSignal }],
    ];

    for (const each of wrong) {
      const direct = await fetch(...each).catch((error: unknown) => error);
      const through = await purser.fetch(...each).catch((error: unknown) => error);
      expect(through).toBeInstanceOf(TypeError);
      expect((through as Error).message).toBe((direct as Error).message);
    }
    expect(await calls()).toEqual([]);
  });

  it("is not waited for when the caller leaves while its body is read", async () => {
    const { simulator, url, purser, calls } = await startClientBench();
    const leaving = new AbortController();
    const body = new ReadableStream({ pull: () => leaving.abort(new Error("left")) }, { highWaterMark: 0 });
    const init = { ...POST, body, duplex: "half", signal: leaving.signal } as RequestInit;

    await expect(purser.fetch(`${url}/v1/messages`, init)).rejects.toThrow("left");

    expect([await calls(), simulator.requests]).toEqual([[], []]);
  });

  it("can be the process's own fetch", async () => {
    const { simulator, url, purser, calls } = await startClientBench();
    const processOwn = globalThis.fetch;
    onTestFinished(() => void (globalThis.fetch = processOwn));
    globalThis.fetch = purser.fetch;

    const one = await fetch(`${url}/v1/messages`, messageInit());
    globalThis.fetch = purser.with({ agent: "a" }).fetch;
    const other = await fetch(`${url}/v1/messages`, messageInit());
    const models = await fetch(`${url}/v1/models`, { headers: HEADERS });

    expect([one.status, other.status, models.status]).toEqual([200, 200, 200]);
    expect(simulator.requests).toHaveLength(3);
    expect((await calls()).map(({ status }) => status)).toEqual(["settled", "settled"]);
  });
});

describe("which requests are calls", () => {
  it("passes what goes to nobody it knows untouched", async () => {
    const { purser, calls } = await startClientBench();
    const { port, seen } = await startPlainServer();

    const response = await purser.fetch(
      `http://127.0.0.1:${port}/v1/messages`,
      messageInit(undefined, { headers: { "x-purser-agent": "a" } }),
    );

    expect(await response.text()).toBe("plain");
    expect(response.headers.has("x-purser-call")).toBe(false);
    expect(seen).toEqual([{ path: "/v1/messages", agent: "a" }]);
    expect(await calls()).toEqual([]);
  });

  it("passes what costs nothing, without our headers", async () => {
    const { simulator, url, purser, calls } = await startClientBench();

    const counted = await purser.fetch(
      `${url}/v1/messages/count_tokens`,
      messageInit({ model: MODEL, messages: REQUEST.messages }, { headers: { "x-purser-agent": "a" } }),
    );
    const models = await purser.fetch(`${url}/v1/models`, { headers: { "x-api-key": "k", "anthropic-version": "2023-06-01" } });

    expect([counted.status, models.status]).toEqual([200, 200]);
    expect(simulator.requests.map(({ headers }) => headers["x-purser-agent"])).toEqual([undefined, undefined]);
    expect(await calls()).toEqual([]);
  });

  it("refuses what is not metered, in the provider's own shape, and sends nothing", async () => {
    const { simulator, url, purser } = await startClientBench();
    const refused = [
      ["POST", "/v1/messages/batches", "not_metered"],
      ["POST", "/v1/files", "not_metered"],
      ["GET", "/v1/messages", "unknown_path"],
      ["POST", "/v1//messages", "unknown_path"],
      ["POST", "/v1/%6dessages", "unknown_path"],
      ["POST", "/healthz", "unknown_path"],
      ["POST", "/somewhere", "unknown_path"],
    ] as const;

    for (const [method, path, code] of refused) {
      const body = method === "POST" ? { body: TEXT } : {};
      const response = await purser.fetch(url + path, { method, headers: HEADERS, ...body });

      expect([path, response.status]).toEqual([path, 404]);
      expect(await response.json()).toMatchObject({ type: "error", error: { details: { code } } });
      expect(response.headers.get("x-should-retry")).toBe("false");
    }
    expect(simulator.requests).toEqual([]);
  });

  it("knows an address however it is written", async () => {
    const { simulator, purser, calls } = await startClientBench({ basePath: "/proxy" });
    const { port } = simulator;
    const ways = [
      `http://127.0.0.1:${port}/proxy/v1/messages`,
      `HTTP://127.0.0.1:${port}/proxy/v1/messages`,
      `http://127.1:${port}/proxy/v1/messages`,
      `http://2130706433:${port}/proxy/../proxy/v1/./messages`,
      `http:\\\\127.0.0.1:${port}\\proxy\\v1\\messages`,
      ` http://127.0.0.1:${port}/proxy/v1/messages\n`,
      `http://localhost:${port}/proxy/v1/messages`,
    ];

    for (const way of ways) await (await purser.fetch(way, messageInit())).text();
    const outside = await purser.fetch(`http://127.0.0.1:${port}/v1/messages`, messageInit());

    expect((await calls()).length).toBe(ways.length);
    expect(simulator.requests.map(({ pathname }) => pathname)).toEqual([
      ...Array(ways.length).fill("/proxy/v1/messages"),
      "/v1/messages",
    ]);
    expect(outside.headers.has("x-purser-call")).toBe(false);
  });

  it("refuses a body it cannot read, and headers it cannot understand, in the provider's own shape", async () => {
    const { simulator, url, purser } = await startClientBench();
    const ask = async (init: RequestInit) => {
      const response = await purser.fetch(`${url}/v1/messages`, init);
      return [response.status, ((await response.json()) as { error: { details: { code: string } } }).error.details.code];
    };

    expect(await ask({ ...POST, body: "no JSON" })).toEqual([400, "invalid_request"]);
    expect(await ask(messageInit(undefined, { headers: { "content-encoding": "gzip" } }))).toEqual([415, "unsupported_encoding"]);
    expect(await ask(messageInit(undefined, { headers: { "x-purser-deadline": "soon" } }))).toEqual([400, "invalid_request"]);
    expect(simulator.requests).toEqual([]);
  });
});

describe("an answer", () => {
  it("of JSON is settled when it is there, with its cost and the decision in its headers", async () => {
    const { simulator, url, purser, calls } = await startClientBench();

    const response = await purser.fetch(`${url}/v1/messages`, messageInit());

    const [call] = await calls();
    expect(call).toMatchObject({ status: "settled", costNanoUsd: simulator.bill.totalNanoUsd });
    expect(response.headers.get("x-purser-call")).toBe(call?.callId);
    expect(response.headers.get("x-purser-decision")).toBe("allowed");
    expect(Number(response.headers.get("x-purser-cost-usd")) * 1e9).toBeCloseTo(Number(call?.costNanoUsd), 3);
    const twin = response.clone();
    expect(await twin.text()).toBe(await response.text());
  });

  it("in pieces is there piece by piece, and its end when it is settled", async () => {
    const { simulator, url, purser, calls } = await startClientBench({ simulator: { requireStepping: true } });
    const asked = purser.fetch(`${url}/v1/messages`, messageInit({ ...REQUEST, stream: true }));
    await simulator.arrived(0);
    simulator.step(2);

    const response = await asked;
    const reader = response.body?.getReader();
    const decoder = new TextDecoder();
    let text = "";
    while (!text.includes("content_block_start")) text += decoder.decode((await reader?.read())?.value, { stream: true });
    expect((await calls())[0]?.status).toBe("reserved");
    expect(text).not.toContain("message_stop");
    simulator.step(1_000);
    for (;;) {
      const read = await reader?.read();
      if (read?.done !== false) break;
      text += decoder.decode(read.value, { stream: true });
    }

    expect(text).toContain("message_stop");
    expect((await calls())[0]).toMatchObject({ status: "settled", costNanoUsd: simulator.bill.totalNanoUsd });
  });

  it("longer than a mebibyte is handed on before it is whole", async () => {
    const { simulator, url, purser, calls } = await startClientBench();
    simulator.next({ kind: "answer", textBytes: 3_000_000, deltas: 1, outputTokens: 64 });

    const response = await purser.fetch(`${url}/v1/messages`, messageInit());
    const answer = (await response.json()) as { content: { text: string }[] };

    expect(response.headers.has("x-purser-cost-usd")).toBe(false);
    expect(answer.content[0]?.text.length).toBeGreaterThan(2_000_000);
    expect((await calls())[0]).toMatchObject({ status: "settled", costNanoUsd: simulator.bill.totalNanoUsd });
  });

  it("that the provider compressed is read and metered like any other", async () => {
    const { simulator, url, purser, calls } = await startClientBench();
    simulator.always({ kind: "answer", gzip: true });

    const json = await purser.fetch(`${url}/v1/messages`, messageInit());
    const stream = await purser.fetch(`${url}/v1/messages`, messageInit({ ...REQUEST, stream: true }));

    expect(await json.json()).toHaveProperty("content");
    expect(await stream.text()).toContain("message_stop");
    const all = await calls();
    expect(all.map(({ status }) => status)).toEqual(["settled", "settled"]);
    expect(sumOf(all)).toBe(simulator.bill.totalNanoUsd);
  });

  it("of a call that was changed says so, and the provider got the change and nothing else", async () => {
    const { simulator, url, purser } = await startClientBench({
      limits: [{ name: "cheaper", per: "all", usd: 100, every: "day", at: { "$0.000001": "downgrade", "100%": "stop" } }],
      config: { models: { downgrade: { [MODEL]: "claude-haiku-5-5" } } },
    });
    const body = `{"model" : "${MODEL}",  "max_tokens":64,"messages":[{"role":"user","content":"Grüß dich"}]}`;
    await (await purser.fetch(`${url}/v1/messages`, messageInit())).text();

    const headers = { ...HEADERS, "content-length": String(Buffer.byteLength(body)) };
    const response = await purser.fetch(`${url}/v1/messages`, { ...POST, headers, body });

    expect(response.headers.get("x-purser-decision")).toBe("downgraded");
    expect(response.headers.get("x-purser-model")).toBe("claude-haiku-5-5");
    expect(simulator.requests[1]?.body.toString()).toBe(body.replace(MODEL, "claude-haiku-5-5"));
  });

  it("of a denial is the provider's error, with the call's id", async () => {
    const { url, purser, simulator } = await startClientBench({
      limits: [{ name: "tiny", per: "all", usd: 0.000001, every: "day" }],
    });

    const response = await purser.fetch(`${url}/v1/messages`, messageInit());

    expect([response.status, response.url, response.headers.get("x-purser-decision")]).toEqual([
      402,
      `${url}/v1/messages`,
      "denied",
    ]);
    const { error } = (await response.json()) as { error: { type: string; details: { callId: string } } };
    expect([error.type, error.details.callId]).toEqual(["billing_error", response.headers.get("x-purser-call")]);
    expect(simulator.requests).toEqual([]);
  });
});

describe("what is told", () => {
  it("of decisions, settlements and thresholds reaches the listeners until they are taken away, and none can disturb a call", async () => {
    const { url, purser } = await startClientBench({
      limits: [{ name: "two", per: "all", requests: 2, every: "day", at: { "50%": "alert", "100%": "stop" } }],
    });
    const told: string[] = [];
    purser.on("decision", ({ decisions, denied }) => told.push(`decision ${decisions.join()} ${denied?.code ?? ""}`.trim()));
    purser.on("settled", ({ model, isDurable, costUsd }) => told.push(`settled ${model} ${isDurable} ${Number(costUsd) > 0}`));
    const stop = purser.on("alert", ({ limit, threshold, spent }) => told.push(`alert ${limit} ${threshold} ${spent}`));
    const warned = new Promise<Error>((resolve) => process.once("warning", resolve));
    purser.on("decision", () => {
      throw new Error("a listener's own mistake");
    });
    const ask = async (): Promise<void> => void (await (await purser.fetch(`${url}/v1/messages`, messageInit())).text());

    await ask();
    stop();
    await ask();
    await ask();

    expect(told.toSorted()).toEqual([
      "alert two 50% 1",
      "decision allowed",
      "decision allowed",
      "decision denied limit_reached",
      `settled ${MODEL} true true`,
      `settled ${MODEL} true true`,
    ]);
    expect((await warned).message).toBe("a listener's own mistake");
  });

  it("of limits is what decisions look at, of those that count calls with the named scopes", async () => {
    const bench = await startClientBench({
      limits: [
        { name: "agent-day", per: "agent", requests: 5, every: "day" },
        { name: "all-day", per: "all", requests: 50, every: "day" },
      ],
    });
    await askAs(bench, "a");
    await askAs(bench, "a");
    await askAs(bench, "b");

    const all = await bench.purser.status();
    const ofB = await bench.purser.with({ agent: "b" }).status();

    const lines = (status: typeof all) => status.map(({ limit, scope, spent, left }) => [limit, scope["agent"], spent, left]);
    expect(lines(all)).toEqual([
      ["agent-day", "a", 2, 3],
      ["agent-day", "b", 1, 4],
      ["all-day", undefined, 3, 47],
    ]);
    expect(lines(ofB)).toEqual([
      ["agent-day", "b", 1, 4],
      ["all-day", undefined, 3, 47],
    ]);
  });
});

async function askAs({ purser, url }: ClientBench, agent: string): Promise<void> {
  const response = await purser.run({ agent }, () => purser.fetch(`${url}/v1/messages`, messageInit()));
  await response.text();
}

async function startPlainServer() {
  const seen: { path: string | undefined; agent: unknown }[] = [];
  const server = createServer((request, response) => {
    seen.push({ path: request.url, agent: request.headers["x-purser-agent"] });
    request.resume();
    response.end("plain");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void server.close());
  return { port: (server.address() as AddressInfo).port, seen };
}
