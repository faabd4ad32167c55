/**
 * `purser calls`: the ledger's calls, newest first; `--explain`: one of them, its decision run again and its cost summed up.
 * Owns which calls are meant; how one is explained is in output/explanation.ts.
 */
import type { Command } from "commander";
import { totalInputTokens } from "../../core/usage/usage.ts";
import type { CallRecord, Ledger } from "../../ledger/ledger.ts";
import { modelOf, toAdjustmentJson, toCallJson } from "../../reports/calls-report.ts";
import { decideAgain } from "../../reports/decide-again.ts";
import { parseCount, quoteArgument } from "../arguments.ts";
import { writeJson, writeLines, type CliIo } from "../cli-io.ts";
import { CliError, EXIT, wrongUsage } from "../exit.ts";
import { findCall, unknownCall } from "../find-call.ts";
import { explainCall } from "../output/explanation.ts";
import { formatCount, formatMoney } from "../output/figures.ts";
import { formatNear } from "../output/instants.ts";
import { renderTable, type Cell, type Column } from "../output/table.ts";
import {
  addCommonOptions,
  noLedgerLines,
  openExistingLedger,
  readSettings,
  withLedger,
  type CommonOptions,
} from "../settings.ts";

interface CallsOptions extends CommonOptions {
  session?: string;
  limit: number;
  explain?: string;
  json?: boolean;
}

const LIMIT_DEFAULT = 20;
const LIMIT_MAX = 100_000;
const COST_DECIMALS = 6;

/** Adds the command. */
export function addCallsCommand(program: Command, io: CliIo): void {
  const command = program
    .command("calls")
    .description("list calls, newest first; or explain one: why it was decided as it was, and what it cost")
    .option("--session <name>", "only calls of this session")
    .option("--limit <count>", "at most so many", parseCount(1, LIMIT_MAX), LIMIT_DEFAULT)
    .option("--explain <call>", "explain one call, by its id or its number in the list")
    .option("--json", "print JSON");
  addCommonOptions(command).action(async (options: CallsOptions) => runCalls(io, options));
}

async function runCalls(io: CliIo, options: CallsOptions): Promise<void> {
  if (options.explain !== undefined && options.session !== undefined) {
    throw wrongUsage("--explain is about one call, so --session cannot stand beside it");
  }
  const settings = await readSettings(io, options);
  const { timeZone, ledger: location } = settings.config;
  const ledger = await openExistingLedger(io, settings);
  if (ledger === undefined) {
    if (options.explain !== undefined) throw unknownCall(options.explain, location.path);
    if (options.json === true) writeJson(io, []);
    else writeLines(io, noLedgerLines(location.path));
    return;
  }
  await withLedger(ledger, async () => {
    if (options.explain === undefined) await listCalls(io, ledger, options, timeZone);
    else await explain(io, ledger, { ...options, explain: options.explain }, { timeZone, path: location.path });
  });
}

async function listCalls(io: CliIo, ledger: Ledger, { session, limit, json }: CallsOptions, timeZone: string): Promise<void> {
  const records = await ledger.calls({ limit, ...(session === undefined ? {} : { session }) });
  if (json === true)
    return writeJson(
      io,
      records.map((record) => toCallJson(record)),
    );
  if (records.length === 0) {
    const none =
      session === undefined ? "No call was recorded yet." : `No call of session ${quoteArgument(session)} was recorded.`;
    return writeLines(io, [none, "See what was spent at all:  npx purser report"]);
  }
  const lines = renderTable({ columns: CALL_COLUMNS, rows: records.map((record) => callRow(record, io, timeZone)) }, io.screen);
  const hint = io.screen.isTerminal
    ? [io.screen.style.dim(`Why one was decided as it was:  npx purser calls --explain ${records[0]?.position ?? 1}`)]
    : [];
  writeLines(io, [...lines, ...hint]);
}

const CALL_COLUMNS: readonly Column[] = [
  { title: "No.", kind: "figure" },
  { title: "Started", kind: "whole" },
  { title: "Agent", kind: "text", widthMin: 12 },
  { title: "Session", kind: "text", dropOrder: 4 },
  { title: "Model", kind: "text", widthMin: 17, dropOrder: 1 },
  { title: "What happened", kind: "text", widthMin: 22 },
  { title: "Input", kind: "figure", dropOrder: 2 },
  { title: "Output", kind: "figure", dropOrder: 3 },
  { title: "Cost", kind: "figure" },
  { title: "Id", kind: "whole", dropOrder: 5 },
];

function callRow(record: CallRecord, io: CliIo, timeZone: string): Cell[] {
  const { facts, result, status, costNanoUsd } = record;
  const { style } = io.screen;
  const paint = status === "denied" ? style.red : status === "settled" ? style.green : style.yellow;
  return [
    String(record.position),
    formatNear(record.startedAtMs, io.nowMs(), timeZone),
    facts.scopes.agent,
    facts.scopes.session,
    modelOf(record),
    { text: whatHappened(record), paint },
    result === undefined ? "–" : formatCount(totalInputTokens(result.tokens)),
    result === undefined ? "–" : formatCount(result.tokens.outputTokens),
    costNanoUsd === undefined ? "–" : formatMoney(costNanoUsd, COST_DECIMALS),
    record.callId,
  ];
}

function whatHappened({ status, deniedWith, decision, result, isLate, adjustments }: CallRecord): string {
  if (status === "denied") {
    const by = deniedWith?.view?.limit;
    return `refused: ${deniedWith?.code ?? "unknown"}${by === undefined ? "" : ` by ${by}`}`;
  }
  const what = status === "reserved" ? "running" : status;
  const late = isLate ? ["late"] : [];
  const corrected = adjustments.length === 0 ? [] : ["corrected"];
  const estimated = result?.isEstimated === true ? ["estimated"] : [];
  const failed = result?.error === undefined ? [] : [result.error.type];
  return [what, ...(decision?.marks ?? []), ...failed, ...late, ...estimated, ...corrected].join(", ");
}

async function explain(
  io: CliIo,
  ledger: Ledger,
  options: CallsOptions & { explain: string },
  place: { timeZone: string; path: string },
): Promise<void> {
  const record = await findCall(ledger, options.explain);
  if (record === undefined) throw unknownCall(options.explain, place.path);
  const again = decideAgain(record);
  if (options.json === true) {
    const decidedAgain = {
      outcome: again.outcome,
      ...(again.outcome === "different" ? { before: again.before, now: again.now } : {}),
    };
    writeJson(io, { ...toCallJson(record), decidedAgain, adjustments: record.adjustments.map(toAdjustmentJson) });
  } else writeLines(io, explainCall(record, again, { screen: io.screen, timeZone: place.timeZone }));
  if (again.outcome === "different") {
    throw new CliError(
      EXIT.foundWrong,
      `decided again, ${record.callId} comes out otherwise: ${again.now} instead of ${again.before}`,
    );
  }
}
