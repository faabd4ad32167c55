/**
 * `purser archive`: what is past retention goes to a file, and leaves the ledger.
 * Owns what a person is told of it; archiving is the store's own.
 */
import type { Command } from "commander";
import { KEEP_DAYS } from "../../config/settings-reader.ts";
import { parseCount, quoteArgument } from "../arguments.ts";
import { writeJson, writeLines, type CliIo } from "../cli-io.ts";
import { CliError, EXIT, wrongUsage } from "../exit.ts";
import { formatCount } from "../output/figures.ts";
import { formatLocal } from "../output/instants.ts";
import { clean } from "../output/text.ts";
import { addCommonOptions, noLedgerLines, readSettings, type CommonOptions } from "../settings.ts";

interface ArchiveOptions extends CommonOptions {
  olderThan?: number;
  to?: string;
  check?: string;
  json?: boolean;
}

const DAY_MS = 24 * 3_600_000;

/** Adds the command. */
export function addArchiveCommand(program: Command, io: CliIo): void {
  const command = program
    .command("archive")
    .description("move calls that are past retention into a file, while the ledger is in use; totals and reports stay")
    .option(
      "--older-than <days>",
      "what is older goes (default: ledger.keepDays of the configuration)",
      parseCount(Number(KEEP_DAYS.min), Number(KEEP_DAYS.max)),
    )
    .option("--to <file>", "the file to make (default: beside the ledger); nothing is overwritten")
    .option("--check <file>", "only check a file that was made before")
    .option("--json", "print JSON");
  addCommonOptions(command).action(async (options: ArchiveOptions) => {
    if (options.check === undefined) await runArchive(io, options);
    else await runCheck(io, options.check, options.json === true);
  });
}

async function runArchive(io: CliIo, options: ArchiveOptions): Promise<void> {
  const { config } = await readSettings(io, options);
  const { path, keepDays } = config.ledger;
  const days = options.olderThan ?? keepDays;
  if (days === undefined) {
    throw wrongUsage(
      "archive: found no retention; allowed: --older-than DAYS, or ledger: { keepDays: DAYS } in the configuration",
    );
  }
  if (!io.isFileThere(path)) return writeLines(io, noLedgerLines(path));
  const nowMs = io.nowMs();
  let isStopped = false;
  const unlisten = io.signals(() => (isStopped = true));
  const input = { path, beforeMs: nowMs - days * DAY_MS, nowMs, isStopped: () => isStopped };
  const result = await io
    .archiveLedger({ ...input, ...(options.to === undefined ? {} : { to: options.to }) })
    .catch((error: unknown) => {
      throw fileError(error);
    })
    .finally(unlisten);
  switch (result.outcome) {
    case "nothing":
      if (options.json === true) return writeJson(io, { ledger: path, archive: null, entryCount: 0, callCount: 0 });
      return writeLines(io, [`Nothing is older than ${formatCount(days)} days: nothing was archived.`]);
    case "exists":
      throw wrongUsage(`archive: ${quoteArgument(result.path)} is there already, and nothing is overwritten; name another file`);
    case "done":
    case "stopped": {
      const { entryCount, callCount, toMs, outcome } = result;
      const file = options.to ?? result.file;
      if (options.json === true) return writeJson(io, { ledger: path, archive: file, entryCount, callCount });
      const what = `${formatCount(callCount)} calls (${formatCount(entryCount)} entries) up to ${formatLocal(toMs, config.timeZone)} ${config.timeZone}`;
      const then = outcome === "stopped" ? ["Stopped: the next run goes on from there."] : [];
      return writeLines(io, [`${clean(file)}: ${what}; their totals and reports stay in the ledger.`, ...then]);
    }
  }
}

async function runCheck(io: CliIo, file: string, isJson: boolean): Promise<void> {
  const check = await io.checkArchive(file).catch((error: unknown) => {
    throw fileError(error);
  });
  const { fromSeq, throughSeq, entryCount, throughHash, differences } = check;
  if (isJson) writeJson(io, { archive: file, fromSeq, throughSeq, entryCount, throughHash, differences });
  else if (differences.length === 0) {
    writeLines(io, [`${clean(file)}: entries ${formatCount(fromSeq)} to ${formatCount(throughSeq)}, each as it was written.`]);
  } else writeLines(io, differences.map(clean));
  if (differences.length > 0) throw new CliError(EXIT.foundWrong, "the archive is not what was written");
}

/** What the file system says about a file that cannot be made or read. */
function fileError(error: unknown): unknown {
  if (!(error instanceof Error) || !("syscall" in error)) return error;
  return new CliError(EXIT.failed, `the archive cannot be made or read: ${clean(error.message)}`, { cause: error });
}
