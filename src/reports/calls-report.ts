/**
 * Owns how a call of the ledger stands in lists that programs read: the contract's shape.
 * Invariant: everything the ledger knows of a call is there, exact; `null` is "the ledger does not know", never zero.
 */
import type { LimitView } from "../core/decisions/admit.ts";
import { formatUsd, type NanoUsd } from "../core/money/money.ts";
import type { CostPart } from "../core/pricing/rate.ts";
import type { AdjustmentRecord, CallRecord } from "../ledger/ledger.ts";
import { formatInstant } from "../core/windows/instant.ts";
import { toJsonAmount, toJsonInstant } from "./json.ts";
import { toUsageJson, type UsageJson } from "./usage-report.ts";

/** One limit as a decision saw it. */
export interface LimitViewJson {
  limit: string;
  scope: Record<string, string>;
  measure: string;
  amount: string | number;
  ceiling: string | number | null;
  spent: string | number;
  reserved: string | number;
  bound: string | number | null;
  windowEnd: string | null;
  clearsAt: string | null;
}

export interface DecisionJson {
  outcome: "allowed" | "denied";
  /** Only if denied. */
  code: string | null;
  /** The limit that denied. */
  limit: string | null;
  /** `downgraded`, `throttled`, … */
  marks: string[];
  downgradeSkipped: string | null;
  configuration: string | null;
  model: string;
  maxTokens: number | null;
  boundUsd: string | null;
  inputTokensBound: number | null;
  outputTokensBound: number | null;
  limits: LimitViewJson[];
}

export interface CallJson {
  id: string;
  startedAt: string;
  endedAt: string | null;
  scopes: {
    project: string;
    agent: string;
    session: string;
    parentSession: string | null;
    user: string;
    key: string;
    task: string;
    tags: Record<string, string>;
  };
  provider: string;
  model: string;
  requestedModel: string;
  attempt: number;
  providerRequestId: string | null;
  status: CallRecord["status"];
  decision: DecisionJson;
  reservedUsd: string | null;
  costUsd: string | null;
  costParts: CostPart[];
  priceIds: string[];
  usage: UsageJson | null;
  estimated: boolean;
  flags: string[];
  error: { type: string; message: string } | null;
}

/** A call in the contract's shape. */
export function toCallJson(record: CallRecord): CallJson {
  const { facts, result } = record;
  const { scopes, attribution } = facts;
  return {
    id: record.callId,
    startedAt: formatInstant(record.startedAtMs),
    endedAt: record.endedAtMs === undefined ? null : formatInstant(record.endedAtMs),
    scopes: {
      project: scopes.project,
      agent: scopes.agent,
      session: scopes.session,
      parentSession: scopes.parentSessions[0] ?? null,
      user: attribution.user,
      key: scopes.key,
      task: scopes.task,
      tags: { ...attribution.tags },
    },
    provider: facts.provider,
    model: modelOf(record),
    requestedModel: facts.requestedModel,
    attempt: facts.attempt,
    providerRequestId: result?.providerRequestId ?? null,
    status: record.status,
    decision: toDecisionJson(record),
    reservedUsd: moneyOrNull(record.reservedNanoUsd),
    costUsd: moneyOrNull(record.costNanoUsd),
    costParts: [...(result?.costParts ?? [])],
    priceIds: [...(result?.priceIds ?? [])],
    usage: result === undefined ? null : toUsageJson(result.tokens),
    estimated: isEstimated(record),
    flags: flagsOf(record),
    error: result?.error ?? null,
  };
}

/** The model that answered, else the one it was sent to, else the one asked for. */
export function modelOf({ result, decision, facts }: CallRecord): string {
  return result?.model ?? decision?.model ?? facts.requestedModel;
}

/** True if the cost is not known from final usage with every meter priced. */
export function isEstimated({ status, result }: CallRecord): boolean {
  return status === "expired" || result?.isEstimated === true;
}

/** What is unusual about a call: flags of its usage, a settlement after expiry, one above the reservation, corrections. */
export function flagsOf({ result, isLate, overrunNanoUsd, adjustments }: CallRecord): string[] {
  return [
    ...(result?.flags ?? []),
    ...(isLate ? ["late_settlement"] : []),
    ...(overrunNanoUsd > 0n ? ["overrun"] : []),
    ...(adjustments.length > 0 ? ["adjusted"] : []),
  ];
}

/** One correction of a call's cost. */
export interface AdjustmentJson {
  id: string;
  at: string;
  addedUsd: string;
  reason: string;
  by: string;
}

/** A correction as programs read it. */
export function toAdjustmentJson({ adjustmentId, atMs, deltaNanoUsd, reason, by }: AdjustmentRecord): AdjustmentJson {
  return { id: adjustmentId, at: formatInstant(atMs), addedUsd: formatUsd(deltaNanoUsd), reason, by };
}

function toDecisionJson({ status, decision, deniedWith, facts }: CallRecord): DecisionJson {
  return {
    outcome: status === "denied" ? "denied" : "allowed",
    code: deniedWith?.code ?? null,
    limit: deniedWith?.view?.limit ?? null,
    marks: [...(decision?.marks ?? [])],
    downgradeSkipped: decision?.skippedReason ?? null,
    configuration: decision?.limitsVersion ?? null,
    model: decision?.model ?? facts.requestedModel,
    maxTokens: decision?.maxTokens ?? null,
    boundUsd: moneyOrNull(decision?.usdBound),
    inputTokensBound: decision?.inputTokensBound ?? null,
    outputTokensBound: decision?.outputTokensBound ?? null,
    limits: (decision?.admit.views ?? (deniedWith?.view === undefined ? [] : [deniedWith.view])).map((view) => toViewJson(view)),
  };
}

function toViewJson(view: LimitView): LimitViewJson {
  const { limit, scope, measure, amount, ceiling, spent, reserved, bound } = view;
  return {
    limit,
    scope: { ...scope },
    measure,
    amount: toJsonAmount(measure, amount),
    ceiling: ceiling === undefined ? null : toJsonAmount(measure, ceiling),
    spent: toJsonAmount(measure, spent),
    reserved: toJsonAmount(measure, reserved),
    bound: bound === undefined ? null : toJsonAmount(measure, bound),
    windowEnd: toJsonInstant(view.windowEndMs),
    clearsAt: toJsonInstant(view.clearsAtMs),
  };
}

function moneyOrNull(amount: NanoUsd | undefined): string | null {
  return amount === undefined ? null : formatUsd(amount);
}
