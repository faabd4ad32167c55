/** What the operations do to the books, where several rules meet; told on the ledger in memory, which adds nothing to them. */
import { beforeEach, describe, expect, test } from "vitest";
import {
  at,
  candidateOf,
  expireOf,
  limitOf,
  LIFETIME,
  NOON_MS,
  renewOf,
  reserveOf,
  rulesOf,
  settleOf,
  tokensOf,
  voidOf,
} from "../../../test/contract/samples.ts";
import { createMemoryLedger, type MemoryLedger } from "../../ledger/memory/memory-ledger.ts";
import { toNanoUsd } from "../money/money.ts";
import type { ReserveResult } from "./operations.ts";

let ledger: MemoryLedger;
beforeEach(() => {
  ledger = createMemoryLedger();
});

async function reserve(...input: Parameters<typeof reserveOf>): Promise<ReserveResult> {
  const [result] = await ledger.apply([reserveOf(...input)]);
  if (result === undefined) throw new Error("an operation without an answer");
  return result;
}

async function spendInTurn(callId: string, usd: bigint, stopReason: string): Promise<ReserveResult> {
  const result = await reserve(callId, { usd });
  await ledger.apply([settleOf(callId, usd, { result: { stopReason } })]);
  return result;
}

async function usdCounter(scopeKey = "all"): Promise<{ spent: bigint; reserved: bigint } | undefined> {
  const state = (await ledger.scopeStates()).get(scopeKey);
  const [counter] = [...(state?.counters.get("usd@day:UTC")?.values() ?? [])];
  return counter && { spent: counter.spent, reserved: counter.reserved };
}

describe("what an ending frees", () => {
  test("is told again with an ending that was said before, for its answer may have been lost", async () => {
    await ledger.configure(rulesOf([limitOf({ amount: 1_000n })]));
    await reserve("1", { usd: 600n });

    const [first, again] = await ledger.apply([settleOf("1", 100n), settleOf("1", 100n)]);

    expect(first?.freedCounterIds).toEqual(["all usd@day:UTC"]);
    expect(again).toMatchObject({ outcome: "already_done", freedCounterIds: ["all usd@day:UTC"] });
  });

  test("is a request as well, where it was never sent", async () => {
    await ledger.configure(rulesOf([limitOf({ measure: "requests", amount: 1n })]));
    await reserve("1");

    const [given, again] = await ledger.apply([voidOf("1"), voidOf("1")]);

    expect(given?.freedCounterIds).toEqual(["all requests@day:UTC"]);
    expect(again).toMatchObject({ outcome: "already_done", freedCounterIds: ["all requests@day:UTC"] });
    expect(await reserve("2")).toMatchObject({ outcome: "reserved" });
  });

  test("is the part of an expired call's bound that its late settlement did not cost", async () => {
    await ledger.configure(rulesOf([limitOf({ amount: 1_000n })]));
    await reserve("1", { usd: 600n });

    const [, late] = await ledger.apply([expireOf("1"), settleOf("1", 100n)]);

    expect(late?.freedCounterIds).toEqual(["all usd@day:UTC"]);
  });
});

describe("grace", () => {
  const grace = { kind: "grace", overdraftBps: 500, callsMax: 2 } as const;
  const graced = limitOf({ amount: 1_000n, thresholds: [at(1_000n, grace)] });

  test("a session in the middle of its work goes on; another is refused", async () => {
    await ledger.configure(rulesOf([graced]));
    await spendInTurn("1", 1_000n, "tool_use");

    expect(await reserve("2", { usd: 50n })).toMatchObject({ outcome: "reserved", marks: ["graced"] });
    expect(await reserve("3", { usd: 10n, scopes: { session: "other" } })).toMatchObject({
      outcome: "denied",
      code: "limit_reached",
    });
  });

  test("ends with the turn", async () => {
    await ledger.configure(rulesOf([graced]));
    await spendInTurn("1", 1_000n, "tool_use");
    await spendInTurn("2", 10n, "end_turn");

    expect(await reserve("3", { usd: 10n })).toMatchObject({ outcome: "denied" });
  });

  test("lasts so many calls and no more", async () => {
    await ledger.configure(rulesOf([graced]));
    await spendInTurn("1", 1_000n, "tool_use");
    await spendInTurn("2", 1n, "tool_use");
    await spendInTurn("3", 1n, "tool_use");

    expect(await reserve("4", { usd: 1n })).toMatchObject({ outcome: "denied" });
  });

  test("never passes its second ceiling, nor a stop below that", async () => {
    const stopped = limitOf({ amount: 1_000n, thresholds: [at(1_000n, grace), at(1_020n, { kind: "stop" })] });
    await ledger.configure(rulesOf([graced]));
    await spendInTurn("1", 1_000n, "tool_use");

    expect(await reserve("2", { usd: 51n })).toMatchObject({ outcome: "denied" });
    await ledger.configure(rulesOf([stopped], NOON_MS, "v2"));
    expect(await reserve("3", { usd: 21n })).toMatchObject({ outcome: "denied" });
    expect(await reserve("4", { usd: 20n })).toMatchObject({ outcome: "reserved", marks: ["graced"] });
  });

  test("a stop below it leaves no grace", async () => {
    const stopFirst = limitOf({ amount: 1_000n, thresholds: [at(900n, { kind: "stop" }), at(1_000n, grace)] });
    await ledger.configure(rulesOf([stopFirst]));
    await spendInTurn("1", 900n, "tool_use");

    expect(await reserve("2", { usd: 1n })).toMatchObject({ outcome: "denied" });
  });

  test("a session that counts for its parents uses one grace call per call", async () => {
    const perSession = limitOf({ per: ["session"], amount: 1_000n, thresholds: [at(1_000n, grace)] });
    await ledger.configure(rulesOf([perSession]));
    const scopes = { session: "child", parentSessions: ["parent"] };
    await ledger.apply([reserveOf("1", { usd: 1_000n, scopes }), settleOf("1", 1_000n, { result: { stopReason: "tool_use" } })]);

    const first = await reserve("2", { usd: 1n, scopes });
    const second = await reserve("3", { usd: 1n, scopes });

    expect([first.outcome, second.outcome]).toEqual(["reserved", "reserved"]);
    expect(await reserve("4", { usd: 1n, scopes })).toMatchObject({ outcome: "denied" });
  });
});

describe("throttle", () => {
  const pace = at(10n, { kind: "throttle", intervalMs: 2_000 });

  test("calls start that far apart, in the order they asked, each at the start it was given", async () => {
    await ledger.configure(rulesOf([limitOf({ amount: 10_000n, thresholds: [pace] })]));
    await spendInTurn("before", 10n, "end_turn");

    expect(await reserve("1")).toMatchObject({ outcome: "reserved" });
    const second = await reserve("2");
    const third = await reserve("3");
    expect(second).toMatchObject({ outcome: "throttled", startAtMs: NOON_MS + 2_000 });
    expect(third).toMatchObject({ outcome: "throttled", startAtMs: NOON_MS + 4_000 });

    const grantedStartsMs = second.outcome === "throttled" ? second.grantedStartsMs : {};
    expect(await reserve("2", { atMs: NOON_MS + 2_000, grantedStartsMs })).toMatchObject({
      outcome: "reserved",
      marks: ["throttled"],
    });
  });

  test("two limits that ask for one pace of one counter take one start", async () => {
    const twice = [
      limitOf({ name: "one", amount: 10_000n, thresholds: [pace] }),
      limitOf({ name: "two", amount: 10_000n, thresholds: [pace] }),
    ];
    await ledger.configure(rulesOf(twice));
    await spendInTurn("before", 10n, "end_turn");

    await reserve("1");

    expect(await reserve("2")).toMatchObject({ outcome: "throttled", startAtMs: NOON_MS + 2_000 });
  });

  test("a call that is refused takes no start", async () => {
    const limits = [limitOf({ name: "pace", amount: 10_000n, thresholds: [pace] }), limitOf({ amount: 200n })];
    await ledger.configure(rulesOf(limits));
    await spendInTurn("before", 10n, "end_turn");

    await reserve("refused", { usd: 500n });

    expect(await reserve("1")).toMatchObject({ outcome: "reserved" });
  });
});

describe("downgrade", () => {
  const limit = limitOf({
    per: ["session"],
    amount: 1_000n,
    window: LIFETIME,
    thresholds: [at(500n, { kind: "downgrade" }), at(1_000n, { kind: "stop" })],
  });
  const candidates = [
    candidateOf({ usdBound: toNanoUsd(300n) }),
    candidateOf({
      model: "claude-haiku-5-5",
      canonicalModel: "claude-haiku-5-5",
      usdBound: toNanoUsd(30n),
      tenCallsNanoUsd: 10n,
    }),
  ];

  test("changes the model, its bound and what it counts for; the ledger remembers what was asked", async () => {
    await ledger.configure(rulesOf([limit, limitOf({ name: "model", per: ["model"], amount: 10_000n })]));
    await spendInTurn("1", 500n, "end_turn");

    const result = await reserve("2", { candidates });

    expect(result).toMatchObject({ outcome: "reserved", marks: ["downgraded"], candidate: { model: "claude-haiku-5-5" } });
    expect(await usdCounter("model=claude-haiku-5-5")).toEqual({ spent: 0n, reserved: 30n });
    expect(await ledger.calls({ limit: 1 })).toMatchObject([
      { reservedNanoUsd: 30n, decision: { requestedModel: "claude-opus-5-5", model: "claude-haiku-5-5" } },
    ]);
  });

  test("a call that waits is not counted among those that put it off", async () => {
    const slots = limitOf({ name: "slots", measure: "concurrency", amount: 1n });
    await ledger.configure(rulesOf([limit, slots]));
    await spendInTurn("1", 500n, "end_turn");
    const answering = { hasAssistantTurn: true, isAnsweringTool: true, hasThinking: false };
    const operation = (id: string) => {
      const reserve_ = reserveOf(id, { candidates });
      return { ...reserve_, call: { ...reserve_.call, history: answering } };
    };
    await ledger.apply([operation("running")]);

    for (let index = 0; index < 20; index += 1) await ledger.apply([operation(`waiting-${index}`)]);
    await ledger.apply([settleOf("running", 1n)]);

    expect(await ledger.apply([operation("next")])).toMatchObject([{ outcome: "reserved", marks: [] }]);
  });
});

describe("a call with a part that nothing bounds", () => {
  const unbounded = [candidateOf({ unboundedParts: ["web_search"] })];

  test("is refused by a hard limit without a reserve for it", async () => {
    await ledger.configure(rulesOf([limitOf({ amount: 10_000n })]));

    expect(await reserve("1", { candidates: unbounded })).toMatchObject({
      outcome: "denied",
      code: "unbounded_cost",
      unboundedParts: ["web_search"],
    });
  });

  test("has one bound in money, the highest reserve of its limits, and keeps it while it runs", async () => {
    const limits = [
      limitOf({ name: "low", amount: 10_000n, unbounded: 200n }),
      limitOf({ name: "high", per: ["agent"], amount: 10_000n, unbounded: 700n }),
      limitOf({ name: "told", per: ["user"], amount: 10_000n, thresholds: [at(5_000n, { kind: "alert" })] }),
    ];
    await ledger.configure(rulesOf(limits));

    expect(await reserve("1", { candidates: unbounded })).toMatchObject({ outcome: "reserved", candidate: { usdBound: 700n } });
    await ledger.apply([renewOf("1", 50n, [10, 5])]);
    for (const scopeKey of ["all", "agent=a", "user=u"])
      expect(await usdCounter(scopeKey)).toEqual({ spent: 0n, reserved: 700n });

    await ledger.apply([expireOf("1")]);
    for (const scopeKey of ["all", "agent=a", "user=u"])
      expect(await usdCounter(scopeKey)).toEqual({ spent: 700n, reserved: 0n });
    expect(await ledger.calls({ limit: 1 })).toMatchObject([{ status: "expired", costNanoUsd: 700n }]);
  });

  test("holds in tokens what is known of it, where no token limit refuses", async () => {
    const tokens = limitOf({ measure: "tokens", amount: 10_000n, thresholds: [at(5_000n, { kind: "alert" })] });
    await ledger.configure(rulesOf([tokens]));

    await reserve("1", { candidates: unbounded });

    const counter = [...((await ledger.scopeStates()).get("all")?.counters.get("tokens@day:UTC")?.values() ?? [])];
    expect(counter).toMatchObject([{ reserved: 150n }]);
  });
});

describe("an unknown price", () => {
  test("settles at the bound where there was one, and stays unknown where there was none", async () => {
    await ledger.configure(rulesOf([limitOf({ amount: 10_000n, thresholds: [at(1n, { kind: "alert" })] })]));
    await ledger.apply([
      reserveOf("bounded"),
      reserveOf("unknown", { candidates: [candidateOf({ usdBound: undefined })] }),
      settleOf("bounded", undefined),
      settleOf("unknown", undefined),
    ]);

    const [unknown, bounded] = await ledger.calls({ limit: 2 });

    expect(bounded?.costNanoUsd).toBe(100n);
    expect(unknown?.costNanoUsd).toBeUndefined();
    expect(await usdCounter()).toEqual({ spent: 100n, reserved: 0n });
  });
});

test("a forced reservation is recorded whatever the limits say, as it was asked for", async () => {
  await ledger.configure(
    rulesOf([limitOf({ amount: 10n, thresholds: [at(0n, { kind: "downgrade" }), at(10n, { kind: "stop" })] })]),
  );
  const cheaper = candidateOf({ model: "small", canonicalModel: "small", tenCallsNanoUsd: 1n });

  const result = await reserve("1", { isForced: true, candidates: [candidateOf(), cheaper] });

  expect(result).toMatchObject({ outcome: "reserved", candidate: { model: "claude-opus-5-5" }, marks: [] });
  expect(await usdCounter()).toEqual({ spent: 0n, reserved: 100n });
});

test("several limits over one counter charge it once", async () => {
  const limits = [limitOf({ name: "a", amount: 1_000n }), limitOf({ name: "b", amount: 2_000n })];
  await ledger.configure(rulesOf(limits));

  await reserve("1");

  expect(await usdCounter()).toEqual({ spent: 0n, reserved: 100n });
});

test("a renewal that lowers nothing leaves no entry", async () => {
  await ledger.configure(rulesOf([limitOf({ amount: 1_000n })]));
  await reserve("1");
  const before = ledger.entries.length;

  await ledger.apply([renewOf("1", 100n), renewOf("1", undefined)]);
  expect(ledger.entries).toHaveLength(before);

  await ledger.apply([renewOf("1", 99n), renewOf("1", 99n)]);
  expect(ledger.entries).toHaveLength(before + 1);
});

test("cache reads count for one token limit and not for another", async () => {
  const all = limitOf({ name: "all", measure: "tokens", amount: 10_000n });
  const without = limitOf({ name: "without", measure: "tokens", cacheReads: "ignore", amount: 10_000n });
  await ledger.configure(rulesOf([all, without]));

  await ledger.apply([reserveOf("1"), settleOf("1", 1n, { result: { tokens: tokensOf(10, 5, 70) } })]);

  const counters = (await ledger.scopeStates()).get("all")?.counters;
  expect([...(counters?.get("tokens@day:UTC")?.values() ?? [])]).toMatchObject([{ spent: 85n }]);
  expect([...(counters?.get("tokens-reads@day:UTC")?.values() ?? [])]).toMatchObject([{ spent: 15n }]);
});

describe("a limit that stops calls before all of it is spent", () => {
  const DAY_MS = 24 * 3_600_000;
  const stopping = limitOf({ amount: 1_000n, thresholds: [at(1_000n, { kind: "stop" })] });
  const refusals = async (): Promise<bigint[]> => (await ledger.alerts({ limit: 10 })).map(({ spent }) => spent);

  test("is told once a window, with the first call that what is left is too little for", async () => {
    await ledger.configure(rulesOf([stopping]));
    await spendInTurn("1", 980n, "end_turn");
    expect(await refusals()).toEqual([]);

    expect(await reserve("2", { usd: 50n })).toMatchObject({ code: "limit_reached", alerts: [{ limit: "limit", spent: 980n }] });
    expect(await reserve("3", { usd: 50n })).toMatchObject({ code: "limit_reached", alerts: [] });
    await spendInTurn("4", 20n, "end_turn");
    expect(await refusals()).toEqual([980n]);

    await spendInTurn("5", 990n, "end_turn");
    await reserve("next day", { usd: 900n, atMs: NOON_MS + DAY_MS });
    await ledger.apply([settleOf("next day", 900n)]);
    await reserve("next day, refused", { usd: 200n, atMs: NOON_MS + DAY_MS });
    expect(await refusals()).toEqual([900n, 980n]);
  });

  test("is not told by calls that wait, or are too large for it at any time", async () => {
    await ledger.configure(rulesOf([stopping]));
    await reserve("held", { usd: 980n });

    expect((await reserve("waits", { usd: 50n })).outcome).toBe("wait");
    expect(await reserve("too large", { usd: 1_001n })).toMatchObject({ code: "limit_too_small", alerts: [] });
    expect(await refusals()).toEqual([]);
  });
});
