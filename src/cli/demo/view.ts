/**
 * Owns how the demo looks: what is going on while it runs, and what came out of it.
 * Invariant: every figure shown was measured in this run.
 */
import { describeLimit } from "../../core/limits/describe.ts";
import { formatUsd } from "../../core/money/money.ts";
import { totalInputTokens } from "../../core/usage/usage.ts";
import { formatBar, formatCount, formatExactMoney, formatMoney, paintOf, shareBps } from "../output/figures.ts";
import type { Screen } from "../output/screen.ts";
import { renderTable, type TableInput } from "../output/table.ts";
import { clean, cut, pad, wrap } from "../output/text.ts";
import type { AgentEvent, AgentProgress } from "./agent.ts";
import { RUNAWAY, TRIES_AFTER_REFUSAL } from "./plans.ts";
import type { DemoResult, DemoStart } from "./run.ts";

const SESSION_LIMIT_NANO_USD = 10_000_000_000n;
const BAR_CELLS = 20;
const BAR_CELLS_NARROW = 8;
/** From here on there is room for long bars. */
const WIDE_COLUMNS = 100;
/** Below this there is none for the models. */
const MODEL_COLUMNS = 79;

/** What is said before anything runs. */
export function showDemoStart({ config, agents }: DemoStart, nowMs: number, screen: Screen): string[] {
  const { bold, dim } = screen.style;
  const names = Math.max(...agents.map(({ plan }) => plan.agent.length));
  return [
    ...wrap("Purser demo: four agents, a simulated provider, and Purser between them. No key, no network.", screen.width).map(
      (line) => bold(line),
    ),
    "",
    ...config.limits.flatMap((limit) =>
      wrap(`• ${clean(describeLimit(limit, { nowMs }))}`, screen.width - 2, "  ").map((line) => `  ${line}`),
    ),
    "",
    ...agents.map(({ plan }) => `  ${pad(plan.agent, names, "left")}  ${dim(`${pad(plan.model, 17, "left")}  ${plan.what}`)}`),
    "",
  ];
}

/** The agents as they are now: a line each. */
export function showProgress(agents: readonly AgentProgress[], elapsedMs: number, screen: Screen): string[] {
  const { dim } = screen.style;
  const names = Math.max(...agents.map(({ plan }) => plan.agent.length));
  const lines = agents.map((progress) => {
    const spentBps = shareBps(progress.spentNanoUsd, SESSION_LIMIT_NANO_USD);
    const paint = paintOf(progress.state === "stopped" ? 10_000 : spentBps, screen);
    const cells = screen.width < WIDE_COLUMNS ? BAR_CELLS_NARROW : BAR_CELLS;
    const bar = paint(formatBar({ spentBps, reservedBps: 0, cells }));
    const model = screen.width < MODEL_COLUMNS ? "" : `${pad(progress.model, 17, "left")}  `;
    const spent = formatMoney(progress.spentNanoUsd, 2, "up").padStart(7);
    const calls = `${formatCount(progress.calls)} calls`.padStart(9);
    return `  ${pad(progress.plan.agent, names, "left")}  ${bar} ${spent}${calls}  ${model}${stateText(progress, screen)}`;
  });
  return [
    ...lines,
    dim(`  ${Math.floor(elapsedMs / 1_000)} s; a bar is a session's limit of ${formatExactMoney(SESSION_LIMIT_NANO_USD)}`),
  ];
}

function stateText({ state }: AgentProgress, { style }: Screen): string {
  switch (state) {
    case "working":
    case "finished":
      return style.green(state);
    case "cheaper model":
    case "slowed down":
      return style.yellow(state);
    case "stopped":
    case "failed":
      return style.red(state);
  }
}

/** A line for something that happened. */
export function showEvent({ agent, kind, progress, detail }: AgentEvent, elapsedMs: number, screen: Screen): string[] {
  const { style } = screen;
  const at = `${(elapsedMs / 1_000).toFixed(1)} s`.padStart(7);
  const spent = formatMoney(progress.spentNanoUsd, 2, "up");
  const calls = `${formatCount(progress.calls)} call${progress.calls === 1 ? "" : "s"}`;
  const text = ((): string => {
    switch (kind) {
      case "downgraded":
        return style.yellow(`past $5.00: runs on ${clean(detail)} from here on`);
      case "throttled":
        return style.yellow(`past $8.00: slowed down to one start a second`);
      case "refused":
        return style.red(`stopped at ${spent} after ${calls}`);
      case "finished":
        return style.green(`done: ${calls}, ${spent}`);
      case "failed":
        return style.red(`failed: ${clean(detail)}`);
    }
  })();
  return [`${style.dim(at)}  ${agent}: ${text}`].map((line) => (screen.isTerminal ? line : line.trimStart()));
}

/** What came out of it. */
export function showResult(result: DemoResult, screen: Screen): string[] {
  const { bold } = screen.style;
  return [
    "",
    bold("Thresholds reached"),
    ...renderTable(thresholdTable(result), screen),
    bold("Where the money went, as the ledger has it"),
    ...renderTable(spendTable(result), screen),
    bold("The bill"),
    ...billLines(result, screen),
    "",
    ...stopLines(result, screen),
    "",
    bold("With your own agent"),
    "  npx purser serve",
    "  export ANTHROPIC_BASE_URL=http://127.0.0.1:4141",
    ...wrap(
      "Then run it as ever: its own key goes through to the provider, and npx purser status --watch shows what it spends.",
      screen.width,
    ),
  ];
}

function thresholdTable({ alerts, agents, startedAtMs, stoppedAtMs }: DemoResult): TableInput {
  const after = (atMs: number): string => `${((atMs - startedAtMs) / 1_000).toFixed(1)} s`;
  const runaway = agents.find(({ plan }) => plan.agent === RUNAWAY);
  const refusal = runaway?.refusal;
  return {
    columns: [
      { title: "After", kind: "figure" },
      { title: "Limit", kind: "text", dropOrder: 1 },
      { title: "Session", kind: "text" },
      { title: "At", kind: "figure" },
      { title: "Spent", kind: "figure" },
      { title: "What Purser did", kind: "text", widthMin: 30 },
    ],
    rows: [
      // The stop has a row of its own, with what it refused.
      ...alerts
        .filter(({ actions }) => !actions.includes("stop"))
        .map(({ atMs, limit, scope, thresholdAmount, spent, actions }) => [
          after(atMs),
          limit,
          scope["session"] ?? "all calls",
          formatExactMoney(thresholdAmount),
          formatMoney(spent, 4, "up"),
          actions.includes("downgrade")
            ? "moved it to a cheaper model"
            : actions.includes("throttle")
              ? "slowed it down"
              : "told",
        ]),
      ...(refusal === undefined || stoppedAtMs === undefined || runaway === undefined
        ? []
        : [
            [
              after(stoppedAtMs),
              refusal.limit,
              runaway.plan.session,
              formatExactMoney(refusal.amountNanoUsd),
              formatMoney(refusal.spentNanoUsd, 4, "up"),
              `stopped it: next may cost ${formatMoney(refusal.requestedNanoUsd, 2, "up")}`,
            ],
          ]),
    ],
  };
}

function spendTable({ groups }: DemoResult): TableInput {
  const sum = (pick: (group: DemoResult["groups"][number]) => number): number =>
    groups.reduce((total, group) => total + pick(group), 0);
  const cost = groups.reduce((total, { costNanoUsd }) => total + costNanoUsd, 0n);
  const sorted = groups.filter(({ calls }) => calls > 0).toSorted((a, b) => (a.costNanoUsd > b.costNanoUsd ? -1 : 1));
  return {
    columns: [
      { title: "Agent", kind: "text" },
      { title: "Model", kind: "text", widthMin: 16 },
      { title: "Calls", kind: "figure" },
      { title: "Input", kind: "figure", dropOrder: 2 },
      { title: "Output", kind: "figure", dropOrder: 1 },
      { title: "Cost", kind: "figure" },
    ],
    rows: sorted.map(({ key, calls, tokens, costNanoUsd }) => [
      key["agent"] ?? "",
      key["model"] ?? "",
      formatCount(calls),
      formatCount(totalInputTokens(tokens)),
      formatCount(tokens.outputTokens),
      formatMoney(costNanoUsd, 4),
    ]),
    total: [
      "Total",
      "",
      formatCount(sum(({ calls }) => calls)),
      formatCount(sum(({ tokens }) => totalInputTokens(tokens))),
      formatCount(sum(({ tokens }) => tokens.outputTokens)),
      formatMoney(cost, 4),
    ],
  };
}

function billLines({ ledgerNanoUsd, billNanoUsd, withoutNanoUsd, withoutCalls }: DemoResult, { style, width }: Screen): string[] {
  const isSame = ledgerNanoUsd === billNanoUsd;
  const savedNanoUsd = withoutNanoUsd - billNanoUsd;
  const figures = [ledgerNanoUsd, billNanoUsd, withoutNanoUsd, savedNanoUsd].map((amount) => `$${formatUsd(amount)}`);
  const places = Math.max(...figures.map((figure) => figure.length - figure.indexOf(".")));
  const wide = Math.max(...figures.map((figure) => figure.indexOf(".")));
  const line = (name: string, index: number, text: string): string[] => {
    const figure = figures[index] ?? "";
    const aligned = `${" ".repeat(wide - figure.indexOf("."))}${figure}`.padEnd(wide + places);
    const head = `  ${name.padEnd(20)} ${index === 3 || index === 0 ? style.bold(aligned) : aligned}`;
    return [`${head}  ${cut(text, Math.max(20, width - 25 - wide - places))}`.trimEnd()];
  };
  return [
    ...line("Purser's ledger", 0, ""),
    ...line("provider's own bill", 1, isSame ? "the same, to the nano-dollar" : "NOT the same"),
    ...line("without Purser", 2, `the same ${formatCount(withoutCalls)} calls, nothing between`),
    ...line("not spent", 3, withoutNanoUsd === 0n ? "" : `${(savedNanoUsd * 100n) / withoutNanoUsd} % of it`),
  ];
}

function stopLines({ agents, forwardedAfterStop }: DemoResult, { style, width }: Screen): string[] {
  const runaway = agents.find(({ plan }) => plan.agent === RUNAWAY);
  const others = agents.filter(({ plan }) => plan.agent !== RUNAWAY);
  const isUnhindered = others.every(({ state }) => state === "finished");
  const refusal = runaway?.refusal === undefined ? [] : wrap(`“${clean(runaway.refusal.message)}”`, width - 2);
  return [
    ...wrap(`What ${RUNAWAY} was told, in the provider's own error shape (HTTP 402, which clients do not retry):`, width),
    ...refusal.map((line) => `  ${style.cyan(line)}`),
    ...wrap(
      `It tried ${TRIES_AFTER_REFUSAL} more times; ${forwardedAfterStop === 0 ? "none" : String(forwardedAfterStop)} reached the provider. ${
        isUnhindered ? "The three others finished their work and noticed nothing." : "Not every other agent finished."
      }`,
      width,
    ),
  ];
}
