/**
 * Owns that batches are settled although nobody fetches their results: looking after every one that is open, whoever handed it in.
 * Does not own what a result is settled at (engine/batch-results.ts) or requests about batches (batches.ts).
 * Invariants: a caller's own credential is kept in memory only, and shown only to the provider it was shown to; a batch whose results
 * cannot be had counts at its bound once its day is over, and its results are still taken when they come.
 */
import type { BatchResults } from "../engine/batch-results.ts";
import type { Clock, Notifier } from "../engine/ports.ts";
import { isLedgerUnavailable } from "../engine/refusing.ts";
import { SPEAKERS, type ProviderName } from "../exchange/apis.ts";
import { BATCH_PROTOCOLS } from "../exchange/batch-protocols.ts";
import type { BatchRecord, Ledger } from "../ledger/ledger.ts";
import type { BatchProtocol } from "../providers/provider.ts";
import type { Account } from "./server.ts";
import type { UpstreamAnswer } from "./upstream.ts";

const HOUR_MS = 3_600_000;
/** A batch is over 24 hours after it was made; its results are there soon after. */
export const BATCH_EXPIRES_MS = 25 * HOUR_MS;
/** The provider keeps results for 29 days. */
export const BATCH_FORGOTTEN_MS = 30 * 24 * HOUR_MS;
const TICK_MS = 5_000;
/** A batch is asked for again after a tenth of its age, within these. */
const LOOK_MS = { min: 5_000, max: 60_000 };
/** An answer of one batch; results may take longer. */
const STATE_MS_MAX = 60_000;
const RESULTS_MS_MAX = 600_000;
const STATE_BYTES_MAX = 1_048_576;
/** So many callers' credentials are remembered; the one not seen longest is forgotten first. */
const CREDENTIALS_MAX = 10_000;
/** What of a request says who asks, and in which version. */
const WHO = /^(x-api-key|authorization|anthropic-.*)$/i;

export interface BatchKeeper {
  /** Somebody who may read this batch asked for it. */
  remember(batchId: string, headers: readonly string[]): void;
  /** Looks at a batch soon, whenever it was due. */
  hurry(batch: BatchRecord): void;
  /** Reads its results and settles them. False: they cannot be had now. */
  settle(batch: BatchRecord, headers: readonly string[]): Promise<boolean>;
  close(): Promise<void>;
}

export interface BatchKeeperOptions {
  ledger: Ledger;
  results: BatchResults;
  accounts: Readonly<Record<ProviderName, Account>>;
  clock: Clock;
  notifier: Notifier;
}

export function keepBatches(options: BatchKeeperOptions): BatchKeeper {
  const { ledger, results, accounts, clock, notifier } = options;
  /** By the provider's name of a batch; insertion order is the order of use. */
  const credentials = new Map<string, readonly string[]>();
  const dueAtMs = new Map<string, number>();
  const givenUp = new Set<string>();
  let isClosed = false;
  let forgetAtMs = 0;
  let cancelTimer = (): void => undefined;
  let looking: Promise<void> = Promise.resolve();

  async function tick(): Promise<void> {
    try {
      for (const batch of await ledger.batches({ isOpen: true })) if (!isClosed) await lookAfter(batch);
      if (clock.nowMs() >= forgetAtMs) await forgetOld();
    } catch (error) {
      if (!isLedgerUnavailable(error)) tell(error);
    }
    if (!isClosed) schedule(TICK_MS);
  }

  function schedule(waitMs: number): void {
    cancelTimer();
    cancelTimer = clock.after(waitMs, () => void (looking = tick()), true);
  }

  function tell(error: unknown): void {
    notifier.warn("internal_error", { message: error instanceof Error ? (error.stack ?? error.message) : "not an Error" });
  }

  async function lookAfter(batch: BatchRecord): Promise<void> {
    const { submissionId, submittedAtMs } = batch;
    const ageMs = clock.nowMs() - submittedAtMs;
    if ((dueAtMs.get(submissionId) ?? 0) > clock.nowMs()) return;
    dueAtMs.set(submissionId, clock.nowMs() + Math.min(LOOK_MS.max, Math.max(LOOK_MS.min, ageMs / 10)));
    if (await isSettled(batch)) dueAtMs.delete(submissionId);
    else if (ageMs > BATCH_EXPIRES_MS) await giveUp(batch);
  }

  async function forgetOld(): Promise<void> {
    forgetAtMs = clock.nowMs() + HOUR_MS;
    for (const { submissionId, submittedAtMs } of await ledger.batches()) {
      if (clock.nowMs() - submittedAtMs > BATCH_FORGOTTEN_MS) await ledger.removeBatch(submissionId);
    }
  }

  async function giveUp(batch: BatchRecord): Promise<void> {
    if (givenUp.has(batch.submissionId)) return;
    const reason = batch.batchId === undefined ? "whether it was taken was never known" : "its results could not be read";
    await results.expire(batch, `a batch that is over its time: ${reason}`);
    givenUp.add(batch.submissionId);
  }

  async function isSettled(batch: BatchRecord): Promise<boolean> {
    const headers = headersFor(batch);
    const protocol = protocolOf(batch);
    if (batch.batchId === undefined || headers === undefined || protocol === undefined) return false;
    const account = accounts[batch.provider as ProviderName];
    const path = protocol.pathOf(batch.batchId);
    try {
      const { status, body } = await within(account, { path, headers, msMax: STATE_MS_MAX }, readSmall);
      return status === 200 && protocol.readState(body)?.isEnded === true && (await settle(batch, headers));
    } catch (error) {
      if (isLedgerUnavailable(error)) throw error;
      notifier.warn("batch_unreachable", { batchId: batch.batchId, reason: error instanceof Error ? error.message : "unknown" });
      return false;
    }
  }

  async function settle(batch: BatchRecord, headers: readonly string[]): Promise<boolean> {
    const protocol = protocolOf(batch);
    if (batch.batchId === undefined || protocol === undefined) return false;
    const account = accounts[batch.provider as ProviderName];
    const path = protocol.resultsPathOf(batch.batchId);
    return within(account, { path, headers, msMax: RESULTS_MS_MAX }, async ({ status, body }) => {
      if (status !== 200) return false;
      const collector = results.collect(batch, protocol);
      await body.read((chunk) => collector.push(chunk));
      await collector.end(true);
      return true;
    });
  }

  /** The gateway's own where a virtual key was used; otherwise the caller's, as long as this process knows it. */
  function headersFor({ keyId, batchId, provider }: BatchRecord): readonly string[] | undefined {
    if (keyId === undefined) return credentials.get(batchId ?? "");
    const { key } = accounts[provider as ProviderName];
    if (key === undefined) return undefined;
    const { headers = [] } = BATCH_PROTOCOLS[provider as ProviderName] ?? {};
    return [...SPEAKERS[provider as ProviderName].credentialHeader(key), ...headers];
  }

  looking = tick();
  return {
    settle,
    remember(batchId, headers) {
      credentials.delete(batchId);
      credentials.set(batchId, whoOf(headers));
      const [oldest] = credentials.keys();
      if (credentials.size > CREDENTIALS_MAX && oldest !== undefined) credentials.delete(oldest);
    },
    hurry({ submissionId }) {
      dueAtMs.delete(submissionId);
      if (!isClosed) schedule(0);
    },
    async close() {
      isClosed = true;
      cancelTimer();
      await looking;
    },
  };

  /** Asks, and gives up when it takes too long or the gateway ends. */
  async function within<T>(
    { upstream }: Account,
    { path, headers, msMax }: { path: string; headers: readonly string[]; msMax: number },
    read: (answer: UpstreamAnswer) => Promise<T>,
  ): Promise<T> {
    const sent = upstream.send({ method: "GET", path, headers: [...headers, "accept-encoding", "identity"], body: undefined });
    const cancel = clock.after(msMax, () => sent.abort(), true);
    try {
      return await read(await sent.answer);
    } finally {
      cancel();
      sent.abort();
    }
  }
}

function protocolOf({ provider }: BatchRecord): BatchProtocol | undefined {
  return BATCH_PROTOCOLS[provider as ProviderName];
}

function whoOf(headers: readonly string[]): string[] {
  const who: string[] = [];
  for (let index = 0; index < headers.length; index += 2) {
    const name = headers[index] ?? "";
    if (WHO.test(name)) who.push(name, headers[index + 1] ?? "");
  }
  return who;
}

async function readSmall({ status, body }: UpstreamAnswer): Promise<{ status: number; body: Uint8Array }> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  await body.read((chunk) => {
    bytes += chunk.length;
    if (bytes <= STATE_BYTES_MAX) chunks.push(chunk);
    return undefined;
  });
  return { status, body: Buffer.concat(chunks) };
}
