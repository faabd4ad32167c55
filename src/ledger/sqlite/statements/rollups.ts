/** The statements over `rollups`: what reports say of archived calls, by quarter of an hour and everything a report can group by. */
import { hash } from "node:crypto";
import type { Database } from "better-sqlite3";
import type { Scopes } from "../../../core/limits/limit.ts";
import { NO_TOKENS, type TokenParts } from "../../../core/usage/usage.ts";
import { checkSumOf, scopesFromColumns, tokensFromColumns } from "../rows.ts";
import type { CallRow } from "./calls.ts";

/** Every zone's day begins at a quarter of an hour of UTC. */
export const QUARTER_MS = 15 * 60_000;

/** The calls of a quarter of an hour that have everything in common that a report can group by, or a limit count over. */
export interface Rollup {
  quarterMs: number;
  scopes: Scopes;
  reported: CallRow["reported"];
  model: string;
  calls: number;
  /** Those of them that limits count: not the voided ones. */
  countedCalls: number;
  denied: number;
  costNanoUsd: bigint;
  tokens: TokenParts;
}

const NAMES = [
  "through_seq",
  "quarter_ms",
  "project",
  "agent",
  "session",
  "parent_sessions",
  "user",
  "key",
  "task",
  "tags",
  "reported_user",
  "reported_tags",
  "model",
  "calls",
  "counted_calls",
  "denied",
  "cost_nano_usd",
  "uncached_input_tokens",
  "cache_read_tokens",
  "cache_write_5m_tokens",
  "cache_write_1h_tokens",
  "output_tokens",
  "reasoning_output_tokens",
] as const;

/** A roll-up as its columns hold it, the number of the closing's last entry first. */
export type RollupColumns = (string | number | bigint)[];

/** In the order of {@link NAMES}. */
export function rollupColumns(throughSeq: number, { scopes, reported, tokens, ...row }: Rollup): RollupColumns {
  return [
    throughSeq,
    row.quarterMs,
    ...labelsOf({ scopes, reported, model: row.model }),
    row.calls,
    row.countedCalls,
    row.denied,
    row.costNanoUsd,
    tokens.uncachedInputTokens,
    tokens.cacheReadTokens,
    tokens.cacheWrite5mTokens,
    tokens.cacheWrite1hTokens,
    tokens.outputTokens,
    tokens.reasoningOutputTokens,
  ];
}

function labelsOf({ scopes, reported, model }: Pick<Rollup, "scopes" | "reported" | "model">): string[] {
  const { project, agent, session, parentSessions, user, key, task, tags } = scopes;
  const lists = [JSON.stringify(parentSessions), JSON.stringify(tags)] as const;
  return [project, agent, session, lists[0], user, key, task, lists[1], reported.user, JSON.stringify(reported.tags), model];
}

/** Rolls calls that are over up, in the order in which they come. */
export function rollUp(rows: Iterable<CallRow>): Rollup[] {
  const rollups = new Map<string, Rollup>();
  for (const row of rows) {
    const quarterMs = Math.floor(row.startedAtMs / QUARTER_MS) * QUARTER_MS;
    const id = JSON.stringify([quarterMs, labelsOf(row)]);
    const { scopes, reported, model } = row;
    const empty = { quarterMs, scopes, reported, model, calls: 0, countedCalls: 0, denied: 0, costNanoUsd: 0n };
    const before = rollups.get(id) ?? { ...empty, tokens: { ...NO_TOKENS } };
    rollups.set(id, before);
    before.calls += row.status === "denied" ? 0 : 1;
    before.countedCalls += row.status === "settled" || row.status === "expired" ? 1 : 0;
    before.denied += row.status === "denied" ? 1 : 0;
    before.costNanoUsd += row.costNanoUsd ?? 0n;
    for (const part of Object.keys(before.tokens) as (keyof TokenParts)[]) before.tokens[part] += row.tokens[part];
  }
  return [...rollups.values()];
}

/** Binds roll-ups to those before them: a closing names the last of these hashes. */
export function hashOfRollups(previousHash: string, rows: readonly RollupColumns[]): string {
  return rows.reduce((before, row) => hash("sha256", `${before}\n${row.join("\n")}`, "hex"), previousHash);
}

export function prepareInsertRollup(db: Database): (columns: RollupColumns) => void {
  const statement = db.prepare(
    `insert into rollups (id, ${NAMES.join(", ")}, check_sum) values (?, ${NAMES.map(() => "?").join(", ")}, ?)`,
  );
  const nextId = db.prepare<[], { id: bigint }>("select coalesce(max(id), 0) + 1 as id from rollups");
  return (columns) => {
    const id = nextId.get()?.id ?? 1n;
    statement.run(id, ...columns, checkSumOf("rollups", [id, ...columns]));
  };
}

/** How many roll-ups a closing has. */
export function prepareCountRollups(db: Database): (throughSeq: number) => number {
  const statement = db.prepare<[number], { count: bigint }>("select count(*) as count from rollups where through_seq = ?");
  return (throughSeq) => Number(statement.get(throughSeq)?.count ?? 0);
}

/** Removes roll-ups of a closing that never came to be. */
export function prepareDeleteRollupsAfter(db: Database): (throughSeq: number, limit: number) => number {
  const statement = db.prepare("delete from rollups where id in (select id from rollups where through_seq > ? limit ?)");
  return (throughSeq, limit) => statement.run(throughSeq, limit).changes;
}

type StoredRow = Record<string, string | bigint>;

/** Roll-ups of closings up to an entry, from an instant on. */
export function prepareIterateRollups(db: Database): (input: { fromMs: number; throughSeq: number }) => IterableIterator<Rollup> {
  const statement = db.prepare<[number, number], StoredRow>(
    `select ${NAMES.join(", ")} from rollups where quarter_ms >= ? and through_seq <= ? order by id`,
  );
  return function* rollups({ fromMs, throughSeq }) {
    for (const row of statement.iterate(fromMs, throughSeq)) yield fromRow(row);
  };
}

function fromRow(row: StoredRow): Rollup {
  const text = (name: (typeof NAMES)[number]): string => String(row[name]);
  const count = (name: (typeof NAMES)[number]): number => Number(row[name]);
  return {
    quarterMs: count("quarter_ms"),
    scopes: scopesFromColumns(text),
    reported: { user: text("reported_user"), tags: JSON.parse(text("reported_tags")) as Record<string, string> },
    model: text("model"),
    calls: count("calls"),
    countedCalls: count("counted_calls"),
    denied: count("denied"),
    costNanoUsd: BigInt(row["cost_nano_usd"] ?? 0),
    tokens: tokensFromColumns(count),
  };
}
