/** The statements over `batches`: submissions whose lines the ledger owns. */
import type { Database } from "better-sqlite3";
import type { BatchesQuery, BatchRecord } from "../../ledger.ts";
import { assertCheck, checkSumOf } from "../rows.ts";

interface BatchRow {
  submission_id: string;
  provider: string;
  key_id: string | null;
  batch_id: string | null;
  submitted_at_ms: bigint;
  ended_at_ms: bigint | null;
  check_sum: bigint;
}

const COLUMNS = `submission_id, provider, key_id, batch_id, submitted_at_ms, ended_at_ms, check_sum`;

function toColumns(batch: BatchRecord): (string | number | null)[] {
  const { submissionId, provider, keyId, batchId, submittedAtMs, endedAtMs } = batch;
  return [submissionId, provider, keyId ?? null, batchId ?? null, submittedAtMs, endedAtMs ?? null];
}

function fromRow(row: BatchRow): BatchRecord {
  const { submission_id, provider, key_id, batch_id, submitted_at_ms, ended_at_ms } = row;
  const columns = [submission_id, provider, key_id, batch_id, submitted_at_ms, ended_at_ms];
  assertCheck("batches", submission_id, columns, row.check_sum);
  return {
    submissionId: submission_id,
    provider,
    keyId: key_id ?? undefined,
    batchId: batch_id ?? undefined,
    submittedAtMs: Number(submitted_at_ms),
    endedAtMs: ended_at_ms === null ? undefined : Number(ended_at_ms),
  };
}

/** False: there is one of that name. */
export function prepareInsertBatch(db: Database): (batch: BatchRecord) => boolean {
  const statement = db.prepare(
    `insert into batches (${COLUMNS}) values (?, ?, ?, ?, ?, ?, ?) on conflict (submission_id) do nothing`,
  );
  return (batch) => {
    const columns = toColumns(batch);
    return statement.run(...columns, checkSumOf("batches", columns)).changes > 0;
  };
}

export function prepareUpdateBatch(db: Database): (batch: BatchRecord) => void {
  const statement = db.prepare(`
    update batches set provider = ?, key_id = ?, batch_id = ?, submitted_at_ms = ?, ended_at_ms = ?, check_sum = ?
    where submission_id = ?
  `);
  return (batch) => {
    const columns = toColumns(batch);
    statement.run(...columns.slice(1), checkSumOf("batches", columns), batch.submissionId);
  };
}

export function prepareDeleteBatch(db: Database): (submissionId: string) => void {
  const statement = db.prepare(`delete from batches where submission_id = ?`);
  return (submissionId) => {
    statement.run(submissionId);
  };
}

/** Oldest first. */
export function prepareReadBatches(db: Database): (query: BatchesQuery) => BatchRecord[] {
  const statement = db.prepare<[string | null, string | null, number], BatchRow>(`
    select ${COLUMNS} from batches
    where (? is null or batch_id = ?) and (? = 0 or ended_at_ms is null)
    order by submitted_at_ms, submission_id
  `);
  return ({ batchId, isOpen = false }) => statement.all(batchId ?? null, batchId ?? null, isOpen ? 1 : 0).map(fromRow);
}
