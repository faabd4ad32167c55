/**
 * Owns the ledger as plain maps in memory: the model every other store is judged by, and the ledger of tests.
 * Does not own the rules (core/decisions). Nothing survives the process.
 * Invariant: whatever is simpler here is simpler on purpose: nothing is cached, pruned or indexed.
 */
import type { Book } from "../../core/decisions/book.ts";
import { correctedCostOf } from "../../core/decisions/adjust.ts";
import { applyOperation } from "../../core/decisions/transitions.ts";
import { compileLimits, copyScopeState, emptyScopeState, type LimitSet, type ScopeState } from "../../core/decisions/counters.ts";
import { fillSeries, seriesOf, type CountedCall } from "../../core/decisions/fill.ts";
import type { Limit } from "../../core/limits/limit.ts";
import type { Alert } from "../../core/decisions/alerts.ts";
import type { EndedCall, NewEntry, OpenCall, Operation } from "../../core/decisions/operations.ts";
import { toNanoUsd } from "../../core/money/money.ts";
import { NO_TOKENS, type TokenParts } from "../../core/usage/usage.ts";
import { callRecordOf, groupKeyOf, reportModelOf, reportTokensOf } from "../call-record.ts";
import { assertOperation } from "../check-operation.ts";
import { LedgerUnavailableError } from "../ledger.ts";
import type {
  BatchesQuery,
  BatchRecord,
  CallRecord,
  CallsQuery,
  Ledger,
  Owner,
  ReportGroup,
  ReportQuery,
  ResultOf,
  VirtualKey,
} from "../ledger.ts";

/** An empty ledger in memory. */
export function createMemoryLedger(): MemoryLedger {
  return new MemoryLedger();
}

class MemoryBook implements Book {
  limits: LimitSet = compileLimits({ version: "", limits: [], downgrade: new Map() });
  readonly scopes = new Map<string, ScopeState>();
  readonly open = new Map<string, OpenCall>();
  readonly ended = new Map<string, EndedCall>();
  readonly denied = new Set<string>();
  readonly entries: NewEntry[] = [];

  scope(scopeKey: string): ScopeState {
    let state = this.scopes.get(scopeKey);
    if (state === undefined) this.scopes.set(scopeKey, (state = emptyScopeState()));
    return state;
  }
  recall(): void {
    // Nothing is ever put away here.
  }
  touch(): void {
    // The state handed out is the state that is kept.
  }
  openCall(callId: string): OpenCall | undefined {
    return this.open.get(callId);
  }
  endedCall(callId: string): EndedCall | undefined {
    return this.ended.get(callId);
  }
  isDenied(callId: string): boolean {
    return this.denied.has(callId);
  }
  putOpenCall(call: OpenCall): void {
    this.open.set(call.callId, call);
  }
  endCall(call: EndedCall): void {
    this.open.delete(call.open.callId);
    this.ended.set(call.open.callId, call);
  }
  append(entry: NewEntry): void {
    this.entries.push(entry);
    if (entry.kind === "denied") this.denied.add(entry.callId);
  }
}

/** The ledger in memory; `entries` is there for tests to look at. */
export class MemoryLedger implements Ledger {
  readonly #book = new MemoryBook();
  readonly #owners = new Map<string, Owner>();
  readonly #batches = new Map<string, BatchRecord>();
  readonly #keys = new Map<string, VirtualKey>();
  #isConfigured = false;
  #isClosed = false;

  /** Everything written so far, oldest first. */
  get entries(): readonly NewEntry[] {
    return this.#book.entries;
  }

  async apply<const O extends Operation>(operations: readonly O[]): Promise<ResultOf<O>[]> {
    this.#assertOpen();
    for (const operation of operations) {
      assertOperation(operation);
      if (operation.kind === "reserve" && !this.#isConfigured)
        throw new RangeError("reserve: no limits are in force; configure first");
    }
    return operations.map((operation) => applyOperation(this.#book, operation) as ResultOf<O>);
  }

  async configure(rules: Parameters<Ledger["configure"]>[0]): Promise<void> {
    this.#assertOpen();
    const book = this.#book;
    if (rules.isOnlyIfNone === true && book.limits.limits.length > 0) return;
    const counted = seriesOf(book.limits);
    book.limits = compileLimits(rules);
    const added = new Set([...seriesOf(book.limits)].filter((series) => !counted.has(series)));
    const { atMs } = rules;
    const sinceMs = Math.min(atMs, ...Array.from(this.#owners.values(), ({ beatAtMs }) => beatAtMs));
    if (added.size > 0) fillSeries(book, added, this.#countedCalls(), { atMs, sinceMs });
    this.#isConfigured = true;
  }

  async limits(): Promise<readonly Limit[]> {
    return this.#book.limits.limits.map(({ limit }) => limit);
  }

  async beat(owner: Owner): Promise<void> {
    this.#assertOpen();
    this.#owners.set(owner.ownerId, { ...owner });
  }
  async owners(): Promise<Owner[]> {
    return [...this.#owners.values()].map((owner) => ({ ...owner }));
  }
  async removeOwner(ownerId: string): Promise<void> {
    this.#owners.delete(ownerId);
  }
  async openCalls(ownerId?: string): Promise<OpenCall[]> {
    return [...this.#book.open.values()].filter((call) => ownerId === undefined || call.ownerId === ownerId);
  }

  async calls({ limit, callId, session, before = Infinity }: CallsQuery): Promise<CallRecord[]> {
    const isAsked = ({ position, facts }: CallRecord): boolean =>
      position < before &&
      (callId === undefined || facts.callId === callId) &&
      (session === undefined || facts.scopes.session === session);
    return this.#records()
      .map(({ record }) => record)
      .filter(isAsked)
      .reverse()
      .slice(0, limit);
  }

  async report({ fromMs, toMs, by }: ReportQuery): Promise<ReportGroup[]> {
    const groups = new Map<string, ReportGroup>();
    for (const { record, tokens } of this.#records()) {
      if (record.startedAtMs < fromMs || record.startedAtMs >= toMs) continue;
      const key = groupKeyOf(by, record.facts, reportModelOf(record));
      const id = JSON.stringify(Object.values(key));
      const group = groups.get(id) ?? { key, calls: 0, denied: 0, costNanoUsd: toNanoUsd(0n), tokens: { ...NO_TOKENS } };
      groups.set(id, group);
      if (record.status === "denied") group.denied += 1;
      else group.calls += 1;
      group.costNanoUsd = toNanoUsd(group.costNanoUsd + (record.costNanoUsd ?? 0n));
      for (const part of Object.keys(NO_TOKENS) as (keyof TokenParts)[]) group.tokens[part] += tokens[part];
    }
    return [...groups.values()];
  }

  async scopeStates(): Promise<Map<string, ScopeState>> {
    const whats = new Set(this.#book.limits.limits.map(({ what }) => what));
    const isLookedAt = (state: ScopeState): boolean => [...state.counters.keys()].some((what) => whats.has(what));
    const states = [...this.#book.scopes].filter(([, state]) => isLookedAt(state));
    return new Map(states.map(([scopeKey, state]) => [scopeKey, copyScopeState(state)]));
  }

  async alerts({ limit }: { limit: number }): Promise<Alert[]> {
    return this.#book.entries
      .flatMap(({ body }) => (body.kind === "alert" ? [body.alert] : []))
      .reverse()
      .slice(0, limit);
  }

  async addBatch(batch: BatchRecord): Promise<boolean> {
    this.#assertOpen();
    if (this.#batches.has(batch.submissionId)) return false;
    this.#batches.set(batch.submissionId, { ...batch });
    return true;
  }
  async updateBatch(batch: BatchRecord): Promise<void> {
    if (this.#batches.has(batch.submissionId)) this.#batches.set(batch.submissionId, { ...batch });
  }
  async removeBatch(submissionId: string): Promise<void> {
    this.#batches.delete(submissionId);
  }
  async batches({ batchId, isOpen = false }: BatchesQuery = {}): Promise<BatchRecord[]> {
    const isAsked = (batch: BatchRecord): boolean =>
      (batchId === undefined || batch.batchId === batchId) && !(isOpen && batch.endedAtMs !== undefined);
    const age = (a: BatchRecord, b: BatchRecord): number => a.submittedAtMs - b.submittedAtMs;
    return [...this.#batches.values()]
      .filter(isAsked)
      .sort(age)
      .map((batch) => ({ ...batch }));
  }

  async createKey(key: VirtualKey): Promise<void> {
    this.#assertOpen();
    if (this.#keys.has(key.keyId)) throw new RangeError(`key ${key.keyId} exists`);
    this.#keys.set(key.keyId, { ...key });
  }
  async keys(): Promise<VirtualKey[]> {
    return [...this.#keys.values()].map((key) => ({ ...key }));
  }
  async revokeKey({ keyId, atMs }: { keyId: string; atMs: number }): Promise<boolean> {
    const key = this.#keys.get(keyId);
    if (key === undefined || key.revokedAtMs !== undefined) return false;
    key.revokedAtMs = atMs;
    return true;
  }

  /** No other process has it. */
  async revision(): Promise<number> {
    return 0;
  }
  waitedMs(): number {
    return 0;
  }
  async close(): Promise<void> {
    this.#isClosed = true;
  }

  #assertOpen(): void {
    if (this.#isClosed) throw new LedgerUnavailableError("the ledger is closed");
  }

  #countedCalls(): CountedCall[] {
    const book = this.#book;
    const settled = new Map(book.entries.flatMap(({ callId, body }) => (body.kind === "settled" ? [[callId, body.result]] : [])));
    const calls: CountedCall[] = Array.from(book.open.values(), (open) => ({ status: "open", open }));
    for (const ended of book.ended.values()) {
      const { callId, atMs, scopes, model } = ended.open;
      const result = settled.get(callId);
      if (ended.status === "expired") calls.push({ status: "expired", ended });
      if (ended.status !== "settled" || result === undefined) continue;
      calls.push({ status: "settled", atMs, scopes, model, costNanoUsd: correctedCostOf(ended), tokens: result.tokens });
    }
    return calls;
  }

  /** Every call as its entries tell it, oldest first. */
  #records(): { record: CallRecord; tokens: TokenParts }[] {
    const firsts = new Map<string, { position: number; entry: NewEntry }>();
    const ends = new Map<string, NewEntry>();
    const corrections = new Map<string, NewEntry[]>();
    this.#book.entries.forEach((entry, index) => {
      const { kind, callId } = entry;
      if (kind === "reserved" || kind === "denied") firsts.set(callId, { position: index + 1, entry });
      if (kind === "settled" || kind === "voided" || kind === "expired") {
        ends.set(callId, entry);
        corrections.delete(callId);
      }
      if (kind === "adjusted") corrections.set(callId, [...(corrections.get(callId) ?? []), entry]);
    });
    return [...firsts].map(([callId, { position, entry }]) => {
      const end = ends.get(callId);
      return { record: callRecordOf(position, entry, end, corrections.get(callId) ?? []), tokens: reportTokensOf(end) };
    });
  }
}
