/**
 * Goal: between the client and the provider nothing is changed, held back or mistaken. Method: raw sockets on both sides.
 */
import { gzipSync } from "node:zlib";
import { request as httpRequest, type IncomingMessage } from "node:http";
import Anthropic from "@anthropic-ai/sdk";
import { describe, expect, it } from "vitest";
import { startBench, type Bench } from "./harness.ts";

const model = "claude-sonnet-5-5";
const message = (extra: Record<string, unknown> = {}): string =>
  JSON.stringify({ model, max_tokens: 256, messages: [{ role: "user", content: "Hello." }], ...extra });

/** One request on a socket of its own. */
function send(
  bench: Bench,
  body: string | Buffer,
  {
    headers = {},
    path = "/v1/messages",
    method = "POST",
  }: { headers?: Record<string, string>; path?: string; method?: string } = {},
): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const url = new URL(bench.url);
    const request = httpRequest({
      host: url.hostname,
      port: url.port,
      path,
      method,
      agent: false,
      headers: { "content-type": "application/json", "x-api-key": "sk-test", "anthropic-version": "2023-06-01", ...headers },
    });
    request.on("response", resolve);
    request.on("error", reject);
    request.end(body);
  });
}

async function textOf(response: IncomingMessage): Promise<string> {
  let text = "";
  response.setEncoding("utf8");
  for await (const chunk of response) text += chunk as string;
  return text;
}

describe("a request", () => {
  it("reaches the provider byte for byte, with betas and unknown fields and headers", async () => {
    const bench = await startBench();
    const body = `{ "model" : "${model}",\n "max_tokens":256, "some_future_field": {"b":1.50,"a":[1e3]}, "messages":[{"role":"user","content":"Ünïcode \\u00e9 \\n"}] }`;

    const response = await send(bench, body, {
      path: "/v1/messages?beta=true",
      headers: { "anthropic-beta": "context-1m-2025-08-07,future-2027-01-01", "X-Future-Header": "Kept" },
    });
    await textOf(response);

    const [seen] = bench.simulator.requests;
    expect(seen?.body.toString()).toBe(body);
    expect(seen?.path).toBe("/v1/messages?beta=true");
    expect(seen?.headers).toMatchObject({
      "anthropic-beta": "context-1m-2025-08-07,future-2027-01-01",
      "x-future-header": "Kept",
      "x-api-key": "sk-test",
      "anthropic-version": "2023-06-01",
      "accept-encoding": "identity",
    });
  });

  it("keeps its labels to the gateway", async () => {
    const bench = await startBench();

    await textOf(
      await send(bench, message(), { headers: { "x-purser-agent": "a", "x-purser-tags": "team=core", cookie: "secret=1" } }),
    );

    const names = Object.keys(bench.simulator.requests[0]?.headers ?? {});
    expect(names.filter((name) => name.startsWith("x-purser-") || name === "cookie")).toEqual([]);
    const [call] = await bench.calls();
    expect(call?.facts.scopes).toMatchObject({ agent: "a", tags: { team: "core" } });
  });

  it("may be gzip-encoded", async () => {
    const bench = await startBench();

    const response = await send(bench, gzipSync(message()), { headers: { "content-encoding": "gzip" } });

    expect(response.statusCode).toBe(200);
    expect(bench.simulator.requests[0]?.json).toMatchObject({ model });
  });

  it("is answered under both API versions, with the key at either door", async () => {
    const bench = await startBench();
    for (const version of ["2023-06-01", "2026-10-21"]) {
      const bearer = await send(bench, message(), {
        headers: { "x-api-key": "", authorization: "Bearer sk-test", "anthropic-version": version },
      });
      expect(bearer.statusCode).toBe(200);
      await textOf(bearer);
    }
    expect(bench.simulator.requests[1]?.headers.authorization).toBe("Bearer sk-test");
  });
});

describe("an answer", () => {
  it("carries the provider's headers, the call's id, decision and exact cost", async () => {
    const bench = await startBench();

    const response = await send(bench, message());
    await textOf(response);

    const [line] = bench.simulator.bill.lines;
    const [call] = await bench.calls();
    expect(response.headers["request-id"]).toBe(line?.requestId);
    expect(response.headers["x-purser-call"]).toBe(call?.callId);
    expect(response.headers["x-purser-decision"]).toBe("allowed");
    expect(BigInt(Math.round(Number(response.headers["x-purser-cost-usd"]) * 1e9))).toBe(line?.costNanoUsd);
    expect(call).toMatchObject({ status: "settled", costNanoUsd: line?.costNanoUsd });
    expect(call?.result?.isEstimated).toBe(false);
  });

  it("that is a provider's error arrives unchanged and costs nothing", async () => {
    const bench = await startBench();
    bench.simulator.next({ kind: "status", status: 529, type: "overloaded_error", message: "Overloaded" });

    const response = await send(bench, message());
    const text = await textOf(response);

    expect(response.statusCode).toBe(529);
    expect(JSON.parse(text)).toMatchObject({ error: { type: "overloaded_error", message: "Overloaded" } });
    const [call] = await bench.calls();
    expect(call).toMatchObject({ status: "settled", costNanoUsd: 0n });
    expect(call?.result?.flags).toContain("unbilled_error");
  });
});

describe("a stream", () => {
  it("is passed on event by event: event n is read by the client before the provider may write n + 1", async () => {
    const bench = await startBench({ simulator: { requireStepping: true } });
    const client = new Anthropic({ apiKey: "sk-test", baseURL: bench.url });
    bench.simulator.next({ kind: "answer", outputTokens: 64, deltas: 20 });

    bench.simulator.step();
    const stream = await client.messages.create({
      model,
      max_tokens: 64,
      stream: true,
      messages: [{ role: "user", content: "Hi" }],
    });
    const types: string[] = [];
    for await (const event of stream) {
      types.push(event.type);
      // Pings are not shown by the client: one more step lets the next shown event come.
      bench.simulator.step(event.type === "content_block_start" ? 2 : 1);
    }

    expect(types.filter((type) => type === "content_block_delta")).toHaveLength(20);
    expect(types.at(-1)).toBe("message_stop");
    await bench.simulator.idle();
    expect((await bench.calls())[0]).toMatchObject({ status: "settled", costNanoUsd: bench.simulator.bill.totalNanoUsd });
  });

  it("arrives with the bytes the provider wrote, however they are cut", async () => {
    const bench = await startBench();
    const answers: string[] = [];
    for (const wire of [{}, { chunkBytes: 1 }, { crlf: true }, { splitCharacters: true }]) {
      bench.simulator.next({ kind: "answer", content: [{ type: "text", text: "héllo wörld ✓" }], outputTokens: 20, ...wire });
      const response = await send(bench, message({ stream: true }));
      answers.push(await textOf(response));
    }

    expect(answers[0]).toContain("event: message_stop");
    expect(answers[2]).toContain("event: message_stop\r\n");
    const calls = await bench.calls();
    expect(calls).toHaveLength(4);
    expect(calls.map(({ costNanoUsd }) => costNanoUsd)).toEqual(bench.simulator.bill.lines.map(({ costNanoUsd }) => costNanoUsd));
  });

  it("that the upstream compressed is metered all the same", async () => {
    const bench = await startBench();
    // The gateway asks for identity; a provider that compresses anyway is seen with a client that accepts it.
    bench.simulator.next({ kind: "answer", gzip: true, headers: { "x-always": "gzip" } });

    await textOf(await send(bench, message({ stream: true }), { headers: { "accept-encoding": "gzip" } }));

    expect((await bench.calls())[0]).toMatchObject({ status: "settled", costNanoUsd: bench.simulator.bill.totalNanoUsd });
  });

  it("of 200 MB whose reader stops holds the provider under 32 MB written", async () => {
    const bench = await startBench();
    bench.simulator.next({ kind: "answer", textBytes: 200_000_000, deltas: 3_200, outputTokens: 200 });
    const response = await send(bench, message({ stream: true }));

    // One chunk is read, then nothing more: what can be written from now on is what sockets and buffers hold.
    response.once("data", () => response.pause());
    let before = -1;
    while (bench.simulator.bytesWritten !== before || before === 0) {
      before = bench.simulator.bytesWritten;
      await new Promise((resolve) => setTimeout(resolve, 150));
    }

    expect(bench.simulator.bytesWritten).toBeGreaterThan(0);
    expect(bench.simulator.bytesWritten).toBeLessThan(32_000_000);
    response.destroy();
    await bench.simulator.idle();
  });
});

describe("a client that leaves", () => {
  it("before the first byte cancels the upstream, and the call is settled at its bound in time", async () => {
    const bench = await startBench();
    bench.simulator.next({ kind: "stall" });
    const abort = new AbortController();
    const asked = fetch(`${bench.url}/v1/messages`, {
      method: "POST",
      body: message(),
      headers: { "x-api-key": "k", "anthropic-version": "2023-06-01" },
      signal: abort.signal,
    });
    await bench.simulator.arrived(0);

    abort.abort();
    await expect(asked).rejects.toThrow("abort");
    await bench.simulator.ended(0);

    expect(bench.simulator.requests[0]?.state).toBe("aborted");
    const call = await settledCall(bench);
    expect(call.result?.flags).toContain("unknown");
    expect(call.costNanoUsd ?? 0n).toBeGreaterThanOrEqual(bench.simulator.bill.totalNanoUsd);
  });

  it("in mid-stream cancels the upstream, and the input is settled as reported", async () => {
    const bench = await startBench({ simulator: { isPacedByGeneration: true } });
    bench.simulator.next({ kind: "answer", outputTokens: 200, inputTokens: 5_000 });
    const response = await send(bench, message({ stream: true }));
    await new Promise((resolve) => response.once("data", resolve));

    response.destroy();
    await bench.simulator.ended(0);

    const call = await settledCall(bench);
    expect(call.result).toMatchObject({ isEstimated: true, tokens: { uncachedInputTokens: 5_000 } });
    expect(call.costNanoUsd ?? 0n).toBeGreaterThanOrEqual(bench.simulator.bill.totalNanoUsd);
    expect(bench.simulator.openStreams).toBe(0);
  });

  it("with `onClientAbort: drain` is settled at the final usage", async () => {
    const bench = await startBench({
      yaml: "onClientAbort: drain\nlimits: [{ name: roomy, per: all, usd: 100, every: day }]\n",
    });
    bench.simulator.next({ kind: "answer", outputTokens: 100, eventPaceMs: 5, deltas: 20 });
    const response = await send(bench, message({ stream: true }));
    await new Promise((resolve) => response.once("data", resolve));

    response.destroy();
    await bench.simulator.ended(0);

    const call = await settledCall(bench);
    expect(call.result?.isEstimated).toBe(false);
    expect(call.costNanoUsd).toBe(bench.simulator.bill.totalNanoUsd);
  });
});

describe("an upstream that fails", () => {
  it("in mid-stream reaches the client as a broken connection, never as an end", async () => {
    const bench = await startBench();
    bench.simulator.next({ kind: "cut", afterEvents: 4, outputTokens: 100 });

    const response = await send(bench, message({ stream: true }));

    await expect(textOf(response)).rejects.toThrow("aborted");
    const call = await settledCall(bench);
    expect(call.result?.isEstimated).toBe(true);
    expect(call.costNanoUsd ?? 0n).toBeGreaterThanOrEqual(bench.simulator.bill.totalNanoUsd);
  });

  it("and cannot be reached is told in the provider's shape, and nothing is charged", async () => {
    const bench = await startBench();
    const config = bench.configOf("limits: [{ name: roomy, per: all, usd: 100, every: day }]\n");
    await bench.simulator.close();

    const response = await send(bench, message());
    const body = JSON.parse(await textOf(response)) as { error: { type: string; details: { code: string } } };

    expect(config.limits).toHaveLength(1);
    expect(response.statusCode).toBe(502);
    expect(body.error.details.code).toBe("upstream_unreachable");
    expect((await bench.calls())[0]).toMatchObject({ status: "voided" });
  });
});

async function settledCall(bench: Bench) {
  for (;;) {
    const [call] = await bench.calls();
    if (call?.status === "settled") return call;
    await new Promise((resolve) => setImmediate(resolve));
  }
}
