import { expect, test } from "vitest";
import { at, limitOf, MINUTE, NOON_MS } from "../../../test/contract/samples.ts";
import type { Limit } from "../limits/limit.ts";
import { collectAlerts } from "./alerts.ts";
import { chargeCounter, compileLimits, emptyScopeState, windowOf, type CallCounter, type ScopeState } from "./counters.ts";

const DAY_MS = 86_400_000;
const thresholds = [at(50n, { kind: "alert" }), at(80n, { kind: "downgrade" }), at(100n, { kind: "stop" })];

function watch(limit: Limit): { spend: (atMs: number, amount: bigint) => string[]; state: ScopeState } {
  const [compiled] = compileLimits({ version: "v", limits: [limit], downgrade: new Map() }).limits;
  if (compiled === undefined) throw new Error("one limit gives one");
  const counter: CallCounter = { compiled, scope: {}, scopeKey: "all", counterId: `all ${compiled.what}` };
  const state = emptyScopeState();
  const spend = (atMs: number, amount: bigint): string[] => {
    const { key, untilMs } = windowOf(limit, atMs);
    chargeCounter(state, { scopeKey: "all", what: compiled.what, windowKey: key, spent: amount, reserved: 0n }, untilMs);
    return collectAlerts(state, counter, atMs).alerts.map(({ threshold }) => threshold);
  };
  return { spend, state };
}

test("tells a threshold when spent reaches it, and once", () => {
  const { spend } = watch(limitOf({ amount: 100n, thresholds }));

  expect(spend(NOON_MS, 49n)).toEqual([]);
  expect(spend(NOON_MS, 1n)).toEqual(["at 50"]);
  expect(spend(NOON_MS, 10n)).toEqual([]);
});

test("a jump over several tells each of them; a downgrade alone tells nobody", () => {
  const { spend } = watch(limitOf({ amount: 100n, thresholds }));

  expect(spend(NOON_MS, 120n)).toEqual(["at 50", "at 100"]);
});

test("tells again in the next window, and not once more for a clock that goes back over its edge", () => {
  const { spend } = watch(limitOf({ amount: 100n, thresholds }));

  expect(spend(NOON_MS, 60n)).toEqual(["at 50"]);
  expect(spend(NOON_MS + DAY_MS, 60n)).toEqual(["at 50"]);
  expect(spend(NOON_MS, 1n)).toEqual([]);
  expect(spend(NOON_MS + DAY_MS, 1n)).toEqual([]);
  expect(spend(NOON_MS + 2 * DAY_MS, 60n)).toEqual(["at 50"]);
});

test("a rolling limit tells again only after spent was below the threshold for the window's length", () => {
  const { spend } = watch(limitOf({ amount: 100n, window: MINUTE, thresholds: [at(50n, { kind: "alert" })] }));

  expect(spend(NOON_MS, 50n)).toEqual(["at 50"]);
  // Below from 12:01:01 on; above again half a minute later: the same trouble.
  expect(spend(NOON_MS + 90_000, 50n)).toEqual([]);
  // Below from 12:02:31 on; told again from 12:03:31 on.
  expect(spend(NOON_MS + 211_000, 50n)).toEqual(["at 50"]);
});
