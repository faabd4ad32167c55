/**
 * Owns having a call decided that no SDK makes: it waits as any call does, and what is refused is thrown, typed.
 * Does not own the decision (engine/) or what an SDK is answered (fetch.ts).
 */
import type { Labels } from "../engine/identify.ts";
import type { Opening } from "../engine/pipeline.ts";
import type { RunningCall } from "../engine/running-call.ts";
import { LedgerUnavailableError } from "../ledger/ledger.ts";
import type { PaidApi } from "../providers/provider.ts";
import { tellDecision } from "./events.ts";
import { NOBODY, presenceOf, type Caller } from "./fetch.ts";
import { LimitReachedError } from "./limit-reached-error.ts";

/** How long a call may wait. */
export interface WaitOptions {
  /** The caller's: it waits no longer, and the function is told. */
  signal?: AbortSignal;
  /** Waiting and throttling never take longer than this, from now. @defaultValue what a call waits at most: a minute */
  deadlineMs?: number;
}

export interface OpenCallInput {
  api: PaidApi;
  labels: Labels;
  wait: WaitOptions;
  /** The tool that it runs, if it runs one. */
  tool?: string;
  /** Names an intent: the second call of the same name is a duplicate. */
  idempotencyKey?: string | undefined;
}

const NO_BODY = new Uint8Array();

/** Asks for admission; telling what came of it is the asker's. */
export async function askForCall(caller: Caller, { api, labels, wait, tool, idempotencyKey }: OpenCallInput): Promise<Opening> {
  const { engine, ending, clock } = caller;
  if (ending.isEnding) throw new Error("this Purser is closed");
  const { signal, deadlineMs } = wait;
  if (signal?.aborted === true) throw signal.reason;
  if (deadlineMs !== undefined && !(deadlineMs >= 0)) {
    throw new RangeError(`deadlineMs is ${String(deadlineMs)}; milliseconds from now are allowed, at least 0`);
  }
  const opening = await engine.open({
    provider: api,
    body: NO_BODY,
    caller: NOBODY,
    labels,
    ...(tool === undefined ? {} : { tool }),
    attempt: 0,
    deadlineAtMs: deadlineMs === undefined ? undefined : clock.nowMs() + Math.floor(deadlineMs),
    idempotencyKey,
    presence: presenceOf(signal, ending),
  });
  return opening;
}

/** @throws {@link LimitReachedError} if a limit says no; the caller's own reason if it left. */
export async function openCall(caller: Caller, input: OpenCallInput): Promise<RunningCall> {
  const opening = await askForCall(caller, input);
  tellDecision(caller.events, opening);
  switch (opening.outcome) {
    case "admitted":
      return opening.call;
    case "refused": {
      const { refusal } = opening;
      throw LimitReachedError.isFor(refusal) ? new LimitReachedError(refusal) : new LedgerUnavailableError(refusal.message);
    }
    case "gone":
      throw whyGone(input.wait);
  }
}

/** What is thrown for a call that nobody waits for any more. */
export function whyGone({ signal }: WaitOptions): unknown {
  if (signal?.aborted === true) return signal.reason;
  return new Error("this Purser was closed while the call waited; nothing was sent");
}
