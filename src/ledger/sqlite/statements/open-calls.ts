/** The statements over `open_calls`: what is not ended yet. What never changes about a call is read from its first entry. */
import type { Database } from "better-sqlite3";
import type { OpenCall } from "../../../core/decisions/operations.ts";
import { openCallOf } from "../../../core/decisions/book.ts";
import { toNanoUsd, type NanoUsd } from "../../../core/money/money.ts";
import { reportedLabelsOf } from "../../call-record.ts";
import { assertCheck, chargesFromText, chargesToText, checkSumOf } from "../rows.ts";
import { prepareReadEntry } from "./entries.ts";

interface OpenCallRow {
  call_id: string;
  owner_id: string;
  position: bigint;
  usd_bound: bigint | null;
  input_tokens_bound: bigint;
  output_tokens_bound: bigint;
  charges: string;
  check_sum: bigint;
}

/** An open call, with what is known once its first entry is written: that entry's number, its labels in reports, what it reserved. */
export interface PlacedOpenCall {
  position: number;
  reported: ReturnType<typeof reportedLabelsOf> | undefined;
  reservedNanoUsd: NanoUsd | undefined;
  /** What its first entry charged, if that is at hand. */
  charged: OpenCall["charges"] | undefined;
  /** True if the file has a row of it. */
  isStored: boolean;
  open: OpenCall;
}

const COLUMNS = `call_id, owner_id, position, usd_bound, input_tokens_bound, output_tokens_bound, charges, check_sum`;

export function prepareReadOpenCall(db: Database): (callId: string) => PlacedOpenCall | undefined {
  const statement = db.prepare<[string], OpenCallRow>(`select ${COLUMNS} from open_calls where call_id = ?`);
  const fromRow = prepareFromRow(db);
  return (callId) => {
    const row = statement.get(callId);
    return row === undefined ? undefined : fromRow(row);
  };
}

/** In the order they were admitted. */
export function prepareReadOpenCalls(db: Database): (ownerId?: string) => PlacedOpenCall[] {
  const all = db.prepare<[], OpenCallRow>(`select ${COLUMNS} from open_calls order by position`);
  const owned = db.prepare<[string], OpenCallRow>(`select ${COLUMNS} from open_calls where owner_id = ? order by position`);
  const fromRow = prepareFromRow(db);
  return (ownerId) => (ownerId === undefined ? all.all() : owned.all(ownerId)).map(fromRow);
}

function prepareFromRow(db: Database): (row: OpenCallRow) => PlacedOpenCall {
  const readEntry = prepareReadEntry(db);
  return (row) => {
    assertCheck("open_calls", row.call_id, columnsOf(row), row.check_sum);
    const { body, atMs, charges } = readEntry(Number(row.position));
    if (body.kind !== "reserved") throw new TypeError(`open call ${row.call_id}: entry ${row.position} is ${body.kind}`);
    const open = {
      ...openCallOf({ body, atMs, charges: chargesFromText(row.charges) }),
      usdBound: row.usd_bound === null ? undefined : toNanoUsd(row.usd_bound),
      inputTokensBound: Number(row.input_tokens_bound),
      outputTokensBound: Number(row.output_tokens_bound),
    };
    return {
      position: Number(row.position),
      reported: reportedLabelsOf(body.call),
      reservedNanoUsd: body.decision.usdBound,
      charged: charges,
      isStored: true,
      open,
    };
  };
}

function columnsOf(row: Omit<OpenCallRow, "check_sum">): (string | bigint | null)[] {
  const { call_id, owner_id, position, usd_bound, input_tokens_bound, output_tokens_bound, charges } = row;
  return [call_id, owner_id, position, usd_bound, input_tokens_bound, output_tokens_bound, charges];
}

export function prepareWriteOpenCall(db: Database): (call: PlacedOpenCall) => void {
  const statement = db.prepare(`
    insert into open_calls (${COLUMNS}) values (?, ?, ?, ?, ?, ?, ?, ?)
    on conflict (call_id) do update set
      usd_bound = excluded.usd_bound,
      input_tokens_bound = excluded.input_tokens_bound,
      output_tokens_bound = excluded.output_tokens_bound,
      charges = excluded.charges,
      check_sum = excluded.check_sum
  `);
  return ({ position, open }) => {
    const { callId, ownerId, usdBound, inputTokensBound, outputTokensBound } = open;
    const columns = [
      callId,
      ownerId,
      position,
      usdBound ?? null,
      inputTokensBound,
      outputTokensBound,
      chargesToText(open.charges),
    ];
    statement.run(...columns, checkSumOf("open_calls", columns));
  };
}

export function prepareDeleteOpenCall(db: Database): (callId: string) => void {
  const statement = db.prepare(`delete from open_calls where call_id = ?`);
  return (callId) => {
    statement.run(callId);
  };
}
