/**
 * Owns how a running gateway tells what happened: a line each on standard error, a sentence on a terminal, JSON elsewhere.
 * Does not own what is told (engine/, gateway/).
 * Invariants: one event is one line, whatever text is in it; nothing here throws.
 */
import type { LogLevel } from "../../config/environment.ts";
import type { Alert } from "../../core/decisions/alerts.ts";
import { formatMeasured } from "../../core/limits/describe.ts";
import { formatInstant } from "../../core/windows/instant.ts";
import type { Notifier } from "../../engine/ports.ts";
import type { CliIo } from "../cli-io.ts";
import { formatLocal } from "./instants.ts";
import { alertSentence } from "./status-view.ts";
import { clean } from "./text.ts";
import { createStyle } from "./style.ts";

type Level = Exclude<LogLevel, "silent">;
type Details = Readonly<Record<string, string | number>>;

/** Tells one event. `sentence` is for people, `details` for programs. */
export interface Log {
  tell(level: Level, event: string, sentence: string, details?: Details): void;
  /** For the engine: alerts and warnings. */
  notifier: Notifier;
}

const RANK: Readonly<Record<LogLevel, number>> = { debug: 0, info: 1, warn: 2, error: 3, silent: 4 };

/** Events that the books or the calls suffer from; what else is told is a warning. */
const ERRORS = new Set(["ledger_unavailable", "settlement_conflict", "internal_error", "reload_failed", "ledger_bypassed"]);

/** What each event of the engine means to a person. */
const SENTENCES: Readonly<Record<string, string>> = {
  ledger_unavailable: "the ledger cannot be written; calls under hard limits are refused until it can",
  ledger_bypassed: "a call was let through although the ledger cannot be written, as onLedgerUnavailable: allow says",
  settlement_waits: "a settlement waits until the ledger can be written",
  settlement_conflict: "a call was settled twice with different amounts; the first one stands",
  overrun: "a call cost more than its proven bound; all of it is counted",
  bound_passed: "a call used more tokens than its proven bound; all of them are counted",
  archiving_failed: "calls past retention could not be archived; they stay, and it is tried again in a day",
  recovered: "calls of a process that ended without settling them were counted at their bounds",
  reload_failed: "the changed configuration could not be put in force; the one before stays",
  internal_error: "the gateway failed on a request, which was refused",
};

/** A log that honours the level, and the place standard error goes to. */
export function createLog(input: { io: CliIo; level: LogLevel; timeZone: string; hasColor: boolean }): Log {
  const { io, timeZone } = input;
  const style = createStyle(input.hasColor && io.isErrorTerminal);
  const paints = { debug: style.dim, info: style.dim, warn: style.yellow, error: style.red };
  const tell: Log["tell"] = (level, event, sentence, details = {}) => {
    if (RANK[level] < RANK[input.level]) return;
    const atMs = io.nowMs();
    if (!io.isErrorTerminal) {
      io.writeError(`${JSON.stringify({ at: formatInstant(atMs), level, event, message: sentence, ...details })}\n`);
      return;
    }
    const rest = Object.entries(details).map(([name, value]) => `${name} ${clean(String(value))}`);
    const text = `${clean(sentence)}${rest.length === 0 ? "" : ` (${rest.join(", ")})`}`;
    io.writeError(`${style.dim(formatLocal(atMs, timeZone).slice(11))} ${paints[level](level.padEnd(5))} ${text}\n`);
  };
  return {
    tell,
    notifier: {
      alert: (alert) => tell("warn", "alert", alertSentence(alert), io.isErrorTerminal ? {} : alertDetails(alert)),
      warn: (event, details) => {
        const sentence = SENTENCES[event] ?? event.replaceAll("_", " ");
        tell(ERRORS.has(event) ? "error" : "warn", event, sentence, oneLine(details));
      },
    },
  };
}

function alertDetails({ limit, scope, threshold, measure, spent, amount }: Alert): Details {
  const values = Object.entries(scope).map(([name, value]) => `${name}=${value}`);
  return {
    limit,
    scope: values.join(","),
    threshold,
    measure,
    spent: formatMeasured(measure, spent),
    amount: formatMeasured(measure, amount),
  };
}

/** Only the first line of what an error says of itself: its stack is for who asks for it. */
function oneLine(details: Details): Details {
  return Object.fromEntries(
    Object.entries(details).map(([name, value]) => [name, typeof value === "string" ? (value.split("\n")[0] ?? "") : value]),
  );
}
