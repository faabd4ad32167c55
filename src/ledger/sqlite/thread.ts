/**
 * Owns one thread of the ledger as seen from the outside: what is asked in one turn of the event loop goes over in one message,
 * and every question is answered, also if the thread dies.
 */
import { Worker } from "node:worker_threads";
import { LedgerUnavailableError } from "../ledger.ts";
import { readError, writeError, type Asked, type FromThread, type ThreadData, type ToThread } from "./messages.ts";

type Done = Extract<FromThread, { kind: "done" }>;

/** Counts what is unanswered of one message. */
interface Message {
  left: number;
}

interface Pending {
  askedAtMs: number;
  message: Message | undefined;
  resolve: (value: unknown) => void;
  reject: (error: Error) => void;
}

/** Messages on their way at once: one is worked on, the next is there when it is done, and everything else gathers in a third. */
const MESSAGES_IN_FLIGHT_MAX = 2;

export class Thread<Of> {
  readonly #file: URL;
  readonly #data: ThreadData;
  readonly #isBackground: boolean;
  readonly #pending = new Map<number, Pending>();
  readonly #inFlight = new Set<Message>();
  #gathered: Asked<Of>[] = [];
  #isSendingSoon = false;
  #worker: Worker | undefined;
  #starting: Promise<Worker> | undefined;
  #closed: Promise<void> | undefined;
  #lastId = 0;

  /**
   * @param file the thread's own file.
   * @param isBackground true: it keeps the process from ending only while something is asked of it.
   */
  constructor(file: URL, data: ThreadData, isBackground: boolean) {
    this.#isBackground = isBackground;
    this.#file = file;
    this.#data = data;
  }

  /** Starts the thread. @throws the error that kept it from opening the file. */
  async start(): Promise<void> {
    await this.#running();
  }

  /** Asks one thing. A thread that died is started again by the next question. */
  ask(what: Of): Promise<unknown> {
    if (this.#closed !== undefined) {
      return Promise.reject(new LedgerUnavailableError(`ledger ${this.#data.path} is closed`));
    }
    return this.#worker === undefined ? this.#running().then(() => this.#gather(what)) : this.#gather(what);
  }

  #gather(what: Of): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const id = (this.#lastId += 1);
      this.#pending.set(id, { askedAtMs: performance.now(), message: undefined, resolve, reject });
      this.#gathered.push({ id, what });
      this.#sendSoon();
    });
  }

  /** For how long the first question that is not answered yet has waited (ms); 0: there is none. */
  waitedMs(): number {
    // Questions stand in the order in which they were asked.
    for (const { askedAtMs } of this.#pending.values()) return performance.now() - askedAtMs;
    return 0;
  }

  /** Ends the thread once everything asked before is answered. */
  async close(): Promise<void> {
    this.#closed ??= this.#end();
    await this.#closed;
  }

  async #end(): Promise<void> {
    await this.#starting?.catch(() => undefined);
    const worker = this.#worker;
    if (worker === undefined) return;
    this.#send(true);
    worker.ref();
    const hasExited = new Promise<void>((resolve) => {
      worker.once("exit", () => resolve());
    });
    worker.postMessage({ kind: "close" } satisfies ToThread<Of>, []);
    await hasExited;
  }

  #running(): Promise<Worker> {
    this.#starting ??= this.#startWorker().finally(() => {
      this.#starting = undefined;
    });
    return this.#starting;
  }

  async #startWorker(): Promise<Worker> {
    const worker = new Worker(this.#file, { workerData: this.#data });
    await new Promise<void>((resolve, reject) => {
      let failure = new Error("the ledger's thread ended before it was ready");
      worker.on("message", (message: FromThread) => {
        if (message.kind === "ready") resolve();
        if (message.kind === "failed") failure = readError(message.error);
        if (message.kind === "done") this.#settle(message);
      });
      worker.on("error", (error: Error) => {
        failure = error;
      });
      worker.on("exit", () => {
        reject(failure);
        this.#fail(failure);
      });
    });
    this.#worker = worker;
    this.#letGoIfIdle();
    return worker;
  }

  #settle({ ids, values, failures }: Done): void {
    ids.forEach((id, index) => this.#take(id)?.resolve(values[index]));
    for (const { id, error } of failures) this.#take(id)?.reject(readError(error));
    if (this.#gathered.length > 0) this.#sendSoon();
    this.#letGoIfIdle();
  }

  /** What is gathered holds the process by itself, until it is sent. */
  #letGoIfIdle(): void {
    if (this.#isBackground && this.#inFlight.size === 0) this.#worker?.unref();
  }

  #take(id: number): Pending | undefined {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    const message = pending?.message;
    if (message !== undefined && (message.left -= 1) === 0) this.#inFlight.delete(message);
    return pending;
  }

  /** The thread is gone: whether what it was working on happened is unknown. */
  #fail(cause: Error): void {
    this.#worker = undefined;
    this.#inFlight.clear();
    this.#gathered = [];
    const lost = [...this.#pending.values()];
    this.#pending.clear();
    const error = new LedgerUnavailableError(`ledger ${this.#data.path}: its thread ended: ${cause.message}`, { cause });
    for (const { reject } of lost) reject(error);
  }

  /** At the end of this turn of the event loop, so that everything it asks for goes over together. */
  #sendSoon(): void {
    if (this.#isSendingSoon) return;
    this.#isSendingSoon = true;
    setImmediate(() => {
      this.#isSendingSoon = false;
      this.#send(false);
    });
  }

  #send(isLast: boolean): void {
    const worker = this.#worker;
    if (worker === undefined || this.#gathered.length === 0) return;
    if (!isLast && this.#inFlight.size >= MESSAGES_IN_FLIGHT_MAX) return;
    const asked = this.#gathered;
    this.#gathered = [];
    this.#post(worker, asked);
  }

  #post(worker: Worker, asked: Asked<Of>[]): void {
    const ids = asked.map(({ id }) => id);
    try {
      worker.postMessage({ kind: "do", ids, whats: asked.map(({ what }) => what) } satisfies ToThread<Of>, []);
    } catch (error) {
      // Something that cannot be cloned, such as a function, was handed in: a mistake of one caller, which the others do not share.
      if (asked.length > 1) for (const one of asked) this.#post(worker, [one]);
      else ids.forEach((id) => this.#take(id)?.reject(new RangeError(writeError(error).message)));
      return;
    }
    const message = { left: ids.length };
    this.#inFlight.add(message);
    if (this.#isBackground) worker.ref();
    for (const id of ids) {
      const pending = this.#pending.get(id);
      if (pending !== undefined) pending.message = message;
    }
  }
}
