/**
 * Owns the spend report: groups and their total, from what the ledger summed.
 * Does not own the sums (ledger/) or how a report looks (csv.ts, markdown.ts, cli/).
 * Invariant: the total is the sum of the groups, to the nano-dollar; the order is always the same: dearest first, then by name.
 */
import { formatUsd, toNanoUsd, ZERO_USD, type NanoUsd } from "../core/money/money.ts";
import { NO_TOKENS, type TokenParts } from "../core/usage/usage.ts";
import type { ReportDimension, ReportGroup } from "../ledger/ledger.ts";
import { formatInstant } from "../core/windows/instant.ts";
import type { Period } from "./period.ts";

/** What a report can be grouped by, besides `tag:NAME`. */
export const DIMENSIONS = [
  "project",
  "agent",
  "user",
  "model",
  "task",
  "session",
  "key",
] as const satisfies readonly ReportDimension[];

/** Sums of one group, or of all. */
export interface ReportSums {
  calls: number;
  denied: number;
  costNanoUsd: NanoUsd;
  tokens: TokenParts;
}

export interface UsageReport extends Period {
  by: readonly ReportDimension[];
  groups: readonly ReportGroup[];
  total: ReportSums;
}

export interface UsageJson {
  uncachedInputTokens: number;
  cacheReadTokens: number;
  cacheWrite5mTokens: number;
  cacheWrite1hTokens: number;
  outputTokens: number;
  reasoningOutputTokens: number;
}

interface SumsJson {
  calls: number;
  denied: number;
  costUsd: string;
  usage: UsageJson;
}

/** The report as programs read it: the contract's shape. */
export interface ReportJson {
  from: string;
  to: string;
  by: string[];
  groups: ({ key: Record<string, string> } & SumsJson)[];
  total: SumsJson;
}

/** Puts groups in order and adds them up. */
export function buildUsageReport(input: {
  period: Period;
  by: readonly ReportDimension[];
  groups: readonly ReportGroup[];
}): UsageReport {
  const { period, by } = input;
  const groups = input.groups.toSorted((a, b) => compareGroups(a, b, by));
  return { ...period, by, groups, total: sumGroups(groups) };
}

/** The report in the contract's shape. */
export function toReportJson(report: UsageReport): ReportJson {
  return {
    from: formatInstant(report.fromMs),
    to: formatInstant(report.toMs),
    by: [...report.by],
    groups: report.groups.map((group) => ({ key: { ...group.key }, ...toSumsJson(group) })),
    total: toSumsJson(report.total),
  };
}

/** Names a group, so that the same one is found in another report. */
export function groupKeyOf(group: ReportGroup, by: readonly ReportDimension[]): string {
  return JSON.stringify(by.map((dimension) => group.key[dimension] ?? ""));
}

/** Reads the names of `--by`: `agent,model,tag:team`. */
export function parseDimensions(
  text: string,
): { outcome: "read"; by: ReportDimension[] } | { outcome: "invalid"; found: string; allowed: string } {
  const by: ReportDimension[] = [];
  for (const name of text.split(",").map((part) => part.trim())) {
    const dimension = toDimension(name);
    if (dimension === undefined) return { outcome: "invalid", found: name, allowed: `${DIMENSIONS.join(", ")}, tag:NAME` };
    if (!by.includes(dimension)) by.push(dimension);
  }
  return { outcome: "read", by };
}

function toDimension(name: string): ReportDimension | undefined {
  if (/^tag:[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/.test(name)) return name as `tag:${string}`;
  return DIMENSIONS.find((dimension) => dimension === name);
}

function sumGroups(groups: readonly ReportGroup[]): ReportSums {
  const total: ReportSums = { calls: 0, denied: 0, costNanoUsd: ZERO_USD, tokens: { ...NO_TOKENS } };
  for (const group of groups) {
    total.calls += group.calls;
    total.denied += group.denied;
    total.costNanoUsd = toNanoUsd(total.costNanoUsd + group.costNanoUsd);
    for (const part of Object.keys(NO_TOKENS) as (keyof TokenParts)[]) total.tokens[part] += group.tokens[part];
  }
  return total;
}

function toSumsJson({ calls, denied, costNanoUsd, tokens }: ReportSums): SumsJson {
  return { calls, denied, costUsd: formatUsd(costNanoUsd), usage: toUsageJson(tokens) };
}

/** Token parts with the names that programs read. */
export function toUsageJson(tokens: TokenParts): UsageJson {
  const { uncachedInputTokens, cacheReadTokens, cacheWrite5mTokens, cacheWrite1hTokens, outputTokens } = tokens;
  const { reasoningOutputTokens } = tokens;
  return { uncachedInputTokens, cacheReadTokens, cacheWrite5mTokens, cacheWrite1hTokens, outputTokens, reasoningOutputTokens };
}

function compareGroups(a: ReportGroup, b: ReportGroup, by: readonly ReportDimension[]): number {
  if (a.costNanoUsd !== b.costNanoUsd) return a.costNanoUsd > b.costNanoUsd ? -1 : 1;
  if (a.denied !== b.denied) return b.denied - a.denied;
  const [left, right] = [groupKeyOf(a, by), groupKeyOf(b, by)];
  return left < right ? -1 : left > right ? 1 : 0;
}
