/**
 * Owns how the entries of one call read as one record, and which report group a call belongs to: the same for every store.
 * Does not own finding the entries (memory/, sqlite/).
 */
import type { CallFacts } from "../core/decisions/call.ts";
import type { EntryBody, NewEntry } from "../core/decisions/operations.ts";
import { ZERO_USD } from "../core/money/money.ts";
import { NO_TOKENS, type TokenParts } from "../core/usage/usage.ts";
import type { AdjustmentRecord, CallRecord, ReportDimension } from "./ledger.ts";

type Kept = Pick<NewEntry, "atMs" | "costNanoUsd" | "body">;

/**
 * The record of a call from its first entry (`reserved` or `denied`), the last of its endings, if it has one, and the corrections
 * behind that.
 */
export function callRecordOf(position: number, first: Kept, end: Kept | undefined, corrections: readonly Kept[]): CallRecord {
  const { body } = first;
  if (body.kind === "denied") return deniedRecord(position, first.atMs, body);
  if (body.kind !== "reserved") throw new TypeError(`entry ${position}: a call begins with reserved or denied, not ${body.kind}`);
  const { decision, call } = body;
  const adjustments = corrections.map(adjustmentOf);
  return {
    position,
    callId: call.callId,
    startedAtMs: first.atMs,
    endedAtMs: end?.atMs,
    facts: call,
    status: end === undefined ? "reserved" : statusOf(end.body),
    decision,
    deniedWith: undefined,
    reservedNanoUsd: decision.usdBound,
    costNanoUsd: (corrections.at(-1) ?? end)?.costNanoUsd,
    result: end?.body.kind === "settled" ? end.body.result : undefined,
    isLate: end?.body.kind === "settled" && end.body.isLate,
    overrunNanoUsd: end?.body.kind === "settled" ? end.body.overrunNanoUsd : ZERO_USD,
    adjustments,
    adjustedNanoUsd: adjustments.reduce((sum, { deltaNanoUsd }) => sum + deltaNanoUsd, 0n),
  };
}

function adjustmentOf({ atMs, body }: Kept): AdjustmentRecord {
  if (body.kind !== "adjusted") throw new TypeError(`a call is corrected by adjusted, not ${body.kind}`);
  const { adjustmentId, deltaNanoUsd, reason, by } = body;
  return { adjustmentId, atMs, deltaNanoUsd, reason, by };
}

function statusOf(body: EntryBody): "settled" | "voided" | "expired" {
  if (body.kind === "settled" || body.kind === "voided" || body.kind === "expired") return body.kind;
  throw new TypeError(`a call ends with settled, voided or expired, not ${body.kind}`);
}

function deniedRecord(position: number, atMs: number, body: Extract<EntryBody, { kind: "denied" }>): CallRecord {
  return {
    position,
    callId: body.call.callId,
    startedAtMs: atMs,
    endedAtMs: atMs,
    facts: body.call,
    status: "denied",
    decision: body.decision,
    deniedWith: { code: body.code, view: body.view },
    reservedNanoUsd: undefined,
    costNanoUsd: undefined,
    result: undefined,
    isLate: false,
    overrunNanoUsd: ZERO_USD,
    adjustments: [],
    adjustedNanoUsd: 0n,
  };
}

/** The model a call is reported under. */
export function reportModelOf({ decision, facts }: { decision: CallRecord["decision"]; facts: CallFacts }): string {
  return decision?.canonicalModel ?? facts.requestedModel;
}

/** The tokens a call is counted with: what was used, or its bound where it expired. */
export function reportTokensOf(end: Kept | undefined): TokenParts {
  if (end?.body.kind === "settled") return end.body.result.tokens;
  if (end?.body.kind !== "expired") return NO_TOKENS;
  const { inputTokens, outputTokens } = end.body.tokens;
  return { ...NO_TOKENS, uncachedInputTokens: inputTokens, outputTokens };
}

/** The labels that reports group a call by where they differ from those that limit it. */
export function reportedLabelsOf({ attribution }: CallFacts): { user: string; tags: Readonly<Record<string, string>> } {
  return attribution;
}

type Labelled = Pick<CallFacts, "scopes" | "attribution">;

/** The group's values for one call. */
export function groupKeyOf(by: readonly ReportDimension[], facts: Labelled, model: string): Record<string, string> {
  return Object.fromEntries(by.map((dimension) => [dimension, valueOf(dimension, facts, model)]));
}

function valueOf(dimension: ReportDimension, { scopes, attribution }: Labelled, model: string): string {
  switch (dimension) {
    case "model":
      return model;
    case "user":
      return attribution.user;
    case "project":
    case "agent":
    case "session":
    case "key":
    case "task":
      return scopes[dimension];
    default:
      return attribution.tags[dimension.slice("tag:".length)] ?? "default";
  }
}
