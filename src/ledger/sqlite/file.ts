/**
 * Owns how the ledger's file is opened, created and checked before it is trusted.
 * Does not own what is in it (cached-book.ts, queries.ts).
 * Invariant: start-up ends with a file of this version that reads consistently up to its last entry, or with an error that names the
 * file, what was found, and how to restore.
 */
import Database from "better-sqlite3";
import { accessSync, closeSync, constants, existsSync, mkdirSync, openSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { LedgerUnavailableError, type LedgerUnusableError } from "../ledger.ts";
import { CorruptRowError, isBusy, isSqlite, unusable } from "./errors.ts";
import { APPLICATION_ID, CHECK_SUM_FUNCTION, MIGRATIONS, SCHEMA_VERSION } from "./migrations/migrations.ts";
import { checkSumOf, FIRST_HASH, hashOfEntry } from "./rows.ts";
import { prepareReadArchived } from "./statements/archived.ts";
import { prepareReadConfig } from "./statements/configs.ts";
import { prepareReadHash, prepareReadHead, prepareReadTail, type ChainHead } from "./statements/entries.ts";
import { prepareReadFolded } from "./statements/folded.ts";
import { prepareReadKeys } from "./statements/keys.ts";
import { prepareReadOpenCalls } from "./statements/open-calls.ts";
import { prepareReadOwners } from "./statements/owners.ts";
import { findWalDamage, sentenceOfDamage } from "./wal.ts";
import { readWitness, sentenceOfLoss } from "./witness.ts";

/** Entries whose chain is checked at start: those a crash or a cut file could have touched. `verify` checks all. */
const TAIL_ENTRIES = 1_000;

/**
 * Up to this size every page is looked at when the ledger is opened (some tenths of a second); of larger files the end is, and each row
 * when it is read: a start must not take longer the older a ledger is.
 */
const CHECKED_BYTES_MAX = 64 * 1024 * 1024;

const RESTORE =
  "Restore a backup, or move the file and those beside it away to begin a new ledger; `purser verify` lists what differs";

const RETURN =
  "Put back the newest file together with its -wal; if this one is meant, or a new ledger is to begin, move the -witness file away";

/** How the writing connection is set up. */
export interface OpenInput {
  path: string;
  /** The file's page limit; `undefined`: SQLite's own. */
  pagesMax: number | undefined;
}

/**
 * Creates the file and its folder if they are missing: 0600 and 0700, for the owner alone.
 *
 * @remarks A file that is there is never opened here: closing it would drop every lock that this process holds on it (POSIX), and
 * another process could then take the write-ahead log from under a connection.
 */
function createFile(path: string): void {
  try {
    createFolder(dirname(path));
    if (existsSync(path)) accessSync(path, constants.R_OK | constants.W_OK);
    else createEmpty(path);
    if (!statSync(path).isFile()) throw new Error("it is no file");
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw unusable(
      path,
      `it cannot be created or written: ${message}`,
      "Name a file in a folder that this user may write to",
      error,
    );
  }
}

function createEmpty(path: string): void {
  try {
    closeSync(openSync(path, "wx", 0o600));
  } catch (error) {
    // Another process may have made it at the same moment.
    if (!existsSync(path)) throw error;
  }
}

/** One level after the other: Node's own recursive way never ends where a file system refuses a folder with ENOENT, as /proc does. */
function createFolder(folder: string): void {
  if (existsSync(folder)) return;
  createFolder(dirname(folder));
  try {
    mkdirSync(folder, { mode: 0o700 });
  } catch (error) {
    // Another process may have made it at the same moment.
    if (!existsSync(folder)) throw error;
  }
}

/** Looks at the log beside the file before SQLite does. @throws LedgerUnusableError if answered calls in it would be lost. */
function checkLog(path: string): void {
  const damage = findWalDamage(path);
  if (damage !== undefined) throw unusable(path, sentenceOfDamage(damage), RESTORE);
}

/**
 * Opens a ledger file to write it: what is missing is created, what is older is brought to this version, and nothing is trusted that was
 * not checked. The caller tries again where another process holds the lock.
 *
 * @throws LedgerUnusableError naming what is wrong; SqliteError, busy among them.
 */
export function openFile(input: OpenInput): Database.Database {
  createFile(input.path);
  checkLog(input.path);
  // Before the ledger itself, which another process may write meanwhile.
  const witness = readWitness(input.path);
  const db = openWriting(input);
  try {
    checkWitness(db, input.path, witness);
    migrate(db, input.path);
    checkFile(db, input.path);
    return db;
  } catch (error) {
    db.close();
    throw error;
  }
}

/**
 * Opens the writing connection; the schema is not looked at yet. No waiting for locks: the caller tries again.
 *
 * @throws SqliteError; busy while another process recovers or exclusively locks the file.
 */
function openWriting({ path, pagesMax }: OpenInput): Database.Database {
  const db = new Database(path, { timeout: 0 });
  try {
    db.defaultSafeIntegers(true);
    setUp(db);
    db.pragma("journal_mode = wal");
    db.pragma("synchronous = full");
    // 16 MB of log between two checkpoints: pages of busy counters are copied a quarter as often as with SQLite's own 4 MB.
    db.pragma("wal_autocheckpoint = 4000");
    db.pragma("journal_size_limit = 67108864");
    if (pagesMax !== undefined) db.pragma(`max_page_count = ${pagesMax}`);
    return db;
  } catch (error) {
    db.close();
    throw error;
  }
}

/** Opens a connection that only reads. It waits for a moment where a checkpoint ends; readers are never locked out for long. */
export function openReading(path: string): Database.Database {
  const db = new Database(path, { readonly: true, fileMustExist: true, timeout: 1_000 });
  db.defaultSafeIntegers(true);
  setUp(db);
  return db;
}

function setUp(db: Database.Database): void {
  // Nothing in the file may run code of its own choosing, and damaged cells are found when they are read.
  db.pragma("trusted_schema = off");
  db.pragma("cell_size_check = on");
  db.pragma("temp_store = memory");
  db.pragma("cache_size = -16000");
}

const NO_ENTRIES: ChainHead = { seq: 0, hash: FIRST_HASH };

/** Compares the end of the chain with what was seen of it before. @throws LedgerUnusableError if that is not there. */
function checkWitness(db: Database.Database, path: string, witness: ChainHead | undefined): void {
  if (witness === undefined) return;
  const isEmpty = readVersion(db, path) === 0;
  const loss = sentenceOfLoss(path, {
    witness,
    head: isEmpty ? NO_ENTRIES : prepareReadHead(db)(),
    hashAt: (seq) => prepareReadHash(db)(seq),
  });
  if (loss !== undefined) throw unusable(path, loss, RETURN);
}

/** Brings the schema to this version, in one transaction. @throws LedgerUnusableError if the file is no ledger, or a newer one. */
function migrate(db: Database.Database, path: string): void {
  // Columns as a row binds them: integers, texts and nulls.
  db.function(
    CHECK_SUM_FUNCTION,
    { varargs: true, safeIntegers: true },
    (table: string, ...columns: (string | bigint | null)[]) => BigInt(checkSumOf(table, columns)),
  );
  db.exec("begin immediate");
  try {
    const version = readVersion(db, path);
    for (const { sql } of MIGRATIONS.slice(version)) db.exec(sql);
    if (version < SCHEMA_VERSION) {
      db.pragma(`application_id = ${APPLICATION_ID}`);
      db.pragma(`user_version = ${SCHEMA_VERSION}`);
    }
    db.exec("commit");
  } catch (error) {
    if (db.inTransaction) db.exec("rollback");
    throw error;
  }
}

/** The schema version of a file; 0: an empty one. @throws LedgerUnusableError if it is not ours, or newer. */
export function readVersion(db: Database.Database, path: string): number {
  const version = Number(db.pragma("user_version", { simple: true }));
  const applicationId = Number(db.pragma("application_id", { simple: true }));
  const tables = Number(db.prepare<[], { count: bigint }>("select count(*) as count from sqlite_schema").get()?.count);
  if (tables === 0 && version === 0 && applicationId === 0) return 0;
  if (applicationId !== APPLICATION_ID || version < 1 || tables === 0) {
    throw unusable(
      path,
      `it is a SQLite database, but no ledger of Purser (application id ${applicationId}, version ${version})`,
      "Name another file",
    );
  }
  if (version > SCHEMA_VERSION) {
    throw unusable(
      path,
      `it was written by a newer version of Purser (schema ${version}; this one knows up to ${SCHEMA_VERSION})`,
      "Update Purser, or restore a backup made before the update",
    );
  }
  return version;
}

/** Looks at what a crash, a cut or a damaged disk would have changed. @throws LedgerUnusableError naming what differs. */
function checkFile(db: Database.Database, path: string): void {
  try {
    const pages = Number(db.pragma("page_count", { simple: true }));
    const pageBytes = Number(db.pragma("page_size", { simple: true }));
    if (pages * pageBytes <= CHECKED_BYTES_MAX) checkPages(db, path);
    checkTail(db, path);
    prepareReadConfig(db)();
    prepareReadOpenCalls(db)();
    prepareReadOwners(db)();
    prepareReadKeys(db)();
  } catch (error) {
    if (error instanceof CorruptRowError) throw unusable(path, error.message, RESTORE, error);
    throw error;
  }
}

function checkPages(db: Database.Database, path: string): void {
  const found = db.pragma("quick_check(1)", { simple: true });
  if (found !== "ok") throw unusable(path, `its pages are damaged: ${String(found)}`, RESTORE);
}

function checkTail(db: Database.Database, path: string): void {
  const head = prepareReadHead(db)();
  // What is not folded is believed because of the chain alone.
  const archived = prepareReadArchived(db)();
  const firstSeq = archived.throughSeq + 1;
  const fromSeq = Math.max(firstSeq, Math.min(head.seq - TAIL_ENTRIES, prepareReadFolded(db)()));
  const rows = prepareReadTail(db)(fromSeq);
  let previousHash = fromSeq === firstSeq ? archived.hash : undefined;
  rows.forEach((row, index) => {
    const seq = fromSeq + index;
    const isNext = row.seq === seq;
    if (!isNext || (previousHash !== undefined && hashOfEntry({ ...row, previousHash }) !== row.hash)) {
      throw unusable(path, `entry ${seq} is not what was written: ${isNext ? "its hash differs" : "it is missing"}`, RESTORE);
    }
    previousHash = row.hash;
  });
}

/** What start-up makes of a failure while opening. */
export function openingErrorFrom(path: string, error: unknown): LedgerUnusableError | LedgerUnavailableError {
  if (error instanceof LedgerUnavailableError) return error;
  if (isBusy(error)) {
    return new LedgerUnavailableError(
      `ledger ${path}: another program holds its lock (found: ${messageOf(error)}). Close that program, or name another file`,
      { cause: error },
    );
  }
  if (isSqlite(error)) return unusable(path, `${describe(path)}: ${messageOf(error)}`, RESTORE, error);
  return error instanceof Error && error.name === "LedgerUnusableError"
    ? (error as LedgerUnusableError)
    : unusable(path, messageOf(error), RESTORE, error);
}

function describe(path: string): string {
  try {
    return `it cannot be read as a ledger (${statSync(path).size} bytes)`;
  } catch {
    // The size is only for the reader of the message; the failure itself is in it.
    return "it cannot be read as a ledger";
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
