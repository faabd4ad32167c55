/** The statement behind reports: sums of the calls that are over, by any labels. Its variants are closed: one expression per label. */
import type { Database } from "better-sqlite3";
import { toNanoUsd } from "../../../core/money/money.ts";
import { NO_TOKENS, type TokenParts } from "../../../core/usage/usage.ts";
import type { ReportDimension, ReportGroup, ReportQuery } from "../../ledger.ts";
import { tokensFromColumns } from "../rows.ts";

/** Sums of nano-dollars are taken in two parts, whole dollars and the rest: a plain sum ends at 9.2 thousand million dollars. */
const SUMS = `
  coalesce(sum(cost_nano_usd / 1000000000), 0) as whole_usd,
  coalesce(sum(cost_nano_usd % 1000000000), 0) as rest_nano_usd,
  coalesce(sum(uncached_input_tokens), 0) as uncached_input_tokens,
  coalesce(sum(cache_read_tokens), 0) as cache_read_tokens,
  coalesce(sum(cache_write_5m_tokens), 0) as cache_write_5m_tokens,
  coalesce(sum(cache_write_1h_tokens), 0) as cache_write_1h_tokens,
  coalesce(sum(output_tokens), 0) as output_tokens,
  coalesce(sum(reasoning_output_tokens), 0) as reasoning_output_tokens`;

const COUNTED_CALLS = `
  coalesce(sum(status <> 'denied'), 0) as calls,
  coalesce(sum(status = 'denied'), 0) as denied`;
const ROLLED_UP_CALLS = `
  coalesce(sum(calls), 0) as calls,
  coalesce(sum(denied), 0) as denied`;

/** The expression that a label is grouped by. A tag's name is a parameter, never part of the text. */
function expressionOf(dimension: ReportDimension): string {
  switch (dimension) {
    case "project":
    case "agent":
    case "session":
    case "key":
    case "task":
    case "model":
      return dimension;
    case "user":
      return "reported_user";
    default:
      return "coalesce((select value from json_each(reported_tags) where json_each.key = ?), 'default')";
  }
}

type SumRow = Record<string, bigint | string>;

type ReadGroups = (query: ReportQuery, throughSeq: number) => ReportGroup[];

/** Of calls whose entries are there: those behind the last that is archived. In no order. */
export function prepareReadReport(db: Database): ReadGroups {
  return prepareGroups(db, {
    counts: COUNTED_CALLS,
    from: "calls where started_at_ms >= ? and started_at_ms < ? and position > ?",
  });
}

/** Of archived calls, by whole quarters of an hour. In no order. */
export function prepareReadRolledUp(db: Database): ReadGroups {
  return prepareGroups(db, {
    counts: ROLLED_UP_CALLS,
    from: "rollups where quarter_ms >= ? and quarter_ms < ? and through_seq <= ?",
  });
}

function prepareGroups(db: Database, { counts, from }: { counts: string; from: string }): ReadGroups {
  return ({ fromMs, toMs, by }, throughSeq) => {
    const labels = by.map((dimension, index) => `${expressionOf(dimension)} as label_${index}`);
    const groupBy = by.length === 0 ? "" : `group by ${by.map((_dimension, index) => index + 1).join(", ")}`;
    const statement = db.prepare<unknown[], SumRow>(`
      select ${[...labels, counts, SUMS].join(", ")} from ${from} ${groupBy}
    `);
    const tags = by.filter((dimension) => dimension.startsWith("tag:")).map((dimension) => dimension.slice("tag:".length));
    const groups = statement.all(...tags, sqlInstant(fromMs), sqlInstant(toMs), throughSeq).map((row) => groupOf(by, row));
    return groups.filter(({ calls, denied }) => calls + denied > 0);
  };
}

/** `Infinity` is no SQL number. */
function sqlInstant(atMs: number): number {
  return Math.max(-Number.MAX_SAFE_INTEGER, Math.min(Number.MAX_SAFE_INTEGER, atMs));
}

function groupOf(by: readonly ReportDimension[], row: SumRow): ReportGroup {
  const count = (name: string): number => Number(row[name]);
  return {
    key: Object.fromEntries(by.map((dimension, index) => [dimension, String(row[`label_${index}`])])),
    calls: count("calls"),
    denied: count("denied"),
    costNanoUsd: toNanoUsd(BigInt(row["whole_usd"] ?? 0) * 1_000_000_000n + BigInt(row["rest_nano_usd"] ?? 0)),
    tokens: tokensFromColumns(count),
  };
}

/** Adds up groups that have the same labels. */
export function addGroups(groups: readonly ReportGroup[], by: readonly ReportDimension[]): ReportGroup[] {
  const sums = new Map<string, ReportGroup>();
  for (const group of groups) {
    const id = JSON.stringify(by.map((dimension) => group.key[dimension]));
    const sum = sums.get(id) ?? { key: group.key, calls: 0, denied: 0, costNanoUsd: toNanoUsd(0n), tokens: { ...NO_TOKENS } };
    sums.set(id, sum);
    sum.calls += group.calls;
    sum.denied += group.denied;
    sum.costNanoUsd = toNanoUsd(sum.costNanoUsd + group.costNanoUsd);
    for (const part of Object.keys(NO_TOKENS) as (keyof TokenParts)[]) sum.tokens[part] += group.tokens[part];
  }
  return [...sums.values()];
}
