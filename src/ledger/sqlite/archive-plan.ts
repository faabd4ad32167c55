/**
 * Owns what one closing stands for: which entries, what they come to, and which of them must stay. Read from one moment of the file,
 * without its lock.
 * Does not own the steps that carry it out (archive.ts).
 * Invariants: entries go in their order, from the first on; none of a call that still runs goes, nor one that later entries refer to;
 * what is carried on and what is left come to the same in every counter whose window is not over.
 */
import type { Database } from "better-sqlite3";
import { untilOf, type Charge } from "../../core/decisions/counters.ts";
import type { Closing } from "../../core/decisions/operations.ts";
import { NO_TOKENS, type TokenParts } from "../../core/usage/usage.ts";
import { correctedFromText } from "./counted.ts";
import type { ArchiveFile } from "./archive-file.ts";
import { readCharges } from "./entry-text.ts";
import { NamedEntries } from "./references.ts";
import { chargesFromText, chargesToText, FIRST_HASH } from "./rows.ts";
import type { Spelled } from "./spelled.ts";
import {
  prepareReadArchived,
  prepareReadCallsBetween,
  prepareReadClosings,
  prepareReadFirstOpen,
  prepareReadFirstStart,
  type Archived,
} from "./statements/archived.ts";
import type { CallRow } from "./statements/calls.ts";
import { prepareIterateEntries, prepareReadHead, spelledOn, type EntryRow } from "./statements/entries.ts";
import { prepareReadFolded } from "./statements/folded.ts";
import { hashOfRollups, rollupColumns, rollUp, type RollupColumns } from "./statements/rollups.ts";

/** So many entries go into one closing at most: it stays some hundred kilobytes, and is written within milliseconds. */
const ENTRIES_PER_CLOSING_MAX = 10_000;
const DAY_MS = 24 * 3_600_000;
/** So long after its end a counter may still be looked at or filled: a sixth of the longest rolling window (core/decisions/counters.ts). */
const LOOKED_BACK_MS_MAX = 62 * DAY_MS;

/** A closing, not carried out yet. */
export interface ArchivePlan {
  closing: Closing;
  /** The closing's charges, as they are stored. */
  charges: string;
  rollups: RollupColumns[];
  /** What it was worked out from: nothing of its calls may have changed behind this entry. */
  folded: number;
  previous: Archived;
}

/** Plans closings over one reading connection. */
export class ArchivePlanner {
  readonly #read;
  readonly #spelled: Spelled;
  readonly #named: NamedEntries;
  readonly #closings: KnownClosing[] = [];

  constructor(db: Database) {
    this.#spelled = spelledOn(db);
    const entryAt = prepareIterateEntries(db);
    this.#read = {
      archived: prepareReadArchived(db),
      folded: prepareReadFolded(db),
      head: prepareReadHead(db),
      firstOpen: prepareReadFirstOpen(db),
      firstStart: prepareReadFirstStart(db),
      entries: prepareIterateEntries(db),
      calls: prepareReadCallsBetween(db),
      closings: prepareReadClosings(db),
    };
    const { entries, archived } = this.#read;
    this.#named = new NamedEntries({ entries, entry: (seq) => [...entryAt(seq, seq)][0], afterSeq: archived().throughSeq });
  }

  /** The last entry whose references are known. */
  get readUpToSeq(): number {
    return this.#named.upToSeq;
  }

  /** Reads some of the entries that were not yet looked at. @returns true: there are more. */
  readOn(): boolean {
    const headSeq = this.#read.head().seq;
    this.#named.readOn(Math.min(headSeq, this.#named.upToSeq + ENTRIES_PER_CLOSING_MAX));
    return this.#named.upToSeq < headSeq;
  }

  /** True if all that entries behind a plan's name is kept, as far as they were read. */
  isStillRight({ closing: { throughSeq, kept } }: ArchivePlan): boolean {
    const isKept = new Set(kept.map(([seq]) => seq));
    return this.#named.keptUpTo(throughSeq).every((seq) => isKept.has(seq));
  }

  /**
   * Plans the next closing among the entries that were read, and writes those it stands for to a file.
   *
   * @param beforeMs only entries before this instant, and of one day of UTC.
   * @param fileFor opens the file, once there is something to write.
   * @returns `undefined`: there is nothing more to archive.
   */
  next(beforeMs: number, fileFor: (begin: { fromSeq: number; previousHash: string }) => ArchiveFile): ArchivePlan | undefined {
    const previous = this.#read.archived();
    const folded = this.#read.folded();
    const fromSeq = previous.throughSeq + 1;
    const rows = this.#rowsFrom(fromSeq, Math.min(this.#named.upToSeq, folded, this.#read.firstOpen() - 1), beforeMs);
    const [first, last] = [rows[0], rows.at(-1)];
    if (first === undefined || last === undefined) return undefined;
    const file = fileFor({ fromSeq, previousHash: previous.hash });
    for (const row of rows) file.write(row);
    const throughSeq = last.seq;
    const calls = this.#read.calls(fromSeq, throughSeq);
    const carried = calls
      .map((call): Closing["carried"][number] => [call.callId, call.startedAtMs, lastSeqOf(call), call.position])
      .filter(([, , lastSeq]) => lastSeq > throughSeq);
    const untilMs = this.#untilMs({ beforeMs, throughSeq, carried, previous });
    const before = this.#lastClosing();
    const rollups = rollUp(calls).map((rollup) => rollupColumns(throughSeq, rollup));
    const closing: Closing = {
      kind: "closed",
      fromSeq,
      throughSeq,
      throughHash: last.hash,
      fromMs: first.atMs,
      toMs: last.atMs,
      untilMs,
      ...sumsOf(calls),
      rollupHash: hashOfRollups(before?.rollupHash ?? FIRST_HASH, rollups),
      kept: this.#kept({ rows, throughSeq, carried, previous, before }),
      carried,
    };
    return { closing, charges: chargesToText(this.#carriedOn(rows, throughSeq, untilMs)), rollups, folded, previous };
  }

  #rowsFrom(fromSeq: number, toSeq: number, beforeMs: number): EntryRow[] {
    const rows: EntryRow[] = [];
    let day: number | undefined;
    for (const row of this.#read.entries(fromSeq, toSeq)) {
      day ??= Math.floor(row.atMs / DAY_MS);
      const isNext = row.atMs < beforeMs && Math.floor(row.atMs / DAY_MS) === day && rows.length < ENTRIES_PER_CLOSING_MAX;
      if (!isNext) break;
      rows.push(row);
    }
    return rows;
  }

  /** No entry that is left, and none to come, charges a window that ended by then. */
  #untilMs(input: { beforeMs: number; throughSeq: number; carried: Closing["carried"]; previous: Archived }): number {
    const { beforeMs, throughSeq, previous } = input;
    const starts = this.#stillCarried(input.carried, throughSeq).map(([, atMs]) => atMs);
    const firstMs = Math.min(beforeMs, this.#read.firstStart(throughSeq), ...starts);
    return Math.max(previous.untilMs, firstMs - LOOKED_BACK_MS_MAX);
  }

  /** Calls with entries up to one and behind it, those of closings before included. */
  #stillCarried(carried: Closing["carried"], throughSeq: number): Closing["carried"] {
    const all = [...carried, ...this.#closingsBehind(throughSeq).flatMap(({ body }) => body.carried)];
    return all.filter(([, , lastSeq]) => lastSeq > throughSeq);
  }

  #lastClosing(): Closing | undefined {
    return this.#closingsBehind(0).at(-1)?.body;
  }

  /** What the entries come to in windows that go on; of those that are over, what earlier closings still carry is taken back. */
  #carriedOn(rows: readonly EntryRow[], throughSeq: number, untilMs: number): Charge[] {
    const sums = new Map<string, Charge>();
    const add = (charge: Charge, sign: 1n | -1n): void => {
      const id = JSON.stringify([charge.scopeKey, charge.what, charge.windowKey]);
      const sum = sums.get(id) ?? { ...charge, spent: 0n, reserved: 0n };
      sums.set(id, { ...sum, spent: sum.spent + sign * charge.spent, reserved: sum.reserved + sign * charge.reserved });
    };
    const isOver = ({ what, windowKey }: Charge): boolean => untilOf(what, windowKey) <= untilMs;
    for (const row of rows) for (const charge of readCharges(row.charges, this.#spelled)) if (!isOver(charge)) add(charge, 1n);
    for (const { ending } of this.#closingsBehind(throughSeq)) {
      for (const { charge, endsMs } of ending) if (endsMs <= untilMs) add(charge, -1n);
    }
    return [...sums.values()].filter(({ spent, reserved }) => spent !== 0n || reserved !== 0n);
  }

  /** Up to the last entry that goes: the beginnings of calls that go on, those that later entries name, and what these name in turn. */
  #kept(input: {
    rows: readonly EntryRow[];
    throughSeq: number;
    carried: Closing["carried"];
    previous: Archived;
    before: Closing | undefined;
  }): [seq: number, previousHash: string][] {
    const { rows, throughSeq, carried, previous, before } = input;
    const begun = this.#stillCarried(carried, throughSeq).map(([, , , position]) => position);
    const hashes = new Map(before?.kept);
    let previousHash = previous.hash;
    for (const { seq, hash } of rows) {
      hashes.set(seq, previousHash);
      previousHash = hash;
    }
    return this.#named.keptUpTo(throughSeq, begun).map((seq) => {
      const hash = hashes.get(seq);
      if (hash === undefined) throw new TypeError(`entry ${seq} is named by later ones, but gone; run \`purser verify\``);
      return [seq, hash];
    });
  }

  /** The closings behind an entry, oldest first; each is read once. */
  #closingsBehind(afterSeq: number): KnownClosing[] {
    const known = this.#closings;
    for (const { seq, charges, body } of this.#read.closings(known.at(-1)?.seq ?? 0)) {
      const ends = chargesFromText(charges).map((charge) => ({ charge, endsMs: untilOf(charge.what, charge.windowKey) }));
      known.push({ seq, body, ending: ends.filter(({ endsMs }) => endsMs < Infinity) });
    }
    return known.filter(({ seq }) => seq > afterSeq);
  }
}

/** A closing in the ledger, and what it carries on in windows that end. */
interface KnownClosing {
  seq: number;
  body: Closing;
  ending: readonly { charge: Charge; endsMs: number }[];
}

/** The last entry that is written of a call. */
function lastSeqOf({ endSeq, counted }: CallRow): number {
  return Math.max(endSeq, ...(correctedFromText(counted)?.adjustments ?? []).map(({ seq }) => seq));
}

function sumsOf(rows: readonly CallRow[]): Pick<Closing, "calls" | "denied" | "costNanoUsd" | "tokens"> {
  const tokens: TokenParts = { ...NO_TOKENS };
  for (const row of rows) for (const part of Object.keys(tokens) as (keyof TokenParts)[]) tokens[part] += row.tokens[part];
  const denied = rows.filter(({ status }) => status === "denied").length;
  const costNanoUsd = rows.reduce((sum, row) => sum + (row.costNanoUsd ?? 0n), 0n);
  return { calls: rows.length - denied, denied, costNanoUsd, tokens };
}
