/**
 * `purser status`: every limit with its scope values, now; `--watch`: again whenever something changed.
 * Owns when it is drawn again; how it looks is in output/status-view.ts.
 */
import type { Command } from "commander";
import type { Limit } from "../../core/limits/limit.ts";
import { SILENT_MS_MAX } from "../../engine/owners.ts";
import type { Ledger } from "../../ledger/ledger.ts";
import { buildStatus, toStatusJson } from "../../reports/status-report.ts";
import { writeJson, writeLines, type CliIo } from "../cli-io.ts";
import { showStatus, type StatusFacts } from "../output/status-view.ts";
import { clean, cut } from "../output/text.ts";
import {
  addCommonOptions,
  noLedgerLines,
  openExistingLedger,
  readSettings,
  withLedger,
  type CommonOptions,
  type Settings,
} from "../settings.ts";

interface StatusOptions extends CommonOptions {
  watch?: boolean;
  json?: boolean;
}

/** Between two looks for a change: a look is one small read. */
const LOOK_MS = 500;
/** Drawn again even if nothing changed, because time itself moves figures. */
const REDRAW_MS = 5_000;
/** Settled calls that tell how near bounds are to costs. */
const BOUND_SAMPLE = 200;
const ALERTS_SHOWN = 5;

/** A screen of its own, so that what stood there comes back; and away with it. */
const OPEN_SCREEN = "\u001B[?1049h\u001B[?25l";
const CLOSE_SCREEN = "\u001B[?25h\u001B[?1049l";
const HOME = "\u001B[H";
const CLEAR_LINE_END = "\u001B[K";
const CLEAR_BELOW = "\u001B[J";

/** Adds the command. */
export function addStatusCommand(program: Command, io: CliIo): void {
  const command = program
    .command("status")
    .description("show every limit: what is spent, reserved and left, until when, and how fast it goes")
    .option("--watch", "keep showing it; Ctrl-C ends it")
    .option("--json", "print JSON; with --watch a line whenever something changed");
  addCommonOptions(command).action(async (options: StatusOptions) => runStatus(io, options));
}

async function runStatus(io: CliIo, options: StatusOptions): Promise<void> {
  const settings = await readSettings(io, options);
  const ledger = await openExistingLedger(io, settings);
  if (ledger === undefined) {
    if (options.json === true) writeJson(io, toJson(await readFacts(io, settings, undefined)));
    else writeLines(io, noLedgerLines(settings.config.ledger.path));
    return;
  }
  await withLedger(ledger, async () => {
    if (options.watch === true) return watch(io, settings, ledger, options.json === true);
    const facts = await readFacts(io, settings, ledger);
    if (options.json === true) writeJson(io, toJson(facts));
    else writeLines(io, showStatus(facts, io.screen));
  });
}

/** While a process enforces limits, those; otherwise the ones that would be enforced. */
async function limitsToShow({ config }: Settings, ledger: Ledger | undefined, nowMs: number): Promise<readonly Limit[]> {
  const owners = (await ledger?.owners()) ?? [];
  const isEnforced = owners.some(({ beatAtMs }) => nowMs - beatAtMs < SILENT_MS_MAX);
  return isEnforced && ledger !== undefined ? ledger.limits() : config.limits;
}

async function readFacts(io: CliIo, settings: Settings, ledger: Ledger | undefined): Promise<StatusFacts> {
  const { config } = settings;
  const nowMs = io.nowMs();
  const limits = await limitsToShow(settings, ledger, nowMs);
  const states = (await ledger?.scopeStates()) ?? new Map();
  const recent = (await ledger?.calls({ limit: BOUND_SAMPLE })) ?? [];
  return {
    lines: buildStatus({ limits, states, recent, nowMs }),
    limits,
    running: (await ledger?.openCalls())?.length ?? 0,
    alerts: (await ledger?.alerts({ limit: ALERTS_SHOWN })) ?? [],
    recent,
    timeZone: config.timeZone,
    ledgerPath: config.ledger.path,
    nowMs,
  };
}

function toJson({ lines }: StatusFacts): unknown {
  return lines.map((line) => toStatusJson(line));
}

async function watch(io: CliIo, settings: Settings, ledger: Ledger, isJson: boolean): Promise<void> {
  const isDrawing = io.screen.isTerminal && !isJson;
  if (isDrawing) io.write(OPEN_SCREEN);
  try {
    let shown: { revision: number; atMs: number } | undefined;
    do {
      const revision = await ledger.revision();
      const isStale = isDrawing && shown !== undefined && io.nowMs() - shown.atMs >= REDRAW_MS;
      if (revision === shown?.revision && !isStale) continue;
      shown = { revision, atMs: io.nowMs() };
      const facts = await readFacts(io, settings, ledger);
      if (isJson) io.write(`${JSON.stringify(toJson(facts))}\n`);
      else if (isDrawing) draw(io, facts);
      else writeLines(io, [...showStatus(facts, io.screen), ""]);
    } while (await io.pause(LOOK_MS));
  } finally {
    if (isDrawing) io.write(CLOSE_SCREEN);
  }
}

/** Draws over what is there, line by line, so that nothing flickers; what is below the screen's end is left out. */
function draw(io: CliIo, facts: StatusFacts): void {
  const { screen } = io;
  const room = Math.max(3, screen.height - 1);
  const lines = showStatus(facts, screen);
  const shown =
    lines.length <= room
      ? lines
      : [
          ...lines.slice(0, room - 1),
          screen.style.dim(`… ${lines.length - room + 1} more lines: a taller window, or without --watch`),
        ];
  const hint = screen.style.dim(cut(clean("Ctrl-C ends this."), screen.width));
  io.write(`${HOME}${[...shown, hint].map((line) => `${line}${CLEAR_LINE_END}`).join("\n")}${CLEAR_BELOW}`);
}
