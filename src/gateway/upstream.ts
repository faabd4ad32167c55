/**
 * Owns the connection to a provider: one pool per origin, and what went wrong in words that decide whether money was spent.
 * Does not own what is sent (forward.ts). Invariant: "not sent" is only said where no byte of the request can have left.
 */
import { Pool, type Dispatcher } from "undici";

/** The SDKs' own default is 10 minutes until the headers; the gateway must not be the first to give up. */
export const HEADERS_TIMEOUT_MS = 610_000;
/** A stream that is silent for so long is broken: Claude Code gives up after 300 s. */
const BODY_TIMEOUT_MS = 600_000;
const CONNECT_TIMEOUT_MS = 10_000;

export interface UpstreamAnswer {
  status: number;
  headers: string[];
  body: UpstreamBody;
}

/** The bytes of an answer as they come: no stream in between, whose promises would cost more than the bytes. */
export interface UpstreamBody {
  /**
   * Hands over every chunk, and resolves behind the last. Asked for once, at the latest with the next turn of the event loop.
   *
   * @param take may return a promise: the upstream is held back until it resolves.
   * @throws what broke the answer off.
   */
  read(take: (chunk: Buffer) => Promise<void> | undefined): Promise<void>;
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
  return {
    send: ({ method, path, headers, body, signal }) =>
      new Promise((resolve, reject) => {
        const exchange = new Exchange(signal, resolve, reject);
        pool.dispatch({ method, path: prefix + path, headers, body: body ?? null }, exchange);
      }),
    close: () => pool.destroy(),
  };
}

/** One request and its answer, as undici tells of it. */
class Exchange implements Dispatcher.DispatchHandler, UpstreamBody {
  readonly #signal: AbortSignal;
  readonly #answered: (answer: UpstreamAnswer) => void;
  readonly #failed: (error: UpstreamError) => void;
  #controller: Dispatcher.DispatchController | undefined;
  /**
   * True from the moment a connection is there and the request is about to be written to it: nothing of it can have left before. An
   * error's code does not say it: the same ones come later too.
   */
  #hasStarted = false;
  #hasAnswer = false;
  #take: ((chunk: Buffer) => Promise<void> | undefined) | undefined;
  /** What came between the head of the answer and the asking for its body: at most what one read of the socket held. */
  readonly #early: Buffer[] = [];
  readonly #end = Promise.withResolvers<void>();

  constructor(signal: AbortSignal, answered: (answer: UpstreamAnswer) => void, failed: (error: UpstreamError) => void) {
    this.#signal = signal;
    this.#answered = answered;
    this.#failed = failed;
    // Nobody may be reading yet when it breaks off.
    this.#end.promise.catch(() => undefined);
  }

  readonly #abort = (): void => this.#controller?.abort(new Error("the caller left"));

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    // Of a request that was aborted while it waited for its connection nothing is written.
    if (this.#signal.aborted) {
      this.#abort();
      return;
    }
    this.#hasStarted = true;
    this.#signal.addEventListener("abort", this.#abort, { once: true });
  }

  onResponseStart({ rawHeaders }: Dispatcher.DispatchController, status: number): void {
    // Informational: the answer is still to come.
    if (status < 200) return;
    this.#hasAnswer = true;
    this.#answered({ status, headers: textsOf(rawHeaders), body: this });
  }

  onResponseData(_: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#take === undefined) this.#early.push(chunk);
    else this.#give(this.#take, chunk);
  }

  onResponseEnd(): void {
    this.#signal.removeEventListener("abort", this.#abort);
    this.#end.resolve();
  }

  onResponseError(_: Dispatcher.DispatchController | undefined, error: Error): void {
    this.#signal.removeEventListener("abort", this.#abort);
    if (this.#hasAnswer) this.#end.reject(error);
    else this.#failed(new UpstreamError(failureOf(error, this.#hasStarted), error));
  }

  read(take: (chunk: Buffer) => Promise<void> | undefined): Promise<void> {
    this.#take = take;
    for (const chunk of this.#early.splice(0)) this.#give(take, chunk);
    return this.#end.promise;
  }

  #give(take: (chunk: Buffer) => Promise<void> | undefined, chunk: Buffer): void {
    const taken = take(chunk);
    if (taken === undefined) return;
    const controller = this.#controller;
    controller?.pause();
    void taken.finally(() => controller?.resume());
  }
}

function textsOf(raw: Dispatcher.DispatchController["rawHeaders"]): string[] {
  return Array.isArray(raw) ? raw.map((part) => (typeof part === "string" ? part : part.toString("latin1"))) : [];
}

function failureOf(error: unknown, hasStarted: boolean): UpstreamFailure {
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
