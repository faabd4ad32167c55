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
  fit?: "off" | null,
  pauseUpToMs?: number,
];

/** The column `body`. */
export function bodyToText(body: EntryBody): string {
  if ((body.kind !== "reserved" && body.kind !== "denied") || body.decision === undefined) return toJson(body);
  const { admit, ...decision } = body.decision;
  const views = new WrittenJson(`[${admit.views.map(viewToText).join(",")}]`);
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

/** A {@link WrittenView}, put together by hand: every reservation writes one for each limit it was looked at by. */
function viewToText(view: LimitView): string {
  const { graceCeiling, spent, reserved, bound, windowEndMs, clearsAtMs } = view;
  const figures = `${amountToText(graceCeiling)},"${spent}","${reserved}",${amountToText(bound)}`;
  return `${beginningOf(view)}${figures},${finite(windowEndMs)},${finite(clearsAtMs)}${endOf(view)}]`;
}

/** What most limits do not say. */
function endOf({ fit, pauseUpToMs }: LimitView): string {
  if (pauseUpToMs !== undefined) return `,${JSON.stringify(fit ?? null)},${pauseUpToMs}`;
  return fit === undefined ? "" : `,"${fit}"`;
}

type Beginning = Pick<LimitView, "limit" | "amount" | "ceiling"> & { text: string };

/** What stands before the figures is the same with every call of a counter: a memo that changes nothing. */
const beginnings = new Map<string, Beginning>();
const BEGINNINGS_MAX = 10_000;

function beginningOf({ limit, scope, counterId, measure, amount, ceiling }: LimitView): string {
  const known = beginnings.get(counterId);
  if (known?.limit === limit && known.amount === amount && known.ceiling === ceiling) return known.text;
  if (beginnings.size >= BEGINNINGS_MAX) beginnings.clear();
  const names = JSON.stringify([limit, scope, counterId, measure]).slice(0, -1);
  const text = `${names},"${amount}",${amountToText(ceiling)},`;
  beginnings.set(counterId, { limit, amount, ceiling, text });
  return text;
}

function amountToText(amount: bigint | undefined): string {
  return amount === undefined ? "null" : `"${amount}"`;
}

function finite(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}

function readView(written: WrittenView): LimitView {
  const [
    limit,
    scope,
    counterId,
    measure,
    amount,
    ceiling,
    graceCeiling,
    spent,
    reserved,
    bound,
    windowEndMs,
    clearsAtMs,
    fit,
    pauseUpToMs,
  ] = written;
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
    ...(fit === undefined || fit === null ? {} : { fit }),
    ...(pauseUpToMs === undefined ? {} : { pauseUpToMs }),
  };
}

function amountFrom(text: string | null): bigint | undefined {
  return text === null ? undefined : BigInt(text);
}
