/**
 * Owns how operations and their results pass between threads: as text. The structured clone takes four times as long for nested
 * objects, and the event loop and the writing thread both pay for it with every call.
 * Does not own how an entry is written (body.ts).
 * Invariant: what is read equals what was written; a result that repeats what was asked is written without that.
 */
import type { Candidate, Fit } from "../../core/decisions/call.ts";
import type {
  BatchPlace,
  Operation,
  OperationResult,
  ReserveOperation,
  SettleOperation,
} from "../../core/decisions/operations.ts";
import { toNanoUsd, type NanoUsd } from "../../core/money/money.ts";
import { fromJson, toJson } from "../json.ts";
import { callFromWritten, callToText, resultFromWritten, resultToText } from "./said-text.ts";

/** How a line begins in which bigints are plain text; otherwise it is the ledger's own JSON. */
const PLAIN = " ";

/** Two lines: what of an operation is stored as it was said (the call, its result) stands by itself. */
type Lines = [rest: string, said: string];

/** Operations, as lines of text. */
export function operationsToText(operations: readonly Operation[]): string {
  let text = "";
  for (const operation of operations) {
    const [rest, said] = linesOf(operation);
    text += `${text === "" ? "" : "\n"}${rest}\n${said}`;
  }
  return text;
}

/** An operation and the text of what its caller said. */
export interface ReadOperation {
  operation: Operation;
  said: string;
}

/** Reads what {@link operationsToText} wrote. */
export function operationsFromText(text: string): ReadOperation[] {
  if (text === "") return [];
  const operations: ReadOperation[] = [];
  // By hand: most texts hold one operation, and splitting them took a twentieth of the writing thread's time.
  for (let at = 0; at <= text.length;) {
    const restEnd = endOfLine(text, at);
    const saidEnd = endOfLine(text, restEnd + 1);
    const said = text.slice(restEnd + 1, saidEnd);
    operations.push({ operation: operationFrom([text.slice(at, restEnd), said]), said });
    at = saidEnd + 1;
  }
  return operations;
}

function endOfLine(text: string, from: number): number {
  const end = text.indexOf("\n", from);
  return end === -1 ? text.length : end;
}

function linesOf(operation: Operation): Lines {
  switch (operation.kind) {
    // What is `undefined` is left out; leaving it out of the copy takes longer.
    case "reserve": {
      const { call, candidates, batch } = operation;
      const rest = {
        ...operation,
        call: undefined,
        candidates: candidates.map(plainCandidate),
        batch: batch && plainPlace(batch),
      };
      return [PLAIN + JSON.stringify(rest), callToText(call)];
    }
    case "settle":
      return [PLAIN + JSON.stringify({ ...operation, result: undefined }), resultToText(operation.result)];
    default:
      return [toJson(operation), ""];
  }
}

function operationFrom([rest, said]: Lines): Operation {
  if (!rest.startsWith(PLAIN)) return fromJson(rest) as Operation;
  // Put together in place: it was only just read.
  const operation = JSON.parse(rest) as Mutable<ReserveOperation> | Mutable<SettleOperation>;
  const written = JSON.parse(said) as unknown[];
  if (operation.kind === "settle") operation.result = resultFromWritten(written);
  else {
    for (const candidate of operation.candidates) readCandidate(candidate as unknown as WrittenCandidate);
    if (operation.batch?.isFirst === true) {
      for (const { candidate } of operation.batch.rest) readCandidate(candidate as unknown as WrittenCandidate);
    }
    operation.call = callFromWritten(written);
  }
  return operation;
}

type Written<T, Amounts extends keyof T> = { [Name in keyof T]: Name extends Amounts ? string | undefined : T[Name] };
type WrittenFit = Omit<Fit, "usd"> & { usd: Record<keyof NonNullable<Fit["usd"]>, string> | undefined };
type WrittenCandidate = Omit<Written<Candidate, "usdBound" | "tenCallsNanoUsd">, "fit"> & { fit: WrittenFit | undefined };
type Mutable<T> = { -readonly [Name in keyof T]: T[Name] };

function plainCandidate(candidate: Candidate): WrittenCandidate {
  const { usdBound, tenCallsNanoUsd, fit } = candidate;
  return { ...candidate, usdBound: textOf(usdBound), tenCallsNanoUsd: textOf(tenCallsNanoUsd), fit: fit && plainFit(fit) };
}

function plainPlace(place: BatchPlace): unknown {
  if (!place.isFirst) return place;
  return { ...place, rest: place.rest.map(({ lines, candidate }) => ({ lines, candidate: plainCandidate(candidate) })) };
}

function plainFit(fit: Fit): WrittenFit {
  if (fit.usd === undefined) return { ...fit, usd: undefined };
  const { fixed, perOutputToken, searches } = fit.usd;
  return { ...fit, usd: { fixed: `${fixed}`, perOutputToken: `${perOutputToken}`, searches: `${searches}` } };
}

/** In place: it was only just read. */
function readCandidate(candidate: WrittenCandidate): void {
  const read = candidate as unknown as Mutable<Candidate>;
  read.usdBound = amountOf(candidate.usdBound);
  if (candidate.tenCallsNanoUsd !== undefined) read.tenCallsNanoUsd = BigInt(candidate.tenCallsNanoUsd);
  const usd = candidate.fit?.usd;
  if (usd === undefined || read.fit === undefined) return;
  read.fit.usd = {
    fixed: BigInt(usd.fixed),
    perOutputToken: BigInt(usd.perOutputToken),
    searches: toNanoUsd(BigInt(usd.searches)),
  };
}

/** What operations led to, as lines of text. */
export function resultsToText(results: readonly OperationResult[], operations: readonly Operation[]): string {
  return results.map((result, index) => resultToLine(result, operations[index])).join("\n");
}

/**
 * Reads what {@link resultsToText} wrote.
 *
 * @param operations what was asked.
 */
export function resultsFromText(text: string, operations: readonly Operation[]): OperationResult[] {
  const lines = text.split("\n");
  return operations.map((operation, index) => resultFromLine(lines[index] ?? "", operation));
}

/** What a caller gets nearly always is plain JSON; everything else is the ledger's own. */
function resultToLine(result: OperationResult, operation: Operation | undefined): string {
  switch (result.kind) {
    case "reserve": {
      if (result.outcome !== "reserved" || result.alerts.length > 0 || operation?.kind !== "reserve") break;
      const index = operation.candidates.indexOf(result.candidate);
      if (index === -1) break;
      return PLAIN + JSON.stringify({ ...result, candidate: index });
    }
    case "settle":
    case "void":
    case "expire":
      if (result.alerts.length > 0) break;
      return PLAIN + JSON.stringify({ ...result, overrunNanoUsd: `${result.overrunNanoUsd}` });
    default:
  }
  return toJson(result);
}

function resultFromLine(text: string, operation: Operation): OperationResult {
  if (!text.startsWith(PLAIN)) return fromJson(text) as OperationResult;
  const result = JSON.parse(text) as { candidate?: number; overrunNanoUsd?: string };
  if (operation.kind === "reserve") {
    return { ...result, candidate: operation.candidates[result.candidate ?? 0] } as OperationResult;
  }
  return { ...result, overrunNanoUsd: toNanoUsd(BigInt(result.overrunNanoUsd ?? 0)) } as OperationResult;
}

function textOf(amount: bigint | undefined): string | undefined {
  return amount === undefined ? undefined : `${amount}`;
}

function amountOf(text: string | undefined): NanoUsd | undefined {
  return text === undefined ? undefined : toNanoUsd(BigInt(text));
}
