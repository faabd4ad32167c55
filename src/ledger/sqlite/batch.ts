/**
 * Owns one transaction of the writing connection: what waits is carried out in order, written and committed together.
 * Does not own when batches run and what happens without the lock (writer.ts).
 * Invariants: a batch is in the file whole or not at all; work that fails by itself is answered alone and leaves no trace; after a
 * failed commit nothing is believed that is not in the file.
 */
import type { Database } from "better-sqlite3";
import { compileLimits, type LimitSet } from "../../core/decisions/counters.ts";
import { fillFromMs, fillSeries, seriesOf, type CountedCall } from "../../core/decisions/fill.ts";
import type { EndedCall, Operation } from "../../core/decisions/operations.ts";
import { applyOperation } from "../../core/decisions/transitions.ts";
import type { Limit } from "../../core/limits/limit.ts";
import { toNanoUsd } from "../../core/money/money.ts";
import { fromJson, toJson } from "../json.ts";
import { CachedBook, NO_LIMITS, type Said } from "./cached-book.ts";
import { isLocal, isSqlite, unavailableFrom } from "./errors.ts";
import { writeError, type Answer, type Asked, type Work } from "./messages.ts";
import { operationsFromText, resultsToText } from "./operation-text.ts";
import { prepareReadArchived } from "./statements/archived.ts";
import { prepareIterateCounted } from "./statements/calls.ts";
import { prepareDeleteBatch, prepareInsertBatch, prepareUpdateBatch } from "./statements/batches.ts";
import { prepareInsertConfig, prepareReadConfig, prepareReadConfigSeq } from "./statements/configs.ts";
import { prepareReadKey, prepareWriteKey } from "./statements/keys.ts";
import { prepareCountOwners, prepareDeleteOwner, prepareReadOwners, prepareWriteOwner } from "./statements/owners.ts";
import { prepareIterateRollups, QUARTER_MS } from "./statements/rollups.ts";
import { Witness } from "./witness.ts";

/** Work is taken into a batch for so long; writing and fsync follow. Where others wait, the lock is then held for about 10 ms. */
const TAKING_MS_MAX = 4;
/** Where nobody else is registered, the lock is in nobody's way, and a larger batch shares its fsync among more calls. */
const TAKING_ALONE_MS_MAX = 20;

/**
 * So many entries are folded into the projections at once: busy counters are then written once for hundreds of calls. Folding so many
 * takes some tens of milliseconds, for which everybody waits.
 */
const UNFOLDED_ENTRIES_MAX = 1_000;
/** Where batches are small, somebody waits for each of them, and nobody is to wait for much more than his own: less is folded, more often. */
const UNFOLDED_BATCHES_MAX = 32;
const UNFOLDED_ENTRIES_MIN = 128;

/** What a batch did. */
export interface BatchResult {
  answers: Answer[];
  /** How much of what was asked it took; the rest is for the next one. */
  taken: number;
}

/** The writing side of one connection. */
export class Batches {
  readonly #db: Database;
  readonly #path: string;
  readonly #now: () => number;
  readonly #book: CachedBook;
  readonly #witness: Witness;
  readonly #statements;
  #dataVersion: unknown;
  #configSeq = 0;
  /** True from a change by another connection on, until one batch met none: whoever reads next should find everything folded. */
  #isShared = false;
  /** So many entries may be left to fold, by the size of the last batch. */
  #unfoldedMax = UNFOLDED_ENTRIES_MIN;
  /** How many owners the file lists: others may be waiting for the lock. */
  ownerCount = 0;

  /** @param now a clock that never goes back, in milliseconds. */
  constructor(db: Database, path: string, now: () => number) {
    this.#db = db;
    this.#path = path;
    this.#now = now;
    this.#book = new CachedBook(db);
    this.#witness = new Witness(path, now);
    this.#statements = {
      begin: db.prepare("begin immediate"),
      commit: db.prepare("commit"),
      rollback: db.prepare("rollback"),
      dataVersion: db.prepare<[], bigint>("pragma data_version").pluck(),
      readConfig: prepareReadConfig(db),
      readConfigSeq: prepareReadConfigSeq(db),
      insertConfig: prepareInsertConfig(db),
      countedCalls: prepareIterateCounted(db),
      rollups: prepareIterateRollups(db),
      archived: prepareReadArchived(db),
      writeOwner: prepareWriteOwner(db),
      deleteOwner: prepareDeleteOwner(db),
      countOwners: prepareCountOwners(db),
      readOwners: prepareReadOwners(db),
      insertBatch: prepareInsertBatch(db),
      updateBatch: prepareUpdateBatch(db),
      deleteBatch: prepareDeleteBatch(db),
      readKey: prepareReadKey(db),
      writeKey: prepareWriteKey(db),
    };
  }

  /** Nothing is left to do for now. */
  rest(): void {
    this.#witness.flush();
  }
  /** Nothing will be done any more. */
  end(): void {
    this.#witness.close();
  }

  /** Changes whenever another connection changed the file. */
  revision(): number {
    return Number(this.#readDataVersion());
  }

  #readDataVersion(): unknown {
    return this.#statements.dataVersion.get();
  }

  /**
   * Carries out work in order, as much as fits the time a lock may be held.
   *
   * @throws SqliteError: busy if the lock is taken (nothing happened); otherwise whether it happened is unknown.
   */
  run(asked: readonly Asked<Work>[]): BatchResult {
    const failed = new Map<number, Answer>();
    for (;;) {
      const result = this.#tryRun(asked, failed);
      if (result !== undefined) return result;
    }
  }

  /** `undefined`: one piece of work failed by itself, was noted, and the rest is to be tried again without it. */
  #tryRun(asked: readonly Asked<Work>[], failed: Map<number, Answer>): BatchResult | undefined {
    const { begin, commit } = this.#statements;
    begin.run();
    try {
      this.#catchUp();
      const before = this.#book.unfoldedCount;
      const answers: Answer[] = [];
      const untilMs = this.#now() + (this.ownerCount > 1 ? TAKING_MS_MAX : TAKING_ALONE_MS_MAX);
      let taken = 0;
      for (const { id, what } of asked) {
        if (taken > 0 && this.#now() > untilMs) break;
        taken += 1;
        const failure = failed.get(id);
        if (failure === undefined && !this.#carryOut(id, what, answers, failed)) {
          this.#undo();
          return undefined;
        }
        if (failure !== undefined) answers.push(failure);
      }
      this.#book.flush();
      this.#unfoldedMax = unfoldedMaxOf(this.#book.unfoldedCount - before);
      if (this.#mustFold()) this.#book.fold();
      commit.run();
      if (this.#book.head !== undefined) this.#witness.saw(this.#book.head);
      this.#book.evict();
      return { answers, taken };
    } catch (error) {
      this.#undo();
      throw error;
    }
  }

  /** What others would have to work out from the entries each time. */
  #mustFold(): boolean {
    return this.#book.mustFold || this.#isShared || this.ownerCount > 1;
  }

  /** True if so much is left to {@link fold} that it is done before more work. */
  get isFoldDue(): boolean {
    return this.#book.unfoldedCount >= this.#unfoldedMax;
  }

  /** True if something is left to {@link fold}. */
  get isUnfolded(): boolean {
    return this.#book.unfoldedCount > 0;
  }

  /** Folds what is left, in a transaction of its own. What the ledger says stays the same, and so does its revision. @throws as {@link run}. */
  fold(): void {
    const { begin, commit } = this.#statements;
    begin.run();
    try {
      this.#catchUp();
      this.#book.fold();
      commit.run();
    } catch (error) {
      this.#undo();
      throw error;
    }
  }

  /** False: this work failed by itself. */
  #carryOut(id: number, what: Work, answers: Answer[], failed: Map<number, Answer>): boolean {
    try {
      answers.push({ id, isOk: true, value: this.#valueOf(what) });
      return true;
    } catch (error) {
      if (isSqlite(error) && !isLocal(error)) throw error;
      failed.set(id, { id, isOk: false, error: writeError(isLocal(error) ? unavailableFrom(this.#path, error) : error) });
      return false;
    }
  }

  #undo(): void {
    // SQLite itself rolls back after some failures, a full disk among them.
    if (this.#db.inTransaction) this.#statements.rollback.run();
    this.#book.discard();
    this.#dataVersion = undefined;
    this.#configSeq = 0;
    this.#book.limits = NO_LIMITS;
  }

  /** Reads again what another connection may have changed. Inside the transaction, so that nothing can change afterwards. */
  #catchUp(): void {
    const version = this.#readDataVersion();
    this.#isShared = this.#dataVersion !== undefined && version !== this.#dataVersion;
    if (version === this.#dataVersion) return;
    this.#book.discard();
    this.#book.load();
    const configSeq = this.#statements.readConfigSeq();
    if (configSeq !== this.#configSeq) {
      this.#book.limits = this.#readLimits();
      this.#configSeq = configSeq;
    }
    this.ownerCount = this.#statements.countOwners();
    this.#dataVersion = version;
  }

  #readLimits(): LimitSet {
    const row = this.#statements.readConfig();
    if (row === undefined) return NO_LIMITS;
    const rules = fromJson(row.rules) as { limits: Limit[]; downgrade: Map<string, string> };
    return compileLimits({ version: row.version, limits: rules.limits, downgrade: rules.downgrade });
  }

  #apply(text: string): string {
    const read = operationsFromText(text);
    const operations = read.map(({ operation }) => operation);
    const results = read.map(({ operation, said }) => {
      if (operation.kind === "reserve" && this.#configSeq === 0) {
        throw new RangeError("reserve: no limits are in force; configure first");
      }
      this.#book.said = saidOf(operation, said);
      return applyOperation(this.#book, operation);
    });
    this.#book.said = undefined;
    return resultsToText(results, operations);
  }

  #valueOf(what: Work): unknown {
    if (typeof what === "string") return this.#apply(what);
    switch (what.kind) {
      case "configure":
        return this.#configure(what.rules);
      case "beat":
        this.#statements.writeOwner(what.owner);
        this.ownerCount = this.#statements.countOwners();
        return undefined;
      case "removeOwner":
        this.#statements.deleteOwner(what.ownerId);
        this.ownerCount = this.#statements.countOwners();
        return undefined;
      case "addBatch":
        return this.#statements.insertBatch(what.batch);
      case "updateBatch":
        return this.#statements.updateBatch(what.batch);
      case "removeBatch":
        return this.#statements.deleteBatch(what.submissionId);
      case "createKey":
        if (this.#statements.readKey(what.key.keyId) !== undefined) throw new RangeError(`key ${what.key.keyId} exists`);
        return this.#statements.writeKey(what.key);
      case "revokeKey": {
        const key = this.#statements.readKey(what.keyId);
        if (key === undefined || key.revokedAtMs !== undefined) return false;
        this.#statements.writeKey({ ...key, revokedAtMs: what.atMs });
        return true;
      }
      case "revision":
        return this.revision();
    }
  }

  /** The same rules again change nothing: every process configures when it starts. */
  #configure(wanted: Extract<Work, { kind: "configure" }>["rules"]): void {
    const { version, limits, downgrade, atMs, isOnlyIfNone = false } = wanted;
    if (isOnlyIfNone && this.#readLimits().limits.length > 0) return;
    const rules = toJson({ limits, downgrade });
    const current = this.#statements.readConfig();
    if (current?.rules === rules && current.version === version) return;
    // What was done so far is part of what the new counters are filled with.
    this.#book.flush();
    this.#book.fold();
    const counted = seriesOf(this.#book.limits);
    this.#configSeq = (current?.configSeq ?? 0) + 1;
    this.#statements.insertConfig({ configSeq: this.#configSeq, version, atMs, rules });
    this.#book.limits = this.#readLimits();
    const added = new Set([...seriesOf(this.#book.limits)].filter((series) => !counted.has(series)));
    this.#book.mustFold = true;
    if (added.size === 0) return;
    const sinceMs = Math.min(atMs, ...this.#statements.readOwners().map(({ beatAtMs }) => beatAtMs));
    fillSeries(this.#book, added, this.#callsFrom(fillFromMs(this.#book.limits, added, sinceMs)), { atMs, sinceMs });
  }

  /** As if all of them had been reserved at the end of their quarter of an hour: none leaves a rolling window too soon. */
  *#archivedCallsFrom(fromMs: number, throughSeq: number): Iterable<CountedCall> {
    const first = Number.isFinite(fromMs) ? fromMs - QUARTER_MS : 0;
    for (const rollup of this.#statements.rollups({ fromMs: first, throughSeq })) {
      const { quarterMs, scopes, model, tokens, countedCalls: count } = rollup;
      const atMs = quarterMs + QUARTER_MS - 1;
      if (count > 0) yield { status: "settled", atMs, scopes, model, costNanoUsd: toNanoUsd(rollup.costNanoUsd), tokens, count };
    }
  }

  /** Every call that still counts, the open ones first. */
  *#callsFrom(fromMs: number): Iterable<CountedCall> {
    for (const { open } of this.#book.openCalls()) yield { status: "open", open };
    const { throughSeq } = this.#statements.archived();
    yield* this.#archivedCallsFrom(fromMs, throughSeq);
    const expired: EndedCall[] = [];
    for (const row of this.#statements.countedCalls(Number.isFinite(fromMs) ? fromMs : 0)) {
      const { status, callId, startedAtMs: atMs, scopes, model, tokens } = row;
      if (row.position <= throughSeq) continue;
      const costNanoUsd = row.costNanoUsd === undefined ? undefined : toNanoUsd(row.costNanoUsd);
      if (status === "settled") yield { status, atMs, scopes, model, costNanoUsd, tokens };
      const ended = status === "expired" ? this.#book.endedCall(callId) : undefined;
      if (ended !== undefined) expired.push(ended);
    }
    for (const ended of expired) yield { status: "expired", ended };
  }
}

/** @param added how many entries a batch added. */
function unfoldedMaxOf(added: number): number {
  return Math.max(UNFOLDED_ENTRIES_MIN, Math.min(UNFOLDED_ENTRIES_MAX, added * UNFOLDED_BATCHES_MAX));
}

/** What an entry may hold as it came. */
function saidOf(operation: Operation, text: string): Said | undefined {
  if (operation.kind === "reserve") return { of: operation.call, text };
  return operation.kind === "settle" ? { of: operation.result, text } : undefined;
}
