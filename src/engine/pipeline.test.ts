import { describe, expect, test } from "vitest";
import type { Operation } from "../core/decisions/operations.ts";
import { anthropic } from "../providers/anthropic/anthropic.ts";
import { createPresence, settle, START_MS, startEngine, type EngineBench, type Failure } from "./engine.fixture.ts";
import { WAIT_MS_MAX, type IncomingCall } from "./incoming-call.ts";
import type { Opening } from "./pipeline.ts";
import type { RunningCall } from "./running-call.ts";
import { WAITERS_MAX } from "./waiting-line.ts";

const ROOMY = "limits: [{ name: roomy, per: all, usd: 1000, every: day }]";
/** The plain request holds about $0.0005: two of them fit, three do not. */
const TWO_FIT = "limits: [{ name: tight, per: all, usd: 0.0012, every: day }]";
/** No useful answer is short enough to fit: it is never made smaller. */
const THINKS_MUCH = { type: "enabled", budget_tokens: 59_000 };
const ONE_AT_A_TIME = "limits: [{ name: single, per: all, concurrency: 1 }]";

async function admit(bench: EngineBench, call: Partial<IncomingCall> = {}): Promise<RunningCall> {
  return admitted(await bench.engine.open(bench.callOf(call)));
}

function admitted(opening: Opening | undefined): RunningCall {
  if (opening?.outcome !== "admitted") throw new Error(`the call is ${JSON.stringify(opening)}`);
  return opening.call;
}

function codeOf(opening: Opening | undefined): string {
  return opening?.outcome === "refused" ? opening.refusal.details.code : (opening?.outcome ?? "open");
}

/** Ends a call with a whole answer of this usage. */
function complete(call: RunningCall, usage: Record<string, unknown> = { input_tokens: 10, output_tokens: 5 }) {
  call.markSent();
  const meter = call.openMeter("application/json");
  const body = { model: call.candidate.model, stop_reason: "end_turn", usage };
  meter.push(new TextEncoder().encode(JSON.stringify(body)));
  meter.end();
  return call.end({ kind: "completed", status: 200, reading: meter.reading() }, "req_1");
}

/** Opens a call without waiting for it; what became of it stands in `opening` once it has. */
function begin(bench: EngineBench, call: Partial<IncomingCall> = {}) {
  const incoming = bench.callOf(call);
  const begun: { opening: Opening | undefined; leave(): void } = { opening: undefined, leave: () => incoming.presence.leave() };
  void bench.engine.open(incoming).then((opening) => (begun.opening = opening));
  return begun;
}

const kindsOf = ({ flaky }: EngineBench, callId: string): string[] =>
  flaky.memory.entries.filter((entry) => entry.callId === callId && entry.kind !== "alert").map(({ kind }) => kind);

const failOnly = (kind: Operation["kind"] | "calls" | "openCalls", failure: Failure) => (operation: { kind: string }) =>
  operation.kind === kind ? failure : undefined;

describe("a call", () => {
  test("is reserved before it is run, settled at what it used, and holds nothing afterwards", async () => {
    const bench = await startEngine(ROOMY);
    const call = await admit(bench);

    expect(kindsOf(bench, call.callId)).toEqual(["reserved"]);
    expect(bench.engine.runningCount).toBe(1);
    expect(call.decision).toEqual({ marks: ["allowed"], changedModel: undefined, changedMaxTokens: undefined, delayMs: 0 });
    const settled = await complete(call);

    // 10 input at $0.10 and 5 output at $0.50 per million tokens.
    expect(settled).toEqual({ costNanoUsd: 3_500n, isDurable: true });
    expect(kindsOf(bench, call.callId)).toEqual(["reserved", "settled"]);
    expect([bench.engine.runningCount, bench.engine.unsettledCount, await bench.reserved()]).toEqual([0, 0, 0n]);
  });

  test("that cannot be read is refused with its id, and the ledger never hears of it", async () => {
    const bench = await startEngine(ROOMY);
    const opening = await bench.engine.open(bench.callOf({ body: new TextEncoder().encode('{"model": ') }));

    expect(codeOf(opening)).toBe("invalid_request");
    expect(opening.outcome === "refused" && opening.refusal.details.callId).toBe(opening.outcome === "refused" && opening.callId);
    expect(bench.flaky.memory.entries).toEqual([]);
  });

  test("that is too large for its limit is refused, recorded, and consumes nothing", async () => {
    const bench = await startEngine(TWO_FIT);
    const opening = await bench.engine.open(bench.callOf({ maxTokens: 60_000, more: { thinking: THINKS_MUCH } }));

    expect(codeOf(opening)).toBe("limit_too_small");
    expect(opening.outcome === "refused" && opening.refusal.message).toContain("waiting does not help: lower max_tokens,");
    expect(bench.flaky.memory.entries.map(({ kind }) => kind)).toEqual(["denied"]);
    expect(bench.engine.runningCount).toBe(0);
  });

  test("that is too large in its smallest useful form is not told to lower its max_tokens", async () => {
    const bench = await startEngine("limits: [{ name: tiny, per: all, usd: 0.0001 }]");
    const opening = await bench.engine.open(bench.callOf({ maxTokens: 60_000 }));

    const message = opening.outcome === "refused" ? opening.refusal.message : "";
    expect(message).toContain("even with max_tokens 1,024,");
    expect(message).toContain("waiting does not help: shorten the input,");
  });

  test("that was not sent is given back whole, whatever else is said of it", async () => {
    const bench = await startEngine(ROOMY);
    const call = await admit(bench);

    await call.end({ kind: "lost", by: "upstream" });

    expect(kindsOf(bench, call.callId)).toEqual(["reserved", "voided"]);
  });

  test("goes upstream with the bytes it came with, or with the values a downgrade replaced", async () => {
    const yaml = `
models: { downgrade: { claude-opus-5-5: claude-haiku-5-5 } }
limits: [{ name: l, per: all, usd: 100, every: day, at: { $0.000001: downgrade, 100%: stop } }]`;
    const bench = await startEngine(yaml);
    await complete(await admit(bench));
    const incoming = bench.callOf({ model: "claude-opus-5-5" });
    const call = admitted(await bench.engine.open(incoming));
    const plain = await admit(bench);

    expect(call.decision).toMatchObject({ marks: ["downgraded"], changedModel: "claude-haiku-5-5" });
    expect(JSON.parse(new TextDecoder().decode(call.body))).toMatchObject({ model: "claude-haiku-5-5", max_tokens: 1_000 });
    expect(new TextDecoder().decode(call.body)).toBe(
      new TextDecoder().decode(incoming.body).replace("claude-opus-5-5", "claude-haiku-5-5"),
    );
    expect(plain.decision.changedModel).toBeUndefined();
  });
});

describe("the end of a call", () => {
  test("happens once: asked again, it answers the same, whatever it is told", async () => {
    const bench = await startEngine(ROOMY);
    const call = await admit(bench);
    call.markSent();

    const [first, second] = await Promise.all([
      call.end({ kind: "lost", by: "caller" }),
      call.end({ kind: "not_sent", reason: "later" }),
    ]);
    const third = await complete(call);

    expect([second, third]).toEqual([first, first]);
    expect(kindsOf(bench, call.callId)).toEqual(["reserved", "settled"]);
    expect(bench.engine.runningCount).toBe(0);
  });

  test("is counted at its bound where settling it fails by a mistake of ours", async () => {
    const bench = await startEngine(ROOMY);
    const call = await admit(bench);
    call.markSent();
    bench.rules.book = { ...bench.rules.book, find: () => fail("a row is broken") };

    await call.end({ kind: "lost", by: "upstream" });

    expect(kindsOf(bench, call.callId)).toEqual(["reserved", "expired"]);
    expect(bench.notifier.eventsOf()).toEqual(["internal_error"]);
    expect(await bench.reserved()).toBe(0n);
  });

  test("is a gift back where preparing the call fails by a mistake of ours", async () => {
    const yaml = `
models: { downgrade: { claude-opus-5-5: claude-haiku-5-5 } }
limits: [{ name: l, per: all, usd: 100, every: day, at: { $0.000001: downgrade, 100%: stop } }]`;
    const bench = await startEngine(yaml);
    await complete(await admit(bench));
    const provider = { ...anthropic, editRequest: () => fail("cannot edit") };

    await expect(bench.engine.open(bench.callOf({ model: "claude-opus-5-5", provider }))).rejects.toThrow("cannot edit");

    const kinds = bench.flaky.memory.entries.map(({ kind }) => kind).filter((kind) => kind !== "alert");
    expect(kinds).toEqual(["reserved", "settled", "reserved", "voided"]);
    expect(bench.engine.runningCount).toBe(0);
  });
});

function fail(message: string): never {
  throw new Error(message);
}

describe("a caller that leaves", () => {
  test("before it is decided leaves no trace", async () => {
    const bench = await startEngine(ROOMY);
    const presence = createPresence();
    presence.leave();

    expect((await bench.engine.open(bench.callOf({ presence }))).outcome).toBe("gone");
    expect(bench.flaky.memory.entries).toEqual([]);
  });

  test.each([
    ["", undefined, "caller_left"],
    [", by the gateway's own end,", "shutting_down", "shutting_down"],
  ])("while the ledger decides%s has its reservation given back", async (_why, goneFor, reason) => {
    const bench = await startEngine(ROOMY);
    const presence = Object.assign(createPresence(), { goneFor });
    bench.flaky.failWith = ({ kind }) => {
      if (kind === "reserve") presence.leave();
      return undefined;
    };

    const opening = await bench.engine.open(bench.callOf({ presence }));

    expect(opening.outcome).toBe("gone");
    expect(bench.flaky.memory.entries.map(({ kind }) => kind)).toEqual(["reserved", "voided"]);
    expect(bench.flaky.memory.entries.at(-1)?.body).toEqual({ kind: "voided", reason });
    expect([await bench.reserved(), bench.engine.runningCount]).toEqual([0n, 0]);
  });

  test("while it waits leaves the line at once, and lets those behind it go on", async () => {
    const bench = await startEngine("limits: [{ name: tight, per: all, usd: 0.0017, every: day }]");
    const running = await admit(bench);
    // Larger than what is left: it waits, and the small one behind it waits for its sake.
    const large = begin(bench, { maxTokens: 3_000 } as Partial<IncomingCall>);
    await settle();
    const small = begin(bench);
    await settle();
    expect([codeOf(large.opening), codeOf(small.opening)]).toEqual(["open", "open"]);

    large.leave();
    await settle();

    expect([codeOf(large.opening), codeOf(small.opening)]).toEqual(["gone", "admitted"]);
    await complete(running);
    await complete(admitted(small.opening));
    expect(await bench.reserved()).toBe(0n);
  });

  test("while it is slowed down holds nothing", async () => {
    const bench = await startEngine(
      "limits: [{ name: slow, per: all, usd: 100, every: day, at: { $0.000001: { throttle: 10s }, 100%: stop } }]",
    );
    await complete(await admit(bench));
    await complete(await admit(bench));
    const slowed = begin(bench);
    await settle();

    slowed.leave();
    await settle();

    expect(codeOf(slowed.opening)).toBe("gone");
    expect([await bench.reserved(), bench.clock.timerCount]).toEqual([0n, 0]);
  });
});

describe("a limit that pauses", () => {
  /** Noon plus 50 minutes: the hour ends in ten. */
  const LATE_MS = START_MS + 50 * 60_000;
  const HOURLY = "limits: [{ name: hourly, per: all, requests: 2, every: hour, at: { 100%: { pause: { upTo: 15m } } } }]";

  test("lets calls wait for the window's end, past the ordinary time, holding nothing, and tells once", async () => {
    const bench = await startEngine(HOURLY);
    await bench.clock.advance(LATE_MS - START_MS);
    await complete(await admit(bench));
    await complete(await admit(bench));
    expect(bench.notifier.alerts.map(({ actions }) => actions)).toEqual([["pause"]]);
    const waiters = [begin(bench), begin(bench), begin(bench)];

    await bench.clock.advance(10 * 60_000 - 1);
    expect(waiters.map(({ opening }) => codeOf(opening))).toEqual(["open", "open", "open"]);
    expect([await bench.reserved(), bench.engine.waitingOn("all requests@hour:UTC")]).toEqual([0n, 3]);
    await bench.clock.advance(1);

    // In the order in which they came; the third finds the next hour's two spent, and that ends too late for it.
    expect(waiters.map(({ opening }) => codeOf(opening))).toEqual(["admitted", "admitted", "limit_reached"]);
    expect(admitted(waiters[0]?.opening).decision).toMatchObject({ marks: ["waited"], delayMs: 600_000 });
    expect(bench.notifier.alerts).toHaveLength(2);
  });

  test("refuses, and says when it resets, where the window ends too late for it or for the caller", async () => {
    const bench = await startEngine(HOURLY);
    await complete(await admit(bench));
    await complete(await admit(bench));
    expect(codeOf(await bench.engine.open(bench.callOf()))).toBe("limit_reached");

    await bench.clock.advance(LATE_MS - START_MS);
    const opening = await bench.engine.open(bench.callOf({ deadlineAtMs: LATE_MS + 5 * 60_000 }));
    expect(opening).toMatchObject({
      outcome: "refused",
      refusal: { details: { code: "limit_reached", resetsAt: "2026-11-22T13:00:00Z" } },
    });
  });

  test("lets smaller calls pass that there is money for, and tells also where what is left is merely too little", async () => {
    const bench = await startEngine(
      "limits: [{ name: hourly, per: all, outputTokens: 2_000, every: hour, fit: off, at: { 100%: { pause: { upTo: 1h } } } }]",
    );
    await complete(await admit(bench), { input_tokens: 10, output_tokens: 700 });
    const large = begin(bench, { maxTokens: 1_500 } as Partial<IncomingCall>);
    await settle();
    expect([codeOf(large.opening), bench.notifier.alerts.length]).toEqual(["open", 1]);

    await complete(await admit(bench));
    await bench.clock.advance(3_600_000);
    expect([codeOf(large.opening), bench.notifier.alerts.length]).toEqual(["admitted", 1]);
  });

  test("is left by a caller who goes, and by a change of the rules", async () => {
    const bench = await startEngine(HOURLY);
    await bench.clock.advance(LATE_MS - START_MS);
    await complete(await admit(bench));
    await complete(await admit(bench));
    const [leaving, staying] = [begin(bench), begin(bench)];
    await settle();

    leaving.leave();
    await bench.configure(HOURLY.replace("requests: 2", "requests: 3"));
    bench.engine.rulesChanged();
    await settle();

    expect([codeOf(leaving.opening), codeOf(staying.opening)]).toEqual(["gone", "admitted"]);
  });
});

describe("waiting in line", () => {
  test("ends first in, first out when something is freed, and is said in the decision", async () => {
    const bench = await startEngine(ONE_AT_A_TIME);
    const running = await admit(bench);
    const waiters = [begin(bench), begin(bench), begin(bench)];
    await settle();
    await bench.clock.advance(2_000);

    await complete(running);
    await settle();
    expect(waiters.map(({ opening }) => codeOf(opening))).toEqual(["admitted", "open", "open"]);
    expect(admitted(waiters[0]?.opening).decision).toMatchObject({ marks: ["waited"], delayMs: 2_000 });
    await complete(admitted(waiters[0]?.opening));
    await settle();

    expect(waiters.map(({ opening }) => codeOf(opening))).toEqual(["admitted", "admitted", "open"]);
    await complete(admitted(waiters[1]?.opening));
    await settle();
    await complete(admitted(waiters[2]?.opening));
    expect([await bench.reserved(), bench.engine.runningCount]).toEqual([0n, 0]);
  });

  test("is no place to be overtaken: a small call does not pass a large one on the same counter", async () => {
    const bench = await startEngine("limits: [{ name: tight, per: all, usd: 0.0017, every: day }]");
    const running = await admit(bench);
    const large = begin(bench, { maxTokens: 3_000 } as Partial<IncomingCall>);
    await settle();
    const small = begin(bench);
    await settle();

    expect(codeOf(small.opening)).toBe("open");
    await complete(running);
    await settle();
    expect([codeOf(large.opening), codeOf(small.opening)]).toEqual(["admitted", "open"]);
  });

  test("holds back nobody who shares no counter with those who wait", async () => {
    const bench = await startEngine("limits: [{ name: single, per: agent, concurrency: 1 }]");
    await admit(bench, { labels: { agent: "a" } });
    const waiting = begin(bench, { labels: { agent: "a" } });
    await settle();

    await admit(bench, { labels: { agent: "b" } });
    expect(codeOf(waiting.opening)).toBe("open");
  });

  test("is not slept through by a second waiter that is decided together with the first", async () => {
    const bench = await startEngine(TWO_FIT);
    const running = [await admit(bench), await admit(bench)];
    const waiters = [begin(bench), begin(bench)];
    await settle();

    // Both places are freed at once, and both waiters are woken by the first of them.
    await Promise.all(running.map((call) => complete(call)));
    await settle();

    expect(waiters.map(({ opening }) => codeOf(opening))).toEqual(["admitted", "admitted"]);
  });

  test(`lasts at most ${WAIT_MS_MAX} ms, then the caller is told when to come back, and nothing is held`, async () => {
    const bench = await startEngine(ONE_AT_A_TIME);
    const running = await admit(bench);
    const waiter = begin(bench);

    await bench.clock.advance(WAIT_MS_MAX - 1);
    expect(codeOf(waiter.opening)).toBe("open");
    await bench.clock.advance(1);

    expect(codeOf(waiter.opening)).toBe("held_by_calls_in_flight");
    expect(waiter.opening?.outcome === "refused" && waiter.opening.refusal.retryAfterSeconds).toBeGreaterThan(0);
    await complete(running);
    expect(await bench.reserved()).toBe(0n);
  });

  test("never passes the caller's own deadline", async () => {
    const bench = await startEngine(ONE_AT_A_TIME);
    await admit(bench);
    const waiter = begin(bench, { deadlineAtMs: bench.clock.nowMs() + 3_000 });

    await bench.clock.advance(2_999);
    expect(codeOf(waiter.opening)).toBe("open");
    await bench.clock.advance(1);
    expect(codeOf(waiter.opening)).toBe("held_by_calls_in_flight");
  });

  test(`is for ${WAITERS_MAX}; the next is refused at once`, async () => {
    const bench = await startEngine(ONE_AT_A_TIME);
    const running = await admit(bench);
    const waiters = Array.from({ length: WAITERS_MAX }, () => begin(bench));
    await settle();
    const next = begin(bench);
    await settle();

    expect(codeOf(next.opening)).toBe("held_by_calls_in_flight");
    expect(waiters.every(({ opening }) => opening === undefined)).toBe(true);
    expect(bench.engine.waitingOn([...(await bench.flaky.memory.scopeStates()).keys()][0] ?? "")).toBe(0);
    for (const waiter of waiters) waiter.leave();
    await complete(running);
    await settle();
    expect([await bench.reserved(), bench.engine.runningCount]).toEqual([0n, 0]);
  });

  test("is over when the rules change so that there is room", async () => {
    const bench = await startEngine(ONE_AT_A_TIME);
    await admit(bench);
    const waiter = begin(bench);
    await settle();

    await bench.configure("limits: [{ name: single, per: all, concurrency: 2 }]");
    bench.engine.rulesChanged();
    await settle();

    expect(codeOf(waiter.opening)).toBe("admitted");
  });

  test("is over when what runs grows older than a rolling window, and not a window later", async () => {
    const bench = await startEngine("limits: [{ name: tight, per: all, usd: 0.0012, every: 20s, fit: off }]");
    await admit(bench);
    await bench.clock.advance(5_000);
    await admit(bench);
    await bench.clock.advance(5_000);
    const waiter = begin(bench);

    await bench.clock.advance(10_000);
    expect(codeOf(waiter.opening)).toBe("open");
    // The first call is older than the window then, and at most a sixtieth of it is added.
    await bench.clock.advance(20_000 / 60 + 1);

    expect(codeOf(waiter.opening)).toBe("admitted");
  });

  test("is over when another process frees something, which is noticed within 20 ms", async () => {
    const bench = await startEngine(ONE_AT_A_TIME);
    const running = await admit(bench);
    const waiter = begin(bench);
    await bench.clock.advance(500);
    expect(codeOf(waiter.opening)).toBe("open");

    await bench.flaky.memory.apply([{ kind: "expire", atMs: bench.clock.nowMs(), callId: running.callId, reason: "by another" }]);
    await bench.clock.advance(20);

    expect(codeOf(waiter.opening)).toBe("admitted");
  });
});

describe("being slowed down", () => {
  const SLOW = "limits: [{ name: slow, per: all, usd: 100, every: day, at: { $0.000001: { throttle: 10s }, 100%: stop } }]";

  test("lasts until the start that was given, and says so", async () => {
    const bench = await startEngine(SLOW);
    await complete(await admit(bench));
    await complete(await admit(bench));
    const slowed = begin(bench);

    await bench.clock.advance(9_999);
    expect(codeOf(slowed.opening)).toBe("open");
    await bench.clock.advance(1);

    expect(admitted(slowed.opening).decision).toMatchObject({ delayMs: 10_000 });
    expect(admitted(slowed.opening).decision.marks).toContain("throttled");
  });

  test("is refused where the start comes after the caller's own deadline", async () => {
    const bench = await startEngine(SLOW);
    await complete(await admit(bench));
    await complete(await admit(bench));
    const opening = await bench.engine.open(bench.callOf({ deadlineAtMs: bench.clock.nowMs() + 9_999 }));

    expect(codeOf(opening)).toBe("rate_limited");
    expect(bench.flaky.memory.entries.at(-1)?.kind).toBe("denied");
  });
});

describe("what a running call holds", () => {
  const event = (type: string, more: Record<string, unknown>): Uint8Array =>
    new TextEncoder().encode(`event: ${type}\ndata: ${JSON.stringify({ type, ...more })}\n\n`);
  const start = event("message_start", {
    message: { id: "m", model: "claude-haiku-5-5", usage: { input_tokens: 10, output_tokens: 1 } },
  });

  test("is lowered, once, a quarter of a second after it was sent, when the provider has said what the input was", async () => {
    const bench = await startEngine(TWO_FIT);
    const call = await admit(bench, { text: "x".repeat(4_000) } as Partial<IncomingCall>);
    const before = await bench.reserved();
    const waiter = begin(bench);
    await settle();
    expect(codeOf(waiter.opening)).toBe("open");

    call.markSent();
    const meter = call.openMeter("text/event-stream");
    meter.push(start);
    await bench.clock.advance(250);
    meter.push(event("ping", {}));
    meter.push(start);
    await settle();

    // 10 input at $0.10 and all 1,000 output at $0.50 per million tokens, besides what the waiter now holds.
    expect(kindsOf(bench, call.callId)).toEqual(["reserved", "renewed"]);
    expect(codeOf(waiter.opening)).toBe("admitted");
    await complete(admitted(waiter.opening));
    expect(await bench.reserved()).toBe(501_000n);
    expect(before).toBeGreaterThan(501_000n);
  });

  test("stays as it is for an answer that is over sooner", async () => {
    const bench = await startEngine(ROOMY);
    const call = await admit(bench);
    call.markSent();
    const meter = call.openMeter("text/event-stream");
    meter.push(start);
    await bench.clock.advance(249);
    meter.push(event("message_delta", { delta: { stop_reason: "end_turn" }, usage: { output_tokens: 5 } }));
    await settle();

    expect(kindsOf(bench, call.callId)).toEqual(["reserved"]);
  });

  test.each<Failure>(["before", "after"])(
    "that the ledger could not take at once (%s it happened) wakes who waits for it",
    async (failure) => {
      const bench = await startEngine(TWO_FIT);
      const call = await admit(bench, { text: "x".repeat(4_000) } as Partial<IncomingCall>);
      const waiter = begin(bench);
      await bench.clock.advance(500);
      bench.flaky.failWith = failOnly("renew", failure);

      call.markSent();
      const meter = call.openMeter("text/event-stream");
      meter.push(start);
      await bench.clock.advance(250);
      meter.push(event("ping", {}));
      await bench.clock.advance(600);
      expect(codeOf(waiter.opening)).toBe("open");
      bench.flaky.failWith = () => undefined;
      await bench.clock.advance(500);

      expect(codeOf(waiter.opening)).toBe("admitted");
    },
  );

  test("bounds what an answer is settled at whose last report cannot be read", async () => {
    const bench = await startEngine(ROOMY);
    const call = await admit(bench, { text: "x".repeat(4_000) } as Partial<IncomingCall>);
    call.markSent();
    const meter = call.openMeter("text/event-stream");
    meter.push(start);
    await bench.clock.advance(1_000);
    meter.push(event("ping", {}));
    await settle();
    meter.push(event("message_delta", { delta: { stop_reason: "end_turn" }, usage: { output_tokens: -1 } }));
    meter.push(event("message_stop", {}));
    meter.end();

    // 10 input at $0.10 and the 1,000 tokens that two seconds allow at $0.50 per million; the 4,000 bytes were answered by a figure.
    expect(await call.end({ kind: "completed", status: 200, reading: meter.reading() })).toMatchObject({ costNanoUsd: 501_000n });
    expect(bench.notifier.eventsOf()).toEqual([]);
    const [record] = await bench.flaky.memory.calls({ limit: 1, callId: call.callId });
    expect(record?.result?.flags).toEqual(["estimated", "malformed_usage"]);
  });

  test("stays as it is where the ledger does not take it, and the call ends as ever", async () => {
    const bench = await startEngine(ROOMY);
    const call = await admit(bench);
    bench.flaky.failWith = failOnly("renew", "before");
    call.markSent();
    await bench.clock.advance(250);
    const meter = call.openMeter("text/event-stream");
    meter.push(start);
    await settle();

    meter.end();
    await call.end({ kind: "cut", status: 200, reading: meter.reading(), by: "upstream" });
    expect(kindsOf(bench, call.callId)).toEqual(["reserved", "settled"]);
    expect(bench.notifier.eventsOf()).toEqual([]);
  });
});

describe("a ledger that cannot be written", () => {
  test.each<[string, Failure, string[]]>([
    ["nothing happened", "before", []],
    ["it happened and nobody heard of it", "after", ["reserved", "voided"]],
  ])("at the reservation refuses the call and holds nothing once it is back: %s", async (_, failure, kinds) => {
    const bench = await startEngine(ROOMY);
    bench.flaky.failWith = () => failure;
    const opening = await bench.engine.open(bench.callOf());
    expect(codeOf(opening)).toBe("ledger_unavailable");
    expect(bench.engine.runningCount).toBe(0);

    bench.flaky.failWith = () => undefined;
    await bench.clock.advance(1_000);

    expect(bench.flaky.memory.entries.map(({ kind }) => kind)).toEqual(kinds);
    expect([bench.engine.unsettledCount, await bench.reserved()]).toEqual([0, 0n]);
  });

  test("that loses the answer to what is given back wakes who waits for it all the same", async () => {
    const bench = await startEngine(ONE_AT_A_TIME);
    bench.flaky.failWith = failOnly("reserve", "after");
    expect(codeOf(await bench.engine.open(bench.callOf()))).toBe("ledger_unavailable");
    bench.flaky.failWith = failOnly("void", "after");
    const waiter = begin(bench);
    await bench.clock.advance(1_000);
    expect(codeOf(waiter.opening)).toBe("open");

    bench.flaky.failWith = () => undefined;
    await bench.clock.advance(1_000);

    expect(codeOf(waiter.opening)).toBe("admitted");
  });

  test("at the settlement lets the call end, and is told when it is back", async () => {
    const bench = await startEngine(ROOMY);
    const call = await admit(bench);
    bench.flaky.failWith = () => "before";

    expect(await complete(call)).toEqual({ costNanoUsd: 3_500n, isDurable: false });
    expect([bench.engine.runningCount, bench.engine.unsettledCount]).toEqual([0, 1]);
    bench.flaky.failWith = () => undefined;
    const flushed = bench.engine.flush(bench.clock.nowMs() + 5_000);
    await bench.clock.advance(1_000);
    await flushed;

    expect(kindsOf(bench, call.callId)).toEqual(["reserved", "settled"]);
    expect(await bench.reserved()).toBe(0n);
  });

  test("at giving back a call whose caller has left gives it back later", async () => {
    const bench = await startEngine(ROOMY);
    const presence = createPresence();
    bench.flaky.failWith = ({ kind }) => {
      if (kind === "reserve") presence.leave();
      return kind === "void" ? "before" : undefined;
    };
    expect((await bench.engine.open(bench.callOf({ presence }))).outcome).toBe("gone");

    bench.flaky.failWith = () => undefined;
    await bench.clock.advance(1_000);

    expect(bench.flaky.memory.entries.map(({ kind }) => kind)).toEqual(["reserved", "voided"]);
  });

  test("at recording a refusal changes nothing about the refusal", async () => {
    const bench = await startEngine(ONE_AT_A_TIME);
    await admit(bench);
    bench.flaky.failWith = failOnly("refuse", "before");
    const waiter = begin(bench, { deadlineAtMs: bench.clock.nowMs() + 100 });
    await bench.clock.advance(100);

    expect(codeOf(waiter.opening)).toBe("held_by_calls_in_flight");
  });

  test("while a call waits refuses it, and it leaves the line", async () => {
    const bench = await startEngine(ONE_AT_A_TIME);
    const running = await admit(bench);
    const waiter = begin(bench);
    await settle();
    bench.flaky.failWith = failOnly("reserve", "before");

    await complete(running);
    await settle();

    expect(codeOf(waiter.opening)).toBe("ledger_unavailable");
    expect(bench.engine.waitingOn("all concurrency")).toBe(0);
  });
});

describe("with onLedgerUnavailable: allow", () => {
  test.each<Failure>(["before", "after"])(
    "calls run, and are recorded with their cost when the ledger is back (%s)",
    async (failure) => {
      const bench = await startEngine(ROOMY);
      bench.rules.onLedgerUnavailable = "allow";
      bench.flaky.failWith = () => failure;
      const call = await admit(bench);
      expect(bench.notifier.eventsOf()).toEqual(["ledger_unavailable", "ledger_bypassed"]);
      await complete(call);

      bench.flaky.failWith = () => undefined;
      await bench.clock.advance(1_000);

      const [record] = await bench.flaky.memory.calls({ limit: 1, callId: call.callId });
      expect(record).toMatchObject({ status: "settled", costNanoUsd: 3_500n, result: { flags: ["ledger_bypassed"] } });
      expect(kindsOf(bench, call.callId)).toEqual(["reserved", "settled"]);
      // A reservation that nobody heard of is given back.
      const others = (await bench.flaky.memory.calls({ limit: 9 })).filter(({ callId }) => callId !== call.callId);
      expect(others.map(({ status }) => status)).toEqual(failure === "after" ? ["voided"] : []);
      expect([bench.engine.runningCount, bench.engine.unsettledCount, await bench.reserved()]).toEqual([0, 0, 0n]);
    },
  );

  test("a call is recorded although the ledger had refused it, and nobody heard of that", async () => {
    const bench = await startEngine(TWO_FIT);
    bench.rules.onLedgerUnavailable = "allow";
    bench.flaky.failWith = () => "after";
    const call = await admit(bench, { maxTokens: 60_000, more: { thinking: THINKS_MUCH } } as Partial<IncomingCall>);
    bench.flaky.failWith = () => undefined;
    await complete(call);

    expect((await bench.flaky.memory.calls({ limit: 9 })).map(({ status }) => status)).toEqual(["settled", "denied"]);
  });

  test("a call sent again under the idempotency key of one that runs is no call of its own", async () => {
    const bench = await startEngine(ROOMY);
    bench.rules.onLedgerUnavailable = "allow";
    const first = await admit(bench, { idempotencyKey: "once" });
    bench.flaky.failWith = () => "before";

    expect(codeOf(await bench.engine.open(bench.callOf({ idempotencyKey: "once" })))).toBe("duplicate_call");
    bench.flaky.failWith = () => undefined;
    await complete(first);
    expect(kindsOf(bench, first.callId)).toEqual(["reserved", "settled"]);
  });

  test("a call that limits would refuse is recorded all the same", async () => {
    const bench = await startEngine(TWO_FIT);
    bench.rules.onLedgerUnavailable = "allow";
    bench.flaky.failWith = () => "before";
    const call = await admit(bench, { maxTokens: 60_000 } as Partial<IncomingCall>);
    await complete(call, { input_tokens: 10, output_tokens: 50_000 });

    bench.flaky.failWith = () => undefined;
    await bench.clock.advance(1_000);

    expect((await bench.flaky.memory.calls({ limit: 1 }))[0]?.costNanoUsd).toBe(25_001_000n);
  });
});

describe("a call sent again under its idempotency key", () => {
  const DAY_MS = 24 * 3_600_000;
  const again = (bench: EngineBench) => bench.engine.open(bench.callOf({ idempotencyKey: "once" }));

  test("is refused with the first one's id while that runs, and for 24 hours after", async () => {
    const bench = await startEngine(ROOMY);
    const first = await admit(bench, { idempotencyKey: "once" });

    const second = await again(bench);
    expect(codeOf(second)).toBe("duplicate_call");
    expect(second.outcome === "refused" && second.callId).toBe(first.callId);
    await complete(first);
    await bench.clock.advance(DAY_MS - 1);
    expect(codeOf(await again(bench))).toBe("duplicate_call");
    await bench.clock.advance(1);

    await complete(admitted(await again(bench)));
    expect(codeOf(await again(bench))).toBe("duplicate_call");
    expect(bench.flaky.memory.entries.filter(({ kind }) => kind === "settled")).toHaveLength(2);
  });

  test("is another call under another virtual key", async () => {
    const bench = await startEngine(ROOMY);
    await admit(bench, { idempotencyKey: "once" });
    const bound = { project: "p", agent: "a", allow: [] };

    await admit(bench, { idempotencyKey: "once", caller: { keyId: "k1", bound } });
    await admit(bench, { idempotencyKey: "once", caller: { keyId: "k2", bound } });
    expect(bench.engine.runningCount).toBe(3);
  });

  test("is decided afresh where the first was refused or never sent", async () => {
    const bench = await startEngine(ONE_AT_A_TIME);
    const running = await admit(bench);
    const refused = begin(bench, { idempotencyKey: "once", deadlineAtMs: bench.clock.nowMs() + 100 });
    await bench.clock.advance(100);
    expect(codeOf(refused.opening)).toBe("held_by_calls_in_flight");
    await complete(running);

    const second = admitted(await again(bench));
    await second.end({ kind: "not_sent", reason: "unreachable" });
    await complete(admitted(await again(bench)));
    expect(codeOf(await again(bench))).toBe("duplicate_call");
  });

  test("during an outage leaves the first one running as it was", async () => {
    const bench = await startEngine(ROOMY);
    const first = await admit(bench, { idempotencyKey: "once" });
    bench.flaky.failWith = () => "before";
    expect(codeOf(await again(bench))).toBe("ledger_unavailable");

    bench.flaky.failWith = () => undefined;
    await bench.clock.advance(5_000);

    expect(kindsOf(bench, first.callId)).toEqual(["reserved"]);
    await complete(first);
    expect(kindsOf(bench, first.callId)).toEqual(["reserved", "settled"]);
  });

  test("after a reservation that nobody heard of is put off until that is given back, and then runs", async () => {
    const bench = await startEngine(ROOMY);
    bench.flaky.failWith = failOnly("reserve", "after");
    expect(codeOf(await again(bench))).toBe("ledger_unavailable");
    bench.flaky.failWith = () => undefined;
    expect(codeOf(await again(bench))).toBe("ledger_unavailable");

    await bench.clock.advance(500);

    await complete(admitted(await again(bench)));
    expect(bench.flaky.memory.entries.map(({ kind }) => kind)).toEqual(["reserved", "voided", "reserved", "settled"]);
    expect(await bench.reserved()).toBe(0n);
  });

  test("is refused as unavailable where the first cannot be looked up", async () => {
    const bench = await startEngine(ROOMY);
    await admit(bench, { idempotencyKey: "once" });
    bench.flaky.failWith = failOnly("calls", "before");

    expect(codeOf(await again(bench))).toBe("ledger_unavailable");
  });
});
