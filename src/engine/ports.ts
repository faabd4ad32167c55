/**
 * What the engine asks of the world, besides the ledger: time, names, fingerprints, and somebody to tell.
 * Invariant: the engine reads no clock, draws no random number and opens nothing by itself, so that a run can be repeated.
 */
import type { Alert } from "../core/decisions/alerts.ts";

export interface Clock {
  /** Epoch milliseconds. Never goes back within a process. */
  nowMs(): number;
  /**
   * Calls back once after a while; the returned function cancels it.
   *
   * @param isBackground nobody waits for it: a process may end before it is due.
   */
  after(waitMs: number, callBack: () => void, isBackground?: boolean): () => void;
}

export interface IdSource {
  /** A new name that no one else has, sortable by time: `call_…`, `sess_…`. */
  next(prefix: "call" | "sess" | "own" | "batch"): string;
  /** The same name for the same text, on every machine. */
  named(prefix: "call" | "batch", text: string): string;
}

/**
 * Fingerprints under a key that lives in memory only: nobody can tell a prompt from one, and none outlives the process.
 *
 * @returns for `parts` p1 … pn the fingerprints of p1, p1 p2, …, p1 … pn.
 */
export type FingerprintChain = (parts: readonly Uint8Array[]) => string[];

/** Told what happened; must not throw. */
export interface Notifier {
  alert(alert: Alert): void;
  /** Something an operator has to know: an overrun, a settlement that conflicts, a ledger that cannot be written. */
  warn(event: string, details: Readonly<Record<string, string | number>>): void;
}
