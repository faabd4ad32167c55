/** The command line as it is, with an output, a clock and a ledger of the test's own. */
import { rm, mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll } from "vitest";
import type { CliIo } from "../../src/cli/cli-io.ts";
import { createScreen, type Screen } from "../../src/cli/output/screen.ts";
import { runProgram } from "../../src/cli/program.ts";
import type { Ledger } from "../../src/ledger/ledger.ts";
import { createMemoryLedger } from "../../src/ledger/memory/memory-ledger.ts";
import { checkArchive } from "../../src/ledger/sqlite/archive-file.ts";
import { archiveSqliteLedger } from "../../src/ledger/sqlite/archive.ts";
import { backupSqliteLedger } from "../../src/ledger/sqlite/backup.ts";
import { verifySqliteLedger } from "../../src/ledger/sqlite/verify.ts";
import { NOW_MS, seedLedger } from "./cli-seed.ts";

export interface CliRun {
  out: string;
  err: string;
  exitCode: number;
}

export interface CliOptions {
  screen?: Screen;
  isErrorTerminal?: boolean;
  ledger?: Ledger;
  env?: Record<string, string>;
  nowMs?: number;
  /** How often `pause` says that time has passed before it says that the person ended the program. */
  pauses?: number;
  onPause?: () => Promise<void>;
}

/** Nothing but text: what a program behind a pipe reads. */
export const PIPED = createScreen({ isTerminal: false, hasColor: false });

/** A terminal without colours, so that goldens can be read. */
export function terminal(columns: number, rows = 50): Screen {
  return createScreen({ isTerminal: true, columns, rows, hasColor: false });
}

/** Runs one command line. Without a ledger of the test's own, none is there. */
export async function runCli(line: string | readonly string[], options: CliOptions = {}): Promise<CliRun> {
  const words = typeof line === "string" ? splitWords(line) : line;
  let [out, err] = ["", ""];
  let pauses = options.pauses ?? 0;
  const { ledger } = options;
  const io: CliIo = {
    screen: options.screen ?? PIPED,
    write: (text) => void (out += text),
    writeError: (text) => void (err += text),
    isErrorTerminal: options.isErrorTerminal ?? false,
    env: options.env ?? {},
    nowMs: () => options.nowMs ?? NOW_MS,
    async pause() {
      await options.onPause?.();
      pauses -= 1;
      return pauses >= 0;
    },
    signals: () => () => undefined,
    exitNow: (_exitCode, message) => void (err += message),
    async openLedger(path) {
      if (ledger === undefined) throw new Error(`no test opens ${path}`);
      return keptOpen(ledger);
    },
    verifyLedger: (path, onProgress) => verifySqliteLedger(path, { onProgress }),
    backupLedger: (input) => backupSqliteLedger(input),
    archiveLedger: (input) => archiveSqliteLedger(input),
    checkArchive: (path) => checkArchive(path),
    isFileThere: () => ledger !== undefined,
  };
  const exitCode = await runProgram(words, io, "0.0.0-test");
  return { out, err, exitCode };
}

/** The same ledger, not closed by the command that borrows it. */
function keptOpen(ledger: Ledger): Ledger {
  return new Proxy(ledger, {
    get(target, name) {
      if (name === "close") return async () => undefined;
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? (value.bind(target) as unknown) : value;
    },
  });
}

/** A ledger in memory with a known day and a half in it. */
export async function seededLedger(): Promise<Ledger> {
  const ledger = createMemoryLedger();
  await seedLedger(ledger);
  return ledger;
}

/** Works in an empty folder of its own while the file's tests run. */
export function useTemporaryFolder(): void {
  const home = process.cwd();
  let folder = "";
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "purser-cli-"));
    process.chdir(folder);
  });
  afterAll(async () => {
    process.chdir(home);
    await rm(folder, { recursive: true, force: true });
  });
}

/** Splits as a shell does, as far as the examples need it: white space and double quotes. */
export function splitWords(line: string): string[] {
  return Array.from(line.matchAll(/"([^"]*)"|(\S+)/g), ([, quoted, bare]) => quoted ?? bare ?? "");
}
