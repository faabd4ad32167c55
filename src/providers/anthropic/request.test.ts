import { describe, expect, it } from "vitest";

import type { RequestFacts } from "../provider.ts";
import { readRequest } from "./request.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder();

function bodyOf(fields: Record<string, unknown>): Uint8Array {
  return encoder.encode(JSON.stringify({ model: "claude-opus-5-5", max_tokens: 1024, messages: [], ...fields }));
}

function factsOf(body: Uint8Array | string): RequestFacts {
  const result = readRequest(typeof body === "string" ? encoder.encode(body) : body);
  if (result.outcome === "refused") throw new Error(result.refusal.message);
  return result.facts;
}

function refusalOf(body: Uint8Array | string): string {
  const result = readRequest(typeof body === "string" ? encoder.encode(body) : body);
  if (result.outcome === "read") throw new Error("The body was read.");
  expect(result.refusal.details.code).toBe("invalid_request");
  return result.refusal.message;
}

function userMessage(...content: unknown[]): Record<string, unknown> {
  return { messages: [{ role: "user", content }] };
}

describe("what decides", () => {
  it("reads the smallest request", () => {
    const body = encoder.encode('{"model":"claude-haiku-5-5","max_tokens":64,"messages":[{"role":"user","content":"Hello"}]}');

    expect(factsOf(body)).toEqual({
      model: "claude-haiku-5-5",
      maxTokens: 64,
      isStream: false,
      spans: { model: { start: 9, end: 27 }, maxTokens: { start: 41, end: 43 } },
      bodyBytes: body.length,
      textBytes: body.length,
      imageCount: 0,
      remoteInputs: [],
      clientToolTypes: [],
      isToolForced: false,
      serverTools: [],
      samplingsMax: 1,
      unboundedParts: [],
      cacheWrites: "none",
      speed: "standard",
      isUsOnly: undefined,
      isPriority: false,
      usageAsking: undefined,
      choices: 1,
      extraOutputTokens: 0,
      thinking: undefined,
      hasSamplingParameters: false,
      features: [],
      history: { hasAssistantTurn: false, isAnsweringTool: false, hasThinking: false },
      messageSpans: [{ start: 56, end: 89, isAssistant: false, payloadBytes: 0, imageCount: 0 }],
      isHistoryEdited: false,
      namedSession: undefined,
    });
  });

  it("gives the spans of the model and of max_tokens wherever they stand", () => {
    const text = '\n{ "max_tokens" : 4096.0 , "messages":[], "model" : "claude-\\u0073onnet-5" }';
    const facts = factsOf(text);

    expect(facts.model).toBe("claude-sonnet-5");
    expect(facts.maxTokens).toBe(4096);
    expect(text.slice(facts.spans.model.start, facts.spans.model.end)).toBe('"claude-\\u0073onnet-5"');
    expect(text.slice(facts.spans.maxTokens?.start, facts.spans.maxTokens?.end)).toBe("4096.0");
  });

  it("reads stream, tiers, speed and geography", () => {
    const facts = factsOf(bodyOf({ stream: true, speed: "fast", inference_geo: "us", service_tier: "auto" }));

    expect(facts).toMatchObject({ isStream: true, speed: "fast", isUsOnly: true, unboundedParts: [] });
    expect(factsOf(bodyOf({ inference_geo: "global" })).isUsOnly).toBe(false);
    expect(factsOf(bodyOf({ inference_geo: null, stream: false, speed: null })).isUsOnly).toBeUndefined();
  });

  it("takes null for a field that is not there", () => {
    const facts = factsOf(
      bodyOf({ stream: null, thinking: null, tools: null, fallbacks: null, container: null, metadata: null, temperature: null }),
    );

    expect(facts).toMatchObject({
      isStream: false,
      thinking: undefined,
      unboundedParts: [],
      remoteInputs: [],
      hasSamplingParameters: false,
    });
  });

  it("reads max_tokens 0 and an absent max_tokens differently", () => {
    expect(factsOf(bodyOf({ max_tokens: 0 })).maxTokens).toBe(0);
    expect(factsOf('{"model":"m","messages":[]}')).toMatchObject({ maxTokens: undefined, spans: { maxTokens: undefined } });
  });

  it("reads thinking, sampling parameters and a forced tool", () => {
    const facts = factsOf(
      bodyOf({ thinking: { type: "enabled", budget_tokens: 2048 }, top_p: 0.5, tool_choice: { type: "tool", name: "x" } }),
    );

    expect(facts).toMatchObject({
      thinking: { type: "enabled", budgetTokens: 2048 },
      hasSamplingParameters: true,
      isToolForced: true,
    });
    expect(factsOf(bodyOf({ tool_choice: { type: "auto" } })).isToolForced).toBe(false);
  });

  it("takes temperature 1 for no sampling parameter", () => {
    expect(factsOf(bodyOf({ temperature: 1 })).hasSamplingParameters).toBe(false);
    expect(factsOf(bodyOf({ temperature: 1.0, top_k: 5 })).hasSamplingParameters).toBe(true);
    expect(factsOf(bodyOf({ temperature: 0.2 })).hasSamplingParameters).toBe(true);
  });

  it("names features that only some models have", () => {
    const output = {
      effort: "xhigh",
      format: { type: "json_schema", schema: {} },
      task_budget: { type: "tokens", total: 20_000 },
    };

    expect(factsOf(bodyOf({ output_config: output })).features).toEqual([
      "effort",
      "effort_xhigh",
      "output_format",
      "task_budget",
    ]);
    expect(factsOf(bodyOf({ output_config: { effort: null }, output_format: null })).features).toEqual([]);
  });

  it("leaves unknown fields alone", () => {
    expect(
      factsOf(bodyOf({ a_field_of_tomorrow: { model: 1, max_tokens: "x" }, output_config: { effort: "max" } })).maxTokens,
    ).toBe(1024);
  });
});

describe("what is refused", () => {
  const cases: [name: string, text: string, told: string][] = [
    ["malformed JSON", '{"model":"m",}', 'line 1, column 14 (byte 13): found "}", allowed is a key in quotes'],
    ["an empty body", "", "found the end of the text, allowed is a JSON object"],
    ["a body that is no object", "[]", "found an array, allowed is a JSON object"],
    ["a missing model", '{"max_tokens":1,"messages":[]}', "found no member model"],
    ["a model that is a number", '{"model":5}', "line 1, column 10 (byte 9, model): found the number 5, allowed is a model name"],
    ["an empty model", '{"model":""}', "(byte 9, model): found an empty string, allowed is a model name"],
    [
      "a negative max_tokens",
      '{"model":"m","max_tokens":-5}',
      "max_tokens): found the number -5, allowed is a whole number from 0",
    ],
    ["a broken max_tokens", '{"model":"m","max_tokens":1.5}', "found the number 1.5, allowed is a whole number from 0"],
    [
      "a max_tokens no model has",
      '{"model":"m","max_tokens":1e300}',
      "found the number 1e300, allowed is a whole number from 0 to 1000000000",
    ],
    ["max_tokens as text", '{"model":"m","max_tokens":"64"}', "found a string, allowed is a whole number from 0"],
    ["stream as text", '{"model":"m","stream":"true"}', "stream): found a string, allowed is true or false"],
    ["messages that are an object", '{"model":"m","messages":{}}', "messages): found an object, allowed is an array of messages"],
    ["a message that is text", '{"model":"m","messages":["hi"]}', "messages[0]): found a string, allowed is an object"],
    [
      "a tool type that is a number",
      '{"model":"m","tools":[{"type":1}]}',
      "tools[0].type): found the number 1, allowed is a string",
    ],
    ["a max_uses below zero", '{"model":"m","tools":[{"max_uses":-1}]}', "tools[0].max_uses): found the number -1"],
    ["a budget as text", '{"model":"m","thinking":{"budget_tokens":"9"}}', "thinking.budget_tokens): found a string"],
    [
      "a cache mark that is a list",
      '{"model":"m","cache_control":[]}',
      "cache_control): found an array, allowed is an object or null",
    ],
    ["the model twice", '{"model":"a","model":"b"}', 'found the key "model" a second time'],
    ["the model twice, once escaped", '{"model":"a","mod\\u0065l":"b"}', 'found the key "model" a second time'],
    ["a cap twice in one tool", '{"model":"a","tools":[{"max_uses":1,"max_uses":9}]}', 'found the key "max_uses" a second time'],
    [
      "a block's type twice",
      '{"model":"a","messages":[{"content":[{"type":"image","type":"text"}]}]}',
      'the key "type" a second time',
    ],
    ["a byte order mark", '\uFEFF{"model":"a"}', "found a byte order mark"],
  ];

  it.each(cases)("refuses %s, with the place", (_, text, told) => {
    expect(refusalOf(text)).toContain(told);
  });

  it("refuses more messages than the provider takes", () => {
    const text = `{"model":"m","messages":[${"{},".repeat(100_000)}{}]}`;

    expect(refusalOf(text)).toContain("allowed is at most 100000 messages");
  });

  it("lets the caller's own data repeat keys", () => {
    const text =
      '{"model":"m","messages":[{"role":"assistant","content":[{"type":"tool_use","input":{"type":1,"type":2,"model":3}}]}],"tools":[{"input_schema":{"type":"object","type":"x","max_uses":[]}}]}';

    expect(factsOf(text).clientToolTypes).toEqual(["custom"]);
  });
});

describe("images and input that is elsewhere", () => {
  const payload = "QUJD".repeat(500);

  it("counts an image and takes its payload out of the text, in any order of keys", () => {
    const image = { source: { data: payload, type: "base64", media_type: "image/png" }, type: "image" };
    const body = bodyOf(
      userMessage({ type: "tool_result", tool_use_id: "t", content: [image, { type: "text", text: "x" }] }, image),
    );
    const facts = factsOf(body);

    expect(facts).toMatchObject({
      imageCount: 2,
      remoteInputs: [],
      bodyBytes: body.length,
      textBytes: body.length - 2 * payload.length,
    });
  });

  it("knows an image whose words are escaped", () => {
    const text = `{"model":"m","messages":[{"content":[{"type":"im\\u0061ge","source":{"type":"b\\u0061se64","data":"${payload}"}}]}]}`;

    expect(factsOf(text)).toMatchObject({ imageCount: 1, textBytes: text.length - payload.length });
  });

  it("counts an image by address or file as an image", () => {
    const facts = factsOf(bodyOf(userMessage({ type: "image", source: { type: "url", url: "https://example.com/a.png" } })));

    expect(facts).toMatchObject({ imageCount: 1, remoteInputs: [] });
  });

  it.each([
    ["a base64 PDF", { type: "document", source: { type: "base64", media_type: "application/pdf", data: payload } }, "document"],
    ["a PDF by address", { type: "document", source: { type: "url", url: "https://example.com/a.pdf" } }, "document"],
    ["a file", { type: "document", source: { type: "file", file_id: "file_1" } }, "document"],
    [
      "a PDF inside a fetched page",
      {
        type: "web_fetch_tool_result",
        content: { type: "web_fetch_result", content: { type: "document", source: { type: "base64", data: payload } } },
      },
      "document",
    ],
    ["a block type of tomorrow with a source", { type: "video", source: { type: "base64", data: payload } }, "source"],
    [
      "a reference to a deferred tool",
      { type: "tool_result", content: [{ type: "tool_reference", tool_name: "x" }] },
      "tool_reference",
    ],
    ["an upload to the container", { type: "container_upload", file_id: "file_1" }, "container_upload"],
  ])("names %s as remote", (_, block, remote) => {
    expect(factsOf(bodyOf(userMessage(block))).remoteInputs).toEqual([remote]);
  });

  it("counts documents of text or of content blocks as the text they are", () => {
    const text = { type: "document", source: { type: "text", media_type: "text/plain", data: "plain" } };
    const blocks = { type: "document", source: { type: "content", content: [{ type: "text", text: "plain" }] } };
    const body = bodyOf(userMessage(text, blocks, { type: "search_result", source: "https://example.com", content: [] }));

    expect(factsOf(body)).toMatchObject({ remoteInputs: [], imageCount: 0, textBytes: body.length });
  });

  it("names a continued thread, MCP servers and skills", () => {
    const facts = factsOf(
      bodyOf({
        thread: { type: "continue", previous_message_id: "msg_1" },
        mcp_servers: [{ type: "url", url: "https://x" }],
        container: { skills: [{ type: "anthropic" }] },
      }),
    );

    expect(facts.remoteInputs.toSorted()).toEqual(["mcp_servers", "skills", "thread"]);
    expect(facts.unboundedParts.toSorted()).toEqual(["container", "mcp_servers"]);
    expect(factsOf(bodyOf({ thread: { type: "create" }, mcp_servers: [] })).remoteInputs).toEqual([]);
  });
});

describe("tools", () => {
  it("tells tools of the caller from tools of the provider", () => {
    const facts = factsOf(
      bodyOf({
        tools: [
          { name: "get_weather", input_schema: {} },
          { type: "custom", name: "b", input_schema: {} },
          { type: "bash_20250124", name: "bash" },
          { type: "web_search_20250305", name: "web_search", max_uses: 4 },
          { type: "web_fetch_20260209", name: "web_fetch", max_uses: 2 },
        ],
      }),
    );

    expect(facts.clientToolTypes).toEqual(["custom", "bash_20250124"]);
    expect(facts.serverTools).toEqual([
      { type: "web_search_20250305", usesMax: 4 },
      { type: "web_fetch_20260209", usesMax: 2 },
    ]);
    expect(facts).toMatchObject({
      samplingsMax: 7,
      unboundedParts: [],
      remoteInputs: ["web_search_20250305", "web_fetch_20260209"],
    });
  });

  it.each([
    ["web search without a cap", { type: "web_search_20250305" }],
    ["web search with a cap that is none", { type: "web_search_20250305", max_uses: 1_000_000_000 }],
    ["web search with a cap of null", { type: "web_search_20250305", max_uses: null }],
    ["the advisor, even with a cap", { type: "advisor_20260301", max_uses: 1, max_tokens: 100 }],
    ["code execution", { type: "code_execution_20260521" }],
    ["tool search", { type: "tool_search_tool_regex_20251119" }],
    ["an MCP toolset", { type: "mcp_toolset", mcp_server_name: "x" }],
    ["a type of tomorrow", { type: "teleport_20270101", max_uses: 1 }],
  ])("names %s as unbounded", (_, tool) => {
    expect(factsOf(bodyOf({ tools: [tool] })).unboundedParts).toEqual([tool.type]);
  });

  it("takes a cap above any use for none, so that no bound grows beyond counting", () => {
    const facts = factsOf(
      bodyOf({
        tools: [
          { type: "web_search_20250305", max_uses: 1_001 },
          { type: "web_fetch_20250910", max_uses: 1_000 },
        ],
      }),
    );

    expect(facts.serverTools.map(({ usesMax }) => usesMax)).toEqual([undefined, 1_000]);
    expect(facts).toMatchObject({ samplingsMax: 1_001, unboundedParts: ["web_search_20250305"] });
  });

  it("finds a server tool that a message adds in the middle of a conversation", () => {
    const addition = {
      type: "tool_addition",
      tool: { type: "tool_definition", definition: { type: "web_search_20260318", name: "web_search" } },
    };

    expect(factsOf(bodyOf({ messages: [{ role: "system", content: [addition] }] })).unboundedParts).toEqual([
      "web_search_20260318",
    ]);
  });
});

describe("parts without a bound", () => {
  it.each([
    ["fallbacks", { fallbacks: [{ model: "claude-opus-5-5" }] }],
    ["fallbacks", { fallbacks: "default" }],
    ["compaction", { compaction: { type: "summarize" } }],
    ["compaction", { context_management: { edits: [{ type: "compact_20260112" }] } }],
    ["container", { container: "container_1" }],
    ["speed", { speed: "ludicrous" }],
    ["service_tier", { service_tier: "platinum" }],
  ])("names %s", (part, fields) => {
    expect(factsOf(bodyOf(fields)).unboundedParts).toEqual([part]);
  });

  it("names none where the field asks for nothing", () => {
    const fields = {
      fallbacks: [],
      context_management: { edits: [{ type: "clear_tool_uses_20250919" }] },
      service_tier: "standard_only",
    };

    expect(factsOf(bodyOf(fields)).unboundedParts).toEqual([]);
  });
});

describe("cache marks", () => {
  const mark = (ttl?: string): Record<string, unknown> => ({
    cache_control: { type: "ephemeral", ...(ttl === undefined ? {} : { ttl }) },
  });

  it.each([
    ["none", {}],
    ["none", { cache_control: null }],
    ["5m", mark()],
    ["5m", { system: [{ type: "text", text: "x", ...mark("5m") }] }],
    ["1h", { tools: [{ name: "x", input_schema: {}, ...mark("1h") }] }],
    ["1h", { ...mark("1h"), ...userMessage({ type: "text", text: "x", ...mark("5m") }) }],
    ["1h", userMessage({ type: "tool_result", content: [{ type: "text", text: "x", ...mark("1h") }] })],
    ["1h", mark("a lifetime of tomorrow")],
  ])("finds %s in %j", (writes, fields) => {
    expect(factsOf(bodyOf(fields)).cacheWrites).toBe(writes);
  });

  it("does not look for marks in tool inputs", () => {
    expect(factsOf(bodyOf(userMessage({ type: "tool_use", input: mark("1h") }))).cacheWrites).toBe("none");
  });
});

describe("the conversation", () => {
  const ask = { role: "user", content: "Hi" };
  const use = {
    role: "assistant",
    content: [
      { type: "thinking", thinking: "…", signature: "x" },
      { type: "tool_use", id: "t", name: "x", input: {} },
    ],
  };
  const answer = { role: "user", content: [{ type: "tool_result", tool_use_id: "t", content: "ok" }] };

  it("sees a first message, a tool's answer, and the next message", () => {
    expect(factsOf(bodyOf({ messages: [ask] })).history).toEqual({
      hasAssistantTurn: false,
      isAnsweringTool: false,
      hasThinking: false,
    });
    expect(factsOf(bodyOf({ messages: [ask, use, answer] })).history).toEqual({
      hasAssistantTurn: true,
      isAnsweringTool: true,
      hasThinking: true,
    });
    expect(factsOf(bodyOf({ messages: [ask, use, answer, use, ask] })).history.isAnsweringTool).toBe(false);
  });

  it("takes a turn that paused inside the provider's tool loop for unfinished", () => {
    const paused = { role: "assistant", content: [{ type: "server_tool_use", id: "s", name: "web_search", input: {} }] };

    expect(factsOf(bodyOf({ messages: [ask, paused] })).history.isAnsweringTool).toBe(true);
  });

  it("gives the span of each message, oldest first", () => {
    const body = bodyOf({ messages: [ask, use, answer] });

    const texts = factsOf(body).messageSpans.map(
      ({ start, end }) => JSON.parse(decoder.decode(body.subarray(start, end))) as unknown,
    );

    expect(texts).toEqual([ask, use, answer]);
  });
});

describe("the session that Claude Code names", () => {
  const session = "0f8fad5b-d9cb-469f-a165-70867728950e";
  const device = "ab".repeat(32);

  it.each([
    ["a JSON string", JSON.stringify({ device_id: device, account_uuid: "", session_id: session }), session],
    ["the older form", `user_${device}_account__session_${session}`, session],
    ["the older form with an account", `user_${device}_account_${session}_session_${session}`, session],
    ["another user id", "user-4711", undefined],
    ["a text that only begins like JSON", "{not json", undefined],
    ["a session that is no id", JSON.stringify({ session_id: "../../etc" }), undefined],
    ["a JSON text that is no object", "[]", undefined],
  ])("reads %s", (_, userId, expected) => {
    expect(factsOf(bodyOf({ metadata: { user_id: userId } })).namedSession).toBe(expected);
  });
});
