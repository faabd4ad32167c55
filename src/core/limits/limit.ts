/**
 * Owns the shape of a limit, after the configuration was read and checked.
 * Does not own its spelling (config/) or its effect (core/decisions).
 * Invariant: every `Limit` here can be enforced; what is not enforced yet never becomes one.
 */

/** What a limit can count over. `tag:NAME` counts over the values of one tag. */
export type ScopeName = "all" | "project" | "agent" | "session" | "user" | "key" | "model" | "task" | "tool" | `tag:${string}`;

/** What is counted. */
export type Measure = "usd" | "tokens" | "inputTokens" | "outputTokens" | "requests" | "concurrency" | "toolCalls";

/** Over what time. Calendar units follow the zone's own days, including those of 23 and 25 hours. */
export type Window =
  | { kind: "calendar"; unit: "hour" | "day" | "week" | "month"; timeZone: string; weekStart: WeekDay; monthDay: number }
  | { kind: "rolling"; lengthMs: number }
  | { kind: "lifetime" };

/** 1 = Monday … 7 = Sunday (ISO 8601). */
export type WeekDay = 1 | 2 | 3 | 4 | 5 | 6 | 7;

/** What happens from a threshold on. */
export type Action =
  | { kind: "alert" }
  | { kind: "downgrade" }
  | { kind: "throttle"; intervalMs: number }
  | { kind: "grace"; overdraftBps: number; callsMax: number }
  | { kind: "pause"; upToMs: number }
  | { kind: "stop" };

/** Where on a limit which actions begin. Begins once spent S is at or above it. */
export interface Threshold {
  /** In the limit's own unit: nano-dollars for usd, whole numbers otherwise. */
  amount: bigint;
  /** As it was written: "80%", "$5", "400_000". Shown to people, and part of an alert's identity. */
  label: string;
  actions: readonly Action[];
}

/** Which calls a limit looks at besides `per`: exact values, or a beginning where a pattern ended in `*`. */
export interface WherePattern {
  scope: ScopeName;
  anyOf: readonly { text: string; isPrefix: boolean }[];
}

/** One rule: scope + measure + window + amount + what happens at which share of it. */
export interface Limit {
  name: string;
  /** One or more scopes: several count each combination of values by itself. Never empty; in canonical order. */
  per: readonly ScopeName[];
  where: readonly WherePattern[];
  measure: Measure;
  /** In the measure's unit: nano-dollars for usd, whole numbers otherwise. Zero is a limit. */
  amount: bigint;
  window: Window;
  /** `ignore`: cache reads count neither in the bound nor in the actual of a token limit. */
  cacheReads: "count" | "ignore";
  /** What to reserve for a call whose cost has no proven bound, in nano-dollars; absent: such a call is refused. */
  unboundedReserveNanoUsd: bigint | undefined;
  /** `off`: a call is never made smaller (max_tokens) because this limit has less left than it asks for. */
  fit?: "off";
  /** In rising order of amount; two shares of a small amount may round to the same. */
  thresholds: readonly Threshold[];
}

/** The values a call has for every scope. What nobody named is `default`. */
export interface Scopes {
  project: string;
  agent: string;
  session: string;
  /** Sessions this one counts for, nearest first; at most 8. */
  parentSessions: readonly string[];
  user: string;
  key: string;
  task: string;
  tags: Readonly<Record<string, string>>;
}

/** Where the tool of an invocation stands, so that whatever stores the tags of a call stores it: no caller can name a tag like this. */
const TOOL_TAG = "~tool";

/** The tool that an invocation runs; `undefined`: it is no invocation of a tool, but a call that is paid for. */
export function toolOf({ tags }: Pick<Scopes, "tags">): string | undefined {
  return tags[TOOL_TAG];
}

/** The same values, for an invocation of a tool. */
export function scopesOfTool(scopes: Scopes, tool: string): Scopes {
  return { ...scopes, tags: { ...scopes.tags, [TOOL_TAG]: tool } };
}

/** True if the measure counts what is asked, at once, and not what it comes to. */
export function isSpentAtOnce(measure: Measure): boolean {
  return measure === "requests" || measure === "toolCalls";
}

/** True if nothing is admitted above the threshold of this action, or only what it lets through. */
export function isRefusingAction({ kind }: Pick<Action, "kind">): boolean {
  return kind === "stop" || kind === "grace" || kind === "pause";
}

/** The threshold from which on a limit refuses, or `undefined`: it only tells or changes. */
export function refusingThresholdOf({ thresholds }: Limit): Threshold | undefined {
  return thresholds.find(({ actions }) => actions.some(isRefusingAction));
}

/** True if the limit can refuse a call by its amount. */
export function isRefusing(limit: Limit): boolean {
  return refusingThresholdOf(limit) !== undefined;
}

/** The amount above which nothing is admitted, or `undefined` for a limit that only tells or changes. */
export function ceilingOf(limit: Limit): bigint | undefined {
  return refusingThresholdOf(limit)?.amount;
}
