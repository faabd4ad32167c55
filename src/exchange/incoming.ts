/**
 * Owns making a call for the engine out of a request's headers and body. Does not own whose credential it shows or how its body came
 * here (gateway/, client/), or what a label counts for (engine/identify).
 * Invariant: a header of ours that cannot be understood is told, never passed over.
 */
import type { AskCount } from "../engine/counts.ts";
import type { Caller, Labels } from "../engine/identify.ts";
import type { IncomingCall, Presence } from "../engine/incoming-call.ts";
import type { Provider } from "../providers/provider.ts";
import { deadlineOf, headerOf, idempotencyKeyOf, labelsOf, variantOf, type RawHeaders } from "./headers.ts";

export interface IncomingInput {
  provider: Provider;
  headers: RawHeaders;
  body: Uint8Array;
  caller: Caller;
  presence: Presence;
  askCount: AskCount;
  nowMs: number;
  /** What holds where the headers say nothing. */
  around?: Labels;
}

/** Reads what the headers say of a call. */
export function incomingCall(
  input: IncomingInput,
): { outcome: "read"; call: IncomingCall<Provider> } | { outcome: "invalid"; problem: string } {
  const { provider, headers, body, caller, presence, askCount, nowMs, around } = input;
  const labels = labelsOf(headers);
  if (labels.outcome === "invalid") return labels;
  const deadlineAtMs = deadlineOf(headers, nowMs);
  if (typeof deadlineAtMs === "string") return { outcome: "invalid", problem: deadlineAtMs };
  const attempt = Number(headerOf(headers, "x-stainless-retry-count") ?? 0);
  const idempotencyKey = idempotencyKeyOf(headers);
  if (idempotencyKey.outcome === "invalid") return idempotencyKey;
  return {
    outcome: "read",
    call: {
      provider,
      body,
      variant: variantOf(headers),
      caller,
      labels: around === undefined ? labels.labels : within(around, labels.labels),
      attempt: Number.isSafeInteger(attempt) && attempt >= 0 ? attempt : 0,
      deadlineAtMs,
      idempotencyKey: idempotencyKey.key,
      presence,
      askCount,
    },
  };
}

/** What is nearer to the call wins; a session inside another one counts for it as well. */
export function within(around: Labels, nearer: Labels): Labels {
  const labels = { ...around, ...nearer };
  const tags = { ...around.tags, ...nearer.tags };
  const isNested = nearer.session !== undefined && around.session !== undefined && nearer.session !== around.session;
  const outer = isNested && around.session !== undefined ? [around.session] : [];
  const parents = [...(nearer.parentSessions ?? []), ...outer, ...(around.parentSessions ?? [])];
  return {
    ...labels,
    ...(Object.keys(tags).length > 0 ? { tags } : {}),
    ...(parents.length > 0 ? { parentSessions: [...new Set(parents)] } : {}),
  };
}
