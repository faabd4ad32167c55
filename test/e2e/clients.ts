/** The real clients that agents use, each as one call and one streamed call, and what they make of an error. */
import Anthropic from "@anthropic-ai/sdk";
import AnthropicOld from "anthropic-sdk-0";
import { createAnthropic } from "@ai-sdk/anthropic";
import { generateText, streamText } from "ai";
import { ChatAnthropic } from "@langchain/anthropic";

export interface ClientCall {
  /** Where the gateway listens. */
  url: string;
  model: string;
  headers?: Record<string, string>;
  /** What requests are made with; absent: the client's own. */
  fetch?: typeof globalThis.fetch;
}

export interface RealClient {
  name: string;
  /** Asks for "hello" and answers its text; throws whatever the client throws. */
  readonly call: (input: ClientCall) => Promise<string>;
}

const prompt = "Say hello.";
const maxTokens = 64;

export const REAL_CLIENTS: RealClient[] = [
  {
    name: "@anthropic-ai/sdk 1.x",
    async call({ url, model, headers = {}, fetch = globalThis.fetch }) {
      const client = new Anthropic({ apiKey: "sk-test", baseURL: url, defaultHeaders: headers, fetch });
      const message = await client.messages.create({
        model,
        max_tokens: maxTokens,
        messages: [{ role: "user", content: prompt }],
      });
      return JSON.stringify(message.content);
    },
  },
  {
    name: "@anthropic-ai/sdk 1.x, streamed",
    async call({ url, model, headers = {}, fetch = globalThis.fetch }) {
      const client = new Anthropic({ apiKey: "sk-test", baseURL: url, defaultHeaders: headers, fetch });
      const stream = client.messages.stream({ model, max_tokens: maxTokens, messages: [{ role: "user", content: prompt }] });
      return JSON.stringify((await stream.finalMessage()).content);
    },
  },
  {
    name: "@anthropic-ai/sdk 0.137",
    async call({ url, model, headers = {}, fetch = globalThis.fetch }) {
      const client = new AnthropicOld({ apiKey: "sk-test", baseURL: url, defaultHeaders: headers, fetch });
      const message = await client.messages.create({
        model,
        max_tokens: maxTokens,
        messages: [{ role: "user", content: prompt }],
      });
      return JSON.stringify(message.content);
    },
  },
  {
    name: "@anthropic-ai/sdk 0.137, streamed",
    async call({ url, model, headers = {}, fetch = globalThis.fetch }) {
      const client = new AnthropicOld({ apiKey: "sk-test", baseURL: url, defaultHeaders: headers, fetch });
      const stream = client.messages.stream({ model, max_tokens: maxTokens, messages: [{ role: "user", content: prompt }] });
      return JSON.stringify((await stream.finalMessage()).content);
    },
  },
  {
    name: "ai 7 with @ai-sdk/anthropic 4",
    async call({ url, model, headers = {}, fetch = globalThis.fetch }) {
      const anthropic = createAnthropic({ apiKey: "sk-test", baseURL: `${url}/v1`, headers, fetch });
      return (await generateText({ model: anthropic(model), prompt, maxOutputTokens: maxTokens })).text;
    },
  },
  {
    name: "ai 7 with @ai-sdk/anthropic 4, streamed",
    async call({ url, model, headers = {}, fetch = globalThis.fetch }) {
      const anthropic = createAnthropic({ apiKey: "sk-test", baseURL: `${url}/v1`, headers, fetch });
      let failure: unknown;
      const result = streamText({
        model: anthropic(model),
        prompt,
        maxOutputTokens: maxTokens,
        onError: ({ error }) => {
          failure = error;
        },
      });
      let text = "";
      for await (const part of result.textStream) text += part;
      if (failure !== undefined) throw failure instanceof Error ? failure : new Error(JSON.stringify(failure));
      return text;
    },
  },
  {
    name: "@langchain/anthropic 1.5",
    async call({ url, model, headers = {}, fetch = globalThis.fetch }) {
      const chat = new ChatAnthropic({
        model,
        maxTokens,
        apiKey: "sk-test",
        anthropicApiUrl: url,
        clientOptions: { defaultHeaders: headers, fetch },
      });
      return JSON.stringify((await chat.invoke(prompt)).content);
    },
  },
];

/** The error object of Purser's answer, wherever a client keeps it. */
export function errorOf(thrown: unknown): { type: string; message: string; details: Record<string, unknown> } {
  const text = findErrorText(thrown, new Set());
  if (text === undefined) throw new Error(`no provider error in ${String(thrown)}`, { cause: thrown });
  return text;
}

function findErrorText(value: unknown, seen: Set<unknown>): ReturnType<typeof errorOf> | undefined {
  if (typeof value === "string" && value.includes('"details"')) {
    const start = value.indexOf("{");
    try {
      return findErrorText(JSON.parse(value.slice(start)), seen);
    } catch {
      return undefined;
    }
  }
  if (typeof value !== "object" || value === null || seen.has(value)) return undefined;
  seen.add(value);
  const record = value as Record<string, unknown>;
  const details = record["details"] as Record<string, unknown> | null | undefined;
  if (details?.["code"] !== undefined && typeof record["message"] === "string" && typeof record["type"] === "string") {
    return record as unknown as ReturnType<typeof errorOf>;
  }
  for (const key of ["error", "data", "lastError", "responseBody", "cause", "errors"]) {
    const found = findErrorText(record[key], seen);
    if (found !== undefined) return found;
  }
  return undefined;
}
