/**
 * Owns copying a ledger while others write it: one moment of the file, page by page, into a new one that is checked before it has its
 * name.
 * Does not own the check (verify.ts).
 * Invariants: the copy is read inside one transaction, so it is the ledger as it stood at one commit, and writers wait for nothing; a
 * file under the name asked for is a whole copy that was found right, never one that broke off; nothing is ever overwritten.
 */
import Database from "better-sqlite3";
import { closeSync, existsSync, fsyncSync, linkSync, openSync, readdirSync, rmSync, statSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { isSqlite, unavailableFrom, unusable } from "./errors.ts";
import { openReading, readVersion } from "./file.ts";
import { SCHEMA_VERSION } from "./migrations/migrations.ts";
import { verifySqliteLedger, type VerifyReport } from "./verify.ts";
import { findWalDamage, sentenceOfDamage } from "./wal.ts";

/** What became of a backup. */
export type BackupOutcome =
  | { outcome: "done"; bytes: number; check: VerifyReport }
  /** The copy is not what was written, because the ledger is not; it was not kept. */
  | { outcome: "damaged"; check: VerifyReport }
  /** There is a file of this name already. */
  | { outcome: "exists"; path: string }
  | { outcome: "stopped" };

export interface BackupInput {
  /** The ledger. */
  path: string;
  /** The file to make. */
  to: string;
  /** Told from time to time how much of the work is done, 0…1. */
  onProgress?: (share: number) => void;
  /** Asked between two steps; true: the copy is given up. */
  isStopped?: () => boolean;
}

/** 4 MB between two looks at whether it is to go on: some milliseconds. */
const STEP_PAGES = 1_000;
/** Copying takes less time than checking the copy. */
const COPY_SHARE = 0.2;

/**
 * Copies a ledger file into a new file for its owner alone, and recomputes the copy from its entries.
 *
 * @throws {@link LedgerUnavailableError} if the ledger cannot be read or the copy cannot be written; {@link LedgerUnusableError} if it
 * is no ledger, or its log is damaged; errors of the file system if the copy cannot be made there.
 */
export async function backupSqliteLedger(input: BackupInput): Promise<BackupOutcome> {
  const to = resolve(input.to);
  if (existsSync(to)) return { outcome: "exists", path: to };
  removeBroken(to);
  const partial = `${to}.${process.pid}.partial`;
  closeSync(openSync(partial, "wx", 0o600));
  try {
    return await copyAndCheck(input, partial, to);
  } catch (error) {
    throw isSqlite(error) ? unavailableFrom(input.path, error) : error;
  } finally {
    removePartial(partial);
  }
}

function removePartial(partial: string): void {
  for (const left of [partial, `${partial}-journal`, `${partial}-wal`, `${partial}-shm`]) rmSync(left, { force: true });
}

/** Removes what backups of this name left behind whose processes were killed. One that runs keeps its own. */
function removeBroken(to: string): void {
  const folder = dirname(to);
  if (!existsSync(folder)) return;
  for (const name of readdirSync(folder)) {
    const pid = name.startsWith(`${basename(to)}.`) ? /^\.(\d+)\.partial$/.exec(name.slice(basename(to).length))?.[1] : undefined;
    if (pid !== undefined && !isRunning(Number(pid))) removePartial(join(folder, name));
  }
}

/** Another process of that number. */
function isRunning(pid: number): boolean {
  if (pid === process.pid) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return !(error instanceof Error && "code" in error && error.code === "ESRCH");
  }
}

async function copyAndCheck(input: BackupInput, partial: string, to: string): Promise<BackupOutcome> {
  const { path, onProgress = () => undefined, isStopped = () => false } = input;
  const isCopied = await copyPages(path, partial, (share) => {
    onProgress(share * COPY_SHARE);
    return !isStopped();
  });
  if (!isCopied) return { outcome: "stopped" };
  makeOneFile(partial);
  const found = verifySqliteLedger(partial, { onProgress: (share) => onProgress(COPY_SHARE + share * (1 - COPY_SHARE)) });
  const check = { ...found, path: to, differences: found.differences.map((sentence) => sentence.replaceAll(partial, to)) };
  if (check.differences.length > 0) return { outcome: "damaged", check };
  // A name that somebody took meanwhile is refused here: linking never overwrites.
  linkSync(partial, to);
  syncFolder(dirname(to));
  return { outcome: "done", bytes: statSync(to).size, check };
}

/** @returns false if it was stopped. */
async function copyPages(path: string, partial: string, goesOn: (share: number) => boolean): Promise<boolean> {
  const damage = findWalDamage(path);
  if (damage !== undefined) throw unusable(path, sentenceOfDamage(damage), "`purser verify` lists what differs");
  const db = openReading(path);
  try {
    // One moment of the file: without it the copy would begin anew whenever somebody writes.
    db.exec("begin");
    const version = readVersion(db, path);
    if (version < SCHEMA_VERSION) {
      // What an older version wrote can only be checked by that version, or once it is brought to this one.
      throw unusable(
        path,
        `its schema is ${version}, and a copy can be checked at ${SCHEMA_VERSION}`,
        "Start this version on it once, or make the backup with the version that wrote it",
      );
    }
    let isStopped = false;
    await db
      .backup(partial, {
        progress({ totalPages, remainingPages }) {
          isStopped = !goesOn(1 - remainingPages / Math.max(1, totalPages));
          if (isStopped) throw new StoppedError();
          return STEP_PAGES;
        },
      })
      .catch((error: unknown) => {
        if (!(error instanceof StoppedError)) throw error;
      });
    return !isStopped;
  } finally {
    db.close();
  }
}

class StoppedError extends Error {}

/** Takes the copy out of write-ahead mode, so that it is one file, and on disk. Opening it as a ledger puts it back. */
function makeOneFile(partial: string): void {
  const db = new Database(partial, { fileMustExist: true });
  try {
    db.pragma("synchronous = full");
    db.pragma("journal_mode = delete");
  } finally {
    db.close();
  }
}

function syncFolder(folder: string): void {
  const handle = openSync(folder, "r");
  try {
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}
