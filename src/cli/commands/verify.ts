/**
 * `purser verify`: is the ledger what was written?
 * Owns showing how far it is and what was found; the proof is the store's own, and shares no code with what wrote the file.
 */
import type { Command } from "commander";
import type { VerifyReport } from "../../ledger/sqlite/verify.ts";
import { writeJson, writeLines, type CliIo } from "../cli-io.ts";
import { CliError, EXIT } from "../exit.ts";
import { formatCount } from "../output/figures.ts";
import { createProgress } from "../output/progress.ts";
import type { Screen } from "../output/screen.ts";
import { clean, wrap } from "../output/text.ts";
import { addLedgerOption, ledgerPathOf } from "../settings.ts";

interface VerifyOptions {
  ledger?: string;
  json?: boolean;
}

/** Adds the command. */
export function addVerifyCommand(program: Command, io: CliIo): void {
  const command = program
    .command("verify")
    .description("recompute every counter and the chain from the ledger's entries, and list what differs")
    .option("--json", "print JSON");
  addLedgerOption(command).action((options: VerifyOptions) => runVerify(io, options));
}

function runVerify(io: CliIo, options: VerifyOptions): void {
  const path = ledgerPathOf(io, options.ledger);
  const progress = createProgress(io, "checking");
  const report = io.verifyLedger(path, progress.show);
  progress.end();
  const { entryCount, callCount, counterCount, differences, isCut } = report;
  if (options.json === true) writeJson(io, { ledger: path, entryCount, callCount, counterCount, differences, isCut });
  else {
    const { style } = io.screen;
    const verdict =
      differences.length === 0 ? style.green("everything agrees") : style.red(countDifferences(differences.length, isCut));
    writeLines(io, [`${clean(path)}: ${sizesOf(report)}: ${verdict}.`, ...differenceLines(report, io.screen)]);
  }
  if (differences.length > 0) {
    throw new CliError(
      EXIT.foundWrong,
      `the ledger is not what was written: ${countDifferences(differences.length, isCut)}; keep the file, and restore a backup`,
    );
  }
}

/** How much a check looked at: "55 entries, 28 calls, 45 counters". */
export function sizesOf({ entryCount, callCount, counterCount }: VerifyReport): string {
  const named = (count: number, one: string, many: string): string => `${formatCount(count)} ${count === 1 ? one : many}`;
  return [
    named(entryCount, "entry", "entries"),
    named(callCount, "call", "calls"),
    named(counterCount, "counter", "counters"),
  ].join(", ");
}

/** What a check found, a bullet each. */
export function differenceLines({ differences, isCut }: VerifyReport, { width }: Screen): string[] {
  return [...differences.flatMap((sentence) => wrap(`• ${clean(sentence)}`, width, "  ")), ...(isCut ? ["… and more."] : [])];
}

/** How many differences there are, in words. */
export function countDifferences(count: number, isCut: boolean): string {
  return `${isCut ? "more than " : ""}${formatCount(count)} difference${count === 1 && !isCut ? "" : "s"}`;
}
