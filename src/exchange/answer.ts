/**
 * Owns what both faces do with a provider's answer: whether it is held until it is settled, how its end is told, what is said of the
 * decision in its headers. Does not own carrying its bytes (gateway/forward.ts, client/).
 */
import { formatUsd } from "../core/money/money.ts";
import type { RunningCall } from "../engine/running-call.ts";
import type { CallEnd } from "../engine/settlement.ts";
import type { Settled } from "../engine/settler.ts";
import type { AnswerFilter, ResponseMeter } from "../providers/provider.ts";
import { headerOf, type RawHeaders } from "./headers.ts";

/** JSON answers up to this size are held until they are settled, so that their cost can stand in a header. */
export const HELD_BYTES_MAX = 1_024 * 1_024;
/** With `onClientAbort: drain`, an answer nobody waits for is read on for at most this long. */
export const DRAIN_MS_MAX = 120_000;

/** The answer to a count is one number, and a few words around it. */
export const COUNT_BYTES_MAX = 64 * 1_024;

/** True if an answer is held until it proves long. */
export function isHeld(headers: RawHeaders): boolean {
  return !isEventStream(headers) && declaredLength(headers) <= HELD_BYTES_MAX;
}

/** What is taken out of an answer on its way; `undefined`: it passes as it came. A stream in another coding cannot be looked into. */
export function filterOf(call: Pick<RunningCall, "openFilter">, headers: RawHeaders): AnswerFilter | undefined {
  const coding = headerOf(headers, "content-encoding") ?? "identity";
  return isEventStream(headers) && coding === "identity" ? call.openFilter() : undefined;
}

function isEventStream(headers: RawHeaders): boolean {
  return (headerOf(headers, "content-type") ?? "").toLowerCase().startsWith("text/event-stream");
}

/** 0 where the provider does not say: such an answer is held until it proves long. */
export function declaredLength(headers: RawHeaders): number {
  return Number(headerOf(headers, "content-length") ?? 0);
}

/** How an answer that began has ended. */
export function endOf(input: { status: number; meter: ResponseMeter; isWhole: boolean; isCallerGone: boolean }): CallEnd {
  const { status, meter, isWhole, isCallerGone } = input;
  const reading = meter.reading();
  if (isWhole) return { kind: "completed", status, reading };
  return { kind: "cut", status, reading, by: isCallerGone ? "caller" : "upstream" };
}

/** What was decided, for whoever looks at the answer. */
export function decisionHeaders({ callId, decision }: Pick<RunningCall, "callId" | "decision">): string[] {
  const { marks, changedModel, changedMaxTokens, delayMs } = decision;
  return [
    "x-purser-call",
    callId,
    "x-purser-decision",
    marks.join(", "),
    ...(changedModel === undefined ? [] : ["x-purser-model", changedModel]),
    ...(changedMaxTokens === undefined ? [] : ["x-purser-max-tokens", String(changedMaxTokens)]),
    ...(marks.includes("waited") || marks.includes("throttled") ? ["x-purser-delay-ms", String(delayMs)] : []),
  ];
}

/** The same of a call that was refused. */
export function deniedHeaders(callId: string): string[] {
  return ["x-purser-call", callId, "x-purser-decision", "denied"];
}

/** What a held answer was settled at. */
export function costHeaders({ costNanoUsd }: Settled): string[] {
  return costNanoUsd === undefined ? [] : ["x-purser-cost-usd", formatUsd(costNanoUsd)];
}
