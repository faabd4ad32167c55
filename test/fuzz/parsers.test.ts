/**
 * Goal: whatever bytes or words reach a reader, it ends, soon, in an answer; and where somebody else wrote such a reader, in the same one.
 * Method: good inputs broken at random, by a generator that costs less than what it tests. The readers' own tests hold what they read.
 */
import { createParser } from "eventsource-parser";
import { expect, test } from "vitest";
import { parseLengthMs, parseShareBps } from "../../src/config/fields.ts";
import { readConfig } from "../../src/config/config.ts";
import { parsePriceRows } from "../../src/core/pricing/rows.ts";
import { buildPriceBook } from "../../src/core/pricing/price-book.ts";
import { windowAt } from "../../src/core/windows/windows.ts";
import { anthropic } from "../../src/providers/anthropic/anthropic.ts";
import { openaiChat, openaiEmbeddings, openaiResponses } from "../../src/providers/openai/openai.ts";
import { SseReader } from "../../src/providers/sse.ts";
import prices from "../../prices/anthropic.json" with { type: "json" };
import { createRandom, type Random } from "../simulation/random.ts";

const isLong = process.env["PURSER_LONG"] === "1";
const seed = Number(process.env["PURSER_SEED"] ?? 1);
/** In the long run ten million for every target, as far as its reader's pace makes that hours and not days. */
const TIMES = isLong ? 100 : 1;
/** No single input may take longer. One that does is tried again: the machine may have been busy with something else. */
const INPUT_MS_MAX = 50;

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

interface Target<Input> {
  inputs: number;
  make: (random: Random) => Input;
  read: (input: Input) => void;
}

/** @throws with the seed of the input that broke it, so that it can be made again. @returns how many were tried. */
function attack<Input>(name: string, { inputs, make, read }: Target<Input>): number {
  const count = inputs * TIMES;
  for (let index = 0; index < count; index += 1) {
    const input = make(createRandom(seed + index).fork(name));
    let tookMs = Infinity;
    for (let tries = 0; tries < 4 && tookMs > INPUT_MS_MAX; tries += 1) {
      const startedMs = performance.now();
      try {
        read(input);
      } catch (error) {
        throw new Error(`${name}, seed ${seed + index}: ${JSON.stringify(input).slice(0, 2_000)}`, { cause: error });
      }
      tookMs = performance.now() - startedMs;
    }
    if (tookMs > INPUT_MS_MAX) throw new Error(`${name}, seed ${seed + index}: ${tookMs} ms`);
  }
  return count;
}

/** Some bytes changed, some parts cut out, doubled or moved. */
function broken(bytes: Uint8Array, random: Random): Uint8Array {
  let result = bytes.slice();
  for (let changes = random.int(1, 4); changes > 0; changes -= 1) {
    const at = random.int(0, Math.max(0, result.length - 1));
    const end = Math.min(result.length, at + random.int(1, 20));
    const part = result.subarray(at, end);
    switch (random.int(0, 3)) {
      case 0:
        result[at] = random.int(0, 255);
        break;
      case 1:
        result = Uint8Array.from([...result.subarray(0, at), ...result.subarray(end)]);
        break;
      case 2:
        result = Uint8Array.from([...result.subarray(0, end), ...part, ...result.subarray(end)]);
        break;
      default:
        result = Uint8Array.from([...part, ...result]);
    }
  }
  return result;
}

function brokenText(text: string, random: Random): string {
  return decoder.decode(broken(encoder.encode(text), random));
}

const REQUESTS = [
  { model: "claude-opus-5-5", max_tokens: 1_000, messages: [{ role: "user", content: "Hello." }], stream: true },
  {
    model: "claude-sonnet-5-5",
    max_tokens: 64,
    system: [{ type: "text", text: "Be kind.", cache_control: { type: "ephemeral", ttl: "1h" } }],
    thinking: { type: "enabled", budget_tokens: 2_000 },
    tools: [
      { name: "f", input_schema: { type: "object" } },
      { type: "web_search_20250305", name: "web_search", max_uses: 3 },
    ],
    messages: [
      { role: "user", content: [{ type: "image", source: { type: "base64", media_type: "image/png", data: "AAAA" } }] },
      { role: "assistant", content: [{ type: "tool_use", id: "t", name: "f", input: { "é😀": ["\\", null, 1e3] } }] },
      { role: "user", content: [{ type: "tool_result", tool_use_id: "t", content: "ok" }] },
    ],
    metadata: { user_id: "u" },
  },
].map((body) => encoder.encode(JSON.stringify(body)));

test("requests: refused with a sentence, or read as JSON.parse reads them", { timeout: 3_600_000 }, () => {
  let readCount = 0;
  attack("request", {
    inputs: 25_000,
    make: (random) => broken(random.pick(REQUESTS as [Uint8Array, ...Uint8Array[]]), random),
    read(bytes) {
      const result = anthropic.readRequest(bytes);
      if (result.outcome === "refused") return expect(result.refusal.message.length).toBeLessThan(1_000);
      readCount += 1;
      const json = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes)) as { model: string };
      return expect(result.facts.model).toBe(json.model);
    },
  });

  expect(readCount).toBeGreaterThan(1_000);
});

const OPENAI_REQUESTS = [
  {
    model: "gpt-6.2-sol",
    max_completion_tokens: 1_000,
    n: 2,
    stream: true,
    stream_options: { include_usage: false },
    messages: [
      { role: "user", content: [{ type: "image_url", image_url: { url: "data:image/png;base64,AAAA" } }] },
      { role: "assistant", tool_calls: [{ id: "c", type: "function", function: { name: "f", arguments: "{}" } }] },
      { role: "tool", tool_call_id: "c", content: "é😀" },
    ],
  },
  {
    model: "gpt-6.2-sol",
    input: [
      { role: "user", content: [{ type: "input_text", text: "Hi" }] },
      { type: "reasoning", encrypted_content: "x" },
    ],
    tools: [{ type: "web_search" }, { type: "function", name: "f", parameters: { type: "object" } }],
    max_tool_calls: 3,
    service_tier: "flex",
    reasoning: { effort: "low", mode: "standard" },
  },
  { model: "text-embedding-3-small", input: [[1, 2], "a"], dimensions: 8 },
].map((body) => encoder.encode(JSON.stringify(body)));

test.each(Object.entries({ openaiChat, openaiResponses, openaiEmbeddings }))(
  "requests of OpenAI: refused with a sentence, or read and sent as JSON again: %s",
  { timeout: 3_600_000 },
  (name, api) => {
    let readCount = 0;
    attack(name, {
      inputs: 5_000,
      make: (random) => broken(random.pick(OPENAI_REQUESTS as [Uint8Array, ...Uint8Array[]]), random),
      read(bytes) {
        const result = api.readRequest(bytes);
        if (result.outcome === "refused") return expect(result.refusal.message.length).toBeLessThan(1_000);
        readCount += 1;
        const sent = api.editRequest(bytes, result.facts, { model: "other", maxTokens: 7 });
        const json = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(sent)) as { model: string };
        return expect(json.model).toBe("other");
      },
    });

    expect(readCount).toBeGreaterThan(100);
  },
);

const EVENTS = [
  "event: message_start\n",
  'data: {"a":1}\n',
  "data:x\n",
  "data\n",
  ": note\n",
  "id: 7\n",
  "\n",
  "\r\n",
  "\r",
  "retry: 5\n",
  "event:\n",
  "data: é😀\n",
  "\ufeff",
];

interface Read {
  name: string | undefined;
  data: string;
}

function readByUs(chunks: readonly Uint8Array[]): Read[] {
  const events: Read[] = [];
  const reader = new SseReader({
    skipEvents: [],
    skipLines: [],
    wants: () => true,
    dataBytesMax: 1_000_000,
    onEvent: ({ name, data = new Uint8Array(), isWhole }) => {
      if (isWhole) events.push({ name, data: decoder.decode(data) });
    },
  });
  for (const chunk of chunks) reader.push(chunk);
  reader.end();
  return events;
}

function readByOthers(text: string): Read[] {
  const events: Read[] = [];
  // Ours keeps a name as its bytes: the names that matter have no others than letters.
  const nameOf = (event: string | undefined): string | undefined =>
    event === undefined ? undefined : Buffer.from(event).toString("latin1");
  const parser = createParser({ onEvent: ({ event, data }) => events.push({ name: nameOf(event), data }) });
  parser.feed(text);
  return events;
}

test("streams: the same events as another reader finds, wherever they are cut", { timeout: 3_600_000 }, () => {
  let eventCount = 0;
  attack("stream", {
    inputs: 30_000,
    make(random) {
      const lines = Array.from({ length: random.int(1, 12) }, () => random.pick(EVENTS as [string, ...string[]])).join("");
      const text = random.chance(0.5) ? lines : brokenText(lines, random);
      const bytes = encoder.encode(text);
      const at = random.int(0, bytes.length);
      return { text: decoder.decode(bytes), chunks: [bytes.slice(0, at), bytes.slice(at)] };
    },
    read({ text, chunks }) {
      const found = readByUs(chunks);
      eventCount += found.length;
      // What follows the last line end is no line yet, for the other reader either.
      expect(found).toEqual(readByOthers(text));
    },
  });

  expect(eventCount).toBeGreaterThan(10_000);
});

const BOOK = buildPriceBook(parsePriceRows(prices));
const MODELS = [...new Set(prices.rows.map(({ model }) => model))] as [string, ...string[]];

test("model names: priced only as what is listed, or as a spelling of it", { timeout: 3_600_000 }, () => {
  const known = new Set(MODELS);
  let pricedCount = 0;
  attack("model name", {
    inputs: 30_000,
    make(random) {
      const name = random.pick(MODELS);
      const dressed = random.pick([name, `${name}-20251001`, `us.anthropic.${name}-v1:0`, `${name}@20251001`, `${name}[1m]`]);
      return random.chance(0.2) ? dressed : brokenText(dressed, random);
    },
    read(name) {
      const row = BOOK.find("anthropic", name, Date.UTC(2026, 10, 25));
      if (row === undefined) return;
      pricedCount += 1;
      // A dated model has its undated name as well.
      expect([known.has(row.model), name.includes(row.model.replace(/-\d{8}$/, ""))]).toEqual([true, true]);
    },
  });

  expect(pricedCount).toBeGreaterThan(1_000);
});

test("addresses of providers: refused, or a bare http or https address", { timeout: 3_600_000 }, () => {
  const good = [
    "https://api.anthropic.com",
    "http://127.0.0.1:8080",
    "https://[::1]:1",
    "https://u:p@x.test/v1?a#b",
    "HTTPS://ÄÖ.test",
  ];
  let readCount = 0;
  attack("address", {
    inputs: 1_500,
    make: (random) =>
      random.chance(0.2)
        ? random.pick(good as [string, ...string[]])
        : brokenText(random.pick(good as [string, ...string[]]), random),
    read(url) {
      const result = readConfig({ text: undefined, fileName: "purser.yaml", env: { PURSER_ANTHROPIC_URL: url } });
      if (result.outcome === "invalid") return;
      readCount += 1;
      const { protocol, username, password, pathname, search, hash } = new URL(result.config.upstreams.anthropic);
      expect([["http:", "https:"].includes(protocol), username + password + search + hash]).toEqual([true, ""]);
      expect(pathname.includes("..")).toBe(false);
    },
  });

  expect(readCount).toBeGreaterThan(100);
});

test("lengths, shares and instants: no number, or one that is what was written", { timeout: 3_600_000 }, () => {
  const good = ["5h", "1_000ms", "30s", "2w", "100%", "12.5%", "1m"];
  const lengths = attack("length", {
    inputs: 15_000,
    make: (random) =>
      random.chance(0.2)
        ? random.pick(good as [string, ...string[]])
        : brokenText(random.pick(good as [string, ...string[]]), random),
    read(text) {
      const lengthMs = parseLengthMs(text);
      if (lengthMs !== undefined) expect(lengthMs).toBeGreaterThanOrEqual(0);
      const shareBps = parseShareBps(text);
      if (shareBps !== undefined) expect(shareBps).toBeGreaterThanOrEqual(0n);
    },
  });
  const zones = ["UTC", "Asia/Kolkata", "Australia/Lord_Howe", "America/New_York"] as const;
  const units = ["hour", "day", "week", "month"] as const;
  const windows = attack("window", {
    inputs: 1_500,
    make: (random) => ({
      window: {
        kind: "calendar" as const,
        unit: random.pick(units),
        timeZone: random.pick(zones),
        weekStart: random.pick([1, 7] as const),
        monthDay: random.int(1, 28),
      },
      atMs: random.int(0, 4_000_000_000_000),
    }),
    read({ window, atMs }) {
      const { startMs, endMs } = windowAt(window, atMs);
      expect(startMs <= atMs && atMs < endMs).toBe(true);
    },
  });

  expect(lengths + windows).toBeGreaterThan(15_000);
});
