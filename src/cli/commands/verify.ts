/**
 * `purser verify`: is the ledger what was written?
 * Owns showing how far it is and what was found; the proof is the store's own, and shares no code with what wrote the file.
 */
import type { Command } from "commander";
import { writeJson, writeLines, type CliIo } from "../cli-io.ts";
import { CliError, EXIT } from "../exit.ts";
import { formatCount } from "../output/figures.ts";
import { clean, wrap } from "../output/text.ts";
import { addLedgerOption, ledgerPathOf } from "../settings.ts";

interface VerifyOptions {
  ledger?: string;
  json?: boolean;
}

const CLEAR_LINE = "\r\u001B[K";
/** A check that is over sooner needs no figure on the way. */
const QUIET_MS = 500;

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
  const progress = createProgress(io);
  const report = io.verifyLedger(path, progress.show);
  progress.end();
  const { entryCount, callCount, counterCount, differences, isCut } = report;
  if (options.json === true) writeJson(io, { ledger: path, entryCount, callCount, counterCount, differences, isCut });
  else {
    const { style, width } = io.screen;
    const named = (count: number, one: string, many: string): string => `${formatCount(count)} ${count === 1 ? one : many}`;
    const sizes = [
      named(entryCount, "entry", "entries"),
      named(callCount, "call", "calls"),
      named(counterCount, "counter", "counters"),
    ].join(", ");
    const verdict =
      differences.length === 0 ? style.green("everything agrees") : style.red(countDifferences(differences.length, isCut));
    writeLines(io, [
      `${clean(path)}: ${sizes}: ${verdict}.`,
      ...differences.flatMap((sentence) => wrap(`• ${clean(sentence)}`, width, "  ")),
      ...(isCut ? ["… and more."] : []),
    ]);
  }
  if (differences.length > 0) {
    throw new CliError(
      EXIT.foundWrong,
      `the ledger is not what was written: ${countDifferences(differences.length, isCut)}; keep the file, and restore a backup`,
    );
  }
}

function countDifferences(count: number, isCut: boolean): string {
  return `${isCut ? "more than " : ""}${formatCount(count)} difference${count === 1 && !isCut ? "" : "s"}`;
}

/** A line on a terminal's standard error that is drawn over, and gone at the end. */
function createProgress(io: CliIo): { show: (share: number) => void; end: () => void } {
  const startedAtMs = io.nowMs();
  let shown: number | undefined;
  return {
    show(share) {
      const percent = Math.floor(share * 100);
      if (!io.isErrorTerminal || percent === shown || io.nowMs() - startedAtMs < QUIET_MS) return;
      shown = percent;
      io.writeError(`${CLEAR_LINE}checking … ${percent} %`);
    },
    end() {
      if (shown !== undefined) io.writeError(CLEAR_LINE);
    },
  };
}
