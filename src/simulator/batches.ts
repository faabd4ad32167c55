/**
 * Owns: message batches: what was handed in, what became of each request, and its lines on the bill, at half price.
 * Does not own: sockets (`serve.ts`), what an answer holds (`answer.ts`) or the arithmetic of cost (`bill.ts`).
 * Invariant: a request of a batch is billed once, when its batch ends, and only if it succeeded.
 */
import { planAnswer } from "./answer.ts";
import type { SimulatedRequest } from "./behaviours.ts";
import { toCostParts, toNanoUsd, type BillBook } from "./bill.ts";
import type { PromptCache } from "./cache.ts";
import { apiError, type ApiError } from "./errors.ts";
import { toMessage } from "./events.ts";
import { asArray, asRecord, asText, isRecord, type JsonRecord } from "./json.ts";
import { validateMessages } from "./validate.ts";

/** What becomes of one request of a batch. */
export type BatchOutcome = "succeeded" | "errored" | "canceled" | "expired";

const LINES_MAX = 100_000;
const EXPIRES_MS = 24 * 3_600_000;

interface Batch {
  readonly id: string;
  readonly createdAtMs: number;
  readonly request: SimulatedRequest;
  readonly lines: readonly { readonly customId: string; readonly params: JsonRecord }[];
  readonly origin: string;
  isCanceling: boolean;
  /** JSON lines; undefined while it runs. */
  results: string[] | undefined;
  counts: Record<BatchOutcome, number>;
}

interface Deps {
  readonly book: BillBook;
  readonly cache: PromptCache;
  readonly now: () => number;
  readonly outputTokens: ((request: SimulatedRequest) => number) | undefined;
}

export class Batches {
  readonly #deps: Deps;
  readonly #batches = new Map<string, Batch>();

  constructor(deps: Deps) {
    this.#deps = deps;
  }

  /** Names of all batches, oldest first. */
  get ids(): readonly string[] {
    return [...this.#batches.keys()];
  }

  create(request: SimulatedRequest): JsonRecord | ApiError {
    const requests = asArray(asRecord(request.json)["requests"]);
    if (requests.length === 0 || requests.length > LINES_MAX) return apiError(400, "requests: Field required");
    const names = requests.map((each) => asText(asRecord(each)["custom_id"]) ?? "");
    if (new Set(names).size < names.length) return apiError(400, "requests: custom_id must be unique");
    const id = `msgbatch_sim${String(this.#batches.size + 1).padStart(8, "0")}`;
    const batch: Batch = {
      id,
      createdAtMs: this.#deps.now(),
      request,
      lines: requests.map((each, index) => ({ customId: names[index] ?? "", params: asRecord(asRecord(each)["params"]) })),
      origin: `http://${request.headers.host ?? "localhost"}`,
      isCanceling: false,
      results: undefined,
      counts: { succeeded: 0, errored: 0, canceled: 0, expired: 0 },
    };
    this.#batches.set(id, batch);
    return toObject(batch);
  }

  list(): JsonRecord {
    const data = [...this.#batches.values()].toReversed().map(toObject);
    return { data, has_more: false, first_id: data[0]?.["id"] ?? null, last_id: data.at(-1)?.["id"] ?? null };
  }

  read(id: string): JsonRecord | undefined {
    const batch = this.#batches.get(id);
    return batch && toObject(batch);
  }

  /** JSON lines, or undefined where there are none yet. */
  results(id: string): readonly string[] | undefined {
    return this.#batches.get(id)?.results;
  }

  cancel(id: string): JsonRecord | undefined {
    const batch = this.#batches.get(id);
    if (batch === undefined) return undefined;
    if (batch.results === undefined) batch.isCanceling = true;
    return toObject(batch);
  }

  /** False: it runs still. */
  delete(id: string): boolean {
    return this.#batches.get(id)?.results !== undefined && this.#batches.delete(id);
  }

  /** Ends a batch; its results come in another order than its requests. */
  end(id: string, outcomeOf: (customId: string, index: number) => BatchOutcome): void {
    const batch = this.#batches.get(id);
    if (batch === undefined) throw new RangeError(`no batch ${id}`);
    if (batch.results !== undefined) throw new RangeError(`batch ${id} has ended`);
    batch.results = batch.lines.map((line, index) => this.#toResult(batch, line, outcomeOf(line.customId, index))).reverse();
  }

  #toResult(batch: Batch, { customId, params }: Batch["lines"][number], wanted: BatchOutcome): string {
    const validated = validateMessages(params, batch.request.headers, true);
    const refused = "error" in validated ? validated.error : undefined;
    const outcome = refused === undefined ? wanted : "errored";
    batch.counts[outcome] += 1;
    if (outcome === "errored" || "error" in validated) {
      const { type, message } = refused ?? apiError(500, "Internal server error");
      const error = { type: "error", error: { type, message }, request_id: null };
      return JSON.stringify({ custom_id: customId, result: { type: "errored", error } });
    }
    if (outcome !== "succeeded") return JSON.stringify({ custom_id: customId, result: { type: outcome } });
    const requestId = `${batch.id}/${customId}`;
    const body = Buffer.from(JSON.stringify(params));
    const answer = planAnswer({
      request: { ...batch.request, requestId, body, json: params },
      body: params,
      model: validated.model,
      options: { serviceTier: "batch" },
      cache: this.#deps.cache,
      atMs: batch.createdAtMs,
      outputTokens: this.#deps.outputTokens,
    });
    this.#bill(batch, { requestId, model: String(params["model"]), consumption: answer.consumption });
    answer.commitCache();
    return JSON.stringify({ custom_id: customId, result: { type: "succeeded", message: toMessage(answer, {}) } });
  }

  #bill(
    { createdAtMs: atMs }: Batch,
    line: { requestId: string; model: string; consumption: Parameters<typeof toCostParts>[0] },
  ): void {
    const parts = toCostParts(line.consumption);
    const costNanoUsd = toNanoUsd(parts);
    const reported = { reported: "truth" as const, reportedCostNanoUsd: costNanoUsd };
    this.#deps.book.append({ ...line, atMs, ...parts, costNanoUsd, ...reported, reason: "answered" });
  }
}

/** True for a refusal instead of a batch. */
export function isApiError(value: JsonRecord | ApiError): value is ApiError {
  return isRecord(value) && typeof value["status"] === "number";
}

function toObject({ id, createdAtMs, lines, origin, isCanceling, results, counts }: Batch): JsonRecord {
  const isEnded = results !== undefined;
  const toTime = (atMs: number): string => new Date(atMs).toISOString();
  return {
    id,
    type: "message_batch",
    processing_status: isEnded ? "ended" : isCanceling ? "canceling" : "in_progress",
    request_counts: { processing: isEnded ? 0 : lines.length, ...counts },
    created_at: toTime(createdAtMs),
    expires_at: toTime(createdAtMs + EXPIRES_MS),
    ended_at: isEnded ? toTime(createdAtMs) : null,
    cancel_initiated_at: null,
    archived_at: null,
    results_url: isEnded ? `${origin}/v1/messages/batches/${id}/results` : null,
  };
}
