import { describe, expect, test } from "vitest";
import type { CallResult, ReserveOperation } from "../core/decisions/operations.ts";
import { readConfig } from "../config/config.ts";
import { toNanoUsd } from "../core/money/money.ts";
import { NO_TOKENS } from "../core/usage/usage.ts";
import {
  createFakeClock,
  createFlakyLedger,
  createRecordingNotifier,
  settle,
  START_MS,
  type FakeClock,
  type Failure,
  type FlakyLedger,
} from "./engine.fixture.ts";
import { createSettler, type Ending, type Settler } from "./settler.ts";

const OWNER = "own_me";

function reserveOf(callId: string, isForced = false): ReserveOperation {
  const scopes = { project: "p", agent: "a", session: "s", parentSessions: [], user: "u", key: "k", task: "t", tags: {} };
  return {
    kind: "reserve",
    atMs: START_MS,
    ownerId: OWNER,
    call: {
      callId,
      scopes,
      provider: "anthropic",
      requestedModel: "m",
      attempt: 0,
      isStream: false,
      attribution: { user: "u", tags: {} },
      history: { hasAssistantTurn: false, isAnsweringTool: false, hasThinking: false },
    },
    candidates: [
      {
        model: "m",
        canonicalModel: "m",
        rejectedBy: undefined,
        maxTokens: 10,
        inputTokensBound: 100,
        outputTokensBound: 10,
        usdBound: toNanoUsd(1_000n),
        unboundedParts: [],
        tenCallsNanoUsd: undefined,
        priceIds: [],
      },
    ],
    heldBack: [],
    grantedStartsMs: {},
    ...(isForced ? { isForced } : {}),
  };
}

function settleOf(callId: string, costNanoUsd = 400n): Ending {
  const result: CallResult = {
    costNanoUsd: toNanoUsd(costNanoUsd),
    tokens: { ...NO_TOKENS, uncachedInputTokens: 40 },
    costParts: [],
    priceIds: [],
    webSearchRequests: 0,
    isEstimated: false,
    flags: [],
    model: "m",
    status: 200,
    stopReason: "end_turn",
    providerRequestId: undefined,
    error: undefined,
  };
  return { kind: "settle", atMs: START_MS, callId, result };
}

interface Bench {
  settler: Settler;
  flaky: FlakyLedger;
  clock: FakeClock;
  notifier: ReturnType<typeof createRecordingNotifier>;
  freed: string[];
  held: Set<string>;
  fail(failure: Failure): void;
  statusOf(callId: string): Promise<string | undefined>;
}

async function start(...callIds: string[]): Promise<Bench> {
  const clock = createFakeClock();
  const flaky = createFlakyLedger();
  const notifier = createRecordingNotifier();
  const freed: string[] = [];
  const held = new Set<string>();
  const read = readConfig({ text: "limits: [{ name: l, per: all, usd: 1, every: day }]", fileName: "purser.yaml", env: {} });
  if (read.outcome === "invalid") throw new Error("unreadable");
  await flaky.memory.configure({ ...read.config, atMs: START_MS });
  await flaky.memory.apply(callIds.map((callId) => reserveOf(callId)));
  const settler = createSettler({
    ledger: flaky.ledger,
    clock,
    notifier,
    freed: (ids) => void freed.push(...ids),
    ownerId: OWNER,
    isHeld: (callId) => held.has(callId),
  });
  return {
    settler,
    flaky,
    clock,
    notifier,
    freed,
    held,
    fail: (failure) => void (flaky.failWith = () => failure),
    statusOf: async (callId) => (await flaky.memory.calls({ limit: 1, callId }))[0]?.status,
  };
}

describe("an ending", () => {
  test("is durable at the first try, and tells what it freed and what passed its bound", async () => {
    const bench = await start("a");

    const settled = await bench.settler.end(settleOf("a", 1_500n));

    expect(settled).toEqual({ costNanoUsd: 1_500n, isDurable: true });
    expect(bench.freed).toHaveLength(1);
    expect(bench.notifier.warnings).toEqual([{ event: "overrun", details: { callId: "a", overrunNanoUsd: "500" } }]);
    expect(bench.settler.pendingCount).toBe(0);
  });

  test("said twice changes nothing; another amount is told as a conflict", async () => {
    const bench = await start("a");
    await bench.settler.end(settleOf("a"));
    const entries = bench.flaky.memory.entries.length;

    await bench.settler.end(settleOf("a"));
    expect(bench.notifier.eventsOf()).toEqual([]);
    await bench.settler.end(settleOf("a", 999n));

    expect(bench.notifier.eventsOf()).toEqual(["settlement_conflict"]);
    expect(bench.flaky.memory.entries).toHaveLength(entries);
  });

  test.each<[string, Failure]>([
    ["nothing was written", "before"],
    ["it was written and the answer was lost", "after"],
  ])("that failed waits and is told again until the ledger takes it: %s", async (_, failure) => {
    const bench = await start("a");
    bench.fail(failure);

    const settled = await bench.settler.end(settleOf("a"));
    expect(settled).toEqual({ costNanoUsd: 400n, isDurable: false });
    expect(bench.settler.pendingCount).toBe(1);
    await bench.clock.advance(5_000);
    expect(bench.settler.pendingCount).toBe(1);
    bench.fail(undefined);
    await bench.clock.advance(500);

    expect(bench.settler.pendingCount).toBe(0);
    expect(await bench.statusOf("a")).toBe("settled");
    expect(bench.flaky.memory.entries.filter(({ kind }) => kind === "settled")).toHaveLength(1);
    expect(bench.clock.timerCount).toBe(0);
  });

  test("waits behind no other: all that wait are written once the ledger is back", async () => {
    const callIds = Array.from({ length: 50 }, (_, index) => `call ${index}`);
    const bench = await start(...callIds);
    bench.fail("before");
    for (const callId of callIds) await bench.settler.end(settleOf(callId));
    expect(bench.settler.pendingCount).toBe(50);

    bench.fail(undefined);
    await bench.clock.advance(500);

    expect(bench.settler.pendingCount).toBe(0);
    expect(await bench.flaky.memory.openCalls()).toEqual([]);
  });

  test("of a call that was let through without the ledger writes its reservation first, once", async () => {
    const bench = await start();
    bench.fail("before");
    await bench.settler.end(settleOf("a"), reserveOf("a", true));
    bench.flaky.failWith = ({ kind }) => (kind === "settle" ? "before" : undefined);
    await bench.clock.advance(500);
    expect(await bench.statusOf("a")).toBe("reserved");

    bench.fail(undefined);
    await bench.clock.advance(500);

    expect(await bench.statusOf("a")).toBe("settled");
    expect(bench.flaky.memory.entries.map(({ kind }) => kind)).toEqual(["reserved", "settled"]);
  });

  test("that the ledger calls wrong is not asked again: the call is counted at its bound", async () => {
    const bench = await start("a", "b");
    bench.flaky.failWith = (operation) => (operation.kind === "settle" && operation.callId === "a" ? "refused" : undefined);

    const settled = await bench.settler.end(settleOf("a"));
    await bench.settler.end(settleOf("b"));
    await bench.clock.advance(500);

    expect(settled.isDurable).toBe(false);
    expect(await bench.statusOf("a")).toBe("expired");
    expect(await bench.statusOf("b")).toBe("settled");
    expect(bench.settler.pendingCount).toBe(0);
    expect(bench.notifier.warnings[0]).toMatchObject({ event: "ending_refused", details: { callId: "a", kind: "settle" } });
  });

  test("of which not even the bound can be counted is kept and told each time, and holds up nothing", async () => {
    const bench = await start("a", "b");
    bench.flaky.failWith = (operation) => ("callId" in operation && operation.callId === "a" ? "refused" : undefined);

    await bench.settler.end(settleOf("a"));
    await bench.clock.advance(500);

    expect(bench.settler.pendingCount).toBe(1);
    expect(bench.notifier.eventsOf()).toEqual(["ending_refused", "settlement_waits", "ending_refused"]);
    await bench.settler.end(settleOf("b"));
    expect(await bench.statusOf("b")).toBe("settled");
    bench.fail(undefined);
    await bench.clock.advance(500);
    expect(await bench.statusOf("a")).toBe("expired");
    expect(bench.settler.pendingCount).toBe(0);
  });
});

describe("a sweep", () => {
  test("gives back what this process holds without knowing it, and nothing else", async () => {
    const bench = await start("lost", "running", "ending");
    await bench.flaky.memory.apply([{ ...reserveOf("another's"), ownerId: "own_other" }]);
    bench.held.add("running");
    bench.fail("before");
    await bench.settler.end(settleOf("ending"));
    bench.settler.sweepLater();
    expect(bench.settler.pendingCount).toBe(2);

    bench.fail(undefined);
    await bench.clock.advance(500);

    expect(await bench.statusOf("lost")).toBe("voided");
    expect(await bench.statusOf("ending")).toBe("settled");
    expect(await bench.statusOf("running")).toBe("reserved");
    expect(await bench.statusOf("another's")).toBe("reserved");
    expect(bench.settler.pendingCount).toBe(0);
    expect(bench.notifier.eventsOf()).toEqual(["settlement_waits"]);
  });

  test("costs no memory for each call that was refused, and is tried until the ledger answers", async () => {
    const bench = await start("lost");
    bench.fail("before");
    for (let index = 0; index < 1_000; index += 1) bench.settler.sweepLater();
    await bench.clock.advance(10_000);

    expect(bench.settler.pendingCount).toBe(1);
    expect(bench.clock.timerCount).toBe(1);
    bench.fail(undefined);
    await bench.clock.advance(500);

    expect(await bench.statusOf("lost")).toBe("voided");
    expect(bench.freed).toHaveLength(1);
  });
});

test("there is room for endings of calls that the ledger knows nothing of until ten thousand wait", async () => {
  const bench = await start();
  bench.fail("before");
  for (let index = 0; index < 10_000; index += 1) {
    expect(bench.settler.hasRoom()).toBe(true);
    await bench.settler.end(settleOf(`call ${index}`));
  }
  expect(bench.settler.hasRoom()).toBe(false);

  bench.fail(undefined);
  await bench.clock.advance(500);
  expect(bench.settler.hasRoom()).toBe(true);
  await bench.clock.advance(1_000);
  expect(bench.settler.pendingCount).toBe(0);
});

describe("flushing", () => {
  test("ends when all is written", async () => {
    const bench = await start("a");
    bench.fail("before");
    await bench.settler.end(settleOf("a"));
    let isDone = false;

    const flushed = bench.settler.flush(START_MS + 60_000).then(() => (isDone = true));
    await bench.clock.advance(2_000);
    expect(isDone).toBe(false);
    bench.fail(undefined);
    await bench.clock.advance(1_000);

    await flushed;
    expect(bench.settler.pendingCount).toBe(0);
  });

  test("ends at its deadline with the ledger still away", async () => {
    const bench = await start("a");
    bench.fail("before");
    await bench.settler.end(settleOf("a"));

    const flushed = bench.settler.flush(START_MS + 5_000);
    await bench.clock.advance(5_000);

    await flushed;
    expect(bench.settler.pendingCount).toBe(1);
    expect(bench.clock.nowMs()).toBe(START_MS + 5_000);
  });

  test("ends at once where nothing waits", async () => {
    const bench = await start();
    await bench.settler.flush(START_MS + 5_000);
    await settle();
    expect(bench.clock.timerCount).toBe(0);
  });
});
