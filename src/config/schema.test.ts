import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { readConfig } from "./config.ts";
import { buildSchema } from "./schema.ts";
import { initTemplate } from "./template.ts";

/**
 * Goal: the schema that editors read never draws a red line under what the reader accepts, and refuses what any editor can see is
 * wrong. Method: both judge the same texts; the schema through a validator that knows nothing of ours and throws on a keyword it does
 * not know. (zod's `fromJSONSchema` was tried: beside `oneOf` it forgets `additionalProperties: false`.)
 */
const SCHEMA = JSON.parse(JSON.stringify(buildSchema())) as Schema;

type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };
type Schema = { readonly [key: string]: Json };

const TYPES: Readonly<Record<string, (value: Json) => boolean>> = {
  object: isObject,
  array: (value) => Array.isArray(value),
  string: (value) => typeof value === "string",
  number: (value) => typeof value === "number",
  integer: (value) => Number.isInteger(value),
  boolean: (value) => typeof value === "boolean",
};

const KEYWORDS: Readonly<Record<string, (argument: Json, value: Json, schema: Schema) => boolean>> = {
  type: (types, value) => [types].flat().some((type) => TYPES[type as string]?.(value) ?? false),
  enum: (choices, value) => Array.isArray(choices) && choices.includes(value),
  anyOf: (schemas, value) => (schemas as Schema[]).some((schema) => isValid(schema, value)),
  oneOf: (schemas, value) => (schemas as Schema[]).filter((schema) => isValid(schema, value)).length === 1,
  $ref: (path, value) => {
    const definitions = SCHEMA["definitions"] as Readonly<Record<string, Schema>>;
    return isValid(definitions[(path as string).replace("#/definitions/", "")] ?? {}, value);
  },
  pattern: (pattern, value) => typeof value !== "string" || new RegExp(pattern as string, "u").test(value),
  minimum: (least, value) => typeof value !== "number" || value >= Number(least),
  maximum: (most, value) => typeof value !== "number" || value <= Number(most),
  items: (schema, value) => !Array.isArray(value) || value.every((item: Json) => isValid(schema as Schema, item)),
  minItems: (least, value) => !Array.isArray(value) || value.length >= Number(least),
  minProperties: (least, value) => !isObject(value) || Object.keys(value).length >= Number(least),
  required: (names, value) => !isObject(value) || (names as string[]).every((name) => name in value),
  propertyNames: (schema, value) => !isObject(value) || Object.keys(value).every((name) => isValid(schema as Schema, name)),
  properties: () => true,
  patternProperties: () => true,
  additionalProperties: () => true,
};
const NOTES = new Set(["$schema", "title", "description", "definitions"]);

function isObject(value: Json): value is { readonly [key: string]: Json } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isValid(schema: Schema, value: Json): boolean {
  for (const [keyword, argument] of Object.entries(schema)) {
    if (NOTES.has(keyword)) continue;
    const check = KEYWORDS[keyword];
    if (check === undefined) throw new Error(`the validator does not know ${keyword}`);
    if (!check(argument, value, schema)) return false;
  }
  return !isObject(value) || Object.entries(value).every(([name, member]) => isMemberValid(schema, name, member));
}

function isMemberValid(schema: Schema, name: string, value: Json): boolean {
  const named = (schema["properties"] as Readonly<Record<string, Schema>> | undefined)?.[name];
  const patterns = Object.entries((schema["patternProperties"] ?? {}) as Readonly<Record<string, Schema>>);
  const matching = patterns.filter(([pattern]) => new RegExp(pattern, "u").test(name)).map(([, each]) => each);
  const all = named === undefined ? matching : [named, ...matching];
  const additional = schema["additionalProperties"];
  if (all.length > 0) return all.every((each) => isValid(each, value));
  return additional === undefined || (additional !== false && isValid(additional as Schema, value));
}

function judge(text: string): { reader: boolean; schema: boolean } {
  const reader = readConfig({ text, fileName: "purser.yaml", env: {} }).outcome === "read";
  return { reader, schema: isValid(SCHEMA, parse(text) as Json) };
}

const limit = (rest: string): string => `limits: [{ name: a, per: all, ${rest} }]\n`;

test.each([
  initTemplate(),
  limit("usd: 5"),
  limit("usd: 2.50, every: month, monthDay: 28, timezone: Europe/Berlin"),
  limit("usd: 1_000.5"),
  limit("tokens: 100_000, cacheReads: ignore, fit: off"),
  limit("tokens: 100000, every: 90m"),
  limit("requests: 5, every: week, weekStart: sunday"),
  limit("concurrency: 5"),
  limit("toolCalls: 5, tool: [web_search, mcp_*], every: day"),
  "limits: [{ name: a, per: [agent, tool], toolCalls: 5, where: { tool: x } }]\n",
  limit("usd: 5, where: { model: claude-*, user: [1, b], tag:team: x }"),
  limit("usd: 5, unbounded: { reserve: 2.00 }"),
  limit("usd: 5, every: day, at: { 12.5%: alert, $4: [alert, { throttle: 500ms }], 100%: grace }"),
  limit("usd: 5, every: day, at: { 80%: alert, 100%: [alert, { pause: { upTo: 15m } }] }"),
  limit("tokens: 5, every: day, at: { 4: alert, 100%: { grace: { overdraft: 5%, calls: 20 } } }"),
  limit("tokens: 500_000, at: { 400_000: alert, 450000: { throttle: 2s }, 100%: stop }"),
  "models: { downgrade: { a: b } }\nlimits: [{ name: a, per: [agent, tag:x], usd: 5, at: { $1: downgrade } }]\n",
  "budget: { per_session_tokens: 100_000, daily_tokens: { amount: 5, at: { 50%: stop } }, monthly_usd: 20.5, alert_thresholds: [50%, 80%] }\n",
  "prices: { m: { inputUsdPerMTok: 3, outputUsdPerMTok: 15.5, from: 2026-11-01, source: x }, n: { free: true, provider: openai } }\n",
  "prices: { search: { usdPerUnit: 0.005, from: 2026-11-01, source: x }, gift: { usdPerUnit: 0 } }\n",
  "ledger: { keepDays: 400 }\n",
  "server: { host: 0.0.0.0, port: 0, adminPort: 5_000, bodyBytesMax: 1_000_000, passthroughKeys: allow }\n",
  "upstreams: { anthropic: http://localhost:9000, openai: HTTPS://x }\ntimezone: UTC\nweekStart: sunday\n",
  "onLedgerUnavailable: allow\nonUnpricedModel: dearest\nonClientAbort: drain\nlimits: []\n",
])("both accept %j", (text) => {
  expect(judge(text)).toEqual({ reader: true, schema: true });
});

test.each([
  "limit: []\n",
  "limits: {}\n",
  "limits: [a]\n",
  "limits: [{ name: a, usd: 5 }]\n",
  "limits: [{ per: all, usd: 5 }]\n",
  "limits: [{ name: A, per: all, usd: 5 }]\n",
  "limits: [{ name: a, per: tools, usd: 5 }]\n",
  "limits: [{ name: a, per: [], usd: 5 }]\n",
  "limits: [{ name: a, per: all }]\n",
  limit("usd: 5, tokens: 5"),
  limit("usd: -5"),
  limit("usd: five"),
  limit("tokens: 1.5"),
  limit("sessions: 5"),
  limit("usd: 5, every: fortnight"),
  limit("usd: 5, every: 60"),
  limit("usd: 5, every: month, monthDay: 29"),
  limit("usd: 5, every: week, weekStart: mon"),
  limit("usd: 5, fit: always"),
  limit("usd: 5, unbounded: {}"),
  limit("usd: 5, where: {}"),
  limit("usd: 5, where: { modle: x }"),
  limit("usd: 5, at: {}"),
  limit("usd: 5, at: stop"),
  limit("usd: 5, at: { 80%: ask }"),
  limit("usd: 5, at: { 80%: throttle }"),
  limit("usd: 5, every: day, at: { 80%: pause }"),
  limit("usd: 5, every: day, at: { 80%: { pause: {} } }"),
  limit("usd: 5, at: { 80%: [] }"),
  limit("usd: 5, at: { 33.333%: alert }"),
  limit("usd: 5, at: { half: alert }"),
  "budget: { weekly_usd: 5 }\n",
  "budget: { daily_tokens: { at: { 50%: stop } } }\n",
  "budget: { daily_tokens: 5, alert_thresholds: [0.5] }\n",
  "models: { downgrade: {} }\n",
  "models: { upgrade: { a: b } }\n",
  "prices: { m: { inputUsdPerMTok: cheap, outputUsdPerMTok: 1 } }\n",
  "prices: { m: { free: maybe } }\n",
  "prices: { m: { free: true, provider: gemini } }\n",
  "prices: { m: { usdPerUnit: cheap } }\n",
  "server: { port: 65536 }\n",
  "server: { prot: 1 }\n",
  "upstreams: { anthropic: ftp://x }\n",
  "onClientAbort: wait\n",
  "weekStart: mon\n",
])("both refuse %j", (text) => {
  expect(judge(text)).toEqual({ reader: false, schema: false });
});

test("the file that is shipped is the schema that is built", () => {
  const shipped: unknown = JSON.parse(readFileSync(new URL("../../purser.schema.json", import.meta.url), "utf8"));

  expect(shipped).toEqual(JSON.parse(JSON.stringify(buildSchema())));
});
