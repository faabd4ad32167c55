/**
 * Owns making a checked `Config` out of a tree, or every mistake with its place. Does not own where the tree comes from (config.ts) or any
 * one setting (the readers beside this file).
 * Invariant: a pure function of its input. What it accepts is enforced.
 */
import { createHash } from "node:crypto";
import type { PriceBook } from "../core/pricing/price.ts";
import { readBudget } from "./budget-reader.ts";
import type { Config } from "./config.ts";
import type { Environment } from "./environment.ts";
import { placeOf, readLogLevel, readVariable } from "./environment.ts";
import { readChoice, readFields, readTimeZone } from "./fields.ts";
import type { Fields } from "./fields.ts";
import type { LedgerLocation } from "./ledger-location.ts";
import { LEDGER_DEFAULT, parseLedgerLocation } from "./ledger-location.ts";
import type { LimitDefaults, PlacedLimit } from "./limit-reader.ts";
import { checkNames, readLimits, readWeekStart } from "./limit-reader.ts";
import type { ConfigNode } from "./node.ts";
import { fromObject } from "./object-node.ts";
import { readPrices } from "./prices-reader.ts";
import type { Problems } from "./problems.ts";
import { checkNoLoop, readDowngrade, readKeepDays, readServer, readUpstreams } from "./settings-reader.ts";
import { DEFAULT_LIMITS } from "./template.ts";

export const CONFIG_KEYS = [
  "timezone",
  "weekStart",
  "limits",
  "budget",
  "models",
  "prices",
  "onLedgerUnavailable",
  "onUnpricedModel",
  "onClientAbort",
  "upstreams",
  "server",
  "ledger",
] as const;
export const ON_LEDGER_UNAVAILABLE = ["deny", "allow"] as const;
export const ON_UNPRICED_MODEL = ["deny", "dearest"] as const;
export const ON_CLIENT_ABORT = ["cancel", "drain"] as const;

type ConfigFields = Fields<(typeof CONFIG_KEYS)[number]>;

/** What a tree is read with. */
export interface ReadTreeInput {
  /** What problems call the file. */
  fileName: string;
  env: Environment;
  /** The built-in prices, if at hand: they make mistakes of unit in own prices plainer, and warn of models without a price. */
  knownPrices?: PriceBook | undefined;
}

/** What the warnings look at besides the configuration itself: where things stood. */
export interface ReadParts {
  limits: readonly PlacedLimit[];
  fields: ConfigFields;
  fileName: string;
  knownPrices: PriceBook | undefined;
}

/** Reads a tree; what is wrong with it is added to the problems. What is worth telling of it is its caller's to look for. */
export function readTree(
  tree: ConfigNode | undefined,
  input: ReadTreeInput,
  problems: Problems,
): { config: Config; parts: ReadParts } {
  return readSettings(readRoot(tree, problems), input, problems);
}

function readRoot(tree: ConfigNode | undefined, problems: Problems): ConfigFields {
  const none: ConfigFields = new Map();
  if (tree === undefined || tree.kind === "nothing") return none;
  return readFields(tree, CONFIG_KEYS, problems) ?? none;
}

function readSettings(
  fields: ConfigFields,
  { env, fileName, knownPrices }: ReadTreeInput,
  problems: Problems,
): { config: Config; parts: ReadParts } {
  const zone = fields.get("timezone")?.value;
  const timeZone = (zone === undefined ? undefined : readTimeZone(zone, problems)) ?? "UTC";
  const start = fields.get("weekStart")?.value;
  const weekStart = (start === undefined ? undefined : readWeekStart(start, problems)) ?? 1;
  const problemsBefore = problems.problems.length;
  const downgrade = readDowngrade(fields.get("models")?.value, problems);
  // A mistake in `models` is told there, not a second time at every limit that uses it.
  const hasDowngrade = downgrade.size > 0 || problems.problems.length > problemsBefore;
  const isDefaultLimit = !fields.has("limits") && !fields.has("budget");
  const limits = readAllLimits(fields, { timeZone, weekStart, hasDowngrade }, isDefaultLimit, problems);
  const prices = readPrices(fields.get("prices")?.value, knownPrices, problems);
  const settings: Omit<Config, "version"> = {
    timeZone,
    weekStart,
    limits: limits.map(({ limit }) => limit),
    isDefaultLimit,
    downgrade,
    prices: prices.map(({ row }) => row),
    onLedgerUnavailable: readSetting(fields, "onLedgerUnavailable", ON_LEDGER_UNAVAILABLE, "deny", problems),
    onUnpricedModel: readSetting(fields, "onUnpricedModel", ON_UNPRICED_MODEL, "deny", problems),
    onClientAbort: readSetting(fields, "onClientAbort", ON_CLIENT_ABORT, "cancel", problems),
    upstreams: readUpstreams(fields.get("upstreams")?.value, problems),
    server: readServer(fields.get("server")?.value, problems),
    ledger: { ...readLedger(env, problems), keepDays: readKeepDays(fields.get("ledger")?.value, problems) },
    logLevel: readLogLevel(env, problems),
  };
  checkNoLoop(settings.upstreams, settings.server, { upstreams: fields.get("upstreams")?.value }, problems);
  const config = { ...settings, version: versionOf(settings) };
  return { config, parts: { limits, fields, fileName, knownPrices } };
}

function readAllLimits(
  fields: ConfigFields,
  defaults: LimitDefaults,
  isDefaultLimit: boolean,
  problems: Problems,
): PlacedLimit[] {
  const builtIn = isDefaultLimit ? fromObject(DEFAULT_LIMITS, "(built in)", "limits", problems) : undefined;
  const written = fields.get("limits")?.value ?? builtIn;
  const budget = fields.get("budget")?.value;
  const limits = [
    ...(written === undefined ? [] : readLimits(written, defaults, problems)),
    ...(budget === undefined ? [] : readBudget(budget, defaults, problems)),
  ];
  checkNames(limits, problems);
  return limits;
}

function readSetting<Choice extends string>(
  fields: ConfigFields,
  name: (typeof CONFIG_KEYS)[number],
  choices: readonly Choice[],
  otherwise: Choice,
  problems: Problems,
): Choice {
  const node = fields.get(name)?.value;
  return (node === undefined ? undefined : readChoice(node, choices, problems)) ?? otherwise;
}

function readLedger(env: Environment, problems: Problems): LedgerLocation {
  const text = readVariable(env, "PURSER_LEDGER");
  if (text === undefined) return LEDGER_DEFAULT;
  const parsed = parseLedgerLocation(text);
  if (parsed.outcome === "read") return parsed.location;
  problems.add(placeOf("PURSER_LEDGER", ""), parsed.found, parsed.allowed);
  return LEDGER_DEFAULT;
}

function versionOf(settings: Omit<Config, "version">): string {
  const text = JSON.stringify(settings, (_key, value: unknown) => {
    if (typeof value === "bigint") return `${value}n`;
    return value instanceof Map ? [...(value as ReadonlyMap<string, string>)] : value;
  });
  return createHash("sha256").update(text).digest("hex").slice(0, 12);
}
