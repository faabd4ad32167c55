/** The simulator is close enough to the provider if the provider's own clients, and the ones people use, cannot tell. */
import { createAnthropic } from "@ai-sdk/anthropic";
import Anthropic from "@anthropic-ai/sdk";
import { ChatAnthropic } from "@langchain/anthropic";
import { generateText, streamText } from "ai";
import Anthropic0 from "anthropic-sdk-0";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { startSimulator, type Simulator } from "./simulator.ts";

let simulator: Simulator;
beforeEach(async () => {
  simulator = await startSimulator();
});
afterEach(() => simulator.close());

const QUESTION = {
  model: "claude-opus-5-5",
  max_tokens: 200,
  messages: [{ role: "user" as const, content: "What did the voyage cost?" }],
};
const TOOL = {
  name: "read_ledger",
  description: "Reads the ledger.",
  input_schema: { type: "object" as const, properties: { page: { type: "integer" } } },
};

const GENERATIONS = [
  ["1.x", () => new Anthropic({ apiKey: "sk-test", baseURL: simulator.url }), "2026-10-21"],
  ["0.137", () => new Anthropic0({ apiKey: "sk-test", baseURL: simulator.url }) as unknown as Anthropic, "2023-06-01"],
] as const;

describe.each(GENERATIONS)("the official SDK %s", (_, toClient, version) => {
  it("creates a message and reads its usage", async () => {
    simulator.next({ kind: "answer", inputTokens: 60_000, outputTokens: 150 });

    const message = await toClient().messages.create(QUESTION);

    expect(message).toMatchObject({ type: "message", role: "assistant", model: "claude-opus-5-5", stop_reason: "end_turn" });
    expect(message.usage).toMatchObject({ input_tokens: 60_000, output_tokens: 150, service_tier: "standard" });
    expect(message._request_id).toBe(simulator.requests[0]?.requestId);
    expect(simulator.requests[0]?.headers["anthropic-version"]).toBe(version);
  });

  it("streams thinking and text into the message that create would return", async () => {
    const stream = toClient().messages.stream({ ...QUESTION, thinking: { type: "adaptive" } });
    let text = "";
    stream.on("text", (delta) => (text += delta));
    const message = await stream.finalMessage();

    expect(message.content.map(({ type }) => type)).toEqual(["thinking", "text"]);
    expect(message.content[1]).toMatchObject({ text });
    expect(message.content[0]).toMatchObject({ signature: expect.stringMatching(/./), thinking: expect.stringMatching(/./) });
    expect(message.usage.output_tokens_details?.thinking_tokens).toBeGreaterThan(0);
    expect(simulator.bill.lines).toMatchObject([{ reported: "truth", reason: "answered" }]);
  });

  it("reads a tool call from its fragments", async () => {
    const input = { page: 7, note: "naïve “quotes” \\ and 🙂" };
    simulator.next({ kind: "answer", outputTokens: 90, content: [{ type: "tool_use", name: "read_ledger", input }] });

    const message = await toClient()
      .messages.stream({ ...QUESTION, tools: [TOOL] })
      .finalMessage();

    expect(message.stop_reason).toBe("tool_use");
    expect(message.content).toMatchObject([{ type: "tool_use", name: "read_ledger", input }]);
  });

  it("reads a web search of the provider's own", async () => {
    simulator.next({ kind: "answer", searches: 1 });

    const message = await toClient().messages.stream(QUESTION).finalMessage();

    expect(message.content.map(({ type }) => type)).toEqual(["server_tool_use", "web_search_tool_result", "text"]);
    expect(message.usage.server_tool_use).toMatchObject({ web_search_requests: 1 });
  });

  it.each([
    [400, "BadRequestError", 1],
    [401, "AuthenticationError", 1],
    [403, "PermissionDeniedError", 1],
    [404, "NotFoundError", 1],
    [429, "RateLimitError", 2],
    [500, "InternalServerError", 2],
    [529, "InternalServerError", 2],
  ])("throws its own class for %i", async (status, name, requestCount) => {
    simulator.always({ kind: "status", status, headers: { "retry-after-ms": "1" }, retryAfterSeconds: null });
    const client = toClient().withOptions({ maxRetries: 1 });

    const error: unknown = await client.messages.create(QUESTION).catch((thrown: unknown) => thrown);

    expect(classNames(error)).toContain(name);
    expect(error).toMatchObject({ status, requestID: expect.stringMatching(/^req_/) });
    expect(simulator.requests).toHaveLength(requestCount);
  });

  it("throws for an error event in mid-stream, and does not ask again", async () => {
    simulator.next({ kind: "error_event", afterEvents: 4 });

    const error: unknown = await toClient()
      .messages.stream(QUESTION)
      .finalMessage()
      .catch((thrown: unknown) => thrown);

    expect(error).toMatchObject({ status: undefined, error: { error: { type: "overloaded_error" } } });
    expect(simulator.requests).toHaveLength(1);
    expect(simulator.bill.lines).toMatchObject([{ reason: "error_event", reportedCostNanoUsd: undefined }]);
  });

  it("counts tokens and lists models page by page", async () => {
    const client = toClient();
    const { max_tokens: _unused, ...counted } = QUESTION;

    const { input_tokens } = await client.messages.countTokens(counted);
    const message = await client.messages.create(QUESTION);
    const ids: string[] = [];
    for await (const model of client.models.list({ limit: 4 })) ids.push(model.id);
    const haiku = await client.models.retrieve("claude-haiku-4-5");

    expect(input_tokens).toBe(message.usage.input_tokens);
    expect(ids).toHaveLength(new Set(ids).size);
    expect(ids).toEqual(expect.arrayContaining(["claude-fable-5-2", "claude-sonnet-4-5-20250929"]));
    expect(haiku).toMatchObject({ id: "claude-haiku-4-5-20251001", type: "model", display_name: "Claude Haiku 4.5" });
    expect(simulator.bill.lines).toHaveLength(1);
  });

  it("is noticed when it leaves in mid-stream", async () => {
    simulator.next({ kind: "stall", afterEvents: 5 });
    const stream = toClient().messages.stream(QUESTION);
    const failed = stream.finalMessage().catch((error: unknown) => error);
    await new Promise<void>((resolve) => void stream.once("text", () => resolve()));

    stream.abort();
    await failed;
    await simulator.ended(0);

    expect(simulator.aborted).toBe(1);
    expect(simulator.openStreams).toBe(0);
    expect(simulator.bill.lines).toMatchObject([{ reason: "aborted", reported: "nothing" }]);
  });
});

it("refuses sampling fields under 2026-10-21 only", async () => {
  const body = { ...QUESTION, temperature: 0.5 };

  const error: unknown = await new Anthropic({ apiKey: "k", baseURL: simulator.url }).messages
    .create(body as typeof QUESTION)
    .catch((thrown: unknown) => thrown);
  const message = await new Anthropic0({ apiKey: "k", baseURL: simulator.url }).messages.create(body);

  expect(error).toMatchObject({ status: 400, error: { error: { type: "invalid_request_error" } } });
  expect(message.type).toBe("message");
});

describe("the AI SDK", () => {
  const toModel = () => createAnthropic({ baseURL: `${simulator.url}/v1`, apiKey: "sk-test" })("claude-sonnet-5-5");

  it("generates and streams text with its usage", async () => {
    simulator.always({ kind: "answer", inputTokens: 500, outputTokens: 40 });

    const generated = await generateText({ model: toModel(), prompt: "hello" });
    const streamed = streamText({ model: toModel(), prompt: "hello" });
    let text = "";
    for await (const part of streamed.textStream) text += part;

    expect(generated.usage).toMatchObject({ inputTokens: 500, outputTokens: 40 });
    expect(await streamed.usage).toMatchObject({ inputTokens: 500, outputTokens: 40 });
    expect(text.length).toBeGreaterThan(0);
  });
});

describe("LangChain", () => {
  it("invokes and streams with its usage", async () => {
    simulator.always({ kind: "answer", inputTokens: 500, outputTokens: 40 });
    const model = new ChatAnthropic({ model: "claude-sonnet-4-6", apiKey: "sk-test", anthropicApiUrl: simulator.url });

    const message = await model.invoke("hello");
    const chunks: { readonly usage_metadata?: { readonly output_tokens: number } | undefined }[] = [];
    for await (const chunk of await model.stream("hello")) chunks.push(chunk);
    const outputTokens = chunks.reduce((sum, chunk) => sum + (chunk.usage_metadata?.output_tokens ?? 0), 0);

    expect(message.usage_metadata).toMatchObject({ input_tokens: 500, output_tokens: 40 });
    expect(outputTokens).toBeGreaterThanOrEqual(40);
  });
});

function classNames(error: unknown): string[] {
  const names: string[] = [];
  for (let prototype: unknown = Object.getPrototypeOf(error); prototype !== null; prototype = Object.getPrototypeOf(prototype))
    names.push((prototype as { constructor: { name: string } }).constructor.name);
  return names;
}
