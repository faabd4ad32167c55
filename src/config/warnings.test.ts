import { expect, test } from "vitest";
import { newPriceRow } from "../core/pricing/rows.ts";
import { buildPriceBook } from "../core/pricing/price-book.ts";
import { toNanoUsd } from "../core/money/money.ts";
import { readConfig } from "./config.ts";
import { initTemplate } from "./template.ts";

function warningsOf(text: string): string[] {
  const result = readConfig({ text, fileName: "purser.yaml", env: {} });
  if (result.outcome === "invalid") throw new Error(result.problems.map(({ message }) => message).join("\n"));
  return result.warnings.map(({ message }) => message);
}

const ALL = "limits:\n  - { name: all-day, per: all, usd: 50, every: day }\n";

test.each([
  initTemplate(),
  ALL,
  `${ALL}  - { name: s, per: session, usd: 5 }\n`,
  `${ALL}  - { name: c, per: agent, concurrency: 3 }\n`,
])("nothing is told of a sound configuration %#", (text) => {
  expect(warningsOf(text)).toEqual([]);
});

test.each(["session", "user", "task", "tag:team", "[agent, session]"])(
  "a limit per %s alone is told: its caller names it",
  (per) => {
    const [warning] = warningsOf(`limits:\n  - { name: s, per: ${per}, usd: 5 }\n`);

    expect(warning).toMatch(
      /^purser\.yaml:2:13: limits\[0\]\.name: s counts per (session|user|task|tag:team); callers name their/,
    );
  },
);

test.each([
  ["one that only tells", "{ name: b, per: all, usd: 50, at: { 50%: alert } }"],
  ["one for some users", "{ name: b, per: all, usd: 50, where: { user: bob } }"],
  ["one of tool calls", "{ name: b, per: all, toolCalls: 5 }"],
  ["one of calls in flight", "{ name: b, per: all, concurrency: 5 }"],
  ["one per user", "{ name: b, per: user, usd: 5 }"],
])("%s is no bound above a session's limit", (_name, bound) => {
  const warnings = warningsOf(`limits:\n  - { name: s, per: session, usd: 5 }\n  - ${bound}\n`);

  expect(warnings.some((warning) => warning.includes("s counts per session"))).toBe(true);
});

test.each([
  [
    "a limit that only tells",
    `${ALL}  - { name: a, per: all, usd: 5, at: { 100%: alert } }\n`,
    "purser.yaml:3:13: limits[1].name: a tells or changes calls and never stops one",
  ],
  ["a limit of zero", `${ALL}  - { name: a, per: all, usd: 0 }\n`, "a stops at 0: it admits no call at all"],
  [
    "a limit that stops above its amount",
    `${ALL}  - { name: a, per: all, usd: 5, at: { 150%: stop } }\n`,
    "a stops at $7.5, above its amount of $5",
  ],
  [
    "a name that some clients misread",
    `${ALL}  - { name: team-quota, per: all, usd: 5 }\n`,
    "some clients then give up where they should wait",
  ],
  ["no limit that stops", "limits: [{ name: a, per: all, usd: 5, at: { 50%: alert } }]\n", "no limit stops anything"],
  ["settings without limits", "timezone: UTC\n", "the built-in limit holds: $50 a day"],
  ["models that nothing replaces", `${ALL}models: { downgrade: { a: b } }\n`, "no limit has the action downgrade"],
  ["passing calls without a ledger", `${ALL}onLedgerUnavailable: allow\n`, "calls pass without any limit"],
  ["an open admin listener", `${ALL}server: { adminHost: 0.0.0.0 }\n`, "the admin listener is open to the network on 0.0.0.0"],
  ["open passthrough", `${ALL}server: { host: 0.0.0.0, passthroughKeys: allow }\n`, "anybody who reaches 0.0.0.0"],
  ["an upstream in the clear", `${ALL}upstreams: { openai: http://example.com }\n`, "provider keys travel in the clear"],
])("%s is told", (_name, text, told) => {
  expect(warningsOf(text).join("\n")).toContain(told);
});

test("a replacement without a price is told, if prices are at hand", () => {
  const price = { uncachedInput: toNanoUsd(1n), output: toNanoUsd(1n) };
  const row = newPriceRow({
    provider: "anthropic",
    model: "small",
    nanoUsdPerMTok: price,
    source: "test",
    confidence: "official",
  });
  const text = `models: { downgrade: { big: small, huge: tiny, old: mine } }
prices: { mine: { inputUsdPerMTok: 3, outputUsdPerMTok: 15 } }
limits: [{ name: a, per: all, usd: 5, at: { $1: downgrade, 100%: stop } }]
`;
  const result = readConfig({ text, fileName: "purser.yaml", env: {}, knownPrices: buildPriceBook([row]) });

  expect(result.outcome === "read" && result.warnings.map(({ message }) => message)).toEqual([
    expect.stringContaining("no price is known for tiny"),
  ]);
});

test("a limit of tool calls is told: it counts where tools run", () => {
  const told = warningsOf(`${ALL}  - { name: t, per: agent, toolCalls: 5 }\n`);

  expect(told).toEqual([expect.stringContaining("t counts the tools that purser.tool runs")]);
});
