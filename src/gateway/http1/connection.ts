/**
 * Owns one connection to a provider: connecting, one exchange after the other, and its end. Does not own which exchange gets it (pool.ts)
 * or what an end means for money (gateway/upstream.ts).
 * Invariants: an exchange that was begun is told its end, or one failure, once; no byte of an answer is read by another exchange; a
 * connection whose state is not certain is never used again.
 *
 * States: connecting → busy ⇄ idle → closed; from each of them closed at once.
 */
import { connect as connectTcp, isIP, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import type { AnswerHead } from "./answer-head.ts";
import { AnswerReader, type AnswerSink } from "./answer-reader.ts";

/** As usual servers do not keep an idle connection for longer than five seconds. */
const IDLE_MS = 4_000;
const IDLE_MS_MAX = 600_000;
/** What the other side says of its patience began when its answer left, and ends before our next request arrives. */
const IDLE_MARGIN_MS = 2_000;
/** So long an idle peer may be gone before the system finds out. */
const PROBE_MS = 60_000;

/** Where a provider is. */
export interface Origin {
  isTls: boolean;
  hostname: string;
  port: number;
}

/**
 * How many looks of its owner a connection waits for what is due. Looks are counted, not time: one that comes late because the event loop
 * did not listen counts no more than one in time, and what has come meanwhile is still read.
 */
export interface Patience {
  connect: number;
  headers: number;
  body: number;
}

/** One request, and whoever waits for its answer. */
export interface Exchange {
  /** One character a byte. */
  readonly head: string;
  readonly body: Uint8Array | undefined;
  /** This connection carries it, or will once it is there. */
  onCarried(by: Connection): void;
  /** Its first byte is about to be written. */
  onBegin(): void;
  onHead(head: AnswerHead): void;
  /** @returns true to hold the other side back until {@link Connection.resume}. */
  onPayload(bytes: Buffer): boolean;
  onEnd(): void;
  onFailure(error: Error): void;
}

export interface ConnectionOwner {
  readonly patience: Patience;
  /** How often it has looked at its connections. */
  readonly looks: number;
  /** It may carry another exchange. */
  released(connection: Connection): void;
  closed(connection: Connection): void;
}

/** What a connection that took too long is ended with. */
export class ConnectionTimeoutError extends Error {
  override readonly name = "ConnectionTimeoutError";
  readonly code: "connect_timeout" | "headers_timeout" | "body_timeout";
  constructor(code: ConnectionTimeoutError["code"]) {
    super(code);
    this.code = code;
  }
}

/** What runs on a connection that is closed from this side is ended with this. */
export class ClosedError extends Error {
  override readonly name = "ClosedError";
  readonly code = "closed";
}

/** The last TLS session of an origin: going on with it saves a handshake most of its work. */
export class SessionMemory {
  session: Buffer | undefined;
}

export class Connection {
  readonly #socket: Socket;
  readonly #owner: ConnectionOwner;
  #exchange: Exchange | undefined;
  #reader: AnswerReader | undefined;
  #head: AnswerHead | undefined;
  #isConnected = false;
  #isClosed = false;
  #isPaused = false;
  readonly #sink: AnswerSink = {
    onHead: (head) => {
      this.#head = head;
      this.#exchange?.onHead(head);
    },
    onPayload: (bytes) => {
      const exchange = this.#exchange;
      if (exchange?.onPayload(bytes) === true) this.hold(exchange);
    },
    // What follows is decided once all of the bytes were looked at.
    onEnd: () => undefined,
  };
  /** The look since which it connects, waits for a head, or has heard nothing more. */
  #sinceLook: number;
  /** By the wall, as the other side counts it. */
  #idleUntilMs = 0;

  /** Connects, for this exchange. */
  constructor(origin: Origin, owner: ConnectionOwner, sessions: SessionMemory, exchange: Exchange) {
    this.#owner = owner;
    this.#sinceLook = owner.looks;
    this.#exchange = exchange;
    exchange.onCarried(this);
    const connected = (): void => this.#connected();
    const socket = origin.isTls
      ? openTls(origin, sessions, connected)
      : connectTcp({ ...addressOf(origin), noDelay: true }, connected);
    this.#socket = socket;
    socket.setKeepAlive(true, PROBE_MS);
    socket.on("data", (bytes: Buffer) => this.#read(bytes));
    socket.on("end", () => this.#ended());
    socket.on("error", (error) => this.close(error));
    socket.on("close", () => this.close(new ClosedError("the connection was closed")));
  }

  /** True while it can be given an exchange. */
  get isUsable(): boolean {
    return !this.#isClosed && this.#exchange === undefined;
  }

  /** Only while it is usable. */
  begin(exchange: Exchange): void {
    this.#exchange = exchange;
    exchange.onCarried(this);
    this.#write(exchange);
  }

  /** Holds the other side back, if this exchange still runs. */
  hold(exchange: Exchange): void {
    if (this.#exchange !== exchange) return;
    this.#isPaused = true;
    this.#socket.pause();
  }

  /** Lets the other side go on, if this exchange still runs. */
  resume(exchange: Exchange): void {
    if (this.#exchange !== exchange || !this.#isPaused) return;
    this.#isPaused = false;
    this.#sinceLook = this.#owner.looks;
    this.#socket.resume();
  }

  /** Ends it at once, whatever it does; what runs on it is told. */
  close(error: Error): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const exchange = this.#exchange;
    this.#exchange = undefined;
    this.#socket.destroy();
    this.#owner.closed(this);
    exchange?.onFailure(error);
  }

  /** Ends it if it has waited for too long. */
  checkTime(): void {
    const { patience, looks } = this.#owner;
    const waited = looks - this.#sinceLook;
    if (!this.#isConnected) {
      if (waited >= patience.connect) this.close(new ConnectionTimeoutError("connect_timeout"));
    } else if (this.#exchange === undefined) {
      if (performance.now() >= this.#idleUntilMs) this.close(new ClosedError("it was idle"));
    } else if (this.#head === undefined) {
      if (waited >= patience.headers) this.close(new ConnectionTimeoutError("headers_timeout"));
    } else if (!this.#isPaused && waited >= patience.body) this.close(new ConnectionTimeoutError("body_timeout"));
  }

  #connected(): void {
    this.#isConnected = true;
    if (this.#exchange !== undefined && !this.#isClosed) this.#write(this.#exchange);
  }

  #write(exchange: Exchange): void {
    const socket = this.#socket;
    this.#head = undefined;
    this.#reader = new AnswerReader(this.#sink);
    this.#sinceLook = this.#owner.looks;
    exchange.onBegin();
    const { head, body } = exchange;
    if (body === undefined || body.length === 0) {
      socket.write(head, "latin1");
      return;
    }
    socket.cork();
    socket.write(head, "latin1");
    socket.write(body);
    socket.uncork();
  }

  #read(bytes: Buffer): void {
    const reader = this.#reader;
    // Nobody asked: what stands there would be taken for the answer to the next request.
    if (this.#exchange === undefined || reader === undefined) return this.close(new ClosedError("it spoke unasked"));
    if (this.#head !== undefined) this.#sinceLook = this.#owner.looks;
    try {
      reader.push(bytes);
    } catch (error) {
      return this.close(asError(error));
    }
    if (reader.isWhole) this.#finish(reader);
  }

  /** The other side sent its last byte. */
  #ended(): void {
    try {
      this.#reader?.end();
    } catch (error) {
      return this.close(asError(error));
    }
    const closed = new ClosedError("the other side closed it");
    // As in the middle of a handshake: what runs on it is told that it failed.
    if (this.#head === undefined) return this.close(closed);
    const exchange = this.#exchange;
    this.#exchange = undefined;
    exchange?.onEnd();
    this.close(closed);
  }

  /** The answer is whole. */
  #finish(reader: AnswerReader): void {
    const exchange = this.#exchange;
    const head = this.#head;
    if (exchange === undefined || head === undefined) return;
    this.#exchange = undefined;
    this.#reader = undefined;
    const idleMs = idleMsOf(head);
    // An answer before the whole request was written leaves a rest of it that nobody waits for.
    const isReusable = head.isKept && idleMs > 0 && !reader.hasMore && this.#socket.writableLength === 0;
    if (!isReusable) this.close(new ClosedError("it is used up"));
    else {
      if (this.#isPaused) this.#socket.resume();
      this.#isPaused = false;
      this.#idleUntilMs = performance.now() + idleMs;
      this.#owner.released(this);
    }
    exchange.onEnd();
  }
}

function addressOf({ hostname, port }: Origin): { host: string; port: number } {
  return { host: hostname, port };
}

function openTls(origin: Origin, sessions: SessionMemory, connected: () => void): Socket {
  const { session } = sessions;
  const isName = isIP(origin.hostname) === 0;
  const socket = connectTls(
    {
      ...addressOf(origin),
      ALPNProtocols: ["http/1.1"],
      // A name of a host, never an address, by the standard.
      ...(isName ? { servername: origin.hostname } : {}),
      ...(session === undefined ? {} : { session }),
    },
    connected,
  );
  socket.setNoDelay(true);
  socket.on("session", (next) => (sessions.session = next));
  // One that the other side no longer takes must not fail a second time.
  socket.on("error", () => (sessions.session = undefined));
  return socket;
}

function idleMsOf({ keepAliveMs }: AnswerHead): number {
  return keepAliveMs === undefined ? IDLE_MS : Math.min(keepAliveMs - IDLE_MARGIN_MS, IDLE_MS_MAX);
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error("unknown");
}
