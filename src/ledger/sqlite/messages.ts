/**
 * Owns what the ledger's threads say to each other. Operations and their results are text (operation-text.ts); everything else is rare,
 * and passes the structured clone, which keeps bigints and maps.
 */
import { LedgerUnavailableError, LedgerUnusableError } from "../ledger.ts";
import type { BatchesQuery, BatchRecord, CallsQuery, Ledger, Owner, ReportQuery, VirtualKey } from "../ledger.ts";

/** What a thread is started with. */
export interface ThreadData {
  path: string;
  pagesMax: number | undefined;
  /** Where the jitter of lock retries starts: a whole number. */
  seed: number;
  lockWaitMs: number;
}

/** What changes the ledger; a text: operations. */
export type Work =
  | string
  | { kind: "configure"; rules: Parameters<Ledger["configure"]>[0] }
  | { kind: "beat"; owner: Owner }
  | { kind: "removeOwner"; ownerId: string }
  | { kind: "addBatch"; batch: BatchRecord }
  | { kind: "updateBatch"; batch: BatchRecord }
  | { kind: "removeBatch"; submissionId: string }
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
  | { kind: "batches"; query: BatchesQuery }
  | { kind: "keys" };

/** One thing asked of a thread. */
export interface Asked<Of> {
  id: number;
  what: Of;
}

/** To a thread: a list of things to do, or to end. A list without objects of its own takes half the time to clone. */
export type ToThread<Of> = { kind: "do"; ids: number[]; whats: Of[] } | { kind: "close" };

/** From a thread. */
export type FromThread =
  | { kind: "ready" }
  | { kind: "failed"; error: WrittenError }
  | { kind: "done"; ids: number[]; values: unknown[]; failures: Failure[] }
  | { kind: "closed" };

/** What is told of work that is over. */
export function doneWith(answers: readonly Answer[]): FromThread {
  const done = { kind: "done" as const, ids: [] as number[], values: [] as unknown[], failures: [] as Failure[] };
  for (const answer of answers) {
    if (answer.isOk) {
      done.ids.push(answer.id);
      done.values.push(answer.value);
    } else done.failures.push(answer);
  }
  return done;
}

export type Answer = { id: number; isOk: true; value: unknown } | Failure;

export interface Failure {
  id: number;
  isOk: false;
  error: WrittenError;
}

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
