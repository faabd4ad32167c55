/**
 * Owns that every ending reaches the ledger, also when the ledger cannot be written at the moment it happens.
 * Does not own what a call is settled at (settlement.ts).
 * Invariants: an ending is asked for again until the ledger has answered it, which is safe because it is idempotent; how many wait is
 * bounded: of calls that were admitted all, and no more are admitted while too many wait.
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
/** Of calls that were refused because the ledger did not answer, so many are remembered; from then on it is not asked at all. */
const UNCERTAIN_MAX = 1_000;
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
  /** Gives back a reservation that may or may not have been written. */
  voidLater(callId: string, reason: string): void;
  /** True if the ledger must not be asked about this call now: its ending waits, or too many endings do. */
  isBlocked(callId: string): boolean;
  /** True if there is room for the ending of one more call that the ledger knows nothing of. */
  hasRoom(): boolean;
  readonly pendingCount: number;
  flush(deadlineAtMs: number): Promise<void>;
}

export function createSettler(input: {
  ledger: Ledger;
  clock: Clock;
  notifier: Notifier;
  freed: (counterIds: readonly string[]) => void;
}): Settler {
  const { ledger, clock, notifier, freed } = input;
  /** Endings that the ledger has not answered, each with its reservation where that is not written either. */
  const pending = new Map<Ending, ReserveOperation | undefined>();
  /** Calls of which it is unknown whether they were reserved: sent again under their name, they must not be voided while they run. */
  const uncertain = new Set<string>();
  let isRetrying = false;

  /** True once the ledger has answered. Whatever else it fails with is told, and the ending kept: money must not stay held in silence. */
  async function tryEnd(ending: Ending): Promise<boolean> {
    const unwritten = pending.get(ending);
    try {
      if (unwritten !== undefined) await ledger.apply([unwritten]);
      const [result] = await ledger.apply([ending]);
      if (result !== undefined) report(ending, result);
      return true;
    } catch (error) {
      if (!isLedgerUnavailable(error)) notifier.warn("internal_error", { callId: ending.callId, message: String(error) });
      return false;
    }
  }

  function report(ending: Ending, result: EndResult): void {
    freed(result.freedCounterIds);
    for (const alert of result.alerts) notifier.alert(alert);
    if (result.overrunNanoUsd > 0n) {
      notifier.warn("overrun", { callId: ending.callId, overrunNanoUsd: result.overrunNanoUsd.toString() });
    }
    if (result.outcome === "conflict") notifier.warn("settlement_conflict", { callId: ending.callId });
  }

  function keepTrying(waitMs = RETRY_MS): void {
    if (isRetrying || pending.size === 0) return;
    isRetrying = true;
    clock.after(waitMs, () => void retry());
  }

  async function retry(): Promise<void> {
    const tried = [...pending.keys()].slice(0, RETRIED_AT_ONCE);
    const answers = await Promise.all(tried.map(tryEnd));
    tried.forEach((ending, index) => {
      const unwritten = pending.get(ending);
      pending.delete(ending);
      if (answers[index] === true) uncertain.delete(ending.callId);
      // To the end of the queue: one that the ledger never takes, because its row is damaged, must not keep the others waiting.
      else pending.set(ending, unwritten);
    });
    isRetrying = false;
    keepTrying(answers.includes(true) ? 0 : RETRY_MS);
  }

  return {
    async end(ending, unwritten) {
      pending.set(ending, unwritten);
      const isDurable = await tryEnd(ending);
      if (isDurable) pending.delete(ending);
      else {
        notifier.warn("settlement_waits", { callId: ending.callId, waiting: pending.size });
        keepTrying();
      }
      return { costNanoUsd: ending.kind === "settle" ? ending.result.costNanoUsd : undefined, isDurable };
    },
    voidLater(callId, reason) {
      uncertain.add(callId);
      pending.set({ kind: "void", atMs: clock.nowMs(), callId, reason }, undefined);
      keepTrying();
    },
    isBlocked(callId) {
      return uncertain.size >= UNCERTAIN_MAX || uncertain.has(callId);
    },
    hasRoom: () => pending.size < PENDING_MAX,
    get pendingCount() {
      return pending.size;
    },
    async flush(deadlineAtMs) {
      while (pending.size > 0 && clock.nowMs() < deadlineAtMs) {
        await new Promise<void>((resolve) => clock.after(Math.min(RETRY_MS, deadlineAtMs - clock.nowMs()), resolve));
      }
    },
  };
}
