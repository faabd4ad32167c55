/**
 * Owns telling the program what happened. Does not own what happens.
 * Invariant: no listener can disturb a call: what one throws is a warning of the process.
 */
import type { Alert } from "../core/decisions/alerts.ts";
import type { ErrorDetails } from "../core/errors/codes.ts";
import { formatUsd } from "../core/money/money.ts";
import type { Opening } from "../engine/pipeline.ts";
import type { Notifier } from "../engine/ports.ts";
import type { RunningCall } from "../engine/running-call.ts";
import type { Settled } from "../engine/settler.ts";
import { toJsonAmount, toJsonInstant } from "../reports/json.ts";

/** A threshold was reached. Amounts of usd are decimal text, of others numbers. */
export interface AlertEvent {
  limit: string;
  scope: Readonly<Record<string, string>>;
  threshold: string;
  /** What begins here: `alert`, `stop`, … */
  actions: readonly string[];
  measure: string;
  amount: string | number;
  spent: string | number;
  at: string;
  /** ISO 8601; `null`: never. */
  windowEnd: string | null;
}

/** A call was decided. */
export interface DecisionEvent {
  callId: string;
  /** `allowed`, `waited`, `downgraded`, …; several at once, or `denied` alone. */
  decisions: readonly string[];
  /** What it runs on; `undefined`: denied. */
  model: string | undefined;
  /** Why it was denied. */
  denied: ErrorDetails | undefined;
}

/** A call ended. */
export interface SettledEvent {
  callId: string;
  model: string;
  /** `undefined`: nothing was sent, or the price is unknown. */
  costUsd: string | undefined;
  /** False: the ledger could not be written yet; it will be told again. */
  isDurable: boolean;
}

/** Something an operator has to know, such as a ledger that cannot be written. */
export interface WarningEvent {
  event: string;
  details: Readonly<Record<string, string | number>>;
}

export interface PurserEvents {
  alert: AlertEvent;
  decision: DecisionEvent;
  settled: SettledEvent;
  /** Without a listener, a warning of the process. */
  warning: WarningEvent;
}

export interface Events {
  on<Name extends keyof PurserEvents>(name: Name, listener: (event: PurserEvents[Name]) => void): () => void;
  tell<Name extends keyof PurserEvents>(name: Name, event: () => PurserEvents[Name]): void;
  /** For the engine: alerts and warnings. */
  notifier: Notifier;
}

export function createEvents(): Events {
  const listeners: { [Name in keyof PurserEvents]: Set<(event: PurserEvents[Name]) => void> } = {
    alert: new Set(),
    decision: new Set(),
    settled: new Set(),
    warning: new Set(),
  };
  const tell: Events["tell"] = (name, event) => {
    const told = listeners[name];
    if (told.size === 0) return;
    const value = event();
    for (const listener of told) tellOne(listener, value);
  };
  return {
    on(name, listener) {
      listeners[name].add(listener);
      return () => void listeners[name].delete(listener);
    },
    tell,
    notifier: {
      alert: (alert) => tell("alert", () => alertEvent(alert)),
      warn(event, details) {
        if (listeners.warning.size > 0) tell("warning", () => ({ event, details }));
        else
          process.emitWarning(`${event.replaceAll("_", " ")}: ${JSON.stringify(details)}`, {
            type: "PurserWarning",
            code: event,
          });
      },
    },
  };
}

function tellOne<Event>(listener: (event: Event) => void, event: Event): void {
  try {
    const returned: unknown = listener(event);
    if (returned instanceof Promise) returned.catch(warnOf);
  } catch (error) {
    warnOf(error);
  }
}

function warnOf(error: unknown): void {
  process.emitWarning(error instanceof Error ? error : String(error));
}

function alertEvent({ limit, scope, threshold, actions, measure, amount, spent, atMs, windowEndMs }: Alert): AlertEvent {
  return {
    limit,
    scope,
    threshold,
    actions,
    measure,
    amount: toJsonAmount(measure, amount),
    spent: toJsonAmount(measure, spent),
    at: toJsonInstant(atMs) ?? "",
    windowEnd: toJsonInstant(windowEndMs),
  };
}

export function tellDecision(events: Events, opening: Opening): void {
  const { callId } = opening.outcome === "admitted" ? opening.call : opening;
  if (opening.outcome === "refused") {
    const { details } = opening.refusal;
    events.tell("decision", () => ({ callId, decisions: ["denied"], model: undefined, denied: details }));
  } else if (opening.outcome === "admitted") {
    const { decision, candidate } = opening.call;
    events.tell("decision", () => ({ callId, decisions: decision.marks, model: candidate.model, denied: undefined }));
  }
}

export function tellSettled(events: Events, call: RunningCall, { costNanoUsd, isDurable }: Settled): void {
  const costUsd = costNanoUsd === undefined ? undefined : formatUsd(costNanoUsd);
  events.tell("settled", () => ({ callId: call.callId, model: call.candidate.model, costUsd, isDurable }));
}
