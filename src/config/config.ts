/**
 * Owns the configuration: text and environment become one checked `Config`, or every mistake with its place.
 * Does not own reading files (load-config.ts) or noticing that one changed (gateway/).
 * Invariant: a pure function of its input; any text at all ends in one of its two outcomes. What it accepts is enforced.
 */
import { createHash } from "node:crypto";
import type { Limit, WeekDay } from "../core/limits/limit.ts";
import type { PriceBook, PriceRow } from "../core/pricing/price.ts";
import { readBudget } from "./budget-reader.ts";
import type { ConfigNode } from "./document.ts";
import { readDocument } from "./document.ts";
import type { Environment, LogLevel } from "./environment.ts";
import { overlayEnvironment, placeOf, readLogLevel, readVariable } from "./environment.ts";
import { readChoice, readFields, readTimeZone } from "./fields.ts";
import type { Fields } from "./fields.ts";
import type { LedgerLocation } from "./ledger-location.ts";
import { LEDGER_DEFAULT, parseLedgerLocation } from "./ledger-location.ts";
import type { LimitDefaults, PlacedLimit } from "./limit-reader.ts";
import { checkNames, readLimits, readWeekStart } from "./limit-reader.ts";
import { readPrices } from "./prices-reader.ts";
import type { ConfigProblem, ConfigWarning } from "./problems.ts";
import { Problems } from "./problems.ts";
import type { ServerSettings, Upstreams } from "./settings-reader.ts";
import { checkNoLoop, readDowngrade, readKeepDays, readServer, readUpstreams } from "./settings-reader.ts";
import { DEFAULT_LIMITS } from "./template.ts";
import { addWarnings } from "./warnings.ts";

/** Everything a person can decide about Purser, read and checked. */
export interface Config {
  /** IANA zone of calendar windows that name none. */
  timeZone: string;
  weekStart: WeekDay;
  /** In the order of the file, those of `budget:` last. */
  limits: readonly Limit[];
  /** True if nobody wrote a limit, so that the built-in one holds. */
  isDefaultLimit: boolean;
  /** What a model is replaced by at `downgrade`; chains end. */
  downgrade: ReadonlyMap<string, string>;
  /** The person's own prices. */
  prices: readonly PriceRow[];
  onLedgerUnavailable: "deny" | "allow";
  onUnpricedModel: "deny" | "dearest";
  onClientAbort: "cancel" | "drain";
  upstreams: Upstreams;
  server: ServerSettings;
  ledger: LedgerLocation & {
    /** What is older goes to an archive; `undefined`: everything stays. */
    keepDays: number | undefined;
  };
  logLevel: LogLevel;
  /** Twelve characters that change with anything above: stored with every decision. */
  version: string;
}

/** What reading ends in. */
export type ReadConfigResult =
  | { outcome: "read"; config: Config; warnings: readonly ConfigWarning[] }
  | { outcome: "invalid"; problems: readonly ConfigProblem[] };

export interface ReadConfigInput {
  /** The file's text; absent: there is no file. */
  text: string | undefined;
  /** What problems call the file. */
  fileName: string;
  env: Environment;
  /** The built-in prices, if at hand: they make mistakes of unit in own prices plainer, and warn of models without a price. */
  knownPrices?: PriceBook | undefined;
}

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

/** What the warnings look at besides the configuration itself: where things stood. */
export interface ReadParts {
  limits: readonly PlacedLimit[];
  fields: ConfigFields;
  fileName: string;
  knownPrices: PriceBook | undefined;
}

/**
 * Reads a configuration.
 *
 * @returns `read` with the warnings `purser check` shows, or `invalid` with at least one problem; never throws for any text.
 */
export function readConfig(input: ReadConfigInput): ReadConfigResult {
  const problems = new Problems();
  const document = input.text === undefined ? undefined : readDocument(input.text, input.fileName, "", problems);
  const tree = overlayEnvironment(document, input.env, problems);
  const fields = readRoot(tree, problems);
  const config = readSettings(fields, input, problems);
  if (problems.problems.length > 0) return { outcome: "invalid", problems: problems.sorted() };
  return { outcome: "read", config, warnings: problems.warnings };
}

function readRoot(tree: ConfigNode | undefined, problems: Problems): ConfigFields {
  const none: ConfigFields = new Map();
  if (tree === undefined || tree.kind === "nothing") return none;
  return readFields(tree, CONFIG_KEYS, problems) ?? none;
}

function readSettings(fields: ConfigFields, { env, fileName, knownPrices }: ReadConfigInput, problems: Problems): Config {
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
  addWarnings(config, { limits, fields, fileName, knownPrices }, problems);
  return config;
}

function readAllLimits(
  fields: ConfigFields,
  defaults: LimitDefaults,
  isDefaultLimit: boolean,
  problems: Problems,
): PlacedLimit[] {
  const builtIn = isDefaultLimit ? readDocument(DEFAULT_LIMITS, "(built in)", "limits", problems) : undefined;
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
