/**
 * Owns what a reservation does to the books: what every limit says at its instant, the decision, and what is set aside.
 * Does not own the decision itself (admit.ts, downgrade.ts) or how a call ends (endings.ts).
 * Invariants: all counters are charged or none; an answer other than admission changes no counter; a charge stays at the instant of
 * its reservation.
 */
import { collectRefusalAlert, type Alert } from "./alerts.ts";
import { isSpentAtOnce, type Limit } from "../limits/limit.ts";
import {
  admit,
  boundWith,
  isGraceUsed,
  leastBound,
  mayFitCounted,
  type AdmitInput,
  type Admission,
  type FitInput,
  type LimitView,
  type Pace,
} from "./admit.ts";
import { boundIn, withMaxTokens, type Candidate } from "./call.ts";
import {
  chargeCounter,
  clearsAtMs,
  countedFromMs,
  countersOf,
  emptySessionState,
  leavesNextAtMs,
  sessionKeyOf,
  totalsOf,
  windowOf,
  type CallCounter,
  type Charge,
  type CompiledLimit,
  type SessionState,
} from "./counters.ts";
import { assertWhole, countedBy, demandsOf, isLeftOut, sharesOf, withReserve, type Demand } from "./demands.ts";
import { chooseModel, type ModelChoice } from "./downgrade.ts";
import type { DecisionMark, OpenCall, ReserveOperation, ReserveResult, StoredDecision } from "./operations.ts";

import { stateAt, isKnown, keepSession, appendAlerts, heldFor, type Book } from "./book.ts";

export function reserve(book: Book, operation: ReserveOperation): ReserveResult {
  const { call, candidates } = operation;
  const asked = candidates[0];
  if (asked === undefined) throw new RangeError("reserve: candidates is empty; the model asked for is the first one");
  if (isLeftOut(book, operation)) return { kind: "reserve", outcome: "left_out" };
  if (isKnown(book, call.callId)) return { kind: "reserve", outcome: "duplicate" };
  const sessionKey = sessionKeyOf(call.scopes);
  const session = book.scope(sessionKey).session ?? emptySessionState();
  const isForced = operation.isForced === true;
  // What was let through without the ledger ran as it was asked for.
  const choice: ModelChoice = isForced
    ? { kind: "as_asked" }
    : chooseModel({ call, candidates, session, isDue: isDowngradeDue(book, operation, asked) });
  const chosen = choice.kind === "downgraded" ? choice.candidate : asked;
  const charged = countedBy(operation, countersOf(book.limits, call.scopes, chosen.canonicalModel));
  const whole = withReserve(chosen, charged);
  const demands = demandsOf(book, operation, whole, charged);
  const counters = demands.map(({ counter }) => counter);
  const input = admitInput(book, operation, whole, demands, session);
  const admission: Admission = isForced ? { outcome: "admitted", isGraced: false } : admit(input);
  // Before anything is remembered or recorded: the caller asks again, counted or not.
  if (whole.isCountable === true && mayFitCounted(input, admission)) {
    return { kind: "reserve", outcome: "uncounted", model: whole.model };
  }
  const fitted = admission.outcome === "admitted" ? admission.maxTokens : undefined;
  const candidate = fitted === undefined ? whole : withMaxTokens(whole, fitted);
  rememberChoice(book, { sessionKey, session, choice, asked, admission });
  assertWhole(operation, admission);
  return concludeReserve({ book, operation, choice, candidate, counters, charged, input, admission, sessionKey, session });
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
  demands: readonly Demand[],
  session: SessionState,
): AdmitInput {
  const fit = fitOf(candidate);
  const counters = demands.map(({ counter }) => counter);
  const needed = [candidate, ...sharesOf(operation).map((share) => share.candidate)];
  return {
    views: demands.map((demand) => viewOf(book, operation, demand, session, fit)),
    // A batch starts once.
    paces: operation.batch?.isFirst === false ? [] : pacesOf(book, operation, counters),
    heldBack: new Set(operation.heldBack),
    ...(operation.deadlineAtMs === undefined ? {} : { deadlineAtMs: operation.deadlineAtMs }),
    ...(operation.pausedSinceMs === undefined ? {} : { pausedSinceMs: operation.pausedSinceMs }),
    isPriceKnown: needed.every(({ usdBound }) => usdBound !== undefined),
    unboundedParts: [...new Set(needed.flatMap(({ unboundedParts }) => unboundedParts))],
    nowMs: operation.atMs,
    ...(fit === undefined ? {} : { fit }),
  };
}

function fitOf({ fit, inputTokensBound, outputTokensBound }: Candidate): FitInput | undefined {
  if (fit === undefined) return undefined;
  return { askedMaxTokens: outputTokensBound, leastMaxTokens: fit.leastMaxTokens, inputTokensBound, usd: fit.usd };
}

function viewOf(
  book: Book,
  { atMs, batch }: ReserveOperation,
  { counter: { compiled, scope, scopeKey, counterId }, bound }: Demand,
  session: SessionState,
  fit: FitInput | undefined,
): LimitView {
  const { limit, ceiling, pauseUpToMs } = compiled;
  const state = stateAt(book, scopeKey, atMs);
  const { spent, reserved } = totalsOf(state, compiled, atMs);
  const view: LimitView = {
    limit: limit.name,
    scope,
    counterId,
    measure: limit.measure,
    amount: limit.amount,
    ceiling,
    // What can wait for a day is nothing that a session has to finish.
    graceCeiling: batch === undefined ? graceCeilingOf(compiled, session, atMs) : undefined,
    spent,
    reserved,
    bound,
    windowEndMs: windowOf(limit, atMs).endMs,
    clearsAtMs: atMs,
  };
  if (limit.fit !== undefined) view.fit = limit.fit;
  if (pauseUpToMs !== undefined) view.pauseUpToMs = pauseUpToMs;
  const least = leastBound(view, fit);
  if (ceiling !== undefined && least !== undefined && spent + least > (view.graceCeiling ?? ceiling)) {
    view.clearsAtMs = clearsAtMs(state, compiled, atMs, ceiling - least);
  }
  return view;
}

/** The second ceiling of a session that is in the middle of its work, or `undefined`. A `stop` is never passed, graced or not. */
function graceCeilingOf({ limit, ceiling, actionKinds }: CompiledLimit, session: SessionState, atMs: number): bigint | undefined {
  if (!actionKinds.has("grace")) return undefined;
  const threshold = limit.thresholds.find(({ actions }) => actions.some(({ kind }) => kind === "grace"));
  const grace = threshold?.actions.find((action) => action.kind === "grace");
  if (threshold === undefined || grace?.kind !== "grace" || threshold.amount !== ceiling) return undefined;
  const isRunning = session.lastStopReason === "tool_use" || session.lastStopReason === "pause_turn";
  const hasSettledHere =
    session.lastSettledChargeAtMs !== undefined && session.lastSettledChargeAtMs >= countedFromMs(limit, atMs);
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
function pacesOf(book: Book, operation: ReserveOperation, counters: readonly CallCounter[]): Pace[] {
  const throttling = counters.filter(({ compiled }) => compiled.actionKinds.has("throttle"));
  if (throttling.length === 0) return [];
  const paces = throttling.flatMap((counter) => pacesOfLimit(book, operation, counter));
  return [...new Map(paces.map((pace) => [pace.key, pace])).values()];
}

function pacesOfLimit(
  book: Book,
  { atMs, grantedStartsMs }: ReserveOperation,
  { compiled, scopeKey, counterId }: CallCounter,
): Pace[] {
  const { limit } = compiled;
  const state = book.scope(scopeKey);
  const { spent } = totalsOf(state, compiled, atMs);
  const paces: Pace[] = [];
  for (const { amount, actions } of limit.thresholds) {
    if (spent < amount) break;
    for (const action of actions) {
      if (action.kind !== "throttle") continue;
      const key = `${counterId}/${action.intervalMs}`;
      paces.push({
        key,
        limit: limit.name,
        intervalMs: action.intervalMs,
        nextStartMs: state.nextStartMs.get(key) ?? 0,
        notBeforeMs: state.nextStartMs.get(notBeforeKeyOf(key)) ?? 0,
        grantedStartMs: grantedStartsMs[key],
      });
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

interface ReserveContext {
  book: Book;
  operation: ReserveOperation;
  choice: ModelChoice;
  candidate: Candidate;
  /** Those it was decided by, in the order of `input.views`. */
  counters: readonly CallCounter[];
  /** Those it is charged in. */
  charged: readonly CallCounter[];
  input: AdmitInput;
  admission: Admission;
  sessionKey: string;
  session: SessionState;
}

function concludeReserve(context: ReserveContext): ReserveResult {
  const { book, operation, candidate, input, admission } = context;
  switch (admission.outcome) {
    case "wait": {
      const { blockedOn, pause } = admission;
      const untilMs = pause === undefined ? looksAgainAtMs(context, admission) : admission.untilMs;
      const view = pause?.by ?? input.views.find(({ counterId }) => counterId === blockedOn[0]);
      // What it waits for is room for its smallest form.
      const least = view && { ...view, bound: leastBound(view, input.fit) };
      const wait = { kind: "reserve" as const, outcome: "wait" as const, blockedOn, view: least, untilMs };
      // Told like a refusal: the limit lets nothing through that does not wait for its end.
      return pause === undefined ? wait : { ...wait, pause: { sinceMs: pause.sinceMs, alerts: alertsOfRefusal(context, view) } };
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
      const alerts = code === "limit_reached" ? alertsOfRefusal(context, view) : [];
      return { kind: "reserve", outcome: "denied", code, view, clearsAtMs, unboundedParts, model, alerts };
    }
    case "admitted":
      return concludeAdmitted(context, admission);
  }
}

/** Of a rolling window not the end of all it holds is waited for: with every part that leaves it, there may be room. */
function looksAgainAtMs(
  { book, operation, counters, input }: ReserveContext,
  { blockedOn, untilMs }: Extract<Admission, { outcome: "wait" }>,
): number {
  const leaving = counters.map(({ compiled, scopeKey }, index) =>
    blockedOn.includes(input.views[index]?.counterId ?? "")
      ? leavesNextAtMs(stateAt(book, scopeKey, operation.atMs), compiled, operation.atMs)
      : Infinity,
  );
  return Math.min(untilMs, ...leaving.filter((atMs) => atMs > operation.atMs));
}

function notBeforeKeyOf(paceKey: string): string {
  return `${paceKey}/started`;
}

/** A limit that stops calls is told once, also where what is left of it is too little for any of them. */
function alertsOfRefusal({ book, operation, counters, input }: ReserveContext, view: LimitView | undefined): Alert[] {
  const index = input.views.findIndex(({ limit, counterId }) => limit === view?.limit && counterId === view.counterId);
  const counter = counters[index];
  if (counter === undefined) return [];
  const { atMs, call } = operation;
  const alert = collectRefusalAlert(stateAt(book, counter.scopeKey, atMs), counter, atMs);
  if (alert === undefined) return [];
  book.touch(counter.scopeKey);
  const { callId } = call;
  book.append({ kind: "alert", callId, atMs, costNanoUsd: undefined, charges: [], body: { kind: "alert", alert } });
  return [alert];
}

/** Takes the next free start of every pace, so that no other call gets it; a call that starts now moves those behind it. */
function takeStarts({ book, counters, input, operation }: ReserveContext, startAtMs: number): Record<string, number> {
  const granted: Record<string, number> = {};
  for (const { key, intervalMs, grantedStartMs } of input.paces) {
    granted[key] = startAtMs;
    const counter = counters.find(({ counterId }) => key.startsWith(`${counterId}/`));
    if (counter === undefined) continue;
    const { nextStartMs } = book.scope(counter.scopeKey);
    if (grantedStartMs === undefined) nextStartMs.set(key, Math.max(nextStartMs.get(key) ?? 0, startAtMs) + intervalMs);
    if (startAtMs === operation.atMs) nextStartMs.set(notBeforeKeyOf(key), startAtMs + intervalMs);
    book.touch(counter.scopeKey);
  }
  return granted;
}

function concludeAdmitted(
  context: ReserveContext,
  { isGraced, maxTokens }: Extract<Admission, { outcome: "admitted" }>,
): ReserveResult {
  const { book, operation, choice, candidate, charged, input } = context;
  const { call, atMs } = operation;
  takeStarts(context, atMs);
  if (isGraced) countGrace(context, maxTokens);
  const marks: DecisionMark[] = [
    ...marksOf(choice, operation, isGraced),
    ...(maxTokens === undefined ? [] : ["fitted" as const]),
  ];
  const charges = chargeReservation(book, charged, candidate, atMs);
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
  // Only what is counted at once is spent by a reservation; every other threshold is looked at when the call is settled.
  const spending = charged.filter(({ compiled }) => isSpentAtOnce(compiled.limit.measure));
  const alerts = appendAlerts(book, spending, call.callId, atMs);
  const skippedReason = choice.kind === "skipped" ? choice.reason : undefined;
  const counterIds = input.views.map(({ counterId }) => counterId);
  return { kind: "reserve", outcome: "reserved", candidate, marks, skippedReason, alerts, counterIds };
}

function countGrace(context: ReserveContext, maxTokens: number | undefined): void {
  const { book, counters, input, session, sessionKey, operation } = context;
  // A session that counts for its parents meets one limit several times; the call is still one.
  const keys = new Set<string>();
  input.views.forEach((view, index) => {
    const counter = counters[index];
    if (counter !== undefined && isGraceUsed(view, boundWith(view, input.fit, maxTokens)))
      keys.add(graceKeyOf(counter.compiled.limit, operation.atMs));
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
  const { book, operation, candidate, choice, admission } = context;
  const { fit, ...input } = context.input;
  // A call that was admitted as it was asked is admitted again without it.
  const isAsAsked = admission.outcome === "admitted" && admission.maxTokens === undefined;
  const { model, maxTokens, usdBound, inputTokensBound, extension, countedTokens, outputTokensBound, priceIds } = candidate;
  return {
    limitsVersion: book.limits.version,
    ...(operation.isForced === true ? { isForced: true } : {}),
    admit: { ...input, heldBack: [...input.heldBack], ...(fit === undefined || isAsAsked ? {} : { fit }) },
    marks,
    skippedReason: choice.kind === "skipped" ? choice.reason : undefined,
    requestedModel: operation.call.requestedModel,
    model,
    canonicalModel: candidate.canonicalModel,
    maxTokens,
    usdBound,
    inputTokensBound,
    ...(extension === undefined ? {} : { extension }),
    ...(countedTokens === undefined ? {} : { countedTokens }),
    outputTokensBound,
    priceIds,
  };
}

/** One charge per counter, however many limits look at it; where their bounds differ, the highest is held. */
function chargeReservation(book: Book, counters: readonly CallCounter[], candidate: Candidate, atMs: number): Charge[] {
  const charges: Charge[] = [];
  const untilMs: number[] = [];
  for (const { compiled, scopeKey } of counters) {
    const { limit, what } = compiled;
    const window = windowOf(limit, atMs);
    // Where nothing bounds the call, no limit that refuses let it through: what is known of it is held.
    const bound = boundIn(limit, candidate) ?? heldFor({ what, reserved: 0n }, candidate);
    const isAtOnce = isSpentAtOnce(limit.measure);
    const reserved = isAtOnce ? 0n : bound;
    const other = chargeOf(charges, scopeKey, what);
    if (other === undefined) {
      charges.push({ scopeKey, what, windowKey: window.key, spent: isAtOnce ? 1n : 0n, reserved });
      untilMs.push(window.untilMs);
    } else if (other.reserved < reserved) other.reserved = reserved;
  }
  charges.forEach((charge, index) => chargeCounter(book.scope(charge.scopeKey), charge, untilMs[index] ?? Infinity));
  return charges;
}

/** By hand: looking with a function for each of ten counters took a twentieth of the writing thread's time. */
function chargeOf(charges: readonly Charge[], scopeKey: string, what: string): Charge | undefined {
  for (const charge of charges) if (charge.what === what && charge.scopeKey === scopeKey) return charge;
  return undefined;
}
