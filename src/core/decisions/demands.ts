/**
 * Owns what a reservation asks of each limit, and what of that is different where it is one line of a batch: the first line is decided
 * for all of them.
 * Does not own the decision (admit.ts) or what is set aside (reserve.ts).
 * Invariants: a batch is reserved whole or not at all, in one atomic step; what its first line is decided by is the sum of what every
 * line is charged.
 */
import type { Limit } from "../limits/limit.ts";
import { toNanoUsd } from "../money/money.ts";
import type { Admission } from "./admit.ts";
import type { Book } from "./book.ts";
import { boundIn, type Candidate } from "./call.ts";
import { countersOf, type CallCounter } from "./counters.ts";
import type { BatchShare, ReserveOperation } from "./operations.ts";

/** In a window shorter than this a batch is one request: it is sent as one, and runs when the provider has time for it. */
const RATE_WINDOW_MS = 3_600_000;

/** What a call, or all lines of a batch, would take of a limit; `undefined`: nothing bounds it. */
export interface Demand {
  counter: CallCounter;
  bound: bigint | undefined;
}

/** True for a line whose batch was not let through. */
export function isLeftOut(book: Book, { batch, ownerId }: ReserveOperation): boolean {
  return batch?.isFirst === false && book.openCall(batch.firstCallId)?.ownerId !== ownerId;
}

export function sharesOf({ batch }: ReserveOperation): readonly BatchShare[] {
  return batch?.isFirst === true ? batch.rest : [];
}

/** The counters that count a call. The lines of a batch run nowhere at once, and are asked for once. */
export function countedBy({ batch }: Pick<ReserveOperation, "batch">, counters: readonly CallCounter[]): readonly CallCounter[] {
  if (batch === undefined) return counters;
  return counters.filter(({ compiled: { limit } }) => limit.measure !== "concurrency" && (batch.isFirst || !isRate(limit)));
}

function isRate({ measure, window }: Limit): boolean {
  return measure === "requests" && window.kind === "rolling" && window.lengthMs < RATE_WINDOW_MS;
}

/**
 * A call has one bound in money, whatever limit looks at it: where a part of it is unbounded, the highest `reserve` that any of its
 * limits states for that. Otherwise an expired call would cost another amount in every counter.
 */
export function withReserve(candidate: Candidate, counters: readonly CallCounter[]): Candidate {
  if (candidate.unboundedParts.length === 0 || candidate.usdBound === undefined) return candidate;
  const reserves = counters.map(({ compiled }) => compiled.limit.unboundedReserveNanoUsd ?? 0n);
  const highest = reserves.reduce((high, reserve) => (reserve > high ? reserve : high), 0n);
  return highest > candidate.usdBound ? { ...candidate, usdBound: toNanoUsd(highest) } : candidate;
}

/** What is decided on: for the first line of a batch, what all lines need together. */
export function demandsOf(
  book: Book,
  operation: ReserveOperation,
  candidate: Candidate,
  charged: readonly CallCounter[],
): Demand[] {
  const demands = charged.map((counter): Demand => ({ counter, bound: boundIn(counter.compiled.limit, candidate) }));
  for (const share of sharesOf(operation)) addShare(book, operation, share, demands);
  return demands;
}

function addShare(book: Book, operation: ReserveOperation, { candidate, lines }: BatchShare, demands: Demand[]): void {
  const { call } = operation;
  const touched = countersOf(book.limits, call.scopes, candidate.canonicalModel);
  const counters = countedBy({ batch: { isFirst: false, firstCallId: call.callId } }, touched);
  const whole = withReserve(candidate, counters);
  for (const counter of counters) {
    const { limit } = counter.compiled;
    const bound = limit.measure === "requests" ? BigInt(lines) : boundIn(limit, whole);
    const known = demands.find((demand) => isSame(demand.counter, counter));
    if (known === undefined) demands.push({ counter, bound });
    else known.bound = known.bound === undefined || bound === undefined ? undefined : known.bound + bound;
  }
}

function isSame(a: CallCounter, b: CallCounter): boolean {
  return a.compiled === b.compiled && a.counterId === b.counterId;
}

/** @throws if a line is not let through although its batch was: nothing of it may stay, so the whole step fails. */
export function assertWhole({ batch, call }: ReserveOperation, { outcome }: Admission): void {
  if (batch?.isFirst === false && outcome !== "admitted")
    throw new RangeError(`line ${call.callId} of a batch is ${outcome}, although the batch was admitted as a whole`);
}
