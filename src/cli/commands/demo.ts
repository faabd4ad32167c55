/**
 * `purser demo`: the newcomer's first minute.
 * Owns drawing while it runs; the run itself is in demo/run.ts.
 */
import type { Command } from "commander";
import { writeLines, type CliIo } from "../cli-io.ts";
import type { AgentEvent } from "../demo/agent.ts";
import { runDemo, type DemoStart } from "../demo/run.ts";
import { showDemoStart, showEvent, showProgress, showResult } from "../demo/view.ts";
import { CliError, EXIT } from "../exit.ts";
import { addLedgerOption } from "../settings.ts";

const REDRAW_MS = 150;
const CLEAR_LINE_END = "\u001B[K";
const HIDE_CURSOR = "\u001B[?25l";
const SHOW_CURSOR = "\u001B[?25h";

/** How fast the demo goes. */
export interface DemoPace {
  throttle: string;
  pace: number;
}

/** For people: about twenty seconds. */
const PACE: DemoPace = { throttle: "1s", pace: 1 };

/** Adds the command. `--ledger` is taken as everywhere; the demo's own ledger is a temporary one. */
export function addDemoCommand(program: Command, io: CliIo): void {
  const command = program
    .command("demo")
    .description("see a runaway agent moved to a cheaper model, slowed and stopped, with no key and no network (about 25 s)");
  addLedgerOption(command).action(async () => playDemo(io, PACE));
}

/** Plays the demo. */
export async function playDemo(io: CliIo, pace: DemoPace): Promise<void> {
  const abort = new AbortController();
  const stopListening = io.signals(() => abort.abort());
  const startedAtMs = io.nowMs();
  const live = createLiveView(io, startedAtMs);
  try {
    const result = await runDemo({
      nowMs: () => io.nowMs(),
      pause: async (waitMs) => !abort.signal.aborted && (await io.pause(waitMs)),
      signal: abort.signal,
      started: (start) => live.start(start),
      tell: (event) => {
        if (!abort.signal.aborted) live.tell(event);
      },
      ...pace,
    });
    live.stop();
    if (result === undefined) throw new CliError(EXIT.foundWrong, "the demo was ended before its time; nothing of it is left");
    writeLines(io, showResult(result, io.screen));
    if (result.ledgerNanoUsd !== result.billNanoUsd) {
      throw new CliError(EXIT.foundWrong, "the ledger and the provider's bill differ: please report this, with the output above");
    }
  } finally {
    live.stop();
    stopListening();
  }
}

interface LiveView {
  start(start: DemoStart): void;
  tell(event: AgentEvent): void;
  stop(): void;
}

/** On a terminal: events scroll by above a few lines that are drawn again and again. Elsewhere: the events alone. */
function createLiveView(io: CliIo, startedAtMs: number): LiveView {
  let agents: DemoStart["agents"] = [];
  let drawn = 0;
  let timer: NodeJS.Timeout | undefined;
  const elapsedMs = (): number => io.nowMs() - startedAtMs;
  const draw = (above: readonly string[] = []): void => {
    const { screen } = io;
    const back = drawn === 0 ? "" : `\u001B[${drawn}A\r`;
    const lines = [...above, ...showProgress(agents, elapsedMs(), screen)];
    drawn = lines.length - above.length;
    io.write(`${back}${lines.map((line) => `${line}${CLEAR_LINE_END}\n`).join("")}`);
  };
  return {
    start(start) {
      agents = start.agents;
      writeLines(io, showDemoStart(start, io.nowMs(), io.screen));
      if (!io.screen.isTerminal) return;
      io.write(HIDE_CURSOR);
      draw();
      timer = setInterval(draw, REDRAW_MS, []);
    },
    tell(event) {
      const lines = showEvent(event, elapsedMs(), io.screen);
      if (io.screen.isTerminal) draw(lines);
      else writeLines(io, lines);
    },
    stop() {
      if (timer === undefined) return;
      clearInterval(timer);
      timer = undefined;
      draw();
      io.write(SHOW_CURSOR);
    },
  };
}
