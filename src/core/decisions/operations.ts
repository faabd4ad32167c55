/**
 * Owns the operations a ledger carries out and what each answers: plain data, the same for every store.
 * Does not own their effect (transitions.ts) or how they are stored (ledger/).
 * Invariant: every operation is one atomic step, and asking again with the same call id changes nothing.
 */
import type { ErrorCode } from "../errors/codes.ts";
import type { NanoUsd } from "../money/money.ts";
import type { CostPart } from "../pricing/rate.ts";
import type { Scopes } from "../limits/limit.ts";
import type { TokenParts } from "../usage/usage.ts";
import type { Alert } from "./alerts.ts";
import type { AdmitInput, LimitView } from "./admit.ts";
import type { CallFacts, Candidate, Extension } from "./call.ts";
import type { Charge } from "./counters.ts";

export type Operation =
  | ReserveOperation
  | RenewOperation
  | SettleOperation
  | VoidOperation
  | ExpireOperation
  | AdjustOperation
  | RefuseOperation;

/** Asks for admission and sets the bound aside, in all counters or in none. */
export interface ReserveOperation {
  kind: "reserve";
  atMs: number;
  ownerId: string;
  call: CallFacts;
  /** Never empty; the model asked for comes first. */
  candidates: readonly Candidate[];
  /** Counter series on which an earlier call of this process waits. */
  heldBack: readonly string[];
  /** Starts that throttling gave this call before, by pace. */
  grantedStartsMs: Readonly<Record<string, number>>;
  /** The caller waits no longer than this (epoch ms): a start after it is refused, and not taken from others. */
  deadlineAtMs?: number;
  /** Since when this call waits for a limit that pauses calls; absent: it does not yet. */
  pausedSinceMs?: number;
  /** True: records a call that was let through while the ledger could not be written, whatever the limits say. */
  isForced?: boolean;
  /** Absent: a call by itself. */
  batch?: BatchPlace;
}

/**
 * Where a line of a batch stands in it. All lines are asked for in one `apply`, the first one first: it is decided for all of them, as
 * what they need together, and those behind it are reserved if it was.
 */
export type BatchPlace = { isFirst: true; rest: readonly BatchShare[] } | { isFirst: false; firstCallId: string };

/** What some of the other lines need together. */
export interface BatchShare {
  lines: number;
  /** The one thing they have in common is the model; its bounds are sums. Whoever has unbounded parts has a share of its own. */
  candidate: Candidate;
}

/** Lowers what a running call holds, once more of its cost is known. Never raises it. */
export interface RenewOperation {
  kind: "renew";
  atMs: number;
  callId: string;
  usdBound: NanoUsd | undefined;
  inputTokensBound: number;
  outputTokensBound: number;
}

/** What a call turned out to be. */
export interface CallResult {
  /** `undefined`: no price is known for something it used; it is then counted at its bound. */
  costNanoUsd: NanoUsd | undefined;
  tokens: TokenParts;
  /** Cost by part, as exact text; for people and for checking by hand. */
  costParts: readonly CostPart[];
  priceIds: readonly string[];
  webSearchRequests: number;
  /** False only if the provider's final usage was read and every meter had its price. */
  isEstimated: boolean;
  flags: readonly string[];
  /** The model that answered, as the provider named it. */
  model: string;
  status: number | undefined;
  stopReason: string | undefined;
  providerRequestId: string | undefined;
  error: { type: string; message: string } | undefined;
}

/** Replaces a reservation by the actual cost. A second one for the same call must say the same. */
export interface SettleOperation {
  kind: "settle";
  atMs: number;
  callId: string;
  result: CallResult;
}

/** Gives a reservation back whole: nothing was sent upstream. */
export interface VoidOperation {
  kind: "void";
  atMs: number;
  callId: string;
  reason: string;
}

/** Counts a reservation at its bound: its owner is gone. A settlement may still come later. */
export interface ExpireOperation {
  kind: "expire";
  atMs: number;
  callId: string;
  reason: string;
}

/** Corrects what a call that is over is counted with. A second one with the same id must say the same. */
export interface AdjustOperation {
  kind: "adjust";
  atMs: number;
  callId: string;
  adjustmentId: string;
  /** Added to the cost; not zero. */
  deltaNanoUsd: bigint;
  reason: string;
  by: string;
}

/** Records a refusal that was decided outside a reservation (a wait that took too long, a request that was never priced). */
export interface RefuseOperation {
  kind: "refuse";
  atMs: number;
  call: CallFacts;
  code: ErrorCode;
  view: LimitView | undefined;
}

export type OperationResult = ReserveResult | RenewResult | EndResult | AdjustResult | RefuseResult;

export type ReserveResult =
  | {
      kind: "reserve";
      outcome: "reserved";
      candidate: Candidate;
      marks: readonly DecisionMark[];
      /** Why a downgrade that was due did not happen. */
      skippedReason: string | undefined;
      alerts: readonly Alert[];
      /** Counter series this call holds. */
      counterIds: readonly string[];
    }
  | {
      kind: "reserve";
      outcome: "wait";
      blockedOn: readonly string[];
      view: LimitView | undefined;
      untilMs: number;
      /** A limit makes it wait for its end instead of refusing it. */
      pause?: { sinceMs: number; alerts: readonly Alert[] };
    }
  /** It would wait or be refused; were its input bounded by the provider's count, perhaps not. Nothing was changed. */
  | { kind: "reserve"; outcome: "uncounted"; model: string }
  | { kind: "reserve"; outcome: "throttled"; startAtMs: number; grantedStartsMs: Readonly<Record<string, number>> }
  | {
      kind: "reserve";
      outcome: "denied";
      code: ErrorCode;
      view: LimitView | undefined;
      clearsAtMs: number;
      unboundedParts: readonly string[];
      model: string;
      alerts: readonly Alert[];
    }
  | { kind: "reserve"; outcome: "duplicate" }
  /** A line of a batch whose first line was not reserved: nothing was looked at. */
  | { kind: "reserve"; outcome: "left_out" };

/** What was done to a call besides letting it through. */
export type DecisionMark = "downgraded" | "downgrade_skipped" | "throttled" | "graced" | "fitted";

export interface RenewResult {
  kind: "renew";
  outcome: "renewed" | "not_open";
  freedCounterIds: readonly string[];
}

export interface EndResult {
  kind: "settle" | "void" | "expire";
  /**
   * `done` · `already_done`: said before, the same · `conflict`: said before, another amount; nothing changed · `unknown_call`.
   */
  outcome: "done" | "already_done" | "conflict" | "unknown_call";
  /** Amount settled above the reservation; recorded, never clipped. */
  overrunNanoUsd: NanoUsd;
  alerts: readonly Alert[];
  /** Counter series in which something was freed. */
  freedCounterIds: readonly string[];
}

export interface AdjustResult {
  kind: "adjust";
  /**
   * `done` · `already_done`: said before, the same · `conflict`: said before, another amount · `out_of_range`: the cost would be below
   * zero, or beyond belief · `not_ended`: it runs · `nothing_sent`: refused or voided · `unknown_call`. Only `done` changes anything.
   */
  outcome: "done" | "already_done" | "conflict" | "out_of_range" | "not_ended" | "nothing_sent" | "unknown_call";
  /** What the call is counted with now; `undefined`: not known. */
  costNanoUsd: NanoUsd | undefined;
  alerts: readonly Alert[];
}

export interface RefuseResult {
  kind: "refuse";
  /** `duplicate`: this call was refused, admitted or ended before; nothing was written. */
  outcome: "recorded" | "duplicate";
}

/** A reservation that is not ended. */
export interface OpenCall {
  callId: string;
  ownerId: string;
  atMs: number;
  scopes: Scopes;
  provider: string;
  /** The price book's name of the model it runs on. */
  model: string;
  /** What it holds now, per counter: `spent` is what it was charged at once (requests, tool calls), `reserved` what it holds. */
  charges: readonly Charge[];
  usdBound: NanoUsd | undefined;
  /** True: `usdBound` is what a limit reserves for parts that nothing bounds; it is not lowered while the call runs. */
  isUnbounded: boolean;
  inputTokensBound: number;
  outputTokensBound: number;
}

/** How a call ended, as far as a second ending must agree with it. */
export interface EndedCall {
  status: "settled" | "voided" | "expired";
  /** As the ending said; corrections are beside it. */
  costNanoUsd: NanoUsd | undefined;
  /** The reservation as it stood when the call ended: a late settlement replaces what was counted for it. */
  open: OpenCall;
  /** What the ending and its corrections added to `spent`, per counter in the order of `open.charges`. */
  spent: readonly bigint[];
  /** Every correction ever made, so that none is made twice. */
  adjustments: readonly Adjustment[];
  /** What the corrections since this ending come to: a late settlement replaces those before it. */
  adjustedNanoUsd: bigint;
}

export interface Adjustment {
  adjustmentId: string;
  deltaNanoUsd: bigint;
}

/** One line of the ledger before it has a number and a hash. */
export interface NewEntry {
  kind: "reserved" | "renewed" | "settled" | "voided" | "expired" | "denied" | "adjusted" | "alert" | "filled" | "closed";
  callId: string;
  atMs: number;
  /** Only for endings and corrections: what the call is counted with in money; `undefined` where no price is known and nothing was held. */
  costNanoUsd: NanoUsd | undefined;
  charges: readonly Charge[];
  body: EntryBody;
}

/** What an entry says besides its charges. JSON-safe after `toJson` of the store: bigints become decimal text. */
export type EntryBody =
  | { kind: "reserved"; decision: StoredDecision; call: CallFacts; ownerId: string }
  | { kind: "renewed"; usdBound: NanoUsd | undefined; inputTokensBound: number; outputTokensBound: number }
  | { kind: "settled"; result: CallResult; isLate: boolean; overrunNanoUsd: NanoUsd }
  | { kind: "voided"; reason: string }
  | { kind: "expired"; reason: string; tokens: { inputTokens: number; outputTokens: number } }
  | { kind: "adjusted"; adjustmentId: string; deltaNanoUsd: bigint; reason: string; by: string }
  | { kind: "denied"; decision: StoredDecision | undefined; call: CallFacts; code: ErrorCode; view: LimitView | undefined }
  | { kind: "alert"; alert: Alert }
  | { kind: "filled"; limitsVersion: string }
  | Closing;

/**
 * Stands for entries that are past retention and gone. Its charges carry on what they came to in every counter whose window is not over
 * yet, so that the entries which are left still add up to the counters.
 */
export interface Closing {
  kind: "closed";
  /** The first and the last entry it stands for, and the hash of the last: the chain goes on from there. */
  fromSeq: number;
  throughSeq: number;
  throughHash: string;
  fromMs: number;
  toMs: number;
  /** Windows that ended by then are carried no further (epoch ms). */
  untilMs: number;
  /** What reports say of the calls that were reserved by these entries. */
  calls: number;
  denied: number;
  costNanoUsd: bigint;
  tokens: TokenParts;
  /** The hash of the last of their roll-ups, over those of every closing before. */
  rollupHash: string;
  /** Entries up to the last that stay, since later ones refer to them, each with the hash before it; those of closings before included. */
  kept: readonly (readonly [seq: number, previousHash: string])[];
  /** Calls that were reserved by these entries and have later ones as well, each with its instant, the last of those and its first. */
  carried: readonly (readonly [callId: string, atMs: number, lastSeq: number, position: number])[];
}

/** Everything a decision was made from, so that it can be made again. */
export interface StoredDecision {
  /** How the input was bounded, where it was not by its bytes or the context window. */
  extension?: Extension;
  countedTokens?: number;
  limitsVersion: string;
  /** True: let through while the ledger could not be written, whatever the limits said. */
  isForced?: boolean;
  admit: Omit<AdmitInput, "heldBack"> & { heldBack: readonly string[] };
  marks: readonly DecisionMark[];
  skippedReason: string | undefined;
  requestedModel: string;
  /** As it is spelled upstream. */
  model: string;
  /** The price book's own name of it: what reports group by. */
  canonicalModel: string;
  maxTokens: number | undefined;
  usdBound: NanoUsd | undefined;
  inputTokensBound: number;
  outputTokensBound: number;
  priceIds: readonly string[];
}
