/**
 * Owns how the core's values become columns and come back, and the hashes that bind a row together.
 * Does not own statements (statements/) or what the values mean (core/decisions).
 * Invariant: what was written comes back equal; a row that is not what was written is found when it is read.
 */
import { hash } from "node:crypto";
import { crc32 } from "node:zlib";
import type { Charge, Counter, ScopeState, SessionState, Told } from "../../core/decisions/counters.ts";
import type { Scopes } from "../../core/limits/limit.ts";
import type { TokenParts } from "../../core/usage/usage.ts";
import { CorruptRowError } from "./errors.ts";

type WrittenCounters = Record<string, Record<string, [spent: string, reserved: string, untilMs: number | null]>>;

/** What no entry says of a scope value. */
interface WrittenRest {
  nextStartMs: [string, number][];
  told: [string, string, number | null][];
  session:
    | (Omit<SessionState, "downgraded" | "graceCalls"> & { downgraded: [string, string][]; graceCalls: [string, number][] })
    | null;
  droppedUntilMs: number;
}

interface WrittenState extends WrittenRest {
  counters: WrittenCounters;
}

/**
 * The hash of an entry, in hex: over the hash before and every column. No column's text holds a line break, so no two entries share it.
 */
export function hashOfEntry(entry: {
  /** In hex. */
  previousHash: string;
  seq: number;
  kind: string;
  callId: string;
  atMs: number;
  costNanoUsd: bigint | undefined;
  charges: string;
  body: string;
}): string {
  const { previousHash, seq, kind, callId, atMs, costNanoUsd, charges, body } = entry;
  const key = `${previousHash}\n${seq}\n${kind}\n${JSON.stringify(callId)}`;
  return hash("sha256", `${key}\n${atMs}\n${costNanoUsd ?? "-"}\n${charges}\n${body}`, "hex");
}

/** The hash before the first entry. */
export const FIRST_HASH: string = "0".repeat(64);

/**
 * Binds the columns of a row that may change; `table` keeps a row from standing in for one of another table. CRC-32 finds every damage
 * of up to 32 bits in a row and takes a tenth of the time of SHA-256; against people there is the chain, from which all of it is
 * recomputed.
 */
export function checkSumOf(table: string, columns: readonly (string | number | bigint | null | undefined)[]): number {
  let text = table;
  for (const column of columns) text += column === null || column === undefined ? "\n-" : `\n+${column}`;
  return crc32(text);
}

/** @throws CorruptRowError if the columns are not those the row was written with. */
export function assertCheck(
  table: string,
  key: string,
  columns: readonly (string | number | bigint | null | undefined)[],
  stored: bigint,
): void {
  if (BigInt(checkSumOf(table, columns)) !== stored) throw new CorruptRowError(table, key);
}

/** A reservation's charges are written twice, in its entry and with the open call. */
const writtenCharges = new WeakMap<readonly Charge[], string>();

/** `[["all","usd@day:UTC","c:…","0","270720000"],…]`: amounts as text, exact at any size, and summed by SQL in `verify`. */
export function chargesToText(charges: readonly Charge[]): string {
  const written = writtenCharges.get(charges);
  if (written !== undefined) return written;
  const lists = charges.map((charge) => [
    charge.scopeKey,
    charge.what,
    charge.windowKey,
    `${charge.spent}`,
    `${charge.reserved}`,
  ]);
  const text = JSON.stringify(lists);
  writtenCharges.set(charges, text);
  return text;
}

/** Reads what {@link chargesToText} wrote. */
export function chargesFromText(text: string): Charge[] {
  const written = JSON.parse(text) as [string, string, string, string, string][];
  return written.map(([scopeKey, what, windowKey, spent, reserved]) => ({
    scopeKey,
    what,
    windowKey,
    spent: BigInt(spent),
    reserved: BigInt(reserved),
  }));
}

/** The state of a scope value as one line of JSON, put together by hand: a batch writes one for every scope value it touched. */
export function stateToText(state: ScopeState): string {
  return `{"counters":${countersToText(state.counters)},${restToText(state).slice(1)}`;
}

/** A state without its counters, which the charges of entries say. */
export function restToText(state: ScopeState): string {
  const { session } = state;
  const rest: WrittenRest = {
    nextStartMs: [...state.nextStartMs],
    told: [...state.told].map(([key, { windowKey, belowFromMs }]) => [key, windowKey, finite(belowFromMs)]),
    session:
      session === undefined ? null : { ...session, downgraded: [...session.downgraded], graceCalls: [...session.graceCalls] },
    droppedUntilMs: state.droppedUntilMs,
  };
  return JSON.stringify(rest);
}

/** Window keys are made of letters, digits, colons and signs (core/windows): they need no escaping. */
function countersToText(counters: ScopeState["counters"]): string {
  let text = "{";
  for (const [what, series] of counters) {
    text += `${text === "{" ? "" : ","}${JSON.stringify(what)}:`;
    let separator = "{";
    for (const [key, { spent, reserved, untilMs }] of series) {
      text += `${separator}"${key}":["${spent}","${reserved}",${finite(untilMs)}]`;
      separator = ",";
    }
    text += separator === "{" ? "{}" : "}";
  }
  return `${text}}`;
}

/** Reads what {@link stateToText} wrote. */
export function stateFromText(text: string): ScopeState {
  const { counters, ...rest } = JSON.parse(text) as WrittenState;
  return {
    counters: new Map(Object.entries(counters).map(([what, series]) => [what, seriesFrom(series)])),
    ...restFrom(rest),
  };
}

/** Reads what {@link restToText} wrote. */
export function restFromText(text: string): Omit<ScopeState, "counters"> {
  return restFrom(JSON.parse(text) as WrittenRest);
}

function restFrom({ nextStartMs, told, session, droppedUntilMs }: WrittenRest): Omit<ScopeState, "counters"> {
  return {
    nextStartMs: new Map(nextStartMs),
    told: new Map(
      told.map(([key, windowKey, belowFromMs]): [string, Told] => [key, { windowKey, belowFromMs: belowFromMs ?? Infinity }]),
    ),
    session: session === null ? undefined : sessionFrom(session),
    droppedUntilMs,
  };
}

function seriesFrom(series: WrittenCounters[string]): Map<string, Counter> {
  return new Map(
    Object.entries(series).map(([key, [spent, reserved, untilMs]]) => [
      key,
      { spent: BigInt(spent), reserved: BigInt(reserved), untilMs: untilMs ?? Infinity },
    ]),
  );
}

function sessionFrom(written: NonNullable<WrittenState["session"]>): SessionState {
  return {
    downgraded: new Map(written.downgraded),
    callsSinceDowngradeDue: written.callsSinceDowngradeDue,
    lastStopReason: written.lastStopReason,
    lastSettledChargeAtMs: written.lastSettledChargeAtMs,
    graceCalls: new Map(written.graceCalls),
  };
}

/** JSON has no word for "never". */
function finite(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}

/** The columns in which `calls` and `rollups` keep whom a call counts for, read by name. */
export function scopesFromColumns(text: (name: ScopeColumn) => string): Scopes {
  return {
    project: text("project"),
    agent: text("agent"),
    session: text("session"),
    parentSessions: JSON.parse(text("parent_sessions")) as string[],
    user: text("user"),
    key: text("key"),
    task: text("task"),
    tags: JSON.parse(text("tags")) as Record<string, string>,
  };
}

type ScopeColumn = "project" | "agent" | "session" | "parent_sessions" | "user" | "key" | "task" | "tags";

/** The columns in which a row keeps its tokens, read by name. */
export function tokensFromColumns(count: (name: TokenColumn) => number): TokenParts {
  return {
    uncachedInputTokens: count("uncached_input_tokens"),
    cacheReadTokens: count("cache_read_tokens"),
    cacheWrite5mTokens: count("cache_write_5m_tokens"),
    cacheWrite1hTokens: count("cache_write_1h_tokens"),
    outputTokens: count("output_tokens"),
    reasoningOutputTokens: count("reasoning_output_tokens"),
  };
}

type TokenColumn =
  | "uncached_input_tokens"
  | "cache_read_tokens"
  | "cache_write_5m_tokens"
  | "cache_write_1h_tokens"
  | "output_tokens"
  | "reasoning_output_tokens";
