/** The statements over `configs`: every set of limits that was ever in force; the last one is. */
import type { Database } from "better-sqlite3";
import { assertCheck, checkSumOf } from "../rows.ts";

/** One set of limits. */
export interface ConfigRow {
  configSeq: number;
  version: string;
  atMs: number;
  rules: string;
}

export function prepareReadConfig(db: Database): () => ConfigRow | undefined {
  const statement = db.prepare<[], { config_seq: bigint; version: string; at_ms: bigint; rules: string; check_sum: bigint }>(`
    select config_seq, version, at_ms, rules, check_sum from configs order by config_seq desc limit 1
  `);
  return () => {
    const row = statement.get();
    if (row === undefined) return undefined;
    const { config_seq, version, at_ms, rules, check_sum } = row;
    assertCheck("configs", String(config_seq), [config_seq, version, at_ms, rules], check_sum);
    return { configSeq: Number(config_seq), version, atMs: Number(at_ms), rules };
  };
}

/** The number of the set in force; 0: none. */
export function prepareReadConfigSeq(db: Database): () => number {
  const statement = db.prepare<[], { config_seq: bigint | null }>(`select max(config_seq) as config_seq from configs`);
  return () => Number(statement.get()?.config_seq ?? 0);
}

export function prepareInsertConfig(db: Database): (row: ConfigRow) => void {
  const statement = db.prepare(`
    insert into configs (config_seq, version, at_ms, rules, check_sum) values (?, ?, ?, ?, ?)
  `);
  return ({ configSeq, version, atMs, rules }) => {
    statement.run(configSeq, version, atMs, rules, checkSumOf("configs", [configSeq, version, atMs, rules]));
  };
}
