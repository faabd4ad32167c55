/**
 * Owns what a program is told of its limits. Does not own the figures (reports/).
 * Invariant: they are those that a decision at this instant would look at, in this process or another.
 */
import type { Labels } from "../engine/identify.ts";
import type { Clock } from "../engine/ports.ts";
import type { Ledger } from "../ledger/ledger.ts";
import type { StatusJson } from "../reports/status-report.ts";

/** Newest calls that say what bounds are worth. */
const RECENT = 200;

export async function readStatus(input: { ledger: Ledger; clock: Clock; labels: Labels }): Promise<StatusJson[]> {
  const { ledger, clock, labels } = input;
  // Only here: who asks for no status need not carry arithmetic of time zones.
  const { buildStatus, toStatusJson } = await import("../reports/status-report.ts");
  const [limits, states, recent] = await Promise.all([ledger.limits(), ledger.scopeStates(), ledger.calls({ limit: RECENT })]);
  const wanted = scopeValues(labels);
  return buildStatus({ limits, states, recent, nowMs: clock.nowMs() })
    .filter(({ scope }) => Object.entries(scope).every(([name, value]) => (wanted.get(name) ?? [value]).includes(value)))
    .map((line) => toStatusJson(line));
}

/** What calls with these labels count for, by scope; a scope that is not named here can be any. */
function scopeValues({ parentSessions = [], tags = {}, session, ...named }: Labels): Map<string, string[]> {
  const sessions = session === undefined ? parentSessions : [session, ...parentSessions];
  return new Map<string, string[]>([
    ...Object.entries(named).map(([name, value]): [string, string[]] => [name, [value]]),
    ...(sessions.length > 0 ? [["session", [...sessions]] as [string, string[]]] : []),
    ...Object.entries(tags).map(([name, value]): [string, string[]] => [`tag:${name}`, [value]]),
  ]);
}
