/**
 * The load generator on bare sockets: a command a line on standard input, an answer in JSON a line on standard output.
 *
 *   closed PORT CONNECTIONS MS FILE BYTES   each connection sends the next request when the last is answered
 *   open PORT RATE MS FILE BYTES            so many requests a second, whether or not earlier ones are answered
 *
 * Every answer is checked: status 200 and BYTES bytes of payload. The first that differs ends the process.
 */
import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { inspect } from "node:util";
import { Message } from "./message.ts";
import { SESSION, STAMP, STAMP_DIGITS } from "./traffic.ts";

export interface LoadResult {
  calls: number;
  elapsedMs: number;
  p50Us: number;
  p99Us: number;
  /** Of this process. */
  cpuUs: number;
  /** From the request to the first byte of the payload; only of `open`. */
  firstByteP50Us?: number;
  firstByteP99Us?: number;
  /** From an event's sending to its arrival, where events are stamped; only of `open`. */
  eventP50Us?: number;
  eventP99Us?: number;
  /** How much later than planned requests were sent, at worst; only of `open`. */
  lateMsMax?: number;
}

interface Answer {
  status: number;
  /** Status line and headers. */
  head: string;
  payloadBytes: number;
  sentMs: number;
  firstByteMs: number;
  endMs: number;
}

/** One keep-alive connection with at most one request on its way. */
export class Connection {
  readonly #socket: Socket;
  readonly #eventsUs: number[] | undefined;
  #message = new Message();
  #sentMs = 0;
  #firstByteMs = 0;
  #done: ((answer: Answer) => void) | undefined;
  #failed: ((error: Error) => void) | undefined;

  readonly #onFirstByte: (() => void) | undefined;

  constructor(port: number, eventsUs?: number[], onFirstByte?: () => void) {
    this.#eventsUs = eventsUs;
    this.#onFirstByte = onFirstByte;
    this.#socket = connect({
      port,
      host: "127.0.0.1",
      noDelay: true,
      onread: {
        buffer: Buffer.allocUnsafe(65_536),
        callback: (bytes, buffer) => {
          this.#take(Buffer.from(buffer.buffer, buffer.byteOffset, bytes));
          return true;
        },
      },
    });
    this.#socket.on("error", (error) => this.#failed?.(error));
    this.#socket.on("close", () => this.#failed?.(new Error("the connection was closed before its answer")));
  }

  /** Resolves once it is connected. */
  get opened(): Promise<void> {
    return this.#socket.connecting ? new Promise((resolve) => this.#socket.once("connect", () => resolve())) : Promise.resolve();
  }

  get isOpen(): boolean {
    return !this.#socket.destroyed && this.#socket.writable;
  }

  send(request: Buffer): Promise<Answer> {
    return new Promise((resolve, reject) => {
      this.#done = resolve;
      this.#failed = reject;
      this.#message = new Message();
      this.#firstByteMs = 0;
      this.#sentMs = performance.now();
      if (this.#socket.destroyed) return reject(new Error("the connection was closed before its request"));
      this.#socket.write(request);
    });
  }

  close(): void {
    this.#failed = undefined;
    this.#socket.destroy();
  }

  #take(data: Buffer): void {
    const isWhole = this.#message.take(data, (part) => {
      if (this.#firstByteMs === 0) {
        this.#firstByteMs = performance.now();
        this.#onFirstByte?.();
      }
      if (this.#eventsUs !== undefined) noteEvents(part, this.#eventsUs);
    });
    if (!isWhole) return;
    const { head, payloadBytes } = this.#message;
    const answer = {
      status: Number(head.slice(9, 12)),
      head,
      payloadBytes,
      sentMs: this.#sentMs,
      firstByteMs: this.#firstByteMs,
      endMs: performance.now(),
    };
    this.#failed = undefined;
    this.#done?.(answer);
  }
}

function noteEvents(part: Buffer, eventsUs: number[]): void {
  const nowNs = process.hrtime.bigint();
  for (let at = part.indexOf(STAMP); at >= 0; at = part.indexOf(STAMP, at + STAMP_DIGITS)) {
    const sentNs = BigInt(part.toString("latin1", at + STAMP.length, at + STAMP.length + STAMP_DIGITS));
    if (sentNs > 0n) eventsUs.push(Number(nowNs - sentNs) / 1_000);
  }
}

/** The request of one connection: a session of its own. */
export function forConnection(request: Buffer, index: number): Buffer {
  const own = Buffer.from(request);
  const at = own.indexOf(SESSION);
  if (at >= 0) own.write(String(index % 10_000).padStart(4, "0"), at + SESSION.length - 4, "latin1");
  return own;
}

export function percentile(values: readonly number[], share: number): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length * share)] ?? Number.NaN;
}

interface Job {
  port: number;
  /** Connections, or requests a second. */
  count: number;
  ms: number;
  request: Buffer;
  payloadBytes: number;
}

function check({ status, payloadBytes }: Answer, job: Job): void {
  if (status !== 200) throw new Error(`port ${job.port} answered ${status}`);
  if (payloadBytes !== job.payloadBytes)
    throw new Error(`port ${job.port}: ${payloadBytes} bytes arrived of ${job.payloadBytes}`);
}

async function closedLoop(job: Job): Promise<LoadResult> {
  const latenciesUs: number[] = [];
  const cpu = process.cpuUsage();
  const startedMs = performance.now();
  const untilMs = startedMs + job.ms;
  const run = async (index: number): Promise<void> => {
    const connection = new Connection(job.port);
    const request = forConnection(job.request, index);
    do {
      const answer = await connection.send(request);
      check(answer, job);
      latenciesUs.push((answer.endMs - answer.sentMs) * 1_000);
    } while (performance.now() < untilMs);
    connection.close();
  };
  await Promise.all(Array.from({ length: job.count }, (_, index) => run(index)));
  const elapsedMs = performance.now() - startedMs;
  const { user, system } = process.cpuUsage(cpu);
  const calls = latenciesUs.length;
  return { calls, elapsedMs, p50Us: percentile(latenciesUs, 0.5), p99Us: percentile(latenciesUs, 0.99), cpuUs: user + system };
}

async function openLoop(job: Job): Promise<LoadResult> {
  const eventsUs: number[] = [];
  const answers: Answer[] = [];
  const idle: Connection[] = [];
  const running = new Set<Promise<void>>();
  const all: Connection[] = [];
  const cpu = process.cpuUsage();
  const startedMs = performance.now();
  const total = Math.round((job.count * job.ms) / 1_000);
  let lateMsMax = 0;
  const failures: unknown[] = [];
  const call = async (index: number): Promise<void> => {
    let connection = idle.pop();
    if (connection === undefined) all.push((connection = new Connection(job.port, eventsUs)));
    const answer = await connection.send(forConnection(job.request, index % 64));
    check(answer, job);
    answers.push(answer);
    idle.push(connection);
  };
  for (let index = 0; index < total && failures.length === 0; index += 1) {
    const dueMs = startedMs + (index * 1_000) / job.count;
    const waitMs = dueMs - performance.now();
    if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
    lateMsMax = Math.max(lateMsMax, performance.now() - dueMs);
    const one: Promise<void> = call(index)
      .catch((error: unknown) => failures.push(error))
      .then(() => void running.delete(one));
    running.add(one);
  }
  await Promise.all(running);
  if (failures.length > 0) throw new Error("a call failed", { cause: failures[0] });
  for (const connection of all) connection.close();
  const { user, system } = process.cpuUsage(cpu);
  const latenciesUs = answers.map(({ sentMs, endMs }) => (endMs - sentMs) * 1_000);
  const firstUs = answers.map(({ sentMs, firstByteMs }) => (firstByteMs - sentMs) * 1_000);
  return {
    calls: answers.length,
    elapsedMs: performance.now() - startedMs,
    p50Us: percentile(latenciesUs, 0.5),
    p99Us: percentile(latenciesUs, 0.99),
    cpuUs: user + system,
    firstByteP50Us: percentile(firstUs, 0.5),
    firstByteP99Us: percentile(firstUs, 0.99),
    ...(eventsUs.length > 0 ? { eventP50Us: percentile(eventsUs, 0.5), eventP99Us: percentile(eventsUs, 0.99) } : {}),
    lateMsMax,
  };
}

if (process.argv[1] === import.meta.filename) {
  createInterface({ input: process.stdin }).on("line", (line) => {
    const [kind, port, count, ms, file = "", payloadBytes] = line.split(" ");
    const job = {
      port: Number(port),
      count: Number(count),
      ms: Number(ms),
      request: readFileSync(file),
      payloadBytes: Number(payloadBytes),
    };
    (kind === "open" ? openLoop(job) : closedLoop(job)).then(
      (result) => process.stdout.write(`${JSON.stringify(result)}\n`),
      (error: unknown) => {
        process.stderr.write(`load: ${inspect(error)}\n`);
        process.exit(1);
      },
    );
  });
  process.stdin.on("end", () => process.exit(0));
}
