/**
 * Owns that every ending reaches the ledger, also when the ledger cannot be written at the moment it happens, and that a reservation
 * whose answer was lost is given back. Does not own what a call is settled at (settlement.ts).
 * Invariants: an ending is asked for again until the ledger has answered it, which is safe because it is idempotent; how many wait is
 * bounded by the calls that were admitted, and no more are let through without the ledger while too many wait; no answer of the ledger
 * ends the process.
 */
import type {
  EndResult,
  ExpireOperation,
  ReserveOperation,
  SettleOperation,
  VoidOperation,
} from "../core/decisions/operations.ts";
import type { NanoUsd } from "../core/money/money.ts";
import type { Ledger } from "../ledger/ledger.ts";
import type { Clock, Notifier } from "./ports.ts";
import { isLedgerUnavailable } from "./refusing.ts";

/** While so many endings wait for the ledger, no call is let through: a ledger that is gone for a night must not fill the memory. */
const PENDING_MAX = 10_000;
/** How long until an ending that the ledger could not take is tried again. */
const RETRY_MS = 500;
/** So many go to the ledger together: one commit for all of them. */
const RETRIED_AT_ONCE = 200;

export type Ending = SettleOperation | VoidOperation | ExpireOperation;

/** What became of an ending. */
export interface Settled {
  /** `undefined`: nothing was sent, or the price is unknown. */
  costNanoUsd: NanoUsd | undefined;
  /** False: the ledger could not be written yet; it will be told again. */
  isDurable: boolean;
}

export interface Settler {
  /**
   * Ends a call. Answers at the first try; what failed goes on in the background.
   *
   * @param unwritten the reservation of a call that was let through while the ledger could not be written: it is recorded first.
   */
  end(ending: Ending, unwritten?: ReserveOperation): Promise<Settled>;
  /**
   * A reservation failed, and may have been written all the same: what this process holds in the ledger without knowing it is given
   * back as soon as the ledger can be asked.
   */
  sweepLater(): void;
  /** True if what the ledger says of this call may be about to be taken back: it is being voided, or a sweep is due that may do it. */
  isUncertain(callId: string): boolean;
  /** True if there is room for the ending of one more call that the ledger knows nothing of. */
  hasRoom(): boolean;
  /** Endings the ledger has not taken, and 1 more while a sweep is due. */
  readonly pendingCount: number;
  flush(deadlineAtMs: number): Promise<void>;
}

/** Tells what an ending led to: who waits, who watches. */
export function reporterOf({
  notifier,
  freed,
}: {
  notifier: Notifier;
  freed: (counterIds: readonly string[]) => void;
}): (ending: Ending, result: EndResult) => void {
  return ({ callId }, result) => {
    freed(result.freedCounterIds);
    for (const alert of result.alerts) notifier.alert(alert);
    if (result.overrunNanoUsd > 0n) notifier.warn("overrun", { callId, overrunNanoUsd: result.overrunNanoUsd.toString() });
    if (result.outcome === "conflict") notifier.warn("settlement_conflict", { callId });
  };
}

export function createSettler(input: {
  ledger: Ledger;
  clock: Clock;
  notifier: Notifier;
  freed: (counterIds: readonly string[]) => void;
  ownerId: string;
  /** True for calls that are being reserved or are running: their reservations are known. */
  isHeld: (callId: string) => boolean;
}): Settler {
  const { ledger, clock, notifier } = input;
  /** Endings that the ledger has not answered, each with its reservation where that is not written either. */
  const pending = new Map<Ending, ReserveOperation | undefined>();
  /** Sweeps asked for, and how many of those are done: one done covers all that were asked for before it began. */
  const sweeps = { asked: 0, done: 0 };
  const report = reporterOf(input);
  let isRetrying = false;
  const isSweepDue = (): boolean => sweeps.done < sweeps.asked;

  async function tryEnd(ending: Ending): Promise<boolean> {
    const unwritten = pending.get(ending);
    try {
      if (unwritten !== undefined) await ledger.apply([unwritten]);
      const [result] = await ledger.apply([ending]);
      pending.delete(ending);
      if (result !== undefined) report(ending, result);
      return true;
    } catch (error) {
      if (!isLedgerUnavailable(error)) giveUp(ending, unwritten, error);
      return false;
    }
  }

  /**
   * The ledger says that the ending itself cannot be: the call is counted at its bound instead. If it does not take that either, its row
   * is damaged; the ending is kept behind all others, and told each time, for money must not stay held in silence.
   */
  function giveUp(ending: Ending, unwritten: ReserveOperation | undefined, error: unknown): void {
    const { kind, atMs, callId } = ending;
    const reason = error instanceof Error ? error.message : "unknown";
    pending.delete(ending);
    notifier.warn("ending_refused", { callId, kind, reason });
    const expire = { kind: "expire" as const, atMs, callId, reason: `its ${kind} was refused: ${reason}` };
    pending.set(kind === "expire" ? ending : expire, unwritten);
  }

  function keepTrying(waitMs = RETRY_MS): void {
    if (isRetrying || (pending.size === 0 && !isSweepDue())) return;
    isRetrying = true;
    clock.after(waitMs, () => void retry());
  }

  async function retry(): Promise<void> {
    const answers = await Promise.all([...pending.keys()].slice(0, RETRIED_AT_ONCE).map(tryEnd));
    if (isSweepDue()) await sweep();
    isRetrying = false;
    keepTrying(answers.includes(true) ? 0 : RETRY_MS);
  }

  async function sweep(): Promise<void> {
    const { asked } = sweeps;
    try {
      const open = await ledger.openCalls(input.ownerId);
      const ending = new Set(Array.from(pending.keys(), ({ callId }) => callId));
      const unknown = open.filter(({ callId }) => !input.isHeld(callId) && !ending.has(callId));
      const voids = unknown.map(({ callId }): Ending => ({
        kind: "void",
        atMs: clock.nowMs(),
        callId,
        reason: "ledger_unavailable",
      }));
      // From here on endings like any other: asked for until they are answered, for somebody may wait for what they free.
      for (const each of voids) pending.set(each, undefined);
      sweeps.done = asked;
      await Promise.all(voids.map(tryEnd));
    } catch (error) {
      if (isLedgerUnavailable(error)) return;
      notifier.warn("internal_error", { message: error instanceof Error ? error.message : "unknown" });
    }
  }

  return {
    async end(ending, unwritten) {
      pending.set(ending, unwritten);
      const isDurable = await tryEnd(ending);
      if (!isDurable) {
        notifier.warn("settlement_waits", { callId: ending.callId, waiting: pending.size });
        keepTrying();
      }
      return { costNanoUsd: ending.kind === "settle" ? ending.result.costNanoUsd : undefined, isDurable };
    },
    sweepLater() {
      sweeps.asked += 1;
      keepTrying();
    },
    // A call that runs, or whose settlement is on its way, was made: nothing will change that.
    isUncertain: (callId) =>
      (isSweepDue() && !input.isHeld(callId)) ||
      [...pending.keys()].some((ending) => ending.kind === "void" && ending.callId === callId),
    hasRoom: () => pending.size < PENDING_MAX,
    get pendingCount() {
      return pending.size + (isSweepDue() ? 1 : 0);
    },
    async flush(deadlineAtMs) {
      const isDone = (): boolean => pending.size === 0 && !isSweepDue();
      while (!isDone()) {
        const leftMs = deadlineAtMs - clock.nowMs();
        if (leftMs <= 0) return;
        await new Promise<void>((resolve) => clock.after(Math.min(RETRY_MS, leftMs), resolve));
      }
    },
  };
}
