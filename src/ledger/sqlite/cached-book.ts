/**
 * Owns the book of the SQLite ledger: states are read when an operation first asks for them and kept while nobody else writes;
 * changes are gathered and written at the end of a batch.
 * Does not own transactions (batch.ts) or rules (core/decisions).
 * Invariant: between two batches the cache equals the file; after a batch that failed it is thrown away whole.
 */
import type { Database } from "better-sqlite3";
import { compileLimits, emptyScopeState, pruneCounters, type LimitSet, type ScopeState } from "../../core/decisions/counters.ts";
import type { EndedCall, NewEntry, OpenCall } from "../../core/decisions/operations.ts";
import { openCallOf, type Book } from "../../core/decisions/book.ts";
import { toNanoUsd } from "../../core/money/money.ts";
import { NO_TOKENS } from "../../core/usage/usage.ts";
import { reportModelOf, reportTokensOf, reportedLabelsOf } from "../call-record.ts";
import { bodyToText } from "./body.ts";
import { countedFromText, countedToText } from "./counted.ts";
import { chargesToText, hashOfEntry } from "./rows.ts";
import { prepareReadCall, prepareWriteCall, type CallRow } from "./statements/calls.ts";
import { prepareReadScope, prepareTakePastCounters, prepareWritePastCounter, prepareWriteScope } from "./statements/counters.ts";
import { prepareInsertEntry, prepareReadEntry, prepareReadHead, type ChainHead } from "./statements/entries.ts";
import {
  prepareDeleteOpenCall,
  prepareReadOpenCall,
  prepareWriteOpenCall,
  type PlacedOpenCall,
} from "./statements/open-calls.ts";

/** States kept between batches. At some kilobytes each this stays far below 100 MB; more are read again when asked for. */
const SCOPES_CACHED_MAX = 10_000;

/** An entry of this batch with its number. */
interface PlacedEntry {
  seq: number;
  entry: NewEntry;
}

/** The limits before any were put in force. */
export const NO_LIMITS: LimitSet = compileLimits({ version: "", limits: [], downgrade: new Map() });

/** A book over one writing connection. Only used inside its transactions. */
export class CachedBook implements Book {
  limits: LimitSet = NO_LIMITS;

  readonly #read;
  readonly #write;
  readonly #scopes = new Map<string, ScopeState>();
  readonly #open = new Map<string, PlacedOpenCall>();
  #head: ChainHead | undefined;
  #lastCall: { callId: string; row: CallRow | undefined } | undefined;

  // What the batch changed.
  readonly #touched = new Set<string>();
  readonly #changedOpen = new Set<string>();
  readonly #ended = new Map<string, EndedCall>();
  readonly #ends = new Map<string, PlacedEntry>();
  readonly #denied = new Set<string>();
  readonly #appended: PlacedEntry[] = [];
  #lastAtMs = 0;

  constructor(db: Database) {
    this.#read = {
      scope: prepareReadScope(db),
      pastCounters: prepareTakePastCounters(db),
      openCall: prepareReadOpenCall(db),
      call: prepareReadCall(db),
      entry: prepareReadEntry(db),
      head: prepareReadHead(db),
    };
    this.#write = {
      entry: prepareInsertEntry(db),
      scope: prepareWriteScope(db),
      pastCounter: prepareWritePastCounter(db),
      openCall: prepareWriteOpenCall(db),
      deleteOpenCall: prepareDeleteOpenCall(db),
      call: prepareWriteCall(db),
    };
  }

  scope(scopeKey: string): ScopeState {
    let state = this.#scopes.get(scopeKey);
    if (state === undefined) this.#scopes.set(scopeKey, (state = this.#read.scope(scopeKey) ?? emptyScopeState()));
    return state;
  }

  recall(scopeKey: string, endsAfterMs: number): void {
    const state = this.scope(scopeKey);
    for (const { what, windowKey, spent, untilMs } of this.#read.pastCounters(scopeKey, endsAfterMs)) {
      let series = state.counters.get(what);
      if (series === undefined) state.counters.set(what, (series = new Map()));
      series.set(windowKey, { spent, reserved: 0n, untilMs });
    }
    state.droppedUntilMs = Math.min(state.droppedUntilMs, endsAfterMs);
    this.touch(scopeKey);
  }

  touch(scopeKey: string): void {
    this.#touched.add(scopeKey);
  }

  openCall(callId: string): OpenCall | undefined {
    return this.#ended.has(callId) ? undefined : this.#placedOpen(callId)?.open;
  }

  /** Also one that ended in this batch: its place is needed once more, when the batch is written. */
  #placedOpen(callId: string): PlacedOpenCall | undefined {
    const known = this.#open.get(callId);
    if (known !== undefined || this.#ended.has(callId)) return known;
    const read = this.#read.openCall(callId);
    if (read !== undefined) this.#open.set(callId, read);
    return read;
  }

  endedCall(callId: string): EndedCall | undefined {
    const pending = this.#ended.get(callId);
    if (pending !== undefined) return pending;
    const row = this.#callRow(callId);
    if (row === undefined || row.status === "denied") return undefined;
    const first = this.#read.entry(row.position);
    const { charges, spent, ...bounds } = countedFromText(row.counted, openCallOf({ ...first, charges: [] }));
    const costNanoUsd = row.costNanoUsd === undefined ? undefined : toNanoUsd(row.costNanoUsd);
    return { status: row.status, costNanoUsd, open: { ...openCallOf({ ...first, charges }), ...bounds }, spent };
  }

  isDenied(callId: string): boolean {
    return this.#denied.has(callId) || this.#callRow(callId)?.status === "denied";
  }

  /** One operation asks for the same row several times; nothing writes rows before the end of the batch. */
  #callRow(callId: string): CallRow | undefined {
    if (this.#lastCall?.callId !== callId) this.#lastCall = { callId, row: this.#read.call(callId) };
    return this.#lastCall.row;
  }

  putOpenCall(open: OpenCall): void {
    const { callId } = open;
    const { position, reported } = this.#placedOpen(callId) ?? { position: 0, reported: undefined };
    this.#open.set(callId, { position, reported, open });
    this.#changedOpen.add(callId);
  }

  endCall(call: EndedCall): void {
    const { callId } = call.open;
    this.#ended.set(callId, call);
    this.#changedOpen.delete(callId);
  }

  append(entry: NewEntry): void {
    const head = (this.#head ??= this.#read.head());
    const placed = { seq: head.seq + this.#appended.length + 1, entry };
    this.#appended.push(placed);
    this.#lastAtMs = Math.max(this.#lastAtMs, entry.atMs);
    switch (entry.kind) {
      case "reserved": {
        const call = this.#open.get(entry.callId);
        if (call === undefined || entry.body.kind !== "reserved") return;
        call.position = placed.seq;
        call.reported = reportedLabelsOf(entry.body.call);
        return;
      }
      case "denied":
        this.#denied.add(entry.callId);
        this.#ends.set(entry.callId, placed);
        return;
      case "settled":
      case "voided":
      case "expired":
        this.#ends.set(entry.callId, placed);
        return;
      case "renewed":
      case "alert":
      case "filled":
        return;
    }
  }

  /** Writes everything that changed since the last time. The commit is still to come: if it fails, call {@link discard}. */
  flush(): void {
    this.#writeEntries();
    for (const callId of this.#changedOpen) {
      const call = this.#open.get(callId);
      if (call !== undefined) this.#write.openCall(call);
    }
    for (const [callId, ended] of this.#ended) this.#writeEnded(callId, ended);
    for (const callId of this.#denied) this.#writeDenied(callId);
    for (const scopeKey of this.#touched) this.#writeScope(scopeKey);
    for (const callId of this.#ended.keys()) this.#open.delete(callId);
    this.#forgetChanges();
  }

  #writeEntries(): void {
    if (this.#appended.length === 0) return;
    let { hash } = (this.#head ??= this.#read.head());
    let seq = this.#head.seq;
    for (const { seq: placed, entry } of this.#appended) {
      seq = placed;
      const { kind, callId, atMs, costNanoUsd } = entry;
      const row = { seq, kind, callId, atMs, costNanoUsd, charges: chargesToText(entry.charges), body: bodyToText(entry.body) };
      hash = hashOfEntry({ ...row, previousHash: hash });
      this.#write.entry({ ...row, hash });
    }
    this.#head = { seq, hash };
  }

  #writeEnded(callId: string, { status, costNanoUsd, open, spent }: EndedCall): void {
    const placed = this.#open.get(callId);
    if (placed !== undefined) this.#write.deleteOpenCall(callId);
    const row = placed === undefined ? this.#callRow(callId) : undefined;
    const end = this.#ends.get(callId);
    const position = placed?.position ?? row?.position;
    const endSeq = end?.seq ?? row?.endSeq;
    if (position === undefined || endSeq === undefined) throw new TypeError(`call ${callId} ends without having been reserved`);
    const reported = placed?.reported ?? row?.reported;
    if (reported === undefined) throw new TypeError(`call ${callId} ends without the labels it was reserved with`);
    const { scopes, model, atMs: startedAtMs } = open;
    const tokens = end === undefined ? (row?.tokens ?? NO_TOKENS) : reportTokensOf(end.entry);
    const counted = status === "expired" ? countedToText(open, spent) : undefined;
    this.#write.call({ position, callId, status, startedAtMs, endSeq, scopes, reported, model, costNanoUsd, tokens, counted });
  }

  #writeDenied(callId: string): void {
    const end = this.#ends.get(callId);
    if (end?.entry.body.kind !== "denied") return;
    const { decision, call } = end.entry.body;
    this.#write.call({
      position: end.seq,
      callId,
      status: "denied",
      startedAtMs: end.entry.atMs,
      endSeq: end.seq,
      scopes: call.scopes,
      reported: reportedLabelsOf(call),
      model: reportModelOf({ decision, facts: call }),
      costNanoUsd: undefined,
      tokens: NO_TOKENS,
      counted: undefined,
    });
  }

  #writeScope(scopeKey: string): void {
    const state = this.scope(scopeKey);
    for (const dropped of pruneCounters(state, this.#lastAtMs)) this.#write.pastCounter(scopeKey, dropped);
    this.#write.scope(scopeKey, state);
  }

  /** Keeps the cache in bounds; between batches. */
  evict(): void {
    for (const scopeKey of this.#scopes.keys()) {
      if (this.#scopes.size <= SCOPES_CACHED_MAX) break;
      this.#scopes.delete(scopeKey);
    }
  }

  /** Call when the file moved, or after a batch that failed. */
  discard(): void {
    this.#forgetChanges();
    this.#scopes.clear();
    this.#open.clear();
    this.#head = undefined;
  }

  #forgetChanges(): void {
    this.#touched.clear();
    this.#changedOpen.clear();
    this.#ended.clear();
    this.#ends.clear();
    this.#denied.clear();
    this.#appended.length = 0;
    this.#lastCall = undefined;
    this.#lastAtMs = 0;
  }
}
