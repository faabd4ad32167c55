import { describe, expect, test } from "vitest";
import { BODY_BYTES_MAX } from "../json/body-meter.ts";
import { openMeter } from "./meter.ts";
import type { MeterReading } from "../provider.ts";

const encoder = new TextEncoder();
const MESSAGE = {
  id: "msg_1",
  type: "message",
  model: "claude-opus-5-5",
  content: [{ type: "text", text: "Grüße 🙂" }],
  stop_reason: "end_turn",
  usage: { input_tokens: 100, output_tokens: 50, cache_creation_input_tokens: 8 },
};
const NOTHING = { usage: undefined, isFinal: false, model: undefined, stopReason: undefined, error: undefined };

function readBody(body: Uint8Array | string, chunkBytes = 1_000, contentType = "application/json"): MeterReading {
  const bytes = typeof body === "string" ? encoder.encode(body) : body;
  const meter = openMeter({ contentType, requestedModel: "claude-opus-5", cacheWrites: "5m" });
  for (let at = 0; at < bytes.length; at += chunkBytes) {
    const chunk = bytes.slice(at, at + chunkBytes);
    meter.push(chunk);
    // The chunk goes back to whoever forwards it.
    chunk.fill(0);
  }
  meter.end();
  return meter.reading();
}

describe("reading a JSON answer", () => {
  test.each([1, 7, 1_000])("reads usage, model and stop reason at the end, in chunks of %d bytes", (chunkBytes) => {
    expect(readBody(JSON.stringify(MESSAGE), chunkBytes)).toMatchObject({
      isFinal: true,
      model: "claude-opus-5-5",
      stopReason: "end_turn",
      error: undefined,
      usage: {
        samplings: [{ model: "claude-opus-5-5", tokens: { uncachedInputTokens: 100, cacheWrite5mTokens: 8, outputTokens: 50 } }],
        flags: [],
      },
    });
  });

  test("knows nothing before the end", () => {
    const meter = openMeter({ contentType: "application/json", requestedModel: "claude-opus-5" });
    meter.push(encoder.encode(JSON.stringify(MESSAGE)));
    expect(meter.reading()).toEqual(NOTHING);
  });

  test.each<[string, string]>([
    ["is cut", JSON.stringify(MESSAGE).slice(0, -1)],
    ["is no JSON", "<html>502</html>"],
    ["is empty", ""],
    ["is a list", "[]"],
  ])("knows nothing of a body that %s", (_, body) => {
    expect(readBody(body)).toEqual(NOTHING);
  });

  test("is not final without usage, as a token count or a list of models is", () => {
    expect(readBody('{"input_tokens":12}')).toEqual(NOTHING);
    expect(readBody(JSON.stringify({ ...MESSAGE, usage: null }))).toMatchObject({ usage: undefined, isFinal: false });
  });

  test.each<[string, unknown]>([
    ["has no output", { input_tokens: 5 }],
    ["has no input", { output_tokens: 5, input_tokens: null }],
    ["is empty", {}],
    ["has a negative figure", { input_tokens: 5, output_tokens: -5 }],
    ["has a broken cache figure", { input_tokens: 5, output_tokens: 5, cache_read_input_tokens: "9" }],
  ])("is not final, and says so, where usage %s", (_, usage) => {
    expect(readBody(JSON.stringify({ ...MESSAGE, usage }))).toMatchObject({
      isFinal: false,
      usage: { flags: ["malformed_usage"] },
    });
  });

  test("tells the error of an error answer", () => {
    const body = { type: "error", error: { type: "rate_limit_error", message: "slow down" }, request_id: "req_1" };
    expect(readBody(JSON.stringify(body))).toEqual({ ...NOTHING, error: { type: "rate_limit_error", message: "slow down" } });
  });

  test("names the requested model where the answer names none", () => {
    const { model: _, ...unnamed } = MESSAGE;
    expect(readBody(JSON.stringify(unnamed))).toMatchObject({
      model: undefined,
      usage: { samplings: [{ model: "claude-opus-5" }] },
    });
  });

  test("drops a body above the bound and says nothing of its usage", () => {
    const body = new Uint8Array(BODY_BYTES_MAX + 1).fill(0x20);
    body.set(encoder.encode(JSON.stringify(MESSAGE)));
    expect(readBody(body, 1_048_576)).toEqual(NOTHING);
    expect(readBody(body.subarray(0, BODY_BYTES_MAX), 1_048_576).isFinal).toBe(true);
  });
});

describe("choosing how to read", () => {
  const stream =
    'event: message_start\ndata: {"type":"message_start","message":{"id":"m","model":"claude-opus-5-5","usage":{"input_tokens":1}}}\n\n';

  test.each(["text/event-stream", "text/event-stream; charset=utf-8", "TEXT/Event-Stream;charset=utf-8"])(
    "reads %s as a stream",
    (contentType) => {
      expect(readBody(stream, 10, contentType).usage?.samplings).toHaveLength(1);
    },
  );

  test.each(["application/json", "", "text/event-streams"])("reads %j as one body", (contentType) => {
    expect(readBody(stream, 10, contentType)).toEqual(NOTHING);
  });
});
