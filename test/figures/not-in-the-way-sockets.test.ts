/**
 * Goal: what the engine keeps in virtual time holds over the real thing as well. Method: five agents, a gateway with its SQLite ledger and
 * the simulator on real sockets, one small budget until each agent was refused for good; the bill is the simulator's.
 */
import { expect, it } from "vitest";
import { formatUsd } from "../../src/core/money/money.ts";
import { startBench } from "../e2e/harness.ts";
import { reportFigure } from "./figures.ts";
import { leastBound, type JudgedRequest } from "./not-in-the-way-run.ts";
import { startConversation } from "./not-in-the-way-traffic.ts";

const MODEL = "claude-opus-5-5";
const AGENTS = 5;
const CONTEXT_TOKENS = 20_000;
const OUTPUT_TOKENS = 700;
const TOOL_RESULT_BYTES = 800;
const BUDGET_USD = 2.5;
const CEILING = BigInt(BUDGET_USD * 1_000) * 1_000_000n;

/** All of its input, as the answer's first event reports it. */
function inputTokensIn(text: string): number {
  const reported = ["input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"].map((field) =>
    Number(new RegExp(`"${field}": ?(\\d+)`).exec(text)?.[1] ?? 0),
  );
  return reported.reduce((sum, tokens) => sum + tokens, 0);
}

it("refuses nothing that would have fitted and overspends nothing over sockets", async () => {
  const bench = await startBench({ yaml: `limits: [{ name: everything, per: all, usd: ${BUDGET_USD} }]` });
  const { bill } = bench.simulator;
  bench.simulator.always({ kind: "answer", outputTokens: OUTPUT_TOKENS });
  const refusals: { left: bigint; needed: bigint; code: string }[] = [];
  let calls = 0;

  const live = async (index: number): Promise<void> => {
    const agent = `coder-${index}`;
    const conversation = startConversation({ agent, model: MODEL, contextTokens: CONTEXT_TOKENS });
    const outputs: number[] = [];
    let extended: JudgedRequest["extended"];
    for (;;) {
      const body = conversation.body();
      const response = await fetch(`${bench.url}/v1/messages`, {
        method: "POST",
        body: new Uint8Array(body),
        headers: { "x-api-key": "k", "anthropic-version": "2023-06-01", "x-purser-agent": agent, "x-purser-session": agent },
      });
      // Before anything else is awaited: what others spend afterwards is no reason to refuse this call.
      const left = CEILING - bill.totalNanoUsd;
      const text = await response.text();
      if (response.status !== 200) {
        const { error } = JSON.parse(text) as { error: { details: { code: string } } };
        const request = { body, extended, added: conversation.added, countedTokens: Infinity };
        refusals.push({ left, needed: leastBound(MODEL, request, outputs), code: error.details.code });
        return;
      }
      calls += 1;
      const written = Number(
        text
          .match(/"output_tokens": ?(\d+)/g)
          ?.at(-1)
          ?.match(/\d+/)?.[0],
      );
      outputs.push(written);
      extended = { inputTokens: inputTokensIn(text), outputTokens: written };
      conversation.append(written, TOOL_RESULT_BYTES);
    }
  };
  await Promise.all(Array.from({ length: AGENTS }, (_, index) => live(index)));

  const falseRefusals = refusals.filter(({ left, needed }) => needed <= left).length;
  const [first] = refusals;
  expect(refusals.map(({ code }) => code)).toEqual(Array.from({ length: AGENTS }, () => "limit_reached"));
  expect(falseRefusals).toBe(0);
  expect(bill.totalNanoUsd).toBeLessThanOrEqual(CEILING);
  expect(bill.totalNanoUsd).toBeGreaterThan(CEILING / 2n);
  expect(calls).toBeGreaterThan(AGENTS * 5);
  const recorded = await bench.calls();
  expect(recorded.filter(({ status }) => status === "reserved")).toEqual([]);
  const [total] = await bench.gateway.ledger.report({ fromMs: 0, toMs: Date.now() + 1, by: [] });
  expect(total?.costNanoUsd).toBe(bill.totalNanoUsd);

  reportFigure(
    "Not in the way",
    "over sockets",
    `${AGENTS} agents, $${BUDGET_USD}, ${MODEL}: ${calls} calls, false refusals ${falseRefusals} of ${refusals.length}, ` +
      `left at the first $${formatUsd(first?.left ?? 0n)} (a useful call needs $${formatUsd(first?.needed ?? 0n)}), overspent $0`,
  );
}, 60_000);
