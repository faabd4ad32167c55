/**
 * Owns running one schedule from its seed: callers, processes, a provider and everything that goes wrong, on virtual time, with the
 * oracle looking on after every step.
 */
import { buildPriceBook } from "../../src/core/pricing/price-book.ts";
import { parsePriceRows } from "../../src/core/pricing/rows.ts";
import type { Limit, Scopes } from "../../src/core/limits/limit.ts";
import type { Presence } from "../../src/engine/incoming-call.ts";
import type { Opening } from "../../src/engine/pipeline.ts";
import type { RunningCall } from "../../src/engine/running-call.ts";
import type { Rules } from "../../src/engine/rules.ts";
import type { CallEnd } from "../../src/engine/settlement.ts";
import type { Ledger } from "../../src/ledger/ledger.ts";
import { anthropic } from "../../src/providers/anthropic/anthropic.ts";
import type { ResponseMeter } from "../../src/providers/provider.ts";
import prices from "../../prices/anthropic.json" with { type: "json" };
import { memoryBooks, sqliteBooks, type Books } from "./books.ts";
import { Oracle, type Asked, type Tally } from "./oracle.ts";
import { planOf, type Plan, type PlannedCall, type PlannedTrouble } from "./plan.ts";
import { Process, type ProcessWorld } from "./process.ts";
import { createRandom, hashOf } from "./random.ts";
import type { Tampering } from "./store.ts";
import { Timeline } from "./timeline.ts";
import { Exchange, type ModelName } from "./upstream.ts";

const BOOK = buildPriceBook(parsePriceRows(prices));
/** The gateway gives up on an upstream that says nothing for so long. */
const TIMEOUT_MS = 40_000;
/** Waiting ends by then, whatever the ledger's pace: one minute in line, and one start of a throttled call after it. */
const WAIT_MS_MAX = 60_000;
const THROTTLE_MS_MAX = 31_000;
/** A limit's own pause may be so much longer. */
const PAUSE_MS_MAX = 300_000;
/** A ledger that answers late, several times over. */
const LEDGER_SLACK_MS = 40_000;
/** So much after the last trouble everything must be over: a silent owner is taken for dead after a minute. */
const END_MS = 1_000_000;
/** A waiter goes on within 50 ms of what another process freed; the commits of that take their time as well. */
const QUIET_MS = 150;

export interface Outcome {
  seed: number;
  violations: string[];
  trace: string[];
}

export interface RunOptions {
  /** Of which kind the plan is; absent: the newest. */
  grammar?: number;
  tally?: Tally;
  tampering?: Tampering;
  hasTrace?: boolean;
}

/** One caller's attempt. */
interface Caller {
  name: string;
  planned: PlannedCall;
  attempt: number;
  asked: Asked;
  body: Uint8Array;
  startedAtMs: number;
  process: Process;
  hasLeft: boolean;
  /** Tells the engine that it left. */
  leave: () => void;
  isDone: boolean;
  running: RunningCall | undefined;
  meter: ResponseMeter | undefined;
  exchange: Exchange | undefined;
  /** When the process stopped being interested in its exchange. */
  cancelledAtMs: number | undefined;
  isEnded: boolean;
}

export async function runSchedule(seed: number, options: RunOptions = {}): Promise<Outcome> {
  const schedule = new Schedule(planOf(seed, options.grammar), options);
  await schedule.run();
  return { seed, violations: schedule.oracle.violations, trace: schedule.lines };
}

class Schedule implements ProcessWorld {
  readonly books: Books;
  readonly timeline: Timeline;
  readonly random;
  readonly oracle: Oracle;
  readonly rules: Rules;
  readonly lines: string[] = [];
  readonly tampering: Tampering | undefined;
  readonly startMs: number;
  stepCount = 0;
  readonly #plan: Plan;
  readonly #options: RunOptions;
  readonly #net;
  readonly #processes: Process[] = [];
  readonly #dead = new Set<string>();
  readonly #callers: Caller[] = [];
  #limits: readonly Limit[];
  #version = 1;
  #downUntilMs = 0;
  #changedAtMs = 0;
  #checkedAtMs = -1;
  #open = 0;
  readonly #skewsMs: number[];

  constructor(plan: Plan, options: RunOptions) {
    this.#plan = plan;
    this.#options = options;
    this.books = plan.isOnFile ? sqliteBooks(plan.seed) : memoryBooks();
    this.timeline = new Timeline(this.books);
    this.#limits = plan.limits;
    this.#skewsMs = [...plan.skewsMs];
    this.startMs = plan.startMs;
    this.tampering = options.tampering;
    const root = createRandom(plan.seed);
    this.random = root.fork("store");
    this.#net = root.fork("network");
    this.oracle = new Oracle(options.tally ?? {}, (scopes) => this.#callerOf(scopes)?.asked);
    this.rules = {
      book: BOOK,
      downgrade: plan.downgrade,
      onUnpricedModel: "deny",
      onLedgerUnavailable: plan.onLedgerUnavailable,
    };
  }

  faultShare(): number {
    return this.timeline.nowMs < this.#plan.calmAtMs ? this.#plan.faultShare : 0;
  }
  slowShare(): number {
    return this.timeline.nowMs < this.#plan.calmAtMs ? this.#plan.slowShare : 0;
  }
  downUntilMs(): number {
    return this.#downUntilMs;
  }
  config(): { version: string; limits: readonly Limit[] } {
    return { version: `v${this.#version}`, limits: this.#limits };
  }
  isOwnerDead(ownerId: string): boolean | undefined {
    return this.#plan.seesDead ? this.#dead.has(ownerId) : undefined;
  }
  committed(): void {
    this.#changedAtMs = this.timeline.nowMs;
    this.oracle.readEntries(this.books.entries);
  }
  configured(limits: readonly Limit[]): void {
    this.oracle.limits = limits;
    this.committed();
  }
  trace(line: string): void {
    if (this.#options.hasTrace === true) this.lines.push(`${this.timeline.nowMs} ${line}`);
  }

  async run(): Promise<void> {
    const operator = await this.books.open();
    try {
      await this.#play(operator);
    } finally {
      // Processes that died keep asking for nothing; those alive are over.
      await this.books.settled();
      for (const difference of await this.books.close()) this.oracle.blame("books", difference);
    }
  }

  async #play(operator: Ledger): Promise<void> {
    const { plan, timeline, oracle } = { plan: this.#plan, timeline: this.timeline, oracle: this.oracle };
    for (let index = 0; index < plan.processes; index += 1) this.#startProcess(index);
    for (const planned of plan.calls) timeline.after(planned.atMs, () => this.#arrive(planned, 0, planned.retries));
    this.#open = plan.calls.length;
    for (const trouble of plan.troubles) timeline.after(trouble.atMs, () => this.#suffer(trouble, operator));
    oracle.count("schedules");
    if (plan.isOnFile) oracle.count("schedules on a file");
    for (;;) {
      const isMore = await timeline.step();
      this.stepCount += 1;
      oracle.checkBill(timeline.nowMs);
      this.#checkWaiters();
      if (oracle.violations.length > 0) return;
      if (timeline.nowMs > plan.calmAtMs && this.#isOver()) break;
      if (!isMore || timeline.nowMs > plan.calmAtMs + END_MS) {
        this.#blameUnended();
        return;
      }
    }
    oracle.checkQuiet(await operator.scopeStates(), plan.startMs + timeline.nowMs);
    if ((await operator.openCalls()).length > 0) oracle.blame("I3", "the ledger has open calls");
    oracle.count("steps", this.stepCount);
  }

  #startProcess(index: number): void {
    const process = new Process(this, `p${index}.${this.#processes.length}`, this.#skewsMs[index] ?? 0);
    this.#processes.push(process);
    void process.start();
  }

  #alive(): Process[] {
    return this.#processes.filter(({ isRunning }) => isRunning);
  }

  #isOver(): boolean {
    if (this.#open > 0) return false;
    for (const { status } of this.oracle.calls.values()) if (status === "open") return false;
    return this.#alive().every(({ engine, isIdle }) => engine?.runningCount === 0 && engine.unsettledCount === 0 && isIdle);
  }

  #blameUnended(): void {
    for (const { name, isDone, process } of this.#callers) {
      if (!isDone) this.oracle.blame("end", `caller ${name} at ${process.id} never got an answer`);
    }
    for (const { callId, status } of this.oracle.calls.values()) {
      if (status === "open") this.oracle.blame("I3", `${callId} was never ended`);
    }
    for (const { id, engine } of this.#alive()) {
      const { runningCount = 0, unsettledCount = 0 } = engine ?? {};
      if (runningCount + unsettledCount > 0)
        this.oracle.blame("I3", `${id} runs ${runningCount}, has ${unsettledCount} unsettled`);
    }
    if (this.oracle.violations.length === 0) this.oracle.blame("end", "nothing happens any more");
  }

  #callerOf({ tags }: Scopes): Caller | undefined {
    return this.#callers[Number(tags["n"])];
  }

  #suffer(trouble: PlannedTrouble, operator: Ledger): void | Promise<void> {
    this.trace(trouble.kind);
    if (trouble.kind === "outage") {
      this.#downUntilMs = this.timeline.nowMs + trouble.forMs;
      return this.oracle.count("outages");
    }
    if (trouble.kind === "reload") {
      this.#limits = trouble.limits;
      this.#version += 1;
      this.oracle.count("reloads");
      for (const process of this.#alive()) process.soon(this.#net.int(0, 300), () => void process.reload());
      return;
    }
    if (trouble.kind === "adjust") return this.#adjust(trouble, operator);
    const alive = this.#alive();
    const process = alive[trouble.which % Math.max(1, alive.length)];
    if (process === undefined) return undefined;
    if (trouble.kind === "clock") {
      // A machine's clock stays where it was set, whatever runs on it.
      const { byMs } = trouble;
      process.setClock(byMs);
      this.#skewsMs[indexOf(process)] = (this.#skewsMs[indexOf(process)] ?? 0) + byMs;
      return this.oracle.count("clock jumps");
    }
    if (trouble.kind === "stall") {
      process.stalledUntilMs = this.timeline.nowMs + trouble.forMs;
      return this.oracle.count("stalls");
    }
    return this.#crash(process, trouble);
  }

  /** As the command line does it, from a process of its own; twice, as a person may. */
  async #adjust({ which, deltaBps }: Extract<PlannedTrouble, { kind: "adjust" }>, operator: Ledger): Promise<void> {
    const ended = [...this.oracle.calls.values()].filter(({ status }) => status === "settled" || status === "expired");
    const call = ended[which % Math.max(1, ended.length)];
    if (call === undefined || this.timeline.nowMs < this.#downUntilMs) return;
    const { callId } = call;
    const deltaNanoUsd = ((call.actual?.usd ?? call.usd) * BigInt(deltaBps)) / 10_000n;
    if (deltaNanoUsd === 0n) return;
    const adjustmentId = `adj_${which}_${deltaBps}`;
    const atMs = this.startMs + this.timeline.nowMs;
    const operation = { kind: "adjust" as const, atMs, callId, adjustmentId, deltaNanoUsd, reason: "r", by: "somebody" };
    for (let times = 0; times < 2; times += 1) await operator.apply([operation]);
    this.committed();
  }

  async #crash(process: Process, { downMs, upstreamStops }: Extract<PlannedTrouble, { kind: "crash" }>): Promise<void> {
    await process.die();
    this.#dead.add(process.id);
    this.oracle.count("crashes");
    for (const caller of this.#callers) {
      if (caller.process !== process || caller.isDone) continue;
      this.oracle.count("calls of crashed processes");
      if (upstreamStops) this.#cancel(caller);
      this.#retry(caller, 500);
    }
    this.timeline.after(downMs, () => this.#startProcess(indexOf(process)));
  }

  #arrive(planned: PlannedCall, attempt: number, retries: number): void {
    const alive = this.#alive();
    const process = alive[this.#net.int(0, Math.max(0, alive.length - 1))];
    if (process === undefined) {
      // Nobody listens: the client tries again until somebody does.
      this.timeline.after(300, () => this.#arrive(planned, attempt, retries));
      return;
    }
    const body = bodyOf(planned);
    const name = String(this.#callers.length);
    const listeners = new Set<() => void>();
    const caller: Caller = {
      name,
      planned: { ...planned, retries },
      attempt,
      asked: { bytes: body.length, maxTokens: planned.maxTokens, cache: planned.cache },
      body,
      startedAtMs: this.timeline.nowMs,
      process,
      hasLeft: false,
      leave: () => [...listeners].forEach((listener) => listener()),
      isDone: false,
      running: undefined,
      meter: undefined,
      exchange: undefined,
      cancelledAtMs: undefined,
      isEnded: false,
    };
    this.#callers.push(caller);
    const presence: Presence = {
      get isGone() {
        return caller.hasLeft;
      },
      onGone(callBack) {
        listeners.add(callBack);
        return () => listeners.delete(callBack);
      },
    };
    this.oracle.count("calls");
    if (planned.leavesAfterMs !== undefined) this.timeline.after(planned.leavesAfterMs, () => this.#leave(caller));
    process.soon(0, () => void this.#ask(caller, presence));
  }

  async #ask(caller: Caller, presence: Presence): Promise<void> {
    const { planned, process, name } = caller;
    const { agent, session, parents, user, task, tag, project, key, deadlineMs } = planned;
    try {
      const opening = await process.engine?.open({
        provider: anthropic,
        body: caller.body,
        caller:
          key === undefined
            ? { keyId: undefined, bound: undefined }
            : { keyId: key, bound: { project, agent, allow: ["user", "tag:team", "tag:n"] } },
        labels: { project, agent, session, parentSessions: parents, user, task, tags: { team: tag, n: name } },
        attempt: caller.attempt,
        deadlineAtMs: deadlineMs === undefined ? undefined : process.clock.nowMs() + deadlineMs,
        idempotencyKey: planned.idempotencyKey,
        presence,
      });
      process.leaveLine(name);
      if (opening !== undefined) this.#opened(caller, opening);
    } catch (error) {
      this.oracle.blame("engine", `caller ${name} met ${error instanceof Error ? (error.stack ?? error.message) : "an error"}`);
    }
  }

  #opened(caller: Caller, opening: Opening): void {
    if (caller.isDone) return;
    this.#checkWait(caller, opening);
    this.trace(`caller ${caller.name} is ${opening.outcome}`);
    if (opening.outcome === "gone") return this.#done(caller);
    if (opening.outcome === "refused") {
      const { retryAfterSeconds } = opening.refusal;
      const { code } = opening.refusal.details;
      this.oracle.count(`refused ${code}`);
      const waitMs = retryAfterSeconds === undefined ? undefined : retryAfterSeconds * 1_000;
      return this.#retry(caller, code === "ledger_unavailable" ? 1_000 : waitMs);
    }
    const { call } = opening;
    caller.running = call;
    this.oracle.count("admitted");
    if (call.decision.marks.includes("waited")) this.oracle.count("waited");
    const kept = this.oracle.calls.get(call.callId);
    const isDurable = kept?.status === "open" || kept?.status === "expired";
    if (!isDurable && !this.oracle.bypassed.has(call.callId)) {
      this.oracle.blame("durable", `${call.callId} is let through and not in the books`);
    }
    this.#send(caller, call);
  }

  /** Waits end by their deadline, and nobody is told that others hold the money before that. */
  #checkWait(caller: Caller, opening: Opening): void {
    const waitedMs = this.timeline.nowMs - caller.startedAtMs;
    const { deadlineMs = Infinity } = caller.planned;
    const stalledMs = this.#plan.troubles.reduce(
      (sum, each) => sum + (each.kind === "stall" || each.kind === "outage" ? each.forMs : 0),
      0,
    );
    const pausedMs = caller.process.paused.has(caller.name) ? PAUSE_MS_MAX : 0;
    const most = Math.min(WAIT_MS_MAX + pausedMs + THROTTLE_MS_MAX, deadlineMs) + LEDGER_SLACK_MS + stalledMs;
    if (waitedMs > most) this.oracle.blame("end", `caller ${caller.name} waited ${waitedMs} ms, at most ${most} were due`);
    if (opening.outcome !== "refused" || opening.refusal.details.code !== "held_by_calls_in_flight") return;
    if (caller.process.jumpedAtMs >= caller.startedAtMs) return;
    const least = Math.min(WAIT_MS_MAX, deadlineMs) - 1;
    if (waitedMs < least)
      this.oracle.blame("refusal", `caller ${caller.name} was told to come back after ${waitedMs} ms of ${least}`);
  }

  #retry(caller: Caller, waitMs: number | undefined): void {
    const { planned, attempt } = caller;
    if (!caller.isDone && waitMs !== undefined && planned.retries > 0 && !caller.hasLeft) {
      this.#open += 1;
      this.oracle.count("retries");
      this.timeline.after(waitMs, () => this.#arrive(planned, attempt + 1, planned.retries - 1));
    }
    this.#done(caller);
  }

  #done(caller: Caller): void {
    if (caller.isDone) return;
    caller.isDone = true;
    this.#open -= 1;
  }

  #send(caller: Caller, call: RunningCall): void {
    call.markSent();
    this.oracle.sent.add(call.callId);
    const { end } = caller.planned;
    if (end === "not_sent") {
      this.#deliver(caller, this.#net.int(1, 50), () => this.#end(caller, { kind: "not_sent", reason: "unreachable" }));
      return;
    }
    this.#deliver(caller, TIMEOUT_MS, () => {
      if (caller.meter === undefined) this.#end(caller, { kind: "lost", by: "upstream" });
    });
    const { model, max_tokens: maxTokens } = JSON.parse(new TextDecoder().decode(call.body)) as {
      model: ModelName;
      max_tokens: number;
    };
    const { bytes, cache } = caller.asked;
    // The model reads the same text as the same tokens each time, whatever may be written after it.
    const read = { bytes: bytes - String(caller.asked.maxTokens).length, share: shareOf(`${model} ${caller.planned.textBytes}`) };
    this.timeline.after(this.#net.int(0, 40), () => {
      const { isGreedy } = this.#plan;
      const nowMs = this.timeline.nowMs;
      const exchange = new Exchange({ model, maxTokens, read, cache }, { end, isGreedy, nowMs, random: this.#net });
      caller.exchange = exchange;
      if (caller.cancelledAtMs !== undefined) exchange.stopsAtMs = Math.max(nowMs, caller.cancelledAtMs);
      this.oracle.accept(call.callId, exchange);
      this.oracle.count(`ended ${end}`);
      this.#answer(caller, exchange);
    });
  }

  /** What comes back, in the order in which it comes. */
  #answer(caller: Caller, exchange: Exchange): void {
    const { end, firstMs, totalMs, breaksAfterMs } = exchange;
    const { isStream } = caller.planned;
    const isFirst = isStream && !["error", "cut_before_usage", "lost", "silent"].includes(end);
    if (isFirst) {
      this.#deliver(caller, firstMs, () => {
        this.#meterOf(caller).push(end === "error_event" ? Exchange.failed : exchange.start());
        if (end === "error_event") this.#end(caller, this.#ended(caller, 200));
      });
    }
    switch (end) {
      case "error":
      case "error_event":
        if (end === "error" || !isStream) this.#deliver(caller, firstMs, () => this.#end(caller, this.#ended(caller, 529)));
        return;
      case "ok":
      case "garbled":
      case "above":
        this.#deliver(caller, totalMs, () => {
          const meter = this.#meterOf(caller);
          if (isStream) {
            meter.push(exchange.stop());
            meter.push(Exchange.last);
          } else meter.push(exchange.answer("end_turn"));
          if (end !== "garbled") exchange.toldNanoUsd = exchange.billedNanoUsd(Infinity);
          this.#end(caller, this.#ended(caller, 200));
        });
        return;
      case "cut_after_stop":
        this.#deliver(caller, totalMs, () => {
          if (isStream) {
            this.#meterOf(caller).push(exchange.stop());
            exchange.toldNanoUsd = exchange.billedNanoUsd(Infinity);
          }
          this.#end(caller, this.#cut(caller, "upstream"));
        });
        return;
      case "cut_before_usage":
      case "cut_after_usage":
        this.#deliver(caller, breaksAfterMs, () => this.#end(caller, this.#cut(caller, "upstream")));
        return;
      case "lost":
        this.#deliver(caller, breaksAfterMs, () => this.#end(caller, { kind: "lost", by: "upstream" }));
        return;
      case "silent":
      case "not_sent":
        // The gateway's own timeout ends it.
        return;
    }
  }

  #deliver(caller: Caller, waitMs: number, run: () => void): void {
    caller.process.soon(waitMs, () => {
      if (!caller.isEnded) run();
    });
  }

  #meterOf(caller: Caller): ResponseMeter {
    const { running, planned } = caller;
    if (running === undefined) throw new Error("a call that does not run has no answer");
    return (caller.meter ??= running.openMeter(planned.isStream ? "text/event-stream" : "application/json"));
  }

  #ended(caller: Caller, status: number): CallEnd {
    const meter = this.#meterOf(caller);
    meter.end();
    return { kind: "completed", status, reading: meter.reading() };
  }

  #cut(caller: Caller, by: "upstream" | "caller"): CallEnd {
    const meter = this.#meterOf(caller);
    meter.end();
    return { kind: "cut", status: 200, reading: meter.reading(), by };
  }

  #leave(caller: Caller): void {
    if (caller.isDone || caller.process.isDead) return;
    caller.process.soon(0, () => {
      if (caller.isDone) return;
      caller.hasLeft = true;
      this.oracle.count("left");
      caller.leave();
      if (caller.running === undefined || caller.isEnded) return;
      this.#end(caller, caller.meter === undefined ? { kind: "lost", by: "caller" } : this.#cut(caller, "caller"));
    });
  }

  #end(caller: Caller, end: CallEnd | { kind: "not_sent"; reason: string }): void {
    const { running } = caller;
    if (running === undefined || caller.isEnded) return;
    caller.isEnded = true;
    this.#cancel(caller);
    this.trace(`caller ${caller.name} ends ${end.kind}`);
    const ends = [running.end(end)];
    // A call ends once, however often that is asked.
    if (this.#net.chance(0.1)) ends.push(running.end({ kind: "not_sent", reason: "never" }));
    void Promise.all(ends).then(() => this.#done(caller));
  }

  /** The provider notices within a moment that nobody reads any more. */
  #cancel(caller: Caller): void {
    caller.cancelledAtMs = this.timeline.nowMs + this.#net.int(0, 300);
    if (caller.exchange !== undefined) caller.exchange.stopsAtMs = Math.min(caller.exchange.stopsAtMs, caller.cancelledAtMs);
  }

  /** Nobody waits for what is free: looked at whenever nothing has happened for long enough that everybody must know of it. */
  #checkWaiters(): void {
    const { nowMs } = this.timeline;
    if (nowMs - this.#changedAtMs < QUIET_MS || this.#checkedAtMs >= this.#changedAtMs || nowMs < this.#downUntilMs + QUIET_MS)
      return;
    const alive = this.#alive();
    if (alive.some(({ isIdle }) => !isIdle)) return;
    this.#checkedAtMs = nowMs;
    // What a downgrade would make of a call is not seen from here.
    if (
      this.oracle.limits.some(({ thresholds }) =>
        thresholds.some(({ actions }) => actions.some(({ kind }) => kind === "downgrade")),
      )
    )
      return;
    for (const process of alive) {
      // Whoever lay down before its clock was set sleeps on as long as it meant to.
      if (nowMs < process.jumpedAtMs + WAIT_MS_MAX || process.stalledUntilMs > nowMs - QUIET_MS) continue;
      // An ending whose answer was lost may have freed something that this process learns of when it asks again.
      if ((process.engine?.unsettledCount ?? 0) > 0 || process.lowering.size > 0) continue;
      const blocked = new Set<string>();
      for (const [name, { operation, isPaused, place }] of [...process.line].sort(([, a], [, b]) => a.place - b.place)) {
        const [candidate] = operation.candidates;
        if (candidate === undefined) continue;
        const own = this.oracle.blockedBy(operation.call, candidate, process.clock.nowMs(), QUIET_MS);
        const shared = this.oracle.placesOf(operation.call, candidate).filter((each) => blocked.has(each) || own.has(each));
        if (shared.length === 0) this.oracle.blame("wait", `caller ${name} (${place}) at ${process.id} waits for what is free`);
        if (!isPaused) for (const each of shared) blocked.add(each);
        this.oracle.count(isPaused ? "paused looked at" : "waiters looked at");
      }
    }
  }
}

/** Which machine a process runs on. */
function indexOf({ id }: Process): number {
  return Number(id.slice(1).split(".")[0]);
}

/** Above 0, at most 1. */
function shareOf(text: string): number {
  return (hashOf(text) + 1) / 2 ** 32;
}

function bodyOf({ model, maxTokens, textBytes, isStream, cache }: PlannedCall): Uint8Array {
  const text = "x".repeat(textBytes);
  const control = cache === "none" ? {} : { cache_control: { type: "ephemeral", ttl: cache } };
  const content = [{ type: "text", text, ...control }];
  const body = { model, max_tokens: maxTokens, stream: isStream, messages: [{ role: "user", content }] };
  return new TextEncoder().encode(JSON.stringify(body));
}
