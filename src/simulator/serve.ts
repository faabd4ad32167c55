/**
 * Owns: the life of one exchange: its behaviour, the checks, the answer, the pace, and how it ends.
 * Does not own: listening and closing (`simulator.ts`).
 * Invariant: every `POST /v1/messages` whose body arrived gets exactly one line on the bill, however it ends.
 */
import type { ServerResponse } from "node:http";
import { planAnswer, type Answer } from "./answer.ts";
import { BehaviourQueue, type AnswerOptions, type Behaviour, type SimulatedRequest } from "./behaviours.ts";
import { NO_COST, type BillBook, type BillReason } from "./bill.ts";
import type { PromptCache } from "./cache.ts";
import { apiError, errorTypeOf, toErrorBody, type ApiError } from "./errors.ts";
import { toEvents, toMessage, type StreamEvent } from "./events.ts";
import { asRecord, asText, type JsonRecord } from "./json.ts";
import { Meter } from "./meter.ts";
import { findModel, toModelInfo, toModelsPage, type Model } from "./models.ts";
import { countInputTokens, readPrompt } from "./prompt.ts";
import { validateHeaders, validateMessages } from "./validate.ts";
import { breakOff, ClientLeft, CutOff, Wire } from "./wire.ts";

export type OpenRequest = { -readonly [K in keyof SimulatedRequest]: SimulatedRequest[K] };

/** What all exchanges of one simulator share. */
export interface Shared {
  readonly now: () => number;
  readonly sleep: (ms: number, signal: AbortSignal) => Promise<void>;
  readonly behaviours: BehaviourQueue;
  readonly book: BillBook;
  readonly cache: PromptCache;
  readonly outputTokens: ((request: SimulatedRequest) => number) | undefined;
  readonly outputTokensPerSecond: number;
  readonly eventPaceMs: number;
  readonly isPacedByGeneration: boolean;
  /** Resolves when the next event of any stream may be written; undefined where nobody steps. */
  readonly permit: ((signal: AbortSignal) => Promise<void>) | undefined;
  readonly isClosing: () => boolean;
  readonly onStream: (change: 1 | -1) => void;
}

interface Exchange {
  readonly shared: Shared;
  readonly request: OpenRequest;
  readonly response: ServerResponse;
  readonly gone: Promise<never>;
  readonly goneSignal: AbortSignal;
  readonly startedAtMs: number;
  readonly behaviour: Behaviour;
  meter?: Meter;
}

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

function isBillable(request: SimulatedRequest): boolean {
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
  return answerModels(exchange);
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

function answerOptions(behaviour: Behaviour): AnswerOptions {
  return behaviour.kind === "status" ? {} : behaviour;
}

async function sendAnswer(exchange: Exchange, planned: Answer): Promise<BillReason> {
  const { behaviour, meter } = exchange;
  const message = toMessage(planned, answerOptions(behaviour));
  await hold(exchange, planned.outputTokens);
  const reason = await sendJson(exchange, message, planned);
  if (behaviour.kind !== "malformed_json") meter?.noteReported("json", message["usage"]);
  return reason;
}

/** Sends one JSON body, with whatever the behaviour does to it. */
async function sendJson(exchange: Exchange, value: unknown, planned?: Answer): Promise<BillReason> {
  const { behaviour, meter } = exchange;
  if (behaviour.kind === "close") return closeNow(exchange, behaviour.reset === true);
  if (behaviour.kind === "stall") await stall(exchange, behaviour.until);
  const wire = openWire(exchange);
  const text = JSON.stringify(value);
  planned?.commitCache();
  meter?.noteGenerated(Infinity);
  begin(exchange, wire, 200, "application/json");
  if (behaviour.kind === "cut" && behaviour.afterBytes === undefined) return wire.sendHalfAndCut(text);
  if (behaviour.kind === "malformed_json") await wire.send(text.slice(0, Math.ceil((text.length * 2) / 3)));
  else await sendInSlices(wire, text);
  await wire.end();
  return "answered";
}

/** Slices keep a long JSON answer under back-pressure. */
async function sendInSlices(wire: Wire, text: string): Promise<void> {
  const SLICE_CHARACTERS = 65_536;
  for (let start = 0; start < text.length;) {
    let end = Math.min(text.length, start + SLICE_CHARACTERS);
    // The two halves of a character outside the basic plane stay together.
    if (end < text.length && /[\ud800-\udbff]/.test(text[end - 1] ?? "")) end += 1;
    await wire.send(text.slice(start, end));
    start = end;
  }
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

/** Waits until this much of the answer exists, the pace allows it, and the test has stepped. */
async function hold(exchange: Exchange, tokensDone: number): Promise<void> {
  const { shared, behaviour, request, meter, goneSignal } = exchange;
  const options = answerOptions(behaviour);
  const paceMs = options.eventPaceMs ?? shared.eventPaceMs;
  if (paceMs > 0 && request.eventsWritten > 0) await pause(exchange, shared.sleep(paceMs, goneSignal));
  if (shared.isPacedByGeneration) {
    const waitMs = (meter?.dueAtMs(tokensDone) ?? 0) - shared.now();
    if (waitMs > 0) await pause(exchange, shared.sleep(waitMs, goneSignal));
  }
  if (options.step !== undefined) await pause(exchange, options.step());
  else if (shared.permit !== undefined) await pause(exchange, shared.permit(goneSignal));
  if (goneSignal.aborted) throw new ClientLeft();
}

/** Waits for something, or for the client to leave, which ends the exchange. */
async function pause(exchange: Exchange, wait: Promise<void>): Promise<void> {
  try {
    await Promise.race([wait, exchange.gone]);
  } catch (error) {
    if (exchange.goneSignal.aborted) throw new ClientLeft();
    throw error;
  }
}

async function stall(exchange: Exchange, until: (() => Promise<void>) | undefined): Promise<void> {
  await pause(exchange, until === undefined ? exchange.gone : until());
}

function closeNow(exchange: Exchange, reset: boolean): never {
  breakOff(exchange.response, reset);
  throw new CutOff();
}

function openWire(exchange: Exchange): Wire {
  const { behaviour, request, response, gone } = exchange;
  return new Wire({
    response,
    gone,
    options: answerOptions(behaviour),
    acceptsGzip: /\bgzip\b/.test(request.headers["accept-encoding"] ?? ""),
    onBytes: (count) => {
      request.bytesWritten += count;
    },
    ...(behaviour.kind === "cut" ? { cut: behaviour } : {}),
  });
}

function begin(exchange: Exchange, wire: Wire, status: number, contentType: string): void {
  exchange.request.status = status;
  wire.begin(status, {
    "content-type": contentType,
    "request-id": exchange.request.requestId,
    "anthropic-organization-id": "org_simulated",
    "cache-control": "no-cache",
  });
}

async function sendError(exchange: Exchange, error: ApiError): Promise<BillReason> {
  return sendPlain(exchange, error.status, JSON.stringify(toErrorBody(error, exchange.request.requestId)), {});
}

async function sendStatus(exchange: Exchange, behaviour: Extract<Behaviour, { readonly kind: "status" }>): Promise<BillReason> {
  const { status, message, details } = behaviour;
  const retryAfter = behaviour.retryAfterSeconds === undefined && status === 429 ? 1 : behaviour.retryAfterSeconds;
  const error = { status, type: behaviour.type ?? errorTypeOf(status), message: message ?? toWords(status) };
  const body = toErrorBody(details === undefined ? error : { ...error, details }, exchange.request.requestId);
  return sendPlain(exchange, status, behaviour.body ?? JSON.stringify(body), {
    ...(retryAfter === undefined || retryAfter === null ? {} : { "retry-after": String(retryAfter) }),
    ...behaviour.headers,
  });
}

function toWords(status: number): string {
  if (status === 529) return "Overloaded";
  if (status === 429) return "This request would exceed your organization's rate limit of 50 requests per minute.";
  if (status >= 500) return "Internal server error";
  return `Simulated ${errorTypeOf(status)}`;
}

async function sendPlain(
  { request, response, gone }: Exchange,
  status: number,
  body: string,
  headers: Readonly<Record<string, string>>,
): Promise<BillReason> {
  request.status = status;
  request.bytesWritten += Buffer.byteLength(body);
  response.writeHead(status, { "content-type": "application/json", "request-id": request.requestId, ...headers });
  await Promise.race([new Promise<void>((resolve) => response.end(body, resolve)), gone]);
  return "refused";
}
