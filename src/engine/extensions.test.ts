/** What a call's input is bounded by where it goes on with an earlier call, and every reason why it is not. */
import { describe, expect, test } from "vitest";
import { NO_TOKENS, type Usage } from "../core/usage/usage.ts";
import { anthropic } from "../providers/anthropic/anthropic.ts";
import { withoutCacheMarks } from "./cache-marks.ts";
import { createFakeClock, plainFingerprints } from "./engine.fixture.ts";
import { createExtensions, EXTENSION_IDLE_MS_MAX, EXTENSIONS_MAX } from "./extensions.ts";

const MODEL = "claude-haiku-5-5";
const on = { canonicalModel: MODEL, model: MODEL };

type Body = Record<string, unknown>;

const ASKED = { role: "user", content: "What is in this file?" };
const ANSWERED = { role: "assistant", content: "A poem." };
const MORE = { role: "user", content: "Read it to me." };
const TOOL = { name: "read", input_schema: { type: "object" } };
const FIRST: Body = { model: MODEL, max_tokens: 500, system: "Be kind.", tools: [TOOL], messages: [ASKED] };
const SECOND: Body = { ...FIRST, messages: [ASKED, ANSWERED, MORE] };

interface Call {
  owner?: string;
  session?: string;
  variant?: string;
}

function usageOf(more: Partial<Usage> = {}): Usage {
  const tokens = { ...NO_TOKENS, uncachedInputTokens: 10, cacheReadTokens: 20, cacheWrite5mTokens: 30, outputTokens: 7 };
  const samplings: Usage["samplings"] = [{ kind: "message", model: MODEL, tokens }];
  return { samplings, webSearchRequests: 0, serviceTier: "standard", speed: "standard", isUsOnly: false, flags: [], ...more };
}

function start() {
  const clock = createFakeClock();
  const extensions = createExtensions({ clock, fingerprints: plainFingerprints });
  const conversationOf = (json: Body, { owner = "key", session = "s", variant = "" }: Call = {}) => {
    const body = new TextEncoder().encode(JSON.stringify(json));
    const read = anthropic.readRequest(body);
    if (read.outcome === "refused") throw new Error(read.refusal.message);
    const { facts } = read;
    const messages = facts.messageSpans.map(({ start: from, end }) => withoutCacheMarks(body.subarray(from, end)));
    const markBytes = facts.messageSpans.map(({ start: from, end }, index) => end - from - (messages[index]?.length ?? 0));
    const chain = plainFingerprints(messages);
    return extensions.conversationOf({ owner, session, variant, body, facts, chain, markBytes });
  };
  return {
    clock,
    note: (json: Body, { model = MODEL, usage = usageOf(), ...call }: Call & { model?: string; usage?: Usage } = {}): void => {
      const conversation = conversationOf(json, call);
      if (conversation !== undefined) extensions.note(conversation, model, usage);
    },
    boundOf: (json: Body, call?: Call, model = on) => {
      const conversation = conversationOf(json, call);
      return conversation && extensions.boundOf(conversation, anthropic, model);
    },
  };
}

/** The bytes of what was added, each with the comma before it. */
const bytesOf = (...messages: unknown[]): number =>
  messages.reduce<number>((sum, each) => sum + JSON.stringify(each).length + 1, 0);

describe("a call that extends an earlier one", () => {
  test("reads what that one read and wrote, and the bytes of what is new", () => {
    const { note, boundOf } = start();
    note(FIRST);

    expect(boundOf(SECOND)).toEqual({
      inputTokens: 60,
      outputTokens: 7,
      answerTokens: bytesOf(ANSWERED),
      newTokens: bytesOf(MORE),
    });
  });

  test("goes on from the longest of those it extends", () => {
    const { note, boundOf } = start();
    note(FIRST);
    note(SECOND);
    const third = { ...SECOND, messages: [ASKED, ANSWERED, MORE, ANSWERED, MORE] };

    expect(boundOf(third)?.newTokens).toBe(bytesOf(MORE));
  });

  test("may be the same one again, and may ask for more or less output", () => {
    const { note, boundOf } = start();
    note(FIRST);

    expect(boundOf({ ...FIRST, max_tokens: 64_000 })).toMatchObject({ inputTokens: 60, newTokens: 0 });
  });

  test("counts a new image by the model's rule, and not its base64 text", () => {
    const { note, boundOf } = start();
    note(FIRST);
    const data = "A".repeat(40_000);
    const image = { type: "image", source: { type: "base64", media_type: "image/png", data } };
    const shown = { role: "user", content: [image] };
    const bound = boundOf({ ...FIRST, messages: [ASKED, ANSWERED, shown] });

    expect(bound?.newTokens).toBe(bytesOf(shown) - data.length + 4_784);
  });

  test("counts what looks like a cache mark in what was there before, for it may be text", () => {
    const { note, boundOf } = start();
    const used = (mark: string) => ({
      role: "assistant",
      content: [{ type: "tool_use", id: "t", name: "read", input: { a: 1, cache_control: { mark } } }],
    });
    note({ ...FIRST, messages: [ASKED, used("short"), MORE] });
    const bound = boundOf({ ...FIRST, messages: [ASKED, used("x".repeat(9_000)), MORE, ANSWERED, MORE] });

    expect(bound?.newTokens).toBeGreaterThan(9_000 + bytesOf(MORE));
  });

  test("is still recognised when its cache marks have moved", () => {
    const { note, boundOf } = start();
    const marked = { role: "user", content: [{ type: "text", text: "Hello.", cache_control: { type: "ephemeral" } }] };
    const unmarked = { role: "user", content: [{ type: "text", text: "Hello." }] };
    note({ ...FIRST, messages: [marked] });

    expect(boundOf({ ...FIRST, messages: [unmarked, ANSWERED, MORE] })?.newTokens).toBe(bytesOf(MORE));
  });

  test("may clear its thinking", () => {
    const { note, boundOf } = start();
    const context_management = { edits: [{ type: "clear_thinking_20251015", keep: "all" }] };
    note({ ...FIRST, context_management });

    expect(boundOf({ ...SECOND, context_management })).toBeDefined();
  });
});

describe("a call extends nothing", () => {
  const additions = [{ type: "tool_addition", tool: { definition: { type: "bash_20250124", name: "bash" } } }];

  test.each<[string, Body]>([
    ["with another system prompt", { ...SECOND, system: "Be rude." }],
    ["with other tools", { ...SECOND, tools: [TOOL, { ...TOOL, name: "write" }] }],
    ["with a tool forced", { ...SECOND, tool_choice: { type: "any" } }],
    ["with other thinking", { ...SECOND, thinking: { type: "adaptive" } }],
    ["with a field that nobody knows", { ...SECOND, future: true }],
    ["with an edited history", { ...SECOND, messages: [{ ...ASKED, content: "What?" }, ANSWERED, MORE] }],
    ["with a history that lost a message", { ...SECOND, messages: [ANSWERED, MORE] }],
    ["where no turn of the model's own lies between", { ...SECOND, messages: [ASKED, MORE] }],
    ["where a message defines a tool", { ...SECOND, messages: [ASKED, ANSWERED, { role: "user", content: additions }] }],
    ["without messages", { ...SECOND, messages: [] }],
  ])("%s", (_, second) => {
    const { note, boundOf } = start();
    note(FIRST);

    expect(boundOf(SECOND)).toBeDefined();
    expect(boundOf(second)).toBeUndefined();
  });

  test.each<[string, Body]>([
    ["a server tool", { tools: [{ type: "web_search_20250305", name: "web_search", max_uses: 1 }] }],
    ["input outside the body", { mcp_servers: [{ type: "url", url: "https://example.com", name: "m" }] }],
    ["a history that the provider shortens", { context_management: { edits: [{ type: "clear_tool_uses_20250919" }] } }],
    ["a part without a bound", { fallbacks: [{ model: "claude-opus-5" }] }],
  ])("with %s, in both calls alike", (_, more) => {
    const { note, boundOf } = start();
    note({ ...FIRST, ...more });

    expect(boundOf({ ...SECOND, ...more })).toBeUndefined();
  });

  test("of another key in a session of the same name, of another session, or read in another way", () => {
    const { note, boundOf } = start();
    note(FIRST);

    expect(boundOf(SECOND, { owner: "other" })).toBeUndefined();
    expect(boundOf(SECOND, { session: "other" })).toBeUndefined();
    expect(boundOf(SECOND, { variant: "a beta" })).toBeUndefined();
  });

  test("on another model than the earlier call ran on, whichever was asked for", () => {
    const { note, boundOf } = start();
    note({ ...FIRST, model: "claude-opus-5-5" });

    expect(boundOf(SECOND, {}, { canonicalModel: "claude-opus-5-5", model: "claude-opus-5-5" })).toBeUndefined();
    expect(boundOf({ ...SECOND, model: "claude-opus-5-5" }, {}, on)).toMatchObject({ inputTokens: 60 });
  });

  const [sampling] = usageOf().samplings;
  const samplings = sampling === undefined ? [] : [sampling];

  test.each<[string, Usage]>([
    ["is in doubt", usageOf({ flags: ["usage_fell"] })],
    ["is of several samplings", usageOf({ samplings: [...samplings, ...samplings] })],
    ["is of a fallback", usageOf({ samplings: samplings.map((each) => ({ ...each, kind: "fallback" })) })],
    ["is nothing", usageOf({ samplings: [] })],
    ["has no input", usageOf({ samplings: samplings.map((each) => ({ ...each, tokens: { ...NO_TOKENS, outputTokens: 5 } })) })],
  ])("where what was reported %s", (_, usage) => {
    const { note, boundOf } = start();
    note(FIRST, { usage });

    expect(boundOf(SECOND)).toBeUndefined();
  });

  test("where the earlier call ended with a turn that the caller had begun for the model", () => {
    const { note, boundOf } = start();
    note({ ...FIRST, messages: [ASKED, { role: "assistant", content: "It is" }] });

    expect(boundOf({ ...FIRST, messages: [ASKED, { role: "assistant", content: "It is" }, ANSWERED, MORE] })).toBeUndefined();
  });

  test("once the earlier call is half an hour old", async () => {
    const { note, boundOf, clock } = start();
    note(FIRST);
    await clock.advance(EXTENSION_IDLE_MS_MAX);
    expect(boundOf(SECOND)).toBeDefined();
    await clock.advance(1);

    expect(boundOf(SECOND)).toBeUndefined();
  });
});

test("memory is bounded: the oldest call is forgotten first", () => {
  const { note, boundOf } = start();
  note(FIRST, { session: "oldest" });
  note(FIRST, { session: "next" });
  for (let index = 1; index < EXTENSIONS_MAX; index += 1) note(FIRST, { session: `s${index}` });

  expect(boundOf(SECOND, { session: "oldest" })).toBeUndefined();
  expect(boundOf(SECOND, { session: "next" })).toBeDefined();
  expect(boundOf(SECOND, { session: `s${EXTENSIONS_MAX - 1}` })).toBeDefined();
});
