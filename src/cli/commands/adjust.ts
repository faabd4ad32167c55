/**
 * `purser adjust`: corrects what a call that is over is counted with, by an entry of its own; nothing that was recorded changes.
 * Invariant: asked again with the same id, it corrects nothing a second time; whoever cannot know whether it was recorded gets the id.
 */
import { randomUUID } from "node:crypto";
import type { Command } from "commander";
import type { AdjustResult } from "../../core/decisions/operations.ts";
import { parseUsd } from "../../core/money/money.ts";
import { LedgerUnavailableError, type CallRecord, type Ledger } from "../../ledger/ledger.ts";
import { quoteArgument } from "../arguments.ts";
import { writeLines, type CliIo } from "../cli-io.ts";
import { CliError, EXIT, wrongUsage } from "../exit.ts";
import { findCall, unknownCall } from "../find-call.ts";
import { formatExactMoney, formatSignedMoney } from "../output/figures.ts";
import { clean } from "../output/text.ts";
import { addCommonOptions, openExistingLedger, readSettings, withLedger, type CommonOptions } from "../settings.ts";

interface AdjustOptions extends CommonOptions {
  usd: string;
  reason: string;
  id?: string;
}

const REASON_LENGTH_MAX = 1_000;
const NAME_LENGTH_MAX = 200;

/** Adds the command. */
export function addAdjustCommand(program: Command, io: CliIo): void {
  const command = program
    .command("adjust")
    .description("correct what a call that is over is counted with")
    .argument("<call>", "its id, or its number in the list of calls")
    .requiredOption("--usd <amount>", "dollars to add to its cost: -0.25 or +0.10")
    .requiredOption("--reason <text>", "why; it is kept with the correction")
    .option("--id <name>", "names the correction: asked again with the same name, it is not made twice");
  addCommonOptions(command).action(async (call: string, options: AdjustOptions) => runAdjust(io, call, options));
}

async function runAdjust(io: CliIo, call: string, options: AdjustOptions): Promise<void> {
  const deltaNanoUsd = readAmount(options.usd);
  const reason = readText("--reason", options.reason, REASON_LENGTH_MAX);
  const adjustmentId = readText("--id", options.id ?? `adj_${randomUUID()}`, NAME_LENGTH_MAX);
  const by = userOf(io);
  const settings = await readSettings(io, options);
  const { path } = settings.config.ledger;
  const ledger = await openExistingLedger(io, settings);
  if (ledger === undefined) throw unknownCall(call, path);
  await withLedger(ledger, async () => {
    const record = await findCall(ledger, call);
    if (record === undefined) throw unknownCall(call, path);
    const operation = {
      kind: "adjust",
      atMs: io.nowMs(),
      callId: record.callId,
      adjustmentId,
      deltaNanoUsd,
      reason,
      by,
    } as const;
    const result = await applyOrName(ledger, operation);
    writeLines(io, answerLines(record, operation, result));
  });
}

async function applyOrName(ledger: Ledger, operation: Parameters<typeof answerLines>[1]): Promise<AdjustResult> {
  try {
    const [result] = await ledger.apply([operation]);
    if (result === undefined) throw new TypeError("the ledger gave no answer");
    return result;
  } catch (error) {
    if (!(error instanceof LedgerUnavailableError)) throw error;
    const again = `whether the correction was recorded is unknown; ask again with --id ${operation.adjustmentId}`;
    throw new CliError(EXIT.failed, `${clean(error.message)}; ${again}`, { cause: error });
  }
}

function answerLines(
  { status }: CallRecord,
  { callId, adjustmentId, deltaNanoUsd }: Extract<Parameters<Ledger["apply"]>[0][number], { kind: "adjust" }>,
  { outcome, costNanoUsd, alerts }: AdjustResult,
): string[] {
  const call = `call ${quoteArgument(callId)}`;
  const cost = costNanoUsd === undefined ? "an unknown cost" : formatExactMoney(costNanoUsd);
  const delta = formatSignedMoney(deltaNanoUsd);
  const refused = (why: string): CliError => new CliError(EXIT.foundWrong, `${call} ${why}`);
  switch (outcome) {
    case "done":
      return [
        `C${call.slice(1)} is corrected by ${delta} to ${cost} (${clean(adjustmentId)}).`,
        ...alerts.map(({ limit, threshold }) => `Limit ${clean(limit)} reached ${clean(threshold)} with it.`),
      ];
    case "already_done":
      return [`C${call.slice(1)} was corrected by ${delta} before (${clean(adjustmentId)}); it counts with ${cost}.`];
    case "conflict":
      throw refused(`has a correction ${quoteArgument(adjustmentId)} of another amount; nothing was changed`);
    case "out_of_range":
      throw refused(`counts with ${cost}, which ${delta} would bring below zero or beyond belief; nothing was changed`);
    case "not_ended":
      throw refused("is running: it can be corrected once it is over");
    case "nothing_sent":
      throw refused(`was ${status}: nothing was sent to the provider, so there is no cost to correct`);
    case "unknown_call":
      throw refused("is not in the ledger");
  }
}

/** As the operating system's session says; nobody proves it. */
function userOf({ env }: CliIo): string {
  const name = ["USER", "LOGNAME", "USERNAME"]
    .map((variable) => env[variable])
    .find((value) => value !== undefined && value !== "");
  return (name ?? "unknown").slice(0, NAME_LENGTH_MAX);
}

function readAmount(text: string): bigint {
  const sign = text.startsWith("-") ? -1n : 1n;
  const amount = parseUsd(text.replace(/^[+-]/, ""));
  if (amount !== undefined && amount !== 0n && amount <= 2n ** 62n) return sign * amount;
  throw wrongUsage(
    `--usd: found ${quoteArgument(text)}; allowed: dollars with a sign, such as -0.25 or +0.10, not 0, at most nine decimals`,
  );
}

function readText(option: string, text: string, lengthMax: number): string {
  if (text.trim() !== "" && text.length <= lengthMax) return text;
  throw wrongUsage(`${option}: found ${quoteArgument(text)}; allowed: 1 to ${lengthMax} characters`);
}
