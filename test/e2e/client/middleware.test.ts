/** Goal: the same limits where a `fetch` is too late: as a middleware of Anthropic's SDK, and scopes as one of the AI SDK. */
import { createAnthropic } from "@ai-sdk/anthropic";
import Anthropic from "@anthropic-ai/sdk";
import { generateText, streamText, wrapLanguageModel } from "ai";
import AnthropicOld from "anthropic-sdk-0";
import { describe, expect, it } from "vitest";
import { LimitReachedError } from "../../../src/client/entry.ts";
import { MODEL, REQUEST, startClientBench, sumOf, type ClientBench } from "./harness.ts";

/** As clients for other clouds do behind their middleware: the address is another, the body is written anew from what it holds, and signed. */
function backend({ simulator }: ClientBench, signed: string[]): typeof fetch {
  return (input, init) => {
    const { pathname } = new URL(input instanceof Request ? input.url : input);
    const path = pathname.slice(pathname.lastIndexOf("/v1/"));
    const body = JSON.stringify(JSON.parse(init?.body as string));
    signed.push(body);
    return fetch(simulator.url + path, { ...init, body });
  };
}

describe.each([
  ["1.x", Anthropic],
  ["0.x", AnthropicOld as unknown as typeof Anthropic],
])("purser.middleware in @anthropic-ai/sdk %s", (_version, Sdk) => {
  it("meters calls and streams to whatever cloud, and says no as the provider does", async () => {
    const bench = await startClientBench({ limits: [{ name: "two", per: "agent", requests: 2, every: "day" }] });
    const { purser, calls, simulator } = bench;
    const signed: string[] = [];
    const client = new Sdk({
      apiKey: "sk-test",
      baseURL: "https://cloud.example.com/v1",
      fetch: backend(bench, signed),
      middleware: [purser.middleware],
    });

    await purser.run({ agent: "a" }, async () => {
      const message = await client.messages.create(REQUEST);
      expect(message.content[0]?.type).toBe("text");
      const streamed = await client.messages.stream(REQUEST).finalMessage();
      expect(streamed.usage.output_tokens).toBeGreaterThan(0);
      const thrown = await client.messages.create(REQUEST).catch((error: unknown) => error);
      expect(LimitReachedError.from(thrown)).toMatchObject({ limit: "two", scope: { agent: "a" } });
    });

    const all = await calls();
    expect(all.map(({ status }) => status)).toEqual(["settled", "settled", "denied"]);
    expect(sumOf(all)).toBe(simulator.bill.totalNanoUsd);
    expect(signed).toHaveLength(2);
  });

  it("beside purser.fetch counts a call once", async () => {
    const { purser, calls, simulator, url } = await startClientBench();
    const client = new Sdk({ apiKey: "sk-test", baseURL: url, fetch: purser.fetch, middleware: [purser.middleware] });

    await client.messages.create(REQUEST);
    await client.messages.stream(REQUEST).finalMessage();

    expect((await calls()).map(({ status }) => status)).toEqual(["settled", "settled"]);
    expect(sumOf(await calls())).toBe(simulator.bill.totalNanoUsd);
  });

  it("changes the request before it is signed", async () => {
    const bench = await startClientBench({
      limits: [{ name: "cheaper", per: "all", usd: 100, every: "day", at: { "$0.000001": "downgrade", "100%": "stop" } }],
      config: { models: { downgrade: { [MODEL]: "claude-haiku-5-5" } } },
    });
    const signed: string[] = [];
    const client = new Sdk({ apiKey: "k", fetch: backend(bench, signed), middleware: [bench.purser.middleware] });

    await client.messages.create(REQUEST);
    await client.messages.create(REQUEST);

    expect(signed.map((body) => (JSON.parse(body) as { model: string }).model)).toEqual([MODEL, "claude-haiku-5-5"]);
  });
});

describe("purser.languageModel in the AI SDK", () => {
  it("names who calls of a model count for, generated and streamed", async () => {
    const { url, purser, calls } = await startClientBench();
    const anthropic = createAnthropic({ apiKey: "k", baseURL: `${url}/v1`, fetch: purser.fetch });
    const model = wrapLanguageModel({
      model: anthropic(MODEL),
      middleware: purser.languageModel({ agent: "writer", task: "draft" }),
    });

    await purser.run({ session: "s" }, async () => {
      await generateText({ model, prompt: "Say hello.", maxOutputTokens: 64 });
      const { textStream } = streamText({ model, prompt: "Say hello.", maxOutputTokens: 64 });
      for await (const _ of textStream);
    });
    await generateText({ model: anthropic(MODEL), prompt: "Say hello.", maxOutputTokens: 64 });

    const scopes = (await calls()).map(({ facts }) => [facts.scopes.session, facts.scopes.agent, facts.scopes.task]);
    expect(scopes.slice(0, 2)).toEqual([
      ["s", "writer", "draft"],
      ["s", "writer", "draft"],
    ]);
    expect(scopes[2]?.slice(1)).toEqual(["default", "default"]);
  });
});
