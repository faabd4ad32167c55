/** The statements over `owners`: the processes that hold reservations. */
import type { Database } from "better-sqlite3";
import type { Owner } from "../../ledger.ts";
import { assertCheck, checkSumOf } from "../rows.ts";

interface OwnerRow {
  owner_id: string;
  pid: bigint;
  process_start: string;
  boot_id: string;
  machine_id: string;
  started_at_ms: bigint;
  beat_at_ms: bigint;
  check_sum: bigint;
}

const COLUMNS = `owner_id, pid, process_start, boot_id, machine_id, started_at_ms, beat_at_ms, check_sum`;

export function prepareWriteOwner(db: Database): (owner: Owner) => void {
  const statement = db.prepare(`
    insert into owners (${COLUMNS}) values (?, ?, ?, ?, ?, ?, ?, ?)
    on conflict (owner_id) do update set
      pid = excluded.pid,
      process_start = excluded.process_start,
      boot_id = excluded.boot_id,
      machine_id = excluded.machine_id,
      started_at_ms = excluded.started_at_ms,
      beat_at_ms = excluded.beat_at_ms,
      check_sum = excluded.check_sum
  `);
  return ({ ownerId, pid, processStart, bootId, machineId, startedAtMs, beatAtMs }) => {
    const columns = [ownerId, pid, processStart, bootId, machineId, startedAtMs, beatAtMs];
    statement.run(...columns, checkSumOf("owners", columns));
  };
}

/** In the order of their ids. */
export function prepareReadOwners(db: Database): () => Owner[] {
  const statement = db.prepare<[], OwnerRow>(`select ${COLUMNS} from owners order by owner_id`);
  return () =>
    statement.all().map((row) => {
      const { owner_id, pid, process_start, boot_id, machine_id, started_at_ms, beat_at_ms } = row;
      const columns = [owner_id, pid, process_start, boot_id, machine_id, started_at_ms, beat_at_ms];
      assertCheck("owners", owner_id, columns, row.check_sum);
      return {
        ownerId: owner_id,
        pid: Number(pid),
        processStart: process_start,
        bootId: boot_id,
        machineId: machine_id,
        startedAtMs: Number(started_at_ms),
        beatAtMs: Number(beat_at_ms),
      };
    });
}

export function prepareCountOwners(db: Database): () => number {
  const statement = db.prepare<[], { count: bigint }>(`select count(*) as count from owners`);
  return () => Number(statement.get()?.count ?? 0);
}

export function prepareDeleteOwner(db: Database): (ownerId: string) => void {
  const statement = db.prepare(`delete from owners where owner_id = ?`);
  return (ownerId) => {
    statement.run(ownerId);
  };
}
