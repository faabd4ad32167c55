/** Everything that lies beside a ledger, copied and removed together. */
import { copyFileSync, existsSync, rmSync } from "node:fs";

const SUFFIXES = ["", "-wal", "-shm", "-journal", "-witness", "-told"];

/** The lines that were said about a file. */
export const toldOf = (path: string): string => `${path}-told`;

/** A ledger's files and what was said, as they are at another path. */
export function copyLedger(from: string, to: string): void {
  removeLedger(to);
  for (const suffix of SUFFIXES) if (existsSync(from + suffix)) copyFileSync(from + suffix, to + suffix);
}

export function removeLedger(path: string): void {
  for (const suffix of SUFFIXES) rmSync(path + suffix, { force: true });
}
