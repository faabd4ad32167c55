/**
 * Goal: a hard limit that is not in the way: of twenty coding agents on one budget, none is refused a call that would have fitted.
 * Method: the engine on a clock of the test's, a provider with its own bill, and a judge who shares no code with the engine; beside it
 * the two usual policies on the same traffic, from the same seed.
 */
import { describe, expect, it } from "vitest";
import { createFakeClock } from "../../src/engine/engine.fixture.ts";
import { dataFolder, NO_DATA, reportFigure } from "./figures.ts";
import { startPurser, startReserving, startUnreserved } from "./not-in-the-way-gates.ts";
import { AGENTS, run, type Run } from "./not-in-the-way-run.ts";
import { CONTEXT_TOKENS, MAX_TOKENS, readTraffic } from "./not-in-the-way-traffic.ts";
import type { Model } from "./not-in-the-way-upstream.ts";

const BUDGET_USD = 25;
const CEILING = BigInt(BUDGET_USD) * 1_000_000_000n;
const SEED = Number(process.env["PURSER_SEED"] ?? 1);
/** The cheaper a model, the more calls $25 pay: the others take minutes of processor time. */
const MODELS: readonly Model[] =
  process.env["PURSER_LONG"] === "1" ? ["claude-opus-5-5", "claude-sonnet-5-5", "claude-haiku-5-5"] : ["claude-opus-5-5"];

describe.skipIf(dataFolder === undefined)(`not in the way${dataFolder === undefined ? ` (${NO_DATA})` : ""}`, () => {
  it("refuses nothing that would have fitted, overspends nothing, and leaves less than a useful call needs", async () => {
    const lines = [
      `${AGENTS} agents, contexts from ${CONTEXT_TOKENS} tokens on, max_tokens ${MAX_TOKENS}, $${BUDGET_USD}; seed ${SEED} (PURSER_SEED)`,
      HEADER,
    ];
    for (const model of MODELS) {
      const traffic = readTraffic(SEED);
      const setting = { model, traffic, ceiling: CEILING };
      const purser = await run({ ...setting, gate: await startPurser(BUDGET_USD) });
      const unreserved = await run({ ...setting, gate: startUnreserved(CEILING, createFakeClock()) });
      const reserving = await run({ ...setting, gate: startReserving(CEILING, createFakeClock(), model) });
      lines.push(rowOf(model, "Purser", purser));
      lines.push(rowOf(model, "no reservation", unreserved));
      lines.push(rowOf(model, "reserve and refuse", reserving));

      expect(purser.refusals).toBe(AGENTS);
      expect(purser.falseRefusals).toBe(0);
      expect(purser.falseAsAsked).toBe(0);
      expect(purser.overspendNanoUsd).toBe(0n);
      expect(purser.reservedAtEnd).toBe(0n);
      expect(purser.leftAtFirst).toBeLessThan(purser.neededAtFirst);
      expect(purser.calls).toBeGreaterThan(AGENTS);
      // The judge and the bill can say no: both usual policies fail one of them on this traffic.
      expect(unreserved.overspendNanoUsd).toBeGreaterThan(0n);
      expect(reserving.falseRefusals).toBeGreaterThan(0);
      expect(reserving.leftAtFirst).toBeGreaterThan(purser.leftAtFirst);
    }
    reportFigure("Not in the way", "coding agents", lines.join("\n"));
  }, 600_000);
});

const HEADER = columns([
  "model",
  "policy",
  "calls",
  "false refusals",
  "left at the first",
  "least useful call",
  "overspent",
  "cut short",
  "told to retry",
  "wait p50",
  "p99",
]);

function rowOf(model: Model, policy: string, made: Run): string {
  const waits = made.waitsMs.toSorted((a, b) => a - b);
  const seconds = (share: number): string =>
    `${((waits[Math.min(waits.length - 1, Math.floor(waits.length * share))] ?? 0) / 1_000).toFixed(1)} s`;
  return columns([
    model,
    policy,
    String(made.calls),
    `${made.falseRefusals} of ${made.refusals}`,
    dollars(made.leftAtFirst),
    dollars(made.neededAtFirst),
    dollars(made.overspendNanoUsd),
    String(made.cutShort),
    String(made.laterAnswers),
    seconds(0.5),
    seconds(0.99),
  ]);
}

function columns(cells: readonly string[]): string {
  const widths = [18, 19, 6, 15, 18, 18, 10, 10, 14, 9, 8];
  return cells
    .map((cell, index) => cell.padEnd(widths[index] ?? 0))
    .join(" ")
    .trimEnd();
}

/** Four digits of a cent suffice to compare; nothing is decided by them. */
function dollars(nanoUsd: bigint): string {
  return `$${(Number(nanoUsd) / 1_000_000_000).toFixed(4)}`;
}
