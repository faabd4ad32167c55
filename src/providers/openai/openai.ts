/**
 * Owns OpenAI as three protocols of one provider: puts this folder's files together.
 * Does not own any of their rules.
 */
import { isEventStream } from "../json/body-meter.ts";
import type { Provider } from "../provider.ts";
import { boundInputTokens, boundMessageTokens } from "./bound.ts";
import { chatMaximumName, editWith } from "./edit.ts";
import { shapeError } from "./errors.ts";
import { UsageChunkFilter } from "./filter.ts";
import { OpenAiJsonMeter } from "./meter.ts";
import { rejectedBy } from "./rejection.ts";
import { readChatRequest, readEmbeddingsRequest, readResponsesRequest } from "./request.ts";
import { ChatStreamMeter, ResponsesStreamMeter } from "./stream.ts";

const shared = {
  name: "openai",
  requestIdHeader: "x-request-id",
  credentialHeader: (credential) => ["authorization", `Bearer ${credential}`],
  boundInputTokens,
  boundMessageTokens,
  rejectedBy,
  shapeError,
} as const satisfies Partial<Provider>;

/** Chat Completions, of OpenAI and of every server that speaks it. */
export const openaiChat: Provider = {
  ...shared,
  readRequest: readChatRequest,
  editRequest: editWith(chatMaximumName),
  openMeter: (input) => (isEventStream(input.contentType) ? new ChatStreamMeter(input) : new OpenAiJsonMeter(input)),
  openFilter: () => new UsageChunkFilter(),
};

/** The Responses API. */
export const openaiResponses: Provider = {
  ...shared,
  readRequest: readResponsesRequest,
  editRequest: editWith(() => "max_output_tokens"),
  openMeter: (input) => (isEventStream(input.contentType) ? new ResponsesStreamMeter(input) : new OpenAiJsonMeter(input)),
};

/** Embeddings. */
export const openaiEmbeddings: Provider = {
  ...shared,
  readRequest: readEmbeddingsRequest,
  editRequest: editWith(() => "max_tokens"),
  openMeter: (input) => new OpenAiJsonMeter(input),
};
