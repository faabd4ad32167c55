/** The statements over `keys`: virtual keys, without their secrets. */
import type { Database } from "better-sqlite3";
import type { VirtualKey } from "../../ledger.ts";
import { assertCheck, checkSumOf } from "../rows.ts";

interface KeyRow {
  key_id: string;
  secret_hash: string;
  project: string;
  agent: string;
  allow: string;
  created_at_ms: bigint;
  expires_at_ms: bigint | null;
  revoked_at_ms: bigint | null;
  check_sum: bigint;
}

const COLUMNS = `key_id, secret_hash, project, agent, allow, created_at_ms, expires_at_ms, revoked_at_ms, check_sum`;

function toColumns(key: VirtualKey): (string | number | null)[] {
  const { keyId, secretHash, project, agent, allow, createdAtMs, expiresAtMs, revokedAtMs } = key;
  return [keyId, secretHash, project, agent, JSON.stringify(allow), createdAtMs, expiresAtMs ?? null, revokedAtMs ?? null];
}

function fromRow(row: KeyRow): VirtualKey {
  const { key_id, secret_hash, project, agent, allow, created_at_ms, expires_at_ms, revoked_at_ms } = row;
  const columns = [key_id, secret_hash, project, agent, allow, created_at_ms, expires_at_ms, revoked_at_ms];
  assertCheck("keys", key_id, columns, row.check_sum);
  return {
    keyId: key_id,
    secretHash: secret_hash,
    project,
    agent,
    allow: JSON.parse(allow) as string[],
    createdAtMs: Number(created_at_ms),
    expiresAtMs: expires_at_ms === null ? undefined : Number(expires_at_ms),
    revokedAtMs: revoked_at_ms === null ? undefined : Number(revoked_at_ms),
  };
}

export function prepareWriteKey(db: Database): (key: VirtualKey) => void {
  const statement = db.prepare(`
    insert into keys (${COLUMNS}) values (?, ?, ?, ?, ?, ?, ?, ?, ?)
    on conflict (key_id) do update set
      secret_hash = excluded.secret_hash,
      project = excluded.project,
      agent = excluded.agent,
      allow = excluded.allow,
      created_at_ms = excluded.created_at_ms,
      expires_at_ms = excluded.expires_at_ms,
      revoked_at_ms = excluded.revoked_at_ms,
      check_sum = excluded.check_sum
  `);
  return (key) => {
    const columns = toColumns(key);
    statement.run(...columns, checkSumOf("keys", columns));
  };
}

export function prepareReadKey(db: Database): (keyId: string) => VirtualKey | undefined {
  const statement = db.prepare<[string], KeyRow>(`select ${COLUMNS} from keys where key_id = ?`);
  return (keyId) => {
    const row = statement.get(keyId);
    return row === undefined ? undefined : fromRow(row);
  };
}

/** Oldest first. */
export function prepareReadKeys(db: Database): () => VirtualKey[] {
  const statement = db.prepare<[], KeyRow>(`select ${COLUMNS} from keys order by created_at_ms, key_id`);
  return () => statement.all().map(fromRow);
}
