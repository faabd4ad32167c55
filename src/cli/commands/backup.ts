/**
 * `purser backup`: a copy of the ledger while it is in use.
 * Owns what a person is told of it; copying and checking are the store's own.
 */
import type { Command } from "commander";
import { writeJson, writeLines, type CliIo } from "../cli-io.ts";
import { CliError, EXIT, wrongUsage } from "../exit.ts";
import { createProgress } from "../output/progress.ts";
import { clean } from "../output/text.ts";
import { addLedgerOption, ledgerPathOf } from "../settings.ts";
import { quoteArgument } from "../arguments.ts";
import { countDifferences, differenceLines, sizesOf } from "./verify.ts";

interface BackupOptions {
  ledger?: string;
  json?: boolean;
}

/** Adds the command. */
export function addBackupCommand(program: Command, io: CliIo): void {
  const command = program
    .command("backup")
    .description("copy the ledger into a new file while it is in use, and check the copy")
    .argument("<file>", "the file to make; nothing is overwritten")
    .option("--json", "print JSON");
  addLedgerOption(command).action(async (file: string, options: BackupOptions) => runBackup(io, file, options));
}

async function runBackup(io: CliIo, file: string, options: BackupOptions): Promise<void> {
  const path = ledgerPathOf(io, options.ledger);
  if (file.trim() === "") throw wrongUsage("backup: found no name; allowed: the file to make");
  const progress = createProgress(io, "copying and checking");
  let isStopped = false;
  const unlisten = io.signals(() => (isStopped = true));
  const result = await io
    .backupLedger({ path, to: file, onProgress: progress.show, isStopped: () => isStopped })
    .catch((error: unknown) => {
      throw fileError(file, error);
    })
    .finally(() => {
      unlisten();
      progress.end();
    });
  switch (result.outcome) {
    case "done": {
      const { bytes, check } = result;
      const { entryCount, callCount, counterCount } = check;
      if (options.json === true) return writeJson(io, { ledger: path, backup: file, bytes, entryCount, callCount, counterCount });
      const verdict = io.screen.style.green("copied, and everything in it agrees");
      return writeLines(io, [`${clean(file)}: ${sizesOf(check)}: ${verdict}.`]);
    }
    case "damaged": {
      const { check } = result;
      writeLines(io, differenceLines(check, io.screen));
      throw new CliError(
        EXIT.foundWrong,
        `the ledger is not what was written: ${countDifferences(check.differences.length, check.isCut)} in its copy, which was not kept; an older backup may be right`,
      );
    }
    case "exists":
      throw wrongUsage(
        `backup: ${quoteArgument(result.path)} is there already, and nothing is overwritten; name another file, or move it away`,
      );
    case "stopped":
      throw new CliError(EXIT.failed, "stopped: no backup was made");
  }
}

/** What the file system says about a file that cannot be made. */
function fileError(file: string, error: unknown): unknown {
  if (!(error instanceof Error) || !("syscall" in error)) return error;
  return new CliError(EXIT.failed, `the backup ${quoteArgument(file)} cannot be made: ${clean(error.message)}`, { cause: error });
}
