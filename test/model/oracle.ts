/**
 * A ledger as a list of calls that is summed by filtering: no counters, no windows in keys, nothing shared with the code it judges
 * but the shape of a limit. It says what is spent and reserved under a limit at an instant.
 */
import type { Limit, Scopes, Window } from "../../src/core/limits/limit.ts";
import { DAY_MS } from "./programs.ts";

/** What the oracle knows of one admitted call. */
export interface OracleCall {
  callId: string;
  atMs: number;
  scopes: Scopes;
  model: string;
  status: "open" | "settled" | "voided" | "expired";
  bound: { usd: bigint; input: number; output: number };
  /** What corrections since its ending come to. */
  adjusted: bigint;
  /** Once settled. */
  actual: { usd: bigint; input: number; reads: number; output: number } | undefined;
}

const HOUR_MS = 3_600_000;

/** Where the window that holds an instant begins and ends; rolling ones end with the instant. */
function windowOf(window: Window, atMs: number): [fromMs: number, toMs: number] {
  if (window.kind === "lifetime") return [-Infinity, Infinity];
  if (window.kind === "rolling") return [atMs - window.lengthMs, Infinity];
  const offsetMs = window.timeZone === "Asia/Kolkata" ? 5.5 * HOUR_MS : 0;
  // The epoch was a Thursday: three days after a Monday.
  const [lengthMs, shiftMs] =
    window.unit === "hour" ? [HOUR_MS, 0] : window.unit === "week" ? [7 * DAY_MS, 3 * DAY_MS] : [DAY_MS, 0];
  const fromMs = Math.floor((atMs + offsetMs + shiftMs) / lengthMs) * lengthMs - offsetMs - shiftMs;
  return [fromMs, fromMs + lengthMs];
}

function valuesOf(name: string, scopes: Scopes, model: string): string[] {
  if (name === "all") return [""];
  if (name === "model") return [model];
  if (name === "session") return [scopes.session, ...scopes.parentSessions];
  if (name === "tool") return [toolOf(scopes) ?? "default"];
  if (name.startsWith("tag:")) return [scopes.tags[name.slice(4)] ?? "default"];
  return [scopes[name as "project" | "agent" | "user" | "key" | "task"]];
}

/** Where an invocation's tool is kept, written down a second time. */
const toolOf = ({ tags }: Scopes): string | undefined => tags["~tool"];

/** The scope values of a call under a limit: several where its session counts for parents. */
export function scopesUnder(limit: Limit, scopes: Scopes, model: string): Record<string, string>[] {
  const isMeant = limit.where.every(({ scope, anyOf }) => {
    // A pattern looks at the call's own session, never at its parents'.
    const value = valuesOf(scope, scopes, model)[0] ?? "";
    return anyOf.some(({ text, isPrefix }) => (isPrefix ? value.startsWith(text) : value === text));
  });
  const isOfItsKind = (limit.measure === "toolCalls") === (toolOf(scopes) !== undefined);
  if (!isMeant || !isOfItsKind) return [];
  const found = limit.per.reduce<Record<string, string>[]>(
    (partial, name) =>
      partial.flatMap((scope) =>
        valuesOf(name, scopes, model).map((value) => (name === "all" ? scope : { ...scope, [name]: value })),
      ),
    [{}],
  );
  return [...new Map(found.map((scope) => [JSON.stringify(scope), scope])).values()];
}

function amountsOf(limit: Limit, call: OracleCall): { spent: bigint; reserved: bigint } {
  if (call.status === "voided") return { spent: 0n, reserved: 0n };
  if (limit.measure === "requests" || limit.measure === "toolCalls") return { spent: 1n, reserved: 0n };
  if (limit.measure === "concurrency") return { spent: 0n, reserved: call.status === "open" ? 1n : 0n };
  const bound = { usd: call.bound.usd, input: call.bound.input, reads: 0, output: call.bound.output };
  const { usd: ended, input, reads, output } = call.actual ?? bound;
  const usd = ended + call.adjusted;
  const counted = limit.cacheReads === "ignore" ? input - reads : input;
  const amounts = { usd, tokens: BigInt(counted + output), inputTokens: BigInt(counted), outputTokens: BigInt(output) };
  const amount = amounts[limit.measure];
  return call.status === "open" ? { spent: 0n, reserved: amount } : { spent: amount, reserved: 0n };
}

/** Spent and reserved under a limit, for one scope value, at an instant. `slackMs` reaches further back for a rolling limit. */
export function totalsUnder(
  calls: Iterable<OracleCall>,
  input: { limit: Limit; scope: Record<string, string>; atMs: number; slackMs: number },
): { spent: bigint; reserved: bigint } {
  const { limit, scope, atMs, slackMs } = input;
  const [fromMs, toMs] = limit.measure === "concurrency" ? [-Infinity, Infinity] : windowOf(limit.window, atMs);
  const firstMs = limit.window.kind === "rolling" && limit.measure !== "concurrency" ? fromMs + 1 - slackMs : fromMs;
  const wanted = JSON.stringify(scope);
  let spent = 0n;
  let reserved = 0n;
  for (const call of calls) {
    if (call.atMs < firstMs || call.atMs >= toMs) continue;
    if (!scopesUnder(limit, call.scopes, call.model).some((found) => JSON.stringify(found) === wanted)) continue;
    const amounts = amountsOf(limit, call);
    spent += amounts.spent;
    reserved += amounts.reserved;
  }
  return { spent, reserved };
}

const REFUSING = new Set(["stop", "grace", "pause"]);

/** The amount above which a limit admits nothing: its first `stop`, `grace` or `pause`. */
export function ceilingOf(limit: Limit): bigint | undefined {
  return limit.thresholds.find(({ actions }) => actions.some(({ kind }) => REFUSING.has(kind)))?.amount;
}
