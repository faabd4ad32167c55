/**
 * Owns the spelling of a limit: `limits[]` becomes `Limit`s. Does not own `at:` (threshold-reader.ts) or what a limit does (core/).
 * Invariant: whatever is accepted here is enforced. What the language names and nothing enforces yet is refused, and said so.
 */
import type { Limit, Measure, ScopeName, Threshold, WeekDay, WherePattern, Window } from "../core/limits/limit.ts";
import { ceilingOf } from "../core/limits/limit.ts";
import { ROLLING_LENGTH_MS_MAX, ROLLING_LENGTH_MS_MIN } from "../core/windows/rolling-length.ts";
import type { ConfigNode, MapEntry } from "./node.ts";
import {
  addMissing,
  COUNT_MAX,
  describeFound,
  parseLengthMs,
  readChoice,
  readEntries,
  readFields,
  readOneOrMore,
  readText,
  readTimeZone,
  readUsd,
  readWholeNumber,
  refuseNotYet,
} from "./fields.ts";
import type { Fields } from "./fields.ts";
import type { Place, Problems } from "./problems.ts";
import { oneOf, quote } from "./problems.ts";
import { defaultThresholds, formatAmount, readThresholds } from "./threshold-reader.ts";

/** What limits inherit from the settings around them. */
export interface LimitDefaults {
  timeZone: string;
  weekStart: WeekDay;
  hasDowngrade: boolean;
}

/** A limit with the place it was read at. */
export interface PlacedLimit {
  limit: Limit;
  place: Place;
}

export const MEASURES = ["usd", "tokens", "inputTokens", "outputTokens", "requests", "concurrency", "toolCalls"] as const;
export const MEASURES_NOT_YET = ["sessions"] as const;
export const SCOPES = ["all", "project", "agent", "session", "user", "key", "model", "task", "tool"] as const;
export const UNITS = ["hour", "day", "week", "month"] as const;
export const WEEK_DAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"] as const;
export const MONTH_DAY_MAX = 28n;
export const LIMIT_NAME = /^[a-z0-9][a-z0-9-]{0,62}$/;
export const TAG_NAME = /^[A-Za-z0-9][\w.-]{0,62}$/;
export const LIMIT_KEYS = [
  "name",
  "per",
  "where",
  ...MEASURES,
  ...MEASURES_NOT_YET,
  "tool",
  "every",
  "timezone",
  "weekStart",
  "monthDay",
  "cacheReads",
  "fit",
  "unbounded",
  "at",
] as const;

/** What a person is told: the keys that do something. */
const LIMIT_KEYS_SHOWN = LIMIT_KEYS.filter((key) => !MEASURES_NOT_YET.some((measure) => measure === key));

type LimitFields = Fields<(typeof LIMIT_KEYS)[number]>;

const SCOPES_ALLOWED = `${SCOPES.join(", ")} or tag:NAME, or a list of them`;
const EVERY_ALLOWED = "hour, day, week, month or a length like 5h (1s to 366d); leave it out for the scope's whole life";

/** Reads a list of limits; notes names that stand twice. */
export function readLimits(node: ConfigNode, defaults: LimitDefaults, problems: Problems): PlacedLimit[] {
  if (node.kind !== "list") {
    problems.add(node.place, describeFound(node), "a list of limits, each with name, per, a measure and what else it needs");
    return [];
  }
  return node.items.map((item) => readLimit(item, defaults, problems)).filter((limit) => limit !== undefined);
}

/** Notes every name that an earlier limit has: a name is how people and the ledger tell limits apart. */
export function checkNames(limits: readonly PlacedLimit[], problems: Problems): void {
  const first = new Map<string, Place>();
  for (const { limit, place } of limits) {
    const earlier = first.get(limit.name);
    if (earlier === undefined) first.set(limit.name, place);
    else
      problems.add(
        place,
        `the name ${quote(limit.name)} a second time`,
        `each name once; the first is ${earlier.line === undefined ? earlier.path : `on line ${earlier.line}`}`,
      );
  }
}

function readLimit(node: ConfigNode, defaults: LimitDefaults, problems: Problems): PlacedLimit | undefined {
  const fields = readFields(node, LIMIT_KEYS, problems, LIMIT_KEYS_SHOWN);
  if (fields === undefined) return undefined;
  const name = readName(fields, node.place, problems);
  const per = readPer(fields, node.place, problems);
  const where = readWhere(fields, problems);
  const measured = readMeasure(fields, node.place, problems);
  const window = readWindow(fields, measured?.measure, defaults, problems);
  const isOfOneKind = checkTool(fields, { per, where, measure: measured?.measure }, problems);
  const fit = readFit(fields, measured?.measure, problems);
  if (measured === undefined || window === undefined) return undefined;
  const thresholds = readAt(fields, measured, window, defaults, problems);
  const cacheReads = readCacheReads(fields, measured.measure, problems);
  if (!name || !per || !where || !thresholds || !cacheReads || !isOfOneKind || !fit) return undefined;
  const plain: Limit = { name, per, where, ...measured, window, cacheReads, unboundedReserveNanoUsd: undefined, thresholds };
  const limit: Limit = fit === "off" ? { ...plain, fit } : plain;
  const unbounded = fields.get("unbounded");
  const reserve = unbounded === undefined ? undefined : readUnbounded(unbounded, limit, problems);
  return { limit: { ...limit, unboundedReserveNanoUsd: reserve }, place: fields.get("name")?.value.place ?? node.place };
}

function readName(fields: LimitFields, place: Place, problems: Problems): string | undefined {
  const allowed = "a name of a–z, 0–9 and -, at most 63 long";
  const node = fields.get("name")?.value;
  if (node === undefined) return addMissing(place, "name", allowed, problems);
  if (node.kind === "text" && LIMIT_NAME.test(node.text)) return node.text;
  return problems.add(node.place, describeFound(node), allowed);
}

function readPer(fields: LimitFields, place: Place, problems: Problems): ScopeName[] | undefined {
  const node = fields.get("per")?.value;
  if (node === undefined) return addMissing(place, "per", SCOPES_ALLOWED, problems);
  const items = readOneOrMore(node, SCOPES_ALLOWED, problems);
  if (items === undefined) return undefined;
  const scopes = new Set<ScopeName>();
  for (const item of items) {
    const scope = readScope(item, problems);
    if (scope === undefined) return undefined;
    if (scopes.has(scope)) return problems.add(item.place, quote(scope), "each scope once");
    scopes.add(scope);
  }
  if (scopes.size > 1 && scopes.has("all"))
    return problems.add(node.place, "all beside others", "all alone: it is every call together");
  return [...scopes].sort((a, b) => scopeOrder(a) - scopeOrder(b) || (a < b ? -1 : 1));
}

function scopeOrder(scope: ScopeName): number {
  const index = SCOPES.findIndex((known) => known === scope);
  return index === -1 ? SCOPES.length : index;
}

function readScope(node: ConfigNode, problems: Problems): ScopeName | undefined {
  return parseScope(node, describeFound(node), node.kind === "text" ? node.text : undefined, problems);
}

function parseScope(at: { place: Place }, found: string, text: string | undefined, problems: Problems): ScopeName | undefined {
  const scope = SCOPES.find((known) => known === text);
  if (scope !== undefined) return scope;
  if (text?.startsWith("tag:") === true) {
    const tag = text.slice("tag:".length);
    if (TAG_NAME.test(tag)) return `tag:${tag}`;
    return problems.add(at.place, found, "tag:NAME with a name of letters, digits, _, . and -, at most 63 long");
  }
  return problems.add(at.place, found, `${oneOf(SCOPES, text)} or tag:NAME`);
}

/** `tool: NAME` is one more condition. */
function readWhere(fields: LimitFields, problems: Problems): WherePattern[] | undefined {
  const where = fields.get("where");
  const allowed = "scopes and their values, like { model: claude-opus-* }";
  const written = where === undefined ? [] : readEntries(where.value, allowed, problems);
  if (written === undefined) return undefined;
  const tool = fields.get("tool");
  const twice = tool && written.find(({ key }) => key === "tool");
  if (twice !== undefined) return problems.add(twice.keyPlace, quote("tool"), "tool once: beside where, or in it");
  const entries = tool === undefined ? written : [...written, tool];
  const patterns = entries.map((pattern) => readWherePattern(pattern, problems)).filter((pattern) => pattern !== undefined);
  return patterns.length === entries.length ? patterns : undefined;
}

function readWherePattern({ key, keyPlace, value }: MapEntry, problems: Problems): WherePattern | undefined {
  const scope = parseScope({ place: keyPlace }, quote(key), key, problems);
  if (scope === "all") return problems.add(keyPlace, quote(key), "a scope that has values: all has none");
  const allowed = "a value, or a list of values; `*` only at the end";
  const items = readOneOrMore(value, allowed, problems);
  if (scope === undefined || items === undefined) return undefined;
  const anyOf: { text: string; isPrefix: boolean }[] = [];
  for (const item of items) {
    const text = readText(item, allowed, problems);
    if (text === undefined) return undefined;
    const isPrefix = text.endsWith("*");
    const literal = isPrefix ? text.slice(0, -1) : text;
    if (literal.includes("*")) return problems.add(item.place, quote(text), allowed);
    anyOf.push({ text: literal, isPrefix });
  }
  return { scope, anyOf };
}

function readMeasure(fields: LimitFields, place: Place, problems: Problems): { measure: Measure; amount: bigint } | undefined {
  const notYet = MEASURES_NOT_YET.map((name) => fields.get(name)).find((entry) => entry !== undefined);
  if (notYet !== undefined) return problems.add(notYet.keyPlace, quote(notYet.key), refuseNotYet(MEASURES, notYet.key));
  const [measure, second] = MEASURES.filter((name) => fields.has(name));
  const entry = measure === undefined ? undefined : fields.get(measure);
  if (measure === undefined || entry === undefined) {
    return problems.add(place, "no measure", `exactly one of ${MEASURES.join(", ")}`);
  }
  const secondEntry = second === undefined ? undefined : fields.get(second);
  if (secondEntry !== undefined) {
    const allowed = `one measure per limit; ${quote(measure)} is on line ${entry.keyPlace.line ?? 1}`;
    return problems.add(secondEntry.keyPlace, `a second measure ${quote(secondEntry.key)}`, allowed);
  }
  const amount =
    measure === "usd" ? readUsd(entry.value, problems) : readWholeNumber(entry.value, { min: 0n, max: COUNT_MAX }, problems);
  return amount === undefined ? undefined : { measure, amount };
}

function readWindow(
  fields: LimitFields,
  measure: Measure | undefined,
  defaults: LimitDefaults,
  problems: Problems,
): Window | undefined {
  const entry = fields.get("every");
  if (entry !== undefined && measure === "concurrency") {
    return problems.add(entry.keyPlace, quote("every"), "concurrency without `every`: it counts the calls in flight now");
  }
  const text = entry?.value.kind === "text" ? entry.value.text : undefined;
  const unit = UNITS.find((known) => known === text);
  if (!checkWindowSettings(fields, unit, problems)) return undefined;
  if (entry === undefined) return { kind: "lifetime" };
  if (unit !== undefined) return readCalendar(fields, unit, defaults, problems);
  const lengthMs = text === undefined ? undefined : parseLengthMs(text);
  if (lengthMs !== undefined && lengthMs >= ROLLING_LENGTH_MS_MIN && lengthMs <= ROLLING_LENGTH_MS_MAX) {
    return { kind: "rolling", lengthMs };
  }
  return problems.add(entry.value.place, describeFound(entry.value), EVERY_ALLOWED);
}

/** A setting that could have no effect is a misunderstanding, so it is refused instead of ignored. */
function checkWindowSettings(fields: LimitFields, unit: (typeof UNITS)[number] | undefined, problems: Problems): boolean {
  const rules = [
    { name: "timezone", isAllowed: unit !== undefined, allowed: "timezone with every: hour, day, week or month" },
    { name: "weekStart", isAllowed: unit === "week", allowed: "weekStart with every: week" },
    { name: "monthDay", isAllowed: unit === "month", allowed: "monthDay with every: month" },
  ] as const;
  const noted = problems.problems.length;
  for (const { name, isAllowed, allowed } of rules) {
    const entry = fields.get(name);
    if (entry !== undefined && !isAllowed) problems.add(entry.keyPlace, quote(name), allowed);
  }
  return problems.problems.length === noted;
}

function readCalendar(
  fields: LimitFields,
  unit: (typeof UNITS)[number],
  defaults: LimitDefaults,
  problems: Problems,
): Window | undefined {
  const zone = fields.get("timezone")?.value;
  const timeZone = zone === undefined ? defaults.timeZone : readTimeZone(zone, problems);
  const start = fields.get("weekStart")?.value;
  const weekStart = start === undefined ? defaults.weekStart : readWeekStart(start, problems);
  const day = fields.get("monthDay")?.value;
  const monthDay = day === undefined ? 1n : readWholeNumber(day, { min: 1n, max: MONTH_DAY_MAX }, problems);
  if (timeZone === undefined || weekStart === undefined || monthDay === undefined) return undefined;
  return { kind: "calendar", unit, timeZone, weekStart: unit === "week" ? weekStart : 1, monthDay: Number(monthDay) };
}

/** The name of a day, in English, lower case. */
export function readWeekStart(node: ConfigNode, problems: Problems): WeekDay | undefined {
  const name = readChoice(node, WEEK_DAYS, problems);
  return name === undefined ? undefined : ((WEEK_DAYS.indexOf(name) + 1) as WeekDay);
}

function readAt(
  fields: LimitFields,
  { measure, amount }: { measure: Measure; amount: bigint },
  window: Window,
  defaults: LimitDefaults,
  problems: Problems,
): Threshold[] | undefined {
  const at = fields.get("at")?.value;
  if (at === undefined) return defaultThresholds(amount);
  const isLifetime = window.kind === "lifetime";
  return readThresholds(at, { measure, amount, isLifetime, hasDowngrade: defaults.hasDowngrade }, problems);
}

function readCacheReads(fields: LimitFields, measure: Measure, problems: Problems): Limit["cacheReads"] | undefined {
  const entry = fields.get("cacheReads");
  if (entry === undefined) return "count";
  if (measure === "tokens" || measure === "inputTokens") return readChoice(entry.value, ["count", "ignore"], problems);
  return problems.add(entry.keyPlace, quote("cacheReads"), "cacheReads on a limit of tokens or inputTokens");
}

function readFit(fields: LimitFields, measure: Measure | undefined, problems: Problems): "on" | "off" | undefined {
  const entry = fields.get("fit");
  if (entry === undefined) return "on";
  if (measure === undefined || measure === "usd" || measure === "tokens" || measure === "outputTokens") {
    return readChoice(entry.value, ["on", "off"], problems);
  }
  return problems.add(entry.keyPlace, quote("fit"), "fit on a limit of usd, tokens or outputTokens: it lowers max_tokens");
}

/** A tool runs on no model, and nothing else has a tool: a limit that looked at both would look at nothing. */
function checkTool(
  fields: LimitFields,
  {
    per = [],
    where = [],
    measure,
  }: { per: ScopeName[] | undefined; where: WherePattern[] | undefined; measure: Measure | undefined },
  problems: Problems,
): boolean {
  const foreign = measure === "toolCalls" ? "model" : "tool";
  const scopes = [...per, ...where.map(({ scope }) => scope)];
  if (measure === undefined || !scopes.includes(foreign)) return true;
  const entry = [fields.get("tool"), fields.get("where"), fields.get("per")].find(
    (each) => each !== undefined && mentions(each, foreign),
  );
  const allowed = foreign === "tool" ? "tool on a limit of toolCalls" : "toolCalls without model: a tool runs on none";
  if (entry !== undefined) problems.add(entry.keyPlace, quote(foreign), allowed);
  return false;
}

function mentions({ key, value }: MapEntry, scope: ScopeName): boolean {
  if (key === scope) return true;
  if (value.kind === "map") return value.entries.some((entry) => entry.key === scope);
  const items = value.kind === "list" ? value.items : [value];
  return key === "per" && items.some((item) => item.kind === "text" && item.text === scope);
}

function readUnbounded(entry: MapEntry, limit: Limit, problems: Problems): bigint | undefined {
  const ceiling = ceilingOf(limit);
  if (limit.measure !== "usd" || ceiling === undefined) {
    return problems.add(entry.keyPlace, quote("unbounded"), "unbounded on a usd limit that stops: it says what to reserve");
  }
  const fields = readFields(entry.value, ["reserve"], problems);
  if (fields === undefined) return undefined;
  const node = fields.get("reserve")?.value;
  if (node === undefined) return addMissing(entry.value.place, "reserve", "an amount in US dollars like 2.00", problems);
  const reserve = readUsd(node, problems);
  if (reserve === undefined || (reserve > 0n && reserve <= ceiling)) return reserve;
  const most = formatAmount("usd", ceiling);
  return problems.add(node.place, describeFound(node), `more than 0, and at most what the limit stops at (${most})`);
}
