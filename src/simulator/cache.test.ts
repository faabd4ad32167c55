import * as fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { PromptCache } from "./cache.ts";
import { findModel, type Model } from "./models.ts";
import type { CacheTtl, PromptBlock } from "./prompt.ts";
import { ask, question, type RawRequest } from "./raw.fixture.ts";
import { startSimulator, type Simulator } from "./simulator.ts";

const START = Date.parse("2026-11-22T12:00:00Z");
const FIVE_MINUTES_MS = 300_000;
const HOUR_MS = 3_600_000;

let nowMs: number;
let simulator: Simulator;
beforeEach(async () => {
  nowMs = START;
  simulator = await startSimulator({ now: () => nowMs, outputTokens: () => 1 });
});
afterEach(() => simulator.close());

/** Text of exactly that many tokens, different for every letter. */
function words(tokens: number, letter = "a"): string {
  return letter.repeat(tokens * 4);
}

function mark(ttl: CacheTtl = "5m"): Record<string, unknown> {
  return { cache_control: { type: "ephemeral", ttl } };
}

function text(tokens: number, letter: string, more: Record<string, unknown> = {}): Record<string, unknown> {
  return { type: "text", text: words(tokens, letter), ...more };
}

interface Split {
  readonly input: number;
  readonly read: number;
  readonly write5m: number;
  readonly write1h: number;
}

async function send(more: Record<string, unknown>, request: RawRequest = {}): Promise<Split> {
  const answer = await ask(simulator, { ...request, body: question(more) });
  const { usage } = JSON.parse(answer.body.toString()) as { usage: Record<string, unknown> };
  const writes = usage["cache_creation"] as Record<string, number>;
  const split = {
    input: Number(usage["input_tokens"]),
    read: Number(usage["cache_read_input_tokens"]),
    write5m: writes["ephemeral_5m_input_tokens"] ?? -1,
    write1h: writes["ephemeral_1h_input_tokens"] ?? -1,
  };
  expect(usage["cache_creation_input_tokens"]).toBe(split.write5m + split.write1h);
  return split;
}

/** The question is 25 bytes: 7 tokens, and 7 of overhead. */
const QUESTION_TOKENS = 14;

describe("the prompt cache", () => {
  it("writes at a breakpoint, and reads there the next time, each at its price", async () => {
    const prompt = { system: [text(1_000, "s", mark())] };

    expect(await send(prompt)).toEqual({ input: QUESTION_TOKENS, read: 0, write5m: 1_000, write1h: 0 });
    expect(await send(prompt)).toEqual({ input: QUESTION_TOKENS, read: 1_000, write5m: 0, write1h: 0 });
    // 14 × $4/M + 1,000 × $5/M + 1 × $20/M, then 14 × $4/M + 1,000 × $0.20/M + 1 × $20/M.
    expect(simulator.bill.lines).toMatchObject([
      { costNanoUsd: 5_076_000n, reported: "truth" },
      { costNanoUsd: 276_000n, reported: "truth" },
    ]);
  });

  it("lives five minutes from the start of the request that used it last, to the millisecond", async () => {
    const prompt = { system: [text(1_000, "s", mark())] };
    await send(prompt);

    nowMs = START + FIVE_MINUTES_MS - 1;
    expect(await send(prompt)).toMatchObject({ read: 1_000 });
    nowMs += FIVE_MINUTES_MS - 1;
    expect(await send(prompt)).toMatchObject({ read: 1_000 });
    nowMs += FIVE_MINUTES_MS;
    expect(await send(prompt)).toMatchObject({ read: 0, write5m: 1_000 });
  });

  it("lives an hour where it is marked so", async () => {
    const prompt = { system: [text(1_000, "s", mark("1h"))] };
    expect(await send(prompt)).toMatchObject({ write1h: 1_000, write5m: 0 });

    nowMs = START + HOUR_MS - 1;
    expect(await send(prompt)).toMatchObject({ read: 1_000 });
    nowMs += HOUR_MS;
    expect(await send(prompt)).toMatchObject({ read: 0, write1h: 1_000 });
  });

  it.each([
    ["claude-opus-5-5", 512],
    ["claude-sonnet-4-6", 1_024],
    ["claude-haiku-4-5", 4_096],
  ])("is silently not used below the minimum of %s", async (model, tokensMin) => {
    const toPrompt = (tokens: number) => ({ model, system: [text(tokens, "s", mark())] });

    expect(await send(toPrompt(tokensMin - 1))).toMatchObject({ write5m: 0, input: tokensMin - 1 + QUESTION_TOKENS });
    expect(await send(toPrompt(tokensMin))).toMatchObject({ write5m: tokensMin, input: QUESTION_TOKENS });
  });

  it("splits mixed lifetimes as read to A, an hour to B, five minutes to C", async () => {
    const hour = text(1_000, "h", mark("1h"));
    const minutes = text(700, "m", mark("5m"));

    expect(await send({ system: [hour, minutes] })).toMatchObject({ write1h: 1_000, write5m: 700, read: 0 });
    nowMs = START + FIVE_MINUTES_MS;
    // The five minutes are over, the hour is not.
    expect(await send({ system: [hour, minutes] })).toMatchObject({ write1h: 0, write5m: 700, read: 1_000 });
  });

  it("follows a growing conversation with one mark at the top level", async () => {
    const turn = (role: string, tokens: number, letter: string) => ({ role, content: words(tokens, letter) });
    const first = [turn("user", 600, "a")];
    const second = [...first, turn("assistant", 50, "b"), turn("user", 30, "c")];

    // Four tokens of overhead for each turn, three for the request.
    expect(await send({ ...mark(), messages: first })).toEqual({ input: 0, read: 0, write5m: 607, write1h: 0 });
    expect(await send({ ...mark(), messages: second })).toEqual({ input: 0, read: 607, write5m: 88, write1h: 0 });
  });

  it("looks back over twenty blocks, the marked one included", async () => {
    const blocks = (count: number) => Array.from({ length: count }, (_, index) => text(1, String.fromCharCode(97 + index)));
    const content = (count: number) => [text(600, "z", mark()), ...blocks(count)];
    const conversation = (count: number) => {
      const all = content(count);
      const last = all.pop();
      return {
        messages: [
          { role: "user", content: [...all.map((block) => ({ ...block, cache_control: undefined })), { ...last, ...mark() }] },
        ],
      };
    };
    await send({ messages: [{ role: "user", content: content(0) }] });

    expect(await send(conversation(20))).toMatchObject({ read: 0, write5m: 627 });
    await simulator.close();
    simulator = await startSimulator({ now: () => nowMs });
    await send({ messages: [{ role: "user", content: content(0) }] });
    expect(await send(conversation(19))).toMatchObject({ read: 607, write5m: 19 });
  });

  it("forgets everything when a tool changes, and only the messages when tool_choice does", async () => {
    const tool = (name: string) => ({ name, description: words(600, "t"), input_schema: { type: "object" } });
    const prompt = (name: string, choice: string) => ({
      tools: [tool(name)],
      tool_choice: { type: choice },
      system: [text(600, "s", mark())],
      messages: [{ role: "user", content: [text(100, "m", mark())] }],
    });
    const first = await send(prompt("read", "auto"));

    const again = await send(prompt("read", "auto"));
    const otherChoice = await send(prompt("read", "none"));
    const otherTool = await send(prompt("write", "auto"));

    expect(again.read).toBe(first.write5m);
    expect(otherChoice.read).toBe(first.write5m - 107);
    expect(otherChoice.write5m).toBe(107);
    expect(otherTool.read).toBe(0);
  });

  it("is not shared between models or with another prefix", async () => {
    const prompt = { system: [text(1_000, "s", mark())] };
    await send(prompt);

    expect(await send({ ...prompt, model: "claude-sonnet-5-5" })).toMatchObject({ read: 0 });
    expect(await send({ system: [text(1_000, "r", mark())] })).toMatchObject({ read: 0 });
    expect(await send(prompt)).toMatchObject({ read: 1_000 });
  });

  it("can be read only once the first answer has begun", async () => {
    const body = question({ system: [text(1_000, "s", mark())] });
    const gate = Promise.withResolvers<void>();
    simulator.next({ kind: "stall", until: () => gate.promise });
    const stalled = ask(simulator, { body });
    await simulator.arrived(0);

    expect(await send(body)).toMatchObject({ read: 0, write5m: 1_000 });
    gate.resolve();
    await stalled;
    expect(await send(body)).toMatchObject({ read: 1_000 });
  });

  it("is warmed by a call with max_tokens 0, which bills no output", async () => {
    const prompt = { system: [text(1_000, "s", mark())] };

    await send({ ...prompt, max_tokens: 0 });

    expect(simulator.bill.lines).toMatchObject([{ outputPicoUsd: 0n, cacheWrite5mPicoUsd: 5_000_000_000n }]);
    expect(await send(prompt)).toMatchObject({ read: 1_000 });
  });

  it("keeps the size of a cached prefix where a test sets the total", async () => {
    const system = [text(1_000, "s", mark())];
    const first = await send({ system }, { headers: { "x-simulator-input-tokens": "60000" } });
    const second = await send({ system }, { headers: { "x-simulator-input-tokens": "70000" } });

    expect(first.input + first.write5m).toBe(60_000);
    expect(second).toEqual({ input: 70_000 - first.write5m, read: first.write5m, write5m: 0, write1h: 0 });
  });

  it.each([
    ["five marks", { system: ["a", "b", "c", "d", "e"].map((letter) => text(10, letter, mark())) }],
    [
      "four marks and one at the top level",
      { ...mark(), system: ["a", "b", "c", "d"].map((letter) => text(10, letter, mark())) },
    ],
    ["an hour after five minutes", { system: [text(10, "a", mark("5m")), text(10, "b", mark("1h"))] }],
    ["another lifetime", { system: [text(10, "a", { cache_control: { type: "ephemeral", ttl: "2h" } })] }],
  ])("refuses %s with 400", async (_, more) => {
    const answer = await ask(simulator, { body: question(more) });

    expect(answer.head).toMatch(/^HTTP\/1.1 400/);
    expect(answer.body.toString()).toContain("cache_control");
  });
});

describe("the split of a prompt", () => {
  const model = findModel("claude-opus-5-5") as Model;
  const block = fc.record({
    tokens: fc.integer({ min: 0, max: 2_000 }),
    letter: fc.constantFrom("a", "b"),
    ttl: fc.constantFrom<CacheTtl | undefined>("5m", "1h", undefined, undefined),
  });

  it("always adds up to the prompt, and no part is negative", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.array(block, { maxLength: 30 }), fc.nat(400_000)), { maxLength: 8 }), (requests) => {
        const cache = new PromptCache();
        let atMs = 0;
        for (const [blocks, gapMs] of requests) {
          atMs += gapMs;
          const prompt: PromptBlock[] = blocks.map(({ tokens, letter, ttl }) => ({
            level: "messages",
            tokens,
            identity: `${letter}${tokens}`,
            ...(ttl === undefined ? {} : { ttl }),
          }));
          const inputTokens = prompt.reduce((sum, { tokens }) => sum + tokens, 0);
          const { commit, ...parts } = cache.split({ body: {}, model, blocks: prompt, inputTokens, atMs });
          commit();
          expect(Math.min(...Object.values(parts))).toBeGreaterThanOrEqual(0);
          expect(Object.values(parts).reduce((sum, part) => sum + part, 0)).toBe(inputTokens);
        }
      }),
    );
  });
});
