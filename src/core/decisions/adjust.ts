/**
 * Owns how what a call is counted with is corrected after it ended, once per id.
 * Does not own who corrects and why (cli/).
 * Invariants: a correction changes the amount of a charge, never its instant; the corrected cost is never below zero; what the ending
 * said stays beside it, so that a settlement said again still agrees with it.
 */
import { toNanoUsd, type NanoUsd } from "../money/money.ts";
import { measureOf, stateAt, type Book } from "./book.ts";
import { chargeCounter, countersOf, keptAfterMs, untilOf, windowOf, type Charge } from "./counters.ts";
import { alertsAfter } from "./endings.ts";
import { distinct } from "./fill.ts";
import type { Adjustment, AdjustOperation, AdjustResult, EndedCall, OpenCall } from "./operations.ts";

/** Above this no cost is believed: it is 4.6 thousand million dollars, and sums must stay exact. */
const COST_MAX = 2n ** 62n;

export function adjust(book: Book, operation: AdjustOperation): AdjustResult {
  const { callId, atMs, adjustmentId, deltaNanoUsd, reason, by } = operation;
  if (book.openCall(callId) !== undefined) return unchanged("not_ended", undefined);
  if (book.isDenied(callId)) return unchanged("nothing_sent", undefined);
  const ended = book.endedCall(callId);
  if (ended === undefined) return unchanged("unknown_call", undefined);
  if (ended.status === "voided") return unchanged("nothing_sent", undefined);
  const before = correctedCostOf(ended);
  const same = ended.adjustments.find((other) => other.adjustmentId === adjustmentId);
  if (same !== undefined) return unchanged(same.deltaNanoUsd === deltaNanoUsd ? "already_done" : "conflict", before);
  const corrected = (before ?? 0n) + deltaNanoUsd;
  if (corrected < 0n || corrected > COST_MAX) return unchanged("out_of_range", before);

  const charges =
    ended.status === "expired"
      ? usdCharges(ended.open.charges, deltaNanoUsd)
      : chargesInForce(book, ended.open, deltaNanoUsd, atMs);
  for (const charge of charges) {
    chargeCounter(stateAt(book, charge.scopeKey, ended.open.atMs), charge, untilOf(charge.what, charge.windowKey));
  }
  const next = adjustedCall(ended, { adjustmentId, deltaNanoUsd });
  const costNanoUsd = correctedCostOf(next);
  book.endCall(next);
  book.append({
    kind: "adjusted",
    callId,
    atMs,
    costNanoUsd,
    charges,
    body: { kind: "adjusted", adjustmentId, deltaNanoUsd, reason, by },
  });
  return { kind: "adjust", outcome: "done", costNanoUsd, alerts: alertsAfter(book, ended.open, atMs) };
}

function unchanged(outcome: AdjustResult["outcome"], costNanoUsd: NanoUsd | undefined): AdjustResult {
  return { kind: "adjust", outcome, costNanoUsd, alerts: [] };
}

/** What a call that is over is counted with. */
export function correctedCostOf({ costNanoUsd, adjustedNanoUsd }: EndedCall): NanoUsd | undefined {
  return adjustedNanoUsd === 0n ? costNanoUsd : toNanoUsd((costNanoUsd ?? 0n) + adjustedNanoUsd);
}

/** A call with one more correction. */
export function adjustedCall(ended: EndedCall, { adjustmentId, deltaNanoUsd }: Adjustment): EndedCall {
  const { open, spent } = ended;
  return {
    ...ended,
    // A late settlement replaces the correction together with the bound.
    spent: spent.map((amount, index) => (isUsd(open.charges[index]) ? amount + deltaNanoUsd : amount)),
    adjustments: [...ended.adjustments, { adjustmentId, deltaNanoUsd }],
    adjustedNanoUsd: ended.adjustedNanoUsd + deltaNanoUsd,
  };
}

function isUsd(charge: Charge | undefined): boolean {
  return charge !== undefined && measureOf(charge.what) === "usd";
}

/** An expired call knows every counter it is charged in. */
function usdCharges(charges: readonly Charge[], spent: bigint): Charge[] {
  return charges.filter(isUsd).map((charge) => ({ ...charge, spent, reserved: 0n }));
}

/** A settled call counts in what the limits in force count; a limit that comes later is filled with the corrected cost. */
function chargesInForce(book: Book, open: OpenCall, deltaNanoUsd: bigint, atMs: number): Charge[] {
  return distinct(countersOf(book.limits, open.scopes, open.model)).flatMap(({ compiled: { limit, what }, scopeKey }) => {
    if (measureOf(what) !== "usd") return [];
    const window = windowOf(limit, open.atMs);
    const isThere = stateAt(book, scopeKey, open.atMs).counters.get(what)?.has(window.key) === true;
    // A window that was over before its limit came was never filled: the call is not in it, so there is nothing to correct.
    if (!isThere && (deltaNanoUsd < 0n || window.untilMs + keptAfterMs(what) <= atMs)) return [];
    return [{ scopeKey, what, windowKey: window.key, spent: deltaNanoUsd, reserved: 0n }];
  });
}
