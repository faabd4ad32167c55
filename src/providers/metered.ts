/**
 * Owns how an API that is paid per call (search, images, speech) looks to the engine: a call without tokens, bounded by its units.
 * Does not own what a unit costs (the configuration's prices) or calling the API (client/).
 * Invariant: its request has no bytes, so nothing of it is read, edited or recognised again.
 */
import { ZERO_USD } from "../core/money/money.ts";
import { usageOfUnits, type PaidUnits } from "../core/usage/usage.ts";
import type { MeterReading, PaidApi, RequestFacts } from "./provider.ts";

/** One call of it, asked for so much at most. */
export function meteredApi(name: string, units: PaidUnits): PaidApi {
  return paidApi(name, name, units);
}

/** Under which invocations of tools stand in the ledger. */
export const TOOL_PROVIDER = "tool";

/** One invocation of a tool: it costs nothing here, and is counted. */
export function toolApi(tool: string): PaidApi {
  return paidApi(TOOL_PROVIDER, tool, NOTHING);
}

/** What a tool costs by itself: what it calls is metered where it calls it. */
export const NOTHING: PaidUnits = { statedNanoUsd: ZERO_USD };

function paidApi(provider: string, model: string, units: PaidUnits): PaidApi {
  return {
    name: provider,
    readRequest: () => ({ outcome: "read", facts: factsOf(model, units) }),
    boundInputTokens: () => 0,
    boundMessageTokens: () => 0,
    rejectedBy: (_facts, other) => (other === model ? undefined : "it asks no model"),
    editRequest: (body) => body,
    openMeter: () => ({ push: () => undefined, end: () => undefined, reading: () => readingOf(model, units) }),
  };
}

/** What a call of it used, once that is known. */
export function readingOf(name: string, units: PaidUnits): MeterReading {
  return { usage: usageOfUnits(units, name), isFinal: true, model: name, stopReason: undefined, error: undefined };
}

function factsOf(model: string, units: PaidUnits): RequestFacts {
  return { ...NO_TOKENS_ASKED, model, units };
}

const NOWHERE = { start: 0, end: 0 };

/** What a request says that asks no model for anything. */
const NO_TOKENS_ASKED: Omit<RequestFacts, "model" | "units"> = {
  maxTokens: 0,
  isStream: false,
  spans: { model: NOWHERE, maxTokens: undefined },
  bodyBytes: 0,
  textBytes: 0,
  imageCount: 0,
  remoteInputs: [],
  clientToolTypes: [],
  isToolForced: false,
  serverTools: [],
  samplingsMax: 1,
  unboundedParts: [],
  cacheWrites: "none",
  speed: "standard",
  isUsOnly: false,
  isPriority: false,
  choices: 1,
  extraOutputTokens: 0,
  thinking: undefined,
  hasSamplingParameters: false,
  features: [],
  history: { hasAssistantTurn: false, isAnsweringTool: false, hasThinking: false },
  messageSpans: [],
  isHistoryEdited: false,
  usageAsking: undefined,
  namedSession: undefined,
};
