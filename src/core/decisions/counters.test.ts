import { describe, expect, test } from "vitest";
import { DAY, LIFETIME, limitOf, MINUTE, NOON_MS, scopesOf } from "../../../test/contract/samples.ts";
import type { Limit } from "../limits/limit.ts";
import {
  chargeCounter,
  clearsAtMs,
  compileLimits,
  copyScopeState,
  countersOf,
  emptyScopeState,
  pruneCounters,
  scopeKeyOf,
  totalsOf,
  windowOf,
  type CompiledLimit,
} from "./counters.ts";

function compile(limit: Limit): CompiledLimit {
  const [compiled] = compileLimits({ version: "v", limits: [limit], downgrade: new Map() }).limits;
  if (compiled === undefined) throw new Error("one limit gives one");
  return compiled;
}

/** A state in which amounts were spent at instants under one limit. */
function stateOf(limit: Limit, spent: readonly [atMs: number, amount: bigint][]) {
  const state = emptyScopeState();
  const { what } = compile(limit);
  for (const [atMs, amount] of spent) {
    const { key, untilMs } = windowOf(limit, atMs);
    chargeCounter(state, { scopeKey: "all", what, windowKey: key, spent: amount, reserved: 0n }, untilMs);
  }
  return state;
}

describe("what a counter is named by", () => {
  test("what it counts, and never the limit's name or amount", () => {
    expect(compile(limitOf({ name: "x", amount: 1n })).what).toBe(compile(limitOf({ name: "y", amount: 2n })).what);
  });

  test("everything that changes what is counted", () => {
    const limits = [
      limitOf({ amount: 1n }),
      limitOf({ amount: 1n, measure: "tokens" }),
      limitOf({ amount: 1n, measure: "tokens", cacheReads: "ignore" }),
      limitOf({ amount: 1n, window: MINUTE }),
      limitOf({ amount: 1n, window: LIFETIME }),
      limitOf({ amount: 1n, window: { ...DAY, timeZone: "Asia/Tokyo" } as typeof DAY }),
      limitOf({ amount: 1n, window: { ...DAY, unit: "week" } as typeof DAY }),
      limitOf({ amount: 1n, window: { ...DAY, unit: "week", weekStart: 7 } as typeof DAY }),
      limitOf({ amount: 1n, window: { ...DAY, unit: "month" } as typeof DAY }),
      limitOf({ amount: 1n, window: { ...DAY, unit: "month", monthDay: 15 } as typeof DAY }),
      limitOf({ amount: 1n, where: [{ scope: "agent", anyOf: [{ text: "a", isPrefix: false }] }] }),
      limitOf({ amount: 1n, where: [{ scope: "agent", anyOf: [{ text: "a", isPrefix: true }] }] }),
      limitOf({ amount: 1n, where: [{ scope: "agent", anyOf: [{ text: "a*", isPrefix: false }] }] }),
    ];

    expect(new Set(limits.map((limit) => compile(limit).what)).size).toBe(limits.length);
  });

  test("no value of a scope can pretend to be two, or another", () => {
    const scopes = [
      { agent: "a&model=m" },
      { agent: "a", model: "m" },
      { agent: "a%26model=m" },
      { agent: "" },
      { agent: "a b" },
      { agent: "a%20b" },
      { "tag:a=b": "c" },
      { "tag:a": "b=c" },
      {},
    ];

    expect(new Set(scopes.map(scopeKeyOf)).size).toBe(scopes.length);
  });

  test("half characters are one value in every store", () => {
    expect(scopeKeyOf({ session: "\ud800" })).toBe(scopeKeyOf({ session: "\udfff" }));
  });
});

describe("the counters of a call", () => {
  const countersFor = (limit: Limit, scopes = scopesOf(), model = "claude-opus-5-5"): string[] =>
    countersOf(compileLimits({ version: "v", limits: [limit], downgrade: new Map() }), scopes, model).map(
      ({ scopeKey }) => scopeKey,
    );

  test("a combination of scopes counts each combination of values", () => {
    expect(countersFor(limitOf({ per: ["agent", "model"], amount: 1n }))).toEqual(["agent=a&model=claude-opus-5-5"]);
  });

  test("a session counts for its parents", () => {
    const scopes = scopesOf({ key: "default", session: "child", parentSessions: ["parent", "grandparent"] });

    expect(countersFor(limitOf({ per: ["session"], amount: 1n }), scopes)).toEqual([
      "session=child",
      "session=parent",
      "session=grandparent",
    ]);
  });

  test("a tag that nobody set is default, a value like any other", () => {
    expect(countersFor(limitOf({ per: ["tag:team"], amount: 1n }))).toEqual(["tag:team=default"]);
  });

  test.each([
    [[{ text: "claude-opus-5-5", isPrefix: false }], 1],
    [[{ text: "claude-opus", isPrefix: false }], 0],
    [[{ text: "claude-opus", isPrefix: true }], 1],
    [
      [
        { text: "x", isPrefix: false },
        { text: "", isPrefix: true },
      ],
      1,
    ],
  ])("where matches exactly, or a beginning", (anyOf, count) => {
    expect(countersFor(limitOf({ amount: 1n, where: [{ scope: "model", anyOf }] }))).toHaveLength(count);
  });
});

describe("a rolling window", () => {
  const limit = limitOf({ amount: 100n, window: MINUTE });
  const compiled = compile(limit);

  test("counts a charge for its whole length, and forgets it at most a sixtieth later", () => {
    const state = stateOf(limit, [[NOON_MS, 7n]]);

    expect(totalsOf(state, compiled, NOON_MS + 60_000).spent).toBe(7n);
    expect(totalsOf(state, compiled, NOON_MS + 60_999).spent).toBe(7n);
    expect(totalsOf(state, compiled, NOON_MS + 61_000).spent).toBe(0n);
  });

  test("knows when enough of it will have gone", () => {
    const state = stateOf(limit, [
      [NOON_MS, 30n],
      [NOON_MS + 10_000, 40n],
    ]);

    expect(clearsAtMs(state, compiled, NOON_MS + 20_000, 70n)).toBe(NOON_MS + 20_000);
    expect(clearsAtMs(state, compiled, NOON_MS + 20_000, 69n)).toBe(NOON_MS + 61_000);
    expect(clearsAtMs(state, compiled, NOON_MS + 20_000, 39n)).toBe(NOON_MS + 71_000);
    expect(clearsAtMs(state, compiled, NOON_MS + 20_000, -1n)).toBe(Infinity);
  });

  test("gives nothing back to a clock that goes back", () => {
    const state = stateOf(limit, [[NOON_MS, 7n]]);

    expect(totalsOf(state, compiled, NOON_MS - 3_600_000).spent).toBe(7n);
  });
});

test("a day clears at its end, a lifetime never", () => {
  const day = limitOf({ amount: 100n });
  const life = limitOf({ amount: 100n, window: LIFETIME });

  expect(clearsAtMs(stateOf(day, [[NOON_MS, 7n]]), compile(day), NOON_MS, 0n)).toBe(NOON_MS + 12 * 3_600_000);
  expect(clearsAtMs(stateOf(life, [[NOON_MS, 7n]]), compile(life), NOON_MS, 0n)).toBe(Infinity);
});

describe("putting counters away", () => {
  const limit = limitOf({ amount: 100n, window: MINUTE });
  const { what } = compile(limit);
  const key = (atMs: number): string => windowOf(limit, atMs).key;

  test("takes those whose windows are over for long, and remembers until when", () => {
    const state = stateOf(limit, [
      [NOON_MS, 7n],
      [NOON_MS + 600_000, 8n],
    ]);

    const dropped = pruneCounters(state, NOON_MS + 600_000);

    expect(dropped).toEqual([{ what, windowKey: key(NOON_MS), spent: 7n, untilMs: NOON_MS + 61_000 }]);
    expect(state.droppedUntilMs).toBe(NOON_MS + 61_000);
    expect([...(state.counters.get(what)?.keys() ?? [])]).toEqual([key(NOON_MS + 600_000)]);
  });

  test("never takes one that still holds a reservation", () => {
    const state = stateOf(limit, [
      [NOON_MS, 0n],
      [NOON_MS + 600_000, 8n],
    ]);
    chargeCounter(state, { scopeKey: "all", what, windowKey: key(NOON_MS), spent: 0n, reserved: 5n }, Infinity);

    expect(pruneCounters(state, NOON_MS + 600_000)).toEqual([]);
  });
});

test("a copy of a state shares nothing that changes", () => {
  const limit = limitOf({ amount: 100n });
  const state = stateOf(limit, [[NOON_MS, 7n]]);
  const copy = copyScopeState(state);

  chargeCounter(
    state,
    { scopeKey: "all", what: compile(limit).what, windowKey: windowOf(limit, NOON_MS).key, spent: 1n, reserved: 0n },
    0,
  );
  state.nextStartMs.set("pace", 1);

  expect(totalsOf(copy, compile(limit), NOON_MS)).toEqual({ spent: 7n, reserved: 0n });
  expect(copy.nextStartMs.size).toBe(0);
});
