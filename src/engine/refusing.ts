/**
 * Owns turning the engine's reasons into refusals: which figures go into which sentence, and when the caller may come back.
 * Does not own the sentences (core/errors) or the shape around them (providers/).
 */
import type { CallFacts } from "../core/decisions/call.ts";
import type { LimitView } from "../core/decisions/admit.ts";
import type { ErrorCode, Refusal } from "../core/errors/codes.ts";
import {
  duplicateCall,
  heldByCallsInFlight,
  ledgerUnavailable,
  limitReached,
  limitTooSmall,
  rateLimited,
  slowedDown,
  unboundedCost,
  unpricedModel,
  type LimitFigures,
} from "../core/errors/refusals.ts";
import type { ReserveResult } from "../core/decisions/operations.ts";
import { formatInstant } from "../core/windows/instant.ts";
import { createPlaces } from "./places.ts";
import type { Clock } from "./ports.ts";

type WaitResult = Extract<ReserveResult, { outcome: "wait" }>;

/** Soonest that a caller held off by calls in flight is told to come back: most calls end within seconds. */
const HELD_RETRY_SECONDS = 5;
const RETRY_SECONDS_MAX = 59;

export interface RefusalInput {
  code: ErrorCode;
  view?: LimitView | undefined;
  clearsAtMs?: number;
  unboundedParts?: readonly string[];
  model?: string;
  /** The limit was asked for room for the call with this max_tokens; absent: as it was asked. */
  leastMaxTokens?: number | undefined;
  callId: string;
  nowMs: number;
  /** How many others were told a time to come back that has not come yet: each is told another. */
  place: number;
  call: CallFacts;
}

/** Why a call is refused, in plain figures. */
export type RefusalReason = Pick<RefusalInput, "code" | "view" | "clearsAtMs" | "unboundedParts" | "model" | "leastMaxTokens">;

/** Refuses calls, each caller with a time of its own to come back. */
export function createRefuser(clock: Clock): (call: CallFacts, why: RefusalReason) => Refusal {
  const places = createPlaces();
  return (call, why) => {
    const { callId, scopes } = call;
    const nowMs = clock.nowMs();
    const series = `${why.view?.counterId ?? ""} ${why.code}`;
    const place = places.of({ series, who: scopes.session, nowMs });
    const refusal = refusalFor({ ...why, callId, nowMs, place, call });
    const { retryAfterSeconds } = refusal;
    if (retryAfterSeconds !== undefined) places.promise({ series, who: scopes.session, atMs: nowMs + retryAfterSeconds * 1_000 });
    return refusal;
  };
}

/** A wait that ends without its turn: for spent money that clears soon, or for money that calls in flight hold. */
export function whyNotWaiting({ view, pause }: WaitResult, nowMs: number): RefusalReason {
  const isSpent = view?.bound !== undefined && view.ceiling !== undefined && view.spent + view.bound > view.ceiling;
  if (!isSpent) return { code: "held_by_calls_in_flight", view };
  return { code: pause === undefined ? "rate_limited" : "limit_reached", view, clearsAtMs: Math.max(nowMs, view.clearsAtMs) };
}

/** True for the error of a ledger that cannot be written now. Recognised by its code: two copies of a package can meet. */
export function isLedgerUnavailable(error: unknown): error is Error {
  return error instanceof Error && "code" in error && error.code === "ledger_unavailable";
}

/** The refusal for a reason. */
export function refusalFor(input: RefusalInput): Refusal {
  const refusal = sentenceFor(input);
  return { ...refusal, details: { ...refusal.details, callId: input.callId } };
}

function sentenceFor(input: RefusalInput): Refusal {
  const { code, view, nowMs } = input;
  if (code === "duplicate_call") return duplicateCall({ callId: input.callId });
  if (code === "unpriced_model") {
    return unpricedModel(view === undefined ? undefined : figuresOf(view), { model: input.model ?? input.call.requestedModel });
  }
  // Every other refusal is made by a limit.
  if (view === undefined) return ledgerUnavailable({ reason: "disk or lock; see the gateway's log" });
  const figures = figuresOf(view);
  switch (code) {
    case "limit_too_small":
      return limitTooSmall(figures, { ...input, isMetered: isMetered(input.call) });
    case "unbounded_cost":
      return unboundedCost(figures, { parts: input.unboundedParts ?? [] });
    case "rate_limited": {
      const retryAfterSeconds = ownSeconds(input.clearsAtMs ?? nowMs, input);
      return hasRoom(view) ? slowedDown(figures, { retryAfterSeconds }) : rateLimited(figures, { retryAfterSeconds });
    }
    case "held_by_calls_in_flight":
      return heldByCallsInFlight(figures, { retryAfterSeconds: heldSeconds(input.place) });
    default: {
      const clearsAtMs = input.clearsAtMs ?? Infinity;
      return limitReached(figures, { resetsAt: Number.isFinite(clearsAtMs) ? formatInstant(clearsAtMs) : null });
    }
  }
}

/** An API that is paid per call is its own provider. */
function isMetered({ provider, requestedModel }: CallFacts): boolean {
  return provider === requestedModel;
}

/** Another second for each caller, as far as seconds go. */
function heldSeconds(place: number): number {
  return HELD_RETRY_SECONDS + (place % (RETRY_SECONDS_MAX - HELD_RETRY_SECONDS + 1));
}

/** When it clears, and a second later for each caller who was told before. */
function ownSeconds(atMs: number, { nowMs, place }: RefusalInput): number {
  return Math.min(RETRY_SECONDS_MAX, Math.max(1, Math.ceil((atMs - nowMs) / 1_000)) + place);
}

/** True if the limit would take the call: then it is the pace that does not. */
function hasRoom({ ceiling, spent, bound }: LimitView): boolean {
  return ceiling === undefined || spent + (bound ?? 0n) <= ceiling;
}

function figuresOf({ limit, scope, measure, amount, spent, reserved, bound }: LimitView): LimitFigures {
  return { limit, scope, measure, amount, spent, reserved, ...(bound === undefined ? {} : { requested: bound }) };
}
