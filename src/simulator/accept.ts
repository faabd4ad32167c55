/**
 * Owns: what arrives: the body of a request, and the news that its sender has left.
 * Does not own: the answer (`serve.ts`).
 * Invariant: nothing a sender does makes these throw.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { gunzipSync } from "node:zlib";
import { apiError, toErrorBody } from "./errors.ts";
import type { OpenRequest } from "./exchange.ts";

/** The provider's limit for `/v1/messages` (platform.claude.com/docs/en/api/errors). */
const BODY_BYTES_MAX = 32 * 1024 * 1024;

/** Aborts when the connection closes under an answer that is not finished. */
export function watch(response: ServerResponse): AbortSignal {
  const gone = new AbortController();
  // A write after the connection broke is reported here too; `close` says all there is to know of it.
  response.on("error", () => undefined);
  response.once("close", () => {
    if (!response.writableFinished) gone.abort();
  });
  return gone.signal;
}

export async function readBody(incoming: IncomingMessage, gone: AbortSignal): Promise<Buffer | "left" | "too_large"> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of incoming as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      // The rest is read and dropped: a client that is still sending would not see an answer.
      if (bytes <= BODY_BYTES_MAX) chunks.push(chunk);
    }
  } catch {
    // The stream of a request fails only because its connection did; that is an answer here, not an error.
    return "left";
  }
  if (gone.aborted) return "left";
  return bytes > BODY_BYTES_MAX ? "too_large" : Buffer.concat(chunks);
}

export function refuseTooLarge(request: OpenRequest, response: ServerResponse): void {
  const error = apiError(413, "Request exceeds the maximum allowed number of bytes.");
  request.status = 413;
  request.state = "answered";
  response.writeHead(413, { "content-type": "application/json", connection: "close" });
  response.end(JSON.stringify(toErrorBody(error, request.requestId)));
}

export function readJson(body: Buffer, encoding: string): unknown {
  try {
    const plain = encoding === "gzip" ? gunzipSync(body, { maxOutputLength: BODY_BYTES_MAX }) : body;
    return JSON.parse(plain.toString("utf8")) as unknown;
  } catch {
    // No JSON is what `undefined` says; the checks answer it with 400.
    return undefined;
  }
}
