/**
 * Owns which environment variable stands for which setting, and laying them over the file: a variable wins.
 * Does not own what a value means: a variable's text goes through the same readers as the file's.
 * Invariant: the environment is passed in; an empty variable says nothing.
 */
import type { ConfigNode, MapEntry } from "./document.ts";
import { readDocument } from "./document.ts";
import { readChoice } from "./fields.ts";
import type { Place, Problems } from "./problems.ts";
import { nearest, quote } from "./problems.ts";

/** The variables, as the process has them. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** Every scalar setting by its path; some have a second, shorter variable beside `PURSER_` + path in capitals. */
const SCALARS: readonly { path: readonly [string, ...string[]]; short?: string }[] = [
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
const OTHERS = ["PURSER_CONFIG", "PURSER_LEDGER", "PURSER_LIMITS", "PURSER_LOG_LEVEL", "PURSER_ADMIN_TOKEN"];
/** Variables of the repository's own tests and benchmarks. */
const FOR_DEVELOPMENT = new Set(["PURSER_DATA", "PURSER_LONG"]);

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

/** Lays the variables over the tree of the file. */
export function overlayEnvironment(root: ConfigNode | undefined, env: Environment, problems: Problems): ConfigNode | undefined {
  let tree = root;
  for (const { path, ...names } of SCALARS) {
    const variable = chooseVariable(namesOf({ path, ...names }), env, path.join("."), problems);
    if (variable !== undefined) tree = withValue(tree, path, variable);
  }
  const limits = readVariable(env, "PURSER_LIMITS");
  const limitsNode = limits === undefined ? undefined : readDocument(limits, "PURSER_LIMITS", "limits", problems);
  if (limitsNode !== undefined) tree = withValue(tree, ["limits"], limitsNode);
  warnUnknown(env, problems);
  return tree;
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

function namesOf({ path, short }: { path: readonly string[]; short?: string }): string[] {
  const full = `PURSER_${path.join("_").toUpperCase()}`;
  return short === undefined ? [full] : [short, full];
}

function chooseVariable(names: readonly string[], env: Environment, path: string, problems: Problems): ConfigNode | undefined {
  const [first, second] = names.flatMap((name) => {
    const text = readVariable(env, name);
    return text === undefined ? [] : [{ name, text: text.trim() }];
  });
  if (first === undefined) return undefined;
  if (second !== undefined && second.text !== first.text) {
    problems.add(placeOf(second.name, path), quote(second.text), `the same as ${first.name}, which stands for the same setting`);
  }
  return { kind: "text", place: placeOf(first.name, path), text: first.text };
}

/** A tree with one value replaced or added. Where the file holds something that is no map, it stays, and its reader tells. */
function withValue(tree: ConfigNode | undefined, [name, ...rest]: readonly string[], value: ConfigNode): ConfigNode | undefined {
  if (name === undefined) return value;
  if (tree !== undefined && tree.kind !== "map" && tree.kind !== "nothing") return tree;
  const entries: readonly MapEntry[] = tree?.kind === "map" ? tree.entries : [];
  const inner = withValue(entries.find(({ key }) => key === name)?.value, rest, value);
  const others = entries.filter(({ key }) => key !== name);
  const entry = inner === undefined ? [] : [{ key: name, keyPlace: inner.place, value: inner }];
  return { kind: "map", place: tree?.place ?? value.place, entries: [...others, ...entry] };
}

/** A misspelt variable would be ignored in silence, and its setting not hold. */
function warnUnknown(env: Environment, problems: Problems): void {
  const known = [...OTHERS, ...VARIABLES.map(({ name }) => name)];
  for (const name of Object.keys(env).toSorted()) {
    if (!name.startsWith("PURSER_") || known.includes(name) || FOR_DEVELOPMENT.has(name)) continue;
    const meant = nearest(name, known);
    problems.warn(placeOf(name, ""), `no setting has this variable${meant === undefined ? "" : `; did you mean ${meant}?`}`);
  }
}
