/**
 * Owns Anthropic's message batches: reading a submission, what is said of a batch, and one line of its results.
 * Does not own what a line's own request or answer means (request.ts, meter.ts) or the paths around them (exchange/routes).
 * Invariants: no two lines of a submission have one name; a line of results that cannot be understood is said to be that, never free.
 *
 * @see providers.md §10; `MessageBatchIndividualResponse` in @anthropic-ai/sdk 1.8.0
 */
import type { Refusal } from "../../core/errors/codes.ts";
import { invalidRequest } from "../../core/errors/refusals.ts";
import { decodeString } from "../json/bytes.ts";
import { describeFault } from "../json/fault.ts";
import { scanJson } from "../json/scan.ts";
import { JSON_KIND, slotFor, type JsonValueSpan } from "../json/slot.ts";
import { parseObject, toObject, toText } from "../json/values.ts";
import type { BatchLine, BatchProtocol, BatchResult, BatchState, Span } from "../provider.ts";
import { readMessage } from "./meter.ts";

/** Requests per batch. @see providers.md §10 */
const LINES_MAX = 100_000;
const CUSTOM_ID = /^[A-Za-z0-9_-]{1,64}$/;
const CUSTOM_ID_ALLOWED = `1 to 64 letters, digits, "_" and "-", another for every request`;

class SubmissionReading {
  readonly bytes: Uint8Array;
  readonly lines: BatchLine[] = [];
  readonly #names = new Set<string>();
  #customId: string | undefined;
  #params: Span | undefined;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  openLine(): void {
    this.#customId = undefined;
    this.#params = undefined;
  }

  readCustomId({ start, end }: JsonValueSpan): string | undefined {
    const name = decodeString(this.bytes, start, end);
    if (name === undefined || !CUSTOM_ID.test(name) || this.#names.has(name)) return CUSTOM_ID_ALLOWED;
    this.#names.add(name);
    this.#customId = name;
    return undefined;
  }

  readParams({ start, end }: JsonValueSpan): void {
    this.#params = { start, end };
  }

  readLine(): string | undefined {
    if (this.#customId === undefined || this.#params === undefined) return "an object with custom_id and params";
    this.lines.push({ customId: this.#customId, request: this.#params });
    return this.lines.length > LINES_MAX ? `at most ${LINES_MAX} requests` : undefined;
  }
}

const slot = slotFor<SubmissionReading>();

const SUBMISSION = slot("", JSON_KIND.object, "a JSON object", {
  members: [
    slot("requests", JSON_KIND.array, "an array of requests", {
      element: slot("requests", JSON_KIND.object, "an object with custom_id and params", {
        members: [
          slot("custom_id", JSON_KIND.string, CUSTOM_ID_ALLOWED, { read: (state, value) => state.readCustomId(value) }),
          slot("params", JSON_KIND.object, "an object", { read: (state, value) => state.readParams(value) }),
        ],
        open: (state) => state.openLine(),
        read: (state) => state.readLine(),
      }),
    }),
  ],
});

/** Reads the body of `POST /v1/messages/batches`. */
function readSubmission(
  body: Uint8Array,
): { outcome: "read"; lines: readonly BatchLine[] } | { outcome: "refused"; refusal: Refusal } {
  const reading = new SubmissionReading(body);
  const fault = scanJson(body, SUBMISSION, reading);
  const problem = fault === undefined ? undefined : describeFault(fault);
  if (problem === undefined && reading.lines.length > 0) return { outcome: "read", lines: reading.lines };
  const none = "the top level: found no member requests with a request in it, allowed is an array of 1 and more";
  return { outcome: "refused", refusal: invalidRequest({ where: "request body", problem: problem ?? none }) };
}

/** What a batch object says; `undefined`: the bytes are none. */
function readBatchState(body: Uint8Array): BatchState | undefined {
  const json = parseObject(body);
  const batchId = toText(json?.["id"]);
  if (batchId === undefined || json?.["type"] !== "message_batch") return undefined;
  return { batchId, isEnded: json["processing_status"] === "ended" };
}

/** What becomes of a line that was not answered: nothing of it is billed. */
const UNANSWERED = new Set(["errored", "canceled", "expired"]);

/** One line of the results; `undefined`: it says not even which request it is about. */
function readBatchResult(line: Uint8Array): BatchResult | undefined {
  const json = parseObject(line);
  const customId = toText(json?.["custom_id"]);
  if (customId === undefined) return undefined;
  const result = toObject(json?.["result"]);
  const type = toText(result?.["type"]) ?? "";
  if (UNANSWERED.has(type)) return { customId, outcome: "unanswered", reason: type };
  const message = type === "succeeded" ? toObject(result?.["message"]) : undefined;
  if (message === undefined) return { customId, outcome: "not_understood" };
  // Which cache writes its request asked for is not known any more: where the usage does not say it either, the dearer.
  const reading = readMessage(message, { requestedModel: toText(message["model"]) ?? "", cacheWrites: "1h" });
  if (reading.usage === undefined || !reading.isFinal) return { customId, outcome: "not_understood" };
  const serviceTier = reading.usage.serviceTier ?? "batch";
  return { customId, outcome: "answered", reading: { ...reading, usage: { ...reading.usage, serviceTier } } };
}

/** Message batches of Anthropic. */
export const anthropicBatches: BatchProtocol = {
  headers: ["anthropic-version", "2023-06-01"],
  pathOf: (batchId) => `/v1/messages/batches/${batchId}`,
  resultsPathOf: (batchId) => `/v1/messages/batches/${batchId}/results`,
  readSubmission,
  readState: readBatchState,
  readResult: readBatchResult,
};
