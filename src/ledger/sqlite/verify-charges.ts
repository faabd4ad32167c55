/**
 * Owns what the entries charge, read a second time and summed by counter: names that an entry refers to are looked up where it says.
 * Shares no code with the writing side: how an entry spells its charges is written down here a second time.
 */
import type { Database } from "better-sqlite3";
import type { StoredEntry } from "./verify.ts";

/** What one entry changes in one counter. */
export interface VerifiedCharge {
  /** Scope value, what is counted and window, as a JSON list: one counter's name. */
  name: string;
  scopeKey: string;
  what: string;
  spent: bigint;
  reserved: bigint;
}

interface Amounts {
  spent: bigint;
  reserved: bigint;
}

type Name = [scopeKey: string, what: string, windowKey: string];
/** The counters of an entry: a name, or `1,024 × entry + place` of one that spells it. A number instead of the list: an entry with the same. */
type Of = readonly (Name | number)[] | number;
interface Short {
  of: Of;
  at: readonly number[];
  amounts: readonly string[];
}

const PLACES_PER_ENTRY = 1_024;
/** Entries whose names are kept at hand; others are read again. */
const ENTRIES_KEPT_MAX = 20_000;

/** Reads charges, one entry after the other, and sums them. */
export class Charges {
  /** By counter name: what the entries read so far sum to. */
  readonly sums = new Map<string, Amounts>();
  readonly #readEntry;
  readonly #of = new Map<number, Of>();

  constructor(db: Database) {
    this.#readEntry = db.prepare<[number], { charges: string }>("select charges from entries where seq = ?");
  }

  /** What an entry charges; `undefined`: its text is none, or refers to what no entry before it spells out. */
  read({ seq, charges }: Pick<StoredEntry, "seq" | "charges">): VerifiedCharge[] | undefined {
    try {
      const written = JSON.parse(charges) as Short | unknown[];
      return Array.isArray(written) ? written.map(chargeFrom) : this.#shortFrom(Number(seq), written);
    } catch {
      // Text that is no list of charges was changed: the chain says so as well.
      return undefined;
    }
  }

  add(charges: readonly VerifiedCharge[]): void {
    for (const { name, spent, reserved } of charges) {
      const sum = this.sums.get(name);
      if (sum === undefined) this.sums.set(name, { spent, reserved });
      else {
        sum.spent += spent;
        sum.reserved += reserved;
      }
    }
  }

  #shortFrom(seq: number, { of, at, amounts }: Short): VerifiedCharge[] {
    this.#keep(seq, of);
    const names = this.#namesOf(seq, of);
    if (names.length !== at.length) throw new TypeError(`entry ${seq} has ${names.length} counters and ${at.length} amounts`);
    const charges = names.map((name, place) => {
      const index = 2 * (at[place] ?? -1);
      return chargeFrom([...name, amounts[index], amounts[index + 1]]);
    });
    return typeof of === "number" ? charges.filter(({ spent, reserved }) => spent !== 0n || reserved !== 0n) : charges;
  }

  #keep(seq: number, of: Of): void {
    if (typeof of === "number" || of.every((one) => typeof one === "number")) return;
    if (this.#of.size >= ENTRIES_KEPT_MAX) this.#of.clear();
    this.#of.set(seq, of);
  }

  #namesOf(seq: number, of: Of): Name[] {
    const list = typeof of === "number" ? this.#listAt(of, seq) : of;
    if (typeof list === "number") throw new TypeError(`entry ${seq} refers to one that refers to another`);
    return list.map((one) => {
      if (typeof one !== "number") return one;
      const at = Math.floor(one / PLACES_PER_ENTRY);
      const spelling = this.#listAt(at, seq);
      const name = typeof spelling === "number" ? undefined : spelling[one % PLACES_PER_ENTRY];
      if (name === undefined || typeof name === "number")
        throw new TypeError(`entry ${seq} refers to a counter that entry ${at} does not spell out`);
      return name;
    });
  }

  /** The counters of an entry before another one. */
  #listAt(seq: number, before: number): Of {
    if (!(seq < before)) throw new TypeError(`entry ${before} refers to entry ${seq}, which is not before it`);
    const known = this.#of.get(seq);
    if (known !== undefined) return known;
    const row = this.#readEntry.get(seq);
    if (row === undefined) throw new TypeError(`entry ${before} refers to entry ${seq}, which there is not`);
    const written = JSON.parse(row.charges) as Short | [...Name, ...unknown[]][];
    const of = Array.isArray(written)
      ? written.map(([scopeKey, what, windowKey]): Name => [scopeKey, what, windowKey])
      : written.of;
    this.#keep(seq, of);
    return of;
  }
}

function chargeFrom(written: unknown): VerifiedCharge {
  const [scopeKey, what, windowKey, spent, reserved] = written as readonly unknown[];
  if (typeof scopeKey !== "string" || typeof what !== "string" || typeof windowKey !== "string")
    throw new TypeError("a charge names no counter");
  return {
    name: JSON.stringify([scopeKey, what, windowKey]),
    scopeKey,
    what,
    spent: amountFrom(spent),
    reserved: amountFrom(reserved),
  };
}

function amountFrom(text: unknown): bigint {
  if (typeof text !== "string" || !/^-?\d+$/.test(text)) throw new TypeError(`${JSON.stringify(text)} is no amount`);
  return BigInt(text);
}
