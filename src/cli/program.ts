/**
 * Owns the list of commands and what the program as a whole says: help, version, mistakes of usage.
 * Invariant: a command stands here only when it works.
 */
import { Command, CommanderError } from "commander";
import type { CliIo } from "./cli-io.ts";
import { addAdjustCommand } from "./commands/adjust.ts";
import { addArchiveCommand } from "./commands/archive.ts";
import { addBackupCommand } from "./commands/backup.ts";
import { addCheckCommand } from "./commands/check.ts";
import { addCallsCommand } from "./commands/calls.ts";
import { addCostCommand } from "./commands/cost.ts";
import { addDemoCommand } from "./commands/demo.ts";
import { addInitCommand } from "./commands/init.ts";
import { addKeysCommand } from "./commands/keys.ts";
import { addReportCommand } from "./commands/report.ts";
import { addServeCommand } from "./commands/serve.ts";
import { addStatusCommand } from "./commands/status.ts";
import { addVerifyCommand } from "./commands/verify.ts";
import { wrap } from "./output/text.ts";
import { describeFailure, EXIT, type ExitCode } from "./exit.ts";

const AFTER_HELP = `
First steps:
  npx purser demo      see a runaway agent stopped, with no key
  npx purser serve     start the gateway, then point an agent at it
  npx purser check     what your limits mean, in plain words

Exit codes: 0 done, 1 found something wrong, 2 wrong usage,
3 the ledger or the network failed.`;

/** In the order in which help lists them. */
const COMMANDS = [
  addServeCommand,
  addDemoCommand,
  addInitCommand,
  addCheckCommand,
  addStatusCommand,
  addReportCommand,
  addCallsCommand,
  addCostCommand,
  addKeysCommand,
  addAdjustCommand,
  addVerifyCommand,
  addBackupCommand,
  addArchiveCommand,
];

/** Runs one command line. @param words without the program's own name. @returns the exit code. */
export async function runProgram(words: readonly string[], io: CliIo, version: string): Promise<ExitCode> {
  try {
    await createProgram(io, version).parseAsync(words, { from: "user" });
    return EXIT.done;
  } catch (error) {
    // Commander has said already what it did not understand.
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.done : EXIT.wrongUsage;
    const { message, exitCode } = describeFailure(error);
    const width = io.isErrorTerminal ? io.screen.width : Infinity;
    for (const line of message.split("\n").flatMap((text) => wrap(`purser: ${text}`, width, "  "))) io.writeError(`${line}\n`);
    return exitCode;
  }
}

/** The program with every command that works. */
export function createProgram(io: CliIo, version: string): Command {
  const program = new Command("purser")
    .description("Stops AI agents from spending more than they may.")
    .version(version, "-v, --version", "print the version")
    .helpOption("-h, --help", "print help")
    .helpCommand("help [command]", "print help for a command")
    .addHelpText("after", AFTER_HELP)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => io.write(text),
      writeErr: (text) => io.writeError(text),
      outputError: (text, write) => write(text.replace(/^error: /, "purser: ")),
      getOutHelpWidth: () => (Number.isFinite(io.screen.width) ? io.screen.width : 100),
      getErrHelpWidth: () => (Number.isFinite(io.screen.width) ? io.screen.width : 100),
      getOutHasColors: () => false,
      getErrHasColors: () => false,
    });
  for (const add of COMMANDS) add(program, io);
  for (const command of program.commands) command.helpOption("-h, --help", "print help");
  return program;
}
