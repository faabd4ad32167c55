/**
 * Owns the ledger that a schedule's processes share: in memory, or a real SQLite file with a handle of its own for every process, whose
 * threads work in real time while virtual time stands still.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { NewEntry } from "../../src/core/decisions/operations.ts";
import type { Ledger } from "../../src/ledger/ledger.ts";
import { createMemoryLedger } from "../../src/ledger/memory/memory-ledger.ts";
import { openReading } from "../../src/ledger/sqlite/file.ts";
import { openSqliteLedger } from "../../src/ledger/sqlite/sqlite-ledger.ts";
import { prepareReadEntry, prepareReadTail } from "../../src/ledger/sqlite/statements/entries.ts";
import { verifySqliteLedger } from "../../src/ledger/sqlite/verify.ts";
import type { Outside } from "./timeline.ts";

export interface Books extends Outside {
  /** A process's own way to the ledger. */
  open(): Promise<Ledger>;
  /** Everything written so far, oldest first. */
  readonly entries: readonly NewEntry[];
  /** Other limits were put in force, which need not write an entry. */
  configured(): void;
  /** So many changes were made to it. */
  readonly changeCount: number;
  /** What {@link Ledger.revision} says to somebody who made so many of the changes. */
  revisionFor(ledger: Ledger, own: number): Promise<number>;
  /** What does not add up; nothing may be asked any more. */
  close(): Promise<string[]>;
}

export function memoryBooks(): Books {
  const ledger = createMemoryLedger();
  let configured = 0;
  return {
    open: () => Promise.resolve(ledger),
    get changeCount() {
      return ledger.entries.length + configured;
    },
    configured: () => void (configured += 1),
    get entries() {
      return ledger.entries;
    },
    revisionFor: (_, own) => Promise.resolve(ledger.entries.length + configured - own),
    isQuiet: true,
    settled: () => Promise.resolve(),
    close: () => Promise.resolve([]),
  };
}

export function sqliteBooks(seed: number): Books {
  const folder = mkdtempSync(join(tmpdir(), "purser-simulation-"));
  const path = join(folder, "ledger.db");
  const asked = new Set<Promise<unknown>>();
  const handles: Ledger[] = [];
  const entries: NewEntry[] = [];
  let reader: ReturnType<typeof openReading> | undefined;
  let reading: { tail: ReturnType<typeof prepareReadTail>; entry: ReturnType<typeof prepareReadEntry> } | undefined;

  function wait<Value>(asking: Promise<Value>): Promise<Value> {
    const over = asking.finally(() => asked.delete(over));
    asked.add(over);
    return over;
  }

  return {
    async open() {
      const handle = await wait(openSqliteLedger({ path, seed: seed + handles.length }));
      handles.push(handle);
      return waitedFor(handle, wait);
    },
    get entries() {
      if (handles.length === 0) return entries;
      reader ??= openReading(path);
      reading ??= { tail: prepareReadTail(reader), entry: prepareReadEntry(reader) };
      for (const { seq, kind, callId } of reading.tail(entries.length + 1)) {
        entries.push({ kind, callId, ...reading.entry(seq) });
      }
      return entries;
    },
    // The file knows by itself which changes are whose.
    changeCount: 0,
    configured: () => undefined,
    revisionFor: (ledger) => ledger.revision(),
    get isQuiet() {
      return asked.size === 0;
    },
    async settled() {
      await Promise.allSettled(asked);
    },
    async close() {
      reader?.close();
      await Promise.all(handles.map((handle) => handle.close()));
      const { differences } = verifySqliteLedger(path);
      rmSync(folder, { recursive: true });
      return differences.map((difference) => JSON.stringify(difference));
    },
  };
}

/** Everything asked of it is waited for before virtual time goes on. */
function waitedFor(handle: Ledger, wait: <Value>(asking: Promise<Value>) => Promise<Value>): Ledger {
  return new Proxy(handle, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== "function") return value;
      return (...args: unknown[]) => wait(Reflect.apply(value, target, args) as Promise<unknown>);
    },
  });
}
