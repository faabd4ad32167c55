import { describe, expect, test } from "vitest";
import type { TokenParts, Usage } from "../../core/usage/usage.ts";
import { openaiChat, openaiResponses } from "./openai.ts";
import { fromUsage, type ReadUsageOptions } from "./usage.ts";

const partsOf = (usage: Usage): Partial<TokenParts> =>
  Object.fromEntries(Object.entries(usage.samplings[0]?.tokens ?? {}).filter(([, count]) => count !== 0));

describe("usage", () => {
  test.each<[string, unknown, Partial<TokenParts>, ReadUsageOptions, string[]]>([
    [
      "of a chat, whose input holds what was cached and written",
      {
        prompt_tokens: 100,
        completion_tokens: 20,
        total_tokens: 120,
        prompt_tokens_details: { cached_tokens: 30, cache_write_tokens: 50 },
        completion_tokens_details: { reasoning_tokens: 15, rejected_prediction_tokens: 3 },
      },
      { uncachedInputTokens: 20, cacheReadTokens: 30, cacheWrite5mTokens: 50, outputTokens: 20, reasoningOutputTokens: 15 },
      {},
      [],
    ],
    [
      "of a response, with both lifetimes of what was written",
      {
        input_tokens: 100,
        output_tokens: 20,
        input_tokens_details: { cache_write_tokens: 50, cache_write_tokens_details: { ttl_30m_tokens: 10, ttl_12h_tokens: 40 } },
      },
      { uncachedInputTokens: 50, cacheWrite5mTokens: 10, cacheWrite1hTokens: 40, outputTokens: 20 },
      {},
      [],
    ],
    [
      "that does not say how long what was written lives, where it may be long",
      { input_tokens: 100, output_tokens: 1, input_tokens_details: { cache_write_tokens: 60 } },
      { uncachedInputTokens: 40, cacheWrite1hTokens: 60, outputTokens: 1 },
      { cacheWrites: "1h" },
      ["cache_ttl_unknown"],
    ],
    ["of an embedding", { prompt_tokens: 8, total_tokens: 8 }, { uncachedInputTokens: 8 }, {}, []],
    [
      "whose parts are more than their whole: the parts",
      { prompt_tokens: 10, completion_tokens: 1, prompt_tokens_details: { cached_tokens: 30 } },
      { cacheReadTokens: 30, outputTokens: 1 },
      {},
      ["usage_contradicts"],
    ],
    [
      "whose total holds more than its parts: the rest is output",
      { prompt_tokens: 10, completion_tokens: 5, total_tokens: 40 },
      { uncachedInputTokens: 10, outputTokens: 30 },
      {},
      ["usage_contradicts"],
    ],
    [
      "with sound in it, which has no price",
      { prompt_tokens: 10, completion_tokens: 5, prompt_tokens_details: { audio_tokens: 4 } },
      { uncachedInputTokens: 10, outputTokens: 5 },
      {},
      ["unknown_meter"],
    ],
    ["with a figure that is no count", { prompt_tokens: -1, completion_tokens: 5 }, { outputTokens: 5 }, {}, ["malformed_usage"]],
    ["that is none", null, {}, {}, ["malformed_usage"]],
  ])("is read: %s", (_, json, parts, options, flags) => {
    const usage = fromUsage(json, "m", options);

    expect(partsOf(usage)).toEqual(parts);
    expect(usage.flags).toEqual(flags);
  });

  test.each<[unknown, Usage["serviceTier"], string[]]>([
    ["default", "standard", []],
    ["flex", "flex", []],
    ["priority", "priority", []],
    ["fast", "priority", []],
    [null, undefined, []],
    ["ultrafast", undefined, ["unknown_meter"]],
    ["auto", undefined, ["unknown_meter"]],
    ["scale", undefined, ["unknown_meter"]],
  ])("of the tier %s", (serviceTier, tier, flags) => {
    const usage = fromUsage({ prompt_tokens: 1, completion_tokens: 1 }, "m", { serviceTier });

    expect([usage.serviceTier, usage.flags]).toEqual([tier, flags]);
  });
});

function readOf(api: typeof openaiChat, contentType: string, text: string) {
  const meter = api.openMeter({ contentType, requestedModel: "asked" });
  meter.push(new TextEncoder().encode(text));
  meter.end();
  return meter.reading();
}

const chunk = (fields: Record<string, unknown>): string => `data: ${JSON.stringify({ model: "m", ...fields })}\n\n`;
const choice = (content: string, reason: string | null = null) => ({
  choices: [{ index: 0, delta: { content }, finish_reason: reason }],
});
const usage = { prompt_tokens: 10, completion_tokens: 5, total_tokens: 15 };

describe("an answer", () => {
  test.each<[string, string, object]>([
    [
      "that ends with its usage",
      chunk(choice("a")) + chunk(choice("", "stop")) + chunk({ choices: [], usage }) + "data: [DONE]\n\n",
      { isFinal: true, stopReason: "stop", usage: { samplings: [{ tokens: { outputTokens: 5 } }], flags: [] } },
    ],
    ["that breaks off before its usage", chunk(choice("a")), { isFinal: false, stopReason: undefined, usage: undefined }],
    [
      "that waits for a tool",
      chunk(choice("", "tool_calls")) + chunk({ choices: [], usage }) + "data: [DONE]\n\n",
      { isFinal: true, stopReason: "tool_use" },
    ],
    [
      "of which one of several is done",
      chunk({ ...choice("a", "stop"), usage }) + chunk(choice("b")),
      { isFinal: false, stopReason: undefined, usage: { samplings: [{ tokens: { outputTokens: 5 } }] } },
    ],
    [
      "whose later usage is lower: the higher is kept",
      chunk({ ...choice("a"), usage }) + chunk({ choices: [], usage: { ...usage, completion_tokens: 2 } }) + "data: [DONE]\n\n",
      { isFinal: true, usage: { samplings: [{ tokens: { outputTokens: 5 } }], flags: ["usage_fell"] } },
    ],
    [
      "that ends with an error before anything was written",
      `data: ${JSON.stringify({ error: { code: "server_error", message: "x" } })}\n\n`,
      { isFinal: false, usage: undefined, error: { type: "server_error" } },
    ],
    [
      "that ends with an error after something was written: not for nothing",
      chunk(choice("a")) + `data: ${JSON.stringify({ error: { code: "server_error", message: "x" } })}\n\n`,
      { isFinal: false, usage: { samplings: [], flags: ["malformed_usage"] }, error: { type: "server_error" } },
    ],
    [
      "that a filter speaks first in, before any model is named",
      chunk({ model: "", choices: [], prompt_filter_results: [] }) +
        chunk(choice("a")) +
        chunk({ choices: [], usage }) +
        "data: [DONE]\n\n",
      { isFinal: true, model: "m", usage: { samplings: [{ model: "m" }] } },
    ],
    [
      "whose text speaks of usage",
      chunk(choice('"usage":{"prompt_tokens":999999}')) + chunk({ choices: [], usage }) + "data: [DONE]\n\n",
      { isFinal: true, usage: { samplings: [{ tokens: { uncachedInputTokens: 10 } }] } },
    ],
  ])("as a chat's stream %s", (_, text, expected) => {
    expect(readOf(openaiChat, "text/event-stream", text)).toMatchObject(expected);
  });

  const event = (type: string, response: Record<string, unknown>): string =>
    `event: ${type}\ndata: ${JSON.stringify({ type, response: { id: "resp_1", model: "m", ...response } })}\n\n`;
  const responseUsage = { input_tokens: 10, output_tokens: 5, total_tokens: 15 };

  test.each<[string, string, object]>([
    [
      "that is complete",
      event("response.created", { status: "in_progress" }) +
        event("response.completed", { status: "completed", usage: responseUsage, service_tier: "flex" }),
      { isFinal: true, stopReason: "completed", usage: { serviceTier: "flex", samplings: [{ tokens: { outputTokens: 5 } }] } },
    ],
    [
      "that is incomplete",
      event("response.incomplete", {
        status: "incomplete",
        usage: responseUsage,
        incomplete_details: { reason: "max_output_tokens" },
      }),
      { isFinal: true, stopReason: "max_output_tokens" },
    ],
    ["that began", event("response.created", { status: "in_progress" }), { isFinal: false, usage: undefined, model: "m" }],
    [
      "that goes on in the background",
      event("response.created", { status: "in_progress", background: true }),
      { isFinal: false, usage: undefined, continuesAs: "resp_1" },
    ],
    [
      "that failed before anything was written",
      event("response.failed", { status: "failed", error: { code: "server_error", message: "x" }, usage: null, output: [] }),
      { isFinal: false, usage: undefined, error: { type: "server_error" } },
    ],
    [
      "that broke off with an error after something was written",
      'event: response.output_item.added\ndata: {"type":"response.output_item.added"}\n\n' +
        'event: error\ndata: {"type":"error","code":"server_error","message":"x"}\n\n',
      { isFinal: false, usage: { flags: ["malformed_usage"] }, error: { type: "server_error" } },
    ],
  ])("as a response's stream %s", (_, text, expected) => {
    expect(readOf(openaiResponses, "text/event-stream", text)).toMatchObject(expected);
  });

  test.each<[string, Record<string, unknown>, object]>([
    ["of a chat", { model: "m", choices: [{ finish_reason: "length" }], usage }, { isFinal: true, stopReason: "length" }],
    ["without usage", { model: "m", choices: [] }, { isFinal: false, usage: undefined }],
    [
      "of a response with a search, whose fee no usage says",
      { model: "m", status: "completed", output: [{ type: "web_search_call" }], usage: responseUsage },
      { isFinal: true, usage: { flags: ["unknown_meter"] } },
    ],
    [
      "of a response that waits for a tool",
      { model: "m", status: "completed", output: [{ type: "function_call" }], usage: responseUsage },
      { stopReason: "tool_use" },
    ],
    [
      "of a response in the background",
      { id: "resp_1", model: "m", status: "queued", usage: null },
      { isFinal: false, usage: undefined, stopReason: undefined, continuesAs: "resp_1" },
    ],
    [
      "of an error",
      { error: { type: "server_error", code: null, message: "x" } },
      { error: { type: "server_error" }, usage: undefined },
    ],
  ])("as JSON %s", (_, json, expected) => {
    expect(readOf(openaiResponses, "application/json", JSON.stringify(json))).toMatchObject(expected);
  });
});
