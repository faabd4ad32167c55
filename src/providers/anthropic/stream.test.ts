import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { NO_TOKENS, type TokenParts } from "../../core/usage/usage.ts";
import type { MeterReading } from "../provider.ts";
import { AnthropicStreamMeter, type StreamMeterInput } from "./stream.ts";

const encoder = new TextEncoder();
const MODEL = "claude-opus-5-5";

const START_USAGE = {
  input_tokens: 1_000,
  cache_creation_input_tokens: 300,
  cache_read_input_tokens: 2_000,
  cache_creation: { ephemeral_5m_input_tokens: 100, ephemeral_1h_input_tokens: 200 },
  output_tokens: 3,
  service_tier: "standard",
  inference_geo: "us",
  speed: "fast",
};
type Event = Record<string, unknown> & { type: string };

const start = (usage: unknown = START_USAGE, id = "msg_1", model = MODEL): Event => ({
  type: "message_start",
  message: { id, type: "message", role: "assistant", model, content: [], stop_reason: null, usage },
});
const delta = (usage: unknown, stopReason: string | null = "end_turn"): Event => ({
  type: "message_delta",
  delta: { stop_reason: stopReason, stop_sequence: null },
  usage,
});
const text = (words: string): Event => ({ type: "content_block_delta", index: 0, delta: { type: "text_delta", text: words } });
const stop: Event = { type: "message_stop" };
const ping: Event = { type: "ping" };

const write = (events: readonly Event[]): string =>
  events.map((event) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`).join("");

function readText(stream: string, input: Partial<StreamMeterInput> = {}): MeterReading {
  const meter = new AnthropicStreamMeter({ requestedModel: MODEL, ...input });
  meter.push(encoder.encode(stream));
  meter.end();
  return meter.reading();
}
const readEvents = (...events: Event[]): MeterReading => readText(write(events));
const tokensOf = (reading: MeterReading): TokenParts | undefined => reading.usage?.samplings[0]?.tokens;

describe("reading along with a stream", () => {
  test("takes the input from the start, the output from the last report, and ends with message_stop", () => {
    const reading = readEvents(
      start(),
      ping,
      text("Hello"),
      delta({ output_tokens: 10 }, null),
      delta({ output_tokens: 42 }),
      stop,
    );
    expect(reading).toEqual({
      usage: {
        samplings: [
          {
            kind: "message",
            model: MODEL,
            tokens: {
              uncachedInputTokens: 1_000,
              cacheReadTokens: 2_000,
              cacheWrite5mTokens: 100,
              cacheWrite1hTokens: 200,
              outputTokens: 42,
              reasoningOutputTokens: 0,
            },
          },
        ],
        webSearchRequests: 0,
        serviceTier: "standard",
        speed: "fast",
        isUsOnly: true,
        flags: [],
      },
      isFinal: true,
      model: MODEL,
      stopReason: "end_turn",
      error: undefined,
    });
  });

  test("says nothing before the first report, and the input side after it", () => {
    const meter = new AnthropicStreamMeter({ requestedModel: MODEL });
    expect(meter.reading()).toEqual({
      usage: undefined,
      isFinal: false,
      model: undefined,
      stopReason: undefined,
      error: undefined,
    });
    meter.push(encoder.encode(write([start()])));
    expect(meter.reading()).toMatchObject({
      isFinal: false,
      model: MODEL,
      usage: { samplings: [{ tokens: { uncachedInputTokens: 1_000 } }] },
    });
    meter.push(encoder.encode(write([text("Hi"), delta({ output_tokens: 7 })])));
    expect(meter.reading()).toMatchObject({ isFinal: false, usage: { samplings: [{ tokens: { outputTokens: 7 } }] } });
    meter.push(encoder.encode(write([stop])));
    expect(meter.reading().isFinal).toBe(true);
  });

  test("overwrites what is reported again and keeps what is null", () => {
    const later = { output_tokens: 42, input_tokens: 1_500, cache_read_input_tokens: null, cache_creation_input_tokens: null };
    expect(tokensOf(readEvents(start(), delta(later), stop))).toMatchObject({
      uncachedInputTokens: 1_500,
      cacheReadTokens: 2_000,
    });
  });

  test("replaces the placeholder output of the start even by zero", () => {
    const reading = readEvents(start(), delta({ output_tokens: 0 }), stop);
    expect(tokensOf(reading)?.outputTokens).toBe(0);
    expect(reading.usage?.flags).toEqual([]);
  });

  test("puts growth of cache writes beyond the start's split at the dearer lifetime in use", () => {
    const reading = readEvents(start(), delta({ output_tokens: 5, cache_creation_input_tokens: 900 }), stop);
    expect(tokensOf(reading)).toMatchObject({ cacheWrite5mTokens: 100, cacheWrite1hTokens: 800 });
    expect(reading.usage?.flags).toEqual(["cache_ttl_unknown"]);
  });

  test("takes growth for 5-minute writes where the request can cause no others", () => {
    const stream = write([
      start({ input_tokens: 1, output_tokens: 1 }),
      delta({ output_tokens: 5, cache_creation_input_tokens: 900 }),
      stop,
    ]);
    const reading = readText(stream, { cacheWrites: "5m" });
    expect(tokensOf(reading)).toMatchObject({ cacheWrite5mTokens: 900 });
    expect(reading.usage?.flags).toEqual([]);
  });

  test("counts searches cumulatively", () => {
    const events = [1, 1, 3].map((count) => delta({ output_tokens: 5, server_tool_use: { web_search_requests: count } }, null));
    expect(readEvents(start(), ...events, stop).usage?.webSearchRequests).toBe(3);
  });
});

describe("reports that contradict each other", () => {
  test("keep the higher value and a flag where a figure falls", () => {
    const reading = readEvents(start(), delta({ output_tokens: 50 }), delta({ output_tokens: 20, input_tokens: 10 }), stop);
    expect(tokensOf(reading)).toMatchObject({ outputTokens: 50, uncachedInputTokens: 1_000 });
    expect(reading.usage?.flags).toEqual(["usage_fell"]);
  });

  test("take the lower value where the iterations account for the higher", () => {
    const iterations = [
      { type: "compaction", input_tokens: 55_196, output_tokens: 125 },
      { type: "message", input_tokens: 220, output_tokens: 8 },
    ];
    const reading = readEvents(
      start({ input_tokens: 55_300, output_tokens: 1 }),
      delta({ output_tokens: 8, input_tokens: 220, iterations }),
      stop,
    );
    expect(reading.usage).toMatchObject({
      samplings: [
        { kind: "compaction", tokens: { uncachedInputTokens: 55_196, outputTokens: 125 } },
        { kind: "message", tokens: { uncachedInputTokens: 220, outputTokens: 8 } },
      ],
      flags: [],
    });
  });

  test("keep the earlier value where a later one is malformed", () => {
    const reading = readEvents(start(), delta({ output_tokens: 50 }), delta({ output_tokens: -1 }), stop);
    expect(tokensOf(reading)?.outputTokens).toBe(50);
    expect(reading.usage?.flags).toEqual(["malformed_usage"]);
  });

  test("count a repeated start once", () => {
    const reading = readEvents(start(), start(), delta({ output_tokens: 42 }), start(), stop);
    expect(reading.usage?.samplings).toHaveLength(1);
    expect(tokensOf(reading)).toMatchObject({ uncachedInputTokens: 1_000, outputTokens: 42 });
    expect(reading).toMatchObject({ isFinal: true, usage: { flags: [] } });
  });

  test("count a second message beside the first, flagged", () => {
    const reading = readEvents(
      start(),
      text("Hel"),
      start({ input_tokens: 17, output_tokens: 1 }, "msg_2"),
      delta({ output_tokens: 65 }),
      stop,
    );
    expect(reading.usage).toMatchObject({
      samplings: [
        { tokens: { uncachedInputTokens: 1_000, outputTokens: 3 } },
        { tokens: { uncachedInputTokens: 17, outputTokens: 65 } },
      ],
      flags: ["message_restarted"],
    });
  });
});

describe("the end of a stream", () => {
  test.each<[string, Event[]]>([
    ["message_stop is missing", [start(), delta({ output_tokens: 42 })]],
    ["no report came after the start", [start(), stop]],
    ["the last report has no output", [start(), delta({ input_tokens: 5 }), stop]],
    ["the output is malformed", [start(), delta({ output_tokens: "42" }), stop]],
    ["the report is missing altogether", [start(), { type: "message_delta", delta: {} }, stop]],
    [
      "an error came",
      [start(), delta({ output_tokens: 42 }), { type: "error", error: { type: "api_error", message: "" } }, stop],
    ],
  ])("is not final where %s", (_, events) => {
    expect(readEvents(...events).isFinal).toBe(false);
  });

  test("is not final where a report was unreadable", () => {
    const stream = `${write([start()])}event: message_delta\ndata: {"type":"message_delta","usage":{"output_tokens":4\n\n${write([delta({ output_tokens: 4 }), stop])}`;
    expect(readText(stream).isFinal).toBe(false);
  });

  test.each<[string, Event[]]>([
    ["the report that came with the stop reason", [start(), { type: "message_delta", delta: { stop_reason: "end_turn" } }, stop]],
    ["its output", [start(), delta({ input_tokens: 1_000, output_tokens: null }), stop]],
    ["the input", [start({ output_tokens: 1 }), delta({ output_tokens: 42 }), stop]],
  ])("says that the bill is not known where %s is missing", (_, events) => {
    const reading = readEvents(...events);
    expect(reading).toMatchObject({ isFinal: false, stopReason: "end_turn", usage: { flags: ["malformed_usage"] } });
  });

  test("stays final after what is no event of the provider's", () => {
    expect(readText(`${write([start(), delta({ output_tokens: 4 }), stop])}data: [DONE]\n\n`).isFinal).toBe(true);
  });

  test("reads a last report that lacks only its blank line", () => {
    const reading = readText(write([start(), delta({ output_tokens: 42 })]).slice(0, -2));
    expect(tokensOf(reading)?.outputTokens).toBe(42);
  });

  test("ignores a last report that is cut inside", () => {
    const reading = readText(write([start(), delta({ output_tokens: 42 })]).slice(0, -6));
    expect(reading).toMatchObject({ isFinal: false, usage: { samplings: [{ tokens: { outputTokens: 3 } }] } });
  });

  test("tells the error a stream ended with", () => {
    const error = { type: "overloaded_error", message: "Overloaded" };
    expect(readEvents(start(), { type: "error", error }).error).toEqual(error);
    expect(readEvents(start(), { type: "error" }).error).toEqual({ type: "unknown", message: "" });
  });
});

describe("the model that answered", () => {
  test("is the one a server-side fallback ended with", () => {
    const iterations = [
      { type: "message", model: "claude-fable-5", input_tokens: 408, output_tokens: 0 },
      { type: "fallback_message", model: "claude-opus-4-8", input_tokens: 412, output_tokens: 264 },
    ];
    const reading = readEvents(
      start({ input_tokens: 408, output_tokens: 1 }, "msg_1", "claude-fable-5"),
      delta({ input_tokens: 412, output_tokens: 264, iterations }),
      stop,
    );
    expect(reading.model).toBe("claude-opus-4-8");
    expect(reading.usage?.samplings).toEqual([
      { kind: "fallback", model: "claude-opus-4-8", tokens: { ...NO_TOKENS, uncachedInputTokens: 412, outputTokens: 264 } },
    ]);
  });

  test("is the requested one for pricing where the start names none", () => {
    const reading = readEvents(
      { type: "message_start", message: { usage: { input_tokens: 5 } } },
      delta({ output_tokens: 1 }),
      stop,
    );
    expect(reading).toMatchObject({ model: undefined, usage: { samplings: [{ model: MODEL }] } });
  });
});

describe("streams written otherwise", () => {
  const events = [start(), text("Hi"), delta({ output_tokens: 42 }), stop];
  const expected = readEvents(...events);

  test.each<[string, string]>([
    ["without event lines", events.map((event) => `data: ${JSON.stringify(event)}\n\n`).join("")],
    ["without a space behind the colon", write(events).replaceAll("data: ", "data:")],
    ["with carriage returns", write(events).replaceAll("\n", "\r")],
    [
      "with comments and unknown events",
      `: hi\n\nevent: news\ndata: {"type":"news","usage":{"output_tokens":9}}\n\n${write(events)}`,
    ],
    [
      "with type as the last key",
      events
        .map((event) => {
          const { type, ...rest } = event;
          return `event: ${type}\ndata: ${JSON.stringify({ ...rest, type })}\n\n`;
        })
        .join(""),
    ],
    [
      "with type last and no event line",
      events
        .map((event) => {
          const { type, ...rest } = event;
          return `data: ${JSON.stringify({ ...rest, type })}\n\n`;
        })
        .join(""),
    ],
    [
      "indented over several data lines",
      events.map((event) => `data: ${JSON.stringify(event, null, 1).replaceAll("\n", "\ndata: ")}\n\n`).join(""),
    ],
  ])("read the same %s", (_, stream) => {
    expect(readText(stream)).toEqual(expected);
  });

  test("read the same however they are cut", () => {
    const bytes = encoder.encode(
      write([
        start(),
        ping,
        text("Grüße 🙂"),
        delta({ output_tokens: 7 }, null),
        text("日本"),
        delta({ output_tokens: 42 }),
        stop,
      ]),
    );
    fc.assert(
      fc.property(fc.array(fc.nat({ max: bytes.length }), { maxLength: 40 }), (places) => {
        const meter = new AnthropicStreamMeter({ requestedModel: MODEL });
        const sorted = [0, ...places.toSorted((left, right) => left - right), bytes.length];
        for (let index = 1; index < sorted.length; index += 1) meter.push(bytes.slice(sorted[index - 1], sorted[index]));
        expect(meter.reading()).toEqual(expected);
      }),
    );
  });

  test("do not fill memory, however long an event is", () => {
    const meter = new AnthropicStreamMeter({ requestedModel: MODEL });
    meter.push(encoder.encode(`${write([start()])}event: content_block_start\ndata: {"type":"content_block_start","x":"`));
    const chunk = new Uint8Array(65_536).fill(0x61);
    const before = process.memoryUsage();
    for (let count = 0; count < 2_000; count += 1) meter.push(chunk);
    const grown = process.memoryUsage().arrayBuffers - before.arrayBuffers;
    meter.push(encoder.encode(`"}\n\n${write([delta({ output_tokens: 42 }), stop])}`));
    expect(meter.reading()).toEqual(expected);
    // 131 MB went through.
    expect(grown).toBeLessThan(1_000_000);
  });

  test("are not final after a report too long to be one", () => {
    const long = `event: message_delta\ndata: {"type":"message_delta","x":"${"a".repeat(1_100_000)}"}\n\n`;
    expect(readText(`${write([start(), delta({ output_tokens: 42 })])}${long}${write([stop])}`).isFinal).toBe(false);
  });
});
