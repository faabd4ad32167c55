/**
 * Owns the proof that a ledger file is what was written: everything is recomputed from the entries, with its own statements and its
 * own hashing, and compared with what is stored beside them.
 * Does not own repairing anything. Shares no code with the rules or with the writing side: a mistake there must show here.
 * Invariant: whatever the file holds, the answer is a report; a file that cannot be read is a difference.
 */
import Database, { SqliteError } from "better-sqlite3";
import { createHash } from "node:crypto";
import { statSync } from "node:fs";
import { crc32 } from "node:zlib";
import { LedgerUnavailableError } from "../ledger.ts";
import { APPLICATION_ID, CHECK_SUM_FUNCTION, MIGRATIONS, SCHEMA_VERSION } from "./migrations/migrations.ts";
import { checkRollups, readArchived, type ArchivedState } from "./verify-archived.ts";
import { CallsCheck } from "./verify-calls.ts";
import { Charges } from "./verify-charges.ts";
import type { ChainHead } from "./statements/entries.ts";
import { findWalDamage, sentenceOfDamage } from "./wal.ts";
import { readWitness, sentenceOfLoss } from "./witness.ts";
import { findWrongCounters, type WrongCounter } from "./statements/verify-counters.ts";

/** What was found. */
export interface VerifyReport {
  path: string;
  entryCount: number;
  callCount: number;
  counterCount: number;
  /** One sentence each: file, entry or counter, what is stored, what it should be. Empty: everything agrees. */
  differences: readonly string[];
  /** True if there were more differences than are listed. */
  isCut: boolean;
}

/** More than anybody reads; a damaged page alone can make thousands. */
const DIFFERENCES_MAX = 200;
/** Entries looked at between two reports of progress. */
const STEP_ENTRIES = 10_000;

/**
 * Recomputes a ledger file from its entries. Reads one moment of it, also while a gateway writes.
 *
 * @param onProgress told from time to time how much of the work is done, 0…1.
 * @throws LedgerUnavailableError if there is no file, or another program locks it.
 */
export function verifySqliteLedger(path: string, { onProgress }: { onProgress?: (share: number) => void } = {}): VerifyReport {
  const check = new Verification(path, onProgress ?? (() => undefined));
  try {
    check.run();
  } finally {
    check.close();
  }
  return check.report();
}

interface WitnessedEntry {
  seq: bigint;
  hash: Buffer;
}

class Verification {
  readonly #path: string;
  readonly #onProgress: (share: number) => void;
  readonly #differences: string[] = [];
  #db: Database.Database | undefined;
  #isCut = false;
  #entryCount = 0;
  #callCount = 0;
  #counterCount = 0;
  #sums: Charges["sums"] = new Map();
  #isNoneYet = false;
  #applicationId = 0;
  #version = 0;
  /** How far the ledger had come before, as its witness says. */
  #witness: ChainHead | undefined;
  /** Up to this entry the projections hold what the entries say; those behind it are a process's memory until they are folded. */
  #folded = 0n;
  #archived: ArchivedState | undefined;

  constructor(path: string, onProgress: (share: number) => void) {
    this.#path = path;
    this.#onProgress = onProgress;
  }

  run(): void {
    const isOpen = this.#try("the file", () => this.#open());
    if (!isOpen) return;
    if (this.#isNoneYet) {
      this.#differs("it holds no ledger yet: whoever was to make one ended before; the next start makes it");
      return this.#checkEnd([]);
    }
    const steps: [string, (db: Database.Database) => void][] = [
      ["the schema", (db) => this.#checkSchema(db)],
      ["the pages", (db) => this.#checkPages(db)],
      ["what is archived", (db) => this.#readArchived(db)],
      ["the entries", (db) => this.#checkEntries(db)],
      ["the end of the entries", (db) => this.#checkEnd(this.#witnessedEntries(db))],
      ["the counters", (db) => this.#checkCounters(db)],
      ["the check sums", (db) => this.#checkSums(db)],
    ];
    for (const [what, step] of steps) this.#try(what, () => step(this.#opened()));
    this.#onProgress(1);
  }

  close(): void {
    this.#db?.close();
  }

  report(): VerifyReport {
    return {
      path: this.#path,
      entryCount: this.#entryCount,
      callCount: this.#callCount,
      counterCount: this.#counterCount,
      differences: this.#differences,
      isCut: this.#isCut,
    };
  }

  #opened(): Database.Database {
    if (this.#db === undefined) throw new Error("the file is not open");
    return this.#db;
  }

  #differs(sentence: string): void {
    if (this.#differences.length < DIFFERENCES_MAX) this.#differences.push(`${this.#path}: ${sentence}`);
    else this.#isCut = true;
  }

  /** A damaged file fails in many ways; each is a finding, and the other checks still run. */
  #try(what: string, step: () => void): boolean {
    try {
      step();
      return true;
    } catch (error) {
      if (error instanceof LedgerUnavailableError) throw error;
      if (error instanceof SqliteError && error.code.startsWith("SQLITE_BUSY")) {
        throw new LedgerUnavailableError(`ledger ${this.#path}: another program locks it: ${error.message}`, { cause: error });
      }
      this.#differs(`${what} cannot be read: ${error instanceof Error ? error.message : String(error)}`);
      return false;
    }
  }

  #open(): void {
    const size = sizeOf(this.#path);
    const damage = findWalDamage(this.#path);
    if (damage !== undefined) this.#differs(sentenceOfDamage(damage));
    this.#witness = readWitness(this.#path);
    const db = new Database(this.#path, { readonly: true, fileMustExist: true, timeout: 1_000 });
    this.#db = db;
    db.defaultSafeIntegers(true);
    db.pragma("trusted_schema = off");
    db.pragma("cell_size_check = on");
    db.exec("begin");
    this.#applicationId = Number(db.pragma("application_id", { simple: true }));
    this.#version = Number(db.pragma("user_version", { simple: true }));
    // Before the first transaction is done there is nothing at all.
    const tables = db.prepare<[], { count: bigint }>("select count(*) as count from sqlite_schema").get()?.count;
    this.#isNoneYet = tables === 0n && this.#version === 0 && this.#applicationId === 0;
    const pageBytes = Number(db.pragma("page_size", { simple: true }));
    if (size % pageBytes !== 0) this.#differs(`it has ${size} bytes, which is no multiple of its page size ${pageBytes}`);
  }

  /** Compares every table, index and trigger with those that the migrations make. */
  #checkSchema(db: Database.Database): void {
    if (this.#applicationId !== APPLICATION_ID) {
      this.#differs(`its application id is ${this.#applicationId}; a ledger's is ${APPLICATION_ID}`);
    }
    if (this.#version !== SCHEMA_VERSION) {
      this.#differs(`its schema version is ${this.#version}; this program knows ${SCHEMA_VERSION}`);
    }
    const expected = new Database(":memory:");
    expected.function(
      CHECK_SUM_FUNCTION,
      { varargs: true, safeIntegers: true },
      (table: string, ...values: (string | bigint | null)[]) => BigInt(checkSum(table, values)),
    );
    for (const { sql } of MIGRATIONS) expected.exec(sql);
    const read = (of: Database.Database): Map<string, string> =>
      new Map(
        of
          .prepare<[], { name: string; type: string; sql: string | null }>("select name, type, sql from sqlite_schema")
          .all()
          .map(({ name, type, sql }) => [`${type} ${name}`, sql ?? ""]),
      );
    const [wanted, found] = [read(expected), read(db)];
    expected.close();
    for (const [name, sql] of wanted) {
      if (found.get(name) !== sql) this.#differs(`${name} is ${found.has(name) ? "not defined as it was made" : "missing"}`);
    }
    for (const name of found.keys()) if (!wanted.has(name)) this.#differs(`${name} does not belong into a ledger`);
  }

  #checkPages(db: Database.Database): void {
    const rows = db.pragma(`integrity_check(${DIFFERENCES_MAX})`) as { integrity_check: string }[];
    for (const { integrity_check: found } of rows) if (found !== "ok") this.#differs(`integrity check: ${found}`);
  }

  /** Without it nothing else can be checked. */
  #readArchived(db: Database.Database): void {
    const archived = readArchived(db, (sentence) => this.#differs(sentence));
    this.#archived = archived;
    const read = db.prepare<[bigint], StoredEntry>(`select ${ENTRY_COLUMNS} from entries where seq = ?`);
    for (const [seq, previousHash] of archived.kept) {
      const row = read.get(seq);
      if (row === undefined) this.#differs(`entry ${seq} is missing; later ones refer to it`);
      else if (!chainHash(Buffer.from(previousHash, "hex"), row).equals(row.hash))
        this.#differs(`entry ${seq}, which was kept when those around it were archived, is not what was written`);
    }
    checkRollups(db, archived, (sentence) => this.#differs(sentence));
  }

  #archivedState(): ArchivedState {
    if (this.#archived === undefined) throw new Error("what is archived is not known");
    return this.#archived;
  }

  /** The chain, and the life of every call, in one pass. */
  #checkEntries(db: Database.Database): void {
    const archived = this.#archivedState();
    const calls = new CallsCheck(db, (sentence) => this.#differs(sentence), archived);
    const total = Number(db.prepare<[], { last: bigint | null }>("select max(seq) as last from entries").get()?.last ?? 0);
    this.#folded = db.prepare<[], { seq: bigint }>("select seq from folded where id = 1").get()?.seq ?? 0n;
    if (this.#folded > total) this.#differs(`its projections hold ${this.#folded} entries, of which there are ${total}`);
    const charges = new Charges(db);
    this.#sums = charges.sums;
    let hash: Uint8Array = archived.hash;
    let expectedSeq = Number(archived.throughSeq) + 1;
    for (const row of entriesOf(db, archived.throughSeq)) {
      const seq = Number(row.seq);
      if (row.seq === this.#folded + 1n) calls.compareStored();
      this.#entryCount += 1;
      if (seq !== expectedSeq) this.#differs(`entry ${expectedSeq} is missing; the next one is ${seq}`);
      const recomputed = chainHash(hash, row);
      if (!recomputed.equals(row.hash)) {
        this.#differs(`entry ${seq}: its stored hash is ${row.hash.toString("hex")}, recomputed ${recomputed.toString("hex")}`);
      }
      const charged = charges.read(row);
      if (charged === undefined) this.#differs(`entry ${seq}: what it charges cannot be read`);
      // What a closing carries on stands for entries that were folded.
      if (row.seq <= this.#folded || row.kind === "closed") charges.add(charged ?? []);
      calls.read(row, charged ?? []);
      hash = row.hash;
      expectedSeq = seq + 1;
      if (this.#entryCount % STEP_ENTRIES === 0) this.#onProgress((this.#entryCount / Math.max(1, total)) * 0.9);
    }
    calls.compareStored();
    this.#callCount = calls.callCount;
  }

  /** The entry that the witness names, if it is there, and the last one. */
  #witnessedEntries(db: Database.Database): WitnessedEntry[] {
    const rows = db.prepare<[bigint], WitnessedEntry>(
      "select seq, hash from entries where seq = ? union all select * from (select seq, hash from entries order by seq desc limit 1)",
    );
    return rows.all(BigInt(this.#witness?.seq ?? 0));
  }

  /** Whether the ledger still has what was seen of it before. */
  #checkEnd(found: readonly WitnessedEntry[]): void {
    const last = found.at(-1);
    const loss = sentenceOfLoss(this.#path, {
      witness: this.#witness,
      head: { seq: Number(last?.seq ?? 0), hash: last?.hash.toString("hex") ?? "" },
      hashAt: (seq) => found.find((row) => Number(row.seq) === seq)?.hash.toString("hex"),
    });
    if (loss !== undefined) this.#differs(loss);
  }

  #checkCounters(db: Database.Database): void {
    const { wrong, count } = findWrongCounters(db, this.#sums, this.#archivedState().untilMs);
    this.#counterCount = count;
    for (const counter of wrong) this.#differs(sentenceOf(counter));
  }

  #checkSums(db: Database.Database): void {
    const tables = [
      "folded",
      "unfolded_states",
      "counters",
      "past_counters",
      "open_calls",
      "calls",
      "configs",
      "owners",
      "keys",
      "archived",
      "batches",
      "rollups",
    ];
    for (const table of tables) this.#try(`table ${table}`, () => this.#checkTable(db, table));
  }

  #checkTable(db: Database.Database, table: string): void {
    const columns = db
      .prepare<[string], { name: string }>("select name from pragma_table_info(?) order by cid")
      .all(table)
      .map(({ name }) => name)
      .filter((name) => name !== "check_sum");
    const rows = db.prepare<[], Record<string, string | bigint | Buffer | null>>(
      `select ${columns.join(", ")}, check_sum from ${table}`,
    );
    for (const row of rows.iterate()) {
      const values = columns.map((name) => row[name] ?? null);
      const stored = row["check_sum"];
      if (stored !== BigInt(checkSum(table, values))) {
        this.#differs(`table ${table}, row ${JSON.stringify(values[0]?.toString())}: its check sum does not fit its columns`);
      }
    }
  }
}

function sizeOf(path: string): number {
  try {
    return statSync(path).size;
  } catch (error) {
    throw new LedgerUnavailableError(
      `ledger ${path}: it cannot be read: ${error instanceof Error ? error.message : String(error)}`,
      {
        cause: error,
      },
    );
  }
}

/** An entry as it is stored. */
export interface StoredEntry {
  seq: bigint;
  kind: string;
  call_id: string;
  at_ms: bigint;
  cost_nano_usd: bigint | null;
  charges: string;
  body: string;
  hash: Buffer;
}

const ENTRY_COLUMNS = "seq, kind, call_id, at_ms, cost_nano_usd, charges, body, hash";

function entriesOf(db: Database.Database, afterSeq: bigint): IterableIterator<StoredEntry> {
  return db
    .prepare<[bigint], StoredEntry>(`select ${ENTRY_COLUMNS} from entries not indexed where seq > ? order by seq`)
    .iterate(afterSeq);
}

/** What an entry's hash must be: SHA-256 over the hash before, in hex, and every column, a line each. */
function chainHash(previous: Uint8Array, row: StoredEntry): Buffer {
  const digest = createHash("sha256");
  digest.update(`${Buffer.from(previous).toString("hex")}\n${row.seq}\n${row.kind}\n${JSON.stringify(row.call_id)}\n`);
  digest.update(`${row.at_ms}\n${row.cost_nano_usd ?? "-"}\n${row.charges}\n${row.body}`);
  return digest.digest();
}

/** What a row's check sum must be: CRC-32 over the table's name and every column, a line each, `+` before what is not null. */
function checkSum(table: string, values: readonly (string | bigint | Buffer | null)[]): number {
  return crc32([table, ...values.map((value) => (value === null ? "-" : `+${value.toString()}`))].join("\n"));
}

function sentenceOf(counter: WrongCounter): string {
  const { scopeKey, what, windowKey, stored, recomputed } = counter;
  const name = `counter "${scopeKey} ${what} ${windowKey}"`;
  if (stored === undefined)
    return `${name} is missing; its entries sum to spent ${recomputed.spent}, reserved ${recomputed.reserved}`;
  const found = `spent ${stored.spent}, reserved ${stored.reserved} are stored`;
  if (recomputed === undefined) return `${name}: ${found}, but no entry charges it`;
  return `${name}: ${found}; its entries sum to spent ${recomputed.spent}, reserved ${recomputed.reserved}`;
}
