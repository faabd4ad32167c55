/**
 * Owns sending a request to a provider, and what went wrong in words that decide whether money was spent.
 * Does not own connections and HTTP (http1/) or what is sent (forward.ts).
 * Invariants: "not sent" is only said where no byte of the request can have left; no request is ever sent twice.
 */
import type { AnswerHead } from "./http1/answer-head.ts";
import { ClosedError, ConnectionTimeoutError, type Connection, type Origin } from "./http1/connection.ts";
import { Pool, type Sending } from "./http1/pool.ts";
import { writeHead } from "./http1/request-head.ts";

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

/** Takes the next bytes of an answer. A promise holds the upstream back until it resolves. */
export type TakeBytes = (bytes: Buffer) => Promise<void> | undefined;

/** The bytes of an answer as they come: no stream in between, whose promises would cost more than the bytes. */
export interface UpstreamBody {
  /**
   * Hands over every chunk, and resolves behind the last. Asked for once, at the latest with the next turn of the event loop.
   *
   * @throws what broke the answer off.
   */
  read(take: TakeBytes): Promise<void>;
}

export type UpstreamFailure =
  /** No connection: nothing was sent, nothing can cost. */
  { kind: "not_sent"; reason: string } | { kind: "lost"; reason: string } | { kind: "timeout"; reason: string };

export interface UpstreamRequest {
  method: "GET" | "POST" | "DELETE";
  path: string;
  /** Names and values, alternating; host, length and the connection's own are not among them. */
  headers: readonly string[];
  body: Uint8Array | undefined;
}

/** A request on its way. */
export interface UpstreamCall {
  /** Rejects with an {@link UpstreamError}. */
  readonly answer: Promise<UpstreamAnswer>;
  /** Gives it up, wherever it is: its connection ends at once, and whoever waits is told. */
  abort(): void;
}

export interface Upstream {
  /** Sends one request. */
  send(request: UpstreamRequest): UpstreamCall;
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
  const pool = new Pool(originOf(base), {
    connectMs: CONNECT_TIMEOUT_MS,
    headersMs: timeouts.headersMs ?? HEADERS_TIMEOUT_MS,
    bodyMs: timeouts.bodyMs ?? BODY_TIMEOUT_MS,
  });
  return {
    send({ method, path, headers, body }) {
      const bodyBytes = body?.length;
      const call = new Call(body);
      try {
        call.head = writeHead({ method, path: prefix + path, headers, bodyBytes }, base.host);
        pool.send(call);
      } catch (error) {
        call.onFailure(asError(error));
      }
      return call;
    },
    close() {
      pool.close();
      return Promise.resolve();
    },
  };
}

function originOf({ protocol, hostname, port }: URL): Origin {
  const isTls = protocol === "https:";
  return { isTls, hostname: hostname.replace(/^\[|\]$/g, ""), port: port === "" ? (isTls ? 443 : 80) : Number(port) };
}

/** One request and its answer, as its connection tells of it. */
class Call implements Sending, UpstreamCall, UpstreamBody {
  head = "";
  readonly body: Uint8Array | undefined;
  isGivenUp = false;
  readonly #answer = Promise.withResolvers<UpstreamAnswer>();
  readonly #end = Promise.withResolvers<void>();
  #connection: Connection | undefined;
  /**
   * True from the moment a connection is there and the request is about to be written to it: nothing of it can have left before. An
   * error's code does not say it: the same ones come later too.
   */
  #hasBegun = false;
  #hasAnswer = false;
  #take: TakeBytes | undefined;
  /** What came between the head of the answer and the asking for its body: at most what one read of the socket held. */
  #early: Buffer[] | undefined;

  constructor(body: Uint8Array | undefined) {
    this.body = body;
    // Nobody may be reading yet when it breaks off.
    this.#end.promise.catch(() => undefined);
  }

  get answer(): Promise<UpstreamAnswer> {
    return this.#answer.promise;
  }

  abort(): void {
    if (this.isGivenUp) return;
    this.isGivenUp = true;
    const error = new ClosedError("the caller left");
    if (this.#connection === undefined) this.onFailure(error);
    else this.#connection.close(error);
  }

  onCarried(by: Connection): void {
    this.#connection = by;
  }

  onBegin(): void {
    this.#hasBegun = true;
  }

  onHead({ status, headers }: AnswerHead): void {
    this.#hasAnswer = true;
    this.#answer.resolve({ status, headers, body: this });
  }

  onPayload(bytes: Buffer): boolean {
    if (this.#take !== undefined) return this.#give(this.#take, bytes);
    this.#early ??= [];
    this.#early.push(bytes);
    return false;
  }

  onEnd(): void {
    // Whatever happens to the connection from here on is nothing to this call.
    this.isGivenUp = true;
    this.#end.resolve();
  }

  onFailure(error: Error): void {
    this.isGivenUp = true;
    if (this.#hasAnswer) this.#end.reject(error);
    else this.#answer.reject(new UpstreamError(failureOf(error, this.#hasBegun), error));
  }

  read(take: TakeBytes): Promise<void> {
    this.#take = take;
    const early = this.#early;
    this.#early = undefined;
    if (early !== undefined) for (const bytes of early) if (this.#give(take, bytes)) this.#connection?.hold(this);
    return this.#end.promise;
  }

  /** @returns true if the other side is to be held back. */
  #give(take: TakeBytes, bytes: Buffer): boolean {
    const taken = take(bytes);
    if (taken === undefined) return false;
    void taken.finally(() => this.#connection?.resume(this));
    return true;
  }
}

function failureOf(error: Error, hasBegun: boolean): UpstreamFailure {
  const code = codeOf(error);
  const reason = code === "" ? error.message : code;
  if (!hasBegun) return { kind: "not_sent", reason };
  return { kind: error instanceof ConnectionTimeoutError ? "timeout" : "lost", reason };
}

function codeOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return codeOf(error.errors[0]);
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "";
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error("unknown");
}
