/** The statement that compares what is stored of every counter with what the entries charge. */
import type { Database } from "better-sqlite3";

/** As an archive has it where there is none. */
const NOTHING_ARCHIVED = -(2n ** 63n);
/** For windows without an end. */
const NEVER = "9223372036854775807";

interface Amounts {
  spent: bigint;
  reserved: bigint;
}

/** A counter that is not what its entries sum to; on one side it may be missing. */
export type WrongCounter = { scopeKey: string; what: string; windowKey: string } & (
  | { stored: undefined; recomputed: Amounts }
  | { stored: { spent: string; reserved: string }; recomputed: Amounts | undefined }
);

/**
 * Compares the stored counters, present and past, with what entries sum to; not those whose windows ended by an instant.
 *
 * @param sums by scope value, what is counted and window, as a JSON list. Emptied.
 */
export function findWrongCounters(
  db: Database,
  sums: Map<string, Amounts>,
  untilMs: bigint,
): { wrong: WrongCounter[]; count: number } {
  const stored = db.prepare<
    [bigint, bigint],
    { scope_key: string; what: string; window_key: string; spent: string; reserved: string }
  >(`
    select counters.scope_key, series.key as what, counter.key as window_key,
      counter.value ->> 0 as spent, counter.value ->> 1 as reserved
    from counters, json_each(counters.state, '$.counters') as series, json_each(series.value) as counter
    where coalesce(counter.value ->> 2, ${NEVER}) > ?
    union all
    select scope_key, what, window_key, spent, '0' as reserved from past_counters where until_ms > ?
  `);
  const wrong: WrongCounter[] = [];
  // A closing carries on no zeros, and what it takes back of windows that are over comes to zero.
  const isArchived = untilMs > NOTHING_ARCHIVED;
  let count = 0;
  for (const row of stored.iterate(untilMs, untilMs)) {
    count += 1;
    const { scope_key: scopeKey, what, window_key: windowKey, spent, reserved } = row;
    const name = JSON.stringify([scopeKey, what, windowKey]);
    const sum = sums.get(name);
    sums.delete(name);
    if (sum !== undefined && String(sum.spent) === spent && String(sum.reserved) === reserved) continue;
    if (sum === undefined && isArchived && spent === "0" && reserved === "0") continue;
    wrong.push({ scopeKey, what, windowKey, stored: { spent, reserved }, recomputed: sum });
  }
  for (const [name, sum] of sums) {
    if (isArchived && sum.spent === 0n && sum.reserved === 0n) continue;
    const [scopeKey, what, windowKey] = JSON.parse(name) as [string, string, string];
    wrong.push({ scopeKey, what, windowKey, stored: undefined, recomputed: sum });
  }
  return { wrong, count };
}
