/**
 * Owns reading maps, lists and scalars of the configuration: shapes, names, numbers, amounts, lengths of time.
 * Does not own which settings exist (the readers beside this file).
 * Invariant: each reader answers a value, or notes a problem and answers `undefined`; amounts are read from the written characters.
 */
import type { NanoUsd } from "../core/money/money.ts";
import { NANO_USD_PER_USD, parseUsd } from "../core/money/money.ts";
import type { ConfigNode, MapEntry } from "./node.ts";
import type { Place, Problems } from "./problems.ts";
import { nearest, oneOf, quote } from "./problems.ts";

/** The members of a map whose names are known. */
export type Fields<Name extends string> = ReadonlyMap<Name, MapEntry>;

/** Largest amount of a money limit: what a ledger column of 64 bits holds several times over. */
export const USD_MAX = 1_000_000_000n;
/** Largest amount of a limit that counts things. */
export const COUNT_MAX = 1_000_000_000_000_000n;

const WHOLE_NUMBER = /^\d+(?:_\d+)*$/;
const SHARE = /^(\d+)(?:\.(\d{1,2}))?%$/;
const LENGTH = /^(\d+(?:_\d+)*)(ms|s|m|h|d|w)$/;
const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 };

/** What stands somewhere, for a problem. */
export function describeFound(node: ConfigNode): string {
  if (node.kind === "text") return quote(node.text);
  if (node.kind === "nothing") return "nothing";
  return node.kind === "map" ? "a mapping" : "a list";
}

/** The members of a map; notes every name that is not known. `shown` are the names worth telling a person, if not all. */
export function readFields<Name extends string>(
  node: ConfigNode,
  names: readonly Name[],
  problems: Problems,
  shown: readonly string[] = names,
): Fields<Name> | undefined {
  if (node.kind !== "map") return problems.add(node.place, describeFound(node), `a mapping with ${shown.join(", ")}`);
  const fields = new Map<Name, MapEntry>();
  for (const entry of node.entries) {
    const name = names.find((known) => known === entry.key);
    if (name !== undefined) fields.set(name, entry);
    else problems.add(entry.keyPlace, `the unknown key ${quote(entry.key)}`, oneOf(shown, entry.key));
  }
  return fields;
}

/** The members of a map whose keys are the writer's own; `undefined` with a problem for anything else and for an empty one. */
export function readEntries(node: ConfigNode, allowed: string, problems: Problems): readonly MapEntry[] | undefined {
  if (node.kind === "map" && node.entries.length > 0) return node.entries;
  return problems.add(node.place, node.kind === "map" ? "an empty mapping" : describeFound(node), allowed);
}

/** One value or a list of them: always as a list, never empty. */
export function readOneOrMore(node: ConfigNode, allowed: string, problems: Problems): readonly ConfigNode[] | undefined {
  if (node.kind !== "list") return [node];
  if (node.items.length > 0) return node.items;
  return problems.add(node.place, "an empty list", allowed);
}

/** Text that is not empty. */
export function readText(node: ConfigNode, allowed: string, problems: Problems): string | undefined {
  if (node.kind === "text" && node.text.trim() !== "") return node.text;
  return problems.add(node.place, describeFound(node), allowed);
}

/** One of a few words. `notYet` are words of the language that nothing enforces yet: refused, and said so. */
export function readChoice<Choice extends string>(
  node: ConfigNode,
  choices: readonly Choice[],
  problems: Problems,
  notYet: readonly string[] = [],
): Choice | undefined {
  const text = node.kind === "text" ? node.text : undefined;
  const choice = choices.find((known) => known === text);
  if (choice !== undefined) return choice;
  const allowed = text !== undefined && notYet.includes(text) ? refuseNotYet(choices, text) : oneOf(choices, text);
  return problems.add(node.place, describeFound(node), allowed);
}

/** What is allowed instead of something that is named by the language and not enforced yet. */
export function refuseNotYet(choices: readonly string[], written: string): string {
  return `${choices.join(", ")} (${quote(written)} is not enforced yet, so it is refused)`;
}

/** Whole numbers may use `_` between digits; nothing else. */
export function parseWholeNumber(text: string): bigint | undefined {
  return WHOLE_NUMBER.test(text) ? BigInt(text.replaceAll("_", "")) : undefined;
}

/** A whole number, both ends included. */
export function readWholeNumber(node: ConfigNode, range: { min: bigint; max: bigint }, problems: Problems): bigint | undefined {
  const value = node.kind === "text" ? parseWholeNumber(node.text) : undefined;
  if (value !== undefined && value >= range.min && value <= range.max) return value;
  return problems.add(node.place, describeFound(node), `a whole number from ${group(range.min)} to ${group(range.max)}`);
}

/** US dollars from the written characters; at most {@link USD_MAX}. */
export function readUsd(node: ConfigNode, problems: Problems): NanoUsd | undefined {
  const amount = node.kind === "text" ? parseUsd(node.text) : undefined;
  if (amount !== undefined && amount <= USD_MAX * NANO_USD_PER_USD) return amount;
  const allowed = `US dollars as a plain number like 10 or 2.50, at most ${group(USD_MAX)}, up to 9 decimals`;
  return problems.add(node.place, describeFound(node), allowed);
}

/** `80%`, `12.5%` in basis points. */
export function parseShareBps(text: string): bigint | undefined {
  const match = SHARE.exec(text);
  if (match === null) return undefined;
  return BigInt(match[1] ?? "0") * 100n + BigInt((match[2] ?? "").padEnd(2, "0"));
}

/** `2s`, `5h`, `30d` in milliseconds. */
export function parseLengthMs(text: string): number | undefined {
  const match = LENGTH.exec(text);
  if (match === null) return undefined;
  const lengthMs = Number((match[1] ?? "").replaceAll("_", "")) * (UNIT_MS[match[2] ?? ""] ?? Number.NaN);
  return Number.isSafeInteger(lengthMs) ? lengthMs : undefined;
}

/** A time zone of the IANA list. */
export function readTimeZone(node: ConfigNode, problems: Problems): string | undefined {
  const text = node.kind === "text" ? node.text : undefined;
  if (text !== undefined && isTimeZone(text)) return text;
  const meant = text === undefined ? undefined : nearest(text, Intl.supportedValuesOf("timeZone"));
  const hint = meant === undefined ? "" : ` (did you mean ${quote(meant)}?)`;
  return problems.add(node.place, describeFound(node), `an IANA time zone like UTC or Europe/Berlin${hint}`);
}

function isTimeZone(text: string): boolean {
  // The platform takes bare offsets as well; a zone by its name also knows its clock changes, which is why the language asks for one.
  if (!/^[A-Za-z][\w/+-]*$/.test(text)) return false;
  try {
    return new Intl.DateTimeFormat("en", { timeZone: text }).resolvedOptions().timeZone !== "";
  } catch (error) {
    if (error instanceof RangeError) return false;
    throw error;
  }
}

/** Digits in groups of three, as the file may write them. */
export function group(value: bigint): string {
  return value.toString().replaceAll(/\B(?=(?:\d{3})+$)/g, "_");
}

/** Notes that a setting which must be there is not. */
export function addMissing(place: Place, name: string, allowed: string, problems: Problems): undefined {
  return problems.add({ ...place, path: place.path === "" ? name : `${place.path}.${name}` }, "nothing", allowed);
}
