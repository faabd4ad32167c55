/**
 * Owns the connection to a provider: one pool per origin, and what went wrong in words that decide whether money was spent.
 * Does not own what is sent (forward.ts). Invariant: "not sent" is only said where no byte of the request can have left.
 */
import { Pool, type Dispatcher } from "undici";
import type { Readable } from "node:stream";

/** The SDKs' own default is 10 minutes until the headers; the gateway must not be the first to give up. */
export const HEADERS_TIMEOUT_MS = 610_000;
/** A stream that is silent for so long is broken: Claude Code gives up after 300 s. */
const BODY_TIMEOUT_MS = 600_000;
const CONNECT_TIMEOUT_MS = 10_000;

export interface UpstreamAnswer {
  status: number;
  headers: string[];
  body: Readable;
}

export type UpstreamFailure =
  /** No connection: nothing was sent, nothing can cost. */
  { kind: "not_sent"; reason: string } | { kind: "lost"; reason: string } | { kind: "timeout"; reason: string };

export interface Upstream {
  /** Sends one request. Rejects with an {@link UpstreamError}. */
  send(request: {
    method: "GET" | "POST";
    path: string;
    headers: string[];
    body: Uint8Array | undefined;
    signal: AbortSignal;
  }): Promise<UpstreamAnswer>;
  close(): Promise<void>;
}

/** An upstream did not answer. */
export class UpstreamError extends Error {
  override readonly name = "UpstreamError";
  readonly failure: UpstreamFailure;
  constructor(failure: UpstreamFailure, cause: unknown) {
    super(failure.reason, { cause });
    this.failure = failure;
  }
}

/** @param url the provider's base address; its path goes before every request's path. */
export function createUpstream(url: string, timeouts: { headersMs?: number; bodyMs?: number } = {}): Upstream {
  const base = new URL(url);
  const prefix = base.pathname.replace(/\/+$/, "");
  const pool = new Pool(base.origin, {
    // As many as there are calls: admission is the only queue.
    connections: null,
    pipelining: 1,
    connect: { timeout: CONNECT_TIMEOUT_MS },
    headersTimeout: timeouts.headersMs ?? HEADERS_TIMEOUT_MS,
    bodyTimeout: timeouts.bodyMs ?? BODY_TIMEOUT_MS,
  });
  const watched = pool.compose(tellWhenStarted);
  return {
    async send({ method, path, headers, body, signal }) {
      const start: Start = { hasStarted: false };
      try {
        const answer = await watched.request({
          method,
          path: prefix + path,
          headers,
          body: body ?? null,
          signal,
          responseHeaders: "raw",
          opaque: start,
        });
        return { status: answer.statusCode, headers: answer.headers as unknown as string[], body: answer.body };
      } catch (error) {
        throw new UpstreamError(failureOf(error, start), error);
      }
    },
    close: () => pool.destroy(),
  };
}

/** Travels with a request through the pool. */
interface Start {
  /** True from the moment a connection is there and the request is about to be written to it. */
  hasStarted: boolean;
}

/** Notes the moment before which nothing of a request can have left. An error's code does not say it: the same ones come later too. */
function tellWhenStarted(dispatch: Dispatcher.Dispatch): Dispatcher.Dispatch {
  return (options, handler) => {
    const { opaque: start } = options as { opaque?: Start };
    return dispatch(options, {
      onRequestStart(controller, context) {
        handler.onRequestStart?.(controller, context);
        // Of a request that was aborted while it waited for its connection nothing is written.
        if (start !== undefined && !controller.aborted) start.hasStarted = true;
      },
      onResponseStart: (...told) => handler.onResponseStart?.(...told),
      onResponseData: (...told) => handler.onResponseData?.(...told),
      onResponseEnd: (...told) => handler.onResponseEnd?.(...told),
      onResponseError: (...told) => handler.onResponseError?.(...told),
    });
  };
}

function failureOf(error: unknown, { hasStarted }: Start): UpstreamFailure {
  const code = codeOf(error);
  const reason = code === "" && error instanceof Error ? error.message : code;
  if (!hasStarted) return { kind: "not_sent", reason };
  if (code === "UND_ERR_HEADERS_TIMEOUT" || code === "UND_ERR_BODY_TIMEOUT") return { kind: "timeout", reason };
  return { kind: "lost", reason };
}

function codeOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return codeOf(error.errors[0]);
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "";
}
