import * as fc from "fast-check";
import { expect, it } from "vitest";
import { readConfig } from "../config/config.ts";
import { compileLimits, emptyScopeState, scopeKeyOf, windowOf, type ScopeState } from "../core/decisions/counters.ts";
import type { Limit } from "../core/limits/limit.ts";
import { scopeOfKey } from "../core/decisions/scope-of-key.ts";
import { buildStatus, toStatusJson } from "./status-report.ts";

const NOW_MS = Date.parse("2026-11-22T06:00:00Z");

function limitsOf(yaml: string): readonly Limit[] {
  const read = readConfig({ text: yaml, fileName: "purser.yaml", env: {} });
  if (read.outcome === "invalid") throw new Error(read.problems.map(({ message }) => message).join("\n"));
  return read.config.limits;
}

/** The state of a scope value in which a limit has so much at certain instants. */
function stateOf(limit: Limit, charges: readonly { atMs: number; spent?: bigint; reserved?: bigint }[]): ScopeState {
  const [compiled] = compileLimits({ version: "", limits: [limit], downgrade: new Map() }).limits;
  const state = emptyScopeState();
  const series = new Map<string, { spent: bigint; reserved: bigint; untilMs: number }>();
  for (const { atMs, spent = 0n, reserved = 0n } of charges) {
    const { key, untilMs } = windowOf(limit, atMs);
    const before = series.get(key) ?? { spent: 0n, reserved: 0n };
    series.set(key, { spent: before.spent + spent, reserved: before.reserved + reserved, untilMs });
  }
  state.counters.set(compiled?.what ?? "", series);
  return state;
}

function statusOf(yaml: string, key: string, charges: Parameters<typeof stateOf>[1]) {
  const limits = limitsOf(yaml);
  const [limit] = limits;
  if (limit === undefined) throw new Error("no limit");
  return buildStatus({ limits, states: new Map([[key, stateOf(limit, charges)]]), recent: [], nowMs: NOW_MS });
}

it("finds the scope values again that a scope key names, whatever is in them", () => {
  const name = fc.constantFrom("agent", "session", "tag:team", "model");
  fc.assert(
    fc.property(fc.dictionary(name, fc.string({ unit: "binary" }), { minKeys: 1, noNullPrototype: true }), (scope) => {
      expect(scopeOfKey(scopeKeyOf(scope))).toEqual(scope);
    }),
  );
  expect(scopeOfKey("all")).toEqual({});
});

it("gives the contract's shape for a calendar limit: a quarter of the day gone, half of it spent, twice on pace", () => {
  const lines = statusOf("limits: [{ name: day, per: all, usd: 50, every: day }]", "all", [
    { atMs: NOW_MS, spent: 25_000_000_000n, reserved: 1_500_000_000n },
  ]);

  expect(lines.map((line) => toStatusJson(line))).toEqual([
    {
      limit: "day",
      scope: {},
      measure: "usd",
      amount: "50",
      spent: "25",
      reserved: "1.5",
      left: "23.5",
      waiting: null,
      windowStart: "2026-11-22T00:00:00Z",
      windowEnd: "2026-11-23T00:00:00Z",
      burnRate: 2,
      runwaySeconds: 6 * 3_600,
      boundToActual: null,
      boundsPassed: 0,
    },
  ]);
});

it("has a line for a limit over all calls before there is any, and none for values that nothing was spent of", () => {
  const limits = limitsOf("limits: [{ name: a, per: all, usd: 1 }, { name: b, per: agent, usd: 1 }]");

  expect(
    buildStatus({ limits, states: new Map(), recent: [], nowMs: NOW_MS }).map(({ limit, spent }) => ({ limit, spent })),
  ).toEqual([{ limit: "a", spent: 0n }]);
});

it("takes no alarm from the first call of a day", () => {
  const [line] = buildStatus({
    limits: limitsOf("limits: [{ name: day, per: all, usd: 50, every: day }]"),
    states: new Map(),
    recent: [],
    nowMs: Date.parse("2026-11-22T00:00:01Z"),
  });
  expect(line?.burnRateBps).toBe(0);

  const early = statusOf("limits: [{ name: day, per: all, tokens: 288_000, every: day }]", "all", [
    { atMs: NOW_MS, spent: 1_000n },
  ]);
  expect(early[0]?.burnRateBps).toBe(139);
});

it("says what is left up to where calls are refused, never less than nothing", () => {
  const yaml = "limits: [{ name: day, per: all, usd: 50, every: day, at: { $40: stop } }]";

  expect(statusOf(yaml, "all", [{ atMs: NOW_MS, spent: 39_000_000_000n }])[0]?.left).toBe(1_000_000_000n);
  expect(statusOf(yaml, "all", [{ atMs: NOW_MS, spent: 41_000_000_000n }])[0]).toMatchObject({ left: 0n, runwayMs: 0 });
});

it("knows neither pace nor end of a lifetime limit", () => {
  const [line] = statusOf("limits: [{ name: s, per: session, usd: 10 }]", "session=x", [{ atMs: NOW_MS, spent: 1n }]);

  expect(line).toMatchObject({ scope: { session: "x" }, burnRateBps: undefined, runwayMs: undefined, windowEndMs: Infinity });
  expect(line && toStatusJson(line)).toMatchObject({ windowStart: null, windowEnd: null, burnRate: null });
});

it("tells how long a rolling limit lasts at the pace of its last sixth", () => {
  // 60 requests an hour; 20 in the last ten minutes: twice the pace, 40 left, two a minute.
  const charges = Array.from({ length: 20 }, (_, index) => ({ atMs: NOW_MS - 15_000 - index * 30_000, spent: 1n }));

  const [line] = statusOf("limits: [{ name: r, per: all, requests: 60, every: 1h }]", "all", charges);

  expect(line).toMatchObject({ spent: 20n, burnRateBps: 20_000, runwayMs: 20 * 60_000 });
});

it("lets what leaves a rolling window make room", () => {
  // 50 of 60 were spent 55 minutes ago and leave soon; one a minute since then never reaches the limit.
  const old = [{ atMs: NOW_MS - 55 * 60_000, spent: 50n }];
  const recent = Array.from({ length: 5 }, (_, index) => ({ atMs: NOW_MS - 1_000 - index * 119_000, spent: 1n }));

  const [line] = statusOf("limits: [{ name: r, per: all, requests: 60, every: 1h }]", "all", [...old, ...recent]);

  expect(line).toMatchObject({ spent: 55n, runwayMs: undefined });
});

it("puts the busiest value of a limit first", () => {
  const limits = limitsOf("limits: [{ name: a, per: agent, usd: 1 }]");
  const [limit] = limits;
  if (limit === undefined) throw new Error("no limit");
  const states = new Map(
    ["quiet", "busy"].map((agent, index) => [`agent=${agent}`, stateOf(limit, [{ atMs: NOW_MS, spent: BigInt(index + 1) }])]),
  );

  expect(buildStatus({ limits, states, recent: [], nowMs: NOW_MS }).map(({ scope }) => scope["agent"])).toEqual([
    "busy",
    "quiet",
  ]);
});
