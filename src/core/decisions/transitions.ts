/**
 * Owns what every operation does to the books: the one place where counters change.
 * Does not own loading and storing (ledger/): a store hands in a `Book` and writes what comes out.
 * Invariants: every change of a counter is a charge of an entry, so the sum of all entries is the counters; a charge stays at the
 * instant of its reservation; a reservation ends once; an operation that answers anything but its success changes no counter.
 */
import { type NanoUsd, ZERO_USD, toNanoUsd } from "../money/money.ts";
import { totalInputTokens } from "../usage/usage.ts";
import type { Limit } from "../limits/limit.ts";
import { admit, isGraceUsed, type AdmitInput, type Admission, type LimitView, type Pace } from "./admit.ts";
import { collectAlerts, type Alert } from "./alerts.ts";
import { boundIn, type Candidate } from "./call.ts";
import {
  chargeCounter,
  clearsAtMs,
  countersOf,
  emptySessionState,
  sessionKeyOf,
  totalsOf,
  windowOf,
  type CallCounter,
  type Charge,
  type CompiledLimit,
  type LimitSet,
  type ScopeState,
  type SessionState,
} from "./counters.ts";
import { chooseModel, type ModelChoice } from "./downgrade.ts";
import type {
  CallResult,
  DecisionMark,
  EndResult,
  EndedCall,
  ExpireOperation,
  NewEntry,
  OpenCall,
  Operation,
  OperationResult,
  RefuseOperation,
  RenewOperation,
  RenewResult,
  ReserveOperation,
  ReserveResult,
  SettleOperation,
  StoredDecision,
  VoidOperation,
} from "./operations.ts";

/** What an operation sees and changes. A store keeps it in step with its tables; after a failed commit it is thrown away. */
export interface Book {
  limits: LimitSet;
  /** The state of a scope value, for reading and changing; the same object each time. */
  scope(scopeKey: string): ScopeState;
  /** Brings back the counters of a scope value that were put away although their window ends after an instant. */
  recall(scopeKey: string, endsAfterMs: number): void;
  /** Says that a scope value was changed, so that it is stored. */
  touch(scopeKey: string): void;
  openCall(callId: string): OpenCall | undefined;
  endedCall(callId: string): EndedCall | undefined;
  /** True if this call was refused before. */
  isDenied(callId: string): boolean;
  /** Stores what a call holds now. */
  putOpenCall(call: OpenCall): void;
  /** Moves a call from the open ones to the ended ones. */
  endCall(call: EndedCall): void;
  append(entry: NewEntry): void;
}

/** Carries out one operation. */
export function applyOperation(book: Book, operation: Operation): OperationResult {
  switch (operation.kind) {
    case "reserve":
      return reserve(book, operation);
    case "renew":
      return renew(book, operation);
    case "settle":
      return settle(book, operation);
    case "void":
      return voidCall(book, operation);
    case "expire":
      return expire(book, operation);
    case "refuse":
      return refuse(book, operation);
  }
}

/** The state of a scope value with every counter that an instant looks at: a clock set back may ask for one put away. */
function stateAt(book: Book, scopeKey: string, atMs: number): ScopeState {
  const state = book.scope(scopeKey);
  if (state.droppedUntilMs > atMs) book.recall(scopeKey, atMs);
  return state;
}

// ---- reserve ---------------------------------------------------------------------------------------------------------------

function reserve(book: Book, operation: ReserveOperation): ReserveResult {
  const { call, candidates } = operation;
  const asked = candidates[0];
  if (asked === undefined) throw new RangeError("reserve: candidates is empty; the model asked for is the first one");
  if (isKnown(book, call.callId)) return { kind: "reserve", outcome: "duplicate" };
  const sessionKey = sessionKeyOf(call.scopes);
  const session = book.scope(sessionKey).session ?? emptySessionState();
  const isForced = operation.isForced === true;
  // What was let through without the ledger ran as it was asked for.
  const choice: ModelChoice = isForced
    ? { kind: "as_asked" }
    : chooseModel({ call, candidates, session, isDue: isDowngradeDue(book, operation, asked) });
  const chosen = choice.kind === "downgraded" ? choice.candidate : asked;
  const counters = countersOf(book.limits, call.scopes, chosen.canonicalModel);
  const candidate = withReserve(chosen, counters);
  const input = admitInput(book, operation, candidate, counters, session);
  const admission: Admission = isForced ? { outcome: "admitted", isGraced: false } : admit(input);
  rememberChoice(book, { sessionKey, session, choice, asked, admission });
  return concludeReserve({ book, operation, choice, candidate, counters, input, admission, sessionKey, session });
}

function isKnown(book: Book, callId: string): boolean {
  return book.openCall(callId) !== undefined || book.endedCall(callId) !== undefined || book.isDenied(callId);
}

/**
 * A call has one bound in money, whatever limit looks at it: where a part of it is unbounded, the highest `reserve` that any of its
 * limits states for that. Otherwise an expired call would cost another amount in every counter.
 */
function withReserve(candidate: Candidate, counters: readonly CallCounter[]): Candidate {
  if (candidate.unboundedParts.length === 0 || candidate.usdBound === undefined) return candidate;
  const reserves = counters.map(({ compiled }) => compiled.limit.unboundedReserveNanoUsd ?? 0n);
  const highest = reserves.reduce((high, reserve) => (reserve > high ? reserve : high), 0n);
  return highest > candidate.usdBound ? { ...candidate, usdBound: toNanoUsd(highest) } : candidate;
}

function isDowngradeDue(book: Book, { call, atMs }: ReserveOperation, asked: Candidate): boolean {
  const limits = book.limits.limits.filter(({ actionKinds }) => actionKinds.has("downgrade"));
  if (limits.length === 0) return false;
  return countersOf({ ...book.limits, limits }, call.scopes, asked.canonicalModel).some(({ compiled, scopeKey }) =>
    compiled.limit.thresholds.some(
      ({ amount, actions }) =>
        actions.some(({ kind }) => kind === "downgrade") &&
        totalsOf(stateAt(book, scopeKey, atMs), compiled, atMs).spent >= amount,
    ),
  );
}

function admitInput(
  book: Book,
  operation: ReserveOperation,
  candidate: Candidate,
  counters: readonly CallCounter[],
  session: SessionState,
): AdmitInput {
  return {
    views: counters.map((counter) => viewOf(book, operation, candidate, counter, session)),
    paces: distinctPaces(counters.flatMap((counter) => pacesOf(book, operation, counter))),
    heldBack: new Set(operation.heldBack),
    ...(operation.deadlineAtMs === undefined ? {} : { deadlineAtMs: operation.deadlineAtMs }),
    isPriceKnown: candidate.usdBound !== undefined,
    unboundedParts: candidate.unboundedParts,
    nowMs: operation.atMs,
  };
}

/** Names a counter series across scope values. */
export function counterIdOf(scopeKey: string, what: string): string {
  return `${scopeKey} ${what}`;
}

function viewOf(
  book: Book,
  { atMs }: ReserveOperation,
  candidate: Candidate,
  { compiled, scope, scopeKey }: CallCounter,
  session: SessionState,
): LimitView {
  const { limit, ceiling, what } = compiled;
  const state = stateAt(book, scopeKey, atMs);
  const counterId = counterIdOf(scopeKey, what);
  const bound = boundIn(limit, candidate);
  const { spent, reserved } = totalsOf(state, compiled, atMs);
  const view: LimitView = {
    limit: limit.name,
    scope,
    counterId,
    measure: limit.measure,
    amount: limit.amount,
    ceiling,
    graceCeiling: graceCeilingOf(compiled, session, atMs),
    spent,
    reserved,
    bound,
    windowEndMs: windowOf(limit, atMs).endMs,
    clearsAtMs: atMs,
  };
  if (ceiling !== undefined && bound !== undefined && spent + bound > (view.graceCeiling ?? ceiling)) {
    view.clearsAtMs = clearsAtMs(state, compiled, atMs, ceiling - bound);
  }
  return view;
}

/** The second ceiling of a session that is in the middle of its work, or `undefined`. A `stop` is never passed, graced or not. */
function graceCeilingOf({ limit, ceiling }: CompiledLimit, session: SessionState, atMs: number): bigint | undefined {
  const threshold = limit.thresholds.find(({ actions }) => actions.some(({ kind }) => kind === "grace"));
  const grace = threshold?.actions.find((action) => action.kind === "grace");
  if (threshold === undefined || grace?.kind !== "grace" || threshold.amount !== ceiling) return undefined;
  const { startMs } = windowOf(limit, atMs);
  const isRunning = session.lastStopReason === "tool_use" || session.lastStopReason === "pause_turn";
  const hasSettledHere = session.lastSettledChargeAtMs !== undefined && session.lastSettledChargeAtMs >= startMs;
  if (!isRunning || !hasSettledHere) return undefined;
  if ((session.graceCalls.get(graceKeyOf(limit, atMs)) ?? 0) >= grace.callsMax) return undefined;
  const overdraft = threshold.amount + (threshold.amount * BigInt(grace.overdraftBps)) / 10_000n;
  const stop = limit.thresholds.find(({ actions }) => actions.some(({ kind }) => kind === "stop"))?.amount;
  return stop !== undefined && stop < overdraft ? stop : overdraft;
}

function graceKeyOf(limit: Limit, atMs: number): string {
  // A rolling window has no instance to count in: the calls are counted until the session ends a turn.
  return `${limit.name}/${limit.window.kind === "rolling" ? "rolling" : windowOf(limit, atMs).key}`;
}

/** Two limits that ask for the same pace of the same counter take one start together. */
function distinctPaces(paces: readonly Pace[]): Pace[] {
  return [...new Map(paces.map((pace) => [pace.key, pace])).values()];
}

function pacesOf(book: Book, { atMs, grantedStartsMs }: ReserveOperation, { compiled, scopeKey }: CallCounter): Pace[] {
  if (!compiled.actionKinds.has("throttle")) return [];
  const { limit, what } = compiled;
  const state = book.scope(scopeKey);
  const { spent } = totalsOf(state, compiled, atMs);
  const paces: Pace[] = [];
  for (const { amount, actions } of limit.thresholds) {
    if (spent < amount) break;
    for (const action of actions) {
      if (action.kind !== "throttle") continue;
      const key = `${scopeKey} ${what}/${action.intervalMs}`;
      const nextStartMs = state.nextStartMs.get(key) ?? 0;
      paces.push({ key, limit: limit.name, intervalMs: action.intervalMs, nextStartMs, grantedStartMs: grantedStartsMs[key] });
    }
  }
  return paces;
}

function rememberChoice(
  book: Book,
  input: { sessionKey: string; session: SessionState; choice: ModelChoice; asked: Candidate; admission: Admission },
): void {
  const { session, choice, asked, admission } = input;
  // A call that waits is decided afresh when it is woken: it must not count twice.
  if (admission.outcome !== "admitted") return;
  if (choice.kind === "postponed") session.callsSinceDowngradeDue += 1;
  else if (choice.kind === "downgraded" && choice.isFirst) {
    session.callsSinceDowngradeDue = 0;
    session.downgraded.set(asked.canonicalModel, choice.candidate.canonicalModel);
  } else return;
  keepSession(book, input.sessionKey, session);
}

function keepSession(book: Book, sessionKey: string, session: SessionState): void {
  book.scope(sessionKey).session = session;
  book.touch(sessionKey);
}

/** What a reservation held at first, from the entry that made it. */
export function openCallOf(entry: Pick<NewEntry, "atMs" | "charges" | "body">): OpenCall {
  const { body, atMs, charges } = entry;
  if (body.kind !== "reserved") throw new TypeError(`a call is opened by reserved, not ${body.kind}`);
  const { call, ownerId, decision } = body;
  const { canonicalModel: model, usdBound, inputTokensBound, outputTokensBound } = decision;
  const { callId, scopes, provider } = call;
  const isUnbounded = decision.admit.unboundedParts.length > 0;
  return { callId, ownerId, atMs, scopes, provider, model, charges, usdBound, isUnbounded, inputTokensBound, outputTokensBound };
}

interface ReserveContext {
  book: Book;
  operation: ReserveOperation;
  choice: ModelChoice;
  candidate: Candidate;
  counters: readonly CallCounter[];
  input: AdmitInput;
  admission: Admission;
  sessionKey: string;
  session: SessionState;
}

function concludeReserve(context: ReserveContext): ReserveResult {
  const { book, operation, candidate, input, admission } = context;
  switch (admission.outcome) {
    case "wait": {
      const view = input.views.find(({ counterId }) => counterId === admission.blockedOn[0]);
      return { kind: "reserve", outcome: "wait", blockedOn: admission.blockedOn, view, untilMs: admission.untilMs };
    }
    case "throttled":
      return { kind: "reserve", ...admission, grantedStartsMs: takeStarts(context, admission.startAtMs) };
    case "denied": {
      const { code, view, clearsAtMs } = admission.by;
      book.append({
        kind: "denied",
        callId: operation.call.callId,
        atMs: operation.atMs,
        costNanoUsd: undefined,
        charges: [],
        body: { kind: "denied", decision: storedDecision(context, []), call: operation.call, code, view },
      });
      const { unboundedParts, model } = candidate;
      return { kind: "reserve", outcome: "denied", code, view, clearsAtMs, unboundedParts, model };
    }
    case "admitted":
      return concludeAdmitted(context, admission.isGraced);
  }
}

/** Takes the next free start of every pace, so that no other call gets it. */
function takeStarts({ book, counters, input, operation }: ReserveContext, startAtMs: number): Record<string, number> {
  const granted: Record<string, number> = {};
  for (const { key, intervalMs, grantedStartMs } of input.paces) {
    granted[key] = startAtMs;
    if (grantedStartMs !== undefined) continue;
    const counter = counters.find(({ scopeKey, compiled }) => key.startsWith(`${counterIdOf(scopeKey, compiled.what)}/`));
    if (counter === undefined) continue;
    const { nextStartMs } = book.scope(counter.scopeKey);
    nextStartMs.set(key, Math.max(nextStartMs.get(key) ?? 0, startAtMs, operation.atMs) + intervalMs);
    book.touch(counter.scopeKey);
  }
  return granted;
}

function concludeAdmitted(context: ReserveContext, isGraced: boolean): ReserveResult {
  const { book, operation, choice, candidate, counters, input } = context;
  const { call, atMs } = operation;
  takeStarts(context, atMs);
  if (isGraced) countGrace(context);
  const marks = marksOf(choice, operation, isGraced);
  const charges = reservationCharges(counters, candidate, atMs);
  for (const charge of charges) chargeBook(book, charge, counters, atMs);
  const { inputTokensBound, outputTokensBound, usdBound, canonicalModel } = candidate;
  const open: OpenCall = {
    callId: call.callId,
    ownerId: operation.ownerId,
    atMs,
    scopes: call.scopes,
    provider: call.provider,
    model: canonicalModel,
    charges,
    usdBound,
    isUnbounded: candidate.unboundedParts.length > 0,
    inputTokensBound,
    outputTokensBound,
  };
  book.putOpenCall(open);
  const decision = storedDecision(context, marks);
  const body = { kind: "reserved" as const, decision, call, ownerId: operation.ownerId };
  book.append({ kind: "reserved", callId: call.callId, atMs, costNanoUsd: undefined, charges, body });
  // Only requests are spent by a reservation; every other threshold is looked at when the call is settled.
  const spending = counters.filter(({ compiled }) => compiled.limit.measure === "requests");
  const alerts = appendAlerts(book, spending, call.callId, atMs);
  const skippedReason = choice.kind === "skipped" ? choice.reason : undefined;
  const counterIds = input.views.map(({ counterId }) => counterId);
  return { kind: "reserve", outcome: "reserved", candidate, marks, skippedReason, alerts, counterIds };
}

function countGrace({ book, counters, input, session, sessionKey, operation }: ReserveContext): void {
  // A session that counts for its parents meets one limit several times; the call is still one.
  const keys = new Set<string>();
  input.views.forEach((view, index) => {
    const counter = counters[index];
    if (counter !== undefined && isGraceUsed(view)) keys.add(graceKeyOf(counter.compiled.limit, operation.atMs));
  });
  for (const key of keys) session.graceCalls.set(key, (session.graceCalls.get(key) ?? 0) + 1);
  keepSession(book, sessionKey, session);
}

function marksOf(choice: ModelChoice, operation: ReserveOperation, isGraced: boolean): DecisionMark[] {
  const marks: DecisionMark[] = [];
  if (choice.kind === "downgraded") marks.push("downgraded");
  if (choice.kind === "skipped") marks.push("downgrade_skipped");
  if (Object.keys(operation.grantedStartsMs).length > 0) marks.push("throttled");
  if (isGraced) marks.push("graced");
  return marks;
}

function storedDecision(context: ReserveContext, marks: readonly DecisionMark[]): StoredDecision {
  const { book, operation, candidate, choice, input } = context;
  const { model, maxTokens, usdBound, inputTokensBound, outputTokensBound, priceIds } = candidate;
  return {
    limitsVersion: book.limits.version,
    ...(operation.isForced === true ? { isForced: true } : {}),
    admit: { ...input, heldBack: [...input.heldBack] },
    marks,
    skippedReason: choice.kind === "skipped" ? choice.reason : undefined,
    requestedModel: operation.call.requestedModel,
    model,
    canonicalModel: candidate.canonicalModel,
    maxTokens,
    usdBound,
    inputTokensBound,
    outputTokensBound,
    priceIds,
  };
}

/** One charge per counter, however many limits look at it; where their bounds differ, the highest is held. */
function reservationCharges(counters: readonly CallCounter[], candidate: Candidate, atMs: number): Charge[] {
  const charges = new Map<string, Charge>();
  for (const { compiled, scopeKey } of counters) {
    const { limit, what } = compiled;
    // Where nothing bounds the call, no limit that refuses let it through: what is known of it is held.
    const bound = boundIn(limit, candidate) ?? heldFor({ what, reserved: 0n }, candidate);
    const isSpentAtOnce = limit.measure === "requests";
    const charge: Charge = {
      scopeKey,
      what,
      windowKey: windowOf(limit, atMs).key,
      spent: isSpentAtOnce ? 1n : 0n,
      reserved: isSpentAtOnce ? 0n : bound,
    };
    const id = counterIdOf(scopeKey, what);
    const other = charges.get(id);
    if (other === undefined || other.reserved < charge.reserved) charges.set(id, charge);
  }
  return [...charges.values()];
}

function chargeBook(book: Book, charge: Charge, counters: readonly CallCounter[], atMs: number): void {
  const limit = counters.find(({ scopeKey, compiled }) => scopeKey === charge.scopeKey && compiled.what === charge.what);
  chargeCounter(
    book.scope(charge.scopeKey),
    charge,
    limit === undefined ? Infinity : windowOf(limit.compiled.limit, atMs).untilMs,
  );
  book.touch(charge.scopeKey);
}

/** Tells the thresholds that were reached, looking at every limit over the counters that this call touches. */
function appendAlerts(book: Book, counters: readonly CallCounter[], callId: string, atMs: number): Alert[] {
  const alerts: Alert[] = [];
  for (const counter of counters) {
    if (counter.compiled.limit.thresholds.length === 0) continue;
    alerts.push(...collectAlerts(stateAt(book, counter.scopeKey, atMs), counter, atMs));
    book.touch(counter.scopeKey);
  }
  for (const alert of alerts) {
    book.append({ kind: "alert", callId, atMs, costNanoUsd: undefined, charges: [], body: { kind: "alert", alert } });
  }
  return alerts;
}

// ---- renew, settle, void, expire -------------------------------------------------------------------------------------------

function renew(book: Book, operation: RenewOperation): RenewResult {
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

/** What a call with these bounds holds in a counter; where they do not say, it keeps what it has. */
export function heldFor(
  { what, reserved }: Pick<Charge, "what" | "reserved">,
  bounds: { usdBound: NanoUsd | undefined; inputTokensBound: number; outputTokensBound: number },
): bigint {
  switch (measureOf(what)) {
    case "usd":
      return bounds.usdBound ?? reserved;
    case "tokens":
      return BigInt(bounds.inputTokensBound + bounds.outputTokensBound);
    case "inputTokens":
      return BigInt(bounds.inputTokensBound);
    case "outputTokens":
      return BigInt(bounds.outputTokensBound);
    case "requests":
      return 0n;
    case "concurrency":
      return 1n;
  }
}

/** The measure that a counter's name begins with. */
export function measureOf(what: string): Limit["measure"] {
  return (/^[a-zA-Z]+/.exec(what)?.[0] ?? "") as Limit["measure"];
}

function settle(book: Book, operation: SettleOperation): EndResult {
  const { callId, atMs, result } = operation;
  const ended = book.endedCall(callId);
  if (ended !== undefined && ended.status !== "expired") return endedBefore("settle", ended, result.costNanoUsd);
  const open = book.openCall(callId) ?? ended?.open;
  if (open === undefined) return noEnd("settle", "unknown_call");

  // Unpriced: counted at its bound; without one its cost is unknown, which is not zero.
  const costNanoUsd = result.costNanoUsd ?? open.usdBound;
  const charges = open.charges.map((charge, index): Charge => {
    const actual = actualOf(charge.what, { ...result, costNanoUsd });
    const counted = ended?.spent[index];
    return counted === undefined
      ? { ...charge, spent: actual, reserved: -charge.reserved }
      : { ...charge, spent: actual - counted, reserved: 0n };
  });
  const overrunNanoUsd = toNanoUsd(
    open.usdBound !== undefined && costNanoUsd !== undefined && costNanoUsd > open.usdBound ? costNanoUsd - open.usdBound : 0n,
  );
  noteSession(book, open, result);
  const body = { kind: "settled" as const, result, isLate: ended !== undefined, overrunNanoUsd };
  const spent = open.charges.map(({ what }) => actualOf(what, { ...result, costNanoUsd }));
  endWith(book, { status: "settled", costNanoUsd, open, spent }, { kind: "settled", callId, atMs, costNanoUsd, charges, body });
  const alerts = alertsAfter(book, open, atMs);
  return { kind: "settle", outcome: "done", overrunNanoUsd, alerts, freedCounterIds: idsOf(charges) };
}

/** What a settled call adds to `spent` of a counter at its end. */
export function actualOf(what: string, { costNanoUsd, tokens }: Pick<CallResult, "tokens" | "costNanoUsd">): bigint {
  const input = totalInputTokens(tokens) - (ignoresReads(what) ? tokens.cacheReadTokens : 0);
  switch (measureOf(what)) {
    case "usd":
      return costNanoUsd ?? 0n;
    case "tokens":
      return BigInt(input + tokens.outputTokens);
    case "inputTokens":
      return BigInt(input);
    case "outputTokens":
      return BigInt(tokens.outputTokens);
    case "requests":
    case "concurrency":
      return 0n;
  }
}

function ignoresReads(what: string): boolean {
  return /^[a-zA-Z]+-reads/.test(what);
}

function endedBefore(kind: EndResult["kind"], ended: EndedCall, costNanoUsd: NanoUsd | undefined): EndResult {
  const isSame = ended.status === "settled" && (costNanoUsd === undefined || costNanoUsd === ended.costNanoUsd);
  return noEnd(kind, isSame ? "already_done" : "conflict");
}

function noEnd(kind: EndResult["kind"], outcome: EndResult["outcome"]): EndResult {
  return { kind, outcome, overrunNanoUsd: ZERO_USD, alerts: [], freedCounterIds: [] };
}

function voidCall(book: Book, { callId, atMs, reason }: VoidOperation): EndResult {
  const ended = book.endedCall(callId);
  if (ended !== undefined) return noEnd("void", ended.status === "voided" ? "already_done" : "conflict");
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
  endWith(book, { status: "voided", costNanoUsd: ZERO_USD, open, spent: charges.map(() => 0n) }, entry);
  return { kind: "void", outcome: "done", overrunNanoUsd: ZERO_USD, alerts: [], freedCounterIds: idsOf(charges) };
}

function expire(book: Book, { callId, atMs, reason }: ExpireOperation): EndResult {
  const ended = book.endedCall(callId);
  if (ended !== undefined) return noEnd("expire", ended.status === "expired" ? "already_done" : "conflict");
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
  endWith(book, { status: "expired", costNanoUsd, open, spent }, { kind: "expired", callId, atMs, costNanoUsd, charges, body });
  return {
    kind: "expire",
    outcome: "done",
    overrunNanoUsd: ZERO_USD,
    alerts: alertsAfter(book, open, atMs),
    freedCounterIds: idsOf(charges),
  };
}

function endWith(book: Book, ended: EndedCall, entry: NewEntry): void {
  for (const charge of entry.charges) chargeExisting(book, charge, ended.open.atMs);
  book.endCall(ended);
  book.append({ ...entry, charges: entry.charges.filter(({ spent, reserved }) => spent !== 0n || reserved !== 0n) });
}

/** Charges a counter made by the reservation or by filling, also if it was put away since. */
function chargeExisting(book: Book, charge: Charge, chargedAtMs: number): void {
  chargeCounter(stateAt(book, charge.scopeKey, chargedAtMs), charge, Infinity);
  book.touch(charge.scopeKey);
}

function idsOf(charges: readonly Charge[]): string[] {
  return charges.filter(({ reserved }) => reserved < 0n).map(({ scopeKey, what }) => counterIdOf(scopeKey, what));
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

function alertsAfter(book: Book, open: OpenCall, atMs: number): Alert[] {
  // A charge in a window that is over reaches no threshold that still matters.
  const counters = countersOf(book.limits, open.scopes, open.model).filter(
    ({ compiled: { limit } }) => limit.window.kind !== "calendar" || windowOf(limit, atMs).key === windowOf(limit, open.atMs).key,
  );
  return appendAlerts(book, counters, open.callId, atMs);
}

function refuse(book: Book, { call, atMs, code, view }: RefuseOperation): OperationResult {
  if (isKnown(book, call.callId)) return { kind: "refuse", outcome: "duplicate" };
  const body = { kind: "denied" as const, decision: undefined, call, code, view };
  book.append({ kind: "denied", callId: call.callId, atMs, costNanoUsd: undefined, charges: [], body });
  return { kind: "refuse", outcome: "recorded" };
}
