/**
 * Owns turning a submitted batch into reservations: each line's bound at batch price, and what all of them need together.
 * Does not own when they are asked for (batches.ts) or the decision (core/decisions).
 * Invariants: a line without a bound of its own is added to no other; reading many lines never keeps the event loop for long.
 */
import type { CallFacts, Candidate } from "../core/decisions/call.ts";
import type { BatchShare, ReserveOperation } from "../core/decisions/operations.ts";
import { toNanoUsd } from "../core/money/money.ts";
import type { Refusal } from "../core/errors/codes.ts";
import type { BatchLine, PaidApi, RequestFacts } from "../providers/provider.ts";
import { candidatesFor } from "./candidates.ts";
import type { Clock } from "./ports.ts";
import type { Rules } from "./rules.ts";

/** One line as it is asked for. */
export interface BatchCall {
  customId: string;
  call: CallFacts;
  candidate: Candidate;
}

/** So many lines are read before others get their turn. */
const LINES_AT_ONCE = 200;
const NO_DOWNGRADE = new Map<string, string>();

export async function readBatchCalls(input: {
  provider: PaidApi;
  body: Uint8Array;
  lines: readonly BatchLine[];
  rules: Rules;
  clock: Clock;
  callOf: (customId: string, facts: RequestFacts) => CallFacts;
}): Promise<{ outcome: "read"; calls: BatchCall[] } | { outcome: "refused"; refusal: Refusal }> {
  const { provider, body, lines, rules, clock, callOf } = input;
  const atMs = clock.nowMs();
  const calls: BatchCall[] = [];
  for (const { customId, request } of lines) {
    if (calls.length > 0 && calls.length % LINES_AT_ONCE === 0) await othersTurn(clock);
    const read = provider.readRequest(body.subarray(request.start, request.end));
    if (read.outcome === "refused") return { outcome: "refused", refusal: ofLine(read.refusal, customId) };
    const { facts } = read;
    const [candidate] = candidatesFor({ ...rules, downgrade: NO_DOWNGRADE, provider, facts, atMs, isBatch: true });
    if (candidate === undefined) throw new RangeError(`line ${customId} has no model to run on`);
    // It runs as it was asked for, or not at all.
    const { fit: _, ...whole } = candidate;
    calls.push({ customId, call: callOf(customId, facts), candidate: { ...whole, tenCallsNanoUsd: undefined } });
  }
  return { outcome: "read", calls };
}

function othersTurn(clock: Clock): Promise<void> {
  return new Promise((resolve) => clock.after(0, resolve));
}

function ofLine(refusal: Refusal, customId: string): Refusal {
  return { ...refusal, message: `${refusal.message} (in the request ${customId} of the batch)` };
}

/** Asks for all lines, or for none. */
export function operationsFor(
  calls: readonly BatchCall[],
  asked: Pick<ReserveOperation, "atMs" | "ownerId" | "heldBack" | "grantedStartsMs" | "deadlineAtMs">,
): ReserveOperation[] {
  const [first, ...others] = calls;
  if (first === undefined) return [];
  const rest = sharesOf(others.map(({ candidate }) => candidate));
  const { atMs, ownerId } = asked;
  return [
    { kind: "reserve", ...asked, call: first.call, candidates: [first.candidate], batch: { isFirst: true, rest } },
    ...others.map(({ call, candidate }): ReserveOperation => ({
      kind: "reserve",
      atMs,
      ownerId,
      call,
      candidates: [candidate],
      heldBack: [],
      grantedStartsMs: {},
      batch: { isFirst: false, firstCallId: first.call.callId },
    })),
  ];
}

function sharesOf(candidates: readonly Candidate[]): BatchShare[] {
  const bounded = new Map<string, BatchShare>();
  const shares: BatchShare[] = [];
  for (const candidate of candidates) {
    const { canonicalModel, unboundedParts } = candidate;
    const known = unboundedParts.length === 0 ? bounded.get(canonicalModel) : undefined;
    if (known !== undefined) {
      known.lines += 1;
      known.candidate = sumOf(known.candidate, candidate);
      continue;
    }
    const share = { lines: 1, candidate };
    shares.push(share);
    if (unboundedParts.length === 0) bounded.set(canonicalModel, share);
  }
  return shares;
}

function sumOf(a: Candidate, b: Candidate): Candidate {
  return {
    ...a,
    inputTokensBound: a.inputTokensBound + b.inputTokensBound,
    outputTokensBound: a.outputTokensBound + b.outputTokensBound,
    usdBound: a.usdBound === undefined || b.usdBound === undefined ? undefined : toNanoUsd(a.usdBound + b.usdBound),
  };
}
