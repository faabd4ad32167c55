/** The thread that archives: reading months of entries must not keep an event loop from answering. */
import { parentPort, workerData } from "node:worker_threads";
import { archiveSqliteLedger, type ArchiveInput } from "./archive.ts";
import { writeError } from "./messages.ts";
import type { ArchivedMessage } from "./archive-in-thread.ts";

let isStopped = false;
parentPort?.once("message", () => (isStopped = true));
// The asking to stop alone keeps no thread alive.
parentPort?.unref();

const tell = (message: ArchivedMessage): void => parentPort?.postMessage(message, []);
const input = workerData as Pick<ArchiveInput, "path" | "beforeMs" | "nowMs">;
try {
  tell({ outcome: await archiveSqliteLedger({ ...input, isStopped: () => isStopped }) });
} catch (error) {
  tell({ error: writeError(error) });
}
