/**
 * Owns reading an Anthropic Messages request: which of its bytes decide what the call can cost.
 * Does not own the amounts (bound.ts, models.ts), the grammar (json/scan.ts) or any change of the body (edit.ts).
 * Invariant: a field that decides the cost is either understood, or named in `unboundedParts` or `remoteInputs`, or refused;
 * every other field passes unseen.
 *
 * @see providers.md §3 (request fields that change cost), §11 (Claude Code's metadata)
 */
import type { Refusal } from "../../core/errors/codes.ts";
import { invalidRequest } from "../../core/errors/refusals.ts";
import { describeFault } from "../json/fault.ts";
import { scanJson } from "../json/scan.ts";
import type { ReadRequestResult, RequestFacts, Span } from "../provider.ts";
import { RequestReading } from "./reading.ts";
import { REQUEST_SLOT } from "./slots.ts";

/** Reads the body of `POST /v1/messages`. */
export function readRequest(body: Uint8Array): ReadRequestResult {
  const reading = new RequestReading(body);
  const fault = scanJson(body, REQUEST_SLOT, reading);
  if (fault !== undefined) return refuse(describeFault(fault));
  if (reading.model === undefined || reading.modelSpan === undefined) {
    return refuse("the top level: found no member model, allowed is a model name in a string");
  }
  return { outcome: "read", facts: toFacts(reading, reading.model, reading.modelSpan) };
}

function refuse(place: string): { outcome: "refused"; refusal: Refusal } {
  return { outcome: "refused", refusal: invalidRequest({ where: "request body", problem: place }) };
}

function toFacts(reading: RequestReading, model: string, modelSpan: Span): RequestFacts {
  return {
    model,
    maxTokens: reading.maxTokens,
    isStream: reading.isStream,
    spans: { model: modelSpan, maxTokens: reading.maxTokensSpan },
    usageAsking: undefined,
    bodyBytes: reading.bytes.length,
    textBytes: reading.bytes.length - reading.payloadBytes,
    imageCount: reading.imageCount,
    remoteInputs: [...reading.remoteInputs],
    clientToolTypes: [...reading.clientToolTypes],
    isToolForced: reading.isToolForced,
    serverTools: reading.serverTools,
    samplingsMax: reading.samplingsMax,
    unboundedParts: [...reading.unboundedParts],
    cacheWrites: reading.cacheWrites,
    speed: reading.speed,
    isUsOnly: reading.isUsOnly,
    // Priority Tier has the list price.
    isPriority: false,
    choices: 1,
    extraOutputTokens: 0,
    thinking: reading.thinking,
    hasSamplingParameters: reading.hasSamplingParameters,
    features: [...reading.features],
    history: {
      hasAssistantTurn: reading.hasAssistantTurn,
      isAnsweringTool: reading.isAnsweringTool,
      hasThinking: reading.hasThinking,
    },
    messageSpans: reading.messageSpans,
    isHistoryEdited: reading.isHistoryEdited,
    namedSession: reading.namedSession,
  };
}
