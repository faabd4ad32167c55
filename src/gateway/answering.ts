/**
 * Owns writing Purser's own answers: refusals in the provider's shape, health, and what bytes that are no request are told.
 * Does not own why something is refused (server.ts, engine/) or the shape (providers/).
 * Invariants: an answer that is coming is never written into; a caller that is still sending gets to read its refusal before the
 * connection ends, and what it goes on sending is thrown away, not kept.
 */
import { maxHeaderSize, STATUS_CODES, type IncomingMessage, type ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import type { Refusal } from "../core/errors/codes.ts";
import { invalidRequest } from "../core/errors/refusals.ts";
import type { IdSource } from "../engine/ports.ts";
import type { Provider } from "../providers/provider.ts";

/** How long a caller that was refused may go on sending before the connection ends: closed at once, it would not see the answer. */
const LINGER_MS = 2_000;
/** Bodies up to this (bytes) are waited for, and the connection is kept: most have arrived by then, and a new connection costs more. */
const AWAITED_BODY_BYTES_MAX = 65_536;

interface Shaping {
  provider: Provider;
  ids: IdSource;
}

/** Writes a refusal in the provider's shape. */
export function sendRefusal(
  { provider, ids }: Shaping,
  request: IncomingMessage,
  response: ServerResponse,
  refusal: Refusal,
  more: readonly string[] = [],
): void {
  const userAgent = request.headers["user-agent"];
  const shaped = provider.shapeError(refusal, { userAgent, requestId: refusal.details.callId ?? ids.next("call") });
  const isKept = request.complete || Number(request.headers["content-length"] ?? Infinity) <= AWAITED_BODY_BYTES_MAX;
  // A body that was not read to its end would be taken for the next request.
  if (!isKept) response.shouldKeepAlive = false;
  const headers = Object.entries(shaped.headers).flat();
  response.writeHead(shaped.status, [...headers, "content-length", String(Buffer.byteLength(shaped.body)), ...more]);
  // What is still to come of a body that is waited for is thrown away by Node, once the answer ends.
  if (isKept) response.end(shaped.body);
  else lingerThenEnd(request, response, shaped.body);
}

function lingerThenEnd(request: IncomingMessage, response: ServerResponse, body: string): void {
  response.write(body);
  const end = (): void => {
    clearTimeout(timer);
    response.end();
  };
  const timer = setTimeout(end, LINGER_MS);
  request.once("end", end).once("close", end);
  request.unpipe();
  request.resume();
}

/** Writes JSON of our own. */
export function sendJson(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(body));
}

/**
 * Answers bytes that Node could not read as a request, and ends the connection.
 *
 * @param running the last answer on this connection, if it had one.
 */
export function refuseBytes({ provider, ids }: Shaping, error: Error, socket: Duplex, running: ServerResponse | undefined): void {
  if (!socket.writable || (running !== undefined && !running.writableEnded)) {
    socket.destroy();
    return;
  }
  setTimeout(() => socket.destroy(), LINGER_MS).unref();
  socket.resume();
  if (running !== undefined && !running.writableFinished) {
    // Its whole answer is on the way; there is nothing to add behind it.
    socket.end();
    return;
  }
  const { status, problem } = problemOf(error);
  const refusal = invalidRequest({ where: "request", problem });
  const { headers, body } = provider.shapeError(refusal, { userAgent: undefined, requestId: ids.next("call") });
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.end(
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ""}\r\nconnection: close\r\ncontent-length: ${Buffer.byteLength(body)}\r\n` +
      `${lines.join("")}\r\n${body}`,
  );
}

/** Codes and reasons are Node's own words: they quote nothing that was sent. */
function problemOf(error: Error): { status: number; problem: string } {
  const code = "code" in error ? String(error.code) : "";
  if (code === "HPE_HEADER_OVERFLOW") {
    const bytesMax = maxHeaderSize.toLocaleString("en-US");
    return { status: 431, problem: `found headers that are longer than ${bytesMax} bytes together, allowed are ${bytesMax}` };
  }
  if (code === "ERR_HTTP_REQUEST_TIMEOUT")
    return { status: 408, problem: "it did not arrive within the time a request may take" };
  const reason = "reason" in error && typeof error.reason === "string" ? error.reason : "unreadable bytes";
  return { status: 400, problem: `it is not HTTP/1.1 as allowed (${reason})` };
}
