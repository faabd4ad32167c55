/** The statements over `entries`. There is none that changes or removes one. */
import type { Database } from "better-sqlite3";
import type { EntryBody, NewEntry } from "../../../core/decisions/operations.ts";
import type { Charge } from "../../../core/decisions/counters.ts";
import { toNanoUsd } from "../../../core/money/money.ts";
import { bodyFromText } from "../body.ts";
import { readBody, readCharges } from "../entry-text.ts";
import { FIRST_HASH } from "../rows.ts";
import { Spelled } from "../spelled.ts";
import { prepareRowsAtOnce } from "./rows-at-once.ts";

/** An entry as its columns hold it. */
export interface EntryRow {
  seq: number;
  kind: NewEntry["kind"];
  callId: string;
  atMs: number;
  costNanoUsd: bigint | undefined;
  charges: string;
  body: string;
  /** In hex. */
  hash: string;
}

/** Where the chain ends. */
export interface ChainHead {
  seq: number;
  /** In hex. */
  hash: string;
}

export function prepareInsertEntries(db: Database): (rows: readonly EntryRow[]) => void {
  const insert = prepareRowsAtOnce(
    db,
    "(?, ?, ?, ?, ?, ?, ?, unhex(?))",
    (rows) => `insert into entries (seq, kind, call_id, at_ms, cost_nano_usd, charges, body, hash) values ${rows}`,
  );
  return (rows) =>
    insert(
      rows.map(({ seq, kind, callId, atMs, costNanoUsd, charges, body, hash }) => [
        seq,
        kind,
        callId,
        atMs,
        costNanoUsd ?? null,
        charges,
        body,
        hash,
      ]),
    );
}

export function prepareReadHead(db: Database): () => ChainHead {
  const statement = db.prepare<[], { seq: bigint; hash: Buffer }>(`select seq, hash from entries order by seq desc limit 1`);
  return () => {
    const row = statement.get();
    return row === undefined ? { seq: 0, hash: FIRST_HASH } : { seq: Number(row.seq), hash: row.hash.toString("hex") };
  };
}

/** The hash of an entry in hex; `undefined`: it is not there. */
export function prepareReadHash(db: Database): (seq: number) => string | undefined {
  const statement = db.prepare<[number], { hash: Buffer }>("select hash from entries where seq = ?");
  return (seq) => statement.get(seq)?.hash.toString("hex");
}

/** What an entry said, by its number. */
export interface KeptEntry {
  atMs: number;
  costNanoUsd: ReturnType<typeof toNanoUsd> | undefined;
  charges: readonly Charge[];
  body: EntryBody;
}

const spelledByConnection = new WeakMap<Database, Spelled>();

/** What the entries of a ledger spell out, as one connection reads it. */
export function spelledOn(db: Database): Spelled {
  let spelled = spelledByConnection.get(db);
  if (spelled !== undefined) return spelled;
  const statement = db.prepare<[number], { charges: string; body: string }>("select charges, body from entries where seq = ?");
  spelledByConnection.set(db, (spelled = new Spelled((seq) => statement.get(seq))));
  return spelled;
}

/** @throws RangeError if there is no such entry: calls only name entries that were written with them. */
export function prepareReadEntry(db: Database): (seq: number) => KeptEntry {
  const statement = db.prepare<[number], { at_ms: bigint; cost_nano_usd: bigint | null; charges: string; body: string }>(`
    select at_ms, cost_nano_usd, charges, body from entries where seq = ?
  `);
  const spelled = spelledOn(db);
  return (seq) => {
    const row = statement.get(seq);
    if (row === undefined) throw new RangeError(`entry ${seq} is missing; run \`purser verify\``);
    const atMs = Number(row.at_ms);
    return {
      atMs,
      costNanoUsd: row.cost_nano_usd === null ? undefined : toNanoUsd(row.cost_nano_usd),
      charges: readCharges(row.charges, spelled),
      body: readBody({ atMs, charges: row.charges, body: row.body }, spelled),
    };
  };
}

/** The newest alerts' bodies, newest first. */
export function prepareReadAlerts(db: Database): (limit: number) => EntryBody[] {
  const statement = db.prepare<[number], { body: string }>(`
    select body from entries where kind = 'alert' order by seq desc limit ?
  `);
  return (limit) => statement.all(limit).map(({ body }) => bodyFromText(body));
}

/** Entries from one number on, as they are stored; for checking the chain. */
export function prepareReadTail(db: Database): (fromSeq: number) => EntryRow[] {
  const entries = prepareIterateEntries(db);
  return (fromSeq) => [...entries(fromSeq)];
}

/** Entries from one number to another, in their order, as they are stored. */
export function prepareIterateEntries(db: Database): (fromSeq: number, toSeq?: number) => IterableIterator<EntryRow> {
  const statement = db.prepare<
    [number, number],
    {
      seq: bigint;
      kind: string;
      call_id: string;
      at_ms: bigint;
      cost_nano_usd: bigint | null;
      charges: string;
      body: string;
      hash: Buffer;
    }
  >("select seq, kind, call_id, at_ms, cost_nano_usd, charges, body, hash from entries where seq >= ? and seq <= ? order by seq");
  return function* entries(fromSeq, toSeq = Number.MAX_SAFE_INTEGER) {
    for (const row of statement.iterate(fromSeq, toSeq)) {
      yield {
        seq: Number(row.seq),
        kind: row.kind as EntryRow["kind"],
        callId: row.call_id,
        atMs: Number(row.at_ms),
        costNanoUsd: row.cost_nano_usd ?? undefined,
        charges: row.charges,
        body: row.body,
        hash: row.hash.toString("hex"),
      };
    }
  };
}
