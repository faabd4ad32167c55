/**
 * Owns what entries say by naming an earlier one: the names of counters and what stands in the limits in force are spelled out once, and
 * entries behind that refer to it. The entry that spells is part of the chain like every other.
 * Does not own how entries are written otherwise (entry-text.ts).
 * Invariant: a reference names an entry before its own which spells the thing out itself, so that two reads always find it; who writes
 * may spell anything out anew at any time, and does so whenever it does not know for sure where it stands.
 */
import type { LimitView } from "../../core/decisions/admit.ts";
import type { Charge } from "../../core/decisions/counters.ts";

/** A counter by its names. */
export type CounterName = Pick<Charge, "scopeKey" | "what" | "windowKey">;

/** What stands in a limit, and is the same in every view of it. */
export type SpelledLimit = Pick<LimitView, "limit" | "measure" | "amount" | "ceiling" | "fit" | "pauseUpToMs">;

export interface SpelledLimits {
  version: string;
  limits: readonly SpelledLimit[];
}

type WrittenName = [scopeKey: string, what: string, windowKey: string];
type WrittenLimit = [
  limit: string,
  measure: LimitView["measure"],
  amount: string,
  ceiling: string | null,
  fit: "off" | null,
  pauseUpToMs: number | null,
];

/** The limits in force, as an entry spells them. */
export type WrittenLimits = [version: string, limits: WrittenLimit[]];

export function writtenLimits({ version, limits }: SpelledLimits): WrittenLimits {
  return [
    version,
    limits.map(({ limit, measure, amount, ceiling, fit, pauseUpToMs }) => [
      limit,
      measure,
      `${amount}`,
      ceiling === undefined ? null : `${ceiling}`,
      fit ?? null,
      pauseUpToMs ?? null,
    ]),
  ];
}

export function limitsFromWritten([version, limits]: WrittenLimits): SpelledLimits {
  return {
    version,
    limits: limits.map(([limit, measure, amount, ceiling, fit, pauseUpToMs]) => ({
      limit,
      measure,
      amount: BigInt(amount),
      ceiling: ceiling === null ? undefined : BigInt(ceiling),
      ...(fit === null ? {} : { fit }),
      ...(pauseUpToMs === null ? {} : { pauseUpToMs }),
    })),
  };
}

/** A counter that an entry charges: spelled out, or where it is. */
export type WrittenCounter = WrittenName | number;

/** Counters of one entry that can be referred to: the reference is one number. */
const PLACES_PER_ENTRY = 1_024;

/** The reference to the counter at a place of an entry; `undefined`: it is too far behind in it. */
export function referenceTo(seq: number, place: number): number | undefined {
  return place < PLACES_PER_ENTRY ? seq * PLACES_PER_ENTRY + place : undefined;
}

/** The entry that a reference leads to. */
export function entryOfReference(reference: number): number {
  return Math.floor(reference / PLACES_PER_ENTRY);
}

/** What an entry holds that others may refer to. */
interface SpellingEntry {
  /** The counters it charges, or the entry that charges the same ones. */
  counters: readonly WrittenCounter[] | number;
  limits: SpelledLimits | undefined;
}

/** Entries kept at hand; more are read again. */
const ENTRIES_KEPT_MAX = 10_000;

/** Finds what was spelled out, over one connection. */
export class Spelled {
  readonly #read: (seq: number) => { charges: string; body: string } | undefined;
  readonly #entries = new Map<number, SpellingEntry>();

  /** @param read an entry's columns by its number. */
  constructor(read: (seq: number) => { charges: string; body: string } | undefined) {
    this.#read = read;
  }

  counter(written: WrittenCounter): CounterName {
    if (typeof written !== "number") return { scopeKey: written[0], what: written[1], windowKey: written[2] };
    const seq = entryOfReference(written);
    const { counters } = this.#entry(seq);
    const name = typeof counters === "number" ? undefined : counters[written % PLACES_PER_ENTRY];
    if (name === undefined || typeof name === "number")
      throw new TypeError(`entry ${seq} spells out no such counter; run \`purser verify\``);
    return this.counter(name);
  }

  /** The counters that an entry charges, in its order. */
  counters(of: readonly WrittenCounter[] | number): CounterName[] {
    const counters = typeof of === "number" ? this.#entry(of).counters : of;
    if (typeof counters === "number") throw new TypeError(`entry ${String(of)} spells out no counters; run \`purser verify\``);
    return counters.map((written) => this.counter(written));
  }

  limits(written: WrittenLimits | number): SpelledLimits {
    if (typeof written !== "number") return limitsFromWritten(written);
    const { limits } = this.#entry(written);
    if (limits === undefined) throw new TypeError(`entry ${written} spells out no limits; run \`purser verify\``);
    return limits;
  }

  /** Call when what was read may not have come to stay. */
  forget(): void {
    this.#entries.clear();
  }

  #entry(seq: number): SpellingEntry {
    const known = this.#entries.get(seq);
    if (known !== undefined) return known;
    const row = this.#read(seq);
    if (row === undefined) throw new RangeError(`entry ${seq} is missing; run \`purser verify\``);
    const entry = { counters: countersIn(row.charges), limits: limitsIn(row.body) };
    if (this.#entries.size >= ENTRIES_KEPT_MAX) this.#entries.clear();
    this.#entries.set(seq, entry);
    return entry;
  }
}

function countersIn(text: string): SpellingEntry["counters"] {
  const charges = JSON.parse(text) as { of: WrittenCounter[] | number } | [...WrittenName, ...unknown[]][];
  return Array.isArray(charges)
    ? charges.map(([scopeKey, what, windowKey]): WrittenName => [scopeKey, what, windowKey])
    : charges.of;
}

function limitsIn(text: string): SpelledLimits | undefined {
  const body = JSON.parse(text) as unknown;
  const written = Array.isArray(body) && body[0] === "reserved" ? (body[2] as WrittenLimits | number) : 0;
  return typeof written === "number" ? undefined : limitsFromWritten(written);
}
