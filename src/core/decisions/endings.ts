/**
 * Owns how a reservation ends: lowered while it runs, then settled, voided or expired, once; and refusals made outside of one.
 * Does not own what a call is settled at (engine/settlement.ts).
 * Invariants: an ending said again changes nothing; what was counted at its bound is replaced by a late settlement, whole; a charge
 * stays at the instant of its reservation.
 */
import { type NanoUsd, ZERO_USD, toNanoUsd } from "../money/money.ts";
import { type Alert } from "./alerts.ts";
import { chargeCounter, counterIdOf, countersOf, emptySessionState, sessionKeyOf, windowOf, type Charge } from "./counters.ts";
import type {
  CallResult,
  EndResult,
  EndedCall,
  ExpireOperation,
  NewEntry,
  OpenCall,
  OperationResult,
  RefuseOperation,
  RenewOperation,
  RenewResult,
  SettleOperation,
  VoidOperation,
} from "./operations.ts";

import { stateAt, isKnown, keepSession, appendAlerts, heldFor, measureOf, actualOf, type Book } from "./book.ts";

export function renew(book: Book, operation: RenewOperation): RenewResult {
  const { callId, atMs } = operation;
  const open = book.openCall(callId);
  if (open === undefined) return { kind: "renew", outcome: "not_open", freedCounterIds: [] };
  const lower = {
    // What nothing bounds is not known any better while it runs.
    usdBound: open.isUnbounded ? open.usdBound : smaller(open.usdBound, operation.usdBound),
    inputTokensBound: Math.min(open.inputTokensBound, operation.inputTokensBound),
    outputTokensBound: Math.min(open.outputTokensBound, operation.outputTokensBound),
  };
  const isLower =
    lower.usdBound !== open.usdBound ||
    lower.inputTokensBound !== open.inputTokensBound ||
    lower.outputTokensBound !== open.outputTokensBound;
  if (!isLower) return { kind: "renew", outcome: "renewed", freedCounterIds: [] };
  const changes = open.charges.map((charge): Charge => {
    const target = heldFor(charge, lower);
    return { ...charge, spent: 0n, reserved: target < charge.reserved ? target - charge.reserved : 0n };
  });
  const charges = changes.filter(({ reserved }) => reserved !== 0n);
  for (const charge of charges) chargeExisting(book, charge, open.atMs);
  book.putOpenCall({
    ...open,
    ...lower,
    charges: open.charges.map((charge, index) => ({ ...charge, reserved: charge.reserved + (changes[index]?.reserved ?? 0n) })),
  });
  book.append({ kind: "renewed", callId, atMs, costNanoUsd: undefined, charges, body: { kind: "renewed", ...lower } });
  return { kind: "renew", outcome: "renewed", freedCounterIds: idsOf(charges) };
}

/** A bound that is not known stays unknown: nothing was reserved for it that could be lowered. */
function smaller(held: NanoUsd | undefined, next: NanoUsd | undefined): NanoUsd | undefined {
  return held === undefined || next === undefined || held < next ? held : next;
}

export function settle(book: Book, operation: SettleOperation): EndResult {
  const { callId, atMs, result } = operation;
  const running = book.openCall(callId);
  const ended = running === undefined ? book.endedCall(callId) : undefined;
  if (ended !== undefined && ended.status !== "expired") return endedBefore("settle", ended, result.costNanoUsd);
  const open = running ?? ended?.open;
  if (open === undefined) return noEnd("settle", "unknown_call");

  // Unpriced: counted at its bound; without one its cost is unknown, which is not zero.
  const costNanoUsd = result.costNanoUsd ?? open.usdBound;
  const spent = open.charges.map(({ what }) => actualOf(what, { tokens: result.tokens, costNanoUsd }));
  const charges = open.charges.map(({ scopeKey, what, windowKey, reserved }, index): Charge => {
    const actual = spent[index] ?? 0n;
    const counted = ended?.spent[index];
    return counted === undefined
      ? { scopeKey, what, windowKey, spent: actual, reserved: -reserved }
      : { scopeKey, what, windowKey, spent: actual - counted, reserved: 0n };
  });
  const overrunNanoUsd = toNanoUsd(
    open.usdBound !== undefined && costNanoUsd !== undefined && costNanoUsd > open.usdBound ? costNanoUsd - open.usdBound : 0n,
  );
  noteSession(book, open, result);
  const body = { kind: "settled" as const, result, isLate: ended !== undefined, overrunNanoUsd };
  const adjustments = ended?.adjustments ?? [];
  const next: EndedCall = { status: "settled", costNanoUsd, open, spent, adjustments, adjustedNanoUsd: 0n };
  endWith(book, next, { kind: "settled", callId, atMs, costNanoUsd, charges, body });
  const alerts = alertsAfter(book, open, atMs);
  return { kind: "settle", outcome: "done", overrunNanoUsd, alerts, freedCounterIds: idsOf(charges) };
}

function endedBefore(kind: EndResult["kind"], ended: EndedCall, costNanoUsd: NanoUsd | undefined): EndResult {
  const isSame = ended.status === "settled" && (costNanoUsd === undefined || costNanoUsd === ended.costNanoUsd);
  return isSame ? alreadyDone(kind, ended) : noEnd(kind, "conflict");
}

/** Said before. The answer may have been lost then, so it is told again what that freed: somebody may wait for it. */
function alreadyDone(kind: EndResult["kind"], { open }: EndedCall): EndResult {
  const held = open.charges.filter(({ spent, reserved }) => reserved > 0n || spent > 0n);
  return { ...noEnd(kind, "already_done"), freedCounterIds: held.map(({ scopeKey, what }) => counterIdOf(scopeKey, what)) };
}

function noEnd(kind: EndResult["kind"], outcome: EndResult["outcome"]): EndResult {
  return { kind, outcome, overrunNanoUsd: ZERO_USD, alerts: [], freedCounterIds: [] };
}

export function voidCall(book: Book, { callId, atMs, reason }: VoidOperation): EndResult {
  const ended = book.endedCall(callId);
  if (ended !== undefined) return ended.status === "voided" ? alreadyDone("void", ended) : noEnd("void", "conflict");
  const open = book.openCall(callId);
  if (open === undefined) return noEnd("void", "unknown_call");
  const charges = open.charges.map((charge): Charge => ({ ...charge, spent: -charge.spent, reserved: -charge.reserved }));
  const entry = {
    kind: "voided" as const,
    callId,
    atMs,
    costNanoUsd: ZERO_USD,
    charges,
    body: { kind: "voided" as const, reason },
  };
  endWith(book, { status: "voided", costNanoUsd: ZERO_USD, open, spent: charges.map(() => 0n), ...UNADJUSTED }, entry);
  return { kind: "void", outcome: "done", overrunNanoUsd: ZERO_USD, alerts: [], freedCounterIds: idsOf(charges) };
}

export function expire(book: Book, { callId, atMs, reason }: ExpireOperation): EndResult {
  const ended = book.endedCall(callId);
  if (ended !== undefined) return ended.status === "expired" ? alreadyDone("expire", ended) : noEnd("expire", "conflict");
  const open = book.openCall(callId);
  if (open === undefined) return noEnd("expire", "unknown_call");
  const isSlot = (charge: Charge): boolean => measureOf(charge.what) === "concurrency";
  const spent = open.charges.map((charge) => (isSlot(charge) ? 0n : charge.reserved));
  const charges = open.charges.map((charge, index): Charge => ({
    ...charge,
    spent: spent[index] ?? 0n,
    reserved: -charge.reserved,
  }));
  const costNanoUsd = open.usdBound;
  const tokens = { inputTokens: open.inputTokensBound, outputTokens: open.outputTokensBound };
  const body = { kind: "expired" as const, reason, tokens };
  const next: EndedCall = { status: "expired", costNanoUsd, open, spent, ...UNADJUSTED };
  endWith(book, next, { kind: "expired", callId, atMs, costNanoUsd, charges, body });
  return {
    kind: "expire",
    outcome: "done",
    overrunNanoUsd: ZERO_USD,
    alerts: alertsAfter(book, open, atMs),
    freedCounterIds: idsOf(charges),
  };
}

const UNADJUSTED = { adjustments: [], adjustedNanoUsd: 0n };

function endWith(book: Book, ended: EndedCall, entry: NewEntry): void {
  for (const charge of entry.charges) chargeExisting(book, charge, ended.open.atMs);
  book.endCall(ended);
  book.append({ ...entry, charges: entry.charges.filter(({ spent, reserved }) => spent !== 0n || reserved !== 0n) });
}

/** Charges a counter made by the reservation or by filling, also if it was put away since. */
function chargeExisting(book: Book, charge: Charge, chargedAtMs: number): void {
  chargeCounter(stateAt(book, charge.scopeKey, chargedAtMs), charge, Infinity);
}

/** What was held, and what was spent and is given back: a request that was never sent, a bound that was counted too high. */
function idsOf(charges: readonly Charge[]): string[] {
  return charges
    .filter(({ spent, reserved }) => reserved < 0n || spent < 0n)
    .map(({ scopeKey, what }) => counterIdOf(scopeKey, what));
}

/** Remembers what `grace` asks of a session: that it has a settled call here, and whether it is in the middle of its work. */
function noteSession(book: Book, open: OpenCall, { stopReason }: CallResult): void {
  const isNeeded = book.limits.limits.some(({ actionKinds }) => actionKinds.has("grace"));
  if (!isNeeded) return;
  const sessionKey = sessionKeyOf(open.scopes);
  const session = book.scope(sessionKey).session ?? emptySessionState();
  // An answer that broke off, or an error, ends no turn: the session is still in the middle of what it did.
  if (stopReason !== undefined) session.lastStopReason = stopReason;
  session.lastSettledChargeAtMs = Math.max(session.lastSettledChargeAtMs ?? 0, open.atMs);
  keepSession(book, sessionKey, session);
}

/** The thresholds that a change of what a call is counted with reached. */
export function alertsAfter(book: Book, open: OpenCall, atMs: number): Alert[] {
  // A charge in a window that is over reaches no threshold that still matters.
  const counters = countersOf(book.limits, open.scopes, open.model).filter(
    ({ compiled: { limit } }) => limit.window.kind !== "calendar" || windowOf(limit, atMs).key === windowOf(limit, open.atMs).key,
  );
  return appendAlerts(book, counters, open.callId, atMs);
}

export function refuse(book: Book, { call, atMs, code, view }: RefuseOperation): OperationResult {
  if (isKnown(book, call.callId)) return { kind: "refuse", outcome: "duplicate" };
  const body = { kind: "denied" as const, decision: undefined, call, code, view };
  book.append({ kind: "denied", callId: call.callId, atMs, costNanoUsd: undefined, charges: [], body });
  return { kind: "refuse", outcome: "recorded" };
}
