/**
 * Owns what commands ask of the world: where they write, what time it is, who opens a ledger. main.ts fills it in.
 * Invariant: a command reaches the process, the clock and the disk only through this, so that tests run it as it is.
 */
import type { Environment } from "../config/environment.ts";
import type { ArchiveCheck } from "../ledger/sqlite/archive-file.ts";
import type { ArchiveInput, ArchiveOutcome } from "../ledger/sqlite/archive.ts";
import type { BackupInput, BackupOutcome } from "../ledger/sqlite/backup.ts";
import type { VerifyReport } from "../ledger/sqlite/verify.ts";
import type { Ledger } from "../ledger/ledger.ts";
import type { ExitCode } from "./exit.ts";
import type { Screen } from "./output/screen.ts";

export interface CliIo {
  /** Standard output. */
  screen: Screen;
  /** Writes to standard output, as it is. */
  write(text: string): void;
  /** Writes to standard error, as it is. */
  writeError(text: string): void;
  isErrorTerminal: boolean;
  env: Environment;
  nowMs(): number;
  /** Resolves after a while, or at once when the person ends the program; true: time has passed, false: it is to end. */
  pause(waitMs: number): Promise<boolean>;
  /** Calls back for every signal that asks the program to end; the returned function stops that. */
  signals(listener: (signal: string) => void): () => void;
  /** Ends the process now, after a sentence. */
  exitNow(exitCode: ExitCode, message: string): void;
  /** Opens a ledger that is there. Close it. */
  openLedger(path: string): Promise<Ledger>;
  /** Recomputes a ledger from its entries. @throws LedgerUnavailableError if there is none. */
  verifyLedger(path: string, onProgress: (share: number) => void): VerifyReport;
  /** Copies a ledger while others write it, and checks the copy. */
  backupLedger(input: BackupInput): Promise<BackupOutcome>;
  /** Moves what is past retention into a file, while others write the ledger. */
  archiveLedger(input: ArchiveInput): Promise<ArchiveOutcome>;
  /** Follows the chain through such a file. */
  checkArchive(path: string): Promise<ArchiveCheck>;
  isFileThere(path: string): boolean;
}

/** Writes lines to standard output. */
export function writeLines(io: CliIo, lines: readonly string[]): void {
  if (lines.length > 0) io.write(`${lines.join("\n")}\n`);
}

/**
 * Writes a value as JSON that programs read. Characters that could act on a terminal are written as escapes, which JSON's readers
 * turn back into what they stand for.
 */
export function writeJson(io: CliIo, value: unknown): void {
  const text = JSON.stringify(value, undefined, 2);
  const safe = text.replaceAll(/[\u007F-\u009F\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, (found) =>
    found
      .split("")
      .map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`)
      .join(""),
  );
  io.write(`${safe}\n`);
}
