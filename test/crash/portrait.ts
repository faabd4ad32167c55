/**
 * Everything a ledger says through its port, as plain text values that a file can hold: two ledgers with equal portraits answer every
 * question alike. Knows nothing of how a store keeps it.
 */
import { compileLimits, totalsOf } from "../../src/core/decisions/counters.ts";
import type { Limit } from "../../src/core/limits/limit.ts";
import type { CallRecord, Ledger, ReportDimension } from "../../src/ledger/ledger.ts";

/** What a ledger says, by question. */
export type Portrait = Record<"calls" | "open" | "totals" | "reports" | "alerts" | "keys" | "owners" | "limits", string[]>;

const GROUPINGS: readonly ReportDimension[][] = [[], ["project", "model"], ["agent"], ["session"], ["user", "key"], ["tag:team"]];

/** Asks everything. @param instants when the limits are looked at. */
export async function portraitOf(ledger: Ledger, instants: readonly number[]): Promise<Portrait> {
  const limits = await ledger.limits();
  const calls = await ledger.calls({ limit: 1_000_000 });
  const reports = await Promise.all(GROUPINGS.map((by) => ledger.report({ fromMs: 0, toMs: Infinity, by })));
  const open = await ledger.openCalls();
  return {
    calls: calls.map(sentenceOfCall),
    open: open
      .map(({ callId, ownerId, atMs, usdBound, inputTokensBound, outputTokensBound, charges }) => {
        const held = charges.map((charge) => `${charge.scopeKey} ${charge.what} ${charge.windowKey} ${charge.reserved}`).sort();
        return `${callId} of ${ownerId} at ${atMs}: ${usdBound}, ${inputTokensBound}, ${outputTokensBound}; ${held.join("; ")}`;
      })
      .sort(),
    totals: await totalsAt(ledger, limits, instants),
    reports: reports.flatMap((groups, index) =>
      groups
        .map(({ key, calls: count, denied, costNanoUsd, tokens }) =>
          [`by ${GROUPINGS[index]?.join("+")}`, JSON.stringify(key), count, denied, costNanoUsd, JSON.stringify(tokens)].join(
            " ",
          ),
        )
        .sort(),
    ),
    alerts: (await ledger.alerts({ limit: 1_000_000 })).map(
      ({ limit, scope, threshold, actions, spent, thresholdAmount, atMs, windowEndMs }) =>
        `${limit} ${JSON.stringify(scope)} ${threshold} ${actions.join("+")} ${spent}/${thresholdAmount} ${atMs} ${windowEndMs}`,
    ),
    keys: (await ledger.keys()).map((key) => JSON.stringify(key)),
    owners: (await ledger.owners()).map((owner) => JSON.stringify(owner)).sort(),
    limits: limits.map(
      ({ name, per, measure, amount, window }) => `${name} ${per.join("+")} ${measure} ${amount} ${window.kind}`,
    ),
  };
}

function sentenceOfCall(call: CallRecord): string {
  const { callId, status, startedAtMs, endedAtMs, facts, costNanoUsd, reservedNanoUsd, overrunNanoUsd, isLate } = call;
  const money = `cost ${costNanoUsd}, reserved ${reservedNanoUsd}, overrun ${overrunNanoUsd}`;
  const end = call.result === undefined ? "" : JSON.stringify([call.result.tokens, call.result.stopReason, call.result.error]);
  const denied = call.deniedWith === undefined ? "" : `, denied ${call.deniedWith.code} ${call.deniedWith.view?.limit}`;
  const where = JSON.stringify([facts.scopes, call.decision?.canonicalModel, call.decision?.marks]);
  return `${callId} ${status}${isLate ? " late" : ""} ${startedAtMs}-${endedAtMs}, ${money}${denied} ${where} ${end}`;
}

/** What every limit counts at every instant, by scope value; what is zero says nothing. */
async function totalsAt(ledger: Ledger, limits: readonly Limit[], instants: readonly number[]): Promise<string[]> {
  const states = await ledger.scopeStates();
  const lines: string[] = [];
  for (const compiled of compileLimits({ version: "", limits, downgrade: new Map() }).limits) {
    for (const [key, state] of states) {
      for (const atMs of instants) {
        const { spent, reserved } = totalsOf(state, compiled, atMs);
        if (spent === 0n && reserved === 0n) continue;
        lines.push(`${compiled.limit.name} of ${key} at ${atMs}: spent ${spent}, reserved ${reserved}`);
      }
    }
  }
  return lines.sort();
}

/** The lines that one portrait has and another has not. */
export function changesOf(before: Portrait, after: Portrait): { gone: string[]; added: string[] } {
  const [linesBefore, linesAfter] = [new Set(Object.values(before).flat()), new Set(Object.values(after).flat())];
  return {
    gone: [...linesBefore].filter((line) => !linesAfter.has(line)),
    added: [...linesAfter].filter((line) => !linesBefore.has(line)),
  };
}
