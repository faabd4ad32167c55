/**
 * Owns which connection carries which exchange: the kept one that was used last, or a new one; as many as there are calls.
 * Does not own what happens on a connection (connection.ts).
 * Invariants: an exchange is begun on one connection, once; a kept connection is used only after the event loop has looked at it since
 * its last answer, so that an end or a byte that has come is seen before a request is written to it.
 */
import {
  ClosedError,
  Connection,
  SessionMemory,
  type ConnectionOwner,
  type Exchange,
  type Origin,
  type Patience,
} from "./connection.ts";

/** Idle connections beyond these are closed: after a burst, nobody needs more. */
const IDLE_MAX = 256;
/** Timeouts are looked at so often, or more often where one is short. */
const LOOK_MS = 1_000;

export interface Timeouts {
  connectMs: number;
  headersMs: number;
  bodyMs: number;
}

/** An exchange that can be given up while it waits for its turn. */
export interface Sending extends Exchange {
  readonly isGivenUp: boolean;
}

export class Pool implements ConnectionOwner {
  readonly patience: Patience;
  readonly #origin: Origin;
  readonly #sessions = new SessionMemory();
  readonly #connections = new Set<Connection>();
  /** The latest stands last. */
  #idle: Connection[] = [];
  #justReleased: Connection[] = [];
  #waiting: Sending[] = [];
  #isTurnDue = false;
  #isClosed = false;
  #looks = 0;
  readonly #timer: NodeJS.Timeout;

  constructor(origin: Origin, timeouts: Timeouts) {
    this.#origin = origin;
    const { connectMs, headersMs, bodyMs } = timeouts;
    const lookMs = Math.min(LOOK_MS, Math.ceil(Math.min(connectMs, headersMs, bodyMs) / 4));
    // The first look comes sooner than a whole interval, so one more is waited for.
    const looksIn = (waitMs: number): number => Math.ceil(waitMs / lookMs) + 1;
    this.patience = { connect: looksIn(connectMs), headers: looksIn(headersMs), body: looksIn(bodyMs) };
    this.#timer = setInterval(() => this.#look(), lookMs).unref();
  }

  get looks(): number {
    return this.#looks;
  }

  /** Connections there are, in whatever state. */
  get size(): number {
    return this.#connections.size;
  }

  /** Begins it with the next turn of the event loop. */
  send(sending: Sending): void {
    if (this.#isClosed) return sending.onFailure(new ClosedError("the gateway ends"));
    this.#waiting.push(sending);
    this.#takeTurnSoon();
  }

  /** Ends everything that runs. */
  close(): void {
    this.#isClosed = true;
    clearInterval(this.#timer);
    const error = new ClosedError("the gateway ends");
    for (const sending of this.#waiting.splice(0)) sending.onFailure(error);
    for (const connection of this.#connections) connection.close(error);
  }

  released(connection: Connection): void {
    this.#justReleased.push(connection);
    this.#takeTurnSoon();
  }

  closed(connection: Connection): void {
    this.#connections.delete(connection);
  }

  /** Behind everything that the event loop has just read. */
  #takeTurnSoon(): void {
    if (this.#isTurnDue) return;
    this.#isTurnDue = true;
    setImmediate(() => this.#takeTurn());
  }

  #takeTurn(): void {
    this.#isTurnDue = false;
    const released = this.#justReleased.splice(0).filter(({ isUsable }) => isUsable);
    for (const sending of this.#waiting.splice(0)) {
      if (sending.isGivenUp) continue;
      const kept = this.#takeIdle();
      if (kept !== undefined) kept.begin(sending);
      // One that has just become free is there with the next turn: sooner than a new one.
      else if (this.#waiting.length < released.length) this.#waiting.push(sending);
      else this.#connections.add(new Connection(this.#origin, this, this.#sessions, sending));
    }
    for (const connection of released) {
      if (this.#idle.length < IDLE_MAX) this.#idle.push(connection);
      else connection.close(new ClosedError("others are idle"));
    }
    if (this.#waiting.length > 0) this.#takeTurnSoon();
  }

  #takeIdle(): Connection | undefined {
    for (;;) {
      const kept = this.#idle.pop();
      // The regular look may come too late for one that the other side is about to close.
      kept?.checkTime();
      if (kept === undefined || kept.isUsable) return kept;
    }
  }

  #look(): void {
    this.#looks += 1;
    for (const connection of this.#connections) connection.checkTime();
    // Closed ones are passed over when their turn comes, but must not be kept for that.
    this.#idle = this.#idle.filter(({ isUsable }) => isUsable);
  }
}
