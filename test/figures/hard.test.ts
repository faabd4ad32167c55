/**
 * Goal: of many calls at once against a fresh limit, exactly as many are admitted as fit, over every scope and every measure, and a
 * provider that bills all it may brings no counter above its limit. Method: rounds on the engine, amounts worked out by hand.
 */
import { expect, test } from "vitest";
import { settle, startEngine } from "../../src/engine/engine.fixture.ts";
import type { Opening } from "../../src/engine/pipeline.ts";
import { createRandom } from "../simulation/random.ts";
import { costOf, Exchange, mostTokens } from "../simulation/upstream.ts";
import { reportFigure } from "./figures.ts";

const SCOPES = ["all", "project", "agent", "session", "user", "key", "model", "task", "tag:team"];
const MEASURES = ["usd", "tokens", "inputTokens", "outputTokens", "requests", "concurrency"];
const ROUNDS = process.env["PURSER_LONG"] === "1" ? 1_000 : 4;
const CALLS = 200;
const seed = Number(process.env["PURSER_SEED"] ?? 1);
const MODEL = "claude-haiku-5-5";

async function playRound(scope: string, measure: string, random: ReturnType<typeof createRandom>): Promise<number> {
  const fits = random.int(0, 90);
  const maxTokens = random.int(1, 2_000);
  const isWhole = measure === "requests" || measure === "concurrency";
  const probe = await startEngine("limits: [{ name: roomy, per: all, usd: 1 }]");
  const call = { model: MODEL, maxTokens, text: "x".repeat(random.int(1, 300)) };
  const bytes = probe.callOf(call).body.length;
  const most = mostTokens({ bytes, maxTokens, cache: "none" });
  const sizes: Record<string, bigint> = {
    usd: costOf(MODEL, most, true),
    tokens: BigInt(bytes + maxTokens),
    inputTokens: BigInt(bytes),
    outputTokens: BigInt(maxTokens),
  };
  const one = sizes[measure] ?? 1n;
  const amount = BigInt(fits) * one + (isWhole ? 0n : BigInt(random.int(0, Number(one) - 1)));
  const text = measure === "usd" ? `${amount / 10n ** 9n}.${String(amount % 10n ** 9n).padStart(9, "0")}` : String(amount);
  const bench = await startEngine(
    `limits: [{ name: fresh, per: "${scope}", ${measure}: ${text}${isWhole || measure === "inputTokens" ? "" : ", fit: off"} }]`,
  );
  const labels = { project: "p", agent: "a", session: "s", user: "u", task: "t", tags: { team: "g" } };
  const openings: Opening[] = [];
  const incoming = Array.from({ length: CALLS }, () => bench.callOf({ ...call, labels }));
  for (const each of incoming) void bench.engine.open(each).then((opening) => openings.push(opening));
  await settle();

  const admitted = openings.flatMap((opening) => (opening.outcome === "admitted" ? [opening.call] : []));
  expect({ scope, measure, amount, admitted: admitted.length }).toEqual({ scope, measure, amount, admitted: fits });
  // Nobody waits any more for what would come free: only those admitted may spend.
  for (const each of incoming) each.presence.leave();
  for (const running of admitted) {
    running.markSent();
    const nowMs = bench.clock.nowMs();
    const exchange = new Exchange(
      { model: MODEL, read: { bytes, share: 1 }, maxTokens, cache: "none" },
      { end: "ok", isGreedy: true, nowMs, random },
    );
    const meter = running.openMeter("text/event-stream");
    for (const chunk of [exchange.start(), exchange.stop(), Exchange.last]) meter.push(chunk);
    meter.end();
    await running.end({ kind: "completed", status: 200, reading: meter.reading() });
  }
  await settle();
  const spent = [...(await bench.flaky.memory.scopeStates()).values()].flatMap(({ counters }) =>
    [...counters.values()].flatMap((series) => [...series.values()].map((counter) => counter.spent)),
  );
  expect(spent.reduce((sum, each) => sum + each, 0n)).toBe(measure === "concurrency" ? 0n : BigInt(fits) * one);
  expect([await bench.reserved(), (await bench.flaky.memory.openCalls()).length, openings.length]).toEqual([0n, 0, CALLS]);
  return admitted.length;
}

test("exactly as many calls are admitted as fit, over every scope and measure", { timeout: 3_600_000 }, async () => {
  const random = createRandom(seed);
  let admitted = 0;
  for (const scope of SCOPES)
    for (const measure of MEASURES)
      for (let round = 0; round < ROUNDS; round += 1) admitted += await playRound(scope, measure, random);
  expect(admitted).toBeGreaterThan(0);

  const pairs = SCOPES.length * MEASURES.length;
  reportFigure(
    "Hard",
    "rounds on the engine",
    `${pairs} pairs of scope and measure, ${ROUNDS} rounds of ${CALLS} calls each (seed ${seed}): ${admitted} admitted, as many as fit, 0 above, 0 left open`,
  );
});
