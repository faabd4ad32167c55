/**
 * Owns the proof of what stands for archived entries: the closing that the chain goes on from, the entries that were kept, and the
 * roll-ups. Shares no code with the writing side.
 */
import type { Database } from "better-sqlite3";
import { createHash } from "node:crypto";

/** What the last closing says, as far as it is checked. */
export interface ArchivedState {
  /** The chain begins behind this entry, with its hash. */
  throughSeq: bigint;
  hash: Buffer;
  /** Counters whose windows ended by then are not looked at. */
  untilMs: bigint;
  /** Entries up to that one that must be there, each with the hash before it. */
  kept: ReadonlyMap<bigint, string>;
  /** Calls whose first entries are archived and whose later ones are not. */
  carried: ReadonlySet<string>;
  rollupHash: string;
}

const FIRST_HASH = "0".repeat(64);
const NOTHING: ArchivedState = {
  throughSeq: 0n,
  hash: Buffer.alloc(32),
  untilMs: -(2n ** 63n),
  kept: new Map(),
  carried: new Set(),
  rollupHash: FIRST_HASH,
};

interface Row {
  through_seq: bigint;
  hash: string;
  until_ms: bigint;
}

interface Body {
  throughSeq: number;
  throughHash: string;
  untilMs: number;
  rollupHash: string;
  kept: [seq: number, previousHash: string][];
  carried: [callId: string, atMs: number, lastSeq: number, position: number][];
}

/** Reads how far a ledger is archived, and tells where its row and its last closing differ. */
export function readArchived(db: Database, differs: (sentence: string) => void): ArchivedState {
  const row = db.prepare<[], Row>("select through_seq, hash, until_ms from archived where id = 1").get();
  const closings = db.prepare<[], { seq: bigint; body: string }>(
    "select seq, body from entries where kind = 'closed' order by seq",
  );
  const bodies = closings.all().map(({ seq, body }) => ({ seq, ...(JSON.parse(body) as Body) }));
  const last = bodies.at(-1);
  if (row === undefined && last === undefined) return NOTHING;
  if (row === undefined || last === undefined) {
    differs(
      row === undefined
        ? `entry ${last?.seq} closes entries, but none are archived`
        : "entries are archived, but no closing says so",
    );
    return NOTHING;
  }
  const stored = [row.through_seq, row.hash, row.until_ms].join(", ");
  const said = [last.throughSeq, last.throughHash, last.untilMs].join(", ");
  if (stored !== said) differs(`archived says ${stored}; its last closing, entry ${last.seq}, says ${said}`);
  return {
    throughSeq: BigInt(last.throughSeq),
    hash: Buffer.from(last.throughHash, "hex"),
    untilMs: BigInt(last.untilMs),
    kept: new Map(last.kept.map(([seq, hash]) => [BigInt(seq), hash])),
    carried: new Set(bodies.flatMap(({ carried }) => carried.map(([callId]) => callId))),
    rollupHash: last.rollupHash,
  };
}

/** Follows the roll-ups of every closing, each bound to those before it. */
export function checkRollups(db: Database, archived: ArchivedState, differs: (sentence: string) => void): void {
  const columns = db
    .prepare<[], { name: string }>("select name from pragma_table_info('rollups') order by cid")
    .all()
    .map(({ name }) => name)
    .filter((name) => name !== "id" && name !== "check_sum");
  const rows = db
    .prepare<[bigint], Record<string, string | bigint>>(
      `select ${columns.join(", ")} from rollups where through_seq <= ? order by id`,
    )
    .iterate(archived.throughSeq);
  let hash = FIRST_HASH;
  for (const row of rows) {
    hash = createHash("sha256")
      .update([hash, ...columns.map((name) => row[name])].join("\n"))
      .digest("hex");
  }
  if (hash !== archived.rollupHash) differs(`its roll-ups come to ${hash}; the last closing says ${archived.rollupHash}`);
}
