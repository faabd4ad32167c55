import * as fc from "fast-check";
import { expect, it } from "vitest";
import { toNanoUsd } from "../core/money/money.ts";
import { NO_TOKENS } from "../core/usage/usage.ts";
import type { ReportGroup } from "../ledger/ledger.ts";
import { toCsvCell, toReportCsv } from "./csv.ts";
import { toMarkdownText, toReportMarkdown } from "./markdown.ts";
import { buildUsageReport, parseDimensions, toReportJson } from "./usage-report.ts";

const period = { fromMs: Date.parse("2026-11-22T00:00:00Z"), toMs: Date.parse("2026-11-23T00:00:00Z") };

function group(agent: string, costNanoUsd: bigint, more: Partial<ReportGroup> = {}): ReportGroup {
  const tokens = { ...NO_TOKENS, uncachedInputTokens: 60_000, outputTokens: 1_536 };
  return { key: { agent }, calls: 1, denied: 0, costNanoUsd: toNanoUsd(costNanoUsd), tokens, ...more };
}

it("gives the contract's shape, money as exact text, dearest first", () => {
  const report = buildUsageReport({ period, by: ["agent"], groups: [group("b", 1n), group("a", 270_720_000n)] });

  const usage = {
    uncachedInputTokens: 60_000,
    cacheReadTokens: 0,
    cacheWrite5mTokens: 0,
    cacheWrite1hTokens: 0,
    outputTokens: 1_536,
    reasoningOutputTokens: 0,
  };
  expect(toReportJson(report)).toEqual({
    from: "2026-11-22T00:00:00Z",
    to: "2026-11-23T00:00:00Z",
    by: ["agent"],
    groups: [
      { key: { agent: "a" }, calls: 1, denied: 0, costUsd: "0.27072", usage },
      { key: { agent: "b" }, calls: 1, denied: 0, costUsd: "0.000000001", usage },
    ],
    total: {
      calls: 2,
      denied: 0,
      costUsd: "0.270720001",
      usage: { ...usage, uncachedInputTokens: 120_000, outputTokens: 3_072 },
    },
  });
});

it("adds up to the nano-dollar, in any order of the groups", () => {
  const groups = fc.array(fc.tuple(fc.string(), fc.bigInt({ min: 0n, max: 10n ** 18n })), { maxLength: 20 });
  fc.assert(
    fc.property(groups, (pairs) => {
      const made = pairs.map(([agent, cost]) => group(agent, cost));
      const report = buildUsageReport({ period, by: ["agent"], groups: made });
      expect(report.total.costNanoUsd).toBe(pairs.reduce((sum, [, cost]) => sum + cost, 0n));
      expect(buildUsageReport({ period, by: ["agent"], groups: made.toReversed() })).toEqual(report);
    }),
  );
});

it("reads several dimensions once each, and refuses others with what is allowed", () => {
  expect(parseDimensions("agent, tag:team,agent")).toEqual({ outcome: "read", by: ["agent", "tag:team"] });
  expect(parseDimensions("agent,driver")).toMatchObject({ outcome: "invalid", found: "driver" });
  expect(parseDimensions("tag:")).toMatchObject({ outcome: "invalid", allowed: expect.stringContaining("tag:NAME") });
});

it.each(["=1+1", "+1", "-2+3", "@SUM(A1)", "\t=1", "  =HYPERLINK(1)", "|calc", "%0A=1"])(
  "keeps %j from becoming a formula",
  (label) => {
    expect(toCsvCell(label).replace(/^"/, "")).toMatch(/^'/);
  },
);

it("quotes what CSV acts on, and leaves plain text as it is", () => {
  expect(["plain", 'say "hi", now', "two\nlines"].map((text) => toCsvCell(text))).toEqual([
    "plain",
    '"say ""hi"", now"',
    String.raw`two\u{a}lines`,
  ]);
});

it("writes CSV with exact money, CR LF and no total", () => {
  const report = buildUsageReport({ period, by: ["agent"], groups: [group("=cmd()", 270_720_000n)] });

  expect(toReportCsv(report)).toBe(
    [
      "from,to,agent,calls,denied,costUsd,uncachedInputTokens,cacheReadTokens,cacheWrite5mTokens,cacheWrite1hTokens,outputTokens,reasoningOutputTokens",
      `2026-11-22T00:00:00Z,2026-11-23T00:00:00Z,"'=cmd()",1,0,0.27072,60000,0,0,0,1536,0`,
      "",
    ].join("\r\n"),
  );
});

it("lets no label leave its cell in Markdown", () => {
  const evil = "a|b`<img src=x>`[x](y)\n# h";

  expect(toMarkdownText(evil)).not.toMatch(/[|`<>[\]()\n]/);
  const lines = toReportMarkdown(buildUsageReport({ period, by: ["agent"], groups: [group(evil, 1n)] }))
    .trimEnd()
    .split("\n");
  for (const line of lines.slice(2)) expect(line.split("|")).toHaveLength(8);
});
