/** The statements over `calls`: one row per call that is over, for reports, lists and what a second ending must agree with. */
import type { Database } from "better-sqlite3";
import type { EndedCall } from "../../../core/decisions/operations.ts";
import type { Scopes } from "../../../core/limits/limit.ts";
import type { TokenParts } from "../../../core/usage/usage.ts";
import type { CallsQuery } from "../../ledger.ts";
import { assertCheck, checkSumOf, scopesFromColumns, tokensFromColumns } from "../rows.ts";
import { prepareRowsAtOnce, type Column } from "./rows-at-once.ts";

/** A call that is over, as its row holds it. */
export interface CallRow {
  position: number;
  callId: string;
  status: EndedCall["status"] | "denied";
  startedAtMs: number;
  /** The entry that says how it ended; a denied one ends with the entry it begins with. */
  endSeq: number;
  scopes: Scopes;
  reported: { user: string; tags: Readonly<Record<string, string>> };
  model: string;
  /** Corrections included. */
  costNanoUsd: bigint | undefined;
  tokens: TokenParts;
  /** What an expired call was counted with, while a settlement may still replace it; what was corrected, and by which entries. */
  counted: string | undefined;
  /** The bound it was admitted with; `undefined`: refused, or no price is known. */
  reservedNanoUsd: bigint | undefined;
  /** How much its settlement was above what it held. */
  overrunNanoUsd: bigint;
}

type StoredRow = Record<string, string | bigint | null> & { check_sum: bigint };

const NAMES = [
  "position",
  "call_id",
  "status",
  "started_at_ms",
  "end_seq",
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
  "cost_nano_usd",
  "uncached_input_tokens",
  "cache_read_tokens",
  "cache_write_5m_tokens",
  "cache_write_1h_tokens",
  "output_tokens",
  "reasoning_output_tokens",
  "counted",
  "reserved_nano_usd",
  "overrun_nano_usd",
] as const;

/** In the order of {@link NAMES}. */
function toColumns({ scopes, reported, tokens, ...row }: CallRow): Column[] {
  return [
    row.position,
    row.callId,
    row.status,
    row.startedAtMs,
    row.endSeq,
    scopes.project,
    scopes.agent,
    scopes.session,
    JSON.stringify(scopes.parentSessions),
    scopes.user,
    scopes.key,
    scopes.task,
    JSON.stringify(scopes.tags),
    reported.user,
    JSON.stringify(reported.tags),
    row.model,
    row.costNanoUsd ?? null,
    tokens.uncachedInputTokens,
    tokens.cacheReadTokens,
    tokens.cacheWrite5mTokens,
    tokens.cacheWrite1hTokens,
    tokens.outputTokens,
    tokens.reasoningOutputTokens,
    row.counted ?? null,
    row.reservedNanoUsd ?? null,
    row.overrunNanoUsd,
  ];
}

/** Reads a row, checked. */
function fromRow(row: StoredRow): CallRow {
  assertCheck(
    "calls",
    String(row["call_id"]),
    NAMES.map((name) => row[name]),
    row.check_sum,
  );
  const text = (name: (typeof NAMES)[number]): string => String(row[name]);
  const count = (name: (typeof NAMES)[number]): number => Number(row[name]);
  const cost = row["cost_nano_usd"];
  return {
    position: count("position"),
    callId: text("call_id"),
    status: text("status") as CallRow["status"],
    startedAtMs: count("started_at_ms"),
    endSeq: count("end_seq"),
    scopes: scopesFromColumns(text),
    reported: { user: text("reported_user"), tags: JSON.parse(text("reported_tags")) as Record<string, string> },
    model: text("model"),
    costNanoUsd: typeof cost === "bigint" ? cost : undefined,
    tokens: tokensFromColumns(count),
    counted: typeof row["counted"] === "string" ? row["counted"] : undefined,
    reservedNanoUsd: typeof row["reserved_nano_usd"] === "bigint" ? row["reserved_nano_usd"] : undefined,
    overrunNanoUsd: BigInt(row["overrun_nano_usd"] ?? 0),
  };
}

const COLUMNS = `${NAMES.join(", ")}, check_sum`;

export function prepareWriteCalls(db: Database): (rows: readonly CallRow[]) => void {
  const write = prepareRowsAtOnce(
    db,
    `(${NAMES.map(() => "?").join(", ")}, ?)`,
    (rows) => `
    insert into calls (${COLUMNS}) values ${rows}
    on conflict (position) do update set
      status = excluded.status,
      end_seq = excluded.end_seq,
      cost_nano_usd = excluded.cost_nano_usd,
      uncached_input_tokens = excluded.uncached_input_tokens,
      cache_read_tokens = excluded.cache_read_tokens,
      cache_write_5m_tokens = excluded.cache_write_5m_tokens,
      cache_write_1h_tokens = excluded.cache_write_1h_tokens,
      output_tokens = excluded.output_tokens,
      reasoning_output_tokens = excluded.reasoning_output_tokens,
      counted = excluded.counted,
      overrun_nano_usd = excluded.overrun_nano_usd,
      check_sum = excluded.check_sum
  `,
  );
  return (rows) =>
    write(
      rows.map((row) => {
        const columns = toColumns(row);
        return [...columns, checkSumOf("calls", columns)];
      }),
    );
}

export function prepareReadCall(db: Database): (callId: string) => CallRow | undefined {
  const statement = db.prepare<[string], StoredRow>(`select ${COLUMNS} from calls where call_id = ?`);
  return (callId) => {
    const row = statement.get(callId);
    return row === undefined ? undefined : fromRow(row);
  };
}

/** True if a query asks for this row. */
export function isAsked({ position, callId, scopes }: CallRow, query: CallsQuery): boolean {
  return (
    position < (query.before ?? Infinity) &&
    (query.callId === undefined || query.callId === callId) &&
    (query.session === undefined || query.session === scopes.session)
  );
}

/** Calls that are over, newest first. */
export function prepareReadCalls(db: Database): (query: CallsQuery) => CallRow[] {
  const byCall = db.prepare<[string, number, number], StoredRow>(`
    select ${COLUMNS} from calls where call_id = ? and position < ? order by position desc limit ?
  `);
  const bySession = db.prepare<[string, number, number], StoredRow>(`
    select ${COLUMNS} from calls where session = ? and position < ? order by position desc limit ?
  `);
  const all = db.prepare<[number, number], StoredRow>(`
    select ${COLUMNS} from calls where position < ? order by position desc limit ?
  `);
  return ({ limit, callId, session, before = Number.MAX_SAFE_INTEGER }) => {
    if (callId !== undefined) return byCall.all(callId, before, limit).map(fromRow);
    if (session !== undefined) return bySession.all(session, before, limit).map(fromRow);
    return all.all(before, limit).map(fromRow);
  };
}

/** Calls that still count, reserved from an instant on; in no order. */
export function prepareIterateCounted(db: Database): (fromMs: number) => IterableIterator<CallRow> {
  const statement = db.prepare<[number], StoredRow>(`
    select ${COLUMNS} from calls where started_at_ms >= ? and status in ('settled', 'expired')
  `);
  return function* counted(fromMs) {
    for (const row of statement.iterate(fromMs)) yield fromRow(row);
  };
}
