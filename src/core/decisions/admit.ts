/**
 * Owns admission: given what every limit holds at one instant, is a call admitted, does it wait, or is it refused, and why.
 * Does not own where the figures come from (counters.ts) or what is written (transitions.ts).
 * Invariants: refusing is the default and admitting the explicit end; a refusal and a wait change nothing; reservations of calls in
 * flight make a call wait and never refuse it; a limit that refuses beats one that waits. The steps are those of design §4.
 */
import type { ErrorCode } from "../errors/codes.ts";
import type { Measure } from "../limits/limit.ts";
import { boundAt, outputWithin, type BoundLine } from "../pricing/bound.ts";

/** Clears within this: the call waits in line instead of being refused. */
export const WAIT_MS_MAX = 10_000;
/** Clears within this: refused with an honest time to come back; later: refused for good. */
export const RETRY_MS_MAX = 59_000;
/** A throttled start further away than this is refused. */
export const THROTTLE_MS_MAX = 30_000;

/** What one limit says at the instant of a decision. Everything admission looks at: stored, it can be decided again. */
export interface LimitView {
  limit: string;
  scope: Readonly<Record<string, string>>;
  /** Names the counter series, so that waiters on it can be found: scope value and what is counted. */
  counterId: string;
  measure: Measure;
  amount: bigint;
  /** `undefined`: never refuses. */
  ceiling: bigint | undefined;
  /** A second, higher ceiling for a session that `grace` lets finish; `undefined`: this call has none. */
  graceCeiling: bigint | undefined;
  spent: bigint;
  reserved: bigint;
  /** The call's bound in this measure; `undefined`: nothing bounds it. */
  bound: bigint | undefined;
  /** End of the window; `Infinity`: none. */
  windowEndMs: number;
  /** When spent alone would leave room for the bound, or for the least bound of a call that may be made smaller; `Infinity`: never. */
  clearsAtMs: number;
  /** `off`: the call is not made smaller for this limit. */
  fit?: "off";
  /** A call that finds it spent waits so long for it to clear; absent: such a call is refused. */
  pauseUpToMs?: number;
}

/** How the bounds of the call follow its max_tokens. */
export interface FitInput {
  askedMaxTokens: number;
  /** The smallest with which its answer is still of use; below what was asked. */
  leastMaxTokens: number;
  inputTokensBound: number;
  usd: BoundLine | undefined;
}

/** A pace that a threshold asks for, and when its next call may start. */
export interface Pace {
  key: string;
  limit: string;
  intervalMs: number;
  /** The next free start: those before it are given away. */
  nextStartMs: number;
  /** One interval after the last call that really started: whoever starts late moves those behind it. */
  notBeforeMs: number;
  /** A start this call was given before; it does not take another. */
  grantedStartMs: number | undefined;
}

export interface AdmitInput {
  views: readonly LimitView[];
  paces: readonly Pace[];
  /** Counter series on which an earlier call already waits. */
  heldBack: ReadonlySet<string>;
  isPriceKnown: boolean;
  unboundedParts: readonly string[];
  nowMs: number;
  /** The caller waits no longer than this; absent: it named none. */
  deadlineAtMs?: number;
  /** Since when this call waits for a limit that pauses; absent: it does not yet. */
  pausedSinceMs?: number;
  /** Absent: the call cannot be made smaller. */
  fit?: FitInput;
}

/** The limit a refusal names. */
export interface RefusedBy {
  code: ErrorCode;
  /** With the least that the limit would have to have room for as its bound. */
  view: LimitView | undefined;
  /** When it clears; `Infinity`: never by itself. */
  clearsAtMs: number;
}

export type Admission =
  | { outcome: "admitted"; isGraced: boolean; /** Made smaller to fit; absent: as it was asked. */ maxTokens?: number }
  | {
      outcome: "wait";
      blockedOn: readonly string[];
      /** Look again at this instant even if nothing is freed. */
      untilMs: number;
      /** The limit that would refuse the call if it did not pause it, and since when it does. */
      pause?: { sinceMs: number; by: LimitView };
    }
  | { outcome: "throttled"; startAtMs: number }
  | { outcome: "denied"; by: RefusedBy };

/** Decides: the steps of admission, then the pace. */
export function admit(input: AdmitInput): Admission {
  const denied = findRefusal(input);
  if (denied !== undefined) return { outcome: "denied", by: denied };

  const maxTokens = fittedMaxTokens(input);
  const waiting = findWait(input, maxTokens);
  if (waiting !== undefined) return waiting;

  const startAtMs = nextStart(input);
  const soonestAtMs = Math.min(input.nowMs + THROTTLE_MS_MAX, input.deadlineAtMs ?? Infinity);
  if (startAtMs > soonestAtMs) {
    // Whoever comes back when the start is near enough is given one.
    const clearsAtMs = input.nowMs + (startAtMs - soonestAtMs);
    return { outcome: "denied", by: { code: "rate_limited", view: viewOfPace(input), clearsAtMs } };
  }
  if (startAtMs > input.nowMs) return { outcome: "throttled", startAtMs };
  const isGraced = input.views.some((view) => isGraceUsed(view, boundWith(view, input.fit, maxTokens)));
  return { outcome: "admitted", isGraced, ...(maxTokens === undefined ? {} : { maxTokens }) };
}

/**
 * The max_tokens to run with, or `undefined`: as asked. A call is made smaller only where it would not fit even with nothing in flight;
 * what calls in flight hold is waited for, unless its smallest useful form fits beside them.
 */
function fittedMaxTokens(input: AdmitInput): number | undefined {
  const { fit, views } = input;
  if (fit === undefined) return undefined;
  const isFitting = (view: LimitView): boolean =>
    view.ceiling === undefined || view.bound === undefined || view.spent + view.bound <= ceilingFor(view);
  if (views.every((view) => view.fit === "off" || isFree(view) || isFitting(view))) return undefined;
  const affordable = views.map((view) => affordableMaxTokens(view, fit));
  return Math.max(fit.leastMaxTokens, Math.min(fit.askedMaxTokens, ...affordable));
}

/** The most that fits now, with all calls in flight; for limits that the size of the output does not matter to, what was asked. */
function affordableMaxTokens(view: LimitView, fit: FitInput): number {
  const { askedMaxTokens, inputTokensBound, usd } = fit;
  if (view.ceiling === undefined || view.fit === "off" || isFree(view)) return askedMaxTokens;
  const left = ceilingFor(view) - view.spent - view.reserved;
  switch (view.measure) {
    case "usd":
      return usd === undefined ? askedMaxTokens : outputWithin(usd, left, askedMaxTokens);
    case "tokens":
      return Number(left) - inputTokensBound;
    case "outputTokens":
      return Number(left);
    default:
      return askedMaxTokens;
  }
}

/** What the call takes of a limit with this max_tokens; `undefined`: as it was asked. */
export function boundWith(
  { bound, measure }: Pick<LimitView, "bound" | "measure">,
  fit: FitInput | undefined,
  maxTokens: number | undefined,
): bigint | undefined {
  if (fit === undefined || maxTokens === undefined || bound === undefined) return bound;
  switch (measure) {
    case "usd":
      return fit.usd === undefined ? bound : boundAt(fit.usd, maxTokens);
    case "tokens":
      return BigInt(fit.inputTokensBound + maxTokens);
    case "outputTokens":
      return BigInt(maxTokens);
    default:
      return bound;
  }
}

/** The least that a limit must have room for: below it, the call is refused. */
export function leastBound(view: Pick<LimitView, "bound" | "measure" | "fit">, fit: FitInput | undefined): bigint | undefined {
  return view.fit === "off" ? view.bound : boundWith(view, fit, fit?.leastMaxTokens);
}

function findRefusal(input: AdmitInput): RefusedBy | undefined {
  const refusals = input.views.map((view) => refusalBy(view, input)).filter((refusal) => refusal !== undefined);
  return refusals.reduce<RefusedBy | undefined>(
    (last, next) => (last === undefined || isLater(next, last) ? next : last),
    undefined,
  );
}

/** Final refusals come before those that clear, then the one that clears last. */
function isLater(a: RefusedBy, b: RefusedBy): boolean {
  const rank = ({ code }: RefusedBy): number => (code === "rate_limited" ? 0 : code === "limit_reached" ? 1 : 2);
  return rank(a) !== rank(b) ? rank(a) > rank(b) : a.clearsAtMs > b.clearsAtMs;
}

/** What is explicitly free takes nothing of a money limit, also of one that is spent: it is served on. */
function isFree({ measure, bound }: LimitView): boolean {
  return measure === "usd" && bound === 0n;
}

function refusalBy(view: LimitView, input: AdmitInput): RefusedBy | undefined {
  const { isPriceKnown, nowMs, fit } = input;
  if (view.ceiling === undefined || isFree(view)) return undefined;
  const least = leastBound(view, fit);
  if (least === undefined) {
    return { code: isPriceKnown ? "unbounded_cost" : "unpriced_model", view, clearsAtMs: Infinity };
  }
  // Concurrency is never spent: its answer is to wait, unless no call at all may run.
  const ceiling = ceilingFor(view);
  if (least > ceiling) return { code: "limit_too_small", view: { ...view, bound: least }, clearsAtMs: Infinity };
  if (view.spent + least <= ceiling) return undefined;
  const waitMs = view.clearsAtMs - nowMs;
  if (waitMs <= WAIT_MS_MAX || view.clearsAtMs <= pausableUntilMs(view, input)) return undefined;
  const code = waitMs <= RETRY_MS_MAX ? "rate_limited" : "limit_reached";
  return { code, view: { ...view, bound: least }, clearsAtMs: view.clearsAtMs };
}

/** Until when the call may wait for the limit to clear, where it pauses calls. */
function pausableUntilMs({ pauseUpToMs }: LimitView, { pausedSinceMs, nowMs, deadlineAtMs }: AdmitInput): number {
  if (pauseUpToMs === undefined) return -Infinity;
  return Math.min((pausedSinceMs ?? nowMs) + pauseUpToMs, deadlineAtMs ?? Infinity);
}

function findWait(input: AdmitInput, maxTokens: number | undefined): Admission | undefined {
  const { views, nowMs, fit } = input;
  const blocking = views.filter((view) => isBlocking(view, input, maxTokens));
  if (blocking.length === 0) return undefined;
  const untilMs = Math.min(Infinity, ...blocking.map((view) => looksAgainAtMs(view, fit)).filter((atMs) => atMs > nowMs));
  // Near enough, it waits in line like everybody: whoever is paused is passed by smaller calls that there is money for.
  const by = blocking.find(
    (view) => view.pauseUpToMs !== undefined && isSpent(view, fit) && view.clearsAtMs - nowMs > WAIT_MS_MAX,
  );
  const pause = by && { sinceMs: input.pausedSinceMs ?? nowMs, by };
  return { outcome: "wait", blockedOn: blocking.map(({ counterId }) => counterId), untilMs, ...(pause && { pause }) };
}

/** When time alone changes what blocks: spent clears, or the window that the reservations lie in is over. */
function looksAgainAtMs(view: LimitView, fit: FitInput | undefined): number {
  return isSpent(view, fit) ? view.clearsAtMs : view.windowEndMs;
}

/** True if it would not take the call even with nothing in flight. */
function isSpent(view: LimitView, fit: FitInput | undefined): boolean {
  return view.spent + (leastBound(view, fit) ?? 0n) > ceilingFor(view);
}

function ceilingFor(view: LimitView): bigint {
  return view.graceCeiling ?? view.ceiling ?? 0n;
}

/** True if the call is admitted only because `grace` lets its session finish. */
export function isGraceUsed(view: LimitView, bound: bigint | undefined): boolean {
  const { graceCeiling, ceiling, spent, reserved } = view;
  if (isFree(view)) return false;
  return graceCeiling !== undefined && ceiling !== undefined && (spent >= ceiling || spent + reserved + (bound ?? 0n) > ceiling);
}

/** No count is expected to be lower than one part in so many of a bound by bytes: where there is less room, none would help. */
const COUNT_GAIN_MAX = 16n;

/** True if a call that is not admitted might be, were its input bounded by what the provider counts. */
export function mayFitCounted(input: AdmitInput, { outcome }: Admission): boolean {
  if (outcome !== "wait" && outcome !== "denied") return false;
  const maxTokens = outcome === "wait" ? fittedMaxTokens(input) : undefined;
  const isFailing = (view: LimitView): boolean =>
    outcome === "denied" ? refusalBy(view, input) !== undefined : isBlocking(view, input, maxTokens);
  const failing = input.views.filter(isFailing);
  return failing.length > 0 && failing.every((view) => hasRoomCounted(view, input, outcome));
}

/** True if the call waits for this limit, with the max_tokens it would run with. */
function isBlocking(view: LimitView, { heldBack, fit }: AdmitInput, maxTokens: number | undefined): boolean {
  if (isFree(view)) return false;
  if (heldBack.has(view.counterId)) return true;
  return view.ceiling !== undefined && view.spent + view.reserved + (boundWith(view, fit, maxTokens) ?? 0n) > ceilingFor(view);
}

function hasRoomCounted(view: LimitView, { heldBack, fit }: AdmitInput, outcome: "wait" | "denied"): boolean {
  const { measure, spent, reserved, counterId } = view;
  const isByInput = measure === "usd" || measure === "tokens" || measure === "inputTokens";
  const least = leastBound(view, fit);
  // Whoever came first goes first, however small this call is.
  if (!isByInput || least === undefined || (outcome === "wait" && heldBack.has(counterId))) return false;
  const left = ceilingFor(view) - spent - (outcome === "wait" ? reserved : 0n);
  return left * COUNT_GAIN_MAX >= least;
}

function nextStart({ paces, nowMs }: AdmitInput): number {
  return Math.max(nowMs, ...paces.flatMap((pace) => [pace.grantedStartMs ?? pace.nextStartMs, pace.notBeforeMs]));
}

function viewOfPace({ paces, views }: AdmitInput): LimitView | undefined {
  const last = paces.reduce<Pace | undefined>((a, b) => (a === undefined || b.nextStartMs > a.nextStartMs ? b : a), undefined);
  return views.find(({ limit }) => limit === last?.limit);
}
