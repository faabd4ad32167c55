/**
 * Owns archiving a ledger, also while gateways write it: what is past retention goes to a file, a closing takes its place, and only then
 * it is removed, some entries at a time.
 * Does not own what a closing says (archive-plan.ts) or when this runs.
 * Invariants: nothing is removed that is not on disk in the file and counted in a closing; the lock is held for milliseconds; broken off
 * at any point, the ledger is whole, and the next run goes on from there.
 */
import DatabaseFile, { type Database } from "better-sqlite3";
import { basename, dirname, join, resolve } from "node:path";
import { setImmediate as immediate, setTimeout as pause } from "node:timers/promises";
import { existsSync } from "node:fs";
import { bodyToText } from "./body.ts";
import { ArchiveFile } from "./archive-file.ts";
import { ArchivePlanner, type ArchivePlan } from "./archive-plan.ts";
import { LedgerUnavailableError } from "../ledger.ts";
import { isBusy, isSqlite, unavailableFrom } from "./errors.ts";
import { openFile, openReading } from "./file.ts";
import { referencesIn } from "./references.ts";
import { hashOfEntry } from "./rows.ts";
import {
  prepareDeleteArchived,
  prepareIsTouchedSince,
  prepareReadArchived,
  prepareReadClosings,
  prepareReadNextSeq,
  prepareWriteArchived,
} from "./statements/archived.ts";
import { prepareDeletePastCounter, prepareReadPastCounters } from "./statements/counters.ts";
import { prepareInsertEntries, prepareIterateEntries, prepareReadHead } from "./statements/entries.ts";
import { prepareCountRollups, prepareDeleteRollupsAfter, prepareInsertRollup } from "./statements/rollups.ts";

export interface ArchiveInput {
  /** The ledger. */
  path: string;
  /** What was written before this instant goes (epoch ms). */
  beforeMs: number;
  nowMs: number;
  /** The file to make; absent: one beside the ledger, named by the first entry in it. */
  to?: string;
  /** Asked between two steps; true: no more is begun. */
  isStopped?: () => boolean;
  /** Told after each plan and each transaction, by name: tests break off there. */
  onStep?: (name: ArchiveStep) => void | Promise<void>;
  /** How long another process may hold the lock before this gives up. */
  lockWaitMs?: number;
}

export type ArchiveStep = "leftovers" | "planned" | "rollups" | "closing" | "entries" | "counters";

export type ArchiveOutcome =
  /** Nothing was old enough. What an earlier run left to remove is removed all the same. */
  | { outcome: "nothing" }
  | {
      outcome: "done" | "stopped";
      file: string;
      entryCount: number;
      callCount: number;
      /** The last instant that is archived. */
      toMs: number;
      /** The longest that the lock was held at once. */
      lockMsMax: number;
    }
  /** There is a file of this name already. */
  | { outcome: "exists"; path: string };

/** How long a transaction may take before the next one is made smaller. */
const LOCK_MS_WANTED = 3;
const ROWS_AT_ONCE = { min: 8, first: 50, max: 500 };
const TRANSACTIONS_PER_CHECKPOINT = 50;
/** Between two transactions: whoever waits for the lock gets it. */
const PAUSE_MS = 2;
const LOCK_WAIT_MS = 5_000;
const TRIES_MAX = 5;

/**
 * Archives what was written before an instant.
 *
 * @throws {@link LedgerUnavailableError} if the ledger cannot be read or locked; {@link LedgerUnusableError} if it is damaged or no
 * ledger; errors of the file system if the file cannot be written: nothing is removed then.
 */
export async function archiveSqliteLedger(input: ArchiveInput): Promise<ArchiveOutcome> {
  if (input.to !== undefined && existsSync(input.to)) return { outcome: "exists", path: resolve(input.to) };
  try {
    const done = holdTurn(input.path);
    try {
      const run = new Archiving(input, await openUnlocked(input));
      try {
        return await run.all();
      } finally {
        run.close();
      }
    } finally {
      done();
    }
  } catch (error) {
    throw isSqlite(error) ? unavailableFrom(input.path, error) : error;
  }
}

/**
 * One process archives a ledger at a time: two would write roll-ups of the same calls. The turn is the lock of a small file beside it, which
 * goes with the process, however that ends.
 *
 * @returns gives the turn back. @throws LedgerUnavailableError if another process has it.
 */
function holdTurn(path: string): () => void {
  const file = `${path}-archiving`;
  const db = new DatabaseFile(file, { timeout: 0 });
  try {
    db.exec("begin exclusive");
  } catch (error) {
    db.close();
    if (!isBusy(error)) throw error;
    throw new LedgerUnavailableError(`ledger ${path}: another process archives it; nothing was done`, { cause: error });
  }
  return () => db.close();
}

/** Opens the writing connection; who recovers or migrates the file meanwhile is waited for. */
async function openUnlocked({ path, lockWaitMs = LOCK_WAIT_MS }: ArchiveInput): Promise<Database> {
  const untilMs = performance.now() + lockWaitMs;
  for (;;) {
    try {
      return openFile({ path, pagesMax: undefined });
    } catch (error) {
      if (!isBusy(error) || performance.now() > untilMs) throw error;
    }
    await pause(PAUSE_MS);
  }
}

class Archiving {
  readonly #input: ArchiveInput;
  readonly #writing: Database;
  readonly #reading: Database;
  readonly #write;
  readonly #planner: ArchivePlanner;
  #file: ArchiveFile | undefined;
  #rowsAtOnce = ROWS_AT_ONCE.first;
  #lockMsMax = 0;
  #transactions = 0;

  constructor(input: ArchiveInput, db: Database) {
    this.#input = input;
    this.#writing = db;
    // Copying the log into the file takes far longer than a transaction: it is done between two of them, without the lock.
    db.pragma("wal_autocheckpoint = 0");
    this.#reading = openReading(input.path);
    this.#planner = new ArchivePlanner(this.#reading);
    this.#write = {
      archived: prepareReadArchived(db),
      setArchived: prepareWriteArchived(db),
      head: prepareReadHead(db),
      entries: prepareInsertEntries(db),
      entriesBetween: prepareIterateEntries(db),
      isTouchedSince: prepareIsTouchedSince(db),
      insertRollup: prepareInsertRollup(db),
      countRollups: prepareCountRollups(db),
      deleteRollupsAfter: prepareDeleteRollupsAfter(db),
      deleteArchived: prepareDeleteArchived(db),
      nextSeq: prepareReadNextSeq(db),
      closings: prepareReadClosings(db),
      pastCounters: prepareReadPastCounters(this.#reading),
      deletePastCounter: prepareDeletePastCounter(db),
    };
  }

  close(): void {
    this.#file?.close();
    this.#reading.close();
    this.#writing.close();
  }

  async all(): Promise<ArchiveOutcome> {
    const { isStopped = () => false } = this.#input;
    await this.#removeLeftovers();
    const done = { entryCount: 0, callCount: 0, toMs: 0 };
    for (let tries = 0; tries < TRIES_MAX && !isStopped();) {
      await this.#readOn();
      const plan = isStopped() ? undefined : this.#plan();
      if (plan === undefined) break;
      await this.#input.onStep?.("planned");
      if (!(await this.#close(plan))) {
        this.#file?.takeBack();
        tries += 1;
        continue;
      }
      this.#file?.keep();
      const { fromSeq, throughSeq, calls, denied, toMs } = plan.closing;
      done.entryCount += throughSeq - fromSeq + 1;
      done.callCount += calls + denied;
      done.toMs = toMs;
    }
    await this.#removeArchived(isStopped);
    await this.#removePastCounters(isStopped);
    if (this.#file === undefined || done.entryCount === 0) return { outcome: "nothing" };
    return { outcome: isStopped() ? "stopped" : "done", file: this.#file.path, ...done, lockMsMax: this.#lockMsMax };
  }

  #plan(): ArchivePlan | undefined {
    return this.#reading.transaction(() =>
      this.#planner.next(this.#input.beforeMs, (begin) => (this.#file ??= new ArchiveFile(this.#nameFor(begin.fromSeq), begin))),
    )();
  }

  /** Looks at the entries that came meanwhile, so that few are left to look at while the lock is held. */
  async #readOn(): Promise<void> {
    while (!(this.#input.isStopped?.() ?? false) && this.#planner.readOn()) await immediate();
  }

  #nameFor(fromSeq: number): string {
    const { to, path } = this.#input;
    if (to !== undefined) return resolve(to);
    const name = (more: string): string => join(dirname(resolve(path)), `${basename(path)}.archive-${fromSeq}${more}.jsonl`);
    // A run that broke off before it removed anything left a file of this name.
    for (let count = 1; ; count += 1) {
      const free = name(count === 1 ? "" : `-${count}`);
      if (!existsSync(free)) return free;
    }
  }

  /** Roll-ups whose closing never came to be. */
  async #removeLeftovers(): Promise<void> {
    for (let changes = 1; changes > 0;) {
      changes = await this.#locked("leftovers", (rows) => {
        const { throughSeq } = this.#write.archived();
        return this.#write.deleteRollupsAfter(throughSeq, rows);
      });
    }
  }

  /** @returns false if something changed since it was planned. */
  async #close(plan: ArchivePlan): Promise<boolean> {
    this.#file?.sync();
    for (let at = 0; at < plan.rollups.length;) {
      at += await this.#locked("rollups", (rows) => {
        const some = plan.rollups.slice(at, at + rows);
        for (const columns of some) this.#write.insertRollup(columns);
        return some.length;
      });
    }
    await this.#readOn();
    const isClosed = this.#planner.isStillRight(plan) && (await this.#locked("closing", () => this.#writeClosing(plan)));
    if (!isClosed) await this.#removeLeftovers();
    return isClosed;
  }

  /** From here on its entries are no more; that they are still there changes nothing. */
  #writeClosing(plan: ArchivePlan): boolean {
    const { closing, charges, rollups, folded, previous } = plan;
    const { throughSeq, throughHash, untilMs } = closing;
    const head = this.#write.head();
    const isAsPlanned =
      this.#write.archived().throughSeq === previous.throughSeq &&
      this.#write.countRollups(throughSeq) === rollups.length &&
      !this.#write.isTouchedSince({ afterSeq: folded, throughSeq }) &&
      !this.#isNamedBehind(plan, head.seq);
    if (!isAsPlanned) return false;
    const row = {
      seq: head.seq + 1,
      kind: "closed" as const,
      callId: "",
      atMs: this.#input.nowMs,
      costNanoUsd: undefined,
      charges,
    };
    const body = bodyToText(closing);
    const hash = hashOfEntry({ ...row, body, previousHash: head.hash });
    this.#write.entries([{ ...row, body, hash }]);
    this.#write.setArchived({ throughSeq, hash: throughHash, untilMs });
    return true;
  }

  /** True if an entry that was not yet looked at refers to one that is to go. */
  #isNamedBehind({ closing: { throughSeq, kept } }: ArchivePlan, toSeq: number): boolean {
    const isKept = new Set(kept.map(([seq]) => seq));
    for (const row of this.#write.entriesBetween(this.#planner.readUpToSeq + 1, toSeq)) {
      if (referencesIn(row).some((seq) => seq <= throughSeq && !isKept.has(seq))) return true;
    }
    return false;
  }

  async #removeArchived(isStopped: () => boolean): Promise<void> {
    const { throughSeq } = this.#write.archived();
    const kept =
      this.#write
        .closings(0)
        .at(-1)
        ?.body.kept.map(([seq]) => seq) ?? [];
    const isKept = new Set(kept);
    for (let next = this.#firstOf(1, throughSeq, isKept); next !== undefined && !isStopped();) {
      const from = next;
      const to = await this.#locked("entries", (rows) => {
        const last = Math.min(throughSeq, from + rows - 1);
        this.#write.deleteArchived(from, last, kept);
        return last;
      });
      next = this.#firstOf(to + 1, throughSeq, isKept);
    }
  }

  #firstOf(fromSeq: number, throughSeq: number, isKept: ReadonlySet<number>): number | undefined {
    let seq = this.#write.nextSeq(fromSeq);
    while (seq !== undefined && isKept.has(seq)) seq = this.#write.nextSeq(seq + 1);
    return seq !== undefined && seq <= throughSeq ? seq : undefined;
  }

  async #removePastCounters(isStopped: () => boolean): Promise<void> {
    const { untilMs } = this.#write.archived();
    let after: readonly [string, string, string] | undefined;
    for (let isMore = true; isMore && !isStopped();) {
      const page = this.#write.pastCounters(after, ROWS_AT_ONCE.max);
      const over = page.filter((counter) => counter.untilMs <= untilMs);
      for (let at = 0; at < over.length;) {
        at += await this.#locked("counters", (rows) => {
          const some = over.slice(at, at + rows);
          for (const { key } of some) this.#write.deletePastCounter(key);
          return some.length;
        });
      }
      after = page.at(-1)?.key;
      isMore = page.length > 0;
    }
  }

  /** Runs one transaction, with as many rows as the time for it allows. */
  async #locked<T>(name: ArchiveStep, step: (rows: number) => T): Promise<T> {
    const untilMs = performance.now() + (this.#input.lockWaitMs ?? LOCK_WAIT_MS);
    for (;;) {
      try {
        const value = this.#timed(step);
        if ((this.#transactions += 1) % TRANSACTIONS_PER_CHECKPOINT === 0) this.#writing.pragma("wal_checkpoint(passive)");
        await this.#input.onStep?.(name);
        await pause(PAUSE_MS);
        return value;
      } catch (error) {
        if (!isBusy(error)) throw error;
        if (performance.now() > untilMs) {
          throw new LedgerUnavailableError(`ledger ${this.#input.path}: another program holds its lock`, { cause: error });
        }
      }
      await pause(PAUSE_MS);
    }
  }

  #timed<T>(step: (rows: number) => T): T {
    const db = this.#writing;
    db.exec("begin immediate");
    const startedMs = performance.now();
    try {
      const value = step(this.#rowsAtOnce);
      db.exec("commit");
      const tookMs = performance.now() - startedMs;
      this.#lockMsMax = Math.max(this.#lockMsMax, tookMs);
      const factor = tookMs > LOCK_MS_WANTED ? 0.5 : 1.5;
      this.#rowsAtOnce = Math.min(ROWS_AT_ONCE.max, Math.max(ROWS_AT_ONCE.min, Math.round(this.#rowsAtOnce * factor)));
      return value;
    } catch (error) {
      if (db.inTransaction) db.exec("rollback");
      throw error;
    }
  }
}
