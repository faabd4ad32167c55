/**
 * Owns what the engine needs to know of any provider: one set of functions per provider, plain data between them.
 * Does not own any provider's spelling (the folders beside this file).
 * Invariant: a provider reads and shapes; it never touches a socket, a clock or a ledger.
 */
import type { Refusal } from "../core/errors/codes.ts";
import type { PaidUnits, Usage } from "../core/usage/usage.ts";

/** Bytes `[start, end)` of a body. */
export interface Span {
  start: number;
  end: number;
}

/** One element of a conversation: where it stands, and what it holds besides text. */
export interface MessageSpan extends Span {
  isAssistant: boolean;
  /** Bytes of base64 payloads in it: no text. */
  payloadBytes: number;
  imageCount: number;
}

/** What a request's body says about its cost, and where. Plain data. */
export interface RequestFacts {
  model: string;
  /** `undefined`: the body names none, and the model's maximum applies. */
  maxTokens: number | undefined;
  isStream: boolean;
  /** Where the values stand that a decision may replace. `maxTokens` is absent where the body has none. */
  spans: { model: Span; maxTokens: Span | undefined };
  /** Bytes to put in so that the answer says its usage where it would not; `undefined`: it says it, or nothing makes it. */
  usageAsking: { span: Span; text: string } | undefined;
  bodyBytes: number;
  /** Bytes of the body without base64 payloads: no text can hold more tokens than bytes. */
  textBytes: number;
  imageCount: number;
  /** Input that is not in the body (URLs, files, PDF pages, threads, MCP servers): only the context window bounds it. */
  remoteInputs: readonly string[];
  /** Client tools by type ("custom", "bash_20250124", …); empty: none. */
  clientToolTypes: readonly string[];
  isToolForced: boolean;
  /** Tools that the provider runs in a loop of its own, with the cap the request sets on each. */
  serverTools: readonly { type: string; usesMax: number | undefined }[];
  /** How often the model can read its context in this one call: 1, and one more for each use that a server tool's cap allows. */
  samplingsMax: number;
  /** Parts whose cost nothing in the request bounds, by name ("fallbacks", "compaction", …), server tools without a cap included. */
  unboundedParts: readonly string[];
  cacheWrites: "none" | "5m" | "1h";
  speed: "standard" | "fast";
  /** `undefined`: the request does not say, so the account's default applies and the surcharge has to be assumed. */
  isUsOnly: boolean | undefined;
  /** `undefined`: the request does not say, so the account's default applies, which may be the dearer tier. */
  isPriority: boolean | undefined;
  /** It is worked on to its end whether or not anybody listens. @defaultValue false */
  isBackground?: boolean;
  /** How many answers are written side by side, each with up to `maxTokens`. */
  choices: number;
  /** Output that may be billed beside what `maxTokens` allows (what was predicted and rejected). */
  extraOutputTokens: number;
  /** What an API that is paid per call is asked for at most; absent: it is paid by tokens. */
  units?: PaidUnits;
  thinking: { type: string; budgetTokens: number | undefined } | undefined;
  /** True for temperature, top_p or top_k; not for temperature 1, which every model takes. */
  hasSamplingParameters: boolean;
  /** Features the request asks for that only some models have ("effort", "output_format", …). */
  features: readonly string[];
  /** Facts of the conversation that decide when a model may be changed. */
  history: { hasAssistantTurn: boolean; isAnsweringTool: boolean; hasThinking: boolean };
  /** The elements of the conversation, oldest first, by which it is recognised when it goes on. */
  messageSpans: readonly MessageSpan[];
  /** True if the provider may leave out parts of the conversation of its own accord: what it read says little of what it reads next. */
  isHistoryEdited: boolean;
  /** A session the body itself names (Claude Code's metadata), if any. */
  namedSession: string | undefined;
}

/** Reading a body: the facts, or the refusal that names the place. */
export type ReadRequestResult = { outcome: "read"; facts: RequestFacts } | { outcome: "refused"; refusal: Refusal };

/** What the meter knows of a call at some moment. */
export interface MeterReading {
  /** Usage as last reported; `undefined` if the provider has said nothing yet. */
  usage: Usage | undefined;
  /** True once the provider has reported everything: the usage is what will be billed. */
  isFinal: boolean;
  /** The model that answers, once known. */
  model: string | undefined;
  stopReason: string | undefined;
  /** An error event or error body, once seen. */
  error: { type: string; message: string } | undefined;
  /** The provider goes on after this answer, and tells the rest to whoever asks for this id. Absent: the answer is all there is. */
  continuesAs?: string | undefined;
}

/** Reads along with an answer, chunk by chunk, without changing or holding a byte of it. */
export interface ResponseMeter {
  /** @param chunk the next bytes, cut anywhere. */
  push(chunk: Uint8Array): void;
  /** No more bytes will come. */
  end(): void;
  reading(): MeterReading;
}

/** Takes out of an answer what only Purser asked for. Sees every byte after the meter, and changes none that it passes on. */
export interface AnswerFilter {
  /** @returns what is passed on; may be empty: it comes with later bytes, or not at all. */
  push(chunk: Uint8Array): Uint8Array;
  /** What is still held when the answer ends. */
  end(): Uint8Array;
}

/** A refusal in a provider's shape, ready to be sent. */
export interface ShapedError {
  status: number;
  headers: Record<string, string>;
  body: string;
}

/** How a provider is asked for its own count of a request's input, which costs nothing. */
export interface TokenCounting {
  /** @param path where the call itself goes. */
  pathOf(path: string): string;
  /** The body that asks for it, on a model; `undefined`: the answer would not bound this request. */
  requestOf(body: Uint8Array, facts: RequestFacts, model: string): Uint8Array | undefined;
  /** The count that a body says; `undefined`: none that can be used. */
  readAnswer(answer: Uint8Array, facts: RequestFacts): number | undefined;
  /** The most input tokens of a request that was counted. */
  boundOf(counted: number, facts: RequestFacts, model: string): number;
  /** No bound by a count is below this. */
  marginTokens: number;
}

/** One request of a batch: its name, and where in the submission it stands. */
export interface BatchLine {
  customId: string;
  request: Span;
}

/** What the provider says of a batch. */
export interface BatchState {
  batchId: string;
  /** True: no line of it runs any more, and its results can be read. */
  isEnded: boolean;
}

/** What became of one request of a batch. */
export type BatchResult =
  /** With its final usage. */
  | { customId: string; outcome: "answered"; reading: MeterReading }
  /** It failed, was stopped, or was not reached in time: it costs nothing. */
  | { customId: string; outcome: "unanswered"; reason: string }
  | { customId: string; outcome: "not_understood" };

/** How requests are handed in together, to be answered within a day. */
export interface BatchProtocol {
  /** Sent along where no caller's own headers are there. */
  headers: readonly string[];
  pathOf(batchId: string): string;
  resultsPathOf(batchId: string): string;
  readSubmission(body: Uint8Array): { outcome: "read"; lines: readonly BatchLine[] } | { outcome: "refused"; refusal: Refusal };
  /** What an answer about one batch says; `undefined`: it is about none. */
  readState(body: Uint8Array): BatchState | undefined;
  /** Reads one line of the results; `undefined`: it does not say which request it is about. */
  readResult(line: Uint8Array): BatchResult | undefined;
}

/** Whoever is paid for a call, as the engine sees it. */
export interface PaidApi {
  name: string;
  /** Reads a request that will be metered. */
  readRequest(body: Uint8Array): ReadRequestResult;
  /** The most input tokens this request can be billed for on a model, before the context window caps it. */
  boundInputTokens(facts: RequestFacts, model: string): number;
  /** The most input tokens these messages add to a request that holds everything else. */
  boundMessageTokens(messages: readonly MessageSpan[], model: string): number;
  /** Absent: it counts nothing. */
  counting?: TokenCounting;
  /** Why a model would not accept this request, or `undefined` if it would. */
  rejectedBy(facts: RequestFacts, model: string): string | undefined;
  /** What goes upstream: the body with these values replaced, and its usage asked for where it has to be; every other byte as it was. */
  editRequest(body: Uint8Array, facts: RequestFacts, edit: { model?: string; maxTokens?: number }): Uint8Array;
  /** A meter for an answer with this `content-type` (already decoded if it was compressed). */
  openMeter(input: {
    contentType: string;
    requestedModel: string;
    /** Of the request's facts: decides the price of cache writes whose lifetime the answer does not say. Absent: not known. */
    cacheWrites?: RequestFacts["cacheWrites"] | undefined;
    /** The dearer tier was asked for: an answer that names none may have run in it. */
    isPriority?: boolean | undefined;
  }): ResponseMeter;
  /** For an answer to a request whose usage Purser asked for; absent: it never has to be. */
  openFilter?(): AnswerFilter;
}

/** Everything the engine and the faces ask of a provider. */
export interface Provider extends PaidApi {
  /** Under which its answers carry the provider's own id of a request, in lower case. */
  requestIdHeader: string;
  /** How a credential is shown to it: name, value. */
  credentialHeader(credential: string): readonly [name: string, value: string];
  shapeError(refusal: Refusal, client: { userAgent: string | undefined; requestId: string }): ShapedError;
}
