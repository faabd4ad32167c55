/** Every misbehaviour as a raw socket sees it, and what the bill says of it. */
import { gunzipSync, gzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Behaviour, UsageFault } from "./behaviours.ts";
import { ask, question, readEvents, type RawAnswer } from "./raw.fixture.ts";
import { startSimulator, type Simulator } from "./simulator.ts";

/** The clock stands still, so that what is generated is what the events hold. */
const NOW = Date.parse("2026-11-22T12:00:00Z");
/** 1,000 × $4/M + 40 × $20/M. */
const WHOLE_NANO_USD = 4_800_000n;
/** 1,000 × $4/M. */
const INPUT_NANO_USD = 4_000_000n;
const SIZES = { inputTokens: 1_000, outputTokens: 40, deltas: 4 } as const;

let simulator: Simulator;
beforeEach(async () => {
  simulator = await startSimulator({ now: () => NOW });
});
afterEach(() => simulator.close());

async function stream(behaviour: Behaviour, headers: Readonly<Record<string, string>> = {}): Promise<RawAnswer> {
  simulator.next(behaviour);
  const answer = await ask(simulator, { headers, body: question({ stream: true }) });
  await simulator.ended(0);
  return answer;
}

async function create(behaviour: Behaviour, headers: Readonly<Record<string, string>> = {}): Promise<RawAnswer> {
  simulator.next(behaviour);
  const answer = await ask(simulator, { headers });
  await simulator.ended(0);
  return answer;
}

function names(answer: RawAnswer): string[] {
  return readEvents(answer.body).map(({ name }) => name);
}

describe("a proper stream", () => {
  it("has the provider's events in the provider's order", async () => {
    const answer = await stream({ kind: "answer", ...SIZES });

    expect(names(answer)).toEqual([
      "message_start",
      "content_block_start",
      "ping",
      "content_block_delta",
      "content_block_delta",
      "content_block_delta",
      "content_block_delta",
      "content_block_stop",
      "message_delta",
      "message_stop",
    ]);
    expect(readEvents(answer.body)[0]?.data).toMatchObject({
      type: "message_start",
      message: {
        type: "message",
        role: "assistant",
        content: [],
        stop_reason: null,
        usage: { input_tokens: 1_000, output_tokens: 1, service_tier: "standard", speed: "standard", inference_geo: "global" },
      },
    });
    expect(readEvents(answer.body).at(-2)?.data).toMatchObject({
      delta: { stop_reason: "end_turn" },
      usage: { input_tokens: 1_000, output_tokens: 40 },
    });
    expect(answer.head).toContain("content-type: text/event-stream");
    expect(answer.head).toContain("request-id: req_sim00000001");
  });

  it("says the text that a JSON answer to the same request says", async () => {
    simulator.always({ kind: "answer", outputTokens: 60, deltas: 5 });
    const whole = await ask(simulator);
    const body = Buffer.from(JSON.stringify(question())).toString();
    const streamed = await ask(simulator, { body: body.replace("{", '{"stream":true,') });

    const { content } = JSON.parse(whole.body.toString()) as { content: [{ text: string }] };
    const deltas = readEvents(streamed.body).filter(({ name }) => name === "content_block_delta");
    expect(Buffer.byteLength(content[0].text)).toBe(240);
    expect(deltas).toHaveLength(5);
  });

  it("pings as often as it is told", async () => {
    const answer = await stream({ kind: "answer", ...SIZES, pingEvery: 1 });

    expect(names(answer).filter((name) => name === "ping").length).toBeGreaterThan(8);
  });

  it("reports cumulatively in as many message_delta as it is told", async () => {
    const answer = await stream({ kind: "answer", ...SIZES, messageDeltas: 4 });

    const outputs = readEvents(answer.body)
      .filter(({ name }) => name === "message_delta")
      .map(({ data }) => (data["usage"] as { output_tokens: number }).output_tokens);
    expect(outputs).toEqual([10, 20, 30, 40]);
  });
});

describe("an error answer", () => {
  it.each([
    [400, "invalid_request_error"],
    [401, "authentication_error"],
    [403, "permission_error"],
    [413, "request_too_large"],
    [429, "rate_limit_error"],
    [500, "api_error"],
    [529, "overloaded_error"],
  ])("has the provider's shape for %i", async (status, type) => {
    const answer = await create({ kind: "status", status });

    expect(answer.head).toMatch(new RegExp(`^HTTP/1.1 ${status}`));
    expect(JSON.parse(answer.body.toString())).toEqual({
      type: "error",
      error: { type, message: expect.any(String) as string },
      request_id: "req_sim00000001",
    });
    expect(/retry-after: 1\r\n/i.test(answer.head)).toBe(status === 429);
    expect(simulator.bill.lines).toMatchObject([{ costNanoUsd: 0n, reason: "refused" }]);
  });

  it.each([
    ["without a key", { headers: { "x-api-key": "" } }, 401, "authentication_error"],
    ["without a version", { headers: { "anthropic-version": "" } }, 400, "invalid_request_error"],
    ["for an unknown model", { body: question({ model: "claude-opus-55" }) }, 404, "not_found_error"],
    ["for a retired model", { body: question({ model: "claude-3-haiku-20240307" }) }, 404, "not_found_error"],
    ["for a path it does not serve", { path: "/v1/complete" }, 404, "not_found_error"],
    ["for JSON that breaks off", { body: '{"model": "claude-opus-5-5", ' }, 400, "invalid_request_error"],
    ["without max_tokens", { body: question({ max_tokens: undefined }) }, 400, "invalid_request_error"],
    ["for a fractional max_tokens", { body: question({ max_tokens: 1.5 }) }, 400, "invalid_request_error"],
    ["without messages", { body: question({ messages: [] }) }, 400, "invalid_request_error"],
    ["for more output than the model has", { body: question({ max_tokens: 128_001 }) }, 400, "invalid_request_error"],
    [
      "for a geography on an old model",
      { body: question({ model: "claude-haiku-4-5", inference_geo: "us" }) },
      400,
      "invalid_request_error",
    ],
    [
      "for fast mode where there is none",
      { body: question({ model: "claude-sonnet-5", speed: "fast" }) },
      400,
      "invalid_request_error",
    ],
    [
      "for a thinking budget on a model without",
      { body: question({ thinking: { type: "enabled", budget_tokens: 2_000 } }) },
      400,
      "invalid_request_error",
    ],
    [
      "for a forced tool on a model that takes none",
      { body: question({ tool_choice: { type: "any" } }) },
      400,
      "invalid_request_error",
    ],
    ["for a wrong method", { method: "GET" }, 405, "invalid_request_error"],
  ])("comes unasked %s", async (_, request, status, type) => {
    const answer = await ask(simulator, request);

    expect(answer.head).toMatch(new RegExp(`^HTTP/1.1 ${status}`));
    expect(JSON.parse(answer.body.toString())).toMatchObject({ type: "error", error: { type } });
    expect(simulator.bill.totalNanoUsd).toBe(0n);
  });

  it("is not given for a Bearer key, an alias or a beta query", async () => {
    const answer = await ask(simulator, {
      path: "/v1/messages?beta=true",
      headers: { "x-api-key": "", authorization: "Bearer sk-ant-test" },
      body: question({ model: "claude-sonnet-4-5" }),
    });

    expect(JSON.parse(answer.body.toString())).toMatchObject({ model: "claude-sonnet-4-5-20250929" });
  });

  it("is not given for a body under gzip", async () => {
    const response = await fetch(`${simulator.url}/v1/messages`, {
      method: "POST",
      headers: { "x-api-key": "k", "anthropic-version": "2023-06-01", "content-encoding": "gzip" },
      body: gzipSync(JSON.stringify(question())),
    });

    expect(await response.json()).toMatchObject({ type: "message" });
  });

  it("is 413 for a body over 32 MiB, and not for one of 32 MiB", async () => {
    const toBody = (bytes: number) => JSON.stringify(question({ pad: "" })).replace('"pad":""', `"pad":"${"x".repeat(bytes)}"`);
    const bare = toBody(0).length;

    const largest = await ask(simulator, { body: toBody(32 * 1024 * 1024 - bare) });
    const larger = await ask(simulator, { body: toBody(32 * 1024 * 1024 - bare + 1) });

    expect(largest.head).toMatch(/^HTTP\/1.1 200/);
    expect(larger.head).toMatch(/^HTTP\/1.1 413/);
    expect(JSON.parse(larger.body.toString())).toMatchObject({ error: { type: "request_too_large" } });
  });

  it("stands inside the stream where it is told to", async () => {
    const answer = await stream({ kind: "error_event", afterEvents: 5, ...SIZES });

    expect(names(answer)).toEqual([
      "message_start",
      "content_block_start",
      "ping",
      "content_block_delta",
      "content_block_delta",
      "error",
    ]);
    expect(readEvents(answer.body).at(-1)?.data).toEqual({
      type: "error",
      error: { type: "overloaded_error", message: "Overloaded" },
    });
    // Two of four deltas were made: 20 tokens.
    expect(simulator.bill.lines).toMatchObject([
      { reason: "error_event", reported: "nothing", costNanoUsd: INPUT_NANO_USD + 400_000n },
    ]);
  });

  it("becomes the status of an answer that does not stream", async () => {
    const answer = await create({ kind: "error_event", afterEvents: 5 });

    expect(answer.head).toMatch(/^HTTP\/1.1 529/);
    expect(simulator.bill.totalNanoUsd).toBe(0n);
  });
});

describe("a connection that ends badly", () => {
  it("is cut in the middle of the event after n events", async () => {
    const answer = await stream({ kind: "cut", afterEvents: 5, ...SIZES });

    expect(answer).toMatchObject({ end: "closed", isComplete: false });
    expect(answer.body.toString().split("\n\n")).toHaveLength(6);
    expect(answer.body.toString()).not.toMatch(/\n\n$/);
    // The third of four deltas was made, and half of it sent: 30 tokens.
    expect(simulator.bill.lines).toMatchObject([
      { reason: "cut", reported: "nothing", reportedCostNanoUsd: undefined, costNanoUsd: INPUT_NANO_USD + 600_000n },
    ]);
    expect(simulator.aborted).toBe(0);
  });

  it("is cut after exactly n bytes", async () => {
    const answer = await stream({ kind: "cut", afterBytes: 777, ...SIZES });

    expect(answer.body).toHaveLength(777);
    expect(answer.isComplete).toBe(false);
    expect(simulator.requests[0]).toMatchObject({ bytesWritten: 777, state: "cut" });
  });

  it("is cut in the middle of a JSON answer that was generated wholly", async () => {
    const answer = await create({ kind: "cut", ...SIZES });

    expect(answer.isComplete).toBe(false);
    expect(() => JSON.parse(answer.body.toString()) as unknown).toThrow("JSON");
    expect(simulator.bill.lines).toMatchObject([{ reason: "cut", reported: "nothing", costNanoUsd: WHOLE_NANO_USD }]);
  });

  it("has its usage reported if it is cut after message_delta", async () => {
    await stream({ kind: "cut", afterEvents: 9, ...SIZES });

    expect(simulator.bill.lines).toMatchObject([{ reason: "cut", reported: "truth", costNanoUsd: WHOLE_NANO_USD }]);
  });

  it("is reset when it is told to", async () => {
    const answer = await stream({ kind: "cut", afterEvents: 2, reset: true });

    expect(answer.end).toBe("reset");
  });

  it("is closed without an answer", async () => {
    const answer = await create({ kind: "close", ...SIZES });

    expect(answer.bytes).toHaveLength(0);
    // The clock stood still: nothing but the prompt was processed.
    expect(simulator.bill.lines).toMatchObject([{ reason: "cut", costNanoUsd: INPUT_NANO_USD }]);
  });

  it("ends properly without message_stop", async () => {
    const answer = await stream({ kind: "answer", omitMessageStop: true, ...SIZES });

    expect(answer.isComplete).toBe(true);
    expect(names(answer).at(-1)).toBe("message_delta");
    expect(simulator.bill.lines).toMatchObject([{ reported: "truth", costNanoUsd: WHOLE_NANO_USD }]);
  });
});

describe("usage that is wrong", () => {
  const FAULTS: readonly (readonly [UsageFault, unknown, "nothing" | "truth" | "untruth", bigint | undefined])[] = [
    ["missing", undefined, "nothing", undefined],
    ["missing_final", undefined, "nothing", undefined],
    ["null", null, "nothing", undefined],
    ["null_fields", expect.objectContaining({ input_tokens: null, output_tokens: 40 }), "truth", WHOLE_NANO_USD],
    ["repeated", expect.objectContaining({ output_tokens: 40 }), "truth", WHOLE_NANO_USD],
    // Half of the output in the last report: 1,000 × $4/M + 20 × $20/M.
    ["falling", expect.objectContaining({ output_tokens: 20 }), "untruth", 4_400_000n],
    ["zero", expect.objectContaining({ input_tokens: 0, output_tokens: 0 }), "untruth", 0n],
    ["negative", expect.objectContaining({ output_tokens: -40 }), "untruth", undefined],
    ["float", expect.objectContaining({ output_tokens: 40.5 }), "untruth", undefined],
    ["string", expect.objectContaining({ output_tokens: "40" }), "untruth", undefined],
    ["huge", expect.objectContaining({ output_tokens: 1e308 }), "untruth", undefined],
  ];

  it.each(FAULTS)("is %s in a stream, and the bill stays what was generated", async (usage, sent, reported, reportedNanoUsd) => {
    const answer = await stream({ kind: "answer", usage, ...SIZES });

    const last = readEvents(answer.body).findLast(({ name }) => name === "message_delta")?.data["usage"];
    expect(last).toEqual(sent);
    expect(simulator.bill.lines).toMatchObject([
      { costNanoUsd: WHOLE_NANO_USD, reported, reportedCostNanoUsd: reportedNanoUsd, reason: "answered" },
    ]);
  });

  it("stands in message_start where only the final report is missing, and nowhere where all of it is", async () => {
    const partly = await stream({ kind: "answer", usage: "missing_final" });
    const wholly = await stream({ kind: "answer", usage: "missing" });

    expect(readEvents(partly.body)[0]?.data["message"]).toHaveProperty("usage");
    expect(wholly.body.toString()).not.toContain("usage");
  });

  it("is reported twice where it is repeated, and falls where it is falling", async () => {
    const toOutputs = (answer: RawAnswer): unknown[] =>
      readEvents(answer.body)
        .filter(({ name }) => name === "message_delta")
        .map(({ data }) => (data["usage"] as { output_tokens: number }).output_tokens);

    expect(toOutputs(await stream({ kind: "answer", usage: "repeated", ...SIZES }))).toEqual([20, 40]);
    expect(toOutputs(await stream({ kind: "answer", usage: "falling", ...SIZES }))).toEqual([40, 20]);
  });

  it.each([
    ["missing", undefined],
    ["zero", expect.objectContaining({ input_tokens: 0, output_tokens: 0 })],
    ["negative", expect.objectContaining({ input_tokens: -1_000 })],
    ["huge", expect.objectContaining({ input_tokens: 1e308 })],
  ] as const)("is %s in a JSON answer", async (usage, sent) => {
    const answer = await create({ kind: "answer", usage, usageField: "input_tokens", ...SIZES });

    const body = JSON.parse(answer.body.toString()) as { usage?: unknown };
    expect(body.usage).toEqual(sent);
    expect(simulator.bill.lines).toMatchObject([{ costNanoUsd: WHOLE_NANO_USD }]);
    expect(simulator.bill.lines[0]?.reportedCostNanoUsd).toBe(usage === "zero" ? 0n : undefined);
  });

  it("is whatever a test makes of it", async () => {
    const editUsage = (usage: Readonly<Record<string, unknown>>) => ({ ...usage, output_tokens: 39 });
    await stream({ kind: "answer", editUsage, ...SIZES });

    // 1,000 × $4/M + 39 × $20/M.
    expect(simulator.bill.lines).toMatchObject([
      { costNanoUsd: WHOLE_NANO_USD, reportedCostNanoUsd: 4_780_000n, reported: "untruth" },
    ]);
  });
});

describe("bytes that travel oddly", () => {
  it("arrive gzipped, event by event, if the request accepts it", async () => {
    const answer = await stream({ kind: "answer", gzip: true, ...SIZES }, { "accept-encoding": "gzip, deflate" });

    expect(answer.head).toContain("content-encoding: gzip");
    expect(readEvents(gunzipSync(answer.body)).at(-1)?.name).toBe("message_stop");
    expect(answer.chunkSizes.length).toBeGreaterThanOrEqual(10);
  });

  it("arrive plain where the request does not accept gzip", async () => {
    const answer = await create({ kind: "answer", gzip: true });

    expect(answer.head).not.toContain("content-encoding");
    expect(JSON.parse(answer.body.toString())).toMatchObject({ type: "message" });
  });

  it("arrive one by one", async () => {
    const answer = await stream({ kind: "answer", chunkBytes: 1, ...SIZES });

    expect(new Set(answer.chunkSizes)).toEqual(new Set([1]));
    expect(names(answer).at(-1)).toBe("message_stop");
  });

  it("arrive with CR LF line ends", async () => {
    const answer = await stream({ kind: "answer", crlf: true, ...SIZES });

    expect(answer.body.toString().replaceAll("\r\n", "")).not.toMatch(/[\r\n]/);
    expect(names(answer).at(-1)).toBe("message_stop");
  });

  it("arrive split inside every character that has several bytes", async () => {
    const answer = await stream({ kind: "answer", splitCharacters: true, outputTokens: 60, deltas: 1 });

    let offset = 0;
    const cutInside = answer.chunkSizes.filter((size) => {
      offset += size;
      const next = answer.body[offset] ?? 0;
      return next >= 0x80 && next < 0xc0;
    });
    expect(cutInside.length).toBeGreaterThan(0);
    expect(names(answer).at(-1)).toBe("message_stop");
  });

  it("arrive as Latin-1, which is no UTF-8", async () => {
    const text = "café 帳簿";
    const answer = await stream({ kind: "answer", latin1: true, deltas: 1, content: [{ type: "text", text }] });

    expect(answer.body.includes(Buffer.from([0x66, 0xe9, 0x20]))).toBe(true);
    expect(() => new TextDecoder("utf-8", { fatal: true }).decode(answer.body)).toThrow("encoded data");
    expect(answer.body.toString("latin1")).toContain("\\u5e33");
  });

  it("arrive in a data line of several megabytes", async () => {
    const answer = await stream({ kind: "answer", textBytes: 3_000_000, deltas: 1, outputTokens: 40 });

    expect(
      Math.max(
        ...answer.body
          .toString()
          .split("\n")
          .map((line) => Buffer.byteLength(line)),
      ),
    ).toBeGreaterThan(3_000_000);
    expect(names(answer).at(-1)).toBe("message_stop");
  });

  it("arrive under a wrong content type", async () => {
    const answer = await stream({ kind: "answer", contentType: "text/html" });

    expect(answer.head).toContain("content-type: text/html\r\n");
  });

  it("arrive after informational responses", async () => {
    const answer = await create({ kind: "answer", informational: [100, 102, 103] });

    expect(answer.text).toMatch(/^HTTP\/1.1 100 Continue\r\n\r\nHTTP\/1.1 102 Processing\r\n\r\nHTTP\/1.1 103 Early Hints\r\n/);
    expect(JSON.parse(answer.body.toString())).toMatchObject({ type: "message" });
  });

  it("are no JSON under a 200", async () => {
    const answer = await create({ kind: "malformed_json", ...SIZES });

    expect(answer).toMatchObject({ isComplete: true });
    expect(() => JSON.parse(answer.body.toString()) as unknown).toThrow("JSON");
    expect(simulator.bill.lines).toMatchObject([{ reported: "nothing", costNanoUsd: WHOLE_NANO_USD }]);
  });

  it("hold one event that is no JSON, in a stream that goes on", async () => {
    const answer = await stream({ kind: "malformed_json", ...SIZES });

    expect(() => readEvents(answer.body)).toThrow("JSON");
    expect(answer.body.toString()).toContain("message_stop");
  });
});

describe("the queue of behaviours", () => {
  it("gives each request the first that matches it, and then what always holds", async () => {
    simulator.next({ kind: "status", status: 500 }, ({ pathname }) => pathname === "/v1/models");
    simulator.next({ kind: "status", status: 529 });
    simulator.always(({ headers }) => (headers["x-test"] === "busy" ? { kind: "status", status: 429 } : undefined));

    const statuses: (number | undefined)[] = [];
    for (const request of [{}, {}, { headers: { "x-test": "busy" } }, { method: "GET", path: "/v1/models" }]) {
      await ask(simulator, request);
      statuses.push(simulator.requests.at(-1)?.status);
    }

    expect(statuses).toEqual([529, 200, 429, 500]);
  });

  it("yields to a behaviour in a request header", async () => {
    simulator.next({ kind: "status", status: 500 });

    await ask(simulator, { headers: { "x-simulator-behaviour": '{"kind":"status","status":403}' } });
    await ask(simulator);

    expect(simulator.requests.map(({ status }) => status)).toEqual([403, 500]);
  });

  it("says what is wrong with a behaviour it does not know", async () => {
    const answer = await ask(simulator, { headers: { "x-simulator-behaviour": '{"kind":"explode"}' } });

    expect(answer.text).toContain('behaviour kind \\"explode\\" is none of answer, status');
    expect(() => simulator.next({ kind: "explode" } as unknown as Behaviour)).toThrow("is none of");
  });
});
