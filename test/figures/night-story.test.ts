/**
 * Goal: the night in which an agent rejects every answer and sends the same ticket again costs at most ten dollars.
 * Method: the agent, the gateway and the provider's own bill on real sockets; only the clock is ours, so that the night takes seconds.
 */
import { expect, it } from "vitest";
import { formatUsd } from "../../src/core/money/money.ts";
import { createTestClock, startBench } from "../e2e/harness.ts";
import { reportFigure } from "./figures.ts";

const ASKED = "claude-opus-5-5";
const CHEAPER = "claude-haiku-5-5";
const CALL_NANO_USD = 270_720_000n;
const CALLS_OF_THE_NIGHT = 4_200;

const yaml = `
limits:
  - name: session-spend
    per: session
    usd: 10
    at: { $5: downgrade, $8: { throttle: 2s }, 100%: [alert, stop] }
models: { downgrade: { ${ASKED}: ${CHEAPER} } }
`;

it("stops a session that repeats one ticket all night between $9.50 and $10.00", async () => {
  const clock = createTestClock(Date.parse("2026-11-20T22:00:00Z"), 3_000);
  const bench = await startBench({ yaml, clock });
  bench.simulator.always({ kind: "answer", inputTokens: 60_000, outputTokens: 1_536 });
  // The ticket: as many bytes as its tokens have, four to one, which is what the bound of an unseen text goes by.
  const ticket = "a ticket ".repeat(26_000);
  const body = JSON.stringify({ model: ASKED, max_tokens: 2_048, messages: [{ role: "user", content: ticket }] });
  const ask = (): Promise<Response> =>
    fetch(`${bench.url}/v1/messages`, {
      method: "POST",
      body,
      headers: { "x-api-key": "k", "anthropic-version": "2023-06-01", "x-purser-session": "ticket-4821" },
    });

  const thresholds = { downgrade: 0n, throttle: 0n };
  const callsByModel: Record<string, number> = {};
  let spent = 0n;
  let delayMs = 0;
  let response = await ask();
  for (let calls = 1; response.status === 200 && calls < CALLS_OF_THE_NIGHT; calls += 1) {
    await response.arrayBuffer();
    const model = response.headers.get("x-purser-model") ?? ASKED;
    const decision = response.headers.get("x-purser-decision") ?? "";
    if (decision.includes("downgraded") && thresholds.downgrade === 0n) thresholds.downgrade = spent;
    if (decision.includes("throttled") && thresholds.throttle === 0n) thresholds.throttle = spent;
    callsByModel[model] = (callsByModel[model] ?? 0) + 1;
    delayMs += Number(response.headers.get("x-purser-delay-ms") ?? 0);
    spent = bench.simulator.bill.totalNanoUsd;
    clock.advance(1_000);
    response = await ask();
  }
  const refusal = (await response.json()) as { error: { type: string; details: Record<string, unknown> } };
  const upstreamAtStop = bench.simulator.requests.length;
  for (let more = 0; more < 20; more += 1) expect((await ask()).status).toBe(402);

  const withoutPurser = CALL_NANO_USD * BigInt(CALLS_OF_THE_NIGHT);
  expect(formatUsd(withoutPurser)).toBe("1137.024");
  expect(refusal.error).toMatchObject({
    type: "billing_error",
    details: { code: "limit_reached", limit: "session-spend", amount: "10" },
  });
  expect(bench.simulator.requests.length - upstreamAtStop).toBe(0);
  expect(thresholds.downgrade).toBeGreaterThanOrEqual(5_000_000_000n);
  expect(thresholds.downgrade).toBeLessThan(5_000_000_000n + CALL_NANO_USD);
  expect(thresholds.throttle).toBeGreaterThanOrEqual(8_000_000_000n);
  expect(spent).toBeGreaterThanOrEqual(9_500_000_000n);
  expect(spent).toBeLessThanOrEqual(10_000_000_000n);
  const [state] = await bench.gateway.ledger.report({ fromMs: 0, toMs: clock.nowMs() + 1, by: ["session"] });
  expect(state?.costNanoUsd).toBe(spent);

  reportFigure(
    "Night story",
    "spend",
    [
      `without Purser        ${CALLS_OF_THE_NIGHT} calls of $${formatUsd(CALL_NANO_USD)} = $${formatUsd(withoutPurser)}`,
      `downgrade at $5       spent $${formatUsd(thresholds.downgrade)}`,
      `throttle at $8        spent $${formatUsd(thresholds.throttle)}`,
      `stop at $10           spent $${formatUsd(spent)}`,
      `calls                 ${Object.entries(callsByModel)
        .map(([model, calls]) => `${model} ${calls}`)
        .join(", ")}`,
      `delay by throttling   ${Math.round(delayMs / 1_000)} s`,
      `requests upstream after the stop: ${bench.simulator.requests.length - upstreamAtStop}`,
    ].join("\n"),
  );
}, 120_000);
