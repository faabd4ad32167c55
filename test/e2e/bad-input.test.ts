/**
 * Goal: whatever a caller sends, it gets one answer in the provider's shape that says where the mistake is, what was found and what is
 * allowed; nothing reaches the provider, nothing is charged, and the gateway goes on. Method: real sockets, also with bytes that no
 * client would send.
 */
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { ErrorCode } from "../../src/core/errors/codes.ts";
import { createVirtualKeySecret } from "../../src/gateway/virtual-key.ts";
import { hashSecret } from "../../src/exchange/system.ts";
import { startBench, startSharedBench, type Bench, type TestClock } from "./harness.ts";
import {
  allOf,
  ask,
  begin,
  connectTo,
  exchange,
  holdAnswers,
  headOf,
  messageOf,
  MODEL,
  openRequest,
  readAnswer,
  until,
  type Answer,
} from "./http.ts";

const BODY_BYTES_MAX = 200_000;

let bench: Bench & { clock: TestClock };
let closeBench: () => Promise<void>;

beforeAll(async () => {
  ({ bench, close: closeBench } = await startSharedBench({
    yaml: `limits: [{ name: roomy, per: all, usd: 1_000, every: day }]\nserver: { bodyBytesMax: ${BODY_BYTES_MAX} }\n`,
    env: { ANTHROPIC_API_KEY: "sk-upstream" },
  }));
});
afterAll(() => closeBench());

/** What became of a request, what reached the provider because of it, and whether the gateway goes on. */
async function outcomeOf(asked: Promise<Answer>) {
  const before = bench.simulator.requests.length;
  const { status, error, headers } = await asked;
  const forwarded = bench.simulator.requests.length - before;
  const next = await ask(bench.url);
  const shouldRetry = headers["x-should-retry"];
  return { status, code: error?.details["code"], message: error?.message, shouldRetry, forwarded, next: next.status };
}

/** A refusal of Purser's own, final, with nothing forwarded. */
function refusal(status: number, code: ErrorCode, message: RegExp) {
  const text: unknown = expect.stringMatching(message);
  return { status, code, message: text, shouldRetry: "false", forwarded: 0, next: 200 };
}

describe("a request body with", () => {
  const bad: [name: string, body: string | Buffer, message: RegExp][] = [
    ["malformed JSON: nothing", "", /line 1, column 1 .*found the end of the text, allowed is a JSON object/],
    ["malformed JSON: no JSON at all", "hello", /line 1, column 1 .*found "h"/],
    ["malformed JSON: an end in the middle", `{"model":"${MODEL}","messages":[{"role":"user"`, /found the end of the text/],
    ["malformed JSON: something behind it", `${messageOf()} x`, /found "x"/],
    ["malformed JSON: a comma too many", `{"model":"${MODEL}",}`, /line 1, column \d+/],
    ["malformed JSON: a single quote, on the third line", `{\n"model":"${MODEL}",\n'max_tokens':1}`, /line 3, column 1/],
    ["malformed JSON: bytes that are no UTF-8", Buffer.from(messageOf({ system: "\u00ff" }), "latin1"), /UTF-8/],
    ["malformed JSON: brackets without end", `{"model":"${MODEL}","metadata":{"x":${"[".repeat(100_000)}`, /nest|deep/],
    ["wrong types: a list at the top", `[${messageOf()}]`, /found an array, allowed is a JSON object/],
    ["wrong types: model", messageOf({ model: 5 }), /model\): found the number 5, allowed is a model name in a string/],
    ["wrong types: no model", JSON.stringify({ max_tokens: 5, messages: [] }), /found no member model/],
    ["wrong types: an empty model", messageOf({ model: "" }), /model\): .*allowed is a model name/],
    [
      "wrong types: max_tokens as text",
      messageOf({ max_tokens: "100" }),
      /max_tokens\): found a string, allowed is a whole number/,
    ],
    [
      "wrong types: max_tokens below 0",
      messageOf({ max_tokens: -1 }),
      /max_tokens\): found the number -1, allowed is a whole number/,
    ],
    ["wrong types: half a token", messageOf({ max_tokens: 1.5 }), /max_tokens\): found the number 1.5/],
    ["wrong types: max_tokens beyond all bounds", messageOf().replace("256", "1e999"), /max_tokens\): found the number 1e999/],
    ["wrong types: stream", messageOf({ stream: "yes" }), /stream\): found a string, allowed is true or false/],
    ["wrong types: messages", messageOf({ messages: "Hello." }), /messages\): found a string, allowed is an array of messages/],
    ["wrong types: a message", messageOf({ messages: ["Hello."] }), /messages\[0\]\): found a string, allowed is an object/],
    ["wrong types: tools", messageOf({ tools: {} }), /tools\): found an object, allowed is an array of tools/],
    [
      "a deciding key twice: model",
      `{"model":"${MODEL}","model":"claude-haiku-5-5","max_tokens":1,"messages":[]}`,
      /model\): found the key "model" a second time/,
    ],
    [
      "a deciding key twice: max_tokens, escaped",
      `{"model":"${MODEL}","max_tokens":1,"max_\\u0074okens":9,"messages":[]}`,
      /"max_tokens" a second time/,
    ],
    ["a deciding key twice: stream", `{"stream":true,"model":"${MODEL}","messages":[],"stream":false}`, /"stream" a second time/],
    [
      "a deciding key twice: max_uses of a tool",
      messageOf({ tools: [0] }).replace("[0]", `[{"type":"web_search_20250305","max_uses":1,"max_uses":9}]`),
      /tools\[0\]\.max_uses\): found the key "max_uses" a second time/,
    ],
  ];

  it.each(bad)("%s is refused with its place", async (_name, body, message) => {
    expect(await outcomeOf(ask(bench.url, { body }))).toEqual(refusal(400, "invalid_request", message));
  });

  it("a key twice that decides nothing is the provider's to judge", async () => {
    const answer = await ask(bench.url, { body: messageOf({ tools: [] }).replace("[]", `[{"name":"t","a":1,"a":2}]`) });

    expect(answer.status).toBe(200);
  });

  it("an unknown model is refused under a money limit, by name", async () => {
    const body = messageOf({ model: "claude-opus-99" });

    expect(await outcomeOf(ask(bench.url, { body }))).toEqual(refusal(402, "unpriced_model", /"claude-opus-99".*limit roomy/));
  });
});

describe("a body over the limit", () => {
  it("is refused as soon as its declared length says so", async () => {
    const request = openRequest(bench.url, { headers: { "content-length": String(50_000_000) } });
    request.flushHeaders();
    request.on("error", () => undefined);

    const asked = headOf(request).then(readAnswer);

    expect(await outcomeOf(asked)).toEqual(refusal(413, "request_too_large", /50,000,000 bytes.*200,000/));
    request.destroy();
  });

  it("that is sent in chunks is refused where it passes the limit, and no more of it is kept", async () => {
    const request = openRequest(bench.url, { headers: { "transfer-encoding": "chunked" } });
    const answered = headOf(request);
    const before = process.memoryUsage().arrayBuffers + process.memoryUsage().external;
    const chunk = Buffer.alloc(65_536, 0x20);
    let highest = before;
    for (let sent = 0; sent < 64 * 1_024 * 1_024 && !request.destroyed; sent += chunk.length) {
      if (!request.write(chunk)) await Promise.race([new Promise((done) => request.once("drain", done)), answered]);
      highest = Math.max(highest, process.memoryUsage().arrayBuffers + process.memoryUsage().external);
    }

    expect(await outcomeOf(answered.then(readAnswer))).toEqual(refusal(413, "request_too_large", /200,000/));
    expect(highest - before).toBeLessThan(32 * 1_024 * 1_024);
    request.destroy();
  });

  it("reaches a client that sends all of it before it reads", async () => {
    const body = Buffer.alloc(20_000_000, 0x20);

    expect(await outcomeOf(ask(bench.url, { body }))).toEqual(refusal(413, "request_too_large", /20,000,000 bytes/));
  });

  it("is judged as decoded: a gzip bomb", async () => {
    const body = gzipSync(Buffer.alloc(50_000_000, 0x20));
    expect(body.length).toBeLessThan(BODY_BYTES_MAX);

    expect(await outcomeOf(ask(bench.url, { body, headers: { "content-encoding": "gzip" } }))).toEqual(
      refusal(413, "request_too_large", /200,000/),
    );
  });
});

describe("bodies that together fill the memory for them", () => {
  it("are answered 503 overloaded before any work, while calls already taken are served", async () => {
    const full = await startBench({ gateway: { bodyMemoryBytesMax: 100_000 } });
    const held = holdAnswers(full.simulator);
    const large = messageOf({ system: "x".repeat(60_000) });
    const first = ask(full.url, { body: large });
    await until(() => held.count === 1);

    const refused = await ask(full.url, { body: large });
    const small = ask(full.url);
    await until(() => held.count === 2);
    held.release(2);

    expect(refused).toMatchObject({ status: 503, headers: { "retry-after": "5" }, error: { type: "overloaded_error" } });
    expect(refused.error?.details["code"]).toBe("overloaded");
    expect([(await first).status, (await small).status]).toEqual([200, 200]);
    // What the first one took is there again.
    const again = ask(full.url, { body: large });
    await until(() => held.count === 1);
    held.release();
    expect((await again).status).toBe(200);
  });
});

describe("an encoding", () => {
  it.each(["br", "deflate", "zstd", "gzip, gzip", "compress"])(
    "that is unsupported (%s) is refused by name",
    async (encoding) => {
      expect(await outcomeOf(ask(bench.url, { headers: { "content-encoding": encoding } }))).toEqual(
        refusal(415, "unsupported_encoding", new RegExp(`${encoding}.*gzip`)),
      );
    },
  );

  const whole = gzipSync(messageOf());
  it.each([
    ["no gzip at all", Buffer.from(messageOf())],
    ["cut", whole.subarray(0, -6)],
    ["changed in the middle", Buffer.concat([whole.subarray(0, 30), Buffer.from([0xff, 0xff, 0xff]), whole.subarray(33)])],
    ["empty", Buffer.alloc(0)],
  ])("that is broken gzip (%s) is refused", async (_name, body) => {
    expect(await outcomeOf(ask(bench.url, { body, headers: { "content-encoding": "gzip" } }))).toEqual(
      refusal(400, "invalid_request", /gzip|line 1, column 1/),
    );
  });
});

describe("a path", () => {
  const paths: [method: string, path: string, code: ErrorCode][] = [
    // Unknown paths.
    ["POST", "/", "unknown_path"],
    ["POST", "/v2/messages", "unknown_path"],
    ["POST", "/messages", "unknown_path"],
    ["GET", "/favicon.ico", "unknown_path"],
    ["GET", "/metrics", "unknown_path"],
    ["GET", "/purser/v1/limits", "unknown_path"],
    ["POST", "/openai/messages", "unknown_path"],
    ["POST", "/gemini/v1/messages", "unknown_path"],
    // Paths that only look like one of ours.
    ["POST", "//v1/messages", "unknown_path"],
    ["POST", "/v1//messages", "unknown_path"],
    ["POST", "/v1%2fmessages", "unknown_path"],
    ["POST", "/v1/%6dessages", "unknown_path"],
    ["POST", "/v1/./messages", "unknown_path"],
    ["POST", "/v1/models/../messages", "unknown_path"],
    ["POST", "/v1/models/%2e%2e/messages", "unknown_path"],
    ["POST", "/v1/messages;x=1", "unknown_path"],
    ["POST", "/v1\\messages", "unknown_path"],
    ["POST", "/anthropic/anthropic/v1/messages", "unknown_path"],
    // Absolute-form targets, as to a proxy.
    ["POST", "http://api.anthropic.com/v1/messages", "unknown_path"],
    ["POST", "HTTP://127.0.0.1/v1/messages", "unknown_path"],
    // Not metered.
    ["POST", "/v1/messages/", "not_metered"],
    ["POST", "/v1/Messages", "not_metered"],
    ["POST", "/v1/complete", "not_metered"],
    ["GET", "/v1/messages/batches/msgbatch_1/lines", "not_metered"],
    ["POST", "/v1/files", "not_metered"],
    ["POST", "/v1/skills", "not_metered"],
    ["GET", "/v1/organizations/usage_report/messages", "not_metered"],
    ["POST", "/v1/images/generations", "not_metered"],
    ["POST", "/v1/responses/compact", "not_metered"],
    ["POST", "/v1/completions", "not_metered"],
    ["POST", "/v1/moderations", "not_metered"],
    ["POST", "/openai/v1/batches", "not_metered"],
    ["GET", "/openai/v1/files", "not_metered"],
    ["POST", "/openai/v1/messages", "not_metered"],
    ["POST", "/anthropic/v1/complete", "not_metered"],
    ["POST", "/anthropic/v1/files?beta=true", "not_metered"],
    // Wrong methods.
    ["GET", "/v1/messages", "unknown_path"],
    ["PUT", "/v1/messages", "unknown_path"],
    ["DELETE", "/v1/messages", "unknown_path"],
    ["GET", "/v1/messages/count_tokens", "unknown_path"],
    ["PUT", "/v1/messages/batches", "unknown_path"],
    ["POST", "/v1/messages/batches/msgbatch_1/results", "unknown_path"],
    ["POST", "/v1/models", "unknown_path"],
    ["DELETE", "/v1/models/claude-sonnet-5-5", "unknown_path"],
    ["GET", "/v1/responses", "unknown_path"],
    ["PUT", "/v1/chat/completions", "unknown_path"],
    ["OPTIONS", "*", "unknown_path"],
  ];

  it.each(paths)("%s %s is answered 404 %s", async (method, path, code) => {
    const asked = ask(bench.url, { method, path });

    expect(await outcomeOf(asked)).toEqual(refusal(404, code, new RegExp(method)));
  });

  it("that two providers have, with nothing to tell them apart, is ambiguous_path and names both prefixes", async () => {
    const asked = ask(bench.url, { method: "GET", path: "/v1/models", headers: { "anthropic-version": undefined } });

    expect(await outcomeOf(asked)).toEqual(refusal(404, "ambiguous_path", /\/anthropic or \/openai/));
  });

  it("of either provider's models is told apart by what its own clients send", async () => {
    const bearer = { "anthropic-version": undefined, "x-api-key": undefined, authorization: "Bearer sk-openai" };

    const openai = await ask(bench.url, { method: "GET", path: "/v1/models", headers: bearer });
    const prefixed = await ask(bench.url, {
      method: "GET",
      path: "/anthropic/v1/models",
      headers: { "anthropic-version": undefined },
    });
    const anthropic = await ask(bench.url, { method: "GET", path: "/v1/models?limit=5" });

    expect(openai.status).toBe(200);
    expect(bench.openai.requests.at(-1)).toMatchObject({ path: "/v1/models", headers: { authorization: "Bearer sk-openai" } });
    expect(anthropic.status).toBe(200);
    // It is the provider that misses the version.
    expect(prefixed.error).toMatchObject({ message: expect.stringContaining("anthropic-version") as unknown });
    expect(bench.simulator.requests.at(-2)?.path).toBe("/v1/models");
  });

  it("is matched without its query, which travels on", async () => {
    const answer = await ask(bench.url, { path: "/anthropic/v1/messages?beta=true&x=%2e%2e//" });

    expect(answer.status).toBe(200);
    expect(bench.simulator.requests.at(-1)?.path).toBe("/v1/messages?beta=true&x=%2e%2e//");
  });
});

describe("credentials", () => {
  async function newKey(extra: { expiresAtMs?: number } = {}): Promise<{ keyId: string; secret: string }> {
    const key = createVirtualKeySecret();
    await bench.gateway.ledger.createKey({
      keyId: key.keyId,
      secretHash: hashSecret(key.secret),
      project: "p",
      agent: "a",
      allow: [],
      createdAtMs: Date.now(),
      expiresAtMs: extra.expiresAtMs,
      revokedAtMs: undefined,
    });
    // Keys are looked up in a list that is at most a second old.
    bench.clock.advance(1_000);
    return key;
  }

  it("that are two different ones are refused, and equal ones are one", async () => {
    const headers = { "x-api-key": "sk-one", authorization: "Bearer sk-two" };
    expect(await outcomeOf(ask(bench.url, { headers }))).toEqual(refusal(400, "invalid_request", /two different credentials/));

    const equal = await ask(bench.url, { headers: { "x-api-key": "sk-one", authorization: "Bearer sk-one" } });

    expect(equal.status).toBe(200);
  });

  it.each(["x-api-key", "authorization"])(
    "that are a mistyped virtual key in %s are refused before the provider sees them",
    async (door) => {
      const { secret } = await newKey();
      const mistyped = secret.replace(/.$/, (last) => (last === "0" ? "1" : "0"));
      const value = door === "authorization" ? `Bearer ${mistyped}` : mistyped;

      const outcome = await outcomeOf(ask(bench.url, { headers: { "x-api-key": undefined, [door]: value } }));

      expect(outcome).toEqual(refusal(401, "unauthorized", /cut or mistyped/));
      expect(outcome.message).not.toContain(mistyped.slice(4, 40));
    },
  );

  it.each([
    ["Basic", (secret: string) => `Basic ${Buffer.from(`u:${secret}`).toString("base64")}`],
    ["no scheme", (secret: string) => secret],
    ["two spaces", (secret: string) => `bearer   ${secret}`],
  ])("that are a virtual key in an authorization header with %s never reach the provider", async (_name, write) => {
    const { secret } = await newKey();
    const before = bench.simulator.requests.length;

    await ask(bench.url, { headers: { "x-api-key": undefined, authorization: write(secret) } });

    const sent = bench.simulator.requests.slice(before).flatMap(({ rawHeaders }) => rawHeaders);
    expect(sent.join("\n")).not.toContain(secret);
    expect(sent.join("\n")).not.toContain(Buffer.from(`u:${secret}`).toString("base64"));
  });

  it("that are a revoked virtual key are refused within a second", async () => {
    const { keyId, secret } = await newKey();
    expect((await ask(bench.url, { headers: { "x-api-key": secret } })).status).toBe(200);

    await bench.gateway.ledger.revokeKey({ keyId, atMs: Date.now() });
    bench.clock.advance(1_000);

    expect(await outcomeOf(ask(bench.url, { headers: { "x-api-key": secret } }))).toEqual(
      refusal(401, "unauthorized", new RegExp(`${keyId} was revoked`)),
    );
  });

  it("that are an expired virtual key are refused from that instant on", async () => {
    const { keyId, secret } = await newKey({ expiresAtMs: bench.clock.nowMs() + 60_000 });
    expect((await ask(bench.url, { headers: { "x-api-key": secret } })).status).toBe(200);

    bench.clock.advance(60_000);

    expect(await outcomeOf(ask(bench.url, { headers: { "x-api-key": secret } }))).toEqual(
      refusal(401, "unauthorized", new RegExp(`${keyId} has expired`)),
    );
  });

  it("that are a virtual key of another ledger are refused", async () => {
    const { secret } = createVirtualKeySecret();

    expect(await outcomeOf(ask(bench.url, { headers: { "x-api-key": secret } }))).toEqual(
      refusal(401, "unauthorized", /not known to this ledger/),
    );
  });
});

describe("headers with", () => {
  const long = "x".repeat(201);
  const bad: [name: string, headers: Record<string, string>, message: RegExp][] = [
    ["a label that is too long", { "x-purser-agent": long }, /x-purser-agent has 201 characters; at most 200/],
    ["a label of control characters", { "x-purser-session": "a\u0085b" }, /x-purser-session holds a control character/],
    ["bad tags: no value", { "x-purser-tags": "team" }, /x-purser-tags holds "team"; "name=value, name=value" is allowed/],
    ["bad tags: a name of spaces", { "x-purser-tags": "a b=c" }, /"a b=c"/],
    ["bad tags: one twice", { "x-purser-tags": "a=1, a=2" }, /names a twice/],
    ["bad tags: a name of the language", { "x-purser-tags": "__proto__=1" }, /x-purser-tags/],
    ["bad tags: too many", { "x-purser-tags": Array.from({ length: 21 }, (_, i) => `t${i}=1`).join(",") }, /21 tags; at most 20/],
    [
      "a bad deadline: a word",
      { "x-purser-deadline": "soon" },
      /x-purser-deadline is "soon"; an ISO 8601 instant with its zone .*, or whole milli/,
    ],
    ["a bad deadline: below 0", { "x-purser-deadline": "-5" }, /x-purser-deadline is "-5"/],
    ["a bad deadline: no zone", { "x-purser-deadline": "2026-11-22T10:00:00" }, /x-purser-deadline is "2026-11-22T10:00:00"/],
    ["a bad deadline: a date in words", { "x-purser-deadline": "Nov 22 2026" }, /x-purser-deadline is "Nov 22 2026"/],
    ["a bad deadline: a day that is none", { "x-purser-deadline": "2026-02-30T10:00:00Z" }, /x-purser-deadline/],
    ["a parent session that is too long", { "x-purser-parent-session": long }, /x-purser-parent-session has 201 characters/],
    [
      "an idempotency key that is too long",
      { "x-purser-idempotency-key": "x".repeat(5_000) },
      /x-purser-idempotency-key has 5000/,
    ],
  ];

  it.each(bad)("%s are refused with what is allowed", async (_name, headers, message) => {
    expect(await outcomeOf(ask(bench.url, { headers }))).toEqual(refusal(400, "invalid_request", message));
  });

  it("a label twice, differently, are refused", async () => {
    const body = messageOf();
    const text = await exchange(
      bench.url,
      rawRequest({ more: "x-purser-agent: a\r\nx-purser-agent: b\r\nconnection: close\r\n", body }),
    );

    expect(text).toMatch(/^HTTP\/1\.1 400 /);
    expect(text).toMatch(/x-purser-agent stands twice/);
  });

  it("64 KB of them are refused before anything is read", async () => {
    const text = await exchange(bench.url, rawRequest({ more: `x-long: ${"x".repeat(65_536)}\r\n`, body: messageOf() }));

    expect(text).toMatch(/^HTTP\/1\.1 431 /);
    expect(text).toContain('"code":"invalid_request"');
    expect(text).toMatch(/headers.*16,384 bytes/);
  });
});

/** A request as bytes. */
function rawRequest({
  more = "",
  body = messageOf(),
  length = Buffer.byteLength(body),
}: {
  more?: string;
  body?: string;
  length?: number;
}): string {
  return (
    `POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: sk-test\r\nanthropic-version: 2023-06-01\r\ncontent-length: ${length}\r\n` +
    `${more}\r\n${body}`
  );
}

describe("bytes that are no proper request:", () => {
  it.each([
    ["both a length and chunks (request smuggling)", rawRequest({ more: "transfer-encoding: chunked\r\n" })],
    ["two lengths", rawRequest({ more: "content-length: 5\r\n" })],
    ["a header name with a space", rawRequest({ more: "x bad: 1\r\n" })],
    ["no HTTP at all", "hello\r\n\r\n"],
    ["a TLS handshake", "\u0016\u0003\u0001\u0000\u0005\r\n\r\n"],
  ])("%s is answered 400 in the provider's shape and the connection ends", async (_name, bytes) => {
    const before = bench.simulator.requests.length;

    const text = await exchange(bench.url, bytes);

    expect(text).toMatch(/^HTTP\/1\.1 400 /);
    expect(text).toContain('"code":"invalid_request"');
    expect(bench.simulator.requests).toHaveLength(before);
    expect((await ask(bench.url)).status).toBe(200);
  });

  it("garbage behind a request whose answer is coming is not written into that answer", async () => {
    const stream = await connectTo(bench.url);
    bench.simulator.next({ kind: "stall", afterEvents: 3 });
    stream.write(rawRequest({ body: messageOf({ stream: true }) }));
    await new Promise((resolve) => stream.once("data", resolve));

    stream.write("garbage\r\n\r\n");
    const rest = await allOf(stream);

    expect(rest).not.toContain("HTTP/1.1 400");
    await bench.simulator.idle();
    expect((await ask(bench.url)).status).toBe(200);
  });
});

describe("a client that", () => {
  it("sends its body byte by byte is served", async () => {
    const socket = await connectTo(bench.url);
    for (const byte of rawRequest({ more: "connection: close\r\n" })) {
      socket.write(byte);
      await new Promise((resolve) => setImmediate(resolve));
    }

    expect(await allOf(socket)).toMatch(/^HTTP\/1\.1 200 /);
  });

  it("closes its sending half in the middle of the answer has left: the provider is cancelled and the call ends", async () => {
    const socket = await connectTo(bench.url, { allowHalfOpen: true });
    const index = bench.simulator.requests.length;
    bench.simulator.next({ kind: "stall", afterEvents: 3 });
    socket.write(rawRequest({ body: messageOf({ stream: true }) }));
    await new Promise((resolve) => socket.once("data", resolve));

    socket.end();

    expect((await bench.simulator.ended(index)).state).toBe("aborted");
    await until(async () => (await bench.calls()).at(-1)?.status === "settled");
    expect(bench.gateway.engine.runningCount).toBe(0);
    socket.destroy();
  });

  it("leaves in the middle of its body leaves nothing behind", async () => {
    const before = { requests: bench.simulator.requests.length, calls: (await bench.calls()).length };
    const socket = await connectTo(bench.url);
    socket.write(rawRequest({ length: 5_000 }));
    await new Promise((resolve) => setImmediate(resolve));

    socket.destroy();

    expect((await ask(bench.url)).status).toBe(200);
    expect(bench.simulator.requests).toHaveLength(before.requests + 1);
    expect(await bench.calls()).toHaveLength(before.calls + 1);
    expect(bench.gateway.engine.runningCount).toBe(0);
  });

  it("leaves in the middle of a gzip body leaves nothing behind", async () => {
    const request = openRequest(bench.url, { headers: { "content-encoding": "gzip", "content-length": "5000" } });
    request.on("error", () => undefined);
    request.write(gzipSync(messageOf()).subarray(0, 40));
    await new Promise((resolve) => setImmediate(resolve));

    request.destroy();

    expect((await ask(bench.url)).status).toBe(200);
    expect(bench.gateway.engine.runningCount).toBe(0);
    expect(bench.warnings.filter(({ event }) => event === "internal_error")).toEqual([]);
  });

  it("asks many things at once, most of them wrong, gets each answered", async () => {
    const answers = await Promise.all(
      Array.from({ length: 60 }, (_, index) =>
        index % 3 === 0
          ? begin(bench.url).then(readAnswer)
          : ask(bench.url, { body: index % 3 === 1 ? "{" : messageOf({ model: 1 }) }),
      ),
    );

    expect(answers.map(({ status }) => status)).toEqual(Array.from({ length: 60 }, (_, index) => (index % 3 === 0 ? 200 : 400)));
    expect(bench.warnings.filter(({ event }) => event === "internal_error")).toEqual([]);
  });
});
