/**
 * Owns the conduct of a batch from the moment its bytes are here until the provider has taken it: identify, inspect, reserve every line
 * of it or none, hand its reservations to the ledger.
 * Does not own its lines' bounds (batch-lines.ts), its results (batch-results.ts), or sockets (gateway/).
 * Invariants: the ledger knows of the batch before any line is reserved, so that no line is ever taken for a dead process's; nothing is
 * forwarded before its reservation is durable; a batch waits no longer than a call; what may have been sent stays held.
 */
import type { CallFacts } from "../core/decisions/call.ts";
import type { ReserveResult } from "../core/decisions/operations.ts";
import type { Refusal } from "../core/errors/codes.ts";
import type { BatchRecord, Ledger } from "../ledger/ledger.ts";
import type { BatchProtocol, RequestFacts } from "../providers/provider.ts";
import { operationsFor, readBatchCalls, type BatchCall } from "./batch-lines.ts";
import { callIdOfLine, type BatchResults } from "./batch-results.ts";
import { scopesOf, UNNAMED } from "./identify.ts";
import type { EngineCommon } from "./pipeline.ts";
import { WAIT_MS_MAX, type IncomingCall } from "./incoming-call.ts";
import type { Clock, IdSource, Notifier } from "./ports.ts";
import { isLedgerUnavailable, whyNotWaiting, type RefusalReason } from "./refusing.ts";
import type { Rules } from "./rules.ts";
import type { Waiter } from "./waiting-line.ts";

/** How often a batch that waits is decided afresh: telling the ledger its thousands of lines takes longer than a call does. */
const LOOK_MS = 250;
/** An idempotency key is free again so long after its batch ended. */
const DUPLICATE_MS = 24 * 3_600_000;
/** How long until what the ledger could not take is told again. */
const RETRY_MS = 500;

/** A batch that holds its reservations. */
export interface AdmittedBatch {
  /** The call of its first line. */
  readonly callId: string;
  readonly lineCount: number;
  readonly delayMs: number;
  /** The provider took it, under this name. */
  accepted(batchId: string): Promise<void>;
  /** Nothing of it runs: it did not leave, or the provider refused it. */
  refused(reason: string): Promise<void>;
  /** Whether the provider took it is not known: it is held until that is, or its day is over. */
  lost(): void;
}

export type BatchOpening =
  | { outcome: "refused"; callId: string; refusal: Refusal }
  | { outcome: "admitted"; batch: AdmittedBatch }
  | { outcome: "gone"; callId: string };

export interface Batches {
  open(incoming: IncomingCall, protocol: BatchProtocol): Promise<BatchOpening>;
  /** Handed in, and not answered by the provider yet. */
  readonly runningCount: number;
}

export interface BatchesOptions {
  ledger: Ledger;
  clock: Clock;
  ids: IdSource;
  notifier: Notifier;
  rules: () => Rules;
  common: EngineCommon;
  results: BatchResults;
}

interface Attempt {
  incoming: IncomingCall;
  record: BatchRecord;
  calls: readonly BatchCall[];
  receivedAtMs: number;
  deadlineAtMs: number;
  waiter: Waiter | undefined;
  grantedStartsMs: Readonly<Record<string, number>>;
}

export function createBatches(options: BatchesOptions): Batches {
  const { ledger, clock, ids, notifier, results } = options;
  const { line, parents, refuse, watchOthers } = options.common;
  let runningCount = 0;

  async function open(incoming: IncomingCall, protocol: BatchProtocol): Promise<BatchOpening> {
    const receivedAtMs = clock.nowMs();
    const submission = protocol.readSubmission(incoming.body);
    if (submission.outcome === "refused") return unread(submission.refusal);
    const record = recordOf(incoming, receivedAtMs);
    const callOf = await namerOf(incoming, record.submissionId);
    const { provider, body } = incoming;
    const read = await readBatchCalls({ provider, body, lines: submission.lines, rules: options.rules(), clock, callOf });
    if (read.outcome === "refused") return unread(read.refusal);
    const deadlineAtMs = Math.min(receivedAtMs + WAIT_MS_MAX, incoming.deadlineAtMs ?? Infinity);
    const calls = read.calls;
    return take({ incoming, record, calls, receivedAtMs, deadlineAtMs, waiter: undefined, grantedStartsMs: {} });
  }

  function unread(refusal: Refusal): BatchOpening {
    const callId = ids.next("call");
    return { outcome: "refused", callId, refusal: { ...refusal, details: { ...refusal.details, callId } } };
  }

  function recordOf({ caller, provider, idempotencyKey }: IncomingCall, submittedAtMs: number): BatchRecord {
    const { keyId } = caller;
    const named = idempotencyKey === undefined ? undefined : ids.named("batch", `${keyId ?? UNNAMED} ${idempotencyKey}`);
    const submissionId = named ?? ids.next("batch");
    return { submissionId, provider: provider.name, keyId, batchId: undefined, submittedAtMs, endedAtMs: undefined };
  }

  /** What its lines have in common: a batch nobody named a session for is one of its own. */
  async function namerOf(
    { labels, caller, provider, attempt }: IncomingCall,
    submissionId: string,
  ): Promise<(customId: string, facts: RequestFacts) => CallFacts> {
    const session = labels.session ?? ids.next("sess");
    const parentSessions = await parents.find(session, labels.parentSessions ?? []);
    const who = scopesOf({ caller, labels: { ...labels, parentSessions }, session });
    return (customId, { model, history }) => ({
      callId: callIdOfLine(ids, submissionId, customId),
      ...who,
      provider: provider.name,
      requestedModel: model,
      attempt,
      isStream: false,
      history,
    });
  }

  async function take(attempt: Attempt): Promise<BatchOpening> {
    let isReserving = false;
    try {
      if (!(await ledger.addBatch(attempt.record))) {
        if (await isFreeAgain(attempt)) return await take(renamed(attempt));
        return refused(attempt, { code: "duplicate_call" });
      }
      isReserving = true;
      const opening = await decide(attempt);
      if (opening === "renamed") return await take(renamed(attempt));
      if (opening.outcome !== "admitted") await ledger.removeBatch(attempt.record.submissionId);
      return opening;
    } catch (error) {
      if (!isLedgerUnavailable(error)) throw error;
      notifier.warn("ledger_unavailable", { callId: firstOf(attempt).callId, reason: error.message });
      // Whether it was written is unknown: what may be held must not stay held.
      if (isReserving) void untilTaken(() => takeBack(attempt, "ledger_unavailable"));
      return refused(attempt, { code: "ledger_unavailable" });
    } finally {
      if (attempt.waiter !== undefined) line.leave(attempt.waiter);
    }
  }

  async function isFreeAgain({ record }: Attempt): Promise<boolean> {
    const first = (await ledger.batches()).find(({ submissionId }) => submissionId === record.submissionId);
    return first?.endedAtMs !== undefined && clock.nowMs() - first.endedAtMs >= DUPLICATE_MS;
  }

  /** The first batch of this name ended long ago, or was refused: sent again, as its client was told to, it is no duplicate. */
  function renamed(attempt: Attempt): Attempt {
    const submissionId = ids.named("batch", attempt.record.submissionId);
    const calls = attempt.calls.map((each) => {
      const callId = callIdOfLine(ids, submissionId, each.customId);
      return { ...each, call: { ...each.call, callId } };
    });
    return { ...attempt, calls, record: { ...attempt.record, submissionId }, waiter: undefined };
  }

  async function decide(attempt: Attempt): Promise<BatchOpening | "renamed"> {
    const { presence } = attempt.incoming;
    const { callId } = firstOf(attempt);
    for (;;) {
      if (presence.isGone) return { outcome: "gone", callId };
      const result = await reserve(attempt);
      switch (result.outcome) {
        case "reserved":
          for (const alert of result.alerts) notifier.alert(alert);
          if (!presence.isGone) return { outcome: "admitted", batch: admitted(attempt) };
          await takeBack(attempt, presence.goneFor ?? "caller_left");
          return { outcome: "gone", callId };
        case "denied":
          for (const alert of result.alerts) notifier.alert(alert);
          return refused(attempt, result);
        case "duplicate":
          await ledger.removeBatch(attempt.record.submissionId);
          return "renamed";
        case "throttled":
          attempt.grantedStartsMs = { ...attempt.grantedStartsMs, ...result.grantedStartsMs };
          await sleep(attempt, result.startAtMs);
          break;
        case "wait":
          if (clock.nowMs() >= attempt.deadlineAtMs || !joinLine(attempt, result.blockedOn)) {
            return await refuseRecorded(attempt, whyNotWaiting(result, clock.nowMs()));
          }
          await sleep(attempt, Math.min(clock.nowMs() + LOOK_MS, result.untilMs, attempt.deadlineAtMs));
          break;
        case "uncounted":
        case "left_out":
          throw new RangeError(`the first line of a batch, ${callId}, was answered ${result.outcome}`);
      }
    }
  }

  async function reserve(attempt: Attempt): Promise<ReserveResult> {
    const { record, calls, deadlineAtMs, grantedStartsMs } = attempt;
    const asked = { atMs: clock.nowMs(), ownerId: record.submissionId, grantedStartsMs, deadlineAtMs };
    const heldBack = line.blockedBefore(attempt.waiter);
    const [first] = await ledger.apply(operationsFor(calls, { ...asked, heldBack }));
    if (first === undefined) throw new RangeError("a batch without lines");
    return first;
  }

  function joinLine(attempt: Attempt, blockedOn: readonly string[]): boolean {
    if (attempt.waiter === undefined) attempt.waiter = line.join(blockedOn);
    else line.move(attempt.waiter, blockedOn);
    if (attempt.waiter !== undefined) watchOthers();
    return attempt.waiter !== undefined;
  }

  /** Until an instant, or its caller's leaving. What is freed meanwhile is found with the next look. */
  function sleep({ incoming: { presence } }: Attempt, untilMs: number): Promise<void> {
    if (presence.isGone) return Promise.resolve();
    return new Promise((resolve) => {
      const done = (): void => {
        cancelTimer();
        cancelGone();
        resolve();
      };
      const cancelTimer = clock.after(Math.max(0, untilMs - clock.nowMs()), done);
      const cancelGone = presence.onGone(done);
    });
  }

  function refused(attempt: Attempt, why: RefusalReason): BatchOpening {
    const call = firstOf(attempt);
    return { outcome: "refused", callId: call.callId, refusal: refuse(call, why) };
  }

  /** Refuses for a reason the ledger did not see, and records it there. */
  async function refuseRecorded(attempt: Attempt, why: RefusalReason): Promise<BatchOpening> {
    const { code, view } = why;
    await ledger.apply([{ kind: "refuse", atMs: clock.nowMs(), call: firstOf(attempt), code, view }]);
    return refused(attempt, why);
  }

  function admitted(attempt: Attempt): AdmittedBatch {
    const { record, calls, receivedAtMs } = attempt;
    runningCount += 1;
    const ended = (): void => void (runningCount -= 1);
    return {
      callId: firstOf(attempt).callId,
      lineCount: calls.length,
      delayMs: clock.nowMs() - receivedAtMs,
      accepted: (batchId) => untilTaken(() => ledger.updateBatch({ ...record, batchId })).finally(ended),
      refused: (reason) => untilTaken(() => takeBack(attempt, reason)).finally(ended),
      lost() {
        notifier.warn("batch_unknown", { submissionId: record.submissionId, calls: calls.length });
        ended();
      },
    };
  }

  async function takeBack({ record, calls }: Attempt, reason: string): Promise<void> {
    const known = calls.map(({ call }) => call.callId);
    await results.giveBack(known, reason);
    await ledger.removeBatch(record.submissionId);
  }

  /** Asks until the ledger has answered, which is safe because asking again changes nothing. */
  async function untilTaken(ask: () => Promise<void>): Promise<void> {
    for (;;) {
      try {
        return await ask();
      } catch (error) {
        if (!isLedgerUnavailable(error)) throw error;
      }
      await new Promise<void>((resolve) => clock.after(RETRY_MS, resolve, true));
    }
  }

  return {
    open,
    get runningCount() {
      return runningCount;
    },
  };
}

function firstOf({ calls }: Attempt): CallFacts {
  const [first] = calls;
  if (first === undefined) throw new RangeError("a batch without lines");
  return first.call;
}
