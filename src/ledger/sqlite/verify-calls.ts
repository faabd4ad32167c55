/**
 * Owns the proof of every call's life, read off the entries alone: it begins once, ends once (or late, once more), what it cost is what
 * it was charged in every money counter, each correction of that is charged once, whole, and what it holds while open is what its
 * entries left it with.
 * Shares no code with the rules: the life of a call is written down here a second time.
 */
import type { Database } from "better-sqlite3";
import type { StoredEntry } from "./verify.ts";
import type { VerifiedCharge } from "./verify-charges.ts";
import type { ArchivedState } from "./verify-archived.ts";

interface Held {
  spent: bigint;
  reserved: bigint;
}

interface Life {
  position: bigint;
  /** By counter. */
  charges: Map<string, Held>;
  ending: { status: string; seq: bigint; costNanoUsd: bigint | null } | undefined;
}

interface CallRow {
  position: bigint;
  status: string;
  end_seq: bigint;
  cost_nano_usd: bigint | null;
}

/** Follows every call through the entries. */
export class CallsCheck {
  callCount = 0;
  readonly #lives = new Map<string, Life>();
  /** Calls that are corrected somewhere: they are remembered although they are over. */
  readonly #corrected: ReadonlySet<string>;
  /** Every correction read, by call and id. */
  readonly #corrections = new Set<string>();
  readonly #differs: (sentence: string) => void;
  readonly #db: Database;
  readonly #readRow;
  /** Calls whose first entries are archived: their lives cannot be followed. */
  readonly #carried: ReadonlySet<string>;
  readonly #archivedSeq: bigint;
  #rowCount = 0;
  #isCompared = false;

  constructor(
    db: Database,
    differs: (sentence: string) => void,
    { carried, throughSeq }: Pick<ArchivedState, "carried" | "throughSeq">,
  ) {
    this.#db = db;
    this.#carried = carried;
    this.#archivedSeq = throughSeq;
    this.#differs = differs;
    const corrected = db
      .prepare<[], { call_id: string }>("select call_id from entries not indexed where kind = 'adjusted'")
      .all();
    this.#corrected = new Set(corrected.map(({ call_id: callId }) => callId));
    this.#readRow = db.prepare<[string], CallRow>("select position, status, end_seq, cost_nano_usd from calls where call_id = ?");
  }

  /** Reads the next entry. */
  read(row: StoredEntry, charges: readonly VerifiedCharge[]): void {
    if (this.#isOfArchived(row)) return;
    switch (row.kind) {
      case "reserved":
      case "denied":
        return this.#begin(row, charges);
      case "renewed":
      case "filled":
        return this.#charge(row, charges);
      case "settled":
      case "voided":
      case "expired":
        return this.#end(row, charges);
      case "adjusted":
        return this.#adjust(row, charges);
      case "alert":
      case "closed":
        return;
      default:
        this.#differs(`entry ${row.seq}: its kind is "${row.kind}", which there is not`);
    }
  }

  /** A limit that came later fills in the name of calls that had expired, whenever that was. */
  #isOfArchived({ kind, call_id: callId }: StoredEntry): boolean {
    if (this.#archivedSeq === 0n || this.#lives.has(callId) || kind === "reserved" || kind === "denied") return false;
    return this.#carried.has(callId) || (kind === "filled" && callId !== "");
  }

  #begin(row: StoredEntry, charges: readonly VerifiedCharge[]): void {
    this.callCount += 1;
    if (this.#lives.has(row.call_id)) this.#differs(`entry ${row.seq}: call "${row.call_id}" begins a second time`);
    const life: Life = { position: row.seq, charges: new Map(), ending: undefined };
    if (row.kind === "denied") return this.#compareRow(row.call_id, life, { status: "denied", seq: row.seq, costNanoUsd: null });
    this.#lives.set(row.call_id, life);
    this.#charge(row, charges);
  }

  #charge(row: StoredEntry, charges: readonly VerifiedCharge[]): void {
    // What a new limit was filled with for calls that are over is charged in nobody's name.
    if (row.kind === "filled" && row.call_id === "") return;
    const life = this.#lives.get(row.call_id);
    if (life === undefined || isOver(life)) {
      return this.#differs(`entry ${row.seq}: call "${row.call_id}" is ${row.kind}, but is not open`);
    }
    for (const { name, spent, reserved } of charges) {
      const before = life.charges.get(name) ?? { spent: 0n, reserved: 0n };
      life.charges.set(name, { spent: before.spent + spent, reserved: before.reserved + reserved });
    }
  }

  #end(row: StoredEntry, charges: readonly VerifiedCharge[]): void {
    const life = this.#lives.get(row.call_id);
    const isLate = life?.ending?.status === "expired" && row.kind === "settled";
    if (life === undefined || (life.ending !== undefined && !isLate)) {
      return this.#differs(`entry ${row.seq}: call "${row.call_id}" is ${row.kind}, but is not open`);
    }
    this.#charge(row, charges);
    life.ending = { status: row.kind, seq: row.seq, costNanoUsd: row.cost_nano_usd };
    if (row.kind === "expired") return;
    this.#close(row.call_id, life);
  }

  /** Checks a call that cannot change any more, and forgets it; one that is corrected is kept until its row is compared. */
  #close(callId: string, life: Life): void {
    if (life.ending !== undefined) this.#checkCharges(callId, life, life.ending);
    if (this.#corrected.has(callId)) return;
    this.#lives.delete(callId);
    if (life.ending !== undefined) this.#compareRow(callId, life, life.ending);
  }

  /** A correction: its charges are in money, each of them its whole amount, and its cost is the cost before it and that amount. */
  #adjust(row: StoredEntry, charges: readonly VerifiedCharge[]): void {
    const life = this.#lives.get(row.call_id);
    const ending = life?.ending;
    if (life === undefined || (ending?.status !== "settled" && ending?.status !== "expired")) {
      return this.#differs(`entry ${row.seq}: call "${row.call_id}" is corrected, but is not settled or expired`);
    }
    const correction = correctionOf(row);
    // Reported by the chain, which this text is part of.
    if (correction === undefined) return;
    const name = JSON.stringify([row.call_id, correction.id]);
    if (this.#corrections.has(name)) {
      this.#differs(`entry ${row.seq}: call "${row.call_id}" is corrected a second time by "${correction.id}"`);
    }
    this.#corrections.add(name);
    for (const { scopeKey, what, spent, reserved } of charges) {
      if (/^usd\b/.test(what) && spent === correction.delta && reserved === 0n) continue;
      this.#differs(
        `entry ${row.seq}: call "${row.call_id}" is corrected by ${correction.delta}, but is charged spent ${spent}, reserved ${reserved} in "${scopeKey} ${what}"`,
      );
    }
    // A late settlement replaces what an expired call is charged, its corrections included.
    if (ending.status === "expired") this.#charge(row, charges);
    const cost = (ending.costNanoUsd ?? 0n) + correction.delta;
    if ((row.cost_nano_usd ?? 0n) !== cost) {
      this.#differs(
        `entry ${row.seq}: call "${row.call_id}" cost ${ending.costNanoUsd ?? 0n} and is corrected by ${correction.delta}, but then costs ${row.cost_nano_usd ?? 0n}`,
      );
    }
    ending.costNanoUsd = row.cost_nano_usd;
  }

  #checkCharges(callId: string, life: Life, ending: NonNullable<Life["ending"]>): void {
    const cost = ending.status === "voided" ? 0n : (ending.costNanoUsd ?? 0n);
    for (const [name, { spent, reserved }] of life.charges) {
      const [scopeKey, what] = JSON.parse(name) as [string, string, string];
      const counter = `${scopeKey} ${what}`;
      if (reserved !== 0n) this.#differs(`call "${callId}" is ${ending.status}, but still holds ${reserved} in "${counter}"`);
      if (/^usd\b/.test(what) && spent !== cost) {
        this.#differs(`call "${callId}" cost ${cost} (entry ${ending.seq}), but is charged ${spent} in "${counter}"`);
      }
    }
  }

  #compareRow(callId: string, { position }: Life, ending: NonNullable<Life["ending"]>): void {
    // What came after is not folded into the table yet.
    if (this.#isCompared) return;
    this.#rowCount += 1;
    const row = this.#readRow.get(callId);
    if (row === undefined)
      return this.#differs(`call "${callId}" is ${ending.status} (entry ${ending.seq}), but has no row in calls`);
    const stored = [row.status, row.position, row.end_seq, row.cost_nano_usd ?? "no cost"].join(", ");
    const recomputed = [ending.status, position, ending.seq, ending.costNanoUsd ?? "no cost"].join(", ");
    if (stored !== recomputed) this.#differs(`call "${callId}": calls says ${stored}; its entries say ${recomputed}`);
  }

  /** After the last entry that is folded: what is open must be listed as open, and nothing else may be listed. */
  compareStored(): void {
    if (this.#isCompared) return;
    const lives = new Map(this.#lives);
    for (const [callId, life] of lives) {
      if (life.ending === undefined) continue;
      // What a settled call was charged was checked when it was settled; limits may have come and gone before its correction.
      if (!isOver(life)) this.#checkCharges(callId, life, life.ending);
      this.#compareRow(callId, life, life.ending);
      lives.delete(callId);
    }
    this.#compareOpenCalls(lives);
    this.#isCompared = true;
    const count = Number(
      this.#db
        .prepare<[bigint], { count: bigint }>("select count(*) as count from calls where position > ?")
        .get(this.#archivedSeq)?.count ?? 0,
    );
    if (count !== this.#rowCount)
      this.#differs(`calls has ${count} rows; the entries tell of ${this.#rowCount} calls that are over`);
  }

  #compareOpenCalls(lives: Map<string, Life>): void {
    const rows = this.#db.prepare<[], { call_id: string; position: bigint; charges: string }>(
      "select call_id, position, charges from open_calls",
    );
    for (const { call_id: callId, position, charges } of rows.iterate()) {
      const life = lives.get(callId);
      lives.delete(callId);
      if (life === undefined) {
        this.#differs(`call "${callId}" is listed as open, but no entry says so`);
        continue;
      }
      const stored = new Map<string, Held>();
      for (const [scopeKey, what, windowKey, spent, reserved] of JSON.parse(charges) as WrittenCharge[]) {
        stored.set(JSON.stringify([scopeKey, what, windowKey]), { spent: BigInt(spent), reserved: BigInt(reserved) });
      }
      const text = (held: Map<string, Held>): string =>
        [...held]
          .map(([name, { spent, reserved }]) => `${name} ${spent} ${reserved}`)
          .sort((a, b) => (a < b ? -1 : 1))
          .join("; ");
      if (position !== life.position || text(stored) !== text(life.charges)) {
        this.#differs(`open call "${callId}" holds ${text(stored)}; its entries leave it with ${text(life.charges)}`);
      }
    }
    for (const callId of lives.keys()) this.#differs(`call "${callId}" is open, but is not listed as open`);
  }
}

/** True once nothing but a correction can come: an expired call may still be settled. */
function isOver({ ending }: Life): boolean {
  return ending !== undefined && ending.status !== "expired";
}

/** `undefined`: the text is no correction. */
function correctionOf(row: StoredEntry): { id: string; delta: bigint } | undefined {
  try {
    const body = JSON.parse(row.body) as { adjustmentId?: unknown; deltaNanoUsd?: { "#"?: unknown } };
    const delta = body.deltaNanoUsd?.["#"];
    if (typeof body.adjustmentId !== "string" || !isAmount(delta)) return undefined;
    return { id: body.adjustmentId, delta: BigInt(String(delta)) };
  } catch {
    return undefined;
  }
}

type WrittenCharge = [scopeKey: string, what: string, windowKey: string, spent: string, reserved: string];

function isAmount(text: unknown): boolean {
  return typeof text === "string" && /^-?\d+$/.test(text);
}
