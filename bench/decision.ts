/** A decision over ten limits, reserve and settle, nothing durable: the rules on a book that forgets, and the whole ledger in memory. */
import type { Book } from "../src/core/decisions/book.ts";
import { compileLimits, emptyScopeState, type LimitSet, type ScopeState } from "../src/core/decisions/counters.ts";
import type { EndedCall, OpenCall } from "../src/core/decisions/operations.ts";
import { applyOperation } from "../src/core/decisions/transitions.ts";
import { createMemoryLedger } from "../src/ledger/memory/memory-ledger.ts";
import { reserveOf, settleOf } from "./ledger/operations.ts";
import { median, type Section } from "./table.ts";
import { TEN_LIMITS } from "./ten-limits.ts";

const CALLS = 5_000;

/** Keeps what decisions look at and nothing else, as a store does that has written the rest. */
class ForgettingBook implements Book {
  readonly limits: LimitSet = compileLimits({ version: "bench", limits: TEN_LIMITS, downgrade: new Map() });
  readonly #scopes = new Map<string, ScopeState>();
  readonly #open = new Map<string, OpenCall>();

  scope(scopeKey: string): ScopeState {
    let state = this.#scopes.get(scopeKey);
    if (state === undefined) this.#scopes.set(scopeKey, (state = emptyScopeState()));
    return state;
  }
  recall(): void {}
  touch(): void {}
  openCall(callId: string): OpenCall | undefined {
    return this.#open.get(callId);
  }
  endedCall(): undefined {}
  isDenied(): boolean {
    return false;
  }
  putOpenCall(call: OpenCall): void {
    this.#open.set(call.callId, call);
  }
  endCall({ open }: EndedCall): void {
    this.#open.delete(open.callId);
  }
  append(): void {}
}

const BATCHES = 2_000;
const BATCH_CALLS = 64;

function measureRules(): { reserveUs: number; settleUs: number } {
  const book = new ForgettingBook();
  const [reserveUs, settleUs]: [number[], number[]] = [[], []];
  for (let batch = 0; batch < BATCHES; batch += 1) {
    const reserves = Array.from({ length: BATCH_CALLS }, (_, index) => reserveOf(batch * BATCH_CALLS + index, Date.now()));
    const settles = reserves.map(({ call }) => settleOf(call.callId, Date.now()));
    for (const [operations, into] of [[reserves, reserveUs] as const, [settles, settleUs] as const]) {
      const startedMs = performance.now();
      for (const operation of operations) applyOperation(book, operation);
      // The first half compiles.
      if (batch >= BATCHES / 2) into.push(((performance.now() - startedMs) * 1_000) / BATCH_CALLS);
    }
  }
  return { reserveUs: median(reserveUs), settleUs: median(settleUs) };
}

export async function measureDecision(): Promise<Section> {
  const reserveUs: number[] = [];
  const settleUs: number[] = [];
  for (let round = 0; round < 6; round += 1) {
    const ledger = createMemoryLedger();
    await ledger.configure({ version: "bench", limits: TEN_LIMITS, downgrade: new Map(), atMs: Date.now() });
    const reserves = Array.from({ length: CALLS }, (_, index) => reserveOf(index, Date.now()));
    const settles = reserves.map(({ call }) => settleOf(call.callId, Date.now()));
    for (const [operations, into] of [[reserves, reserveUs] as const, [settles, settleUs] as const]) {
      const startedMs = performance.now();
      for (const operation of operations) await ledger.apply([operation]);
      // The first round compiles.
      if (round > 0) into.push(((performance.now() - startedMs) * 1_000) / CALLS);
    }
    await ledger.close();
  }
  const rules = measureRules();
  const rows = [
    { "ten limits": "the rules: reserve (the decision)", µs: rules.reserveUs },
    { "ten limits": "the rules: settle", µs: rules.settleUs },
    { "ten limits": "the ledger in memory, which keeps everything: reserve", µs: median(reserveUs) },
    { "ten limits": "the ledger in memory: settle", µs: median(settleUs) },
  ];
  return {
    title: "A decision in memory",
    note: `The rules: medians of ${BATCHES / 2} batches of ${BATCH_CALLS} calls. The ledger: medians of 5 rounds of ${CALLS.toLocaleString("en-US")} calls, checking of the operation and the promise included.`,
    rows,
  };
}
