/** The statements over `counters` and `past_counters`. */
import type { Database } from "better-sqlite3";
import type { DroppedCounter, ScopeState } from "../../../core/decisions/counters.ts";
import { assertCheck, checkSumOf, stateFromText, stateToText } from "../rows.ts";

export function prepareReadScope(db: Database): (scopeKey: string) => ScopeState | undefined {
  const statement = db.prepare<[string], { state: string; check_sum: bigint }>(`
    select state, check_sum from counters where scope_key = ?
  `);
  return (scopeKey) => {
    const row = statement.get(scopeKey);
    if (row === undefined) return undefined;
    assertCheck("counters", scopeKey, [scopeKey, row.state], row.check_sum);
    return stateFromText(row.state);
  };
}

/** Every scope value with at least one counter of the given series. */
export function prepareReadScopes(db: Database): (whats: ReadonlySet<string>) => Map<string, ScopeState> {
  const statement = db.prepare<[], { scope_key: string; state: string; check_sum: bigint }>(`
    select scope_key, state, check_sum from counters order by scope_key
  `);
  return (whats) => {
    const states = new Map<string, ScopeState>();
    for (const { scope_key, state: text, check_sum } of statement.iterate()) {
      assertCheck("counters", scope_key, [scope_key, text], check_sum);
      const state = stateFromText(text);
      if ([...state.counters.keys()].some((what) => whats.has(what))) states.set(scope_key, state);
    }
    return states;
  };
}

export function prepareWriteScope(db: Database): (scopeKey: string, state: ScopeState) => void {
  const statement = db.prepare(`
    insert into counters (scope_key, state, check_sum) values (?, ?, ?)
    on conflict (scope_key) do update set state = excluded.state, check_sum = excluded.check_sum
  `);
  return (scopeKey, state) => {
    const text = stateToText(state);
    statement.run(scopeKey, text, checkSumOf("counters", [scopeKey, text]));
  };
}

export function prepareWritePastCounter(db: Database): (scopeKey: string, counter: DroppedCounter) => void {
  const statement = db.prepare(`
    insert into past_counters (scope_key, what, window_key, until_ms, spent, check_sum) values (?, ?, ?, ?, ?, ?)
  `);
  return (scopeKey, { what, windowKey, untilMs, spent }) => {
    const check = checkSumOf("past_counters", [scopeKey, what, windowKey, untilMs, spent]);
    statement.run(scopeKey, what, windowKey, untilMs, `${spent}`, check);
  };
}

/** Takes the counters of a scope value whose windows end after an instant out of the past ones. */
export function prepareTakePastCounters(db: Database): (scopeKey: string, endsAfterMs: number) => DroppedCounter[] {
  const statement = db.prepare<
    [string, number],
    { what: string; window_key: string; until_ms: bigint; spent: string; check_sum: bigint }
  >(`
    delete from past_counters where scope_key = ? and until_ms > ?
    returning what, window_key, until_ms, spent, check_sum
  `);
  return (scopeKey, endsAfterMs) =>
    statement.all(scopeKey, endsAfterMs).map(({ what, window_key: windowKey, until_ms, spent, check_sum }) => {
      assertCheck("past_counters", `${scopeKey} ${what} ${windowKey}`, [scopeKey, what, windowKey, until_ms, spent], check_sum);
      return { what, windowKey, untilMs: Number(until_ms), spent: BigInt(spent) };
    });
}

type PastCounterKey = readonly [scopeKey: string, what: string, windowKey: string];

/** Past counters behind one of them, in the order of their keys. */
export function prepareReadPastCounters(
  db: Database,
): (after: PastCounterKey | undefined, limit: number) => { key: PastCounterKey; untilMs: number }[] {
  const statement = db.prepare<
    [string, string, string, number],
    { scope_key: string; what: string; window_key: string; until_ms: bigint }
  >(`
    select scope_key, what, window_key, until_ms from past_counters
    where (scope_key, what, window_key) > (?, ?, ?) order by scope_key, what, window_key limit ?
  `);
  return (after = ["", "", ""], limit) =>
    statement
      .all(...after, limit)
      .map(({ scope_key, what, window_key, until_ms }) => ({ key: [scope_key, what, window_key], untilMs: Number(until_ms) }));
}

export function prepareDeletePastCounter(db: Database): (key: PastCounterKey) => void {
  const statement = db.prepare("delete from past_counters where scope_key = ? and what = ? and window_key = ?");
  return (key) => {
    statement.run(...key);
  };
}
