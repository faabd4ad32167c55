/**
 * Owns what bounds were worth: per limit and scope value, how much was set aside for what was used, and how often it was too little.
 * Does not own the bounds (providers/, core/pricing) or what a call counts with (core/decisions).
 * Invariant: a call is measured by each limit that looked at it, in that limit's measure, against what it last asked of it.
 */
import { boundWith } from "../core/decisions/admit.ts";
import { actualOf } from "../core/decisions/book.ts";
import type { CallRecord } from "../ledger/ledger.ts";

/** What bounds were worth to one limit and scope value. */
export interface BoundWorth {
  /** How much was set aside for each unit used, in basis points; `undefined`: nothing was used. */
  boundToActualBps: number | undefined;
  /** Calls that used more than was set aside. */
  boundsPassed: number;
}

/** Looks up a limit's scope value. */
export type BoundWorthOf = (limit: { name: string; what: string }, scope: Readonly<Record<string, string>>) => BoundWorth;

/** @param recent calls as they come; those that are not settled, or have no known cost, say nothing. */
export function measureBounds(recent: readonly CallRecord[]): BoundWorthOf {
  const settled = recent.filter(({ status, costNanoUsd }) => status === "settled" && costNanoUsd !== undefined);
  const viewed = new Map<string, { record: CallRecord; bound: bigint }[]>();
  for (const record of settled) {
    const { decision } = record;
    if (decision === undefined) continue;
    const fitted = decision.marks.includes("fitted") ? decision.outputTokensBound : undefined;
    for (const view of decision.admit.views) {
      const bound = boundWith(view, decision.admit.fit, fitted);
      if (bound === undefined) continue;
      const key = keyOf(view.limit, view.scope);
      const others = viewed.get(key);
      if (others === undefined) viewed.set(key, [{ record, bound }]);
      else others.push({ record, bound });
    }
  }
  return ({ name, what }, scope) => {
    let bounds = 0n;
    let used = 0n;
    let boundsPassed = 0;
    for (const { record, bound } of viewed.get(keyOf(name, scope)) ?? []) {
      const actual = usedBy(record, what);
      if (actual === 0n) continue;
      bounds += bound;
      used += actual;
      if (actual > bound) boundsPassed += 1;
    }
    return { boundToActualBps: used === 0n ? undefined : Number((bounds * 10_000n) / used), boundsPassed };
  };
}

/** As the ending said it: a correction is no matter of bounds. Requests and calls at once are their own bounds: 0. */
function usedBy({ result, costNanoUsd, adjustedNanoUsd }: CallRecord, what: string): bigint {
  if (result === undefined || costNanoUsd === undefined) return 0n;
  return what.startsWith("usd") ? costNanoUsd - adjustedNanoUsd : actualOf(what, result);
}

function keyOf(limit: string, scope: Readonly<Record<string, string>>): string {
  return JSON.stringify([limit, Object.entries(scope).toSorted(([a], [b]) => (a < b ? -1 : 1))]);
}
