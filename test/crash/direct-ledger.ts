/**
 * The SQLite ledger in one thread: the same file, opened by the same steps, and the same batches and queries as in its threads, carried
 * out before a function returns. For processes that are forked, and for opening thousands of files.
 */
import type { Database } from "better-sqlite3";
import type { Operation } from "../../src/core/decisions/operations.ts";
import type { Ledger } from "../../src/ledger/ledger.ts";
import { Batches } from "../../src/ledger/sqlite/batch.ts";
import { unavailableFrom } from "../../src/ledger/sqlite/errors.ts";
import { openFile, openReading, openingErrorFrom } from "../../src/ledger/sqlite/file.ts";
import { readError, type Query, type Work } from "../../src/ledger/sqlite/messages.ts";
import { operationsToText, resultsFromText } from "../../src/ledger/sqlite/operation-text.ts";
import { Queries } from "../../src/ledger/sqlite/queries.ts";

/** Every question is answered at once; the promises are those of the port. */
export class DirectLedger implements Ledger {
  readonly #path: string;
  readonly #writing: Database;
  readonly #batches: Batches;
  #reading: { db: Database; queries: Queries } | undefined;

  /** @throws as a start of the ledger does. */
  constructor(path: string) {
    this.#path = path;
    try {
      this.#writing = openFile({ path, pagesMax: undefined });
    } catch (error) {
      throw openingErrorFrom(path, error);
    }
    this.#batches = new Batches(this.#writing, path, () => performance.now());
  }

  /** Everything in order, in one batch if the time of one is enough. @throws the failure of a batch, or of the first work that failed by itself. */
  run(works: readonly Work[]): unknown[] {
    const asked = works.map((what, id) => ({ id, what }));
    const values: unknown[] = [];
    while (asked.length > 0) {
      const { answers, taken } = this.#batches.run(asked);
      asked.splice(0, taken);
      for (const answer of answers) {
        if (!answer.isOk) throw readError(answer.error);
        values.push(answer.value);
      }
    }
    this.#batches.rest();
    return values;
  }
  /** Operations, each as a caller of its own would ask for it, in one batch. */
  applyAll(operations: readonly Operation[]): void {
    this.run(operations.map((operation) => operationsToText([operation])));
  }
  fold(): void {
    if (this.#batches.isUnfolded) this.#batches.fold();
  }
  /** Writes the log into the file and begins it anew. */
  checkpoint(): void {
    this.#writing.pragma("wal_checkpoint(restart)");
  }
  /** Ends as the writing thread does. */
  end(): void {
    this.fold();
    this.#batches.end();
    this.#reading?.db.close();
    this.#writing.close();
  }

  #do(work: Work): Promise<never> {
    return Promise.resolve(this.run([work])[0] as never);
  }
  #ask(query: Query): Promise<never> {
    try {
      this.#reading ??= openedReading(this.#path);
      return Promise.resolve(this.#reading.queries.answer(query) as never);
    } catch (error) {
      // As the reading thread says it.
      return Promise.reject(unavailableFrom(this.#path, error));
    }
  }

  apply: Ledger["apply"] = (operations) => {
    const [text] = this.run([operationsToText(operations)]);
    return Promise.resolve(resultsFromText(text as string, operations) as never);
  };
  configure: Ledger["configure"] = (rules) => this.#do({ kind: "configure", rules });
  limits: Ledger["limits"] = () => this.#ask({ kind: "limits" });
  beat: Ledger["beat"] = (owner) => this.#do({ kind: "beat", owner });
  owners: Ledger["owners"] = () => this.#ask({ kind: "owners" });
  removeOwner: Ledger["removeOwner"] = (ownerId) => this.#do({ kind: "removeOwner", ownerId });
  openCalls: Ledger["openCalls"] = (ownerId) => this.#ask({ kind: "openCalls", ownerId });
  calls: Ledger["calls"] = (query) => this.#ask({ kind: "calls", query });
  report: Ledger["report"] = (query) => this.#ask({ kind: "report", query });
  scopeStates: Ledger["scopeStates"] = () => this.#ask({ kind: "scopeStates" });
  alerts: Ledger["alerts"] = ({ limit }) => this.#ask({ kind: "alerts", limit });
  addBatch: Ledger["addBatch"] = (batch) => this.#do({ kind: "addBatch", batch });
  updateBatch: Ledger["updateBatch"] = (batch) => this.#do({ kind: "updateBatch", batch });
  removeBatch: Ledger["removeBatch"] = (submissionId) => this.#do({ kind: "removeBatch", submissionId });
  batches: Ledger["batches"] = (query = {}) => this.#ask({ kind: "batches", query });
  createKey: Ledger["createKey"] = (key) => this.#do({ kind: "createKey", key });
  keys: Ledger["keys"] = () => this.#ask({ kind: "keys" });
  revokeKey: Ledger["revokeKey"] = ({ keyId, atMs }) => this.#do({ kind: "revokeKey", keyId, atMs });
  revision: Ledger["revision"] = () => this.#do({ kind: "revision" });
  waitedMs: Ledger["waitedMs"] = () => 0;
  close: Ledger["close"] = () => Promise.resolve(this.end());
}

function openedReading(path: string): { db: Database; queries: Queries } {
  const db = openReading(path);
  return { db, queries: new Queries(db) };
}
