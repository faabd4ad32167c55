/**
 * Owns reading a request in each of OpenAI's protocols: which of its bytes decide what the call can cost.
 * Does not own the amounts (bound.ts), the grammar (json/scan.ts) or any change of the body (edit.ts).
 * Invariant: a field that decides the cost is either understood, or named in `unboundedParts` or `remoteInputs`, or refused;
 * every other field passes unseen.
 *
 * @see providers.md §12
 */
import type { Refusal } from "../../core/errors/codes.ts";
import { invalidRequest } from "../../core/errors/refusals.ts";
import { describeFault } from "../json/fault.ts";
import { scanJson } from "../json/scan.ts";
import { JSON_KIND, type JsonSlot } from "../json/slot.ts";
import type { ReadRequestResult, RequestFacts, Span } from "../provider.ts";
import { chatMaximumName } from "./edit.ts";
import { RequestReading } from "./reading.ts";
import { CHAT_SLOT, EMBEDDINGS_SLOT, RESPONSES_SLOT } from "./slots.ts";

const OPENING_BRACE = 0x7b;
const WHITE_SPACE: ReadonlySet<number> = new Set([0x20, 0x09, 0x0a, 0x0d]);

/** Reads the body of `POST /v1/chat/completions`. */
export function readChatRequest(body: Uint8Array): ReadRequestResult {
  const reading = new RequestReading(body);
  const read = readWith(CHAT_SLOT, reading);
  return read.outcome === "refused" ? read : { ...read, facts: { ...read.facts, usageAsking: usageAskingOf(reading) } };
}

/** Reads the body of `POST /v1/responses`. */
export function readResponsesRequest(body: Uint8Array): ReadRequestResult {
  return readWith(RESPONSES_SLOT, new RequestReading(body));
}

/** Reads the body of `POST /v1/embeddings`: no output, and as many readings as there are inputs. */
export function readEmbeddingsRequest(body: Uint8Array): ReadRequestResult {
  const read = readWith(EMBEDDINGS_SLOT, new RequestReading(body));
  if (read.outcome === "refused") return read;
  return { outcome: "read", facts: { ...read.facts, maxTokens: 0, isPriority: false, features: ["embedding"] } };
}

function readWith(slot: JsonSlot<RequestReading>, reading: RequestReading): ReadRequestResult {
  const fault = scanJson(reading.bytes, slot, reading);
  if (fault !== undefined) return refuse(describeFault(fault));
  if (reading.model === undefined || reading.modelSpan === undefined) {
    return refuse("the top level: found no member model, allowed is a model name in a string");
  }
  if (reading.hasTwoMaxima) {
    return refuse("the top level: found max_tokens beside max_completion_tokens, allowed is one of them");
  }
  return { outcome: "read", facts: toFacts(reading, reading.model, reading.modelSpan) };
}

function refuse(place: string): { outcome: "refused"; refusal: Refusal } {
  return { outcome: "refused", refusal: invalidRequest({ where: "request body", problem: place }) };
}

/** Where the model takes the newer name alone, `max_tokens: null` is no place for a number. */
function nullSpanFor({ nullMaxTokensSpan }: RequestReading, model: string): Span | undefined {
  return chatMaximumName(model) === "max_tokens" ? nullMaxTokensSpan : undefined;
}

function toFacts(reading: RequestReading, model: string, modelSpan: Span): RequestFacts {
  return {
    model,
    maxTokens: reading.maxTokens,
    isStream: reading.isStream,
    spans: { model: modelSpan, maxTokens: reading.maxTokensSpan ?? nullSpanFor(reading, model) },
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
    speed: "standard",
    isUsOnly: false,
    isPriority: reading.isPriority,
    isBackground: reading.isBackground,
    choices: reading.choices,
    extraOutputTokens: reading.extraOutputTokens,
    thinking: undefined,
    hasSamplingParameters: reading.hasSamplingParameters,
    features: [...reading.features],
    history: {
      hasAssistantTurn: reading.hasAssistantTurn,
      isAnsweringTool: reading.isAnsweringTool,
      hasThinking: reading.hasThinking,
    },
    messageSpans: reading.messageSpans,
    isHistoryEdited: reading.isHistoryEdited,
    namedSession: undefined,
  };
}

/** Where a chat's stream has to be asked for its usage, and with which words; `undefined`: the caller asked, or it is no stream. */
function usageAskingOf({ bytes, isStream, streamOptions, includeUsage }: RequestReading): RequestFacts["usageAsking"] {
  if (!isStream || includeUsage?.isTrue === true) return undefined;
  if (includeUsage !== undefined) return { span: includeUsage.span, text: "true" };
  if (streamOptions === undefined) {
    const start = bytes.indexOf(OPENING_BRACE) + 1;
    return { span: { start, end: start }, text: '"stream_options":{"include_usage":true},' };
  }
  const { kind, start, end } = streamOptions;
  if (kind === JSON_KIND.null) return { span: { start, end }, text: '{"include_usage":true}' };
  const isEmpty = bytes.subarray(start + 1, end - 1).every((byte) => WHITE_SPACE.has(byte));
  return { span: { start: start + 1, end: start + 1 }, text: `"include_usage":true${isEmpty ? "" : ","}` };
}
