/** Goal: a configuration in code means what the same words in a file mean, and a mistake in it is told with its place. */
import { expect, test } from "vitest";
import { readConfig } from "./config.ts";
import { readConfigObject, type ConfigObject } from "./config-object.ts";
import { CONFIG_KEYS } from "./read-tree.ts";

const yaml = `
timezone: Europe/Berlin
limits:
  - { name: session, per: session, usd: 0.10, at: { $0.05: downgrade, "100%": [alert, stop] } }
  - { name: agent-day, per: [agent, "tag:team"], tokens: 100_000, every: day, where: { model: claude-* }, at: { 80%: { throttle: 2s }, 100%: grace } }
models: { downgrade: { claude-opus-5-5: claude-haiku-5-5 } }
prices: { my-model: { inputUsdPerMTok: 3, outputUsdPerMTok: 0.1 } }
onClientAbort: drain
upstreams: { anthropic: "http://127.0.0.1:1" }
`;

const object: ConfigObject = {
  timezone: "Europe/Berlin",
  limits: [
    { name: "session", per: "session", usd: 0.1, at: { "$0.05": "downgrade", "100%": ["alert", "stop"] } },
    {
      name: "agent-day",
      per: ["agent", "tag:team"],
      tokens: 100_000,
      every: "day",
      where: { model: "claude-*" },
      at: { "80%": { throttle: "2s" }, "100%": "grace" },
    },
  ],
  models: { downgrade: { "claude-opus-5-5": "claude-haiku-5-5" } },
  prices: { "my-model": { inputUsdPerMTok: 3, outputUsdPerMTok: "0.1" } },
  onClientAbort: "drain",
  upstreams: { anthropic: "http://127.0.0.1:1" },
};

test("the same words mean the same in code and in a file", () => {
  const fromCode = readConfigObject({ config: object });
  const fromFile = readConfig({ text: yaml, fileName: "config", env: {} });

  expect(fromCode.outcome).toBe("read");
  expect(fromCode.outcome === "read" && fromCode.config).toEqual(fromFile.outcome === "read" && fromFile.config);
});

test("without limits the built-in one holds", () => {
  const read = readConfigObject({ config: {} });

  expect(read.outcome === "read" && read.config).toMatchObject({ isDefaultLimit: true, limits: [{ name: "everything-day" }] });
});

test.each<[ConfigObject, string]>([
  [{ limits: [{ name: "a", per: "agent", usd: Number.NaN }] }, "config (limits[0].usd): found "],
  [{ limits: [{ name: "a", per: "agent", usd: 1e-7 }] }, 'config (limits[0].usd): found "1e-7"'],
  [{ limits: [{ name: "a", per: "agent", usd: 1, every: "fortnight" }] }, 'config (limits[0].every): found "fortnight"'],
  [{ timezone: (() => "UTC") as unknown as string }, "config (timezone): found a function; allowed: text, numbers"],
  [{ limit: [] } as ConfigObject, "config (limit): found "],
])("a mistake is told with its place: %j", (config, message) => {
  const read = readConfigObject({ config });

  expect(read.outcome === "invalid" ? read.problems[0]?.message : read).toContain(message);
});

test("a name that stands twice is told with the place of the first", () => {
  const limit = { name: "a", per: "agent", usd: 1 };

  const read = readConfigObject({ config: { limits: [limit, limit] } });

  expect(read.outcome === "invalid" && read.problems[0]?.message).toContain("each name once; the first is limits[0].name");
});

test("an object that holds itself ends in a problem", () => {
  const around: Record<string, unknown> = {};
  around["budget"] = around;

  const read = readConfigObject({ config: around });

  expect(read.outcome === "invalid" && read.problems[0]?.message).toContain("nested too deep");
});

test("its members are those of the file", () => {
  const members: Record<keyof ConfigObject, true> = {
    timezone: true,
    weekStart: true,
    limits: true,
    budget: true,
    models: true,
    prices: true,
    onLedgerUnavailable: true,
    onUnpricedModel: true,
    onClientAbort: true,
    upstreams: true,
    server: true,
    ledger: true,
  };

  expect(Object.keys(members)).toEqual([...CONFIG_KEYS]);
});
