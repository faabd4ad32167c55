/**
 * Goal: whatever comes, at whatever concurrency, over crashes, retries, clock jumps and a ledger that fails, no limit is passed, nothing
 * is lost, doubled, left held or refused falsely. Method: the whole engine on virtual time, one seed one schedule, judged by an oracle;
 * and, so that the oracle is known to be able to fail, the same with a ledger that cheats.
 */
import { describe, expect, test } from "vitest";
import type { Operation } from "../../src/core/decisions/operations.ts";
import { reportFigure } from "../figures/figures.ts";
import kept from "./kept-seeds.json" with { type: "json" };
import type { Tally } from "./oracle.ts";
import { ON_FILE_EVERY } from "./plan.ts";
import { runSchedule } from "./schedule.ts";
import type { Tampering } from "./store.ts";

const isLong = process.env["PURSER_LONG"] === "1";
/** The same stretch of seeds each time, unless another is named. */
const firstSeed = Number(process.env["PURSER_SEED"] ?? 1);
/** As many as twelve seconds of one processor allow; all of the goal in the long run. */
const PROCESSOR_MS_MAX = isLong ? Infinity : 12_000;
const SCHEDULES_MAX = isLong ? 100_000 : 10_000;

function processorMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1_000;
}

function replayed(seed: number): string {
  return `node test/simulation/replay.ts ${seed}`;
}

test.each(kept)("seed $seed holds: $why", async ({ seed, grammar }) => {
  expect((await runSchedule(seed, { grammar })).violations).toEqual([]);
});

test("a schedule holds on a real file as well, with a handle of its own for every process", { timeout: 180_000 }, async () => {
  const tally: Tally = {};
  for (const seed of [ON_FILE_EVERY, 4 * ON_FILE_EVERY]) expect((await runSchedule(seed, { tally })).violations).toEqual([]);

  expect(tally["schedules on a file"]).toBe(2);
});

test("two runs of a seed are the same, event for event", { timeout: 120_000 }, async () => {
  for (let seed = firstSeed; seed < firstSeed + 5; seed += 1) {
    const first = await runSchedule(seed, { hasTrace: true });
    const second = await runSchedule(seed, { hasTrace: true });

    expect(first.trace.length).toBeGreaterThan(5);
    expect(second.trace).toEqual(first.trace);
  }
});

test(
  `no schedule breaks a rule (from seed ${firstSeed}, PURSER_SEED)`,
  { timeout: isLong ? 4 * 3_600_000 : 180_000 },
  async () => {
    const tally: Tally = {};
    const startMs = processorMs();
    let schedules = 0;
    for (; schedules < SCHEDULES_MAX && processorMs() - startMs < PROCESSOR_MS_MAX; schedules += 1) {
      const { violations, seed } = await runSchedule(firstSeed + schedules, { tally });
      expect({ again: replayed(seed), violations }).toEqual({ again: replayed(seed), violations: [] });
    }

    console.log(`simulation: ${JSON.stringify(tally)}`);
    // The schedules do what they are meant to try.
    const tried = [
      "admitted",
      "waited",
      "settled",
      "voided",
      "expired",
      "crashes",
      "retries",
      "reloads",
      "stalls",
      "clock jumps",
      "corrected",
      "fitted",
      "paused looked at",
      "refused in its smallest form",
    ];
    const refused = ["limit_reached", "limit_too_small", "rate_limited", "ledger_unavailable", "held_by_calls_in_flight"];
    const met = [...tried, ...refused.map((code) => `refused ${code}`), "filled to the last unit", "settled at the told bill"];
    expect(met.filter((what) => (tally[what] ?? 0) === 0)).toEqual([]);
    const { admitted = 0, waited = 0, crashes = 0, calls = 0, steps = 0 } = tally;
    reportFigure(
      "Hard",
      "simulated schedules",
      `${schedules} schedules from seed ${firstSeed}: ${calls} calls, ${admitted} admitted, ${waited} after waiting, ${crashes} crashes, ${steps} steps; 0 violations`,
    );
  },
);

describe("the oracle notices", () => {
  const settling = (change: (operation: Extract<Operation, { kind: "settle" }>) => Operation | undefined): Tampering => ({
    operation: (operation) => (operation.kind === "settle" ? change(operation) : operation),
  });
  const cheats: Record<string, Tampering> = {
    "a charge that is dropped": settling((operation) => ({
      ...operation,
      result: { ...operation.result, costNanoUsd: 0n as never },
    })),
    "a settlement a nano-dollar too high": settling((operation) => ({
      ...operation,
      result: { ...operation.result, costNanoUsd: ((operation.result.costNanoUsd ?? 0n) + 1n) as never },
    })),
    "a settlement that never comes": settling(() => undefined),
    "a reservation given back though its call ran": settling(({ atMs, callId }) => ({
      kind: "void",
      atMs,
      callId,
      reason: "cheating",
    })),
    "a void that is swallowed": {
      operation: (operation) => (operation.kind === "void" ? undefined : operation),
    },
    "a crashed process whose calls are given back": {
      operation: (operation) => (operation.kind === "expire" ? { ...operation, kind: "void" } : operation),
    },
    "a call let through whatever the limits say": {
      operation: (operation) =>
        operation.kind === "reserve"
          ? {
              ...operation,
              candidates: operation.candidates.map((each) => ({ ...each, usdBound: 1n as never, inputTokensBound: 0 })),
            }
          : operation,
    },
    "a call refused for more than it can cost": {
      operation: (operation) =>
        operation.kind === "reserve"
          ? {
              ...operation,
              candidates: operation.candidates.map((each) => ({ ...each, usdBound: ((each.usdBound ?? 0n) * 2n) as never })),
            }
          : operation,
    },
    "a hold lowered to nothing": {
      operation: (operation) =>
        operation.kind === "renew"
          ? { ...operation, usdBound: 0n as never, inputTokensBound: 0, outputTokensBound: 0 }
          : operation,
    },
    "somebody who passes those in line": {
      operation: (operation) => (operation.kind === "reserve" ? { ...operation, heldBack: [] } : operation),
    },
    "a waiter that nobody wakes": {
      result: (result) => ("freedCounterIds" in result ? { ...result, freedCounterIds: [] } : result),
    },
  };

  test.each(Object.entries(cheats))("%s", { timeout: 120_000 }, async (_, tampering) => {
    let seed = 1;
    let violations: string[] = [];
    for (; seed <= 400 && violations.length === 0; seed += 1) violations = (await runSchedule(seed, { tampering })).violations;

    expect(violations.length).toBeGreaterThan(0);
  });
});
