/**
 * Owns: what every exchange does in the same way: waiting for pace, steps and stalls, and sending a JSON body or an error.
 * Does not own: which answer a request gets (`serve.ts`).
 * Invariant: whatever it waits for, an exchange ends at once when its client leaves.
 */
import type { ServerResponse } from "node:http";
import type { Answer } from "./answer.ts";
import type { Batches } from "./batches.ts";
import type { AnswerOptions, Behaviour, BehaviourQueue, SimulatedRequest } from "./behaviours.ts";
import type { BillBook, BillReason } from "./bill.ts";
import type { PromptCache } from "./cache.ts";
import { errorTypeOf, toErrorBody, type ApiError } from "./errors.ts";
import type { Meter } from "./meter.ts";
import { breakOff, ClientLeft, CutOff, Wire } from "./wire.ts";

export type OpenRequest = { -readonly [K in keyof SimulatedRequest]: SimulatedRequest[K] };

/** What all exchanges of one simulator share. */
export interface Shared {
  readonly now: () => number;
  readonly sleep: (ms: number, signal: AbortSignal) => Promise<void>;
  readonly behaviours: BehaviourQueue;
  readonly book: BillBook;
  readonly cache: PromptCache;
  readonly batches: Batches;
  readonly outputTokens: ((request: SimulatedRequest) => number) | undefined;
  readonly outputTokensPerSecond: number;
  readonly eventPaceMs: number;
  readonly isPacedByGeneration: boolean;
  /** Resolves when the next event of any stream may be written; undefined where nobody steps. */
  readonly permit: ((signal: AbortSignal) => Promise<void>) | undefined;
  readonly isClosing: () => boolean;
  readonly onStream: (change: 1 | -1) => void;
}

export interface Exchange {
  readonly shared: Shared;
  readonly request: OpenRequest;
  readonly response: ServerResponse;
  readonly gone: Promise<never>;
  readonly goneSignal: AbortSignal;
  readonly startedAtMs: number;
  readonly behaviour: Behaviour;
  meter?: Meter;
}

export function answerOptions(behaviour: Behaviour): AnswerOptions {
  return behaviour.kind === "status" ? {} : behaviour;
}

/** Waits until this much of the answer exists, the pace allows it, and the test has stepped. */
export async function hold(exchange: Exchange, tokensDone: number): Promise<void> {
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
export async function pause(exchange: Exchange, wait: Promise<void>): Promise<void> {
  try {
    await Promise.race([wait, exchange.gone]);
  } catch (error) {
    if (exchange.goneSignal.aborted) throw new ClientLeft();
    throw error;
  }
}

export async function stall(exchange: Exchange, until: (() => Promise<void>) | undefined): Promise<void> {
  await pause(exchange, until === undefined ? exchange.gone : until());
}

export function closeNow(exchange: Exchange, reset: boolean): never {
  breakOff(exchange.response, reset);
  throw new CutOff();
}

export function openWire(exchange: Exchange): Wire {
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

export function begin(exchange: Exchange, wire: Wire, status: number, contentType: string): void {
  exchange.request.status = status;
  wire.begin(status, {
    "content-type": contentType,
    "request-id": exchange.request.requestId,
    "anthropic-organization-id": "org_simulated",
    "cache-control": "no-cache",
  });
}

export async function sendError(exchange: Exchange, error: ApiError): Promise<BillReason> {
  return sendPlain(exchange, error.status, JSON.stringify(toErrorBody(error, exchange.request.requestId)), {});
}

export async function sendStatus(
  exchange: Exchange,
  behaviour: Extract<Behaviour, { readonly kind: "status" }>,
): Promise<BillReason> {
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

/** Sends one JSON body, with whatever the behaviour does to it. */
export async function sendJson(exchange: Exchange, value: unknown, planned?: Answer): Promise<BillReason> {
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

/** Lines of JSON, as they are. */
export async function sendLines(exchange: Exchange, lines: readonly string[]): Promise<BillReason> {
  const { behaviour } = exchange;
  if (behaviour.kind === "close") return closeNow(exchange, behaviour.reset === true);
  const wire = openWire(exchange);
  begin(exchange, wire, 200, "application/binary");
  const text = lines.map((line) => `${line}\n`).join("");
  if (behaviour.kind === "cut") return wire.sendHalfAndCut(text);
  await sendInSlices(wire, text);
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
