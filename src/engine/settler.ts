/**
 * Owns that every ending reaches the ledger, also when the ledger cannot be written at the moment it happens.
 * Does not own what a call is settled at (settlement.ts).
 * Invariants: an ending is asked for again until the ledger has answered it, which is safe because it is idempotent; memory for
 * endings that wait is bounded by the calls that were admitted.
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

/** How long until an ending that the ledger could not take is tried again. */
const RETRY_MS = 500;

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
  let isRetrying = false;

  async function tryEnd(ending: Ending): Promise<boolean> {
    const unwritten = pending.get(ending);
    try {
      if (unwritten !== undefined) await ledger.apply([unwritten]);
      const [result] = await ledger.apply([ending]);
      if (result !== undefined) report(ending, result);
      return true;
    } catch (error) {
      if (!isLedgerUnavailable(error)) throw error;
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

  function keepTrying(): void {
    if (isRetrying || pending.size === 0) return;
    isRetrying = true;
    clock.after(RETRY_MS, () => void retry());
  }

  async function retry(): Promise<void> {
    for (const ending of pending.keys()) {
      if (!(await tryEnd(ending))) break;
      pending.delete(ending);
    }
    isRetrying = false;
    keepTrying();
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
      pending.set({ kind: "void", atMs: clock.nowMs(), callId, reason }, undefined);
      keepTrying();
    },
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
