/**
 * Owns: the life of one exchange: its behaviour, the checks, the answer, its faults, and how it ends.
 * Does not own: listening and closing (`simulator.ts`), waiting and plain bodies (`exchange.ts`).
 * Invariant: every `POST /v1/messages` whose body arrived gets exactly one line on the bill, however it ends.
 */
import type { ServerResponse } from "node:http";
import { planAnswer, type Answer } from "./answer.ts";
import { isApiError } from "./batches.ts";
import type { Behaviour } from "./behaviours.ts";
import { NO_COST, type BillReason } from "./bill.ts";
import { apiError, toErrorBody, type ApiError } from "./errors.ts";
import { toEvents, toMessage, type StreamEvent } from "./events.ts";
import {
  answerOptions,
  begin,
  closeNow,
  hold,
  openWire,
  sendError,
  sendJson,
  sendLines,
  sendStatus,
  stall,
  type Exchange,
  type OpenRequest,
  type Shared,
} from "./exchange.ts";
import { asRecord, asText, type JsonRecord } from "./json.ts";
import { Meter } from "./meter.ts";
import { findModel, toModelInfo, toModelsPage, type Model } from "./models.ts";
import { countInputTokens, readPrompt } from "./prompt.ts";
import { validateHeaders, validateMessages } from "./validate.ts";
import { ClientLeft, CutOff, type Wire } from "./wire.ts";

export interface ServeInput {
  readonly shared: Shared;
  readonly request: OpenRequest;
  readonly response: ServerResponse;
  readonly goneSignal: AbortSignal;
}

/** Serves one request whose body has arrived, to its end. Never rejects for what a client or a behaviour does. */
export async function serve({ shared, request, response, goneSignal }: ServeInput): Promise<void> {
  const gone = new Promise<never>((_, reject) => {
    if (goneSignal.aborted) reject(new ClientLeft());
    else goneSignal.addEventListener("abort", () => reject(new ClientLeft()), { once: true });
  });
  // It is raced against wherever the exchange waits; where it never waits, nobody is there to hear of it.
  gone.catch(() => undefined);
  const behaviour = shared.behaviours.take(request);
  const exchange: Exchange = { shared, request, response, gone, goneSignal, startedAtMs: shared.now(), behaviour };
  const reason = await runToEnd(exchange);
  request.state = reason === "refused" || reason === "error_event" ? "answered" : reason;
  if (isBillable(request)) writeLine(exchange, reason);
}

async function runToEnd(exchange: Exchange): Promise<BillReason> {
  try {
    return await answer(exchange);
  } catch (error) {
    if (error instanceof CutOff) return "cut";
    if (error instanceof ClientLeft) return exchange.shared.isClosing() ? "closed" : "aborted";
    exchange.response.destroy();
    throw error;
  }
}

function isBillable(request: OpenRequest): boolean {
  return request.method === "POST" && request.pathname === "/v1/messages";
}

function writeLine({ meter, shared, request, startedAtMs }: Exchange, reason: BillReason): void {
  if (meter !== undefined) return meter.writeLine(reason);
  shared.book.append({
    ...NO_COST,
    requestId: request.requestId,
    model: asText(asRecord(request.json)["model"]) ?? "",
    atMs: startedAtMs,
    reason,
  });
}

async function answer(exchange: Exchange): Promise<BillReason> {
  const { request, behaviour } = exchange;
  if (behaviour.kind === "status") return sendStatus(exchange, behaviour);
  const refused = validateHeaders(request.headers);
  if (refused !== undefined) return sendError(exchange, refused);
  if (request.pathname === "/v1/messages") return answerMessages(exchange);
  if (request.pathname === "/v1/messages/count_tokens") return answerCount(exchange);
  if (request.pathname.startsWith("/v1/messages/batches")) return answerBatches(exchange);
  return answerModels(exchange);
}

async function answerBatches(exchange: Exchange): Promise<BillReason> {
  const { request, shared } = exchange;
  const { batches } = shared;
  const match = /^\/v1\/messages\/batches(?:\/([^/]+)(?:\/(results|cancel))?)?$/.exec(request.pathname);
  const [, id, asked] = match ?? [];
  const action = `${request.method} ${asked ?? (id === undefined ? "all" : "one")}`;
  const found = (value: JsonRecord | undefined): Promise<BillReason> =>
    value === undefined ? sendError(exchange, apiError(404, `batch: ${id}`)) : sendJson(exchange, value);
  if (match === null) return sendError(exchange, apiError(404, "Not Found"));
  switch (action) {
    case "POST all": {
      const created = batches.create(request);
      return isApiError(created) ? sendError(exchange, created) : sendJson(exchange, created);
    }
    case "GET all":
      return sendJson(exchange, batches.list());
    case "GET one":
      return found(batches.read(id ?? ""));
    case "POST cancel":
      return found(batches.cancel(id ?? ""));
    case "DELETE one":
      return found(batches.delete(id ?? "") ? { id, type: "message_batch_deleted" } : undefined);
    case "GET results": {
      const lines = batches.results(id ?? "");
      return lines === undefined ? found(undefined) : sendLines(exchange, lines);
    }
    default:
      return sendError(exchange, apiError(405, "Method Not Allowed"));
  }
}

async function answerModels(exchange: Exchange): Promise<BillReason> {
  const { request } = exchange;
  const match = /^\/v1\/models(?:\/([^/]+))?$/.exec(request.pathname);
  if (match === null) return sendError(exchange, apiError(404, "Not Found"));
  if (request.method !== "GET") return sendError(exchange, { ...apiError(405, "Method Not Allowed") });
  const modelId = match[1];
  if (modelId === undefined) return sendJson(exchange, toModelsPage(new URL(request.path, "http://simulator").searchParams));
  const model = findModel(decodeURIComponent(modelId));
  if (model === undefined) return sendError(exchange, apiError(404, `model: ${decodeURIComponent(modelId)}`));
  return sendJson(exchange, toModelInfo(model));
}

async function answerCount(exchange: Exchange): Promise<BillReason> {
  const { request } = exchange;
  if (request.method !== "POST") return sendError(exchange, apiError(405, "Method Not Allowed"));
  const validated = validateMessages(request.json, request.headers, false);
  if ("error" in validated) return sendError(exchange, validated.error);
  const header = asText(request.headers["x-simulator-input-tokens"]);
  const counted = countInputTokens(readPrompt(asRecord(request.json), validated.model));
  return sendJson(exchange, { input_tokens: header === undefined ? counted : Number(header) });
}

async function answerMessages(exchange: Exchange): Promise<BillReason> {
  const { request } = exchange;
  if (request.method !== "POST") return sendError(exchange, apiError(405, "Method Not Allowed"));
  const validated = validateMessages(request.json, request.headers, true);
  if ("error" in validated) return sendError(exchange, validated.error);
  const body = asRecord(request.json);
  const isStream = body["stream"] === true;
  if (exchange.behaviour.kind === "error_event" && !isStream) return sendErrorOf(exchange, exchange.behaviour);
  const planned = openMeter(exchange, body, validated.model);
  return isStream ? streamAnswer(exchange, planned) : sendAnswer(exchange, planned);
}

function openMeter(exchange: Exchange, body: JsonRecord, model: Model): Answer {
  const { shared, request, startedAtMs } = exchange;
  const planned = planAnswer({
    request,
    body,
    model,
    options: answerOptions(exchange.behaviour),
    cache: shared.cache,
    atMs: startedAtMs,
    outputTokens: shared.outputTokens,
  });
  exchange.meter = new Meter({
    requestId: request.requestId,
    model: String(body["model"]),
    answer: planned,
    book: shared.book,
    now: shared.now,
    startedAtMs,
    outputTokensPerSecond: shared.outputTokensPerSecond,
  });
  return planned;
}

async function sendAnswer(exchange: Exchange, planned: Answer): Promise<BillReason> {
  const { behaviour, meter } = exchange;
  const message = toMessage(planned, answerOptions(behaviour));
  await hold(exchange, planned.outputTokens);
  const reason = await sendJson(exchange, message, planned);
  if (behaviour.kind !== "malformed_json") meter?.noteReported("json", message["usage"]);
  return reason;
}

async function streamAnswer(exchange: Exchange, planned: Answer): Promise<BillReason> {
  const { behaviour, shared } = exchange;
  if (behaviour.kind === "close") return closeNow(exchange, behaviour.reset === true);
  if (behaviour.kind === "stall" && behaviour.afterEvents === undefined) await stall(exchange, behaviour.until);
  const wire = openWire(exchange);
  planned.commitCache();
  begin(exchange, wire, 200, "text/event-stream; charset=utf-8");
  shared.onStream(1);
  try {
    return await writeEvents(exchange, wire, planned);
  } finally {
    shared.onStream(-1);
  }
}

async function writeEvents(exchange: Exchange, wire: Wire, planned: Answer): Promise<BillReason> {
  const { behaviour, request, meter } = exchange;
  let isMalformedDue = behaviour.kind === "malformed_json";
  for (const event of toEvents(planned, answerOptions(behaviour))) {
    await hold(exchange, event.tokensDone);
    if (isFaultDue(behaviour, request.eventsWritten)) {
      const reason = await runStreamFault(exchange, wire, event);
      if (reason !== undefined) return reason;
    }
    meter?.noteGenerated(event.tokensDone);
    const text = toEventText(event.name, event.data);
    const isMalformed = isMalformedDue && event.name === "content_block_delta";
    if (isMalformed) isMalformedDue = false;
    await wire.send(isMalformed ? `${text.slice(0, -12)}\n\n` : text);
    request.eventsWritten += 1;
    if (event.usage !== undefined) meter?.noteReported(event.usage.place, event.usage.value);
  }
  await wire.end();
  return "answered";
}

function isFaultDue(behaviour: Behaviour, eventsWritten: number): boolean {
  const { afterEvents } = behaviour as { readonly afterEvents?: number };
  return afterEvents === eventsWritten;
}

/** @returns how the stream ended, or undefined where it goes on (a stall that is over). */
async function runStreamFault(exchange: Exchange, wire: Wire, event: StreamEvent): Promise<BillReason | undefined> {
  const { behaviour, meter } = exchange;
  if (behaviour.kind === "stall") {
    await stall(exchange, behaviour.until);
    return undefined;
  }
  if (behaviour.kind === "cut") {
    meter?.noteGenerated(event.tokensDone);
    return wire.sendHalfAndCut(toEventText(event.name, event.data));
  }
  if (behaviour.kind !== "error_event") return undefined;
  await wire.send(toEventText("error", toErrorBody(toEventError(behaviour))));
  await wire.end();
  return "error_event";
}

type ErrorEvent = Extract<Behaviour, { readonly kind: "error_event" }>;

function toEventError({ type, message }: ErrorEvent): ApiError {
  return { status: 529, type: type ?? "overloaded_error", message: message ?? "Overloaded" };
}

/** An answer that does not stream has no events: the error is its status, and nothing was generated. */
async function sendErrorOf(exchange: Exchange, behaviour: ErrorEvent): Promise<BillReason> {
  return sendError(exchange, toEventError(behaviour));
}

/** `event:` and `data:` and an empty line, as the provider writes them. */
export function toEventText(name: string, data: JsonRecord): string {
  return `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`;
}
