/**
 * Owns how a counter that no limit asked for before gets what the calls of its window come to.
 * Does not own where those calls are found (ledger/) or what later changes it (transitions.ts).
 * Invariant: after filling, every counter of a series in force holds exactly what the same limit would have counted had it been in
 * force from the start; what filling adds is charges of entries like any other change, and a call that can still change
 * gets its share in its own name, so that its end takes it away again.
 */
import type { NanoUsd } from "../money/money.ts";
import type { TokenParts } from "../usage/usage.ts";
import { isSpentAtOnce, type Scopes } from "../limits/limit.ts";
import {
  isSameCounter,
  chargeCounter,
  counterIdOf,
  countersOf,
  keptAfterMs,
  windowOf,
  type CallCounter,
  type Charge,
  type CompiledLimit,
  type LimitSet,
} from "./counters.ts";
import type { EndedCall, OpenCall } from "./operations.ts";
import { actualOf, heldFor, measureOf, type Book } from "./book.ts";

/** A call that was admitted and not voided, as far as filling needs it. */
export type CountedCall =
  | { status: "open"; open: OpenCall }
  | { status: "expired"; ended: EndedCall }
  | {
      status: "settled";
      atMs: number;
      scopes: Scopes;
      model: string;
      /** Corrections included. */
      costNanoUsd: NanoUsd | undefined;
      tokens: TokenParts;
      /** Calls that this is the sum of; absent: one. */
      count?: number;
    };

/** Names a series of counters: what is counted, over which scopes. */
export function seriesIdOf({ limit, what }: CompiledLimit): string {
  const scopes = limit.per.filter((name) => name !== "all");
  return `${scopes.length === 0 ? "all" : scopes.join("+")} ${what}`;
}

/** Every series that a set of limits counts. */
export function seriesOf(set: LimitSet): Set<string> {
  return new Set(set.limits.map(seriesIdOf));
}

/** The first instant whose calls can matter to a series from an instant on; `-Infinity`: all of them do. */
export function fillFromMs(set: LimitSet, added: ReadonlySet<string>, sinceMs: number): number {
  const starts = set.limits
    .filter((compiled) => added.has(seriesIdOf(compiled)))
    .map((compiled) => startOfKept(compiled, sinceMs));
  return Math.min(Infinity, ...starts);
}

/** A window is filled if pruning would have kept it: the present one, and those a clock set back may look at. */
function startOfKept(compiled: CompiledLimit, atMs: number): number {
  const { limit, what } = compiled;
  if (limit.measure === "concurrency" || limit.window.kind === "lifetime") return -Infinity;
  const backMs = atMs - keptAfterMs(what);
  if (limit.window.kind === "rolling") return backMs - 2 * limit.window.lengthMs;
  return windowOf(limit, backMs).startMs;
}

/** The charges of an entry are few enough to be read at once. */
const CHARGES_PER_ENTRY = 500;

interface Amounts {
  spent: bigint;
  reserved: bigint;
}

const NOTHING: Readonly<Amounts> = { spent: 0n, reserved: 0n };

/** A counter on its way to what it must hold. */
interface Filling {
  charge: Charge;
  /** What goes to single calls instead of the sum. */
  ofCalls: Amounts;
  untilMs: number;
  /** True if a call is charged in its own name. */
  isCharged: boolean;
}

/**
 * Brings the counters of added series to what `calls` come to, and gives calls that can still change their share of it.
 *
 * @param book holds the new limits already.
 * @param added series of these limits that were not counted until now.
 * @param calls every call reserved from {@link fillFromMs} on, each once.
 * @param sinceMs by the clock that is behind all others: a window that is over for one process may be another's present one.
 */
export function fillSeries(
  book: Book,
  added: ReadonlySet<string>,
  calls: Iterable<CountedCall>,
  { atMs, sinceMs }: { atMs: number; sinceMs: number },
): void {
  const limits = book.limits.limits.filter((compiled) => added.has(seriesIdOf(compiled)));
  const set = { ...book.limits, limits };
  const fillings = new Map<string, Filling>();
  for (const call of calls) fillFrom(book, { set, call, fillings, atMs, sinceMs });
  writeSums(book, fillings, atMs);
}

interface FillFromInput {
  set: LimitSet;
  call: CountedCall;
  fillings: Map<string, Filling>;
  atMs: number;
  sinceMs: number;
}

function fillFrom(book: Book, { set, call, fillings, atMs, sinceMs }: FillFromInput): void {
  const facts = call.status === "settled" ? call : call.status === "open" ? call.open : call.ended.open;
  const own: Charge[] = [];
  for (const counter of distinct(countersOf(set, facts.scopes, facts.model))) {
    const { limit, what } = counter.compiled;
    const window = windowOf(limit, facts.atMs);
    if (window.untilMs + keptAfterMs(what) <= sinceMs) continue;
    const charge = contributionOf(call, { scopeKey: counter.scopeKey, what, windowKey: window.key, spent: 0n, reserved: 0n });
    const filling = fillingOf(fillings, charge, window.untilMs);
    filling.charge.spent += charge.spent;
    filling.charge.reserved += charge.reserved;
    if (call.status === "settled") continue;
    const before = countedBefore(call, charge);
    const missing = minus(charge, before ?? NOTHING);
    filling.ofCalls.spent += missing.spent;
    filling.ofCalls.reserved += missing.reserved;
    // A call that holds nothing here is charged as well: what it costs in the end may be more than its bound.
    if (before !== undefined && isNothing(missing)) continue;
    filling.isCharged = true;
    own.push(missing);
  }
  if (own.length > 0 && call.status !== "settled") addToCall(book, call, own, atMs);
}

/** Each counter once: several limits may look at the same. */
export function distinct(counters: readonly CallCounter[]): CallCounter[] {
  return [...new Map(counters.map((counter) => [counterIdOf(counter.scopeKey, counter.compiled.what), counter])).values()];
}

function fillingOf(fillings: Map<string, Filling>, charge: Charge, untilMs: number): Filling {
  const id = `${counterIdOf(charge.scopeKey, charge.what)} ${charge.windowKey}`;
  let filling = fillings.get(id);
  if (filling === undefined) {
    filling = { charge: { ...charge, spent: 0n, reserved: 0n }, ofCalls: { ...NOTHING }, untilMs, isCharged: false };
    fillings.set(id, filling);
  }
  return filling;
}

/** What a call comes to in a counter it had been charged to from the start. */
function contributionOf(call: CountedCall, charge: Charge): Charge {
  const count = call.status === "settled" ? (call.count ?? 1) : 1;
  const spent = isSpentAtOnce(measureOf(charge.what)) ? BigInt(count) : 0n;
  switch (call.status) {
    case "open":
      return { ...charge, spent, reserved: heldFor(charge, call.open) };
    case "expired":
      return { ...charge, spent: spent + expiredAt(charge, call.ended) };
    case "settled":
      return { ...charge, spent: spent + actualOf(charge.what, call) };
  }
}

function expiredAt(charge: Charge, { open, adjustedNanoUsd }: EndedCall): bigint {
  const measure = measureOf(charge.what);
  // A slot is free once its owner is gone.
  if (measure === "concurrency") return 0n;
  return heldFor(charge, open) + (measure === "usd" ? adjustedNanoUsd : 0n);
}

/** What the call is charged in a counter so far; `undefined`: it does not know the counter. */
function countedBefore(call: Exclude<CountedCall, { status: "settled" }>, charge: Charge): Amounts | undefined {
  const open = call.status === "open" ? call.open : call.ended.open;
  const index = open.charges.findIndex((other) => isSameCounter(other, charge));
  const before = open.charges[index];
  if (before === undefined) return undefined;
  if (call.status === "open") return before;
  return { spent: before.spent + (call.ended.spent[index] ?? 0n), reserved: 0n };
}

function isNothing({ spent, reserved }: Amounts): boolean {
  return spent === 0n && reserved === 0n;
}

function minus(charge: Charge, { spent, reserved }: Amounts): Charge {
  return { ...charge, spent: charge.spent - spent, reserved: charge.reserved - reserved };
}

function addToCall(book: Book, call: Exclude<CountedCall, { status: "settled" }>, own: readonly Charge[], atMs: number): void {
  const open = call.status === "open" ? call.open : call.ended.open;
  const charges = [...open.charges];
  const spent = call.status === "open" ? [] : [...call.ended.spent];
  for (const charge of own) {
    const found = charges.findIndex((other) => isSameCounter(other, charge));
    const index = found === -1 ? charges.length : found;
    const before = charges[index] ?? { ...charge, spent: 0n, reserved: 0n };
    // What an expired call spent at once stays with it; what it was counted with is replaced when it is settled after all.
    const isAtOnce = call.status === "open" || isSpentAtOnce(measureOf(charge.what));
    charges[index] = {
      ...before,
      spent: before.spent + (isAtOnce ? charge.spent : 0n),
      reserved: before.reserved + charge.reserved,
    };
    if (call.status === "expired") spent[index] = (spent[index] ?? 0n) + (isAtOnce ? 0n : charge.spent);
  }
  if (call.status === "open") book.putOpenCall({ ...open, charges });
  else book.endCall({ ...call.ended, open: { ...open, charges }, spent });
  appendFilled(book, open.callId, own, atMs);
}

function appendFilled(book: Book, callId: string, charges: readonly Charge[], atMs: number): void {
  const body = { kind: "filled" as const, limitsVersion: book.limits.version };
  book.append({ kind: "filled", callId, atMs, costNanoUsd: undefined, charges, body });
}

/** Writes what is missing besides the calls' own shares, and changes the counters. */
function writeSums(book: Book, fillings: ReadonlyMap<string, Filling>, atMs: number): void {
  const sums: Charge[] = [];
  for (const { charge, ofCalls, untilMs, isCharged } of fillings.values()) {
    const state = book.scope(charge.scopeKey);
    if (state.droppedUntilMs >= untilMs) book.recall(charge.scopeKey, untilMs - 1);
    const before = state.counters.get(charge.what)?.get(charge.windowKey) ?? NOTHING;
    const missing = minus(charge, before);
    const sum = minus(missing, ofCalls);
    if (!isNothing(sum)) sums.push(sum);
    // A counter is there because an entry charges it, never by itself.
    if (isNothing(sum) && !isCharged) continue;
    chargeCounter(state, missing, untilMs);
  }
  for (let from = 0; from < sums.length; from += CHARGES_PER_ENTRY) {
    appendFilled(book, "", sums.slice(from, from + CHARGES_PER_ENTRY), atMs);
  }
}
