/** What the engine asks of the world, for its tests: a clock that stands still, names in order, a ledger that fails when told to. */
import { createHash } from "node:crypto";
import { readConfig } from "../config/config.ts";
import type { Alert } from "../core/decisions/alerts.ts";
import type { Operation } from "../core/decisions/operations.ts";
import { buildPriceBook } from "../core/pricing/price-book.ts";
import { parsePriceRows } from "../core/pricing/rows.ts";
import { createMemoryLedger, type MemoryLedger } from "../ledger/memory/memory-ledger.ts";
import { LedgerUnavailableError, type Ledger } from "../ledger/ledger.ts";
import { anthropic } from "../providers/anthropic/anthropic.ts";
import type { RequestFacts } from "../providers/provider.ts";
import prices from "../../prices/anthropic.json" with { type: "json" };
import type { IncomingCall, Presence } from "./incoming-call.ts";
import { createEngine, type Engine, type EngineOptions } from "./pipeline.ts";
import type { Rules } from "./rules.ts";
import type { Clock, FingerprintChain, IdSource, Notifier } from "./ports.ts";

/** 2026-11-22, noon. */
export const START_MS = 1_795_348_800_000;
export const book = buildPriceBook(parsePriceRows(prices));

/** A clock that goes on only when told to. */
export interface FakeClock extends Clock {
  /** Fires every timer on the way at its own instant, and lets everything run that it started. */
  advance(byMs: number): Promise<void>;
  /** Somebody sets it forward: whoever waits does so as long as before. */
  jump(byMs: number): void;
  readonly timerCount: number;
}

/** Lets everything run that is not waiting for a clock. */
export async function settle(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}

export function createFakeClock(startMs = START_MS): FakeClock {
  let nowMs = startMs;
  const timers = new Set<{ atMs: number; callBack: () => void }>();
  const nextBefore = (untilMs: number) =>
    [...timers].filter(({ atMs }) => atMs <= untilMs).sort((left, right) => left.atMs - right.atMs)[0];
  return {
    nowMs: () => nowMs,
    after(waitMs, callBack) {
      const timer = { atMs: nowMs + Math.max(0, waitMs), callBack };
      timers.add(timer);
      return () => timers.delete(timer);
    },
    async advance(byMs) {
      const untilMs = nowMs + byMs;
      await settle();
      for (let timer = nextBefore(untilMs); timer !== undefined; timer = nextBefore(untilMs)) {
        timers.delete(timer);
        nowMs = Math.max(nowMs, timer.atMs);
        timer.callBack();
        await settle();
      }
      nowMs = untilMs;
      await settle();
    },
    jump(byMs) {
      nowMs += byMs;
      for (const timer of timers) timer.atMs += byMs;
    },
    get timerCount() {
      return timers.size;
    },
  };
}

/** Names in the order they were asked for. */
export function createCountingIds(): IdSource {
  let count = 0;
  return {
    next: (prefix) => `${prefix}_${String((count += 1)).padStart(6, "0")}`,
    // As with the real ones a name stays short, however often it was named anew.
    named: (prefix, text) => `${prefix}_named(${text.length <= 60 ? text : createHash("sha256").update(text).digest("hex")})`,
  };
}

/** Fingerprints that are the text itself. */
export const plainFingerprints: FingerprintChain = (parts) => {
  let text = "";
  return parts.map((part) => (text += `${new TextDecoder().decode(part)}|`));
};

export interface RecordingNotifier extends Notifier {
  alerts: Alert[];
  warnings: { event: string; details: Readonly<Record<string, string | number>> }[];
  eventsOf(): string[];
}

export function createRecordingNotifier(): RecordingNotifier {
  const alerts: Alert[] = [];
  const warnings: RecordingNotifier["warnings"] = [];
  return {
    alerts,
    warnings,
    alert: (alert) => void alerts.push(alert),
    warn: (event, details) => void warnings.push({ event, details }),
    eventsOf: () => warnings.map(({ event }) => event),
  };
}

/** `before`: nothing happens; `after`: it happens and the answer is lost; `refused`: the operation itself is called wrong. */
export type Failure = "before" | "after" | "refused" | undefined;

export interface FlakyLedger {
  ledger: Ledger;
  memory: MemoryLedger;
  /** Asked for every operation, and with a name for what is only read. */
  failWith: (operation: Operation | { kind: "calls" | "openCalls" | "owners" | "beat" | "removeOwner" }) => Failure;
}

/** The ledger in memory, with a store around it that can fail. */
export function createFlakyLedger(): FlakyLedger {
  const memory = createMemoryLedger();
  /** Entries that it wrote itself; all others are another process's. */
  let own = 0;
  const flaky: FlakyLedger = { memory, failWith: () => undefined, ledger: memory };
  const check = (failure: Failure, when: Failure): void => {
    if (failure === "refused" && when === "before") throw new RangeError("the operation is wrong");
    if (failure === when && failure !== undefined) throw new LedgerUnavailableError("the disk is full");
  };
  const reading = <Args extends unknown[], Result>(
    kind: "calls" | "openCalls" | "owners" | "beat" | "removeOwner",
    ask: (...args: Args) => Promise<Result>,
  ) => {
    return async (...args: Args): Promise<Result> => {
      check(flaky.failWith({ kind }), "before");
      return ask(...args);
    };
  };
  flaky.ledger = Object.assign(Object.create(memory) as Ledger, {
    apply: async (operations: readonly Operation[]) => {
      const failures = operations.map((operation) => flaky.failWith(operation));
      for (const failure of failures) check(failure, "before");
      const before = memory.entries.length;
      const results = await memory.apply(operations);
      own += memory.entries.length - before;
      for (const failure of failures) check(failure, "after");
      return results;
    },
    configure: (rules: Parameters<Ledger["configure"]>[0]) => memory.configure(rules),
    calls: reading("calls", (query: Parameters<Ledger["calls"]>[0]) => memory.calls(query)),
    openCalls: reading("openCalls", (ownerId?: string) => memory.openCalls(ownerId)),
    owners: reading("owners", () => memory.owners()),
    batches: reading("owners", () => memory.batches()),
    beat: reading("beat", (owner: Parameters<Ledger["beat"]>[0]) => memory.beat(owner)),
    removeOwner: reading("removeOwner", (ownerId: string) => memory.removeOwner(ownerId)),
    revision: async () => memory.entries.length - own,
    scopeStates: () => memory.scopeStates(),
    close: () => memory.close(),
  });
  return flaky;
}

/** A caller that can leave. */
export interface FakePresence extends Presence {
  leave(): void;
}

export function createPresence(): FakePresence {
  const listeners = new Set<() => void>();
  let isGone = false;
  return {
    get isGone() {
      return isGone;
    },
    onGone(callBack) {
      listeners.add(callBack);
      return () => listeners.delete(callBack);
    },
    leave() {
      isGone = true;
      for (const listener of listeners) listener();
    },
  };
}

export interface RequestInput {
  model?: string;
  maxTokens?: number;
  text?: string;
  more?: Record<string, unknown>;
}

export function bodyOf({
  model = "claude-haiku-5-5",
  maxTokens = 1_000,
  text = "Hello.",
  more = {},
}: RequestInput = {}): Uint8Array {
  const messages = [{ role: "user", content: text }];
  return new TextEncoder().encode(JSON.stringify({ model, max_tokens: maxTokens, stream: true, messages, ...more }));
}

export function factsOf(input: RequestInput = {}): RequestFacts {
  const read = anthropic.readRequest(bodyOf(input));
  if (read.outcome === "refused") throw new Error(read.refusal.message);
  return read.facts;
}

/** An engine on a ledger in memory, under the limits of some configuration. */
export interface EngineBench {
  engine: Engine;
  clock: FakeClock;
  flaky: FlakyLedger;
  notifier: RecordingNotifier;
  rules: Rules;
  /** Puts other limits in force. */
  configure(yaml: string): Promise<void>;
  callOf(input?: RequestInput & Partial<IncomingCall>): IncomingCall & { presence: FakePresence };
  /** What is reserved in all counters together. */
  reserved(): Promise<bigint>;
}

export async function startEngine(yaml: string, options: Partial<EngineOptions> = {}): Promise<EngineBench> {
  const clock = createFakeClock();
  const flaky = createFlakyLedger();
  const notifier = createRecordingNotifier();
  const rules: Rules = { book, downgrade: new Map(), onUnpricedModel: "deny", onLedgerUnavailable: "deny" };
  const engine = createEngine({
    ledger: flaky.ledger,
    clock,
    ids: createCountingIds(),
    fingerprints: plainFingerprints,
    notifier,
    rules: () => rules,
    ownerId: "own_me",
    ...options,
  });
  const configure = async (text: string): Promise<void> => {
    const read = readConfig({ text, fileName: "purser.yaml", env: {} });
    if (read.outcome === "invalid") throw new Error(read.problems.map(({ message }) => message).join("\n"));
    const { config } = read;
    rules.downgrade = config.downgrade;
    await flaky.memory.configure({ ...config, atMs: clock.nowMs() });
  };
  await configure(yaml);
  return {
    engine,
    clock,
    flaky,
    notifier,
    rules,
    configure,
    callOf: ({ model, maxTokens, text, more, ...call } = {}) =>
      ({
        provider: anthropic,
        body: bodyOf({
          ...(model === undefined ? {} : { model }),
          ...(maxTokens === undefined ? {} : { maxTokens }),
          ...(text === undefined ? {} : { text }),
          ...(more === undefined ? {} : { more }),
        }),
        caller: { keyId: undefined, bound: undefined },
        labels: {},
        attempt: 0,
        deadlineAtMs: undefined,
        idempotencyKey: undefined,
        presence: createPresence(),
        ...call,
      }) as IncomingCall & { presence: FakePresence },
    async reserved() {
      let sum = 0n;
      for (const state of (await flaky.memory.scopeStates()).values()) {
        for (const series of state.counters.values()) for (const { reserved } of series.values()) sum += reserved;
      }
      return sum;
    },
  };
}
