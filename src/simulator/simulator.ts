/**
 * Owns: the simulated provider as a whole: its socket, its requests, its options, and its end.
 * Does not own: what an exchange does (`serve.ts`) or what it costs (`bill.ts`).
 * Invariant: imports nothing of Purser's other rooms, so that its books and theirs can differ; after `close` no socket, timer
 * or exchange of it is left.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleepFor } from "node:timers/promises";
import { readBody, readJson, refuseTooLarge, watch } from "./accept.ts";
import { Batches, type BatchOutcome } from "./batches.ts";
import { BehaviourQueue, type Behaviour, type BehaviourChoice, type RequestMatch, type SimulatedRequest } from "./behaviours.ts";
import { BillBook, type Bill } from "./bill.ts";
import { PromptCache } from "./cache.ts";
import type { OpenRequest, Shared } from "./exchange.ts";
import { serve } from "./serve.ts";
import { Steps } from "./steps.ts";

export type {
  AnswerOptions,
  Behaviour,
  BehaviourChoice,
  ContentSpec,
  GenerationOptions,
  IterationSpec,
  PaceOptions,
  RequestMatch,
  SimulatedRequest,
  TellingOptions,
  UsageFault,
  WireOptions,
} from "./behaviours.ts";
export type { Bill, BillLine, BillReason, Consumption, CostParts, Sampling, TokenParts } from "./bill.ts";

export interface SimulatorOptions {
  /** @defaultValue 0: any free port. */
  readonly port?: number;
  /** Epoch milliseconds. Prices, cache lifetimes and the pace of generation go by it. @defaultValue `Date.now` */
  readonly now?: () => number;
  /** Waits; given the signal of the client leaving. @defaultValue real time. Give one that belongs to `now`. */
  readonly sleep?: (ms: number, signal: AbortSignal) => Promise<void>;
  /** Time between the events of a stream. @defaultValue 0 */
  readonly eventPaceMs?: number;
  /** How fast the model writes: what an aborted call is billed by. @defaultValue 80 */
  readonly outputTokensPerSecond?: number;
  /**
   * Holds every event (and every JSON answer) back until the model would have written it at `outputTokensPerSecond`.
   * @defaultValue false: answers are there at once, and count as generated as far as their events were made. Whoever bounds
   * a lost answer by elapsed time × a fastest rate needs true, or answers small enough for that bound.
   */
  readonly isPacedByGeneration?: boolean;
  /** @defaultValue 16 to 63, by the bytes of the request. Capped by `max_tokens` like every other way of asking. */
  readonly outputTokens?: (request: SimulatedRequest) => number;
  /** Every event (and every JSON answer) of calls without a `step` of their own waits for {@link Simulator.step}. */
  readonly requireStepping?: boolean;
}

export interface Simulator {
  /** `http://127.0.0.1:PORT`, without a slash at the end. */
  readonly url: string;
  readonly port: number;
  /** What the provider would charge. */
  readonly bill: Bill;
  /** Everything that reached the socket, in order of arrival; also what was refused. */
  readonly requests: readonly SimulatedRequest[];
  /** How many clients left before their answer was complete. */
  readonly aborted: number;
  /** Event streams whose head is out and whose end is not. */
  readonly openStreams: number;
  /** Body bytes handed to sockets, over all answers. */
  readonly bytesWritten: number;
  /** Queues a behaviour for the next request that matches; without `match`, the next `POST /v1/messages`. */
  next(behaviour: Behaviour, match?: RequestMatch): void;
  /** The behaviour of every `POST /v1/messages` that finds none in the queue; undefined restores proper answers. */
  always(behaviour: BehaviourChoice | undefined): void;
  /** With `requireStepping`: allows so many further events, over all streams, oldest waiter first. @defaultValue 1 */
  step(events?: number): void;
  /** Names of all message batches, oldest first. */
  readonly batchIds: readonly string[];
  /** Ends a message batch. @defaultValue every request of it succeeded */
  endBatch(batchId: string, outcomeOf?: (customId: string, index: number) => BatchOutcome): void;
  /** Resolves when the n-th request (from 0) is there, its body included; at once if it already is. */
  arrived(index: number): Promise<SimulatedRequest>;
  /** Resolves when the answer to the n-th request (from 0) has ended, and its line is on the bill. */
  ended(index: number): Promise<SimulatedRequest>;
  /** Resolves when no answer is open: every line is on the bill. */
  idle(): Promise<void>;
  /** Ends open answers (billed as `closed`), frees the port, and resolves when nothing of it runs any more. */
  close(): Promise<void>;
}

/** Starts a provider on a loopback port. */
export async function startSimulator(options: SimulatorOptions = {}): Promise<Simulator> {
  const simulator = new HttpSimulator(options);
  await simulator.listen(options.port ?? 0);
  return simulator;
}

class HttpSimulator implements Simulator {
  readonly requests: OpenRequest[] = [];
  readonly bill = new BillBook();
  readonly #behaviours = new BehaviourQueue();
  readonly #exchanges: Promise<void>[] = [];
  readonly #arrived = new WeakSet<SimulatedRequest>();
  readonly #onArrival: (() => void)[] = [];
  readonly #steps = new Steps();
  readonly #server: Server;
  readonly #shared: Shared;
  readonly #batches: Batches;
  #openStreams = 0;
  #isClosing = false;
  #closed: Promise<void> | undefined;

  constructor(options: SimulatorOptions) {
    const now = options.now ?? Date.now;
    const cache = new PromptCache();
    this.#batches = new Batches({ book: this.bill, cache, now, outputTokens: options.outputTokens });
    this.#shared = {
      now,
      sleep: options.sleep ?? ((ms, signal) => sleepFor(ms, undefined, { signal })),
      behaviours: this.#behaviours,
      book: this.bill,
      cache,
      batches: this.#batches,
      outputTokens: options.outputTokens,
      outputTokensPerSecond: options.outputTokensPerSecond ?? 80,
      eventPaceMs: options.eventPaceMs ?? 0,
      isPacedByGeneration: options.isPacedByGeneration ?? false,
      permit: options.requireStepping === true ? (signal) => this.#steps.take(signal) : undefined,
      isClosing: () => this.#isClosing,
      onStream: (change) => {
        this.#openStreams += change;
      },
    };
    this.#server = createServer((request, response) => {
      this.#exchanges.push(this.#accept(request, response));
    });
    // An agent may keep a connection idle for long, and a test may hold a request open; neither is this server's to end.
    this.#server.keepAliveTimeout = 600_000;
    this.#server.requestTimeout = 0;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get aborted(): number {
    return this.requests.filter(({ state }) => state === "aborted").length;
  }

  get openStreams(): number {
    return this.#openStreams;
  }

  get bytesWritten(): number {
    return this.requests.reduce((sum, request) => sum + request.bytesWritten, 0);
  }

  async listen(port: number): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(port, "127.0.0.1", resolve);
    });
  }

  next(behaviour: Behaviour, match?: RequestMatch): void {
    this.#behaviours.next(behaviour, match);
  }

  always(behaviour: BehaviourChoice | undefined): void {
    this.#behaviours.always(behaviour);
  }

  step(events = 1): void {
    this.#steps.allow(events);
  }

  get batchIds(): readonly string[] {
    return this.#batches.ids;
  }

  endBatch(batchId: string, outcomeOf: (customId: string, index: number) => BatchOutcome = () => "succeeded"): void {
    this.#batches.end(batchId, outcomeOf);
  }

  async arrived(index: number): Promise<SimulatedRequest> {
    for (;;) {
      const request = this.requests[index];
      if (request !== undefined && this.#arrived.has(request)) return request;
      await new Promise<void>((resolve) => this.#onArrival.push(resolve));
    }
  }

  async ended(index: number): Promise<SimulatedRequest> {
    const request = await this.arrived(index);
    await this.#exchanges[index];
    return request;
  }

  async idle(): Promise<void> {
    // Requests that arrive while the others end are waited for too.
    for (let seen = 0; seen < this.#exchanges.length;) {
      seen = this.#exchanges.length;
      await Promise.all(this.#exchanges);
    }
  }

  close(): Promise<void> {
    return (this.#closed ??= this.#closeOnce());
  }

  async #closeOnce(): Promise<void> {
    this.#isClosing = true;
    const freed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeAllConnections();
    await freed;
    await this.idle();
  }

  async #accept(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const request = this.#note(incoming);
    const goneSignal = watch(response);
    const body = await readBody(incoming, goneSignal);
    this.#arrived.add(request);
    for (const resolve of this.#onArrival.splice(0)) resolve();
    if (body === "left") {
      request.state = this.#isClosing ? "closed" : "aborted";
      return;
    }
    if (body === "too_large") {
      refuseTooLarge(request, response);
      return;
    }
    request.body = body;
    request.json = readJson(body, incoming.headers["content-encoding"] ?? "");
    await serve({ shared: this.#shared, request, response, goneSignal });
  }

  #note(incoming: IncomingMessage): OpenRequest {
    const path = incoming.url ?? "/";
    const request: OpenRequest = {
      requestId: `req_sim${String(this.requests.length + 1).padStart(8, "0")}`,
      method: incoming.method ?? "",
      path,
      pathname: path.split("?", 1)[0] ?? "",
      headers: incoming.headers,
      rawHeaders: incoming.rawHeaders,
      atMs: this.#shared.now(),
      body: Buffer.alloc(0),
      json: undefined,
      status: undefined,
      bytesWritten: 0,
      eventsWritten: 0,
      state: "open",
    };
    this.requests.push(request);
    return request;
  }
}
