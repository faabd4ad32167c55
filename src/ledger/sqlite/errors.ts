/**
 * Owns what SQLite's failures mean to the ledger's callers. Does not own recovering from them (writer.ts, file.ts).
 */
import { SqliteError } from "better-sqlite3";
import { LedgerUnavailableError, LedgerUnusableError } from "../ledger.ts";

/** A row is not what was written. The scope value, call or key it belongs to is closed until the ledger is repaired. */
export class CorruptRowError extends Error {
  override readonly name = "CorruptRowError";
  constructor(table: string, key: string) {
    super(`${table} row "${key}" is not what was written: its check sum differs. Run \`purser verify\`, then restore a backup`);
  }
}

/** True if another connection holds the lock. */
export function isBusy(error: unknown): boolean {
  return error instanceof SqliteError && (error.code.startsWith("SQLITE_BUSY") || error.code.startsWith("SQLITE_LOCKED"));
}

/** True if only what one operation touches is broken, and not the whole file. */
export function isLocal(error: unknown): boolean {
  return error instanceof CorruptRowError || (error instanceof SqliteError && error.code.startsWith("SQLITE_CORRUPT"));
}

/** True if the failure is SQLite's and not that of one operation. */
export function isSqlite(error: unknown): boolean {
  return error instanceof SqliteError;
}

const HINTS: readonly [prefix: string, hint: string][] = [
  ["SQLITE_FULL", "the disk, or the file's page limit, is full: free some space; nothing has to be restarted"],
  ["SQLITE_READONLY", "it cannot be written: check the permissions of the file and its folder"],
  ["SQLITE_IOERR", "reading or writing failed: check the disk; nothing has to be restarted"],
  ["SQLITE_CANTOPEN", "it cannot be opened: check that the file and its folder exist and may be written"],
  ["SQLITE_CORRUPT", "its content is damaged: run `purser verify`, then restore a backup"],
  ["SQLITE_BUSY", "another program holds its lock"],
];

/** What callers are told when the file could not be written: whether the operation happened is then unknown. */
export function unavailableFrom(path: string, cause: unknown): LedgerUnavailableError {
  if (cause instanceof LedgerUnavailableError) return cause;
  const message = cause instanceof Error ? cause.message : String(cause);
  const code = cause instanceof SqliteError ? cause.code : "";
  const hint = HINTS.find(([prefix]) => code.startsWith(prefix))?.[1];
  return new LedgerUnavailableError(`ledger ${path}: ${message}${hint === undefined ? "" : ` (${hint})`}`, { cause });
}

/** What start-up says about a file it cannot work with. */
export function unusable(path: string, found: string, advice: string, cause?: unknown): LedgerUnusableError {
  return new LedgerUnusableError(`ledger ${path}: ${found}. ${advice}`, { cause });
}
