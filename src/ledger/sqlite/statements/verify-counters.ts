/** The statements that recompute every counter from the charges of the entries. They change nothing but temporary tables. */
import type { Database } from "better-sqlite3";

/** Spent and reserved, summed in two parts: whole thousand millions and the rest, as a plain sum could overflow. */
const STEP_ENTRIES = 10_000n;
const PART = 1_000_000_000n;

/** Sums the charges of all entries up to one by counter into `temp.sums`. */
export function sumCharges(db: Database, lastSeq: bigint, onProgress: (share: number) => void): void {
  db.exec(`
    create temp table sums (
      scope_key text not null,
      what text not null,
      window_key text not null,
      spent_high integer not null,
      spent_low integer not null,
      reserved_high integer not null,
      reserved_low integer not null,
      primary key (scope_key, what, window_key)
    ) strict, without rowid
  `);
  const add = db.prepare<[bigint, bigint]>(`
    insert into temp.sums (scope_key, what, window_key, spent_high, spent_low, reserved_high, reserved_low)
    select
      charge.value ->> 0,
      charge.value ->> 1,
      charge.value ->> 2,
      sum(cast(charge.value ->> 3 as integer) / ${PART}),
      sum(cast(charge.value ->> 3 as integer) % ${PART}),
      sum(cast(charge.value ->> 4 as integer) / ${PART}),
      sum(cast(charge.value ->> 4 as integer) % ${PART})
    from entries, json_each(entries.charges) as charge
    where entries.seq >= ? and entries.seq < ? and json_valid(entries.charges)
    group by 1, 2, 3
    on conflict (scope_key, what, window_key) do update set
      spent_high = spent_high + excluded.spent_high,
      spent_low = spent_low + excluded.spent_low,
      reserved_high = reserved_high + excluded.reserved_high,
      reserved_low = reserved_low + excluded.reserved_low
  `);
  for (let seq = 1n; seq <= lastSeq; seq += STEP_ENTRIES) {
    const end = seq + STEP_ENTRIES;
    add.run(seq, end > lastSeq ? lastSeq + 1n : end);
    onProgress(Number(seq) / Number(lastSeq));
  }
}

interface Amounts {
  spent: bigint;
  reserved: bigint;
}

/** A counter that is not what its entries sum to; on one side it may be missing. */
export type WrongCounter = { scopeKey: string; what: string; windowKey: string } & (
  | { stored: undefined; recomputed: Amounts }
  | { stored: { spent: string; reserved: string }; recomputed: Amounts | undefined }
);

/** Compares the stored counters, present and past, with `temp.sums`. */
export function findWrongCounters(db: Database): { wrong: WrongCounter[]; count: number } {
  const stored = db.prepare<[], { scope_key: string; what: string; window_key: string; spent: string; reserved: string }>(`
    select counters.scope_key, series.key as what, counter.key as window_key,
      counter.value ->> 0 as spent, counter.value ->> 1 as reserved
    from counters, json_each(counters.state, '$.counters') as series, json_each(series.value) as counter
    union all
    select scope_key, what, window_key, spent, '0' as reserved from past_counters
  `);
  const recomputed = db.prepare<
    [],
    {
      scope_key: string;
      what: string;
      window_key: string;
      spent_high: bigint;
      spent_low: bigint;
      reserved_high: bigint;
      reserved_low: bigint;
    }
  >(`
    select scope_key, what, window_key, spent_high, spent_low, reserved_high, reserved_low from temp.sums
  `);
  const nameOf = (row: { scope_key: string; what: string; window_key: string }): string =>
    JSON.stringify([row.scope_key, row.what, row.window_key]);
  const sums = new Map<string, Amounts>();
  for (const row of recomputed.iterate()) {
    const { spent_high, spent_low, reserved_high, reserved_low } = row;
    sums.set(nameOf(row), { spent: spent_high * PART + spent_low, reserved: reserved_high * PART + reserved_low });
  }
  const wrong: WrongCounter[] = [];
  let count = 0;
  for (const row of stored.iterate()) {
    count += 1;
    const { scope_key: scopeKey, what, window_key: windowKey, spent, reserved } = row;
    const sum = sums.get(nameOf(row));
    sums.delete(nameOf(row));
    if (sum !== undefined && String(sum.spent) === spent && String(sum.reserved) === reserved) continue;
    wrong.push({ scopeKey, what, windowKey, stored: { spent, reserved }, recomputed: sum });
  }
  for (const [name, sum] of sums) {
    const [scopeKey, what, windowKey] = JSON.parse(name) as [string, string, string];
    wrong.push({ scopeKey, what, windowKey, stored: undefined, recomputed: sum });
  }
  return { wrong, count };
}
