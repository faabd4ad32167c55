/** The statements over `archived` and the entries that stand for what is gone. */
import type { Database } from "better-sqlite3";
import type { Closing } from "../../../core/decisions/operations.ts";
import { bodyFromText } from "../body.ts";
import { assertCheck, checkSumOf, FIRST_HASH } from "../rows.ts";
import { prepareReadCalls, type CallRow } from "./calls.ts";

/** How far the ledger is archived. */
export interface Archived {
  /** The last entry that a closing stands for; 0: none. */
  throughSeq: number;
  /** Its hash, in hex: what the chain goes on from. */
  hash: string;
  /** Counters whose windows ended by then are gone with it (epoch ms). */
  untilMs: number;
}

const NOTHING_ARCHIVED: Archived = { throughSeq: 0, hash: FIRST_HASH, untilMs: -Infinity };

export function prepareReadArchived(db: Database): () => Archived {
  const statement = db.prepare<[], { through_seq: bigint; hash: string; until_ms: bigint; check_sum: bigint }>(
    "select through_seq, hash, until_ms, check_sum from archived where id = 1",
  );
  return () => {
    const row = statement.get();
    if (row === undefined) return NOTHING_ARCHIVED;
    const { through_seq, hash, until_ms, check_sum } = row;
    assertCheck("archived", "1", [1, through_seq, hash, until_ms], check_sum);
    return { throughSeq: Number(through_seq), hash, untilMs: Number(until_ms) };
  };
}

export function prepareWriteArchived(db: Database): (archived: Archived) => void {
  const statement = db.prepare(`
    insert into archived (id, through_seq, hash, until_ms, check_sum) values (1, ?, ?, ?, ?)
    on conflict (id) do update set
      through_seq = excluded.through_seq, hash = excluded.hash, until_ms = excluded.until_ms, check_sum = excluded.check_sum
  `);
  return ({ throughSeq, hash, untilMs }) => {
    statement.run(throughSeq, hash, untilMs, checkSumOf("archived", [1, throughSeq, hash, untilMs]));
  };
}

/** Calls that are over, reserved by the entries from one number to another. */
export function prepareReadCallsBetween(db: Database): (fromSeq: number, toSeq: number) => CallRow[] {
  const read = prepareReadCalls(db);
  return (fromSeq, toSeq) => {
    const rows: CallRow[] = [];
    for (let before = toSeq + 1; ;) {
      const page = read({ limit: CALLS_PER_PAGE, before });
      const own = page.filter(({ position }) => position >= fromSeq);
      rows.push(...own);
      if (own.length < CALLS_PER_PAGE) return rows.toReversed();
      before = own.at(-1)?.position ?? fromSeq;
    }
  };
}

const CALLS_PER_PAGE = 1_000;

/** The first instant at which a call was reserved that begins behind an entry; `Infinity`: none was. */
export function prepareReadFirstStart(db: Database): (afterSeq: number) => number {
  const over = db.prepare<[number], { at_ms: bigint }>(
    "select started_at_ms as at_ms from calls where position > ? order by started_at_ms limit 1",
  );
  const running = db.prepare<[], { at_ms: bigint | null }>(`
    select min(entries.at_ms) as at_ms from open_calls join entries on entries.seq = open_calls.position
  `);
  const unfolded = db.prepare<[], { at_ms: bigint | null }>(`
    select min(at_ms) as at_ms from entries where kind in ('reserved', 'denied') and seq > (select seq from folded where id = 1)
  `);
  return (afterSeq) => {
    const found = [over.get(afterSeq)?.at_ms, running.get()?.at_ms, unfolded.get()?.at_ms];
    return Math.min(Infinity, ...found.filter((atMs) => atMs !== undefined && atMs !== null).map(Number));
  };
}

/** The first place of a call that runs; `Infinity`: none does. */
export function prepareReadFirstOpen(db: Database): () => number {
  const statement = db.prepare<[], { position: bigint | null }>("select min(position) as position from open_calls");
  return () => {
    const position = statement.get()?.position;
    return position === undefined || position === null ? Infinity : Number(position);
  };
}

/** True if an entry behind one number belongs to a call that was reserved by an entry up to another. */
export function prepareIsTouchedSince(db: Database): (input: { afterSeq: number; throughSeq: number }) => boolean {
  const statement = db.prepare<[number, number], { one: bigint }>(`
    select 1 as one from entries join calls on calls.call_id = entries.call_id
    where entries.seq > ? and calls.position <= ? limit 1
  `);
  return ({ afterSeq, throughSeq }) => statement.get(afterSeq, throughSeq) !== undefined;
}

/** Removes archived entries from one number to another but those that are kept, and every call that was reserved up to there. */
export function prepareDeleteArchived(db: Database): (fromSeq: number, toSeq: number, kept: readonly number[]) => void {
  const entries = db.prepare("delete from entries where seq >= ? and seq <= ? and seq not in (select value from json_each(?))");
  const calls = db.prepare("delete from calls where position <= ?");
  return (fromSeq, toSeq, kept) => {
    calls.run(toSeq);
    entries.run(fromSeq, toSeq, JSON.stringify(kept.filter((seq) => seq >= fromSeq && seq <= toSeq)));
  };
}

/** The first entry from a number on that is still there; `undefined`: none is. */
export function prepareReadNextSeq(db: Database): (fromSeq: number) => number | undefined {
  const statement = db.prepare<[number], { seq: bigint | null }>("select min(seq) as seq from entries where seq >= ?");
  return (fromSeq) => {
    const seq = statement.get(fromSeq)?.seq;
    return seq === undefined || seq === null ? undefined : Number(seq);
  };
}

/** The closings behind an entry, oldest first, with the charges each carries on. */
export function prepareReadClosings(db: Database): (afterSeq: number) => { seq: number; charges: string; body: Closing }[] {
  const statement = db.prepare<[number], { seq: bigint; charges: string; body: string }>(
    "select seq, charges, body from entries where kind = 'closed' and seq > ? order by seq",
  );
  return (afterSeq) =>
    statement.all(afterSeq).map(({ seq, charges, body: text }) => {
      const body = bodyFromText(text);
      if (body.kind !== "closed") throw new TypeError(`entry ${seq} is closed, but its body is ${body.kind}`);
      return { seq: Number(seq), charges, body };
    });
}
