/**
 * Owns what is allowed and yet worth telling: limits that do not do what their writer probably meant.
 * Does not own mistakes (the readers). Invariant: a warning never changes what the configuration does.
 */
import type { Limit, ScopeName } from "../core/limits/limit.ts";
import { ceilingOf, isRefusing } from "../core/limits/limit.ts";
import { buildPriceBook } from "../core/pricing/price-book.ts";
import type { Config } from "./config.ts";
import type { ReadParts } from "./read-tree.ts";
import { placeOf } from "./environment.ts";
import type { PlacedLimit } from "./limit-reader.ts";
import { PROVIDERS } from "./prices-reader.ts";
import type { Place, Problems } from "./problems.ts";
import { LOOPBACK } from "./settings-reader.ts";
import { formatAmount } from "./threshold-reader.ts";

/** Scopes that a virtual key binds: nothing the caller sends gets around them. */
const BOUND_SCOPES = new Set<ScopeName>(["all", "project", "agent", "key"]);
/** LangChain takes an answer with these words for a final one, whatever its status. */
const FINAL_WORDS = /billing|quota|credit/;

/** Notes everything worth telling about a configuration. */
export function addWarnings(config: Config, parts: ReadParts, problems: Problems): void {
  warnAboutNoLimits(config, parts, problems);
  for (const placed of parts.limits) warnAboutLimit(placed, config, problems);
  warnAboutDowngrade(config, parts, problems);
  warnAboutNetwork(config, parts, problems);
  if (config.onLedgerUnavailable === "allow") {
    problems.warn(placeOfField(parts, "onLedgerUnavailable"), "while the ledger cannot be written, calls pass without any limit");
  }
}

function warnAboutNoLimits(config: Config, parts: ReadParts, problems: Problems): void {
  const place: Place = { file: parts.fileName, line: 1, column: 1, path: "" };
  if (config.isDefaultLimit && parts.fields.size > 0) {
    problems.warn(place, "no limits and no budget are written, so the built-in limit holds: $50 a day for all calls together");
  }
  if (!config.limits.some(isRefusing)) problems.warn(placeOfField(parts, "limits"), "no limit stops anything");
}

function warnAboutLimit({ limit, place }: PlacedLimit, config: Config, problems: Problems): void {
  const ceiling = ceilingOf(limit);
  if (ceiling === undefined) {
    problems.warn(place, `${limit.name} tells or changes calls and never stops one`);
    return;
  }
  if (limit.measure === "toolCalls") {
    problems.warn(
      place,
      `${limit.name} counts the tools that purser.tool runs, in the agent's own process; a gateway sees none of them`,
    );
  }
  if (ceiling === 0n) problems.warn(place, `${limit.name} stops at 0: it admits no call at all`);
  if (ceiling > limit.amount) {
    const [stops, amount] = [ceiling, limit.amount].map((value) => formatAmount(limit.measure, value));
    problems.warn(place, `${limit.name} stops at ${stops}, above its amount of ${amount}`);
  }
  if (FINAL_WORDS.test(limit.name)) {
    problems.warn(
      place,
      `the name ${limit.name} holds billing, quota or credit: some clients then give up where they should wait`,
    );
  }
  const loose = limit.per.find((scope) => !BOUND_SCOPES.has(scope) && scope !== "model");
  if (loose !== undefined && !config.limits.some((other) => isBound(other))) {
    const text = `callers name their ${loose} themselves, so a new name starts at zero: add a limit per all, project, agent or key above it`;
    problems.warn(place, `${limit.name} counts per ${loose}; ${text}`);
  }
}

/** A limit that holds whatever labels a caller sends. */
function isBound(limit: Limit): boolean {
  const scopes = [...limit.per, ...limit.where.map(({ scope }) => scope)];
  return (
    isRefusing(limit) &&
    limit.measure !== "concurrency" &&
    limit.measure !== "toolCalls" &&
    scopes.every((scope) => BOUND_SCOPES.has(scope))
  );
}

function warnAboutDowngrade(config: Config, parts: ReadParts, problems: Problems): void {
  const isUsed = config.limits.some(({ thresholds }) =>
    thresholds.some(({ actions }) => actions.some(({ kind }) => kind === "downgrade")),
  );
  if (config.downgrade.size > 0 && !isUsed) {
    problems.warn(placeOfField(parts, "models"), "no limit has the action downgrade, so these models are never replaced");
  }
  if (parts.knownPrices === undefined) return;
  const book = buildPriceBook([...parts.knownPrices.rows, ...config.prices]);
  for (const model of new Set(config.downgrade.values())) {
    if (PROVIDERS.some((provider) => book.find(provider, model, Infinity) !== undefined)) continue;
    const text = `no price is known for ${model}: a limit in usd refuses its calls (onUnpricedModel), so nothing is downgraded to it`;
    problems.warn(placeOfField(parts, "models"), text);
  }
}

function warnAboutNetwork(config: Config, parts: ReadParts, problems: Problems): void {
  const { server } = config;
  if (!LOOPBACK.test(server.adminHost)) {
    problems.warn(placeOfField(parts, "server"), `the admin listener is open to the network on ${server.adminHost}`);
  }
  if (!LOOPBACK.test(server.host) && server.passthroughKeys === "allow") {
    problems.warn(placeOfField(parts, "server"), `anybody who reaches ${server.host} can send calls with keys of their own`);
  }
  for (const address of Object.values(config.upstreams) as string[]) {
    const { protocol, hostname } = new URL(address);
    if (protocol === "http:" && !LOOPBACK.test(hostname)) {
      problems.warn(placeOfField(parts, "upstreams"), `${address} is not https: provider keys travel in the clear`);
    }
  }
}

function placeOfField({ fields }: ReadParts, name: "limits" | "models" | "server" | "upstreams" | "onLedgerUnavailable"): Place {
  return fields.get(name)?.value.place ?? placeOf("configuration", name);
}
