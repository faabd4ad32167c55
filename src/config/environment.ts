/**
 * Owns which environment variable stands for which setting. Does not own laying them over the file (overlay.ts) or what a value means: a
 * variable's text goes through the same readers as the file's.
 * Invariant: the environment is passed in; an empty variable says nothing.
 */
import { readChoice } from "./fields.ts";
import type { Place, Problems } from "./problems.ts";

/** The variables, as the process has them. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** Every scalar setting by its path; some have a second, shorter variable beside `PURSER_` + path in capitals. */
export const SCALARS: readonly { path: readonly [string, ...string[]]; short?: string }[] = [
  { path: ["timezone"] },
  { path: ["weekStart"] },
  { path: ["onLedgerUnavailable"] },
  { path: ["onUnpricedModel"] },
  { path: ["onClientAbort"] },
  { path: ["budget", "per_session_tokens"] },
  { path: ["budget", "daily_tokens"] },
  { path: ["budget", "monthly_usd"] },
  { path: ["upstreams", "anthropic"], short: "PURSER_ANTHROPIC_URL" },
  { path: ["upstreams", "openai"], short: "PURSER_OPENAI_URL" },
  { path: ["server", "host"], short: "PURSER_HOST" },
  { path: ["server", "port"], short: "PURSER_PORT" },
  { path: ["server", "adminHost"], short: "PURSER_ADMIN_HOST" },
  { path: ["server", "adminPort"], short: "PURSER_ADMIN_PORT" },
  { path: ["server", "bodyBytesMax"] },
  { path: ["server", "passthroughKeys"] },
  { path: ["ledger", "keepDays"] },
];

/** Variables of ours that stand for no setting of the file. */
export const OTHERS = ["PURSER_CONFIG", "PURSER_LEDGER", "PURSER_LIMITS", "PURSER_LOG_LEVEL", "PURSER_ADMIN_TOKEN"];
/** Variables of the repository's own tests and benchmarks. */
export const FOR_DEVELOPMENT = new Set(["PURSER_DATA", "PURSER_LONG"]);

export const LOG_LEVELS = ["debug", "info", "warn", "error", "silent"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** Every variable that stands for a setting, with its path, for the documentation. */
export const VARIABLES: readonly { name: string; path: string }[] = SCALARS.flatMap(({ path, short }) =>
  namesOf({ path, ...(short === undefined ? {} : { short }) }).map((name) => ({ name, path: path.join(".") })),
);

/** The value of a variable; an empty one says nothing. */
export function readVariable(env: Environment, name: string): string | undefined {
  const value = env[name];
  return value === undefined || value.trim() === "" ? undefined : value;
}

/** How much is logged: only a variable says it. */
export function readLogLevel(env: Environment, problems: Problems): LogLevel {
  const text = readVariable(env, "PURSER_LOG_LEVEL");
  if (text === undefined) return "info";
  return readChoice({ kind: "text", place: placeOf("PURSER_LOG_LEVEL", ""), text }, LOG_LEVELS, problems) ?? "info";
}

/** The place of a value that came from a variable. */
export function placeOf(variable: string, path: string): Place {
  return { file: variable, line: undefined, column: undefined, path };
}

export function namesOf({ path, short }: { path: readonly string[]; short?: string }): string[] {
  const full = `PURSER_${path.join("_").toUpperCase()}`;
  return short === undefined ? [full] : [short, full];
}
