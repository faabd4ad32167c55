/**
 * Owns the books as an operation sees them, and what one call counts for in one counter.
 * Does not own what operations do (reserve.ts, endings.ts).
 */
import type { NanoUsd } from "../money/money.ts";
import { totalInputTokens } from "../usage/usage.ts";
import type { Limit } from "../limits/limit.ts";
import { collectAlerts, type Alert } from "./alerts.ts";
import type { CallCounter, Charge, LimitSet, ScopeState, SessionState } from "./counters.ts";
import type { CallResult, EndedCall, NewEntry, OpenCall } from "./operations.ts";

/** What an operation sees and changes. A store keeps it in step with its tables; after a failed commit it is thrown away. */
export interface Book {
  limits: LimitSet;
  /** The state of a scope value, for reading and changing; the same object each time. */
  scope(scopeKey: string): ScopeState;
  /** Brings back the counters of a scope value that were put away although their window ends after an instant. */
  recall(scopeKey: string, endsAfterMs: number): void;
  /** Says that something of a scope value besides its counters was changed, so that it is stored. Counters change by charges alone. */
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

/** The state of a scope value with every counter that an instant looks at: a clock set back may ask for one put away. */
export function stateAt(book: Book, scopeKey: string, atMs: number): ScopeState {
  const state = book.scope(scopeKey);
  if (state.droppedUntilMs > atMs) book.recall(scopeKey, atMs);
  return state;
}

/** True if something was decided about this call before. */
export function isKnown(book: Book, callId: string): boolean {
  return book.openCall(callId) !== undefined || book.endedCall(callId) !== undefined || book.isDenied(callId);
}

/** Stores what a session remembers. */
export function keepSession(book: Book, sessionKey: string, session: SessionState): void {
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

/** Tells the thresholds that were reached, looking at every limit over the counters that this call touches. */
export function appendAlerts(book: Book, counters: readonly CallCounter[], callId: string, atMs: number): Alert[] {
  const alerts: Alert[] = [];
  for (const counter of counters) {
    if (counter.compiled.limit.thresholds.length === 0) continue;
    const collected = collectAlerts(stateAt(book, counter.scopeKey, atMs), counter, atMs);
    if (collected.isToldChanged) book.touch(counter.scopeKey);
    alerts.push(...collected.alerts);
  }
  for (const alert of alerts) {
    book.append({ kind: "alert", callId, atMs, costNanoUsd: undefined, charges: [], body: { kind: "alert", alert } });
  }
  return alerts;
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
    case "toolCalls":
      return 0n;
    case "concurrency":
      return 1n;
  }
}

/** The measure that a counter's name begins with. */
export function measureOf(what: string): Limit["measure"] {
  return factsOf(what).measure;
}

interface NameFacts {
  measure: Limit["measure"];
  ignoresReads: boolean;
}

/** What names say, once read: a memo that changes no answer. Limits name a few; a configuration that changes for years names more. */
const knownNames = new Map<string, NameFacts>();
const KNOWN_NAMES_MAX = 1_000;

function factsOf(what: string): NameFacts {
  const known = knownNames.get(what);
  if (known !== undefined) return known;
  if (knownNames.size >= KNOWN_NAMES_MAX) knownNames.clear();
  const [measure = "", reads] = /^[a-zA-Z]+(-reads)?/.exec(what) ?? [];
  const facts = { measure: measure.replace("-reads", "") as Limit["measure"], ignoresReads: reads !== undefined };
  knownNames.set(what, facts);
  return facts;
}

/** What a settled call adds to `spent` of a counter at its end. */
export function actualOf(what: string, { costNanoUsd, tokens }: Pick<CallResult, "tokens" | "costNanoUsd">): bigint {
  const { measure, ignoresReads } = factsOf(what);
  const input = totalInputTokens(tokens) - (ignoresReads ? tokens.cacheReadTokens : 0);
  switch (measure) {
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
    case "toolCalls":
      return 0n;
  }
}
