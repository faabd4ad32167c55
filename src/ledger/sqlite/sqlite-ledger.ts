/**
 * Owns the ledger in one SQLite file, as the event loop sees it: three threads, one that writes, two that read.
 * Does not own what they do (writer.ts, reader.ts) or the rules (core/decisions).
 * Invariant: nothing here waits for a lock, a disk or a long query.
 */
import { resolve } from "node:path";
import type { Limit } from "../../core/limits/limit.ts";
import type { ScopeState } from "../../core/decisions/counters.ts";
import type { Alert } from "../../core/decisions/alerts.ts";
import type { OpenCall, Operation } from "../../core/decisions/operations.ts";
import { assertOperation } from "../check-operation.ts";
import type {
  BatchesQuery,
  BatchRecord,
  CallRecord,
  CallsQuery,
  Ledger,
  Owner,
  ReportGroup,
  ReportQuery,
  ResultOf,
  VirtualKey,
} from "../ledger.ts";
import type { Query, ThreadData, Work } from "./messages.ts";
import { operationsToText, resultsFromText } from "./operation-text.ts";
import { Thread } from "./thread.ts";

/** How a ledger file is opened. */
export interface OpenSqliteLedgerInput {
  /** The file; it and its folder are created if they are missing. */
  path: string;
  /** A whole number that the jitter of lock retries starts from. @defaultValue the process id: different in every process */
  seed?: number;
  /** How long a caller is kept waiting while another process holds the lock, in milliseconds. @defaultValue 5,000: as long as clients wait before they try again */
  lockWaitMs?: number;
  /** The most pages of 4,096 bytes the file may grow to. @defaultValue SQLite's own limit, far above any disk */
  pagesMax?: number;
  /** True: the ledger's threads keep the process from ending only while something is asked of them. @defaultValue false */
  isBackground?: boolean;
}

/**
 * Opens a ledger file.
 *
 * @throws {@link LedgerUnusableError} if it is damaged, no ledger, from a newer version, or cannot be created there;
 * {@link LedgerUnavailableError} if another program holds its lock.
 */
export async function openSqliteLedger(input: OpenSqliteLedgerInput): Promise<Ledger> {
  const { path, seed = process.pid, lockWaitMs = 5_000, pagesMax, isBackground = false } = input;
  const data: ThreadData = { path: resolve(path), pagesMax, seed, lockWaitMs };
  const writer = new Thread<Work>(threadFile("writer"), data, isBackground);
  await writer.start();
  // Reading threads start with the first query: many a process only writes.
  const reader = (): Thread<Query> => new Thread<Query>(threadFile("reader"), data, isBackground);
  return new SqliteLedger({ writer, quick: reader(), slow: reader() });
}

/** The thread's file beside this one: TypeScript when run from the sources, JavaScript when built. */
function threadFile(name: "writer" | "reader"): URL {
  return new URL(import.meta.url.endsWith(".ts") ? `./${name}.ts` : `./${name}.js`, import.meta.url);
}

interface Threads {
  writer: Thread<Work>;
  /** Answers what a running gateway asks: owners, open calls, keys. */
  quick: Thread<Query>;
  /** Answers what people ask, and may take seconds: a key that was revoked must not wait for a report. */
  slow: Thread<Query>;
}

class SqliteLedger implements Ledger {
  readonly #writer: Thread<Work>;
  readonly #quick: Thread<Query>;
  readonly #slow: Thread<Query>;

  constructor({ writer, quick, slow }: Threads) {
    this.#writer = writer;
    this.#quick = quick;
    this.#slow = slow;
  }

  async apply<const O extends Operation>(operations: readonly O[]): Promise<ResultOf<O>[]> {
    for (const operation of operations) assertOperation(operation);
    const answer = await this.#writer.ask(operationsToText(operations));
    return resultsFromText(answer as string, operations) as ResultOf<O>[];
  }
  async configure(rules: Parameters<Ledger["configure"]>[0]): Promise<void> {
    await this.#writer.ask({ kind: "configure", rules });
  }

  async beat(owner: Owner): Promise<void> {
    await this.#writer.ask({ kind: "beat", owner });
  }
  async owners(): Promise<Owner[]> {
    return (await this.#quick.ask({ kind: "owners" })) as Owner[];
  }
  async removeOwner(ownerId: string): Promise<void> {
    await this.#writer.ask({ kind: "removeOwner", ownerId });
  }
  async openCalls(ownerId?: string): Promise<OpenCall[]> {
    return (await this.#quick.ask({ kind: "openCalls", ownerId })) as OpenCall[];
  }

  async calls(query: CallsQuery): Promise<CallRecord[]> {
    return (await this.#slow.ask({ kind: "calls", query })) as CallRecord[];
  }
  async report(query: ReportQuery): Promise<ReportGroup[]> {
    return (await this.#slow.ask({ kind: "report", query })) as ReportGroup[];
  }
  async scopeStates(): Promise<Map<string, ScopeState>> {
    return (await this.#slow.ask({ kind: "scopeStates" })) as Map<string, ScopeState>;
  }
  async alerts({ limit }: { limit: number }): Promise<Alert[]> {
    return (await this.#slow.ask({ kind: "alerts", limit })) as Alert[];
  }

  async addBatch(batch: BatchRecord): Promise<boolean> {
    return (await this.#writer.ask({ kind: "addBatch", batch })) as boolean;
  }
  async updateBatch(batch: BatchRecord): Promise<void> {
    await this.#writer.ask({ kind: "updateBatch", batch });
  }
  async removeBatch(submissionId: string): Promise<void> {
    await this.#writer.ask({ kind: "removeBatch", submissionId });
  }
  async batches(query: BatchesQuery = {}): Promise<BatchRecord[]> {
    return (await this.#quick.ask({ kind: "batches", query })) as BatchRecord[];
  }

  async createKey(key: VirtualKey): Promise<void> {
    await this.#writer.ask({ kind: "createKey", key });
  }
  async limits(): Promise<readonly Limit[]> {
    return (await this.#quick.ask({ kind: "limits" })) as Limit[];
  }
  async keys(): Promise<VirtualKey[]> {
    return (await this.#quick.ask({ kind: "keys" })) as VirtualKey[];
  }
  async revokeKey({ keyId, atMs }: { keyId: string; atMs: number }): Promise<boolean> {
    return (await this.#writer.ask({ kind: "revokeKey", keyId, atMs })) as boolean;
  }

  async revision(): Promise<number> {
    return (await this.#writer.ask({ kind: "revision" })) as number;
  }
  waitedMs(): number {
    return this.#writer.waitedMs();
  }

  async close(): Promise<void> {
    await Promise.all([this.#quick.close(), this.#slow.close()]);
    // The last connection to go folds the write-ahead log into the file; only the writing one can.
    await this.#writer.close();
  }
}
