/**
 * Owns how the two entries that every call writes, its reservation and its settlement, become text, short: what an earlier entry
 * spelled out is referred to (spelled.ts), what follows from the rest of the entry is left out, and what the caller said of the call is
 * stored as it came (said-text.ts). All other entries are JSON with field names (body.ts).
 * Invariant: an entry reads back equal to what was appended; one that does not fit the short form is written the long way.
 */
import type { LimitView } from "../../core/decisions/admit.ts";
import { counterIdOf, isSameCounter, untilOf, type Charge, type LimitSet } from "../../core/decisions/counters.ts";
import type { EntryBody, NewEntry, StoredDecision } from "../../core/decisions/operations.ts";
import { scopeOfKey } from "../../core/decisions/scope-of-key.ts";
import { toNanoUsd } from "../../core/money/money.ts";
import { fromJson, toJson } from "../json.ts";
import { bodyFromText, bodyToText } from "./body.ts";
import { chargesFromText, chargesToText } from "./rows.ts";
import { callFromWritten, callToText, resultFromWritten, resultToText } from "./said-text.ts";
import {
  limitsFromWritten,
  referenceTo,
  writtenLimits,
  type CounterName,
  type Spelled,
  type SpelledLimits,
  type WrittenCounter,
  type WrittenLimits,
} from "./spelled.ts";

/** An entry with its number, and what is at hand of the call it belongs to. */
export interface EntryToWrite {
  seq: number;
  entry: NewEntry;
  /** The call or its result as it came, if it did. */
  said: string | undefined;
  /** Where the call was reserved, and what was charged there. */
  reserved: { position: number; charges: readonly Charge[] } | undefined;
}

/** The two columns that say what an entry says. */
export interface EntryText {
  charges: string;
  body: string;
}

type ReservedBody = Extract<EntryBody, { kind: "reserved" }>;
type SettledBody = Extract<EntryBody, { kind: "settled" }>;

/** A counter that was spelled out. */
interface KnownCounter {
  windowKey: string;
  counterId: string;
  reference: number | undefined;
  untilMs: number;
  scope: LimitView["scope"];
}

/** Scope values whose counters are remembered: those of more are spelled out again. */
const SCOPES_KNOWN_MAX = 10_000;

/** Writes the entries of one ledger, one after the other. */
export class EntryWriter {
  /** By scope value, then by what is counted: the last window of it. */
  readonly #counters = new Map<string, Map<string, KnownCounter>>();
  #limits: { set: LimitSet; spelled: SpelledLimits; seq: number } | undefined;

  /** Call when what was written may not have come to stay. */
  forget(): void {
    this.#counters.clear();
    this.#limits = undefined;
  }

  write(written: EntryToWrite, set: LimitSet): EntryText {
    const { body } = written.entry;
    if (body.kind === "settled") return this.#settled(written, body);
    if (body.kind === "reserved") return this.#reserved(written, body, set);
    const { charges } = written.entry;
    // A correction stands by itself: it may come years after its call.
    const isShort = charges.length > 0 && body.kind !== "adjusted";
    const short = isShort ? sameCountersToText(written.reserved, charges) : undefined;
    return { charges: short ?? chargesToText(charges), body: bodyToText(body) };
  }

  #settled(
    { seq, entry: { charges }, said, reserved }: EntryToWrite,
    { result, isLate, overrunNanoUsd }: SettledBody,
  ): EntryText {
    const overrun = overrunNanoUsd === 0n ? "0" : `"${overrunNanoUsd}"`;
    return {
      charges: sameCountersToText(reserved, charges) ?? this.#chargesToText(seq, charges, []),
      body: `["settled",${isLate ? 1 : 0},${overrun},${said ?? resultToText(result)}]`,
    };
  }

  #reserved({ seq, entry, said }: EntryToWrite, body: ReservedBody, set: LimitSet): EntryText {
    const { decision, call, ownerId } = body;
    if (decision.limitsVersion !== set.version) return { charges: chargesToText(entry.charges), body: bodyToText(body) };
    const known: KnownCounter[] = [];
    const charges = this.#chargesToText(seq, entry.charges, known);
    const limits = this.#limits?.set === set ? this.#limits : { set, seq, spelled: spelledOf(set) };
    const views = viewsToText(decision.admit, { limits: limits.spelled.limits, known, charges: entry.charges });
    if (views === undefined) return { charges, body: bodyToText(body) };
    const limitsText = limits === this.#limits ? `${limits.seq}` : JSON.stringify(writtenLimits(limits.spelled));
    this.#limits = limits;
    const parts = [JSON.stringify(ownerId), limitsText, decisionToText(decision, entry), `[${views}]`, said ?? callToText(call)];
    return { charges, body: `["reserved",${parts.join(",")}]` };
  }

  /** @param known where the counters are added, in the order of the charges. */
  #chargesToText(seq: number, charges: readonly Charge[], known: KnownCounter[]): string {
    const amounts = new Amounts();
    let of = "";
    charges.forEach((charge, place) => {
      of += `${place === 0 ? "" : ","}${this.#counterToText(seq, charge, known)}`;
      amounts.add(charge);
    });
    return `{"of":[${of}],${amounts.text()}}`;
  }

  #counterToText(seq: number, charge: CounterName, known: KnownCounter[]): string {
    const { scopeKey, what, windowKey } = charge;
    let series = this.#counters.get(scopeKey);
    if (series === undefined) {
      if (this.#counters.size >= SCOPES_KNOWN_MAX) this.#counters.clear();
      this.#counters.set(scopeKey, (series = new Map()));
    }
    const last = series.get(what);
    if (last?.windowKey === windowKey && last.reference !== undefined) {
      known.push(last);
      return `${last.reference}`;
    }
    const counter = {
      windowKey,
      counterId: last?.counterId ?? counterIdOf(scopeKey, what),
      reference: referenceTo(seq, known.length),
      untilMs: untilOf(what, windowKey),
      scope: last?.scope ?? scopeOfKey(scopeKey),
    };
    series.set(what, counter);
    known.push(counter);
    return JSON.stringify([scopeKey, what, windowKey]);
  }
}

/** What views refer to: limits and counters, each in their order. */
interface Referred {
  limits: SpelledLimits["limits"];
  known: readonly KnownCounter[];
  charges: readonly Charge[];
}

/** `undefined`: a view is of no limit in force, or of a counter that is not charged. */
function viewsToText({ views, nowMs }: StoredDecision["admit"], { limits, known, charges }: Referred): string | undefined {
  let [at, place] = [0, 0];
  let text = "";
  for (const view of views) {
    // Views come in the order of the limits, and charges in the order of views: mostly it is the next one.
    at = indexOfLimit(limits, view, at);
    place = indexOfCounter(known, view.counterId, place);
    const [counter, charge] = [known[place], charges[place]];
    if (at === -1 || counter === undefined || charge === undefined) return undefined;
    const rest = restOfView(view, { counter, charge, nowMs });
    text += `${text === "" ? "" : ","}[${at},${place},"${view.spent}","${view.reserved}"${rest}]`;
  }
  return text;
}

function indexOfLimit(limits: Referred["limits"], view: LimitView, from: number): number {
  for (let index = from; index < limits.length; index += 1) {
    const limit = limits[index];
    if (limit !== undefined && isOfLimit(view, limit)) return index;
  }
  return from === 0 ? -1 : indexOfLimit(limits, view, 0);
}

function indexOfCounter(known: Referred["known"], counterId: string, from: number): number {
  for (let index = from; index < known.length; index += 1) if (known[index]?.counterId === counterId) return index;
  return from === 0 ? -1 : indexOfCounter(known, counterId, 0);
}

function isOfLimit(
  view: LimitView,
  { limit, measure, amount, ceiling, fit, pauseUpToMs }: SpelledLimits["limits"][number],
): boolean {
  return (
    view.limit === limit &&
    view.amount === amount &&
    view.ceiling === ceiling &&
    view.measure === measure &&
    view.fit === fit &&
    view.pauseUpToMs === pauseUpToMs
  );
}

function spelledOf({ version, limits }: LimitSet): SpelledLimits {
  return {
    version,
    limits: limits.map(({ limit, ceiling, pauseUpToMs }) => ({
      limit: limit.name,
      measure: limit.measure,
      amount: limit.amount,
      ceiling,
      ...(limit.fit === undefined ? {} : { fit: limit.fit }),
      ...(pauseUpToMs === undefined ? {} : { pauseUpToMs }),
    })),
  };
}

/** Pairs of amounts, each once: most counters of a call are charged the same. */
class Amounts {
  readonly #pairs: Pick<Charge, "spent" | "reserved">[] = [];
  #at = "";

  add(amounts: Pick<Charge, "spent" | "reserved">): void {
    const { spent, reserved } = amounts;
    const pairs = this.#pairs;
    let index = 0;
    while (index < pairs.length && !(pairs[index]?.spent === spent && pairs[index]?.reserved === reserved)) index += 1;
    if (index === pairs.length) pairs.push(amounts);
    this.#at += `${this.#at === "" ? "" : ","}${index}`;
  }

  text(): string {
    return `"at":[${this.#at}],"amounts":[${this.#pairs.map(({ spent, reserved }) => `"${spent}","${reserved}"`).join(",")}]`;
  }
}

const NOTHING = { spent: 0n, reserved: 0n };

/** Charges of the counters that a reservation charged, where they stand in its order; what changes nothing is left out there. */
function sameCountersToText(reserved: EntryToWrite["reserved"], charges: readonly Charge[]): string | undefined {
  if (reserved === undefined) return undefined;
  const amounts = new Amounts();
  let next = 0;
  for (const counter of reserved.charges) {
    const charge = charges[next];
    const isIt = charge !== undefined && isSameCounter(charge, counter);
    if (isIt) next += 1;
    amounts.add(isIt ? charge : NOTHING);
  }
  return next === charges.length ? `{"of":${reserved.position},${amounts.text()}}` : undefined;
}

/** What most views do not say, behind what all do; a 0 stands for what follows from the rest. */
function restOfView(view: LimitView, from: { counter: KnownCounter; charge: Charge; nowMs: number }): string {
  const { bound, clearsAtMs, windowEndMs, graceCeiling, scope } = view;
  const { charge, counter } = from;
  // Whatever is charged is charged in one of the two.
  const charged = charge.spent === 0n ? charge.reserved : charge.spent + charge.reserved;
  const isUsual = bound === charged && clearsAtMs === from.nowMs && graceCeiling === undefined;
  if (isUsual && windowEndMs === counter.untilMs && isSameScope(scope, counter.scope)) return "";
  const rest: RestOfView = [
    bound === undefined ? null : `${bound}`,
    finite(clearsAtMs),
    finite(windowEndMs),
    graceCeiling === undefined ? null : `${graceCeiling}`,
    isSameScope(scope, counter.scope) ? 0 : scope,
  ];
  return `,${JSON.stringify(rest).slice(1, -1)}`;
}

type RestOfView = [
  bound: string | null,
  clearsAtMs: number | null,
  windowEndMs: number | null,
  graceCeiling: string | null,
  scope: LimitView["scope"] | 0,
];
type WrittenView = [limit: number, place: number, spent: string, reserved: string, ...rest: [] | RestOfView];

function isSameScope(a: LimitView["scope"], b: LimitView["scope"]): boolean {
  let names = 0;
  for (const name in a) {
    if (a[name] !== b[name]) return false;
    names += 1;
  }
  return names === Object.keys(b).length;
}

function finite(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}

type WrittenDecision = [
  model: string,
  canonicalModel: string,
  maxTokens: number | null,
  usdBound: string | null,
  inputTokensBound: number,
  outputTokensBound: number,
  priceIds: readonly string[],
  /** What few decisions say, as the ledger's JSON. */
  others?: string,
];

function decisionToText(decision: StoredDecision, entry: NewEntry): string {
  const { model, canonicalModel, maxTokens, usdBound, inputTokensBound, outputTokensBound, priceIds } = decision;
  const written: WrittenDecision = [
    model,
    canonicalModel,
    maxTokens ?? null,
    usdBound === undefined ? null : `${usdBound}`,
    inputTokensBound,
    outputTokensBound,
    priceIds,
  ];
  const others = othersOf(decision, entry);
  if (!isEmpty(others)) written.push(toJson(others));
  return JSON.stringify(written);
}

type Unusual<T> = { -readonly [Name in keyof T]?: T[Name] };

/** What stands at no place of its own and is not as it nearly always is. */
function othersOf(decision: StoredDecision, { atMs, body }: NewEntry): object {
  const {
    limitsVersion: _limits,
    admit,
    marks,
    skippedReason,
    requestedModel,
    model: _model,
    canonicalModel: _name,
    ...rest
  } = decision;
  const {
    maxTokens: _max,
    usdBound: _usd,
    inputTokensBound: _input,
    outputTokensBound: _output,
    priceIds: _prices,
    ...more
  } = rest;
  const others: Unusual<StoredDecision> = more;
  if (marks.length > 0) others.marks = marks;
  if (skippedReason !== undefined) others.skippedReason = skippedReason;
  if (body.kind !== "reserved" || requestedModel !== body.call.requestedModel) others.requestedModel = requestedModel;
  const input = unusualInput(admit, atMs);
  return isEmpty(input) ? others : { ...others, admit: input };
}

function unusualInput(admit: StoredDecision["admit"], atMs: number): object {
  const { views: _views, paces, heldBack, isPriceKnown, unboundedParts, nowMs, ...more } = admit;
  const input: Unusual<StoredDecision["admit"]> = more;
  if (paces.length > 0) input.paces = paces;
  if (heldBack.length > 0) input.heldBack = heldBack;
  if (!isPriceKnown) input.isPriceKnown = isPriceKnown;
  if (unboundedParts.length > 0) input.unboundedParts = unboundedParts;
  if (nowMs !== atMs) input.nowMs = nowMs;
  return input;
}

function isEmpty(object: object): boolean {
  for (const _name in object) return false;
  return true;
}

/** An entry's columns, as far as they say what it says. */
export interface StoredText extends EntryText {
  atMs: number;
}

/** Reads the charges of an entry. */
export function readCharges(text: string, spelled: Spelled): Charge[] {
  if (text.startsWith("[")) return chargesFromText(text);
  const { of, at, amounts } = JSON.parse(text) as { of: WrittenCounter[] | number; at: number[]; amounts: string[] };
  const charges = spelled.counters(of).map((name, place): Charge => {
    const index = 2 * (at[place] ?? 0);
    return { ...name, spent: BigInt(amounts[index] ?? 0), reserved: BigInt(amounts[index + 1] ?? 0) };
  });
  return typeof of === "number" ? charges.filter(({ spent, reserved }) => spent !== 0n || reserved !== 0n) : charges;
}

/** Reads the body of an entry. */
export function readBody({ atMs, charges, body }: StoredText, spelled: Spelled): EntryBody {
  if (!body.startsWith("[")) return bodyFromText(body);
  const written = JSON.parse(body) as WrittenSettled | WrittenReserved;
  if (written[0] === "settled") {
    const [kind, isLate, overrun, result] = written;
    return { kind, result: resultFromWritten(result), isLate: isLate === 1, overrunNanoUsd: toNanoUsd(BigInt(overrun)) };
  }
  const [kind, ownerId, limits, decision, views, said] = written;
  const call = callFromWritten(said);
  const { version, limits: stated } = typeof limits === "number" ? spelled.limits(limits) : limitsFromWritten(limits);
  const [model, canonicalModel, maxTokens, usdBound, inputTokensBound, outputTokensBound, priceIds, others] = decision;
  const { admit, ...rest } = (others === undefined ? {} : fromJson(others)) as Partial<StoredDecision>;
  const nowMs = admit?.nowMs ?? atMs;
  const from = { limits: stated, charges: readCharges(charges, spelled), nowMs };
  return {
    kind,
    ownerId,
    call,
    decision: {
      limitsVersion: version,
      admit: {
        paces: [],
        heldBack: [],
        isPriceKnown: true,
        unboundedParts: [],
        nowMs,
        ...admit,
        views: views.map((view) => readView(view, from)),
      },
      marks: [],
      skippedReason: undefined,
      requestedModel: call.requestedModel,
      model,
      canonicalModel,
      maxTokens: maxTokens ?? undefined,
      usdBound: usdBound === null ? undefined : toNanoUsd(BigInt(usdBound)),
      inputTokensBound,
      outputTokensBound,
      priceIds,
      ...rest,
    },
  };
}

type WrittenSettled = [kind: "settled", isLate: 0 | 1, overrun: string | 0, result: unknown[]];
type WrittenReserved = [
  kind: "reserved",
  ownerId: string,
  limits: WrittenLimits | number,
  decision: WrittenDecision,
  views: WrittenView[],
  call: unknown[],
];

function readView(
  [at, place, spent, reserved, ...rest]: WrittenView,
  { limits, charges, nowMs }: { limits: SpelledLimits["limits"]; charges: readonly Charge[]; nowMs: number },
): LimitView {
  const [limit, charge] = [limits[at], charges[place]];
  if (limit === undefined || charge === undefined)
    throw new TypeError(`a view names limit ${at} and counter ${place}, which there are not`);
  const { scopeKey, what, windowKey } = charge;
  const [bound, clearsAtMs, windowEndMs, graceCeiling, scope] = rest;
  const isWritten = rest.length > 0;
  return {
    ...limit,
    scope: scope === undefined || scope === 0 ? scopeOfKey(scopeKey) : scope,
    counterId: counterIdOf(scopeKey, what),
    graceCeiling: amountOf(graceCeiling),
    spent: BigInt(spent),
    reserved: BigInt(reserved),
    bound: isWritten ? amountOf(bound) : charge.spent + charge.reserved,
    windowEndMs: isWritten ? (windowEndMs ?? Infinity) : untilOf(what, windowKey),
    clearsAtMs: isWritten ? (clearsAtMs ?? Infinity) : nowMs,
  };
}

function amountOf(text: string | null | undefined): bigint | undefined {
  return text === null || text === undefined ? undefined : BigInt(text);
}
