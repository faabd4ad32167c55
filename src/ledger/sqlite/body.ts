/**
 * Owns how an entry's body is written: as JSON, in which what every limit said at a decision stands as lists without field names. They
 * are nine tenths of a body; named, they would double the file and the time that a reservation takes.
 * Invariant: `bodyFromText(bodyToText(body))` equals `body`.
 */
import type { LimitView } from "../../core/decisions/admit.ts";
import type { EntryBody, StoredDecision } from "../../core/decisions/operations.ts";
import { fromJson, toJson, WrittenJson } from "../json.ts";

type WrittenView = [
  limit: string,
  scope: LimitView["scope"],
  counterId: string,
  measure: LimitView["measure"],
  amount: string,
  ceiling: string | null,
  graceCeiling: string | null,
  spent: string,
  reserved: string,
  bound: string | null,
  windowEndMs: number | null,
  clearsAtMs: number | null,
  /** Only where it is off. */
  fit?: "off",
];

/** The column `body`. */
export function bodyToText(body: EntryBody): string {
  if ((body.kind !== "reserved" && body.kind !== "denied") || body.decision === undefined) return toJson(body);
  const { admit, ...decision } = body.decision;
  const views = new WrittenJson(JSON.stringify(admit.views.map(writeView)));
  return toJson({ ...body, decision: { ...decision, admit: { ...admit, views } } });
}

/** Reads the column. */
export function bodyFromText(text: string): EntryBody {
  const body = fromJson(text) as EntryBody;
  if ((body.kind !== "reserved" && body.kind !== "denied") || body.decision === undefined) return body;
  const { admit } = body.decision;
  const views = (admit.views as unknown as WrittenView[]).map(readView);
  const decision: StoredDecision = { ...body.decision, admit: { ...admit, views } };
  return { ...body, decision };
}

function writeView(view: LimitView): WrittenView {
  return [
    view.limit,
    view.scope,
    view.counterId,
    view.measure,
    view.amount.toString(),
    view.ceiling?.toString() ?? null,
    view.graceCeiling?.toString() ?? null,
    view.spent.toString(),
    view.reserved.toString(),
    view.bound?.toString() ?? null,
    Number.isFinite(view.windowEndMs) ? view.windowEndMs : null,
    Number.isFinite(view.clearsAtMs) ? view.clearsAtMs : null,
    ...(view.fit === undefined ? ([] as const) : ([view.fit] as const)),
  ];
}

function readView(written: WrittenView): LimitView {
  const [limit, scope, counterId, measure, amount, ceiling, graceCeiling, spent, reserved, bound, windowEndMs, clearsAtMs, fit] =
    written;
  return {
    limit,
    scope,
    counterId,
    measure,
    amount: BigInt(amount),
    ceiling: amountFrom(ceiling),
    graceCeiling: amountFrom(graceCeiling),
    spent: BigInt(spent),
    reserved: BigInt(reserved),
    bound: amountFrom(bound),
    windowEndMs: windowEndMs ?? Infinity,
    clearsAtMs: clearsAtMs ?? Infinity,
    ...(fit === undefined ? {} : { fit }),
  };
}

function amountFrom(text: string | null): bigint | undefined {
  return text === null ? undefined : BigInt(text);
}
