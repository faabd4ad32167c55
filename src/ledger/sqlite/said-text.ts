/**
 * Owns how a call and its result are written, between threads and in entries alike: as lists without field names, so that the text that
 * the event loop made is stored as it is.
 * Invariants: what is read equals what was written; the lists of stored entries only ever grow at their end.
 */
import type { CallFacts } from "../../core/decisions/call.ts";
import type { CallResult } from "../../core/decisions/operations.ts";
import type { Scopes } from "../../core/limits/limit.ts";
import { toNanoUsd, type NanoUsd } from "../../core/money/money.ts";
import type { CostPart } from "../../core/pricing/rate.ts";

type Tags = Readonly<Record<string, string>>;

type WrittenCall = [
  callId: string,
  project: string,
  agent: string,
  session: string,
  /** 0: none. */
  parentSessions: readonly string[] | 0,
  user: string,
  key: string,
  task: string,
  tags: Tags | 0,
  /** 0: what it says of itself is what it is limited by. */
  attribution: [user: string, tags: Tags] | 0,
  provider: string,
  requestedModel: string,
  attempt: number,
  isStream: boolean,
  hasAssistantTurn: boolean,
  isAnsweringTool: boolean,
  hasThinking: boolean,
];

const NO_TAGS: Tags = {};

export function callToText({
  callId,
  scopes,
  provider,
  requestedModel,
  attempt,
  isStream,
  attribution,
  history,
}: CallFacts): string {
  const { project, agent, session, parentSessions, user, key, task, tags } = scopes;
  const isSame = attribution.user === user && (attribution.tags === tags || (isEmpty(attribution.tags) && isEmpty(tags)));
  const written: WrittenCall = [
    callId,
    project,
    agent,
    session,
    parentSessions.length === 0 ? 0 : parentSessions,
    user,
    key,
    task,
    isEmpty(tags) ? 0 : tags,
    isSame ? 0 : [attribution.user, attribution.tags],
    provider,
    requestedModel,
    attempt,
    isStream,
    history.hasAssistantTurn,
    history.isAnsweringTool,
    history.hasThinking,
  ];
  return JSON.stringify(written);
}

function isEmpty(tags: Tags): boolean {
  for (const _name in tags) return false;
  return true;
}

/** Every field must be read, also one that may be absent: a new one is not to be lost. */
type Whole<T> = { [Name in keyof Required<T>]: T[Name] };

export function callFromWritten(written: readonly unknown[]): CallFacts {
  const [callId, project, agent, session, parentSessions, user, key, task, ownTags, attribution, ...facts] =
    written as WrittenCall;
  const [provider, requestedModel, attempt, isStream, hasAssistantTurn, isAnsweringTool, hasThinking] = facts;
  const tags = ownTags === 0 ? NO_TAGS : ownTags;
  const scopes: Whole<Scopes> = {
    project,
    agent,
    session,
    parentSessions: parentSessions === 0 ? [] : parentSessions,
    user,
    key,
    task,
    tags,
  };
  const call: Whole<CallFacts> = {
    callId,
    scopes,
    provider,
    requestedModel,
    attempt,
    isStream,
    attribution: attribution === 0 ? { user, tags } : { user: attribution[0], tags: attribution[1] },
    history: { hasAssistantTurn, isAnsweringTool, hasThinking },
  };
  return call;
}

type WrittenPart = [
  meter: CostPart["meter"],
  quantity: number,
  unitUsd: string,
  unitQuantity: CostPart["unitQuantity"],
  costUsd: string,
  priceId: string,
  /** 0: the model that answered. */
  model: string | 0,
  kind: CostPart["kind"],
  multipliers: CostPart["multipliers"],
];

type WrittenResult = [
  costNanoUsd: string | null,
  uncachedInputTokens: number,
  cacheReadTokens: number,
  cacheWrite5mTokens: number,
  cacheWrite1hTokens: number,
  outputTokens: number,
  reasoningOutputTokens: number,
  costParts: readonly WrittenPart[],
  priceIds: readonly string[],
  webSearchRequests: number,
  isEstimated: boolean,
  flags: readonly string[],
  model: string,
  status: number | null,
  stopReason: string | null,
  providerRequestId: string | null,
  error: CallResult["error"] | null,
];

export function resultToText(result: CallResult): string {
  const { costNanoUsd, model, tokens, costParts } = result;
  const written: WrittenResult = [
    costNanoUsd === undefined ? null : `${costNanoUsd}`,
    tokens.uncachedInputTokens,
    tokens.cacheReadTokens,
    tokens.cacheWrite5mTokens,
    tokens.cacheWrite1hTokens,
    tokens.outputTokens,
    tokens.reasoningOutputTokens,
    costParts.map((part) => writtenPart(part, model)),
    result.priceIds,
    result.webSearchRequests,
    result.isEstimated,
    result.flags,
    model,
    result.status ?? null,
    result.stopReason ?? null,
    result.providerRequestId ?? null,
    result.error ?? null,
  ];
  return JSON.stringify(written);
}

function writtenPart(part: CostPart, answeredBy: string): WrittenPart {
  const { meter, quantity, unitUsd, unitQuantity, costUsd, priceId, model, kind, multipliers } = part;
  return [meter, quantity, unitUsd, unitQuantity, costUsd, priceId, model === answeredBy ? 0 : model, kind, multipliers];
}

export function resultFromWritten(written: readonly unknown[]): CallResult {
  const [cost, uncachedInputTokens, cacheReadTokens, cacheWrite5mTokens, cacheWrite1hTokens, ...rest] = written as WrittenResult;
  const [outputTokens, reasoningOutputTokens, costParts, priceIds, webSearchRequests, isEstimated, flags, model, ...answer] =
    rest;
  const [status, stopReason, providerRequestId, error] = answer;
  const tokens: Whole<CallResult["tokens"]> = {
    uncachedInputTokens,
    cacheReadTokens,
    cacheWrite5mTokens,
    cacheWrite1hTokens,
    outputTokens,
    reasoningOutputTokens,
  };
  const result: Whole<CallResult> = {
    costNanoUsd: amountFrom(cost),
    tokens,
    costParts: costParts.map((part) => readPart(part, model)),
    priceIds,
    webSearchRequests,
    isEstimated,
    flags,
    model,
    status: status ?? undefined,
    stopReason: stopReason ?? undefined,
    providerRequestId: providerRequestId ?? undefined,
    error: error ?? undefined,
  };
  return result;
}

function readPart(written: WrittenPart, answeredBy: string): CostPart {
  const [meter, quantity, unitUsd, unitQuantity, costUsd, priceId, model, kind, multipliers] = written;
  const part: Whole<CostPart> = {
    meter,
    model: model === 0 ? answeredBy : model,
    kind,
    priceId,
    quantity,
    unitUsd,
    unitQuantity,
    multipliers,
    costUsd,
  };
  return part;
}

function amountFrom(text: string | null): NanoUsd | undefined {
  return text === null ? undefined : toNanoUsd(BigInt(text));
}
