/**
 * Owns what the ledger's threads say to each other. Everything passes the structured clone, which keeps bigints and maps.
 */
import { LedgerUnavailableError, LedgerUnusableError } from "../ledger.ts";
import type { CallsQuery, Ledger, Owner, ReportQuery, VirtualKey } from "../ledger.ts";
import type { Operation } from "../../core/decisions/operations.ts";

/** What a thread is started with. */
export interface ThreadData {
  path: string;
  pagesMax: number | undefined;
  /** Where the jitter of lock retries starts: a whole number. */
  seed: number;
  lockWaitMs: number;
}

/** What changes the ledger. */
export type Work =
  | { kind: "apply"; operations: readonly Operation[] }
  | { kind: "configure"; rules: Parameters<Ledger["configure"]>[0] }
  | { kind: "beat"; owner: Owner }
  | { kind: "removeOwner"; ownerId: string }
  | { kind: "createKey"; key: VirtualKey }
  | { kind: "revokeKey"; keyId: string; atMs: number }
  | { kind: "revision" };

/** What only reads it. */
export type Query =
  | { kind: "calls"; query: CallsQuery }
  | { kind: "report"; query: ReportQuery }
  | { kind: "scopeStates" }
  | { kind: "alerts"; limit: number }
  | { kind: "limits" }
  | { kind: "owners" }
  | { kind: "openCalls"; ownerId: string | undefined }
  | { kind: "keys" };

/** One thing asked of a thread. */
export interface Asked<Of> {
  id: number;
  what: Of;
}

/** To a thread: a list of things to do, or to end. */
export type ToThread<Of> = { kind: "do"; asked: Asked<Of>[] } | { kind: "close" };

/** From a thread. */
export type FromThread =
  | { kind: "ready" }
  | { kind: "failed"; error: WrittenError }
  | { kind: "done"; answers: Answer[] }
  | { kind: "closed" };

export type Answer = { id: number; isOk: true; value: unknown } | { id: number; isOk: false; error: WrittenError };

/** An error on its way between threads: the clone would lose its class. */
export interface WrittenError {
  name: string;
  message: string;
}

export function writeError(error: unknown): WrittenError {
  return error instanceof Error ? { name: error.name, message: error.message } : { name: "Error", message: String(error) };
}

export function readError({ name, message }: WrittenError): Error {
  switch (name) {
    case "LedgerUnavailableError":
      return new LedgerUnavailableError(message);
    case "LedgerUnusableError":
      return new LedgerUnusableError(message);
    case "RangeError":
      return new RangeError(message);
    default:
      return new Error(message);
  }
}
