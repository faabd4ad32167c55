/**
 * Owns when a call is moved to a cheaper model, and to which. Does not own the thresholds that ask for it (transitions.ts) or how
 * a request is edited (providers/).
 * Invariants: never in the middle of a tool answer unless ten calls passed without a better moment; never where ten more calls
 * would cost more, the rewritten cache included; once switched, a session stays switched.
 */
import type { CallFacts, Candidate } from "./call.ts";
import type { SessionState } from "./counters.ts";

/** After so many calls without a message of the user's own, a session is switched in the middle of its tool calls. */
export const CALLS_WITHOUT_TURN_MAX = 10;

export type ModelChoice =
  | { kind: "as_asked" }
  | { kind: "downgraded"; candidate: Candidate; isFirst: boolean }
  /** Due, but this is no moment to switch. */
  | { kind: "postponed" }
  /** Due, but no model takes the request, or none is cheaper. */
  | { kind: "skipped"; reason: string };

/**
 * @param candidates the model asked for, then those to fall back to, in order.
 * @param isDue whether a threshold that was reached asks for a cheaper model.
 */
export function chooseModel(input: {
  call: CallFacts;
  candidates: readonly Candidate[];
  session: SessionState;
  isDue: boolean;
}): ModelChoice {
  const [asked, ...cheaper] = input.candidates;
  const before = asked === undefined ? undefined : input.session.downgraded.get(asked.canonicalModel);
  if (asked === undefined || (!input.isDue && before === undefined)) return { kind: "as_asked" };

  const accepting = cheaper.filter(({ rejectedBy }) => rejectedBy === undefined);
  const kept = accepting.find(({ canonicalModel }) => canonicalModel === before);
  if (kept !== undefined) return { kind: "downgraded", candidate: kept, isFirst: false };

  const first = accepting[0];
  if (first === undefined) return { kind: "skipped", reason: reasonOfNone(cheaper) };
  if (!isCheaper(first, asked)) return { kind: "skipped", reason: `ten more calls on ${first.model} would not be cheaper` };
  if (!isMomentToSwitch(input.call, input.session)) return { kind: "postponed" };
  return { kind: "downgraded", candidate: first, isFirst: true };
}

function reasonOfNone(cheaper: readonly Candidate[]): string {
  if (cheaper.length === 0) return "no cheaper model is configured for this one";
  return cheaper.map(({ model, rejectedBy }) => `${model}: ${rejectedBy}`).join("; ");
}

function isCheaper(target: Candidate, asked: Candidate): boolean {
  return (
    target.tenCallsNanoUsd !== undefined &&
    (asked.tenCallsNanoUsd === undefined || target.tenCallsNanoUsd < asked.tenCallsNanoUsd)
  );
}

function isMomentToSwitch({ history }: CallFacts, session: SessionState): boolean {
  if (!history.hasAssistantTurn || !history.isAnsweringTool) return true;
  return session.callsSinceDowngradeDue >= CALLS_WITHOUT_TURN_MAX && !history.hasThinking;
}
