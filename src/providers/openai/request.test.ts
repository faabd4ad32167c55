import { describe, expect, test } from "vitest";
import type { RequestFacts } from "../provider.ts";
import { boundInputTokens } from "./bound.ts";
import { openaiChat, openaiEmbeddings, openaiResponses } from "./openai.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder();

function factsOf(api: typeof openaiChat, body: Record<string, unknown> | string): RequestFacts {
  const text = typeof body === "string" ? body : JSON.stringify({ model: "gpt-6.2-sol", ...body });
  const read = api.readRequest(encoder.encode(text));
  if (read.outcome !== "read") throw new Error(read.refusal.message);
  return read.facts;
}

const user = (content: unknown): Record<string, unknown> => ({ role: "user", content });
const PNG = `data:image/png;base64,${"A".repeat(400)}`;

describe("a chat", () => {
  test.each<[string, Record<string, unknown>, Partial<RequestFacts>]>([
    ["the newer largest output", { max_completion_tokens: 7 }, { maxTokens: 7 }],
    ["the older one", { max_tokens: 7 }, { maxTokens: 7 }],
    ["one that is null beside the other", { max_tokens: null, max_completion_tokens: 7 }, { maxTokens: 7 }],
    ["none", {}, { maxTokens: undefined, choices: 1, extraOutputTokens: 0 }],
    ["several answers", { n: 4 }, { choices: 4 }],
    ["what it predicts", { prediction: { type: "content", content: "abc" } }, { extraOutputTokens: 34 }],
    ["a stream", { stream: true }, { isStream: true }],
    ["no tier: the project decides", {}, { isPriority: undefined }],
    ["the tier auto", { service_tier: "auto" }, { isPriority: undefined }],
    ["the default tier", { service_tier: "default" }, { isPriority: false }],
    ["the flex tier", { service_tier: "flex" }, { isPriority: false }],
    ["the priority tier", { service_tier: "priority" }, { isPriority: true }],
    ["the fast tier", { service_tier: "fast" }, { isPriority: true }],
    ["a tier without a price", { service_tier: "ultrafast" }, { unboundedParts: ["service_tier"] }],
    ["a cache for half an hour", { prompt_cache_options: { ttl: "30m" } }, { cacheWrites: "none" }],
    ["a cache for longer", { prompt_cache_options: { ttl: "12h" } }, { cacheWrites: "1h" }],
    ["sound to be spoken", { modalities: ["text", "audio"] }, { unboundedParts: ["audio"] }],
    ["text alone", { modalities: ["text"] }, { unboundedParts: [] }],
    ["a search", { web_search_options: {} }, { unboundedParts: ["web_search"] }],
    ["other models in its place", { models: ["a", "b"] }, { unboundedParts: ["models"] }],
    ["plugins with fees", { plugins: [{ id: "web" }] }, { unboundedParts: ["plugins"] }],
    ["an answer that was spoken", { messages: [{ role: "assistant", audio: { id: "a" } }] }, { unboundedParts: ["audio"] }],
    ["a mark of Anthropic's", { messages: [user([{ type: "text", text: "x", cache_control: {} }])] }, { cacheWrites: "1h" }],
    ["what only older models take", { stop: ["."] }, { hasSamplingParameters: true }],
    ["tools of the caller's", { tools: [{ type: "function", function: { name: "f" } }] }, { clientToolTypes: ["function"] }],
    ["a tool that must be called", { tool_choice: "required" }, { isToolForced: true }],
  ])("reads %s", (_, extra, expected) => {
    expect(factsOf(openaiChat, { messages: [user("Hi")], ...extra })).toMatchObject(expected);
  });

  test("reads its messages: whose turn it is, what was asked of tools, what is no text", () => {
    const image = { type: "image_url", image_url: { url: PNG } };
    const messages = [
      user([{ type: "text", text: "Look" }, image]),
      { role: "assistant", content: null, tool_calls: [{ id: "c", type: "function", function: { name: "f", arguments: "{}" } }] },
      { role: "tool", tool_call_id: "c", content: "42" },
    ];
    const facts = factsOf(openaiChat, { messages });

    expect(facts).toMatchObject({
      imageCount: 1,
      history: { hasAssistantTurn: true, isAnsweringTool: true, hasThinking: false },
    });
    expect(facts.bodyBytes - facts.textBytes).toBe(400);
    expect(facts.messageSpans.map(({ isAssistant, payloadBytes }) => [isAssistant, payloadBytes])).toEqual([
      [false, 400],
      [true, 0],
      [false, 0],
    ]);
  });

  test.each<[string, unknown, Partial<RequestFacts>]>([
    [
      "an image by its address",
      { type: "image_url", image_url: { url: "https://x/y.png" } },
      { imageCount: 1, remoteInputs: [] },
    ],
    ["a file", { type: "file", file: { file_id: "file-1" } }, { remoteInputs: ["file"] }],
    ["sound", { type: "input_audio", input_audio: { data: "AAAA", format: "wav" } }, { unboundedParts: ["audio"] }],
    ["a part of a kind not known", { type: "hologram" }, { remoteInputs: ["hologram"] }],
    ["a part without a kind", { text: "x" }, { remoteInputs: ["unknown"] }],
  ])("counts %s for what it may be", (_, part, expected) => {
    expect(factsOf(openaiChat, { messages: [user([part])] })).toMatchObject(expected);
  });

  test.each<[string, string, number, boolean]>([
    ["takes the newer name alone", "gpt-6.2-sol", 7, false],
    ["is not known", "llama", 7, true],
  ])("puts a largest output in where it is null, under the name that a model which %s takes", (_, model, maxTokens, isOlder) => {
    const body = encoder.encode(JSON.stringify({ model, messages: [], max_tokens: null }));
    const facts = factsOf(openaiChat, decoder.decode(body));
    const edited = JSON.parse(decoder.decode(openaiChat.editRequest(body, facts, { maxTokens }))) as Record<string, unknown>;

    expect(edited).toMatchObject(isOlder ? { max_tokens: 7 } : { max_tokens: null, max_completion_tokens: 7 });
    expect("max_completion_tokens" in edited).toBe(!isOlder);
  });

  test("of the older kind is moved to no model that takes the newer name alone", () => {
    const facts = factsOf(openaiChat, { model: "gpt-4.1", messages: [user("Hi")], max_tokens: 7 });

    expect(openaiChat.rejectedBy(facts, "gpt-5-mini")).toContain("max_completion_tokens");
    expect(openaiChat.rejectedBy(facts, "gpt-4.1-mini")).toBeUndefined();
  });

  test.each([
    ["a negative number of answers", { n: -1 }],
    ["no answer", { n: 0 }],
    ["too many answers", { n: 100_000 }],
    ["a fraction", { max_tokens: 1.5 }],
    ["two largest outputs", { max_tokens: 1, max_completion_tokens: 1 }],
  ])("with %s is refused", (_, extra) => {
    const body = encoder.encode(JSON.stringify({ model: "m", messages: [], ...extra }));
    expect(openaiChat.readRequest(body).outcome).toBe("refused");
  });
});

describe("a response", () => {
  test.each<[string, Record<string, unknown>, Partial<RequestFacts>]>([
    ["its largest output", { max_output_tokens: 7 }, { maxTokens: 7 }],
    ["what came before, by its id", { previous_response_id: "resp_1" }, { remoteInputs: ["previous_response_id"] }],
    ["what came before, by its conversation", { conversation: "conv_1" }, { remoteInputs: ["conversation"] }],
    ["a stored prompt", { prompt: { id: "pmpt_1" } }, { remoteInputs: ["prompt"], unboundedParts: ["prompt"] }],
    ["an item by its id", { input: [{ type: "item_reference", id: "i" }] }, { remoteInputs: ["item_reference"] }],
    ["an item by its id alone", { input: [{ id: "i" }] }, { remoteInputs: ["item_reference"] }],
    [
      "an item by its id that says whose it was",
      { input: [{ role: "assistant", type: "item_reference", id: "i" }] },
      { remoteInputs: ["item_reference"] },
    ],
    ["reasoning by its id", { input: [{ type: "reasoning", id: "r", summary: [] }] }, { remoteInputs: ["reasoning"] }],
    ["reasoning that is sealed", { input: [{ type: "reasoning", encrypted_content: "x", summary: [] }] }, { remoteInputs: [] }],
    [
      "reasoning that is open",
      { input: [{ type: "reasoning", content: [{ type: "reasoning_text", text: "x" }], summary: [] }] },
      { remoteInputs: [] },
    ],
    [
      "tools that stand between the messages",
      { input: [{ type: "additional_tools", role: "developer", tools: [{ type: "web_search" }] }] },
      { unboundedParts: ["web_search"], remoteInputs: ["web_search", "additional_tools"] },
    ],
    ["work in the background", { background: true }, { isBackground: true }],
    ["work while one waits", { background: false }, { isBackground: false }],
    [
      "a search with a cap",
      { tools: [{ type: "web_search" }], max_tool_calls: 3 },
      { samplingsMax: 4, unboundedParts: ["web_search"] },
    ],
    ["tools that run at the provider", { tools: [{ type: "code_interpreter" }] }, { unboundedParts: ["code_interpreter"] }],
    ["a tool that is not known", { tools: [{ type: "time_machine" }] }, { unboundedParts: ["time_machine"] }],
    ["a screen", { tools: [{ type: "computer_use_preview" }] }, { unboundedParts: [], remoteInputs: ["computer_use_preview"] }],
    ["compaction", { context_management: [{ type: "compaction" }] }, { unboundedParts: ["compaction"], isHistoryEdited: true }],
    ["what it may leave out", { truncation: "auto" }, { isHistoryEdited: true }],
    ["an effort", { reasoning: { effort: "low" } }, { features: ["reasoning_effort"], unboundedParts: [] }],
    ["a mode that asks several times", { reasoning: { mode: "pro" } }, { unboundedParts: ["reasoning_mode"] }],
    ["the usual mode", { reasoning: { mode: "standard" } }, { unboundedParts: [] }],
  ])("reads %s", (_, extra, expected) => {
    expect(factsOf(openaiResponses, { input: "Hi", ...extra })).toMatchObject(expected);
  });

  test("reads its items as turns of a conversation", () => {
    const input = [
      user("Hi"),
      { type: "reasoning", encrypted_content: "xyz", summary: [] },
      { type: "function_call", call_id: "c", name: "f", arguments: "{}" },
      { type: "function_call_output", call_id: "c", output: [{ type: "input_image", image_url: PNG }] },
    ];
    expect(factsOf(openaiResponses, { input })).toMatchObject({
      history: { hasAssistantTurn: true, isAnsweringTool: true, hasThinking: true },
      remoteInputs: [],
      imageCount: 1,
      messageSpans: [
        { isAssistant: false },
        { isAssistant: true },
        { isAssistant: true },
        { isAssistant: false, payloadBytes: 400 },
      ],
    });
  });

  test("of one text is one message", () => {
    expect(factsOf(openaiResponses, { input: "Hello" }).messageSpans).toHaveLength(1);
  });
});

describe("an embedding", () => {
  test.each<[string, unknown, number]>([
    ["one text", "a", 1],
    ["three texts", ["a", "b", "c"], 3],
    ["one text in tokens", [1, 2, 3], 1],
    ["two texts in tokens", [[1], [2, 3]], 2],
  ])("of %s is read once for each", (_, input, samplingsMax) => {
    expect(factsOf(openaiEmbeddings, { input })).toMatchObject({ samplingsMax, maxTokens: 0, isPriority: false });
  });
});

describe("the bound of the input", () => {
  test("is a token for every byte of text, and the dearest size of every image", () => {
    const facts = factsOf(openaiChat, { messages: [user([{ type: "image_url", image_url: { url: PNG } }])] });

    expect(boundInputTokens(facts, "gpt-6.2-sol")).toBe(facts.bodyBytes - 400 + 25_000);
    expect(boundInputTokens(facts, "gpt-4o-mini")).toBe(facts.bodyBytes - 400 + 48_169);
    expect(boundInputTokens(facts, "unheard-of")).toBe(facts.bodyBytes - 400 + 48_169);
  });
});

describe("what goes upstream", () => {
  const sent = (api: typeof openaiChat, text: string, edit: { model?: string; maxTokens?: number } = {}): string =>
    decoder.decode(api.editRequest(encoder.encode(text), factsOf(api, text), edit));

  test.each([
    ['{"model":"m","stream":true}', '{"stream_options":{"include_usage":true},"model":"m","stream":true}'],
    ['{"model":"m","stream":true,"stream_options":null}', '{"model":"m","stream":true,"stream_options":{"include_usage":true}}'],
    ['{"model":"m","stream":true,"stream_options":{ }}', '{"model":"m","stream":true,"stream_options":{"include_usage":true }}'],
    [
      '{"stream_options":{"a":1},"model":"m","stream":true}',
      '{"stream_options":{"include_usage":true,"a":1},"model":"m","stream":true}',
    ],
    [
      '{"model":"m","stream":true,"stream_options":{"include_usage":false}}',
      '{"model":"m","stream":true,"stream_options":{"include_usage":true}}',
    ],
    [
      '{"model":"m","stream":true,"stream_options":{"include_usage":true}}',
      '{"model":"m","stream":true,"stream_options":{"include_usage":true}}',
    ],
    ['{"model":"m","stream":false}', '{"model":"m","stream":false}'],
    ['{"model":"m"}', '{"model":"m"}'],
  ])("asks a chat's stream for its usage: %s", (text, expected) => {
    expect(sent(openaiChat, text)).toBe(expected);
  });

  test.each<[string, typeof openaiChat, string, { model?: string; maxTokens?: number }, string]>([
    ["the field that is there", openaiChat, '{"model":"m","max_tokens":9}', { maxTokens: 5 }, '{"model":"m","max_tokens":5}'],
    [
      "null",
      openaiChat,
      '{"model":"m","max_completion_tokens":null}',
      { maxTokens: 5 },
      '{"model":"m","max_completion_tokens":5}',
    ],
    ["the newer field", openaiChat, '{"model":"o3"}', { maxTokens: 5 }, '{"max_completion_tokens":5,"model":"o3"}'],
    ["the older field", openaiChat, '{"model":"llama"}', { maxTokens: 5 }, '{"max_tokens":5,"model":"llama"}'],
    ["a response's field", openaiResponses, '{"model":"o3"}', { maxTokens: 5 }, '{"max_output_tokens":5,"model":"o3"}'],
    ["the model", openaiResponses, '{ "model" : "o3" }', { model: "gpt-5" }, '{ "model" : "gpt-5" }'],
    [
      "everything at once",
      openaiChat,
      '{"model":"o3","stream":true}',
      { model: "gpt-5", maxTokens: 5 },
      '{"max_completion_tokens":5,"stream_options":{"include_usage":true},"model":"gpt-5","stream":true}',
    ],
  ])("has %s replaced, and nothing else", (_, api, text, edit, expected) => {
    expect(sent(api, text, edit)).toBe(expected);
  });
});

describe("another model", () => {
  const plain = { messages: [user("Hi")] };
  test.each<[string, typeof openaiChat, Record<string, unknown>, string, RegExp | undefined]>([
    ["takes a plain chat", openaiChat, plain, "gpt-5.4-mini", undefined],
    ["nobody knows takes a plain chat", openaiChat, plain, "local/llama", undefined],
    ["that reasons takes no temperature", openaiChat, { ...plain, temperature: 0.2 }, "gpt-5.4-mini", /temperature/],
    ["that does not reason takes no effort", openaiChat, { ...plain, reasoning_effort: "low" }, "gpt-4.1", /effort/],
    ["takes no stored conversation", openaiResponses, { input: "x", previous_response_id: "r" }, "gpt-5", /stored/],
    ["takes no reasoning of another", openaiResponses, { input: [{ type: "reasoning" }] }, "gpt-5", /reasoning/],
    ["takes no embedding", openaiEmbeddings, { input: "x" }, "text-embedding-3-large", /embedding/],
    ["takes no tool of the provider's", openaiResponses, { input: "x", tools: [{ type: "web_search" }] }, "gpt-5", /web_search/],
  ])("%s", (_, api, body, model, reason) => {
    expect(api.rejectedBy(factsOf(api, body), model) ?? "nothing").toMatch(reason ?? /^nothing$/);
  });
});
