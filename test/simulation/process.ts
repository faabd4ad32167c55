/**
 * Owns one gateway process of the simulation: a real engine, its owner's beats and its clock, on virtual time. It can stand still, and
 * it can die: then its timers never fire, and nothing it asked for is answered.
 */
import type { Operation, OperationResult, ReserveOperation } from "../../src/core/decisions/operations.ts";
import { keepOwner } from "../../src/engine/owners.ts";
import { createEngine, type Engine } from "../../src/engine/pipeline.ts";
import type { Clock, Notifier } from "../../src/engine/ports.ts";
import { isLedgerUnavailable } from "../../src/engine/refusing.ts";
import type { Rules } from "../../src/engine/rules.ts";
import { createSystemClock } from "../../src/exchange/system.ts";
import type { Limit } from "../../src/core/limits/limit.ts";
import type { Ledger } from "../../src/ledger/ledger.ts";
import type { Oracle } from "./oracle.ts";
import { openHandle, type StoreClient, type StoreHandle, type StoreWorld } from "./store.ts";

/** One after the other, so that a name says which process gave it. */
const RETRY_MS = 500;

/** A call that was told to wait and was not told anything since. */
export interface InLine {
  operation: ReserveOperation;
  blockedOn: readonly string[];
  /** It waits for a limit's end: it holds nobody back. */
  isPaused: boolean;
  /** In the order of the first time it was told to wait. */
  place: number;
  toldAtStep: number;
}

export interface ProcessWorld extends StoreWorld {
  startMs: number;
  oracle: Oracle;
  rules: Rules;
  config(): { version: string; limits: readonly Limit[] };
  isOwnerDead(ownerId: string): boolean | undefined;
  readonly stepCount: number;
  trace(line: string): void;
}

export class Process implements StoreClient {
  readonly id: string;
  readonly startedAtMs: number;
  isDead = false;
  stalledUntilMs = 0;
  /** Set once it has registered. */
  engine: Engine | undefined;
  /** When its clock was last set, on the timeline; `-Infinity`: never. */
  jumpedAtMs = -Infinity;
  readonly line = new Map<string, InLine>();
  /** Calls whose lowered hold was told to the ledger, and not answered: who waits for that learns of it when it is told again. */
  readonly lowering = new Set<string>();
  /** Who was ever told to wait for a limit's end. */
  readonly paused = new Set<string>();
  readonly clock: Clock;
  readonly #world: ProcessWorld;
  /** Set once it has opened the ledger. */
  #handle: StoreHandle | undefined;
  #skewMs: number;
  #names = 0;
  #places = 0;
  /** Who lay in line before a call when it asked. */
  readonly #before = new Map<Operation, { step: number; waiters: [string, InLine][] }>();
  /** In which step somebody left the line. */
  readonly #left = new Map<string, number>();

  constructor(world: ProcessWorld, id: string, skewMs: number) {
    this.#world = world;
    this.id = id;
    this.#skewMs = skewMs;
    this.startedAtMs = world.timeline.nowMs;
    const { timeline, startMs } = world;
    const machine = createSystemClock({
      wallMs: () => startMs + timeline.nowMs + this.#skewMs,
      monotonicMs: () => timeline.nowMs,
    });
    this.clock = { nowMs: () => machine.nowMs(), after: (waitMs, run) => this.#after(waitMs, run) };
  }

  get isIdle(): boolean {
    return this.#handle?.isIdle !== false;
  }

  async die(): Promise<void> {
    await this.#handle?.lastCommit();
    this.isDead = true;
  }

  get isRunning(): boolean {
    return !this.isDead && this.engine !== undefined;
  }

  setClock(byMs: number): void {
    this.#skewMs += byMs;
    this.jumpedAtMs = this.#world.timeline.nowMs;
  }

  /** As the gateway starts: limits, engine, owner. */
  async start(): Promise<void> {
    const world = this.#world;
    this.#handle ??= openHandle(world, this, await world.books.open());
    const { ledger } = this.#handle;
    if (this.isDead) return;
    const notifier: Notifier = {
      alert: () => undefined,
      warn: (event, { callId = "" }) => {
        world.oracle.count(`warned ${event}`);
        if (event === "ledger_bypassed") world.oracle.bypassed.add(String(callId));
        // Whoever stood still for so long that others took it for dead gives back what they have counted at its bound.
        const isCounted = world.oracle.calls.get(String(callId))?.status === "expired";
        if (event === "internal_error" || event === "ending_refused" || (event === "settlement_conflict" && !isCounted)) {
          world.oracle.blame("engine", `${event} of ${this.id} (${callId})`);
        }
      },
    };
    try {
      await this.configure(ledger);
      const engine = createEngine({
        ledger,
        clock: this.clock,
        ids: { next: (prefix) => `${prefix}_${this.id}_${(this.#names += 1)}`, named: (prefix, text) => `${prefix}_(${text})` },
        fingerprints: (parts) => parts.map((part) => String(part.length)),
        notifier,
        rules: () => world.rules,
        ownerId: this.id,
      });
      const nowMs = this.clock.nowMs();
      const me = {
        ownerId: this.id,
        pid: 1,
        processStart: this.id,
        bootId: "b",
        machineId: "m",
        startedAtMs: nowMs,
        beatAtMs: nowMs,
      };
      await keepOwner({
        ledger,
        clock: this.clock,
        notifier,
        me,
        isDead: ({ ownerId }) => world.isOwnerDead(ownerId),
        freed: (counterIds) => engine.freed(counterIds),
      });
      this.engine = engine;
      world.trace(`${this.id} runs`);
    } catch (error) {
      if (!isLedgerUnavailable(error)) throw error;
      this.#after(RETRY_MS, () => void this.start());
    }
  }

  configure(ledger: Ledger): Promise<void> {
    const { version, limits } = this.#world.config();
    return ledger.configure({ version, limits, downgrade: this.#world.rules.downgrade, atMs: this.clock.nowMs() });
  }

  /** The file changed: the ledger first, then whoever waits. */
  async reload(): Promise<void> {
    if (!this.isRunning || this.#handle === undefined) return;
    try {
      await this.configure(this.#handle.ledger);
      this.engine?.rulesChanged();
    } catch (error) {
      if (!isLedgerUnavailable(error)) throw error;
      this.#after(RETRY_MS, () => void this.reload());
    }
  }

  soon(waitMs: number, run: () => void | Promise<void>): void {
    this.#after(waitMs, run);
  }

  #after(waitMs: number, run: () => void | Promise<void>): () => void {
    let cancel = (): void => undefined;
    const fire = (): void | Promise<void> => {
      if (this.isDead) return undefined;
      const { nowMs } = this.#world.timeline;
      if (nowMs < this.stalledUntilMs) cancel = this.#world.timeline.after(this.stalledUntilMs - nowMs, fire);
      else return run();
      return undefined;
    };
    cancel = this.#world.timeline.after(waitMs, fire);
    return () => cancel();
  }

  asked(operation: Operation): void {
    const { callId } = operation.kind === "reserve" || operation.kind === "refuse" ? operation.call : operation;
    this.#world.trace(`${this.id} asks ${operation.kind} ${callId}`);
    if (operation.kind === "renew") this.lowering.add(callId);
    // Whoever is refused for having waited too long waits no more.
    if (operation.kind === "refuse") this.leaveLine(nameOf(operation));
    if (operation.kind !== "reserve") return;
    const mine = this.line.get(nameOf(operation));
    const waiters = [...this.line].filter(
      ([name, { place }]) => name !== nameOf(operation) && (mine === undefined || place < mine.place),
    );
    this.#before.set(operation, { step: this.#world.stepCount, waiters });
  }

  answered(operation: Operation, result: OperationResult): void {
    const on = result.kind === "reserve" && result.outcome === "wait" ? ` on ${result.blockedOn.join(", ")}` : "";
    const paused = result.kind === "reserve" && result.outcome === "wait" && result.pause !== undefined ? " paused" : "";
    this.#world.trace(`${this.id} is answered ${operation.kind} ${"outcome" in result ? result.outcome : ""}${paused}${on}`);
    if ("callId" in operation) this.lowering.delete(operation.callId);
    if (operation.kind !== "reserve" || result.kind !== "reserve") return;
    const before = this.#before.get(operation);
    this.#before.delete(operation);
    const name = nameOf(operation);
    if (result.outcome === "wait") {
      const place = this.line.get(name)?.place ?? (this.#places += 1);
      const isPaused = result.pause !== undefined;
      if (isPaused) this.paused.add(name);
      this.line.set(name, { operation, blockedOn: result.blockedOn, isPaused, place, toldAtStep: this.#world.stepCount });
      return;
    }
    // A free name is tried again from the same place in line.
    if (result.outcome === "duplicate") return;
    this.leaveLine(name);
    if (result.outcome !== "reserved" || before === undefined || operation.isForced === true) return;
    // Nobody who lay in line when this call asked, on something it takes, is passed by it.
    for (const [waiter, { blockedOn, isPaused, toldAtStep }] of before.waiters) {
      if (isPaused) continue;
      const hadLeft = (this.#left.get(waiter) ?? Infinity) <= before.step;
      const shared = blockedOn.find((id) => result.counterIds.includes(id));
      if (shared === undefined || hadLeft || toldAtStep >= before.step) continue;
      this.#world.oracle.blame("fair", `${operation.call.callId} passed caller ${waiter}, who waits on ${shared}`);
    }
  }

  /** A caller that was told something else than to wait, or that left. */
  leaveLine(name: string): void {
    if (this.line.delete(name)) this.#left.set(name, this.#world.stepCount);
  }
}

/** Every caller of the simulation carries its number in a tag. */
function nameOf({ call }: Pick<ReserveOperation, "call">): string {
  return call.scopes.tags["n"] ?? "";
}
