/**
 * The port of the ledger: what the engine and the reports ask of any store. Does not own the rules (core/decisions).
 * Invariants: an operation that was answered is durable; operations are carried out one after the other, each seeing all before it,
 * from whichever process; entries are only ever added.
 */
import type { CallFacts } from "../core/decisions/call.ts";
import type { ScopeState } from "../core/decisions/counters.ts";
import type {
  CallResult,
  EndResult,
  NewEntry,
  OpenCall,
  Operation,
  OperationResult,
  StoredDecision,
} from "../core/decisions/operations.ts";
import type { LimitView } from "../core/decisions/admit.ts";
import type { ErrorCode } from "../core/errors/codes.ts";
import type { Alert } from "../core/decisions/alerts.ts";
import type { NanoUsd } from "../core/money/money.ts";
import type { TokenParts } from "../core/usage/usage.ts";
import type { Limit } from "../core/limits/limit.ts";

/** The result that belongs to an operation. */
export type ResultOf<O extends Operation> = O extends { kind: "settle" | "void" | "expire" }
  ? EndResult
  : Extract<OperationResult, { kind: O["kind"] }>;

export interface Ledger {
  /**
   * Carries out operations in order, atomically together with whatever else is waiting, and answers once they are durable.
   *
   * @throws {@link LedgerUnavailableError} if the store cannot be written. Whether the operations happened is then unknown: ask again
   * with the same call ids.
   */
  apply<const O extends Operation>(operations: readonly O[]): Promise<ResultOf<O>[]>;
  /**
   * Puts limits in force. A counter that no limit asked for before is filled from the entries of its window first; nothing is admitted
   * meanwhile.
   */
  configure(rules: {
    version: string;
    limits: readonly Limit[];
    downgrade: ReadonlyMap<string, string>;
    atMs: number;
    /** True: only where none are in force, looked at in the same step. @defaultValue false */
    isOnlyIfNone?: boolean;
  }): Promise<void>;

  /** The limits in force, as they were last configured; empty before any were. */
  limits(): Promise<readonly Limit[]>;

  /** Says that a process is alive, and makes it known to others. */
  beat(owner: Owner): Promise<void>;
  owners(): Promise<Owner[]>;
  /** Forgets an owner. Its open calls must have been ended. */
  removeOwner(ownerId: string): Promise<void>;
  openCalls(ownerId?: string): Promise<OpenCall[]>;

  /** Newest first. */
  calls(query: CallsQuery): Promise<CallRecord[]>;
  /** Sums over the calls that were reserved in `[fromMs, toMs)`, and the refusals in it. */
  report(query: ReportQuery): Promise<ReportGroup[]>;
  /** The state of every scope value that a limit in force looks at, at an instant. */
  scopeStates(): Promise<Map<string, ScopeState>>;
  alerts(query: { limit: number }): Promise<Alert[]>;

  /** Makes a batch known, so that its lines are nobody's orphans. False: there is one of that name. */
  addBatch(batch: BatchRecord): Promise<boolean>;
  updateBatch(batch: BatchRecord): Promise<void>;
  /** Forgets a batch. Its lines must have been ended. */
  removeBatch(submissionId: string): Promise<void>;
  /** Oldest first. */
  batches(query?: BatchesQuery): Promise<BatchRecord[]>;

  createKey(key: VirtualKey): Promise<void>;
  keys(): Promise<VirtualKey[]>;
  revokeKey(input: { keyId: string; atMs: number }): Promise<boolean>;

  /** A number that changes whenever another process changed the ledger, and not by changes of this one: what its waiters watch. */
  revision(): Promise<number>;
  /** For how long (ms) the first of the operations that are not answered yet has waited; 0: none waits. More and more: it cannot keep up. */
  waitedMs(): number;
  close(): Promise<void>;
}

/** A process that holds reservations. */
export interface Owner {
  ownerId: string;
  pid: number;
  /** When the process started, as the operating system counts: the same pid with another start is another process. */
  processStart: string;
  /** Changes with every boot of the machine. */
  bootId: string;
  /** Names the machine, so that only its own processes are looked up. */
  machineId: string;
  startedAtMs: number;
  beatAtMs: number;
}

/** Calls that were handed in together and are answered within a day: the ledger owns their reservations, not a process. */
export interface BatchRecord {
  /** Our own name of it, under which its lines are reserved: their owner. */
  submissionId: string;
  provider: string;
  /** The virtual key it was handed in with; `undefined`: the caller's own credential, which is written nowhere. */
  keyId: string | undefined;
  /** The provider's name of it; `undefined`: whether there is one is not known, its answer did not come. */
  batchId: string | undefined;
  submittedAtMs: number;
  /** Since when all its lines are ended; `undefined`: some may be open. */
  endedAtMs: number | undefined;
}

/** Which batches; without anything: all that are known. */
export interface BatchesQuery {
  /** By the provider's name. */
  batchId?: string;
  /** True: only those whose lines may be open. */
  isOpen?: boolean;
}

export interface CallsQuery {
  /** At most so many, at least 1. */
  limit: number;
  callId?: string;
  session?: string;
  /** Only calls before this position, for paging: the `position` of the last record seen. */
  before?: number;
}

/** One call as the ledger knows it. */
export interface CallRecord {
  /** Rises with every call; for paging. */
  position: number;
  callId: string;
  startedAtMs: number;
  endedAtMs: number | undefined;
  facts: CallFacts;
  status: "reserved" | "settled" | "voided" | "expired" | "denied";
  /** `undefined` for refusals that were made outside a reservation. */
  decision: StoredDecision | undefined;
  deniedWith: { code: ErrorCode; view: LimitView | undefined } | undefined;
  reservedNanoUsd: NanoUsd | undefined;
  /** What it is counted with, corrections included. */
  costNanoUsd: NanoUsd | undefined;
  result: CallResult | undefined;
  isLate: boolean;
  overrunNanoUsd: NanoUsd;
  /** Corrections since it ended, oldest first; `costNanoUsd` holds them. */
  adjustments: readonly AdjustmentRecord[];
  /** Their sum. */
  adjustedNanoUsd: bigint;
}

/** One correction of a call's cost. */
export interface AdjustmentRecord {
  adjustmentId: string;
  atMs: number;
  deltaNanoUsd: bigint;
  reason: string;
  by: string;
}

/** What a report can be grouped by. */
export type ReportDimension = "project" | "agent" | "session" | "user" | "key" | "task" | "model" | `tag:${string}`;

export interface ReportQuery {
  fromMs: number;
  toMs: number;
  by: readonly ReportDimension[];
}

/** One line of a report. */
export interface ReportGroup {
  key: Readonly<Record<string, string>>;
  calls: number;
  denied: number;
  costNanoUsd: NanoUsd;
  tokens: TokenParts;
}

/** A virtual key: what a caller shows instead of an upstream's own. The secret itself is never stored. */
export interface VirtualKey {
  keyId: string;
  /** SHA-256 of the whole secret, in hex. */
  secretHash: string;
  project: string;
  agent: string;
  /** Labels the caller may set itself: `user`, `tag:NAME`. */
  allow: readonly string[];
  createdAtMs: number;
  expiresAtMs: number | undefined;
  revokedAtMs: number | undefined;
}

/** One line of the chain, as it is stored. */
export interface Entry extends NewEntry {
  seq: number;
  /** SHA-256 over the hash before and everything in this line. */
  hash: string;
}

/** The store cannot be written or read: disk full, locked for too long, gone. What was asked is unknown until read back. */
export class LedgerUnavailableError extends Error {
  readonly code = "ledger_unavailable";
  readonly isRetryable = true;
  override readonly name = "LedgerUnavailableError";
}

/** The ledger's content cannot be trusted or understood: corrupt, cut, or written by a newer version. Start-up stops. */
export class LedgerUnusableError extends Error {
  readonly code = "ledger_unusable";
  readonly isRetryable = false;
  override readonly name = "LedgerUnusableError";
}
