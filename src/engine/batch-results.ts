/**
 * Owns what becomes of a batch's reservations: settled line by line as its results are read, given back, or counted at their bound.
 * Does not own reserving them (batches.ts), whose results are read (gateway/) or what a line says (providers/).
 * Invariants: whatever is said twice counts once, from whichever process; what cannot be understood is counted at its bound, never
 * free; a batch is called ended only once the ledger has taken the end of every line.
 */
import type { CallResult, EndResult } from "../core/decisions/operations.ts";
import { ZERO_USD } from "../core/money/money.ts";
import { NO_TOKENS } from "../core/usage/usage.ts";
import type { BatchRecord, Ledger } from "../ledger/ledger.ts";
import type { BatchProtocol, BatchResult, MeterReading } from "../providers/provider.ts";
import type { Clock, IdSource, Notifier } from "./ports.ts";
import { isLedgerUnavailable } from "./refusing.ts";
import type { Rules } from "./rules.ts";
import { ratedResult } from "./settlement.ts";
import { reporterOf, type Ending } from "./settler.ts";

/** So many lines are ended in one step: the ledger's lock is held for some milliseconds by it. */
const LINES_AT_ONCE = 200;
/** A line of results is one answer. What is longer is passed on unread. */
const LINE_BYTES_MAX = 33_554_432;

export interface BatchResultsOptions {
  ledger: Ledger;
  clock: Clock;
  ids: IdSource;
  notifier: Notifier;
  rules: () => Rules;
  freed: (counterIds: readonly string[]) => void;
}

/** Reads along with the results of a batch. */
export interface Collector {
  /** @returns a promise where the ledger has to be waited for before more is read. @throws if the ledger cannot be written. */
  push(chunk: Uint8Array): Promise<void> | undefined;
  /** @param isWhole false: they broke off; what was read stays settled, and the rest open. @throws as {@link push}. */
  end(isWhole: boolean): Promise<void>;
}

export interface BatchResults {
  collect(batch: BatchRecord, protocol: BatchProtocol, providerRequestId?: string): Collector;
  /** Nothing of these lines runs, or will: they cost nothing. */
  giveBack(callIds: readonly string[], reason: string): Promise<void>;
  /** Counts every line that is still open at its bound. */
  expire(batch: BatchRecord, reason: string): Promise<void>;
}

/** The name under which a line of a batch is reserved: whoever has its results can tell it. */
export function callIdOfLine(ids: IdSource, submissionId: string, customId: string): string {
  return ids.named("call", `${submissionId} ${customId}`);
}

export function createBatchResults(options: BatchResultsOptions): BatchResults {
  const { ledger, clock, ids, notifier, rules } = options;
  const report = reporterOf(options);

  async function end(endings: readonly Ending[]): Promise<void> {
    for (let at = 0; at < endings.length; at += LINES_AT_ONCE) await endSome(endings.slice(at, at + LINES_AT_ONCE));
  }

  async function endSome(endings: readonly Ending[]): Promise<void> {
    try {
      const results = await ledger.apply(endings);
      const again = endings.filter((ending, index) => isGivenBackLate(ending, results[index]));
      endings.forEach((ending, index) => again.includes(ending) || conclude(ending, results[index]));
      if (again.length > 0) await endSome(again.map(asSettled));
    } catch (error) {
      if (isLedgerUnavailable(error)) throw error;
      // One of them cannot be. The others must not stay open for it.
      const [only] = endings;
      if (only === undefined || (endings.length === 1 && only.kind === "expire")) throw error;
      const reason = error instanceof Error ? error.message : "unknown";
      if (endings.length === 1) notifier.warn("ending_refused", { callId: only.callId, kind: only.kind, reason });
      const { callId, atMs } = only;
      const expiring: Ending = { kind: "expire", atMs, callId, reason: `its ${only.kind} was refused: ${reason}` };
      if (endings.length === 1) await endSome([expiring]);
      else for (const ending of endings) await endSome([ending]);
    }
  }

  function conclude(ending: Ending, result: EndResult | undefined): void {
    if (result === undefined) return;
    // A name that is no line of ours, or a line that was removed with what is past retention.
    if (result.outcome !== "unknown_call") report(ending, result);
    else if (ending.kind !== "void") notifier.warn("batch_line_unknown", { callId: ending.callId });
  }

  function collect(batch: BatchRecord, protocol: BatchProtocol, providerRequestId?: string): Collector {
    const lines = splitLines();
    let endings: Ending[] = [];

    const flush = (): Promise<void> => {
      const due = endings;
      endings = [];
      return end(due);
    };
    const resultOf = (reading: MeterReading): CallResult | undefined => {
      const { provider, submittedAtMs: sentAtMs } = batch;
      const { book, onUnpricedModel } = rules();
      const end = { kind: "completed" as const, status: 200 };
      const input = { end, book, onUnpricedModel, provider, sentAtMs, providerRequestId, candidate: { model: "" } };
      return reading.usage && ratedResult(input, reading.usage, reading, []);
    };

    const endingOf = (result: BatchResult): Ending => {
      const atMs = clock.nowMs();
      const callId = callIdOfLine(ids, batch.submissionId, result.customId);
      if (result.outcome === "unanswered") return { kind: "void", atMs, callId, reason: result.reason };
      const settled = result.outcome === "answered" ? resultOf(result.reading) : undefined;
      if (settled !== undefined) return { kind: "settle", atMs, callId, result: settled };
      return { kind: "expire", atMs, callId, reason: "its result cannot be understood" };
    };
    const read = (line: Uint8Array): void => {
      const result = protocol.readResult(line);
      if (result === undefined) notifier.warn("batch_result_unreadable", { batchId: batch.batchId ?? "", bytes: line.length });
      else endings.push(endingOf(result));
    };

    return {
      push(chunk) {
        for (const line of lines.push(chunk)) read(line);
        return endings.length < LINES_AT_ONCE ? undefined : flush();
      },
      async end(isWhole) {
        if (isWhole) for (const line of lines.end()) read(line);
        await flush();
        if (!isWhole) return;
        await expire(batch, "its batch has ended, and its results do not say what became of it");
        await ledger.updateBatch({ ...batch, endedAtMs: clock.nowMs() });
      },
    };
  }

  async function expire({ submissionId }: BatchRecord, reason: string): Promise<void> {
    const open = await ledger.openCalls(submissionId);
    const atMs = clock.nowMs();
    await end(open.map(({ callId }): Ending => ({ kind: "expire", atMs, callId, reason })));
    if (open.length > 0) notifier.warn("batch_at_bound", { submissionId, calls: open.length, reason });
  }

  return {
    collect,
    expire,
    giveBack(callIds, reason) {
      const atMs = clock.nowMs();
      return end(callIds.map((callId): Ending => ({ kind: "void", atMs, callId, reason })));
    },
  };
}

/** Counted at its bound before it was known to cost nothing: what is over is not given back, but settled at nothing. */
function isGivenBackLate({ kind }: Ending, result: EndResult | undefined): boolean {
  return kind === "void" && result?.outcome === "conflict";
}

function asSettled({ atMs, callId, ...ending }: Ending): Ending {
  const reason = ending.kind === "void" ? ending.reason : "";
  return { kind: "settle", atMs, callId, result: { ...NOTHING, flags: ["unbilled_error", reason] } };
}

const NOTHING: CallResult = {
  costNanoUsd: ZERO_USD,
  tokens: { ...NO_TOKENS },
  costParts: [],
  priceIds: [],
  webSearchRequests: 0,
  isEstimated: false,
  flags: [],
  model: "",
  status: undefined,
  stopReason: undefined,
  providerRequestId: undefined,
  error: undefined,
};

/** Cuts bytes into lines. */
function splitLines(): { push(chunk: Uint8Array): Uint8Array[]; end(): Uint8Array[] } {
  let held: Uint8Array[] = [];
  let heldBytes = 0;
  const take = (last: Uint8Array): Uint8Array => {
    const line = held.length === 0 ? last : joined([...held, last], heldBytes + last.length);
    held = [];
    heldBytes = 0;
    return line;
  };
  const isSaying = ({ length }: Uint8Array): boolean => length > 0 && length <= LINE_BYTES_MAX;
  return {
    push(chunk) {
      const lines: Uint8Array[] = [];
      let from = 0;
      for (let at = chunk.indexOf(NEWLINE); at >= 0; at = chunk.indexOf(NEWLINE, from)) {
        lines.push(take(chunk.subarray(from, at)));
        from = at + 1;
      }
      heldBytes += chunk.length - from;
      // Copied, because the chunk belongs to whoever passes it on.
      if (heldBytes <= LINE_BYTES_MAX) held.push(chunk.slice(from));
      else held = [];
      return lines.filter(isSaying);
    },
    end: () => [take(new Uint8Array())].filter(isSaying),
  };
}

const NEWLINE = 0x0a;

function joined(parts: readonly Uint8Array[], length: number): Uint8Array {
  const whole = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
