/**
 * Composition root of the command line: the process's own output, clock, environment and signals, and which store a ledger is.
 * Does not own what any command does (commands/).
 */
import { existsSync, readFileSync } from "node:fs";
import { checkArchive } from "../ledger/sqlite/archive-file.ts";
import { archiveSqliteLedger } from "../ledger/sqlite/archive.ts";
import { backupSqliteLedger } from "../ledger/sqlite/backup.ts";
import { openSqliteLedger } from "../ledger/sqlite/sqlite-ledger.ts";
import { verifySqliteLedger } from "../ledger/sqlite/verify.ts";
import type { CliIo } from "./cli-io.ts";
import { describeFailure } from "./exit.ts";
import { createScreen } from "./output/screen.ts";
import { runProgram } from "./program.ts";

/** What asks a program to end. */
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

function createProcessIo(): CliIo {
  const { stdout, stderr, env } = process;
  return {
    // A terminal may be resized while a command redraws.
    get screen() {
      const isTerminal = stdout.isTTY;
      return createScreen({
        isTerminal,
        columns: stdout.columns,
        rows: stdout.rows,
        hasColor: isTerminal && stdout.hasColors(env),
      });
    },
    write: (text) => void stdout.write(text),
    writeError: (text) => void stderr.write(text),
    isErrorTerminal: stderr.isTTY,
    env,
    nowMs: () => Date.now(),
    openLedger: (path) => openSqliteLedger({ path }),
    verifyLedger: (path, onProgress) => verifySqliteLedger(path, { onProgress }),
    backupLedger: (input) => backupSqliteLedger(input),
    archiveLedger: (input) => archiveSqliteLedger(input),
    checkArchive: (path) => checkArchive(path),
    isFileThere: (path) => existsSync(path),
    pause,
    exitNow: (exitCode, message) => {
      stderr.write(`purser: ${message}\n`);
      process.exit(exitCode);
    },
    signals: (listener) => {
      for (const signal of SIGNALS) process.on(signal, listener);
      return () => {
        for (const signal of SIGNALS) process.off(signal, listener);
      };
    },
  };
}

/** Waits, unless the person ends the program first. */
async function pause(waitMs: number): Promise<boolean> {
  return new Promise((resolve) => {
    const end = (isOver: boolean) => (): void => {
      clearTimeout(timer);
      for (const signal of SIGNALS) process.off(signal, stop);
      resolve(isOver);
    };
    const stop = end(false);
    const timer = setTimeout(end(true), waitMs);
    for (const signal of SIGNALS) process.on(signal, stop);
  });
}

function readVersion(): string {
  const manifest: unknown = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));
  return typeof manifest === "object" && manifest !== null && "version" in manifest ? String(manifest.version) : "unknown";
}

/** Whoever reads our output may stop reading (`| head`): that is no failure of ours. */
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(0);
  throw error;
});

for (const event of ["uncaughtException", "unhandledRejection"] as const) {
  process.on(event, (error: unknown) => {
    const { message } = describeFailure(error);
    process.stderr.write(`purser: ${message}\n`);
    process.exit(3);
  });
}

process.exitCode = await runProgram(process.argv.slice(2), createProcessIo(), readVersion());
