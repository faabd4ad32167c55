/** The real clients that speak OpenAI's protocols, each as one call and one streamed call. */
import { createOpenAI } from "@ai-sdk/openai";
import { ChatOpenAI } from "@langchain/openai";
import { generateText, streamText } from "ai";
import OpenAI from "openai";
import type { ClientCall, RealClient } from "./clients.ts";

const prompt = "Say hello.";
const maxTokens = 64;

function sdk({ url, headers = {}, fetch = globalThis.fetch }: ClientCall): OpenAI {
  return new OpenAI({ apiKey: "sk-test", baseURL: `${url}/v1`, defaultHeaders: headers, fetch });
}

function aiSdk({ url, headers = {}, fetch = globalThis.fetch }: ClientCall): ReturnType<typeof createOpenAI> {
  return createOpenAI({ apiKey: "sk-test", baseURL: `${url}/v1`, headers, fetch });
}

async function streamed(model: Parameters<typeof streamText>[0]["model"]): Promise<string> {
  let failure: unknown;
  const onError = ({ error }: { error: unknown }): void => void (failure = error);
  const result = streamText({ model, prompt, maxOutputTokens: maxTokens, onError });
  let text = "";
  for await (const part of result.textStream) text += part;
  if (failure !== undefined) throw failure instanceof Error ? failure : new Error(JSON.stringify(failure));
  return text;
}

export const OPENAI_CLIENTS: RealClient[] = [
  {
    name: "openai 7, chat",
    async call(input) {
      const { choices } = await sdk(input).chat.completions.create({
        model: input.model,
        max_completion_tokens: maxTokens,
        messages: [{ role: "user", content: prompt }],
      });
      return choices[0]?.message.content ?? "";
    },
  },
  {
    name: "openai 7, chat streamed",
    async call(input) {
      const stream = await sdk(input).chat.completions.create({
        model: input.model,
        max_completion_tokens: maxTokens,
        messages: [{ role: "user", content: prompt }],
        stream: true,
      });
      let text = "";
      for await (const { choices } of stream) text += choices[0]?.delta.content ?? "";
      return text;
    },
  },
  {
    name: "openai 7, responses",
    async call(input) {
      const response = await sdk(input).responses.create({ model: input.model, max_output_tokens: maxTokens, input: prompt });
      return response.output_text;
    },
  },
  {
    name: "openai 7, responses streamed",
    async call(input) {
      const stream = sdk(input).responses.stream({ model: input.model, max_output_tokens: maxTokens, input: prompt });
      return (await stream.finalResponse()).output_text;
    },
  },
  {
    name: "ai 7 with @ai-sdk/openai 4, chat",
    async call(input) {
      const model = aiSdk(input).chat(input.model);
      return (await generateText({ model, prompt, maxOutputTokens: maxTokens })).text;
    },
  },
  { name: "ai 7 with @ai-sdk/openai 4, chat streamed", call: (input) => streamed(aiSdk(input).chat(input.model)) },
  {
    name: "ai 7 with @ai-sdk/openai 4, responses",
    async call(input) {
      const model = aiSdk(input)(input.model);
      return (await generateText({ model, prompt, maxOutputTokens: maxTokens })).text;
    },
  },
  { name: "ai 7 with @ai-sdk/openai 4, responses streamed", call: (input) => streamed(aiSdk(input)(input.model)) },
  {
    name: "@langchain/openai 1.5",
    async call({ url, model, headers = {}, fetch = globalThis.fetch }) {
      const chat = new ChatOpenAI({
        model,
        maxTokens,
        apiKey: "sk-test",
        configuration: { baseURL: `${url}/v1`, defaultHeaders: headers, fetch },
      });
      return JSON.stringify((await chat.invoke(prompt)).content);
    },
  },
];
