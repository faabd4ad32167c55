/**
 * Owns the thread that answers queries, on a connection that only reads: a report over a million calls takes a second or two, which
 * neither the event loop nor the writing thread may spend. Readers of a write-ahead log never hold up a writer.
 */
import { parentPort, workerData } from "node:worker_threads";
import { unavailableFrom } from "./errors.ts";
import { openReading } from "./file.ts";
import {
  doneWith,
  writeError,
  type Answer,
  type Asked,
  type FromThread,
  type Query,
  type ThreadData,
  type ToThread,
} from "./messages.ts";
import { Queries } from "./queries.ts";

const { path } = workerData as ThreadData;

if (parentPort === null) throw new Error("the ledger's reader runs in a thread of its own");
const port = parentPort;

function tell(message: FromThread): void {
  port.postMessage(message);
}

function answer(queries: Queries, { id, what }: Asked<Query>): Answer {
  try {
    return { id, isOk: true, value: queries.answer(what) };
  } catch (error) {
    return { id, isOk: false, error: writeError(unavailableFrom(path, error)) };
  }
}

try {
  const db = openReading(path);
  const queries = new Queries(db);
  port.on("message", (message: ToThread<Query>) => {
    if (message.kind === "close") {
      db.close();
      tell({ kind: "closed" });
      port.close();
      return;
    }
    message.whats.forEach((what, index) => tell(doneWith([answer(queries, { id: message.ids[index] ?? 0, what })])));
  });
  tell({ kind: "ready" });
} catch (error) {
  tell({ kind: "failed", error: writeError(unavailableFrom(path, error)) });
  port.close();
}
