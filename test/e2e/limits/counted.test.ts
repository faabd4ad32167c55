/**
 * Goal: a call that its bytes would keep out is bounded by the provider's own count of it, and by nothing else that is cheaper to be
 * wrong. Method: the official SDK against the gateway; the simulator counts by its own rule, and bills by it.
 */
import Anthropic, { APIError } from "@anthropic-ai/sdk";
import { expect, it } from "vitest";
import { startBench, type Bench } from "../harness.ts";
import { MODEL } from "../http.ts";

/** The simulator counts a token per four bytes. */
const PROMPT_TOKENS = 100_000;
const PROMPT = "word".repeat(PROMPT_TOKENS);
const MAX_TOKENS = 2_000;
const BOUND = PROMPT_TOKENS * 1.05 + 500 + MAX_TOKENS;

const limitOf = (tokens: number): string =>
  `limits: [{ name: tight, per: all, tokens: ${tokens}, every: day, fit: off }, { name: money, per: all, usd: 25, every: day }]\n`;

function clientOf(bench: Bench): Anthropic {
  return new Anthropic({ apiKey: "sk-test", baseURL: bench.url, maxRetries: 0 });
}

function create(bench: Bench, more: Partial<Anthropic.MessageCreateParamsNonStreaming> = {}) {
  const messages = [{ role: "user" as const, content: PROMPT }];
  return clientOf(bench).messages.create({ model: MODEL, max_tokens: MAX_TOKENS, messages, ...more });
}

const messagesOf = (request: { json: unknown } | undefined): unknown =>
  (request?.json as Partial<Anthropic.MessageCreateParams> | undefined)?.messages;

const pathsOf = (bench: Bench): string[] => bench.simulator.requests.map(({ pathname }) => pathname);

it("admits by count what its bytes would keep out, under the caller's own key, and records no call for it", async () => {
  const bench = await startBench({ yaml: limitOf(BOUND + 200) });

  const message = await create(bench, { stop_sequences: ["END"], metadata: { user_id: "u" } });

  expect(message.usage.input_tokens).toBeGreaterThanOrEqual(PROMPT_TOKENS);
  expect(pathsOf(bench)).toEqual(["/v1/messages/count_tokens", "/v1/messages"]);
  const [count, call] = bench.simulator.requests;
  const { authorization, "x-api-key": key } = call?.headers ?? {};
  const credential = { ...(authorization !== undefined && { authorization }), ...(key !== undefined && { "x-api-key": key }) };
  expect(Object.keys(credential)).toHaveLength(1);
  expect(count?.headers).toMatchObject(credential);
  expect(Object.keys(count?.json as object)).toEqual(["model", "messages"]);
  expect(messagesOf(count)).toEqual(messagesOf(call));
  const [record, ...others] = await bench.calls();
  expect(others).toEqual([]);
  const counted = message.usage.input_tokens;
  expect(record?.decision).toMatchObject({ countedTokens: counted, inputTokensBound: counted + Math.ceil(counted / 20) + 500 });
  expect(record).toMatchObject({ status: "settled", overrunNanoUsd: 0n });
});

const SEARCH: Anthropic.ToolUnion[] = [{ type: "web_search_20250305", name: "web_search", max_uses: 1 }];

it.each([
  { where: "the bytes suffice", tokens: 1_000_000, more: {}, paths: ["/v1/messages"] },
  { where: "no count could help", tokens: 3_000, more: {}, paths: [] },
  { where: "the request reads more than its body", tokens: BOUND + 200, more: { tools: SEARCH }, paths: [] },
])("asks for no count where $where", async ({ tokens, more, paths }) => {
  const bench = await startBench({ yaml: limitOf(tokens) });

  const status = await create(bench, more).then(
    () => 200,
    (error: unknown) => (error instanceof APIError ? error.status : error),
  );

  expect({ status, paths: pathsOf(bench) }).toEqual({ status: paths.length > 0 ? 200 : 402, paths });
});

it("is refused once, by its bytes, where the provider counts nothing or too much", async () => {
  const bench = await startBench({ yaml: limitOf(BOUND - 200) });

  await expect(create(bench)).rejects.toMatchObject({ status: 402 });
  bench.simulator.next({ kind: "status", status: 500 }, ({ pathname }) => pathname.endsWith("/count_tokens"));
  await expect(create(bench)).rejects.toMatchObject({ status: 402 });
  // Left alone for a while.
  await expect(create(bench)).rejects.toMatchObject({ status: 402 });

  expect(pathsOf(bench)).toEqual(["/v1/messages/count_tokens", "/v1/messages/count_tokens"]);
  expect((await bench.calls()).map(({ status, decision }) => [status, decision?.countedTokens === undefined])).toEqual([
    ["denied", false],
    ["denied", true],
    ["denied", true],
  ]);
});
