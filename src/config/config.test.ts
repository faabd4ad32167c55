import { describe, expect, test } from "vitest";
import type { Limit } from "../core/limits/limit.ts";
import type { Config, ReadConfigResult } from "./config.ts";
import { readConfig } from "./config.ts";

function read(text: string | undefined, env: Record<string, string> = {}): Extract<ReadConfigResult, { outcome: "read" }> {
  const result = readConfig({ text, fileName: "purser.yaml", env });
  if (result.outcome === "invalid") throw new Error(result.problems.map(({ message }) => message).join("\n"));
  return result;
}

function readLimit(lines: string, settings = ""): Limit {
  const text = `${settings}limits:\n  - name: a\n${lines
    .split("\n")
    .map((line) => `    ${line}`)
    .join("\n")}\n`;
  const [limit] = read(text).config.limits;
  if (limit === undefined) throw new Error("no limit was read");
  return limit;
}

const USD = 1_000_000_000n;

describe("a limit", () => {
  test("has its amount, scope, window and thresholds", () => {
    const limit = readLimit(
      "per: session\nusd: 10\nat: { $5: downgrade, $8: { throttle: 2s }, 100%: [alert, stop] }",
      "models: { downgrade: { a: b } }\n",
    );

    expect(limit).toEqual({
      name: "a",
      per: ["session"],
      where: [],
      measure: "usd",
      amount: 10n * USD,
      window: { kind: "lifetime" },
      cacheReads: "count",
      unboundedReserveNanoUsd: undefined,
      thresholds: [
        { amount: 5n * USD, label: "$5", actions: [{ kind: "downgrade" }] },
        { amount: 8n * USD, label: "$8", actions: [{ kind: "throttle", intervalMs: 2_000 }] },
        { amount: 10n * USD, label: "100%", actions: [{ kind: "alert" }, { kind: "stop" }] },
      ],
    });
  });

  test("without `at` stops at its amount", () => {
    expect(readLimit("per: all\ntokens: 7").thresholds).toEqual([{ amount: 7n, label: "100%", actions: [{ kind: "stop" }] }]);
  });

  test("of zero is a limit", () => {
    expect(readLimit("per: agent\nusd: 0").thresholds).toEqual([{ amount: 0n, label: "100%", actions: [{ kind: "stop" }] }]);
  });

  test.each([
    ["100_000", 100_000n],
    ["100000", 100_000n],
    ['"100_000"', 100_000n],
    ["1_000_000_000_000_000", 1_000_000_000_000_000n],
  ])("reads the whole number %s", (written, amount) => {
    expect(readLimit(`per: all\ntokens: ${written}`).amount).toBe(amount);
  });

  test.each([
    ["10", 10n * USD],
    ["2.50", 2_500_000_000n],
    ["0.000000001", 1n],
    ["1_000.5", 1_000_500_000_000n],
    // A float would make 9007199.254740993 of it.
    ["9007199.254740993", 9_007_199_254_740_993n],
    ["1000000000", 1_000_000_000n * USD],
  ])("reads the exact amount of $%s", (written, amount) => {
    expect(readLimit(`per: all\nusd: ${written}`).amount).toBe(amount);
  });

  test("has its scopes in one order, however they are written", () => {
    const written = readLimit('per: ["tag:team", agent, "tag:area", project]\nusd: 5');

    expect(written.per).toEqual(["project", "agent", "tag:area", "tag:team"]);
    expect(written.per).toEqual(readLimit("per: [project, agent, tag:area, tag:team]\nusd: 5").per);
  });

  test("looks only at calls with the values of `where`", () => {
    expect(readLimit("per: agent\nusd: 5\nwhere: { model: claude-opus-*, user: [42, bob], tag:team: '*' }").where).toEqual([
      { scope: "model", anyOf: [{ text: "claude-opus-", isPrefix: true }] },
      {
        scope: "user",
        anyOf: [
          { text: "42", isPrefix: false },
          { text: "bob", isPrefix: false },
        ],
      },
      { scope: "tag:team", anyOf: [{ text: "", isPrefix: true }] },
    ]);
  });

  test.each([
    ["1s", 1_000],
    ["1500ms", 1_500],
    ["90m", 5_400_000],
    ["5h", 18_000_000],
    ["30d", 2_592_000_000],
    ["2w", 1_209_600_000],
    ["366d", 31_622_400_000],
  ])("has a rolling window of %s", (written, lengthMs) => {
    expect(readLimit(`per: all\nrequests: 5\nevery: ${written}`).window).toEqual({ kind: "rolling", lengthMs });
  });

  test("has a calendar window in the zone and week of the settings, or in its own", () => {
    const settings = "timezone: Europe/Berlin\nweekStart: sunday\n";

    expect(readLimit("per: all\nusd: 5\nevery: week", settings).window).toEqual({
      kind: "calendar",
      unit: "week",
      timeZone: "Europe/Berlin",
      weekStart: 7,
      monthDay: 1,
    });
    expect(readLimit("per: all\nusd: 5\nevery: month\ntimezone: Asia/Tokyo\nmonthDay: 28", settings).window).toEqual({
      kind: "calendar",
      unit: "month",
      timeZone: "Asia/Tokyo",
      weekStart: 1,
      monthDay: 28,
    });
  });

  test("has the grace of the language where it says nothing else", () => {
    const at = (written: string): unknown =>
      readLimit(`per: agent\ntokens: 100\nevery: day\nat: { 100%: ${written} }`).thresholds[0]?.actions;

    expect(at("grace")).toEqual([{ kind: "grace", overdraftBps: 500, callsMax: 20 }]);
    expect(at("{ grace: {} }")).toEqual([{ kind: "grace", overdraftBps: 500, callsMax: 20 }]);
    expect(at("{ grace: { overdraft: 12.5%, calls: 3 } }")).toEqual([{ kind: "grace", overdraftBps: 1_250, callsMax: 3 }]);
    expect(at("{ grace: { overdraft: 0% } }")).toEqual([{ kind: "grace", overdraftBps: 0, callsMax: 20 }]);
  });

  test("rounds a share down where it refuses and up where it tells", () => {
    const amounts = (at: string): bigint[] =>
      readLimit(`per: all\nrequests: 3\nat: ${at}`).thresholds.map(({ amount }) => amount);

    expect(amounts("{ 33.33%: alert, 50%: { throttle: 1s }, 100%: stop }")).toEqual([1n, 2n, 3n]);
    expect(amounts("{ 50%: stop }")).toEqual([1n]);
    expect(amounts("{ 33.34%: alert, 65%: stop }")).toEqual([1n, 1n]);
  });

  test("of a small amount may have two shares that round to the same", () => {
    const { thresholds } = readLimit("per: all\nrequests: 1\nat: { 50%: alert, 100%: stop }");

    expect(thresholds.map(({ amount, label }) => [amount, label])).toEqual([
      [1n, "50%"],
      [1n, "100%"],
    ]);
  });

  test("orders its thresholds by amount, however they are written", () => {
    const { thresholds } = readLimit(
      "per: all\nusd: 10\nat: { 100%: stop, $9.50: { throttle: 5s }, 50%: alert, 90%: { throttle: 1s } }",
    );

    expect(thresholds.map(({ label }) => label)).toEqual(["50%", "90%", "$9.50", "100%"]);
  });

  test("may tell beyond its amount if it refuses nothing", () => {
    expect(readLimit("per: all\nusd: 10\nat: { 100%: alert, 250%: alert }").thresholds[1]?.amount).toBe(25n * USD);
  });

  test("has what to set aside for a call without a bound", () => {
    expect(readLimit("per: all\nusd: 10\nunbounded: { reserve: 2.00 }").unboundedReserveNanoUsd).toBe(2n * USD);
  });

  test("leaves cache reads out where it says so", () => {
    expect(readLimit("per: all\ninputTokens: 10\ncacheReads: ignore").cacheReads).toBe("ignore");
  });

  test("makes calls smaller to fit unless it says `fit: off`", () => {
    expect(readLimit("per: all\nusd: 10\nfit: off").fit).toBe("off");
    expect(readLimit("per: all\nusd: 10\nfit: on")).toEqual(readLimit("per: all\nusd: 10"));
  });

  test("of calls in flight has no window", () => {
    expect(readLimit("per: agent\nconcurrency: 5").window).toEqual({ kind: "lifetime" });
  });
});

describe("the short form", () => {
  const limits = (text: string): readonly Limit[] => read(text).config.limits;

  test("stops a session, lets an agent's day finish, and tells of a project's month", () => {
    const read = limits(
      "budget: { per_session_tokens: 100_000, daily_tokens: 500_000, monthly_usd: 200, alert_thresholds: [50%, 80%] }\n",
    );

    expect(read).toEqual(
      limits(`limits:
  - { name: budget-session, per: session, tokens: 100000, at: { 50%: alert, 80%: alert, 100%: stop } }
  - { name: budget-agent-day, per: agent, tokens: 500000, every: day, at: { 50%: alert, 80%: alert, 100%: grace } }
  - { name: budget-project-month, per: project, usd: 200, every: month, at: { 50%: alert, 80%: alert } }
`),
    );
  });

  test("tells at 50, 80 and 100 % if it does not say where", () => {
    expect(limits("budget: { monthly_usd: 10 }\n")[0]?.thresholds.map(({ label }) => label)).toEqual(["50%", "80%", "100%"]);
  });

  test("takes thresholds of its own for each part", () => {
    const [limit] = limits(
      "budget: { daily_tokens: { amount: 1_000, at: { 90%: alert, 100%: stop } }, alert_thresholds: [10%] }\n",
    );

    expect(limit?.thresholds).toEqual([
      { amount: 900n, label: "90%", actions: [{ kind: "alert" }] },
      { amount: 1_000n, label: "100%", actions: [{ kind: "stop" }] },
    ]);
  });

  test("of zero refuses everything", () => {
    expect(limits("budget: { per_session_tokens: 0 }\n")[0]?.thresholds.at(-1)).toEqual({
      amount: 0n,
      label: "100%",
      actions: [{ kind: "stop" }],
    });
  });

  test("stands beside limits", () => {
    expect(limits("limits: [{ name: a, per: all, usd: 5 }]\nbudget: { daily_tokens: 5 }\n").map(({ name }) => name)).toEqual([
      "a",
      "budget-agent-day",
    ]);
  });
});

describe("without limits", () => {
  test.each([undefined, "", "# nothing\n", "---\n", "timezone: Asia/Tokyo\n"])("the built-in limit holds (%j)", (text) => {
    const { config } = read(text);

    expect(config.isDefaultLimit).toBe(true);
    expect(config.limits).toHaveLength(1);
    expect(config.limits[0]).toMatchObject({ name: "everything-day", per: ["all"], measure: "usd", amount: 50n * USD });
    expect(config.limits[0]?.window).toMatchObject({
      unit: "day",
      timeZone: text?.includes("Tokyo") === true ? "Asia/Tokyo" : "UTC",
    });
    expect(config.limits[0]?.thresholds.map(({ label, actions }) => [label, actions[0]?.kind])).toEqual([
      ["50%", "alert"],
      ["80%", "alert"],
      ["100%", "stop"],
    ]);
  });

  test("an empty list is a choice: nothing holds", () => {
    const { config, warnings } = read("limits: []\n");

    expect(config.limits).toEqual([]);
    expect(config.isDefaultLimit).toBe(false);
    expect(warnings.map(({ message }) => message)).toEqual(["purser.yaml:1:9: limits: no limit stops anything"]);
  });
});

describe("settings", () => {
  test("have their defaults", () => {
    const { version, limits, ...settings } = read(undefined).config;

    expect(version).toMatch(/^[0-9a-f]{12}$/);
    expect(limits).toHaveLength(1);
    expect(settings).toEqual({
      timeZone: "UTC",
      weekStart: 1,
      isDefaultLimit: true,
      downgrade: new Map(),
      prices: [],
      onLedgerUnavailable: "deny",
      onUnpricedModel: "deny",
      onClientAbort: "cancel",
      upstreams: { anthropic: "https://api.anthropic.com", openai: "https://api.openai.com" },
      server: {
        host: "127.0.0.1",
        port: 4141,
        adminHost: "127.0.0.1",
        adminPort: 4142,
        bodyBytesMax: 33_554_432,
        passthroughKeys: "deny",
      },
      ledger: { kind: "sqlite", path: "./.purser/ledger.db", keepDays: undefined },
      logLevel: "info",
    } satisfies Omit<Config, "version" | "limits">);
  });

  test("are read from the file", () => {
    const { config } = read(`onLedgerUnavailable: allow
onUnpricedModel: dearest
onClientAbort: drain
models: { downgrade: { claude-opus-5-5: claude-sonnet-5-5, claude-sonnet-5-5: claude-haiku-5-5 } }
upstreams: { anthropic: "http://localhost:9000/anthropic/", openai: HTTPS://Example.com }
server: { host: "::1", port: 0, adminHost: localhost, adminPort: 0, bodyBytesMax: 1_000_000, passthroughKeys: allow }
`);

    expect(config.onLedgerUnavailable).toBe("allow");
    expect(config.onUnpricedModel).toBe("dearest");
    expect(config.onClientAbort).toBe("drain");
    expect([...config.downgrade]).toEqual([
      ["claude-opus-5-5", "claude-sonnet-5-5"],
      ["claude-sonnet-5-5", "claude-haiku-5-5"],
    ]);
    expect(config.upstreams).toEqual({ anthropic: "http://localhost:9000/anthropic", openai: "https://example.com" });
    expect(config.server).toEqual({
      host: "::1",
      port: 0,
      adminHost: "localhost",
      adminPort: 0,
      bodyBytesMax: 1_000_000,
      passthroughKeys: "allow",
    });
  });

  test("hold own prices exactly", () => {
    const { config } = read(`prices:
  my-model: { inputUsdPerMTok: 0.123456789, outputUsdPerMTok: 15, cacheReadUsdPerMTok: 0.10, from: 2026-11-01, source: contract 7 }
  gift: { free: true, provider: openai }
  my-embedding: { provider: openai, inputUsdPerMTok: 0.02 }
  relayed: { provider: openai, inputUsdPerMTok: 3, outputUsdPerMTok: 15, cacheWrite5mUsdPerMTok: 3.75, cacheWrite1hUsdPerMTok: 6 }
`);
    const [model, gift, embedding, relayed] = config.prices;

    expect(model).toMatchObject({
      provider: "anthropic",
      model: "my-model",
      kind: "chat",
      fromMs: Date.UTC(2026, 10, 1),
      nanoUsdPerMTok: { uncachedInput: 123_456_789n, output: 15n * USD, cacheRead: 100_000_000n },
      source: "contract 7",
      confidence: "configured",
      isFree: false,
    });
    expect(model?.nanoUsdPerMTok).not.toHaveProperty("cacheWrite5m");
    expect(relayed?.nanoUsdPerMTok).toMatchObject({ cacheWrite30m: 3_750_000_000n, cacheWrite12h: 6n * USD });
    expect(gift).toMatchObject({ provider: "openai", isFree: true, nanoUsdPerMTok: {}, source: "purser.yaml" });
    expect(embedding).toMatchObject({ kind: "embedding" });
  });

  test("hold the price of a unit exactly; zero is free", () => {
    const { config } = read("prices: { search: { usdPerUnit: 0.004999999, from: 2026-11-01 }, gift: { usdPerUnit: 0 } }\n");

    expect(config.prices).toMatchObject([
      { provider: "search", model: "search", kind: "metered", nanoUsdPerUnit: 4_999_999n, isFree: false, nanoUsdPerMTok: {} },
      { provider: "gift", nanoUsdPerUnit: 0n, isFree: true, source: "purser.yaml" },
    ]);
  });

  test("name a tool as one more condition", () => {
    const { config } = read(
      "limits: [{ name: a, per: [tool, agent], toolCalls: 20, tool: [web_search, mcp_*], where: { user: bob }, every: day }]\n",
    );

    expect(config.limits).toMatchObject([
      {
        per: ["agent", "tool"],
        measure: "toolCalls",
        amount: 20n,
        where: [
          { scope: "user", anyOf: [{ text: "bob", isPrefix: false }] },
          {
            scope: "tool",
            anyOf: [
              { text: "web_search", isPrefix: false },
              { text: "mcp_", isPrefix: true },
            ],
          },
        ],
      },
    ]);
  });

  test("may use anchors and aliases", () => {
    const { config } = read("limits:\n  - &a { name: a, per: all, usd: &usd 5 }\n  - { name: b, per: agent, usd: *usd }\n");

    expect(config.limits.map(({ amount }) => amount)).toEqual([5n * USD, 5n * USD]);
  });
});

describe("the version", () => {
  const versionOf = (text: string, env: Record<string, string> = {}): string => read(text, env).config.version;

  test("stays the same for another spelling of the same", () => {
    const text = "limits: [{ name: a, per: all, usd: 5 }]\n";

    expect(versionOf(text)).toBe(versionOf(`# a comment\ntimezone: UTC\n${text.replace("5", "5.00")}`));
    expect(versionOf(text)).toBe(versionOf("", { PURSER_LIMITS: "[{ name: a, per: all, usd: 5 }]" }));
  });

  test.each([
    "limits: [{ name: a, per: all, usd: 6 }]\n",
    "limits: [{ name: b, per: all, usd: 5 }]\n",
    "limits: [{ name: a, per: all, usd: 5, at: { 99.99%: stop } }]\n",
    "limits: [{ name: a, per: all, usd: 5 }]\nonUnpricedModel: dearest\n",
    "limits: [{ name: a, per: all, usd: 5 }]\nmodels: { downgrade: { x: y } }\n",
    "limits: [{ name: a, per: all, usd: 5 }]\nprices: { m: { free: true } }\n",
  ])("changes with %j", (text) => {
    expect(versionOf(text)).not.toBe(versionOf("limits: [{ name: a, per: all, usd: 5 }]\n"));
  });
});
