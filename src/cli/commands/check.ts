/**
 * `purser check`: what each limit means, in a sentence.
 * Owns how it is shown; the sentences are core's, the warnings the configuration's own.
 */
import type { Command } from "commander";
import { builtInPrices, priceBookOf } from "../../config/price-book.ts";
import type { Config } from "../../config/config.ts";
import { describeLimit } from "../../core/limits/describe.ts";
import { workedExample } from "../../core/pricing/band.ts";
import type { PriceRow } from "../../core/pricing/price.ts";
import { writeLines, type CliIo } from "../cli-io.ts";
import { clean, wrap } from "../output/text.ts";
import { addLedgerOption, readSettings, type CommonOptions, type Settings } from "../settings.ts";

/** Adds the command. */
export function addCheckCommand(program: Command, io: CliIo): void {
  const command = program
    .command("check")
    .description("say in plain words what a configuration means, or what is wrong in it and where")
    .argument("[file]", "the configuration (default: ./purser.yaml if it is there)");
  addLedgerOption(command).action(async (file: string | undefined, options: CommonOptions) => {
    const settings = await readSettings(io, { ...options, ...(file === undefined ? {} : { config: file }) });
    writeLines(io, await showCheck(io, settings));
  });
}

async function showCheck(io: CliIo, settings: Settings): Promise<string[]> {
  const { screen } = io;
  const { bold, yellow, green, dim } = screen.style;
  const { config, warnings, fileName } = settings;
  const warningLines = warnings.flatMap(({ message }) => hanging(`warning: ${clean(message)}`, screen.width).map(yellow));
  const examples = await workedExamples(config);
  return [
    bold(
      fileName === undefined
        ? "No configuration file: the built-in limit holds."
        : `${clean(fileName.replace(/^\.\//, ""))} can be used.`,
    ),
    "",
    ...limitLines(config, io.nowMs(), screen.width),
    ...(config.downgrade.size === 0 ? [] : ["", ...downgradeLines(config, screen.width)]),
    ...(config.ledger.keepDays === undefined ? [] : ["", ...keepLines(config.ledger.keepDays, screen.width)]),
    ...(examples.length === 0
      ? []
      : ["", "At your own prices:", ...examples.flatMap((line) => hanging(`  ${line}`, screen.width, 4))]),
    ...(warningLines.length === 0 ? [] : ["", ...warningLines]),
    "",
    warnings.length === 0 ? green("No warnings.") : yellow(`${warnings.length} warning${warnings.length === 1 ? "" : "s"}.`),
    dim(`Configuration ${config.version}, time zone ${config.timeZone}.`),
  ];
}

/** What each limit means, a sentence each, with room between long ones. */
export function limitLines(config: Config, nowMs: number, width: number): string[] {
  if (config.limits.length === 0) return ["No limit at all: nothing is ever refused for its cost."];
  return config.limits.flatMap((limit) => hanging(`• ${clean(describeLimit(limit, { nowMs }))}`, width));
}

function downgradeLines({ downgrade }: Config, width: number): string[] {
  const pairs = [...downgrade].map(([from, to]) => `${clean(from)} becomes ${clean(to)}`);
  return hanging(`Where a limit downgrades, ${pairs.join(", ")}.`, width);
}

function keepLines(keepDays: number, width: number): string[] {
  const sentence = `Calls older than ${keepDays} days are archived once a day: they go to a file beside the ledger, and stay in its reports and totals.`;
  return hanging(sentence, width);
}

/** What a thousand tokens cost at each price the person wrote, and what they would cost at the known one. */
async function workedExamples(config: Config): Promise<string[]> {
  if (config.prices.length === 0) return [];
  const book = priceBookOf(config);
  const builtIn = builtInPrices();
  return config.prices.map((own) => {
    const row: PriceRow = book.rows.find(({ id }) => id === own.id) ?? own;
    const known = builtIn.find(own.provider, own.model, own.fromMs ?? Number.MAX_SAFE_INTEGER);
    const example = clean(workedExample(row));
    return own.isFree
      ? `${clean(own.model)} is free.`
      : `${example}${known === undefined ? "" : ` (at the known price: ${clean(workedExample(known)).split(" cost ")[1] ?? "unknown"})`}.`;
  });
}

/** A sentence over several lines, the later ones indented. */
function hanging(text: string, width: number, indent = 2): string[] {
  return wrap(text, width, " ".repeat(indent));
}
