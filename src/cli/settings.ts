/**
 * Owns what every command shares: the options `--ledger` and `--config`, the configuration behind them, and opening the ledger.
 * Does not own what a configuration means (config/).
 * Invariant: an option wins over its variable, a variable over the file; a command that only reads makes no ledger where there is none.
 */
import type { Command } from "commander";
import type { Config } from "../config/config.ts";
import { LEDGER_DEFAULT, parseLedgerLocation } from "../config/ledger-location.ts";
import { loadConfig } from "../config/load-config.ts";
import type { ConfigWarning } from "../config/problems.ts";
import { readVariable, type Environment } from "../config/environment.ts";
import type { Ledger } from "../ledger/ledger.ts";
import type { CliIo } from "./cli-io.ts";
import { CliError, EXIT, wrongUsage } from "./exit.ts";
import { clean } from "./output/text.ts";

export interface CommonOptions {
  config?: string;
  ledger?: string;
}

/** The configuration a command works with. */
export interface Settings {
  config: Config;
  warnings: readonly ConfigWarning[];
  /** `undefined`: there is no file, and the built-in configuration holds. */
  fileName: string | undefined;
  /** The variables with the options laid over them: what a reload reads again. */
  env: Environment;
}

/** What the configuration calls the file that is not there. */
const NO_FILE = "(no file)";

/** Adds `--ledger`, which every command takes. */
export function addLedgerOption(command: Command): Command {
  return command.option("--ledger <url>", "where the ledger lies: a path, or sqlite:PATH");
}

/** Adds `--config` and `--ledger`. */
export function addCommonOptions(command: Command): Command {
  return addLedgerOption(command.option("--config <file>", "the configuration (default: ./purser.yaml if it is there)"));
}

/** Reads the configuration; what is wrong in it ends the command, every mistake with its place. */
export async function readSettings(io: CliIo, options: CommonOptions, variables: Environment = {}): Promise<Settings> {
  const env = { ...io.env, ...variables, ...ledgerVariable(options.ledger) };
  const loaded = await loadConfig({ path: options.config, env });
  if (loaded.outcome === "invalid") {
    throw new CliError(EXIT.foundWrong, loaded.problems.map(({ message }) => clean(message)).join("\n"));
  }
  const { config, warnings, fileName } = loaded;
  // Without a file the built-in limit holds, which every command that matters says by itself: no place of it needs a warning.
  const placed = fileName === undefined ? warnings.filter(({ file }) => file !== NO_FILE) : warnings;
  return { config, warnings: placed, fileName, env };
}

/** Where the ledger lies, for a command that needs nothing else of the configuration: it works beside a broken one. */
export function ledgerPathOf(io: CliIo, option: string | undefined): string {
  const text = option ?? readVariable(io.env, "PURSER_LEDGER");
  if (text === undefined) return LEDGER_DEFAULT.path;
  const parsed = parseLedgerLocation(text);
  if (parsed.outcome === "read") return parsed.location.path;
  throw wrongUsage(`${option === undefined ? "PURSER_LEDGER" : "--ledger"}: found ${parsed.found}; allowed: ${parsed.allowed}`);
}

/** Opens the ledger for a command that reads it. @returns `undefined` if there is none yet. */
export async function openExistingLedger(io: CliIo, { config }: Settings): Promise<Ledger | undefined> {
  return io.isFileThere(config.ledger.path) ? io.openLedger(config.ledger.path) : undefined;
}

/** Runs something with the ledger, and closes it whatever happens. */
export async function withLedger<Result>(ledger: Ledger, use: (ledger: Ledger) => Promise<Result>): Promise<Result> {
  try {
    return await use(ledger);
  } finally {
    await ledger.close();
  }
}

/** What a person reads where no call was recorded yet. */
export function noLedgerLines(path: string): string[] {
  return [
    `No ledger at ${clean(path)}: no call was recorded yet.`,
    "Start the gateway, point an agent at it, and look again:",
    "  npx purser serve",
    "Or see it all work first, with no key:",
    "  npx purser demo",
  ];
}

function ledgerVariable(text: string | undefined): Environment {
  if (text === undefined) return {};
  const parsed = parseLedgerLocation(text);
  if (parsed.outcome === "invalid") throw wrongUsage(`--ledger: found ${parsed.found}; allowed: ${parsed.allowed}`);
  return { PURSER_LEDGER: text };
}
