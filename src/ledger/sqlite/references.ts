/**
 * Owns which earlier entries an entry's text names instead of spelling a thing out again: they must not go before it does.
 * Does not own what is named there.
 */
import { entryOfReference } from "./spelled.ts";
import type { EntryRow } from "./statements/entries.ts";

/**
 * Which entries are named by which later ones, in a ledger that grows meanwhile: every entry is read once, however many closings are
 * planned over it.
 */
export class NamedEntries {
  readonly #entries: (fromSeq: number, toSeq: number) => Iterable<EntryRow>;
  readonly #entry: (seq: number) => EntryRow | undefined;
  /** By entry: the last one that names it, or that names another which does. */
  readonly #lastNamedBy = new Map<number, number>();
  readonly #names = new Map<number, readonly number[]>();
  #upToSeq: number;

  /** @param entry is asked for while `entries` are read. */
  constructor(input: {
    entries: (fromSeq: number, toSeq: number) => Iterable<EntryRow>;
    entry: (seq: number) => EntryRow | undefined;
    afterSeq: number;
  }) {
    this.#entries = input.entries;
    this.#entry = input.entry;
    this.#upToSeq = input.afterSeq;
  }

  /** The last entry that was read. */
  get upToSeq(): number {
    return this.#upToSeq;
  }

  /** Reads the entries behind the last one, up to another. */
  readOn(toSeq: number): void {
    for (const row of this.#entries(this.#upToSeq + 1, toSeq)) {
      this.#name(referencesIn(row), row.seq);
      this.#upToSeq = row.seq;
    }
  }

  /** Up to an entry: those that entries behind it name, those given, and what all these name in turn; in their order. */
  keptUpTo(throughSeq: number, given: readonly number[] = []): number[] {
    const kept = new Set<number>();
    const keep = (seqs: readonly number[]): void => {
      for (const seq of seqs) {
        if (seq > throughSeq || kept.has(seq)) continue;
        kept.add(seq);
        keep(this.#namesOf(seq));
      }
    };
    keep(given);
    for (const [seq, bySeq] of this.#lastNamedBy) if (seq <= throughSeq && bySeq > throughSeq) kept.add(seq);
    return [...kept].toSorted((a, b) => a - b);
  }

  #name(seqs: readonly number[], bySeq: number): void {
    for (const seq of seqs) {
      if ((this.#lastNamedBy.get(seq) ?? 0) >= bySeq) continue;
      this.#lastNamedBy.set(seq, bySeq);
      this.#name(this.#namesOf(seq), bySeq);
    }
  }

  #namesOf(seq: number): readonly number[] {
    let names = this.#names.get(seq);
    if (names === undefined) {
      const row = this.#entry(seq);
      this.#names.set(seq, (names = row === undefined ? [] : referencesIn(row)));
    }
    return names;
  }
}

/** The entries that an entry refers to. */
export function referencesIn({ charges, body }: Pick<EntryRow, "charges" | "body">): number[] {
  return [...referencesInCharges(charges), ...referencesInBody(body)];
}

function referencesInCharges(text: string): number[] {
  if (!text.startsWith("{")) return [];
  const { of } = JSON.parse(text) as { of: readonly unknown[] | number };
  if (typeof of === "number") return [of];
  return of.filter((counter) => typeof counter === "number").map((counter) => entryOfReference(counter));
}

function referencesInBody(text: string): number[] {
  if (!text.startsWith('["reserved"')) return [];
  const [, , limits] = JSON.parse(text) as readonly unknown[];
  return typeof limits === "number" ? [limits] : [];
}
