/**
 * Owns a call between its admission and its ending: what goes upstream, the meter that reads along, and the one ending.
 * Does not own admission (pipeline.ts), what an ending costs (settlement.ts) or that it reaches the ledger (settler.ts).
 * Invariants: a call is ended once, however often that is asked; it is settled by the prices it was admitted with, whatever is reloaded
 * meanwhile; its reservation is only ever lowered.
 */
import type { CallFacts, Candidate } from "../core/decisions/call.ts";
import type { CallResult, DecisionMark, ReserveOperation } from "../core/decisions/operations.ts";
import { rateUsage } from "../core/pricing/rate.ts";
import { totalInputTokens, type Usage } from "../core/usage/usage.ts";
import type { Ledger } from "../ledger/ledger.ts";
import type { AnswerFilter, PaidApi, RequestFacts, ResponseMeter } from "../providers/provider.ts";
import type { Clock, Notifier } from "./ports.ts";
import { isLedgerUnavailable } from "./refusing.ts";
import type { Conversation } from "./extensions.ts";
import type { Rules } from "./rules.ts";
import { renewedBounds, resultOf, type CallEnd, type RenewedBounds, type SettlementInput } from "./settlement.ts";
import type { Ending, Settled, Settler } from "./settler.ts";

/** An answer that is over sooner is settled sooner than a lowered reservation could help anybody: one write less for the ledger. */
const RENEWED_AFTER_MS = 250;
/** How long until a lowered reservation that the ledger could not take is tried again. */
const RENEW_RETRY_MS = 500;

/** A call that holds its reservation. Its owner must end it, once. */
export interface RunningCall {
  readonly callId: string;
  /** What to send upstream. */
  readonly body: Uint8Array;
  readonly facts: RequestFacts;
  readonly candidate: Candidate;
  readonly decision: Decision;
  /** Bytes are about to go upstream: from here on it may cost. */
  markSent(): void;
  /** Reads along with the answer. */
  openMeter(contentType: string): ResponseMeter;
  /** Takes out of the answer what only the meter needed; `undefined`: nothing. */
  openFilter(): AnswerFilter | undefined;
  /** Ends it. Asked again, it answers the same. */
  end(end: CallEnd | { kind: "not_sent"; reason: string }, providerRequestId?: string): Promise<Settled>;
}

/** What the answer's headers say of the decision. */
export interface Decision {
  marks: readonly ("allowed" | "waited" | DecisionMark)[];
  /** The model it runs on, if it is another than was asked for. */
  changedModel: string | undefined;
  changedMaxTokens: number | undefined;
  delayMs: number;
}

/** What an admitted call is made of. */
export interface RunInput {
  provider: PaidApi;
  /** As it came. */
  body: Uint8Array;
  facts: RequestFacts;
  call: CallFacts;
  /** As what it is recognised by calls that extend it; `undefined`: by none. */
  conversation: Conversation | undefined;
  /** Those it was admitted by. */
  rules: Rules;
  candidate: Candidate;
  /** Counter series it holds something in. */
  counterIds: readonly string[];
  marks: readonly DecisionMark[];
  hasWaited: boolean;
  receivedAtMs: number;
  /** The reservation of a call that was let through while the ledger could not be written. */
  unwritten: ReserveOperation | undefined;
}

/** What the provider reported of an answer that came whole. */
export interface Answer {
  result: CallResult;
  usage: Usage;
}

export interface RunningCalls {
  run(input: RunInput): RunningCall;
  /** Admitted and not ended. */
  readonly count: number;
}

export function createRunningCalls(deps: {
  ledger: Ledger;
  clock: Clock;
  notifier: Notifier;
  settler: Settler;
  freed: (counterIds: readonly string[]) => void;
  /** Told what the provider reported of an answer that came whole. */
  onAnswered: (input: RunInput, answer: Answer) => void;
  /** Told once per call, when its ending was handed over. */
  onEnded: (callId: string) => void;
}): RunningCalls {
  const { ledger, clock, notifier, settler, freed } = deps;
  let count = 0;

  function run(input: RunInput): RunningCall {
    const { facts, call, rules, candidate, unwritten } = input;
    const { callId } = call;
    const edit = editOf(facts, candidate);
    const body = input.provider.editRequest(input.body, facts, edit ?? {});
    let sentAtMs: number | undefined;
    let settled: Promise<Settled> | undefined;
    /** What its reservation was lowered to. */
    let renewed: RenewedBounds | undefined;
    count += 1;
    return {
      callId,
      facts,
      candidate,
      body,
      decision: decisionOf(input, edit, clock.nowMs()),
      markSent() {
        sentAtMs ??= clock.nowMs();
      },
      openMeter(contentType) {
        const { cacheWrites, isPriority } = facts;
        const meter = input.provider.openMeter({ contentType, requestedModel: candidate.model, cacheWrites, isPriority });
        return facts.isStream ? lowering(meter, (sentAtMs ?? clock.nowMs()) + RENEWED_AFTER_MS) : meter;
      },
      openFilter: () => (facts.usageAsking === undefined ? undefined : input.provider.openFilter?.()),
      end(end, providerRequestId) {
        if (settled === undefined) {
          const { book, onUnpricedModel } = rules;
          const provider = call.provider;
          const flags = unwritten === undefined ? [] : ["ledger_bypassed"];
          const endedAtMs = clock.nowMs();
          const reported = renewed?.reported;
          const found = { reported, sentAtMs, endedAtMs, providerRequestId, flags };
          const facing = { book, onUnpricedModel, candidate, facts, provider, ...found };
          const ending = endingOf(callId, end, facing);
          const usage = end.kind === "completed" || end.kind === "cut" ? end.reading.usage : undefined;
          if (ending.kind === "settle") warnIfPassed(callId, candidate, ending.result);
          if (ending.kind === "settle" && usage !== undefined && isWhole(ending.result)) {
            deps.onAnswered(input, { result: ending.result, usage });
          }
          settled = settler.end(ending, unwritten);
          count -= 1;
          deps.onEnded(callId);
        }
        return settled;
      },
    };

    /** A meter that lowers the reservation, not before an instant, once the provider has said what the input was. */
    function lowering(meter: ResponseMeter, fromMs: number): ResponseMeter {
      let hasTold = false;
      return {
        end: () => meter.end(),
        reading: () => meter.reading(),
        push(chunk) {
          meter.push(chunk);
          if (hasTold || clock.nowMs() < fromMs) return;
          const reading = meter.reading();
          if (reading.usage === undefined) return;
          hasTold = true;
          renewed = renewedBounds(reading, candidate, facts);
          if (renewed !== undefined) void renew(input, renewed, () => settled !== undefined);
        },
      };
    }
  }

  /** In money an overrun is told by the ledger; in tokens a bound may be passed for less money than was set aside. */
  function warnIfPassed(callId: string, candidate: Candidate, { tokens }: CallResult): void {
    const { inputTokensBound, outputTokensBound, unboundedParts } = candidate;
    const inputTokens = totalInputTokens(tokens);
    const { outputTokens } = tokens;
    const isPassed = inputTokens > inputTokensBound || outputTokens > outputTokensBound;
    if (!isPassed || unboundedParts.length > 0) return;
    notifier.warn("bound_passed", { callId, inputTokens, inputTokensBound, outputTokens, outputTokensBound });
  }

  function endingOf(
    callId: string,
    end: CallEnd | { kind: "not_sent"; reason: string },
    call: Omit<SettlementInput, "end" | "sentAtMs"> & {
      sentAtMs: number | undefined;
      flags: readonly string[];
    },
  ): Ending {
    const { sentAtMs, endedAtMs: atMs } = call;
    if (end.kind === "not_sent" || sentAtMs === undefined) {
      return { kind: "void", atMs, callId, reason: end.kind === "not_sent" ? end.reason : "not_sent" };
    }
    try {
      const result = resultOf({ ...call, end, sentAtMs });
      return { kind: "settle", atMs, callId, result: { ...result, flags: [...result.flags, ...call.flags] } };
    } catch (error) {
      // A mistake of ours must not leave money held, nor free: the call is counted at its bound.
      const reason = error instanceof Error ? error.message : "unknown";
      notifier.warn("internal_error", { callId, message: reason });
      return { kind: "expire", atMs, callId, reason: `settling it failed: ${reason}` };
    }
  }

  /** Lowers a reservation; asked again until the ledger has answered or the call has ended, for others may wait for what it frees. */
  async function renew(input: RunInput, renewed: RenewedBounds, hasEnded: () => boolean): Promise<void> {
    const { rules, call, counterIds } = input;
    const { provider, callId } = call;
    const { inputTokensBound, outputTokensBound } = renewed;
    const atMs = clock.nowMs();
    const rated = rateUsage(renewed.usage, (model) => rules.book.find(provider, model, atMs));
    const usdBound = rated.outcome === "rated" ? rated.costNanoUsd : undefined;
    const operation = { kind: "renew" as const, atMs, callId, usdBound, inputTokensBound, outputTokensBound };
    for (let isFirst = true; isFirst || !hasEnded(); isFirst = false) {
      try {
        const [result] = await ledger.apply([operation]);
        // Said before, it frees nothing more; who waits was never told of the first time.
        return freed(isFirst ? (result?.freedCounterIds ?? []) : counterIds);
      } catch (error) {
        if (!isLedgerUnavailable(error)) {
          return notifier.warn("internal_error", { callId, message: error instanceof Error ? error.message : "unknown" });
        }
      }
      // The higher reservation stays meanwhile: nothing is lost by that but others' time.
      await new Promise<void>((resolve) => clock.after(RENEW_RETRY_MS, resolve));
    }
  }

  return {
    run,
    get count() {
      return count;
    },
  };
}

function isWhole({ isEstimated, stopReason }: CallResult): boolean {
  return !isEstimated && stopReason !== undefined;
}

function decisionOf(
  { marks, hasWaited, receivedAtMs }: RunInput,
  edit: { model?: string; maxTokens?: number } | undefined,
  nowMs: number,
): Decision {
  return {
    marks: [
      ...(marks.length === 0 && !hasWaited ? ["allowed" as const] : []),
      ...(hasWaited ? ["waited" as const] : []),
      ...marks,
    ],
    changedModel: edit?.model,
    changedMaxTokens: edit?.maxTokens,
    delayMs: nowMs - receivedAtMs,
  };
}

function editOf(facts: RequestFacts, candidate: Candidate): { model?: string; maxTokens?: number } | undefined {
  const isOtherModel = candidate.model !== facts.model;
  const isOtherMax = candidate.maxTokens !== undefined && candidate.maxTokens !== facts.maxTokens;
  if (!isOtherModel && !isOtherMax) return undefined;
  return {
    ...(isOtherModel ? { model: candidate.model } : {}),
    ...(isOtherMax && candidate.maxTokens !== undefined ? { maxTokens: candidate.maxTokens } : {}),
  };
}
