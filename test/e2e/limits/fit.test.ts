/**
 * Goal: a call that asks for more than is left runs with as much as there is, and is refused only where its smallest useful form has no
 * room. Method: the official SDK against the gateway; what the simulator was sent is what the provider would have been.
 */
import Anthropic from "@anthropic-ai/sdk";
import { expect, it } from "vitest";
import { startBench, type Bench } from "../harness.ts";
import { MODEL } from "../http.ts";

const ASKED = 30_000;

function create(bench: Bench, outputTokens: number) {
  const behaviour = JSON.stringify({ kind: "answer", outputTokens });
  const client = new Anthropic({
    apiKey: "sk-test",
    baseURL: bench.url,
    defaultHeaders: { "x-simulator-behaviour": behaviour, "x-purser-agent": "a" },
  });
  const messages = [{ role: "user" as const, content: "Say hello." }];
  const stream = client.messages.stream({ model: MODEL, max_tokens: ASKED, messages });
  return stream.withResponse().then(async ({ response }) => {
    await stream.finalMessage();
    return response.headers;
  });
}

const sentMaxTokens = (bench: Bench): unknown[] =>
  bench.simulator.requests.map(({ json }) => (json as { max_tokens?: unknown } | undefined)?.max_tokens);

it("what fits is made as large as it can be, and never smaller than this agent's answers need", async () => {
  const bench = await startBench({ yaml: "limits: [{ name: out, per: all, outputTokens: 33_000, every: day }]\n" });

  await create(bench, 4_000);
  const fitted = await create(bench, 26_000);
  const refused = create(bench, 100);

  expect([fitted.get("x-purser-decision"), fitted.get("x-purser-max-tokens")]).toEqual(["fitted", "29000"]);
  // 3,000 are left: more than 1,024, and less than nine of ten answers of this agent needed.
  await expect(refused).rejects.toMatchObject({ status: 402 });
  expect(sentMaxTokens(bench)).toEqual([ASKED, 29_000]);
  const [, second] = await bench.calls();
  expect(second).toMatchObject({ decision: { marks: ["fitted"], maxTokens: 29_000, outputTokensBound: 29_000 } });
});

it("a limit with fit: off refuses what does not fit as it is", async () => {
  const bench = await startBench({ yaml: "limits: [{ name: out, per: all, outputTokens: 29_999, every: day, fit: off }]\n" });

  await expect(create(bench, 100)).rejects.toMatchObject({ status: 402 });
  expect(sentMaxTokens(bench)).toEqual([]);
});
