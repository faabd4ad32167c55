/**
 * Owns the conduct of a call from the moment its bytes are here to its settlement: identify, inspect, decide and reserve, edit, meter,
 * settle. Gateway and client are two faces of it. Does not own sockets (gateway/), rules (core/) or storing (ledger/).
 * Invariants: nothing is forwarded before its reservation is durable; every reservation ends exactly once, on every path; a call that
 * waits holds nothing; every wait has a deadline.
 */
import type { CallFacts, Candidate } from "../core/decisions/call.ts";
import type { ReserveOperation, ReserveResult } from "../core/decisions/operations.ts";
import { scopesOfTool, type Scopes } from "../core/limits/limit.ts";
import type { Refusal } from "../core/errors/codes.ts";
import type { Ledger } from "../ledger/ledger.ts";
import type { RequestFacts } from "../providers/provider.ts";
import { withoutCacheMarks } from "./cache-marks.ts";
import { candidatesFor } from "./candidates.ts";
import { createCounts } from "./counts.ts";
import { createExtensions, type Conversation } from "./extensions.ts";
import { scopesOf, UNNAMED } from "./identify.ts";
import { WAIT_MS_MAX, type IncomingCall } from "./incoming-call.ts";
import { createForeignPoll } from "./foreign-poll.ts";
import { createParentFinder, type ParentFinder } from "./parents.ts";
import type { Clock, FingerprintChain, IdSource, Notifier } from "./ports.ts";
import { createRefuser, isLedgerUnavailable, whyNotWaiting, type RefusalReason } from "./refusing.ts";
import type { Rules } from "./rules.ts";
import { createRunningCalls, type Answer, type RunInput, type RunningCall } from "./running-call.ts";
import { createSettler } from "./settler.ts";
import { createSessionFinder } from "./sessions.ts";
import { createUsualOutputs } from "./usual-outputs.ts";
import { createWaitingLine, type Waiter, type WaitingLine } from "./waiting-line.ts";

/** An idempotency key is free again so long after its call ended. */
const DUPLICATE_MS = 24 * 3_600_000;

export interface EngineOptions {
  ledger: Ledger;
  clock: Clock;
  ids: IdSource;
  fingerprints: FingerprintChain;
  notifier: Notifier;
  /** Asked for every call, so that a reload takes effect with the next one. */
  rules: () => Rules;
  ownerId: string;
}

export type Opening =
  | { outcome: "refused"; callId: string; refusal: Refusal }
  | { outcome: "admitted"; call: RunningCall }
  /** The caller left before anything was forwarded; nothing is held. */
  | { outcome: "gone"; callId: string };

export interface EngineCommon {
  line: WaitingLine;
  parents: ParentFinder;
  refuse: (call: CallFacts, why: RefusalReason) => Refusal;
  /** Looks for what other processes free, while somebody waits. */
  watchOthers: () => void;
}

export interface Engine {
  open(call: IncomingCall): Promise<Opening>;
  /** For whoever opens calls in another way: they wait in the same line, and are told no in the same words. */
  readonly common: EngineCommon;
  /** Something was freed outside of this engine (a recovered reservation): who waits on it is woken. */
  freed(counterIds: readonly string[]): void;
  /** The rules changed: whoever waits is decided afresh. */
  rulesChanged(): void;
  /** Waiters by counter series, for status. */
  waitingOn(counterId: string): number;
  /** Calls admitted and not ended. */
  readonly runningCount: number;
  /** Settlements that the ledger has not taken yet. */
  readonly unsettledCount: number;
  /** Tells the settlements of ended calls to the ledger until all are taken or the deadline passes. */
  flush(deadlineAtMs: number): Promise<void>;
}

interface Attempt {
  incoming: IncomingCall;
  facts: RequestFacts;
  call: CallFacts;
  conversation: Conversation | undefined;
  receivedAtMs: number;
  deadlineAtMs: number;
  /** Since when it waits for a limit that pauses calls. */
  pausedSinceMs: number | undefined;
  /** Those it was last decided by. A call is settled by the prices it was admitted with, whatever is reloaded meanwhile. */
  rules: Rules;
  candidates: readonly Candidate[];
  waiter: Waiter | undefined;
  /** What the provider counted this request with, by model; `undefined` there: asked in vain. Of no other request's bytes. */
  counted: Map<string, number | undefined>;
  grantedStartsMs: Readonly<Record<string, number>>;
  /** Time spent waiting or throttled so far. */
  hasWaited: boolean;
}

type WaitResult = Extract<ReserveResult, { outcome: "wait" }>;

export function createEngine(options: EngineOptions): Engine {
  const { ledger, clock, ids, notifier } = options;
  const line = createWaitingLine();
  const refuse = createRefuser(clock);
  const sessions = createSessionFinder(options);
  const extensions = createExtensions(options);
  const counts = createCounts(clock);
  const parents = createParentFinder(ledger);
  const usualOutputs = createUsualOutputs();
  /** Calls whose reservations are known here: being reserved, or running. One name can be asked for by several at once. */
  const held = new Map<string, number>();
  const { ownerId } = options;
  const settler = createSettler({
    ledger,
    clock,
    notifier,
    freed: (counterIds) => line.freed(counterIds),
    ownerId,
    isHeld: (callId) => held.has(callId),
  });
  let bypassedCount = 0;
  const running = createRunningCalls({
    ledger,
    clock,
    notifier,
    settler,
    freed: (counterIds) => line.freed(counterIds),
    onAnswered: noteAnswer,
    onEnded: release,
  });
  const poll = createForeignPoll(options, line);

  async function open(incoming: IncomingCall): Promise<Opening> {
    const receivedAtMs = clock.nowMs();
    const read = incoming.provider.readRequest(incoming.body);
    const callId = ids.next("call");
    if (read.outcome === "refused") return { outcome: "refused", callId, refusal: withCallId(read.refusal, callId) };
    const messages = messagesOf(incoming.body, read.facts, options.fingerprints);
    const session = incoming.labels.session ?? read.facts.namedSession ?? inferredSession(incoming, messages.chain);
    const found = parents.find(session, incoming.labels.parentSessions ?? []);
    // Waited for only where it must be: every turn of the event loop would change the order of arrival.
    const parentSessions = found instanceof Promise ? await found : found;
    const attempt = startAttempt({ incoming, facts: read.facts, messages, callId, receivedAtMs, session, parentSessions });
    try {
      return await decide(attempt);
    } catch (error) {
      // Reading can fail as well as writing: nothing is let through unseen.
      if (!isLedgerUnavailable(error)) throw error;
      notifier.warn("ledger_unavailable", { callId: attempt.call.callId, reason: error.message });
      return refused(attempt, { code: "ledger_unavailable" });
    } finally {
      if (attempt.waiter !== undefined) line.leave(attempt.waiter);
    }
  }

  function startAttempt(input: {
    incoming: IncomingCall;
    facts: RequestFacts;
    messages: ReturnType<typeof messagesOf>;
    callId: string;
    receivedAtMs: number;
    session: string;
    parentSessions: readonly string[];
  }): Attempt {
    const { incoming, facts, messages, callId, receivedAtMs, session, parentSessions } = input;
    const labels = { ...incoming.labels, parentSessions };
    const { scopes: own, attribution } = scopesOf({ caller: incoming.caller, labels, session });
    const scopes = incoming.tool === undefined ? own : scopesOfTool(own, incoming.tool);
    const { attempt, idempotencyKey, provider, caller, body, variant = "" } = incoming;
    const owner = caller.keyId ?? UNNAMED;
    const named = idempotencyKey === undefined ? callId : ids.named("call", `${kindOf(incoming)}${owner} ${idempotencyKey}`);
    const { isStream, history, model } = facts;
    const call = {
      callId: named,
      scopes,
      attribution,
      provider: provider.name,
      requestedModel: model,
      attempt,
      isStream,
      history,
    };
    const deadlineAtMs = Math.min(receivedAtMs + WAIT_MS_MAX, incoming.deadlineAtMs ?? Infinity);
    return {
      incoming,
      facts,
      call,
      conversation: extensions.conversationOf({ owner, session, variant, body, facts, ...messages }),
      receivedAtMs,
      deadlineAtMs,
      pausedSinceMs: undefined,
      rules: options.rules(),
      candidates: [],
      waiter: undefined,
      counted: new Map(),
      grantedStartsMs: {},
      hasWaited: false,
    };
  }

  function inferredSession({ caller, labels }: IncomingCall, chain: readonly string[]): string {
    // What has no messages continues nothing: were each a session of its own, no limit of sessions would hold it.
    if (chain.length === 0) return UNNAMED;
    const owner = JSON.stringify([caller.keyId ?? UNNAMED, labels.project ?? UNNAMED, labels.agent ?? UNNAMED]);
    return sessions.find(owner, chain);
  }

  function noteAnswer({ call, candidate, conversation, rules }: RunInput, { result, usage }: Answer): void {
    usualOutputs.note(agentOf(call.scopes), result.tokens.outputTokens);
    const answeredBy = rules.book.find(call.provider, result.model, clock.nowMs())?.model ?? result.model;
    // What another model than the one asked for has counted says nothing of this one.
    if (conversation !== undefined && answeredBy === candidate.canonicalModel) extensions.note(conversation, answeredBy, usage);
  }

  async function decide(attempt: Attempt): Promise<Opening> {
    const { callId } = attempt.call;
    for (;;) {
      if (attempt.incoming.presence.isGone) return { outcome: "gone", callId };
      const freedBefore = line.freedCount;
      const result = await reserve(attempt);
      switch (result.outcome) {
        case "reserved":
          return admitted(attempt, result);
        case "denied":
          for (const alert of result.alerts) notifier.alert(alert);
          return refused(attempt, result);
        case "duplicate":
          if (await isFreeAgain(attempt)) continue;
          // A reservation that failed may stand there still: sent again under its name, the call is no duplicate of itself.
          if (settler.isUncertain(attempt.call.callId)) return refused(attempt, { code: "ledger_unavailable" });
          return refused(attempt, { code: "duplicate_call" });
        case "unavailable":
          return unavailable(attempt, result.operation);
        case "uncounted":
          await count(attempt, result.model);
          break;
        case "left_out":
          throw new RangeError(`${callId} is no line of a batch, and was left out of one`);
        case "throttled": {
          leaveLine(attempt);
          attempt.grantedStartsMs = { ...attempt.grantedStartsMs, ...result.grantedStartsMs };
          await pause(attempt, result.startAtMs, undefined);
          break;
        }
        case "wait": {
          if (result.pause !== undefined) paused(attempt, result.pause, result.untilMs);
          if (clock.nowMs() >= attempt.deadlineAtMs || !joinLine(attempt, result)) {
            return refuseRecorded(attempt, whyNotWaiting(result, clock.nowMs()));
          }
          attempt.hasWaited = true;
          // Something was freed while the ledger decided: look again rather than sleep through it.
          if (line.wasFreedSince(freedBefore, result.blockedOn)) break;
          await pause(attempt, Math.min(result.untilMs, attempt.deadlineAtMs), attempt.waiter);
          // From here on it waits its turn like everybody, in the order in which those came who were paused with it.
          if (attempt.waiter?.isPaused === true && clock.nowMs() >= result.untilMs) line.move(attempt.waiter, result.blockedOn);
          break;
        }
      }
    }
  }

  /** Asks for a count of exactly what would be sent. In vain or not, the call is decided by what is known then. */
  async function count({ incoming, facts, counted, deadlineAtMs }: Attempt, model: string): Promise<void> {
    const { body, askCount } = incoming;
    const { counting } = incoming.provider;
    // Others may have asked since this call was decided.
    if (!counts.isOpen) return;
    counted.set(model, undefined);
    const request = counting?.requestOf(body, facts, model);
    if (request === undefined || askCount === undefined) return;
    const { presence } = incoming;
    const answer = await counts.ask(askCount, request, {
      untilMs: deadlineAtMs,
      onGone: (callBack) => presence.onGone(callBack),
    });
    if (answer !== undefined) counted.set(model, counting?.readAnswer(answer, facts));
  }

  async function reserve(attempt: Attempt): Promise<ReserveResult | { outcome: "unavailable"; operation: ReserveOperation }> {
    const atMs = clock.nowMs();
    const { incoming, facts, call, conversation, counted, grantedStartsMs } = attempt;
    const { provider } = incoming;
    attempt.rules = options.rules();
    const usualOutputTokens = usualOutputs.of(agentOf(call.scopes));
    const extensionOn =
      conversation && ((model: Pick<Candidate, "canonicalModel" | "model">) => extensions.boundOf(conversation, provider, model));
    const candidates = (attempt.candidates = candidatesFor({
      ...attempt.rules,
      provider,
      facts,
      atMs,
      usualOutputTokens,
      counted,
      canCount: incoming.askCount !== undefined && counts.isOpen,
      ...(extensionOn && { extensionOn }),
    }));
    const heldBack = line.blockedBefore(attempt.waiter);
    const { deadlineAtMs } = incoming;
    const { pausedSinceMs } = attempt;
    const operation: ReserveOperation = {
      kind: "reserve",
      atMs,
      ownerId,
      call,
      candidates,
      heldBack,
      grantedStartsMs,
      ...(deadlineAtMs === undefined ? {} : { deadlineAtMs }),
      ...(pausedSinceMs === undefined ? {} : { pausedSinceMs }),
    };
    hold(call.callId);
    try {
      const [result] = await ledger.apply([operation]);
      // From here on a reserved call is held by its being run.
      if (result?.outcome !== "reserved") release(call.callId);
      return result ?? { outcome: "unavailable", operation };
    } catch (error) {
      release(call.callId);
      if (!isLedgerUnavailable(error)) throw error;
      notifier.warn("ledger_unavailable", { callId: call.callId, reason: error.message });
      return { outcome: "unavailable", operation };
    }
  }

  function hold(callId: string): void {
    held.set(callId, (held.get(callId) ?? 0) + 1);
  }

  function release(callId: string): void {
    const count = (held.get(callId) ?? 0) - 1;
    if (count > 0) held.set(callId, count);
    else held.delete(callId);
  }

  function unavailable(attempt: Attempt, operation: ReserveOperation): Opening {
    const [candidate] = operation.candidates;
    const { callId } = attempt.call;
    if (options.rules().onLedgerUnavailable === "deny" || candidate === undefined || !settler.hasRoom()) {
      // Whether it was written is unknown: what may be held must not stay held.
      settler.sweepLater();
      return refused(attempt, { code: "ledger_unavailable" });
    }
    if (held.has(callId)) return refused(attempt, { code: "duplicate_call" });
    // What its name stands for in the ledger cannot be seen: reserved, refused, or another call of the same idempotency key. It is
    // recorded under a name that nothing stands for, and what was reserved under the other one is given back.
    attempt.call = { ...attempt.call, callId: ids.next("call") };
    settler.sweepLater();
    return bypassed(attempt, { ...operation, call: attempt.call, isForced: true }, candidate);
  }

  /** Lets a call through without the ledger: its reservation is written with its ending. */
  function bypassed(attempt: Attempt, unwritten: ReserveOperation, candidate: Candidate): Opening {
    const { callId } = attempt.call;
    bypassedCount += 1;
    notifier.warn("ledger_bypassed", { callId, count: bypassedCount });
    hold(callId);
    return {
      outcome: "admitted",
      call: running.run({ ...runInputOf(attempt, { candidate, marks: [], counterIds: [] }), unwritten }),
    };
  }

  /** The limit itself says how long is waited; what follows then is a wait like any other. */
  function paused(attempt: Attempt, { sinceMs, alerts }: NonNullable<WaitResult["pause"]>, untilMs: number): void {
    for (const alert of alerts) notifier.alert(alert);
    attempt.pausedSinceMs = sinceMs;
    attempt.deadlineAtMs = Math.min(untilMs + WAIT_MS_MAX, attempt.incoming.deadlineAtMs ?? Infinity);
  }

  function joinLine(attempt: Attempt, { blockedOn, pause: pausing }: WaitResult): boolean {
    const isPaused = pausing !== undefined;
    if (attempt.waiter === undefined) attempt.waiter = line.join(blockedOn, isPaused);
    else line.move(attempt.waiter, blockedOn, isPaused);
    if (attempt.waiter !== undefined) poll.start();
    return attempt.waiter !== undefined;
  }

  function leaveLine(attempt: Attempt): void {
    if (attempt.waiter !== undefined) line.leave(attempt.waiter);
    attempt.waiter = undefined;
  }

  /** Sleeps until an instant, a wake-up, or the caller's leaving. */
  function pause({ incoming }: Attempt, untilMs: number, waiter: Waiter | undefined): Promise<void> {
    // Whoever left while the ledger decided leaves no second time.
    if (incoming.presence.isGone) return Promise.resolve();
    return new Promise((resolve) => {
      const done = (): void => {
        cancelTimer();
        cancelGone();
        if (waiter !== undefined) waiter.wake = () => undefined;
        resolve();
      };
      const cancelTimer = clock.after(Math.max(0, untilMs - clock.nowMs()), done);
      const cancelGone = incoming.presence.onGone(done);
      if (waiter !== undefined) waiter.wake = done;
    });
  }

  async function admitted(attempt: Attempt, result: Extract<ReserveResult, { outcome: "reserved" }>): Promise<Opening> {
    leaveLine(attempt);
    for (const alert of result.alerts) notifier.alert(alert);
    const { callId } = attempt.call;
    if (attempt.incoming.presence.isGone) {
      await giveBack(callId, attempt.incoming.presence.goneFor ?? "caller_left");
      return { outcome: "gone", callId };
    }
    try {
      return { outcome: "admitted", call: running.run(runInputOf(attempt, result)) };
    } catch (error) {
      await giveBack(callId, "internal_error");
      throw error;
    }
  }

  async function giveBack(callId: string, reason: string): Promise<void> {
    const given = settler.end({ kind: "void", atMs: clock.nowMs(), callId, reason });
    release(callId);
    await given;
  }

  function refused(attempt: Attempt, why: RefusalReason): Opening {
    const { call, candidates } = attempt;
    const leastMaxTokens =
      why.view?.fit === "off" ? undefined : candidates.find(({ model }) => model === why.model)?.fit?.leastMaxTokens;
    return { outcome: "refused", callId: call.callId, refusal: refuse(call, { ...why, leastMaxTokens }) };
  }

  /** Refuses for a reason the ledger did not see, and records it there. */
  async function refuseRecorded(attempt: Attempt, why: RefusalReason): Promise<Opening> {
    const operation = { kind: "refuse" as const, atMs: clock.nowMs(), call: attempt.call, code: why.code, view: why.view };
    try {
      await ledger.apply([operation]);
    } catch (error) {
      // The refusal stands whether or not it could be written down.
      if (!isLedgerUnavailable(error)) throw error;
    }
    return refused(attempt, why);
  }

  /**
   * True if the first call with this idempotency key ended long ago, or never ran: a refused call that its client sends again, as it was
   * told to, is no duplicate. The key is free again, under another name.
   */
  async function isFreeAgain(attempt: Attempt): Promise<boolean> {
    const { callId } = attempt.call;
    const [first] = await ledger.calls({ limit: 1, callId });
    const isUnsent = first?.status === "denied" || first?.status === "voided";
    const isForgotten = attempt.incoming.tool === undefined;
    const isLongAgo = isForgotten && first?.endedAtMs !== undefined && clock.nowMs() - first.endedAtMs >= DUPLICATE_MS;
    if (!isUnsent && !isLongAgo) return false;
    attempt.call = { ...attempt.call, callId: ids.named("call", callId) };
    return true;
  }

  return {
    open,
    common: { line, parents, refuse, watchOthers: () => poll.start() },
    freed: (counterIds) => line.freed(counterIds),
    rulesChanged: () => line.wakeAll(),
    waitingOn: (counterId) => line.waitingOn(counterId),
    get runningCount() {
      return running.count;
    },
    get unsettledCount() {
      return settler.pendingCount;
    },
    flush: (deadlineAtMs) => settler.flush(deadlineAtMs),
  };
}

/** The messages as they are recognised: cache marks are moved from turn to turn while the conversation stays the same. */
function messagesOf(body: Uint8Array, { messageSpans }: RequestFacts, fingerprints: FingerprintChain) {
  const messages = messageSpans.map(({ start, end }) => withoutCacheMarks(body.subarray(start, end)));
  const markBytes = messageSpans.map(({ start, end }, index) => end - start - (messages[index]?.length ?? 0));
  return { chain: fingerprints(messages), markBytes };
}

/** Names an agent: the same name in another project is another agent. */
function agentOf({ project, agent }: Scopes): string {
  return JSON.stringify([project, agent]);
}

function runInputOf(
  { incoming, facts, call, conversation, rules, hasWaited, receivedAtMs }: Attempt,
  result: Pick<Extract<ReserveResult, { outcome: "reserved" }>, "candidate" | "marks" | "counterIds">,
): RunInput {
  const { candidate, marks, counterIds } = result;
  const { provider, body } = incoming;
  const asked = { provider, body, facts, call, conversation, rules, hasWaited, receivedAtMs };
  return { ...asked, candidate, marks, counterIds, unwritten: undefined };
}

/** No header can hold it: an invocation of a tool is never taken for a call of somebody's with the same key. */
function kindOf({ tool }: IncomingCall): string {
  return tool === undefined ? "" : "\0tool ";
}

function withCallId(refusal: Refusal, callId: string): Refusal {
  return { ...refusal, details: { ...refusal.details, callId } };
}
