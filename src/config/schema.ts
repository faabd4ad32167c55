/**
 * Owns the JSON Schema that editors read (`purser.schema.json`, written by `scripts/build-schema.ts`). Does not own the rules: names,
 * choices and bounds are the readers' own constants, and a test holds both to the same examples.
 * Invariant: whatever the reader accepts the schema accepts. The schema refuses less: it knows no contradictions between settings.
 */
import { PRICE_FIELDS } from "../core/pricing/rows.ts";
import { BUDGET_KEYS } from "./budget-reader.ts";
import { CONFIG_KEYS, ON_CLIENT_ABORT, ON_LEDGER_UNAVAILABLE, ON_UNPRICED_MODEL } from "./read-tree.ts";
import { FROM_DATE, FROM_INSTANT, PRICE_KEYS, PRICE_METERS, PROVIDERS, UNIT_KEY } from "./prices-reader.ts";
import { LIMIT_KEYS, LIMIT_NAME, MEASURES, MONTH_DAY_MAX, SCOPES, UNITS, WEEK_DAYS } from "./limit-reader.ts";
import { BODY_BYTES, KEEP_DAYS, LEDGER_KEYS, PASSTHROUGH_CHOICES, PORT, SERVER_KEYS, UPSTREAM_KEYS } from "./settings-reader.ts";

/** A JSON Schema, as plain data. */
export type JsonSchema = { readonly [key: string]: unknown };

/** YAML reads `5` as a number and `100_000` as text: both are whole numbers here. */
const WHOLE: JsonSchema = {
  anyOf: [
    { type: "integer", minimum: 0 },
    { type: "string", pattern: "^\\d+(_\\d+)*$" },
  ],
};
const USD: JsonSchema = {
  anyOf: [
    { type: "number", minimum: 0 },
    { type: "string", pattern: "^\\d+(_\\d+)*(\\.\\d+(_\\d+)*)?$" },
  ],
};
const SHARE_PATTERN = "^\\d+(\\.\\d{1,2})?%$";
const LENGTH_PATTERN = "^\\d+(_\\d+)*(ms|s|m|h|d|w)$";
const TIME_ZONE: JsonSchema = { type: "string", description: "A name of the IANA time zone list, like Europe/Berlin." };

/** The schema of `purser.yaml`. */
export function buildSchema(): JsonSchema {
  return {
    $schema: "http://json-schema.org/draft-07/schema#",
    title: "purser.yaml",
    description: "What AI agents may spend.",
    ...object(ROOT, CONFIG_KEYS),
    definitions: { limit: limitSchema(), thresholds: THRESHOLDS, action: ACTION, actions: oneOrMore(ref("action")) },
  };
}

function object(properties: JsonSchema, names: readonly string[]): JsonSchema {
  // A key that a reader knows and the schema does not would be a red line under something right.
  const missing = names.filter((name) => !(name in properties));
  if (missing.length > 0) throw new Error(`the schema lacks ${missing.join(", ")}`);
  return { type: "object", properties, additionalProperties: false };
}

function ref(name: string): JsonSchema {
  return { $ref: `#/definitions/${name}` };
}

function oneOrMore(item: JsonSchema): JsonSchema {
  return { anyOf: [item, { type: "array", items: item, minItems: 1 }] };
}

function text(description: string, pattern?: string): JsonSchema {
  return { type: "string", description, ...(pattern === undefined ? {} : { pattern }) };
}

function wholeBetween({ min, max }: { min: bigint; max: bigint }, description: string): JsonSchema {
  const number = { type: "integer", minimum: Number(min), maximum: Number(max) };
  return { anyOf: [number, { type: "string", pattern: "^\\d+(_\\d+)*$" }], description };
}

const ACTION: JsonSchema = {
  anyOf: [
    { enum: ["alert", "downgrade", "grace", "stop"] },
    {
      type: "object",
      properties: { throttle: text("How far apart calls start, like 2s.", LENGTH_PATTERN) },
      required: ["throttle"],
      additionalProperties: false,
    },
    {
      type: "object",
      properties: {
        grace: {
          type: "object",
          properties: {
            overdraft: text("How far running work may go above the limit; 5% if not said.", SHARE_PATTERN),
            calls: wholeBetween({ min: 1n, max: 1_000n }, "How many calls a running session may still make; 20 if not said."),
          },
          additionalProperties: false,
        },
      },
      required: ["grace"],
      additionalProperties: false,
    },
    {
      type: "object",
      properties: {
        pause: {
          type: "object",
          properties: { upTo: text("How long a call may wait for the window's end, like 15m.", LENGTH_PATTERN) },
          required: ["upTo"],
          additionalProperties: false,
        },
      },
      required: ["pause"],
      additionalProperties: false,
    },
  ],
};

const THRESHOLDS: JsonSchema = {
  type: "object",
  description: "What happens from which share or amount on: { 80%: alert, $8: { throttle: 2s }, 100%: stop }.",
  patternProperties: {
    [SHARE_PATTERN]: ref("actions"),
    "^\\$\\d+(_\\d+)*(\\.\\d+(_\\d+)*)?$": ref("actions"),
    "^\\d+(_\\d+)*$": ref("actions"),
  },
  additionalProperties: false,
  minProperties: 1,
};

const SCOPE: JsonSchema = { anyOf: [{ enum: [...SCOPES] }, text("The values of one tag.", "^tag:[A-Za-z0-9][A-Za-z0-9_.-]*$")] };
const VALUES = oneOrMore({ type: ["string", "number", "boolean"] });

function limitSchema(): JsonSchema {
  const amounts = Object.fromEntries(MEASURES.map((name) => [name, name === "usd" ? USD : WHOLE]));
  const properties = {
    name: text("How people and the ledger call this limit.", LIMIT_NAME.source),
    per: { ...oneOrMore(SCOPE), description: "What it counts over: each value of this scope has its own count." },
    where: {
      type: "object",
      description: "Only calls with these values; `*` at the end of a value stands for anything.",
      propertyNames: SCOPE,
      additionalProperties: VALUES,
      minProperties: 1,
    },
    ...amounts,
    tool: {
      ...oneOrMore({ type: "string" }),
      description: "With toolCalls: only these tools; `*` at the end stands for anything.",
    },
    every: {
      anyOf: [{ enum: [...UNITS] }, text("A rolling length, like 5h.", LENGTH_PATTERN)],
      description: "hour, day, week, month, or a rolling length like 5h. Left out: for good.",
    },
    timezone: TIME_ZONE,
    weekStart: { enum: [...WEEK_DAYS] },
    monthDay: wholeBetween({ min: 1n, max: MONTH_DAY_MAX }, "The day on which a month begins."),
    cacheReads: { enum: ["count", "ignore"] },
    fit: { enum: ["on", "off"] },
    unbounded: { type: "object", properties: { reserve: USD }, required: ["reserve"], additionalProperties: false },
    at: ref("thresholds"),
  };
  const known = LIMIT_KEYS.filter((key) => key !== "sessions");
  return {
    ...object(properties, known),
    required: ["name", "per"],
    oneOf: MEASURES.map((name) => ({ required: [name] })),
  };
}

function budgetPart(amount: JsonSchema): JsonSchema {
  const long = {
    type: "object",
    properties: { amount, at: ref("thresholds") },
    required: ["amount"],
    additionalProperties: false,
  };
  return { anyOf: [amount, long] };
}

const BUDGET: JsonSchema = {
  ...object(
    {
      per_session_tokens: budgetPart(WHOLE),
      daily_tokens: budgetPart(WHOLE),
      monthly_usd: budgetPart(USD),
      alert_thresholds: oneOrMore({ type: "string", pattern: SHARE_PATTERN }),
    },
    BUDGET_KEYS,
  ),
  description: "The short form: per session it stops, per agent and day running work may finish, per project and month it tells.",
};

const PRICE: JsonSchema = object(
  {
    provider: { enum: [...PROVIDERS] },
    ...Object.fromEntries(PRICE_METERS.map((meter) => [PRICE_FIELDS[meter], USD])),
    [UNIT_KEY]: { ...USD, description: "For purser.meter: US dollars per unit of an API that is paid per call." },
    from: text("From when it holds: 2026-11-01, or 2026-11-01T12:00Z.", `${FROM_DATE.source}|${FROM_INSTANT.source}`),
    source: { type: "string" },
    free: { type: "boolean" },
  },
  PRICE_KEYS,
);

const SERVER: JsonSchema = object(
  {
    host: { type: "string" },
    port: wholeBetween(PORT, "4141 if not said; 0 for any free one."),
    adminHost: { type: "string" },
    adminPort: wholeBetween(PORT, "4142 if not said."),
    bodyBytesMax: wholeBetween(BODY_BYTES, "Largest request, in bytes; 32 MiB if not said."),
    passthroughKeys: { enum: [...PASSTHROUGH_CHOICES] },
  },
  SERVER_KEYS,
);

const ADDRESS = text("Without user, query or fragment.", "^[Hh][Tt][Tt][Pp][Ss]?://");

const ROOT: JsonSchema = {
  timezone: TIME_ZONE,
  weekStart: { enum: [...WEEK_DAYS] },
  limits: { type: "array", items: ref("limit") },
  budget: BUDGET,
  models: object({ downgrade: { type: "object", additionalProperties: { type: "string" }, minProperties: 1 } }, ["downgrade"]),
  prices: { type: "object", additionalProperties: PRICE, minProperties: 1 },
  onLedgerUnavailable: { enum: [...ON_LEDGER_UNAVAILABLE] },
  onUnpricedModel: { enum: [...ON_UNPRICED_MODEL] },
  onClientAbort: { enum: [...ON_CLIENT_ABORT] },
  upstreams: object(Object.fromEntries(UPSTREAM_KEYS.map((name) => [name, ADDRESS])), UPSTREAM_KEYS),
  server: SERVER,
  ledger: object({ keepDays: wholeBetween(KEEP_DAYS, "What is older is archived; nothing is if not said.") }, LEDGER_KEYS),
};
