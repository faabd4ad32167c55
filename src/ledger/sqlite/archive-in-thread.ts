/** Owns archiving a ledger in a thread of its own, as it is seen from the event loop. Does not own what it does (archive.ts). */
import { Worker } from "node:worker_threads";
import type { ArchiveInput, ArchiveOutcome } from "./archive.ts";
import { readError, type WrittenError } from "./messages.ts";

/** What the thread answers. */
export type ArchivedMessage = { outcome: ArchiveOutcome } | { error: WrittenError };

/** An archiving that runs. */
export interface RunningArchive {
  /** Rejects as `archiveSqliteLedger` does. */
  done: Promise<ArchiveOutcome>;
  /** Ends it after the transaction it is in; the rest is for the next run. */
  stop(): void;
}

/** Begins to archive what was written before an instant. */
export function archiveInThread(input: Pick<ArchiveInput, "path" | "beforeMs" | "nowMs">): RunningArchive {
  const file = new URL(import.meta.url.endsWith(".ts") ? "./archive-thread.ts" : "./archive-thread.js", import.meta.url);
  const worker = new Worker(file, { workerData: input });
  const done = new Promise<ArchiveOutcome>((resolve, reject) => {
    worker.once("message", (message: ArchivedMessage) => {
      if ("outcome" in message) resolve(message.outcome);
      else reject(readError(message.error));
    });
    worker.once("error", reject);
    worker.once("exit", () => reject(new Error("the archiving thread ended without an answer")));
  });
  return { done, stop: () => worker.postMessage("stop", []) };
}
