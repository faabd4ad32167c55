/**
 * Owns the book of the SQLite ledger: states are read when an operation first asks for them and kept while nobody else writes. A batch
 * writes its entries; what else the file says (counters, open calls, calls) is folded from them, many entries at a time.
 * Does not own transactions and when to fold (batch.ts) or rules (core/decisions).
 * Invariants: the file's projections hold exactly the entries up to `folded`; the book holds those and every entry behind them, so that
 * between two batches it equals the file; after a batch that failed it is thrown away whole and read again.
 */
import type { Database } from "better-sqlite3";
import {
  isSameCounter,
  chargeCounter,
  compileLimits,
  emptyScopeState,
  pruneCounters,
  restoreCounter,
  untilOf,
  type Charge,
  type LimitSet,
  type ScopeState,
} from "../../core/decisions/counters.ts";
import type { EndedCall, NewEntry, OpenCall } from "../../core/decisions/operations.ts";
import { adjustedCall, correctedCostOf } from "../../core/decisions/adjust.ts";
import { openCallOf, type Book } from "../../core/decisions/book.ts";
import { toNanoUsd, ZERO_USD, type NanoUsd } from "../../core/money/money.ts";
import { NO_TOKENS, type TokenParts } from "../../core/usage/usage.ts";
import { reportModelOf, reportTokensOf, reportedLabelsOf } from "../call-record.ts";
import { correctedFromText, countedFromText, countedToText, type PlacedAdjustment } from "./counted.ts";
import { EntryWriter, readBody, readCharges } from "./entry-text.ts";
import { hashOfEntry } from "./rows.ts";
import { prepareReadArchived } from "./statements/archived.ts";
import { prepareReadCall, prepareWriteCalls, type CallRow } from "./statements/calls.ts";
import { prepareReadScope, prepareTakePastCounters, prepareWritePastCounter, prepareWriteScope } from "./statements/counters.ts";
import {
  prepareInsertEntries,
  prepareReadEntry,
  prepareReadHead,
  prepareReadTail,
  spelledOn,
  type ChainHead,
  type EntryRow,
} from "./statements/entries.ts";
import {
  prepareDeleteRests,
  prepareReadFolded,
  prepareReadRests,
  prepareWriteFolded,
  prepareWriteRest,
} from "./statements/folded.ts";
import {
  prepareDeleteOpenCall,
  prepareReadOpenCall,
  prepareReadOpenCalls,
  prepareWriteOpenCall,
  type PlacedOpenCall,
} from "./statements/open-calls.ts";

/** States kept between batches. At some kilobytes each this stays far below 100 MB; more are read again when asked for. */
const SCOPES_CACHED_MAX = 10_000;
/** So many are left then: letting one go with every batch would walk past all that went before, every time. */
const SCOPES_LEFT_MAX = 9_000;

/** An entry with its number. */
interface PlacedEntry {
  seq: number;
  entry: NewEntry;
  /** What the caller said of it, as it came. */
  said?: string;
}

/** What an ending's entry says that the row of its call holds; the entry itself need not be kept for that. */
interface PlacedEnd {
  seq: number;
  tokens: TokenParts;
  overrunNanoUsd: NanoUsd;
}

/** What the caller of an operation said of its call, and the text it came as. */
export interface Said {
  of: object;
  text: string;
}

/** The limits before any were put in force. */
export const NO_LIMITS: LimitSet = compileLimits({ version: "", limits: [], downgrade: new Map() });

/** A book over one connection. Used inside its transactions only; a reading connection's never writes. */
export class CachedBook implements Book {
  limits: LimitSet = NO_LIMITS;
  /** Of the operation that is carried out: its entry holds the same text. */
  said: Said | undefined;

  readonly #db: Database;
  readonly #read;
  #write: ReturnType<typeof prepareWrites> | undefined;
  readonly #scopes = new Map<string, ScopeState>();
  readonly #open = new Map<string, PlacedOpenCall>();
  readonly #entryWriter = new EntryWriter();
  #head: ChainHead | undefined;
  #lastCall: { callId: string; row: CallRow | undefined } | undefined;
  /** The last call that the file was asked for in vain: a reservation asks for it, and then stores it. */
  #notOpen: string | undefined;

  // What the batch changed and did not write yet.
  readonly #appended: PlacedEntry[] = [];
  readonly #changedRests = new Set<string>();

  // What the entries behind `folded` changed.
  #folded = 0;
  /** Calls that were reserved up to here are archived: what is left of them is no more. */
  #archived = 0;
  readonly #changedScopes = new Set<string>();
  /** What a clock set back asked for stays at hand until it is folded again. */
  readonly #recalled = new Set<string>();
  readonly #changedOpen = new Set<string>();
  readonly #ended = new Map<string, EndedCall>();
  readonly #ends = new Map<string, PlacedEnd>();
  /** Which entries corrected a call, by correction. */
  readonly #adjustmentSeqs = new Map<string, Map<string, number>>();
  readonly #denied = new Map<string, PlacedEntry>();
  /** By the last entry's clock, which may have been set back. */
  #lastAtMs = 0;
  /** True: something was taken out of the file's projections, so they must be written with this batch. */
  mustFold = false;

  constructor(db: Database) {
    this.#db = db;
    this.#read = {
      scope: prepareReadScope(db),
      openCall: prepareReadOpenCall(db),
      openCalls: prepareReadOpenCalls(db),
      call: prepareReadCall(db),
      entry: prepareReadEntry(db),
      tail: prepareReadTail(db),
      head: prepareReadHead(db),
      folded: prepareReadFolded(db),
      archived: prepareReadArchived(db),
      rests: prepareReadRests(db),
    };
  }

  scope(scopeKey: string): ScopeState {
    let state = this.#scopes.get(scopeKey);
    if (state === undefined) this.#scopes.set(scopeKey, (state = this.#read.scope(scopeKey) ?? emptyScopeState()));
    return state;
  }

  recall(scopeKey: string, endsAfterMs: number): void {
    const state = this.scope(scopeKey);
    for (const counter of this.#writes().takePastCounters(scopeKey, endsAfterMs)) restoreCounter(state, counter);
    state.droppedUntilMs = Math.min(state.droppedUntilMs, endsAfterMs);
    this.#changedScopes.add(scopeKey);
    this.#recalled.add(scopeKey);
    this.mustFold = true;
  }

  touch(scopeKey: string): void {
    this.#changedRests.add(scopeKey);
    this.#changedScopes.add(scopeKey);
  }

  openCall(callId: string): OpenCall | undefined {
    return this.#ended.has(callId) ? undefined : this.#placedOpen(callId)?.open;
  }

  /** Also one that ended behind `folded`: its place is needed once more, when it is folded. */
  #placedOpen(callId: string): PlacedOpenCall | undefined {
    const known = this.#open.get(callId);
    if (known !== undefined || this.#ended.has(callId) || callId === this.#notOpen) return known;
    const read = this.#read.openCall(callId);
    if (read === undefined) this.#notOpen = callId;
    else this.#open.set(callId, read);
    return read;
  }

  endedCall(callId: string): EndedCall | undefined {
    const pending = this.#ended.get(callId);
    if (pending !== undefined) return pending;
    const row = this.#callRow(callId);
    if (row === undefined || row.status === "denied" || this.#isArchived(row)) return undefined;
    const first = this.#read.entry(row.position);
    const reserved = openCallOf(first);
    const { spent, ...counted } = countedFromText(row.counted, reserved);
    const corrected = correctedFromText(row.counted);
    const cost = corrected === undefined ? row.costNanoUsd : (corrected.endedNanoUsd ?? undefined);
    const costNanoUsd = cost === undefined ? undefined : toNanoUsd(cost);
    const adjustments = corrected?.adjustments ?? [];
    const adjustedNanoUsd = adjustments.reduce((sum, { seq, deltaNanoUsd }) => (seq > row.endSeq ? sum + deltaNanoUsd : sum), 0n);
    return { status: row.status, costNanoUsd, open: { ...reserved, ...counted }, spent, adjustments, adjustedNanoUsd };
  }

  /** Also of a call that is archived and not removed yet: nothing can be done with it, and its name is not free. */
  isDenied(callId: string): boolean {
    if (this.#denied.has(callId)) return true;
    const row = this.#callRow(callId);
    return row !== undefined && (row.status === "denied" || this.#isArchived(row));
  }

  #isArchived({ position }: CallRow): boolean {
    return position <= this.#archived;
  }

  /** One operation asks for the same row several times; nothing writes rows but folding. */
  #callRow(callId: string): CallRow | undefined {
    if (this.#lastCall?.callId !== callId) this.#lastCall = { callId, row: this.#read.call(callId) };
    return this.#lastCall.row;
  }

  putOpenCall(open: OpenCall): void {
    const { callId } = open;
    const placed = this.#placedOpen(callId) ?? {
      position: 0,
      reported: undefined,
      reservedNanoUsd: undefined,
      charged: undefined,
      isStored: false,
    };
    this.#open.set(callId, { ...placed, open });
    this.#changedOpen.add(callId);
  }

  endCall(call: EndedCall): void {
    const { callId } = call.open;
    this.#ended.set(callId, call);
    this.#changedOpen.delete(callId);
  }

  append(entry: NewEntry): void {
    const head = (this.#head ??= this.#read.head());
    const placed: PlacedEntry = { seq: head.seq + this.#appended.length + 1, entry };
    if (this.said !== undefined && isSaidIn(entry, this.said.of)) placed.said = this.said.text;
    this.#appended.push(placed);
    this.#note(placed);
  }

  /** Remembers what an entry says until it is folded. */
  #note(placed: PlacedEntry): void {
    const { entry, seq } = placed;
    if (entry.kind === "closed") return;
    this.#lastAtMs = entry.atMs;
    for (const { scopeKey } of entry.charges) this.#changedScopes.add(scopeKey);
    switch (entry.kind) {
      case "reserved": {
        const call = this.#open.get(entry.callId);
        if (call === undefined || entry.body.kind !== "reserved") return;
        call.position = seq;
        call.charged = entry.charges;
        call.reported = reportedLabelsOf(entry.body.call);
        call.reservedNanoUsd = entry.body.decision.usdBound;
        return;
      }
      case "denied":
        this.#denied.set(entry.callId, placed);
        return;
      case "settled":
      case "voided":
      case "expired":
        this.#ends.set(entry.callId, endOf(placed));
        return;
      case "adjusted": {
        if (entry.body.kind !== "adjusted") return;
        const seqs = this.#adjustmentSeqs.get(entry.callId) ?? new Map<string, number>();
        this.#adjustmentSeqs.set(entry.callId, seqs.set(entry.body.adjustmentId, seq));
        return;
      }
      case "renewed":
      case "alert":
      case "filled":
        return;
    }
  }

  /** Where the chain ends, if this book knows: after a flush that wrote entries it does. */
  get head(): ChainHead | undefined {
    return this.#head;
  }

  /** How many entries are not folded yet, this batch included. */
  get unfoldedCount(): number {
    return (this.#head?.seq ?? this.#folded) + this.#appended.length - this.#folded;
  }

  /** Writes what the batch added. The commit is still to come: if it fails, call {@link discard}. */
  flush(): void {
    const writes = this.#writes();
    for (const scopeKey of this.#changedRests) writes.rest(scopeKey, this.scope(scopeKey));
    this.#changedRests.clear();
    if (this.#appended.length === 0) return;
    let { hash, seq } = (this.#head ??= this.#read.head());
    const rows: EntryRow[] = [];
    for (const { seq: placed, entry, said } of this.#appended) {
      seq = placed;
      const { kind, callId, atMs, costNanoUsd } = entry;
      const text = this.#entryWriter.write({ seq, entry, said, reserved: this.#reservedAt(callId) }, this.limits);
      const { charges, body } = text;
      hash = hashOfEntry({ previousHash: hash, seq, kind, callId, atMs, costNanoUsd, charges, body });
      rows.push({ seq, kind, callId, atMs, costNanoUsd, charges, body, hash });
    }
    writes.entries(rows);
    this.#head = { seq, hash };
    this.#appended.length = 0;
  }

  #reservedAt(callId: string): { position: number; charges: readonly Charge[] } | undefined {
    const placed = this.#open.get(callId);
    return placed?.charged && { position: placed.position, charges: placed.charged };
  }

  /** Brings the file's projections up to the last entry. Everything must have been flushed. */
  fold(): void {
    const writes = this.#writes();
    for (const callId of this.#changedOpen) {
      const call = this.#open.get(callId);
      if (call === undefined) continue;
      writes.openCall(call);
      call.isStored = true;
    }
    for (const callId of this.#ended.keys()) if (this.#open.get(callId)?.isStored === true) writes.deleteOpenCall(callId);
    writes.calls(this.unfoldedRows());
    for (const scopeKey of this.#changedScopes) this.#foldScope(scopeKey);
    for (const callId of this.#ended.keys()) this.#open.delete(callId);
    this.#folded = (this.#head ??= this.#read.head()).seq;
    writes.folded(this.#folded);
    writes.deleteRests();
    this.#forgetUnfolded();
  }

  #endedRow(callId: string, ended: EndedCall): CallRow {
    const { status, open } = ended;
    const placed = this.#open.get(callId);
    const row = placed === undefined ? this.#callRow(callId) : undefined;
    const end = this.#ends.get(callId);
    const position = placed?.position ?? row?.position;
    const endSeq = end?.seq ?? row?.endSeq;
    if (position === undefined || endSeq === undefined) throw new TypeError(`call ${callId} ends without having been reserved`);
    const reported = placed?.reported ?? row?.reported;
    if (reported === undefined) throw new TypeError(`call ${callId} ends without the labels it was reserved with`);
    const { scopes, model, atMs: startedAtMs } = open;
    const tokens = (end ?? row)?.tokens ?? NO_TOKENS;
    const adjustments = this.#placedAdjustments(ended, row);
    const counted = status === "expired" || adjustments.length > 0 ? countedToText(ended, adjustments) : undefined;
    const reservedNanoUsd = placed === undefined ? row?.reservedNanoUsd : placed.reservedNanoUsd;
    const overrunNanoUsd = toNanoUsd((end ?? row)?.overrunNanoUsd ?? 0n);
    const amounts = { costNanoUsd: correctedCostOf(ended), reservedNanoUsd, overrunNanoUsd };
    return { position, callId, status, startedAtMs, endSeq, scopes, reported, model, tokens, counted, ...amounts };
  }

  /** Corrections with their entries: those behind `folded` are at hand, the row names those before. */
  #placedAdjustments({ open: { callId }, adjustments }: EndedCall, row: CallRow | undefined): PlacedAdjustment[] {
    if (adjustments.length === 0) return [];
    const folded = correctedFromText(row?.counted)?.adjustments ?? [];
    const seqs = new Map(folded.map(({ adjustmentId, seq }) => [adjustmentId, seq]));
    for (const [adjustmentId, seq] of this.#adjustmentSeqs.get(callId) ?? []) seqs.set(adjustmentId, seq);
    return adjustments.map(({ adjustmentId, deltaNanoUsd }) => {
      const seq = seqs.get(adjustmentId);
      if (seq === undefined) throw new TypeError(`correction ${adjustmentId} of call ${callId} has no entry`);
      return { adjustmentId, deltaNanoUsd, seq };
    });
  }

  #foldScope(scopeKey: string): void {
    const state = this.scope(scopeKey);
    if (!this.#recalled.has(scopeKey)) {
      for (const dropped of pruneCounters(state, this.#lastAtMs)) this.#writes().pastCounter(scopeKey, dropped);
    }
    this.#writes().scope(scopeKey, state);
  }

  /** Keeps the cache in bounds; between batches. What is not folded stays: the file does not say it. */
  evict(): void {
    if (this.#scopes.size <= SCOPES_CACHED_MAX) return;
    for (const scopeKey of this.#scopes.keys()) {
      if (this.#scopes.size <= SCOPES_LEFT_MAX) break;
      if (!this.#changedScopes.has(scopeKey)) this.#scopes.delete(scopeKey);
    }
  }

  /** Call when the file moved, or after a batch that failed; then {@link load}. */
  discard(): void {
    this.#forgetUnfolded();
    this.#appended.length = 0;
    this.#changedRests.clear();
    this.#scopes.clear();
    this.#open.clear();
    this.#notOpen = undefined;
    this.#head = undefined;
    this.#entryWriter.forget();
    spelledOn(this.#db).forget();
  }

  #forgetUnfolded(): void {
    this.#changedScopes.clear();
    this.#recalled.clear();
    this.#changedOpen.clear();
    this.#ended.clear();
    this.#ends.clear();
    this.#adjustmentSeqs.clear();
    this.#denied.clear();
    this.#lastCall = undefined;
    this.#lastAtMs = 0;
    this.mustFold = false;
  }

  /** Reads what the entries behind `folded` say. The book must be empty. */
  load(): void {
    this.#folded = this.#read.folded();
    this.#archived = this.#read.archived().throughSeq;
    this.#head = this.#read.head();
    if (this.#head.seq > this.#folded) {
      const spelled = spelledOn(this.#db);
      for (const row of this.#read.tail(this.#folded + 1)) {
        const { seq, kind, callId, atMs, costNanoUsd } = row;
        const cost = costNanoUsd === undefined ? undefined : toNanoUsd(costNanoUsd);
        const charges = readCharges(row.charges, spelled);
        this.#replay({ seq, entry: { kind, callId, atMs, costNanoUsd: cost, charges, body: readBody(row, spelled) } });
      }
    }
    for (const { scopeKey, rest } of this.#read.rests()) {
      Object.assign(this.scope(scopeKey), rest);
      this.#changedScopes.add(scopeKey);
    }
  }

  /** Carries out what an entry says, as it was when it was written. */
  #replay(placed: PlacedEntry): void {
    const { entry } = placed;
    const { body, callId, charges } = entry;
    // What a closing carries on is in the counters already.
    const changes = body.kind === "closed" ? [] : charges;
    for (const charge of changes) chargeCounter(this.scope(charge.scopeKey), charge, untilOf(charge.what, charge.windowKey));
    switch (body.kind) {
      case "reserved":
        this.putOpenCall(openCallOf(entry));
        break;
      case "renewed": {
        const { usdBound, inputTokensBound, outputTokensBound } = body;
        const open = this.#openOf(callId);
        this.putOpenCall({ ...open, usdBound, inputTokensBound, outputTokensBound, charges: addCharges(open.charges, charges) });
        break;
      }
      case "settled":
      case "voided":
      case "expired": {
        const ended = this.endedCall(callId);
        const before = ended?.open ?? this.#openOf(callId);
        const spent = before.charges.map((charge) => charges.find((other) => isSameCounter(charge, other))?.spent ?? 0n);
        const adjustments = ended?.adjustments ?? [];
        this.endCall({
          status: body.kind,
          costNanoUsd: entry.costNanoUsd,
          open: before,
          spent,
          adjustments,
          adjustedNanoUsd: 0n,
        });
        break;
      }
      case "adjusted": {
        const ended = this.endedCall(callId);
        if (ended === undefined)
          throw new TypeError(`entry ${placed.seq} corrects call ${callId}, which is not over; run \`purser verify\``);
        this.endCall(adjustedCall(ended, body));
        break;
      }
      case "filled":
        // Limits are put in force with everything folded, so that none of it is behind.
        throw new TypeError(`entry ${placed.seq} is filled, but not folded; run \`purser verify\``);
      case "denied":
      case "alert":
      case "closed":
        break;
    }
    this.#note(placed);
  }

  #openOf(callId: string): OpenCall {
    const open = this.openCall(callId);
    if (open === undefined) throw new TypeError(`an entry changes call ${callId}, which is not open; run \`purser verify\``);
    return open;
  }

  // For queries: what is behind `folded`, to be laid over what the file says.

  /** Scope values that entries behind `folded` changed. */
  unfoldedScopes(): Map<string, ScopeState> {
    return new Map([...this.#changedScopes].map((scopeKey) => [scopeKey, this.scope(scopeKey)]));
  }

  /** Calls that ended or were refused behind `folded`. */
  unfoldedRows(): CallRow[] {
    const ended = [...this.#ended].map(([callId, call]) => this.#endedRow(callId, call));
    const denied = [...this.#denied].map(([callId, placed]) => deniedRow(callId, placed)).filter((row) => row !== undefined);
    return [...ended, ...denied];
  }

  /** Every open call, in the order they were admitted. */
  openCalls(ownerId?: string): PlacedOpenCall[] {
    const stored = this.#read
      .openCalls(ownerId)
      .filter(({ open: { callId } }) => !this.#ended.has(callId) && !this.#changedOpen.has(callId));
    const changed = [...this.#changedOpen].map((callId) => this.#open.get(callId)).filter((call) => call !== undefined);
    return [...stored, ...changed.filter(({ open }) => ownerId === undefined || open.ownerId === ownerId)].sort(
      (a, b) => a.position - b.position,
    );
  }

  #writes(): ReturnType<typeof prepareWrites> {
    return (this.#write ??= prepareWrites(this.#db));
  }
}

function prepareWrites(db: Database) {
  return {
    entries: prepareInsertEntries(db),
    rest: prepareWriteRest(db),
    deleteRests: prepareDeleteRests(db),
    folded: prepareWriteFolded(db),
    scope: prepareWriteScope(db),
    pastCounter: prepareWritePastCounter(db),
    takePastCounters: prepareTakePastCounters(db),
    openCall: prepareWriteOpenCall(db),
    deleteOpenCall: prepareDeleteOpenCall(db),
    calls: prepareWriteCalls(db),
  };
}

function deniedRow(callId: string, { seq, entry }: PlacedEntry): CallRow | undefined {
  if (entry.body.kind !== "denied") return undefined;
  const { decision, call } = entry.body;
  return {
    position: seq,
    callId,
    status: "denied",
    startedAtMs: entry.atMs,
    endSeq: seq,
    scopes: call.scopes,
    reported: reportedLabelsOf(call),
    model: reportModelOf({ decision, facts: call }),
    costNanoUsd: undefined,
    tokens: NO_TOKENS,
    counted: undefined,
    reservedNanoUsd: undefined,
    overrunNanoUsd: ZERO_USD,
  };
}

function endOf({ seq, entry }: PlacedEntry): PlacedEnd {
  const overrunNanoUsd = entry.body.kind === "settled" ? entry.body.overrunNanoUsd : ZERO_USD;
  return { seq, tokens: reportTokensOf(entry), overrunNanoUsd };
}

/** True if an entry holds what the caller said of a call or of its end. */
function isSaidIn({ body }: NewEntry, said: object): boolean {
  return body.kind === "reserved" ? body.call === said : body.kind === "settled" && body.result === said;
}

function addCharges(charges: readonly Charge[], changes: readonly Charge[]): Charge[] {
  return charges.map((charge) => {
    const change = changes.find((other) => isSameCounter(charge, other));
    return change === undefined ? charge : { ...charge, reserved: charge.reserved + change.reserved };
  });
}
