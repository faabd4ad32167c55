/**
 * Owns the thread with the only writing connection of this process: batches run one after the other, each as large as what came in
 * while the last one was written, so that they grow under load.
 * Does not own what a batch does (batch.ts).
 * Invariant: every piece of work is answered once, and only after its commit or with an error.
 */
import { parentPort, receiveMessageOnPort, workerData, type MessagePort } from "node:worker_threads";
import { LedgerUnavailableError } from "../ledger.ts";
import { Batches } from "./batch.ts";
import { isBusy, isLocal, isSqlite, unavailableFrom } from "./errors.ts";
import { openFile, openingErrorFrom } from "./file.ts";
import {
  doneWith,
  writeError,
  type Answer,
  type Asked,
  type FromThread,
  type ThreadData,
  type ToThread,
  type Work,
} from "./messages.ts";

/** Between two tries for a lock that another process holds. */
const RETRY_MS_MIN = 1;
const RETRY_MS_MAX = 4;
/** After a commit, where others are registered: at least one of their tries falls into it. */
const PAUSE_MS = 2;
/** A process that is not registered yet gets its turn within this, however busy this one is. */
const WITHOUT_PAUSE_MS_MAX = 50;

/** So long after the last batch what is left is done: nobody is waiting then, and readers find it folded. */
const IDLE_MS = 20;

const port: MessagePort = portOfParent();
const data = workerData as ThreadData;
const waiting: Asked<Work>[] = [];
let isClosing = false;
let isRunning = false;
let pausedAtMs = performance.now();
let jitter = data.seed;

function portOfParent(): MessagePort {
  if (parentPort === null) throw new Error("the ledger's writer runs in a thread of its own");
  return parentPort;
}

function tell(message: FromThread): void {
  port.postMessage(message);
}

function accept(message: ToThread<Work>): void {
  if (message.kind === "close") isClosing = true;
  else message.ids.forEach((id, index) => waiting.push({ id, what: message.whats[index] ?? "" }));
}

/** Takes what arrived while the last batch was written, without waiting for the event loop. */
function drain(): void {
  for (let message = receiveMessageOnPort(port); message !== undefined; message = receiveMessageOnPort(port)) {
    accept(message.message as ToThread<Work>);
  }
}

/** A linear congruential step (Numerical Recipes): jitter needs no more, and the seed makes it repeatable. */
function nextRetryMs(): number {
  jitter = (Math.imul(jitter, 1_664_525) + 1_013_904_223) >>> 0;
  return RETRY_MS_MIN + (jitter / 2 ** 32) * (RETRY_MS_MAX - RETRY_MS_MIN);
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms);
  });
}

/** Tries until the lock is free. @throws LedgerUnavailableError after the time a caller may be kept waiting. */
async function withLock<T>(attempt: () => T): Promise<T> {
  const untilMs = performance.now() + data.lockWaitMs;
  for (;;) {
    try {
      return attempt();
    } catch (error) {
      if (!isBusy(error)) throw error;
      if (performance.now() > untilMs) {
        throw new LedgerUnavailableError(
          `ledger ${data.path}: another program held its lock for ${data.lockWaitMs} ms; nothing was written`,
          { cause: error },
        );
      }
    }
    await pause(nextRetryMs());
  }
}

async function open(): Promise<Batches> {
  const db = await withLock(() => openFile(data));
  process.once("exit", () => db.close());
  closeFile = () => db.close();
  return new Batches(db, data.path, () => performance.now());
}

let closeFile = (): void => undefined;

/** Answers what can be answered without a transaction. */
function answerRevisions(batches: Batches): void {
  const asked = waiting.filter(isRevision);
  if (asked.length === 0) return;
  const value = batches.revision();
  waiting.splice(0, waiting.length, ...waiting.filter((one) => !isRevision(one)));
  tell(doneWith(asked.map(({ id }) => ({ id, isOk: true, value }))));
}

function isRevision({ what }: Asked<Work>): boolean {
  return typeof what !== "string" && what.kind === "revision";
}

async function runBatch(batches: Batches): Promise<void> {
  const answers = await withLock(() => {
    drain();
    const result = batches.run(waiting);
    waiting.splice(0, result.taken);
    return result.answers;
  }).catch((error: unknown): Answer[] => {
    const failure = writeError(unavailableFrom(data.path, error));
    return waiting.splice(0, waiting.length).map(({ id }) => ({ id, isOk: false, error: failure }));
  });
  tell(doneWith(answers));
}

async function run(batches: Batches): Promise<void> {
  if (isRunning) return;
  isRunning = true;
  for (;;) {
    drain();
    answerRevisions(batches);
    if (waiting.length === 0) break;
    await runBatch(batches);
    // Whom the batch answered does not wait for it.
    if (batches.isFoldDue) foldQuietly(batches);
    const isOthersTurn = batches.ownerCount > 1 || performance.now() - pausedAtMs > WITHOUT_PAUSE_MS_MAX;
    if (isOthersTurn && waiting.length > 0) {
      await pause(PAUSE_MS);
      pausedAtMs = performance.now();
    }
  }
  isRunning = false;
  if (isClosing) await close(batches);
  else restSoon(batches);
}

let idleTimer: NodeJS.Timeout | undefined;
let lastBatchAtMs = 0;

/** One timer for many batches: setting one anew with each of them costs more than now and then looking too early. */
function restSoon(batches: Batches): void {
  lastBatchAtMs = performance.now();
  idleTimer ??= setTimeout(() => rest(batches), IDLE_MS);
}

function rest(batches: Batches): void {
  idleTimer = undefined;
  if (isRunning) return;
  const leftMs = lastBatchAtMs + IDLE_MS - performance.now();
  if (leftMs > 0) idleTimer = setTimeout(() => rest(batches), leftMs);
  else {
    batches.rest();
    foldQuietly(batches);
  }
}

/** What cannot be folded now is folded with a later batch: the entries say it all. */
function foldQuietly(batches: Batches): void {
  if (!batches.isUnfolded) return;
  try {
    batches.fold();
  } catch (error) {
    if (!isSqlite(error) && !isLocal(error)) throw error;
  }
}

async function close(batches: Batches): Promise<void> {
  clearTimeout(idleTimer);
  if (batches.isUnfolded) await withLock(() => batches.fold()).catch(() => undefined);
  batches.end();
  closeFile();
  tell({ kind: "closed" });
  port.close();
}

try {
  const batches = await open();
  port.on("message", (message: ToThread<Work>) => {
    accept(message);
    void run(batches);
  });
  tell({ kind: "ready" });
} catch (error) {
  closeFile();
  tell({ kind: "failed", error: writeError(openingErrorFrom(data.path, error)) });
  port.close();
}
