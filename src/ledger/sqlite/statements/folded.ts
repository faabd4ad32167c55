/** The statements over `folded` and `unfolded_states`: how far the projections reach, and what no entry says of what is behind that. */
import type { Database } from "better-sqlite3";
import type { ScopeState } from "../../../core/decisions/counters.ts";
import { assertCheck, checkSumOf, restFromText, restToText } from "../rows.ts";

/** The last entry that the projections hold; 0: none. */
export function prepareReadFolded(db: Database): () => number {
  const statement = db.prepare<[], { seq: bigint; check_sum: bigint }>("select seq, check_sum from folded where id = 1");
  return () => {
    const row = statement.get();
    if (row === undefined) throw new RangeError("table folded is empty; run `purser verify`");
    assertCheck("folded", "1", [1, row.seq], row.check_sum);
    return Number(row.seq);
  };
}

export function prepareWriteFolded(db: Database): (seq: number) => void {
  const statement = db.prepare("update folded set seq = ?, check_sum = ? where id = 1");
  return (seq) => {
    statement.run(seq, checkSumOf("folded", [1, seq]));
  };
}

export function prepareWriteRest(db: Database): (scopeKey: string, state: ScopeState) => void {
  const statement = db.prepare(`
    insert into unfolded_states (scope_key, rest, check_sum) values (?, ?, ?)
    on conflict (scope_key) do update set rest = excluded.rest, check_sum = excluded.check_sum
  `);
  return (scopeKey, state) => {
    const text = restToText(state);
    statement.run(scopeKey, text, checkSumOf("unfolded_states", [scopeKey, text]));
  };
}

export function prepareReadRests(db: Database): () => { scopeKey: string; rest: Omit<ScopeState, "counters"> }[] {
  const statement = db.prepare<[], { scope_key: string; rest: string; check_sum: bigint }>(
    "select scope_key, rest, check_sum from unfolded_states order by scope_key",
  );
  return () =>
    statement.all().map(({ scope_key: scopeKey, rest, check_sum }) => {
      assertCheck("unfolded_states", scopeKey, [scopeKey, rest], check_sum);
      return { scopeKey, rest: restFromText(rest) };
    });
}

export function prepareDeleteRests(db: Database): () => void {
  const statement = db.prepare("delete from unfolded_states");
  return () => {
    statement.run();
  };
}
