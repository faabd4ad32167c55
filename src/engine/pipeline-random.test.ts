/**
 * Goal: whatever calls come, however they end, whenever callers leave and whichever operation of the ledger fails, in whatever way,
 * nothing stays reserved, every admitted call ends once, and no refusing limit is passed. Method: random programs on a clock that stands
 * still and a ledger in memory that fails on request; the printed seed runs one again.
 */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { settle, startEngine, type EngineBench, type Failure, type FlakyLedger } from "./engine.fixture.ts";
import type { IncomingCall } from "./incoming-call.ts";
import type { Opening } from "./pipeline.ts";
import type { RunningCall } from "./running-call.ts";

const seed = Number(process.env["PURSER_SEED"] ?? Math.floor(Math.random() * 2 ** 31));

const YAML = `
models: { downgrade: { claude-sonnet-5-5: claude-haiku-5-5 } }
limits:
  - { name: all-money, per: all, usd: 0.04, every: day }
  - { name: agent-tokens, per: agent, tokens: 25_000, every: 5m }
  - { name: session, per: session, usd: 0.03, at: { $0.004: downgrade, $0.01: { throttle: 1s }, 100%: stop } }
  - { name: at-once, per: agent, concurrency: 2 }
  - { name: rate, per: agent, requests: 40, every: 1m }`;

const DAY_NANO_USD = 40_000_000n;

const ENDS = ["exact", "cut", "lost", "error", "not_sent", "garbled", "above"] as const;

interface CallStep {
  kind: "call";
  agent: string;
  session: string;
  model: string;
  maxTokens: number;
  bytes: number;
  end: (typeof ENDS)[number];
  idempotencyKey: string | undefined;
  deadlineMs: number | undefined;
}

type Step =
  | CallStep
  /** The nth running call comes to its end. */
  | { kind: "end"; which: number }
  /** The nth caller that waits, or whose call runs, leaves. */
  | { kind: "leave"; which: number }
  | { kind: "advance"; byMs: number }
  /** The next operations of the ledger fail, one after the other, as the list says. */
  | { kind: "fail"; failures: Failure[] }
  | { kind: "reload" };

const call: fc.Arbitrary<Step> = fc.record({
  kind: fc.constant("call" as const),
  agent: fc.constantFrom("a", "b"),
  session: fc.constantFrom("s1", "s2", "s3"),
  model: fc.constantFrom("claude-haiku-5-5", "claude-sonnet-5-5"),
  maxTokens: fc.integer({ min: 1, max: 2_500 }),
  bytes: fc.integer({ min: 1, max: 1_500 }),
  end: fc.constantFrom(...ENDS),
  idempotencyKey: fc.option(fc.constantFrom("k1", "k2"), { nil: undefined, freq: 4 }),
  deadlineMs: fc.option(fc.integer({ min: 1, max: 70_000 }), { nil: undefined }),
});
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: call },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant("end" as const), which: fc.nat(20) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("leave" as const), which: fc.nat(20) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("advance" as const), byMs: fc.integer({ min: 1, max: 20_000 }) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("fail" as const),
      failures: fc.array(fc.constantFrom<Failure>("before", "after", undefined), { minLength: 1, maxLength: 8 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("reload" as const) }) },
);

/** One caller and what became of its call. */
interface Caller {
  step: CallStep;
  presence: { readonly isGone: boolean; leave(): void };
  opening: Opening | undefined;
  running: RunningCall | undefined;
  error: unknown;
}

class Run {
  readonly bench: EngineBench;
  readonly callers: Caller[] = [];
  /** Calls that settled above what was reserved for them: only those may push a counter over its limit. */
  readonly above = new Set<string>();
  readonly faults: string[] = [];
  #reloads = 0;

  constructor(bench: EngineBench) {
    this.bench = bench;
  }

  async take(each: Step): Promise<void> {
    if (each.kind === "call") this.#begin(each);
    else if (each.kind === "advance") await this.bench.clock.advance(each.byMs);
    else if (each.kind === "fail") failNext(this.bench.flaky, each.failures);
    else if (each.kind === "reload") {
      this.#reloads += 1;
      await this.bench.configure(`${YAML}\n  - { name: added-${this.#reloads}, per: user, usd: ${this.#reloads}, every: day }`);
      this.bench.engine.rulesChanged();
    } else if (each.kind === "end") await this.#end(pick(this.running(), each.which));
    else this.#leave(pick(this.#present(), each.which));
    await settle();
    await this.check();
  }

  running(): Caller[] {
    return this.callers.filter(({ running }) => running !== undefined);
  }

  #present(): Caller[] {
    return this.callers.filter((caller) => caller.opening === undefined || caller.running !== undefined);
  }

  #begin(each: CallStep): void {
    const incoming = this.bench.callOf({
      model: each.model,
      maxTokens: each.maxTokens,
      text: "x".repeat(each.bytes),
      labels: { agent: each.agent, session: each.session },
      idempotencyKey: each.idempotencyKey,
      deadlineAtMs: each.deadlineMs === undefined ? undefined : this.bench.clock.nowMs() + each.deadlineMs,
    });
    const caller: Caller = { step: each, presence: incoming.presence, opening: undefined, running: undefined, error: undefined };
    this.callers.push(caller);
    void this.#open(caller, incoming);
  }

  async #open(caller: Caller, incoming: IncomingCall): Promise<void> {
    try {
      caller.opening = await this.bench.engine.open(incoming);
      if (caller.opening.outcome === "admitted") caller.running = caller.opening.call;
    } catch (error) {
      caller.error = error;
    }
  }

  /** As the gateway does: a caller that leaves ends its call, one that waits is noticed by the engine itself. */
  #leave(caller: Caller | undefined): void {
    if (caller === undefined) return;
    caller.presence.leave();
    const { running } = caller;
    if (running === undefined) return;
    caller.running = undefined;
    running.markSent();
    void running.end({ kind: "lost", by: "caller" });
  }

  async #end(caller: Caller | undefined): Promise<void> {
    if (caller?.running === undefined) return;
    const { running: call, step: each } = caller;
    caller.running = undefined;
    if (each.end === "not_sent") {
      await call.end({ kind: "not_sent", reason: "unreachable" });
      return;
    }
    call.markSent();
    if (each.end === "lost") {
      await call.end({ kind: "lost", by: "upstream" });
      return;
    }
    const meter = call.openMeter("text/event-stream");
    for (const chunk of eventsOf(call, each)) meter.push(chunk);
    await settle();
    meter.end();
    if (each.end === "above") this.above.add(call.callId);
    const reading = meter.reading();
    const end =
      each.end === "cut"
        ? ({ kind: "cut", status: 200, reading, by: "upstream" } as const)
        : ({ kind: "completed", status: each.end === "error" ? 529 : 200, reading } as const);
    // Two at once, and one later: a call ends once.
    await Promise.all([call.end(end), call.end({ kind: "not_sent", reason: "never" })]);
  }

  /** What holds at every instant. */
  async check(): Promise<void> {
    const { memory } = this.bench.flaky;
    for (const [scopeKey, state] of await memory.scopeStates()) {
      for (const [what, series] of state.counters) {
        for (const { spent, reserved } of series.values()) {
          const place = `${scopeKey} ${what} holds ${spent} spent and ${reserved} reserved`;
          if (spent < 0n || reserved < 0n) this.faults.push(`${place}: below zero`);
          const isDay = scopeKey === "all" && what.startsWith("usd@day");
          if (this.above.size === 0 && isDay && spent + reserved > DAY_NANO_USD) this.faults.push(`${place}: over its limit`);
        }
      }
    }
    if (this.bench.engine.unsettledCount > 0) return;
    // What stands in the ledger is run by somebody, or is just being decided.
    const held = new Set(this.running().map(({ running }) => running?.callId));
    const unknown = (await memory.openCalls()).filter(({ callId }) => !held.has(callId));
    const undecided = this.callers.filter(({ opening, error }) => opening === undefined && error === undefined);
    if (unknown.length > undecided.length) this.faults.push(`nobody runs ${unknown.map(({ callId }) => callId).join()}`);
  }

  /** Lets everything come to its end, with a ledger that works. */
  async finish(): Promise<void> {
    this.bench.flaky.failWith = () => undefined;
    for (let round = 0; round < 200; round += 1) {
      await this.bench.clock.advance(1_000);
      for (const caller of this.running()) await this.#end(caller);
      if (this.callers.every(({ opening, error }) => opening !== undefined || error !== undefined) && this.running().length === 0)
        break;
    }
    await this.bench.clock.advance(5_000);
  }
}

function pick<Item>(items: readonly Item[], which: number): Item | undefined {
  return items[which % Math.max(1, items.length)];
}

function failNext(flaky: FlakyLedger, failures: readonly Failure[]): void {
  const left = [...failures];
  flaky.failWith = () => left.shift();
}

function eventsOf(call: RunningCall, { end, bytes }: CallStep): Uint8Array[] {
  if (end === "error") return [];
  const encode = (type: string, more: Record<string, unknown>): Uint8Array =>
    new TextEncoder().encode(`event: ${type}\ndata: ${JSON.stringify({ type, ...more })}\n\n`);
  const { model, inputTokensBound, outputTokensBound } = call.candidate;
  const usage = { input_tokens: Math.ceil(bytes / 4), output_tokens: 1 };
  const start = encode("message_start", { message: { id: "m", model, usage } });
  const tokens = end === "garbled" ? -1 : Math.ceil(outputTokensBound / 2);
  const more = end === "above" ? { input_tokens: inputTokensBound * 3 } : {};
  const delta = { delta: { stop_reason: "end_turn" }, usage: { output_tokens: tokens, ...more } };
  return end === "cut" ? [start] : [start, encode("message_delta", delta), encode("message_stop", {})];
}

describe(`random programs (seed ${seed}, PURSER_SEED)`, () => {
  test.each<["deny" | "allow"]>([["deny"], ["allow"]])(
    "end with nothing reserved and every call ended once (%s)",
    async (policy) => {
      const counts = { calls: 0, admitted: 0, waited: 0, failed: 0, voided: 0, settled: 0 };
      await fc.assert(
        fc.asyncProperty(fc.array(step, { minLength: 30, maxLength: 150, size: "max" }), async (steps) => {
          const bench = await startEngine(YAML);
          bench.rules.onLedgerUnavailable = policy;
          const run = new Run(bench);
          // What is let through without the ledger may pass any limit.
          if (policy === "allow") run.above.add("any");
          for (const each of steps) await run.take(each);
          await run.finish();

          const { memory } = bench.flaky;
          expect(run.faults).toEqual([]);
          expect(run.callers.filter(({ error }) => error !== undefined)).toEqual([]);
          expect(run.callers.filter(({ opening }) => opening === undefined)).toEqual([]);
          expect(await memory.openCalls()).toEqual([]);
          expect([bench.engine.runningCount, bench.engine.unsettledCount, await bench.reserved()]).toEqual([0, 0, 0n]);
          // Every reservation has one ending, and nothing else has any.
          const endings = memory.entries.filter(({ kind }) => kind === "settled" || kind === "voided" || kind === "expired");
          const reserved = memory.entries.filter(({ kind }) => kind === "reserved");
          expect(endings.map(({ callId }) => callId).sort()).toEqual(reserved.map(({ callId }) => callId).sort());
          // A call that was admitted and sent has its settlement.
          for (const { opening, presence, step: each } of run.callers) {
            const isLeft = presence.isGone;
            counts.calls += 1;
            if (opening?.outcome !== "admitted") continue;
            counts.admitted += 1;
            counts.waited += opening.call.decision.marks.includes("waited") ? 1 : 0;
            const kinds = endings.filter(({ callId }) => callId === opening.call.callId).map(({ kind }) => kind);
            expect([opening.call.callId, ...kinds]).toEqual([
              opening.call.callId,
              each.end === "not_sent" && !isLeft ? "voided" : "settled",
            ]);
          }
          counts.voided += endings.filter(({ kind }) => kind === "voided").length;
          counts.settled += endings.filter(({ kind }) => kind === "settled").length;
          counts.failed += bench.notifier.eventsOf().filter((event) => event === "ledger_unavailable").length;
          expect(bench.notifier.eventsOf().filter((event) => event === "internal_error")).toEqual([]);
          // No timer is left behind.
          expect(bench.clock.timerCount).toBe(0);
        }),
        // Looking for a smaller program ends before the test's time does: then the failure itself is shown.
        {
          seed,
          interruptAfterTimeLimit: 90_000,
          markInterruptAsFailure: true,
          numRuns: process.env["PURSER_LONG"] === "1" ? 600 : 60,
        },
      );
      console.log(`random programs, ${policy}: ${JSON.stringify(counts)}`);
      // The programs do what they are meant to try.
      expect(Math.min(...Object.values(counts))).toBeGreaterThan(0);
    },
    120_000,
  );
});

/** Who runs and who waits under limits on concurrency alone, in the order of arrival. */
interface Place {
  counters: string[];
  opening: Opening | undefined;
  call: RunningCall | undefined;
  leave(): void;
}

const ROOM: Readonly<Record<string, number>> = { all: 4, agent: 2, session: 1 };

/** Who waits although nothing it needs is full, and nobody who waits before it needs the same. */
function idleWaiters(places: readonly Place[]): number[] {
  const isFull = (counter: string): boolean => {
    const running = places.filter(({ call, counters }) => call !== undefined && counters.includes(counter)).length;
    return running >= (ROOM[counter.split(" ")[0] ?? ""] ?? 0);
  };
  const blocked = new Set<string>();
  return places.flatMap(({ opening, counters }, index) => {
    if (opening !== undefined) return [];
    const blocking = counters.filter((counter) => isFull(counter) || blocked.has(counter));
    for (const counter of blocking) blocked.add(counter);
    return blocking.length === 0 ? [index] : [];
  });
}

test(`nobody waits for what is free (seed ${seed}, PURSER_SEED)`, async () => {
  const yaml = `
limits:
  - { name: all, per: all, concurrency: 4 }
  - { name: agent, per: agent, concurrency: 2 }
  - { name: session, per: session, concurrency: 1 }`;
  const act = fc.oneof(
    { weight: 3, arbitrary: fc.record({ kind: fc.constant("call" as const), agent: fc.nat(2), session: fc.nat(5) }) },
    // Several at once, so that waiters are decided together.
    {
      weight: 2,
      arbitrary: fc.record({ kind: fc.constant("end" as const), which: fc.array(fc.nat(9), { minLength: 1, maxLength: 4 }) }),
    },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("leave" as const), which: fc.nat(20) }) },
  );
  let waited = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(act, { minLength: 20, maxLength: 100, size: "max" }), async (acts) => {
      const bench = await startEngine(yaml);
      const places: Place[] = [];
      const endOne = (which: number): void => {
        const place = pick(
          places.filter(({ call }) => call !== undefined),
          which,
        );
        void place?.call?.end({ kind: "not_sent", reason: "done" });
        if (place !== undefined) place.call = undefined;
      };
      for (const each of acts) {
        if (each.kind === "call") {
          const labels = { agent: `a${each.agent}`, session: `s${each.session}` };
          const incoming = bench.callOf({ labels });
          const counters = ["all", `agent ${each.agent}`, `session ${each.session}`];
          const place: Place = { counters, opening: undefined, call: undefined, leave: () => incoming.presence.leave() };
          places.push(place);
          void bench.engine.open(incoming).then((opening) => {
            place.opening = opening;
            if (opening.outcome === "admitted") place.call = opening.call;
            return undefined;
          });
        } else if (each.kind === "end") each.which.forEach(endOne);
        else
          pick(
            places.filter(({ opening }) => opening === undefined),
            each.which,
          )?.leave();
        await settle();
        waited += places.filter(({ opening }) => opening === undefined).length;
        expect(idleWaiters(places)).toEqual([]);
        const open = await bench.flaky.memory.openCalls();
        expect(open).toHaveLength(places.filter(({ call }) => call !== undefined).length);
      }
    }),
    { seed, numRuns: process.env["PURSER_LONG"] === "1" ? 600 : 60 },
  );
  expect(waited).toBeGreaterThan(0);
}, 120_000);
