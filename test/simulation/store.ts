/**
 * Owns the ledger as a process of the simulation sees it: batches that take their time, commits that fail before or after they
 * happened, a store that is gone for a while, and answers that a crashed process never gets.
 */
import type { Operation, OperationResult } from "../../src/core/decisions/operations.ts";
import type { Limit } from "../../src/core/limits/limit.ts";
import { LedgerUnavailableError, type Ledger, type ResultOf } from "../../src/ledger/ledger.ts";
import type { Books } from "./books.ts";
import type { Random } from "./random.ts";
import type { Timeline } from "./timeline.ts";

/** Changes what goes to the ledger or comes back: how the oracle itself is tested. */
export interface Tampering {
  /** `undefined`: goes nowhere, and is answered as if it had been done. */
  operation?(operation: Operation): Operation | undefined;
  result?(result: OperationResult, operation: Operation): OperationResult;
}

export interface StoreWorld {
  timeline: Timeline;
  books: Books;
  random: Random;
  faultShare(): number;
  slowShare(): number;
  /** Until when the store is gone. */
  downUntilMs(): number;
  /** Something may have been written. */
  committed(): void;
  configured(limits: readonly Limit[]): void;
  tampering: Tampering | undefined;
}

/** Whom the answers go to. */
export interface StoreClient {
  readonly isDead: boolean;
  /** Runs as soon as the process runs: not at all once it is dead, later while it stands still. */
  soon(waitMs: number, run: () => void | Promise<void>): void;
  asked(operation: Operation): void;
  answered(operation: Operation, result: OperationResult): void;
}

interface Waiting {
  operations: readonly Operation[];
  resolve: (results: OperationResult[]) => void;
  reject: (error: unknown) => void;
}

export interface StoreHandle {
  ledger: Ledger;
  /** Of a process that is about to die: what it was writing may just have been done. Nothing of it is done later. */
  lastCommit(): Promise<void>;
  /** Nothing is being written for this process. */
  readonly isIdle: boolean;
}

/** @param base the process's own way to the books. */
export function openHandle(world: StoreWorld, client: StoreClient, base: Ledger): StoreHandle {
  const { timeline, books, random } = world;
  const queue: Waiting[] = [];
  let isWriting = false;
  /** Changes that this process made; all others are other processes'. */
  let own = 0;
  const isDown = (): boolean => timeline.nowMs < world.downUntilMs();

  function writeNext(): void {
    if (queue.length === 0) return;
    isWriting = true;
    const waitMs = random.chance(world.slowShare()) ? random.int(50, 4_000) : random.int(0, 6);
    client.soon(waitMs, commit);
  }

  /** One batch: everything asked for until now, answered together. */
  async function commit(): Promise<void> {
    const batch = queue.splice(0);
    const isLost = isDown() || random.chance(world.faultShare());
    const before = books.changeCount;
    const answers = isLost ? [] : await Promise.all(batch.map(({ operations }) => carryOut(operations)));
    own += books.changeCount - before;
    const isUnknown = !isLost && random.chance(world.faultShare());
    if (!isLost) world.committed();
    client.soon(random.chance(0.5) ? 0 : random.int(1, 5), () => {
      isWriting = false;
      batch.forEach((waiting, index) => {
        const answer = answers[index];
        if (answer === undefined || isUnknown) waiting.reject(new LedgerUnavailableError("the disk is full"));
        else if (answer instanceof Error) waiting.reject(answer);
        else {
          answer.forEach((result, at) => {
            const operation = waiting.operations[at];
            if (operation !== undefined) client.answered(operation, result);
          });
          waiting.resolve(answer);
        }
      });
      writeNext();
    });
  }

  async function carryOut(operations: readonly Operation[]): Promise<OperationResult[] | Error> {
    const results: OperationResult[] = [];
    try {
      for (const operation of operations) {
        const { tampering } = world;
        const changed = tampering?.operation === undefined ? operation : tampering.operation(operation);
        const [result] = changed === undefined ? [doneOf(operation)] : await base.apply([changed]);
        if (result !== undefined) results.push(tampering?.result?.(result, operation) ?? result);
      }
      return results;
    } catch (error) {
      return error instanceof Error ? error : new Error(String(error));
    }
  }

  /** Reading and registering: at once, and never answered to the dead. */
  const asking =
    <Args extends unknown[], Result>(ask: (...args: Args) => Promise<Result>) =>
    (...args: Args): Promise<Result> => {
      if (client.isDead) return new Promise(() => undefined);
      if (isDown()) return Promise.reject(new LedgerUnavailableError("the store is gone"));
      return ask(...args);
    };

  const ledger: Ledger = {
    apply<const O extends Operation>(operations: readonly O[]): Promise<ResultOf<O>[]> {
      return new Promise((resolve, reject) => {
        if (client.isDead) return;
        for (const operation of operations) client.asked(operation);
        queue.push({ operations, resolve: (results) => resolve(results as ResultOf<O>[]), reject });
        if (!isWriting) writeNext();
      });
    },
    configure: asking(async (rules) => {
      const before = books.changeCount;
      await base.configure(rules);
      books.configured();
      own += books.changeCount - before;
      world.configured(rules.limits);
    }),
    limits: asking(() => base.limits()),
    beat: asking((owner) => base.beat(owner)),
    owners: asking(() => base.owners()),
    removeOwner: asking((ownerId) => base.removeOwner(ownerId)),
    openCalls: asking((ownerId) => base.openCalls(ownerId)),
    calls: asking((query) => base.calls(query)),
    report: asking((query) => base.report(query)),
    scopeStates: asking(() => base.scopeStates()),
    alerts: asking((query) => base.alerts(query)),
    addBatch: asking((batch) => base.addBatch(batch)),
    updateBatch: asking((batch) => base.updateBatch(batch)),
    removeBatch: asking((submissionId) => base.removeBatch(submissionId)),
    batches: asking((query) => base.batches(query)),
    createKey: asking((key) => base.createKey(key)),
    keys: asking(() => base.keys()),
    revokeKey: asking((input) => base.revokeKey(input)),
    revision: asking(() => books.revisionFor(base, own)),
    waitedMs: () => 0,
    close: () => Promise.resolve(),
  };
  return {
    ledger,
    lastCommit: () => (isWriting && random.chance(0.5) ? commit() : Promise.resolve()),
    get isIdle() {
      return !isWriting && queue.length === 0;
    },
  };
}

/** The answer of a ledger that says it did something. */
function doneOf({ kind }: Operation): OperationResult {
  if (kind === "renew") return { kind, outcome: "renewed", freedCounterIds: [] };
  if (kind === "refuse") return { kind, outcome: "recorded" };
  if (kind === "reserve") return { kind, outcome: "duplicate" };
  if (kind === "adjust") return { kind, outcome: "done", costNanoUsd: undefined, alerts: [] };
  return { kind, outcome: "done", overrunNanoUsd: 0n as never, alerts: [], freedCounterIds: [] };
}
