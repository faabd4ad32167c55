/**
 * Goal: no call reads more than the bound of its input, however its conversation goes on, turns back or is edited. Method: random
 * conversations through the whole engine, each call billed by the simulator's count or by a meaner one; and every recorded call that
 * extends another one, against what the provider reported of it.
 */
import { readdirSync, readFileSync } from "node:fs";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createFakeClock, startEngine, type EngineBench } from "../../src/engine/engine.fixture.ts";
import { extendedTokens } from "../../src/core/decisions/call.ts";
import { withoutCacheMarks } from "../../src/engine/cache-marks.ts";
import { createExtensions, type Conversation } from "../../src/engine/extensions.ts";
import { createFingerprints } from "../../src/exchange/system.ts";
import { anthropic } from "../../src/providers/anthropic/anthropic.ts";
import { fromUsage } from "../../src/providers/anthropic/usage.ts";
import { totalInputTokens, type Usage } from "../../src/core/usage/usage.ts";
import { findModel } from "../../src/simulator/models.ts";
import { countInputTokens, readPrompt } from "../../src/simulator/prompt.ts";
import { dataFolder, dataPath, NO_DATA } from "../figures/figures.ts";

const MODELS = ["claude-haiku-5-5", "claude-sonnet-4-5"] as const;
const IMAGE_TOKENS = { "claude-haiku-5-5": 4_784, "claude-sonnet-4-5": 1_568 };

interface Turn {
  role: "user" | "assistant";
  content: unknown;
}

type Count = (body: Record<string, unknown>, model: (typeof MODELS)[number]) => number;

const bySimulator: Count = (body, model) => {
  const known = findModel(model);
  if (known === undefined) throw new Error(`the simulator has no ${model}`);
  return countInputTokens(readPrompt(body, known));
};

/** Some messages a token per byte, others a token per nine: what was cheap before says nothing of what comes. */
const meanly: Count = ({ messages, system, tools }, model) => {
  const textOf = (json: unknown): string => (typeof json === "string" ? json : JSON.stringify(json));
  const tokensOf = ({ content }: Turn): number => {
    const parts = Array.isArray(content) ? (content as { type: string }[]) : [content];
    return parts.reduce<number>((sum, part) => {
      if (typeof part === "object" && (part as { type: string }).type === "image") return sum + IMAGE_TOKENS[model];
      const bytes = Buffer.byteLength(textOf(typeof part === "object" ? ((part as { text?: string }).text ?? part) : part));
      return sum + (bytes % 2 === 0 ? bytes : Math.ceil(bytes / 9));
    }, 4);
  };
  const fixed = [system, tools].reduce<number>(
    (sum, part) => sum + (part === undefined ? 0 : Math.ceil(textOf(part).length / 9)),
    0,
  );
  const toolPrompt = tools === undefined ? 0 : 250;
  return toolPrompt + fixed + (messages as Turn[]).reduce((sum, message) => sum + tokensOf(message), 0);
};

const text = fc.oneof(
  fc.string({ unit: "binary", maxLength: 300 }).map((value) => value.toWellFormed()),
  fc.integer({ min: 1, max: 3_000 }).map((length) => "word ".repeat(length)),
);
const user = fc.oneof(
  text,
  text.map((content) => [{ type: "tool_result", tool_use_id: "toolu_1", content }]),
  text.map((value) => [{ type: "text", text: value, cache_control: { type: "ephemeral" } }]),
  fc.constant([{ type: "image", source: { type: "base64", media_type: "image/png", data: "A".repeat(2_000) } }]),
);
const assistant = fc.oneof(
  text,
  fc.tuple(text, text).map(([thinking, value]) => [
    { type: "thinking", thinking, signature: "c2ln" },
    { type: "text", text: value },
  ]),
  text.map((path) => [{ type: "tool_use", id: "toolu_1", name: "read", input: { path } }]),
);
const step = fc.record({
  change: fc.constantFrom(
    "goes on",
    "goes on",
    "goes on",
    "goes on",
    "again",
    "two users",
    "edits",
    "system",
    "tools",
    "turns back",
    "model",
  ),
  user,
  assistant,
  outputTokens: fc.integer({ min: 0, max: 900 }),
});
type Step = typeof step extends fc.Arbitrary<infer Value> ? Value : never;

interface State {
  model: (typeof MODELS)[number];
  messages: Turn[];
  system: string;
  tools: number;
}

function afterStep(state: State, { change, user: asked, assistant: answered }: Step): State {
  const { messages } = state;
  const question: Turn = { role: "user", content: asked };
  const answer: Turn = { role: "assistant", content: answered };
  const on = { ...state, messages: messages.length === 0 ? [question] : [...messages, answer, question] };
  switch (change) {
    case "goes on":
      return on;
    case "again":
      return messages.length === 0 ? on : state;
    case "two users":
      return { ...state, messages: [...messages, question] };
    case "edits":
      return { ...on, messages: [question, ...on.messages.slice(1)] };
    case "system":
      return { ...on, system: `${state.system} And be brief.` };
    case "tools":
      return { ...on, tools: state.tools + 1 };
    case "turns back":
      return { ...on, messages: messages.length < 3 ? on.messages : [...messages.slice(0, -2), question] };
    default:
      return { ...on, model: state.model === MODELS[0] ? MODELS[1] : MODELS[0] };
  }
}

function requestOf({ system, tools, messages }: State): Record<string, unknown> {
  const named = Array.from({ length: tools }, (_, index) => ({ name: `tool_${index}`, input_schema: { type: "object" } }));
  return { system, messages, ...(tools === 0 ? {} : { tools: named }) };
}

/** Runs one call to its end. */
async function run(bench: EngineBench, { model, more, usage }: { model: string; more: Record<string, unknown>; usage: object }) {
  const opening = await bench.engine.open(bench.callOf({ model, more, labels: { session: "one" } }));
  if (opening.outcome !== "admitted") throw new Error(`the call is ${JSON.stringify(opening)}`);
  const { call } = opening;
  call.markSent();
  const meter = call.openMeter("application/json");
  meter.push(Buffer.from(JSON.stringify({ model, stop_reason: "end_turn", usage })));
  meter.end();
  await call.end({ kind: "completed", status: 200, reading: meter.reading() }, "req_1");
  return call.candidate;
}

const ROOMY = "limits: [{ name: roomy, per: all, usd: 100000, every: day }]";

test.each<[string, Count]>([
  ["the simulator", bySimulator],
  ["a provider that counts some bytes as a token each and others not", meanly],
])("no call of a random conversation reads more than its bound, counted by %s", { timeout: 60_000 }, async (_, count) => {
  let extendedCount = 0;
  let callCount = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 2, maxLength: 12 }), async (steps) => {
      const bench = await startEngine(ROOMY);
      let state: State = { model: MODELS[0], messages: [], system: "Be kind.", tools: 0 };
      for (const each of steps) {
        state = afterStep(state, each);
        const more = requestOf(state);
        const inputTokens = count(more, state.model);
        const usage = { input_tokens: inputTokens, output_tokens: each.outputTokens };
        const candidate = await run(bench, { model: state.model, more, usage });
        callCount += 1;
        if (candidate.extension !== undefined) extendedCount += 1;
        expect(candidate.inputTokensBound).toBeGreaterThanOrEqual(inputTokens);
      }
    }),
    { numRuns: 150, seed: Number(process.env["PURSER_SEED"] ?? 1) },
  );

  expect(extendedCount).toBeGreaterThan(callCount / 5);
});

test("the second turn of a conversation of 150,000 tokens holds what was read, and not what its bytes could be", async () => {
  const bench = await startEngine(ROOMY);
  const messages: Turn[] = [{ role: "user", content: "word ".repeat(120_000) }];
  const first = await run(bench, {
    model: "claude-sonnet-5-5",
    more: { messages },
    usage: { input_tokens: 150_000, output_tokens: 800 },
  });
  messages.push({ role: "assistant", content: "Yes. ".repeat(640) }, { role: "user", content: "Go on." });
  const second = await run(bench, {
    model: "claude-sonnet-5-5",
    more: { messages },
    usage: { input_tokens: 150_900, output_tokens: 10 },
  });

  expect(first.inputTokensBound).toBeGreaterThan(600_000);
  expect(first.extension).toBeUndefined();
  expect(second.extension).toMatchObject({ inputTokens: 150_000, outputTokens: 800 });
  expect(second.inputTokensBound).toBeLessThan(154_500);
  const [, stored] = bench.flaky.memory.entries.flatMap(({ body }) => (body.kind === "reserved" ? [body.decision] : []));
  expect(stored?.extension).toEqual(second.extension);
});

interface Recorded {
  path: string;
  request: { body: string | null };
  usage?: Record<string, unknown> | null;
}

function recordedCalls(): { file: string; conversation: Conversation; usage: Usage; model: string }[] {
  const folder = dataPath("http-pydantic-ai", "records");
  const fingerprints = createFingerprints();
  const extensions = createExtensions({ clock: createFakeClock(), fingerprints });
  return readdirSync(folder)
    .filter((file) => file.startsWith("anthropic-"))
    .flatMap((file) => {
      const record = JSON.parse(readFileSync(`${folder}/${file}`, "utf8")) as Recorded;
      const body = Buffer.from(record.request.body ?? "");
      if (record.path !== "/v1/messages" || record.usage === undefined || record.usage === null) return [];
      const read = anthropic.readRequest(body);
      if (read.outcome === "refused") return [];
      const { facts } = read;
      const messages = facts.messageSpans.map(({ start, end }) => withoutCacheMarks(body.subarray(start, end)));
      const markBytes = facts.messageSpans.map(({ start, end }, index) => end - start - (messages[index]?.length ?? 0));
      const chain = fingerprints(messages);
      const conversation = extensions.conversationOf({ owner: "k", session: "s", variant: "", body, facts, chain, markBytes });
      const usage = fromUsage(record.usage, facts.model, { cacheWrites: facts.cacheWrites });
      return conversation === undefined ? [] : [{ file, conversation, usage, model: facts.model }];
    });
}

describe.skipIf(dataFolder === undefined)(`recorded conversations${dataFolder === undefined ? ` (${NO_DATA})` : ""}`, () => {
  test("never read more than the call they extend proves", () => {
    const calls = recordedCalls();
    const ratios: number[] = [];
    for (const earlier of calls) {
      const extensions = createExtensions({ clock: createFakeClock(), fingerprints: createFingerprints() });
      extensions.note(earlier.conversation, earlier.model, earlier.usage);
      for (const { conversation, usage, model } of calls) {
        if (conversation.chain.length <= earlier.conversation.chain.length) continue;
        const bound = extensions.boundOf(conversation, anthropic, { canonicalModel: model, model });
        const [sampling] = usage.samplings;
        if (bound === undefined || sampling === undefined) continue;
        ratios.push(extendedTokens(bound) / totalInputTokens(sampling.tokens));
      }
    }
    ratios.sort((left, right) => left - right);
    const [least = 0] = ratios;
    const median = ratios[Math.floor(ratios.length / 2)] ?? 0;
    console.info(
      `figure: bound by the call it extends ÷ reported input over ${ratios.length} recorded pairs: least ${least.toFixed(2)}, median ${median.toFixed(2)}`,
    );

    expect(ratios.length).toBeGreaterThan(20);
    expect(least).toBeGreaterThanOrEqual(1);
  });
});
