/**
 * Owns the part of a limit behind `at:` — which share or amount, which actions, and which of them contradict each other.
 * Does not own the rest of a limit (limit-reader.ts) or what an action does (core/).
 * Invariant: at most one threshold of a limit refuses, and nothing stands above it, because nothing above it could ever happen.
 */
import { isRefusingAction, type Action, type Measure, type Threshold } from "../core/limits/limit.ts";
import { formatUsd, NANO_USD_PER_USD, parseUsd } from "../core/money/money.ts";
import type { ConfigNode, MapEntry } from "./node.ts";
import {
  COUNT_MAX,
  describeFound,
  group,
  parseLengthMs,
  parseShareBps,
  parseWholeNumber,
  readEntries,
  readFields,
  readOneOrMore,
  readWholeNumber,
  refuseNotYet,
  USD_MAX,
} from "./fields.ts";
import type { Place, Problems } from "./problems.ts";
import { oneOf, quote } from "./problems.ts";

/** What a threshold is read against. */
export interface ThresholdContext {
  measure: Measure;
  /** The limit's amount, in the measure's unit. */
  amount: bigint;
  isLifetime: boolean;
  hasDowngrade: boolean;
}

export const ACTION_NAMES = ["alert", "downgrade", "throttle", "grace", "pause", "stop"] as const;
export const ACTIONS_NOT_YET = ["ask"] as const;
/** Shares from 0.01 % to 1,000 %: a limit that only tells may tell far beyond its amount. */
export const SHARE_BPS_MAX = 100_000n;
export const GRACE_DEFAULT = { overdraftBps: 500, callsMax: 20 } as const;
export const GRACE_CALLS_MAX = 1_000n;
export const THROTTLE_MS_MAX = 600_000;
export const PAUSE_MS_MIN = 1_000;
export const PAUSE_MS_MAX = 3_600_000;

const FULL_SHARE_BPS = 10_000n;
const GRACE_KEYS = ["overdraft", "calls"] as const;
const ACTIONS_ALLOWED = "alert, downgrade, throttle: LENGTH, grace, pause: { upTo: LENGTH } or stop, or a list of them";

/** A threshold as it was written, before its share is rounded. */
interface WrittenThreshold {
  /** The exact amount, in ten-thousandths of the limit's unit. */
  scaledAmount: bigint;
  /** The share in basis points, if it was written as one. */
  shareBps: bigint | undefined;
  label: string;
  actions: readonly Action[];
  place: Place;
}

/** What a limit without `at` does: refuse at its amount. */
export function defaultThresholds(amount: bigint): Threshold[] {
  return [{ amount, label: "100%", actions: [{ kind: "stop" }] }];
}

/** Reads `at:`; rising by amount. */
export function readThresholds(node: ConfigNode, context: ThresholdContext, problems: Problems): Threshold[] | undefined {
  const entries = readEntries(node, "thresholds and what happens there, like { 80%: alert, 100%: stop }", problems);
  if (entries === undefined) return undefined;
  const read = entries.map((entry) => readThreshold(entry, context, problems));
  const written = read.filter((threshold) => threshold !== undefined).toSorted(byAmount);
  if (written.length < entries.length || !checkSequence(written, problems)) return undefined;
  return roundShares(written);
}

function readThreshold(entry: MapEntry, context: ThresholdContext, problems: Problems): WrittenThreshold | undefined {
  const actions = readActions(entry.value, context, problems);
  const shareBps = parseShareBps(entry.key);
  const scaledAmount =
    shareBps === undefined ? readScaledAmount(entry, context.measure, problems) : scaleShare(entry, shareBps, context, problems);
  if (actions === undefined || scaledAmount === undefined) return undefined;
  return { scaledAmount, shareBps, label: entry.key, actions, place: entry.keyPlace };
}

function scaleShare(entry: MapEntry, bps: bigint, context: ThresholdContext, problems: Problems): bigint | undefined {
  if (bps > 0n && bps <= SHARE_BPS_MAX) return context.amount * bps;
  return problems.add(entry.keyPlace, quote(entry.key), "a share above 0% and up to 1000%");
}

function readScaledAmount(entry: MapEntry, measure: Measure, problems: Problems): bigint | undefined {
  const isUsd = measure === "usd";
  const amount = isUsd ? parseDollars(entry.key) : parseWholeNumber(entry.key);
  const amountMax = isUsd ? USD_MAX * NANO_USD_PER_USD : COUNT_MAX;
  if (amount !== undefined && amount > 0n && amount <= amountMax) return amount * FULL_SHARE_BPS;
  const example = isUsd ? "an amount like $5" : "a whole number like 400_000";
  return problems.add(entry.keyPlace, quote(entry.key), `a share like 80%, or ${example}, above 0`);
}

/** Shares of an amount of zero are all the same amount; then the share itself says which comes first. */
function byAmount(a: WrittenThreshold, b: WrittenThreshold): number {
  const difference = a.scaledAmount - b.scaledAmount || (a.shareBps ?? 0n) - (b.shareBps ?? 0n);
  return difference < 0n ? -1 : Number(difference > 0n);
}

/**
 * A share is rounded down where it refuses, so that the ceiling never passes the share, and up elsewhere, where "spent is at or above it"
 * then begins exactly at the share; but never above the ceiling. Of small amounts two shares may round to the same: both stay.
 */
function roundShares(written: readonly WrittenThreshold[]): Threshold[] {
  const refusing = written.find(({ actions }) => actions.some(isRefusingAction));
  const ceiling = refusing === undefined ? undefined : refusing.scaledAmount / FULL_SHARE_BPS;
  return written.map(({ scaledAmount, label, actions }) => {
    const roundedUp = (scaledAmount + FULL_SHARE_BPS - 1n) / FULL_SHARE_BPS;
    return { amount: ceiling !== undefined && roundedUp > ceiling ? ceiling : roundedUp, label, actions };
  });
}

function parseDollars(text: string): bigint | undefined {
  return text.startsWith("$") ? parseUsd(text.slice(1)) : undefined;
}

function readActions(node: ConfigNode, context: ThresholdContext, problems: Problems): Action[] | undefined {
  const items = readOneOrMore(node, ACTIONS_ALLOWED, problems);
  if (items === undefined) return undefined;
  const actions: Action[] = [];
  for (const item of items) {
    const action = readAction(item, problems);
    if (action === undefined) return undefined;
    const contradiction = findContradiction(action, actions, context);
    if (contradiction !== undefined) return problems.add(item.place, quote(action.kind), contradiction);
    actions.push(action);
  }
  return actions;
}

/** Why an action cannot stand here, in the words of what is allowed. */
function findContradiction(action: Action, before: readonly Action[], context: ThresholdContext): string | undefined {
  const { kind } = action;
  if (context.measure === "concurrency" && kind !== "stop")
    return "stop (calls in flight are counted now: a call over the limit waits)";
  if (context.measure === "toolCalls" && kind === "downgrade") return "another action: a tool runs on no model";
  if (before.some((other) => other.kind === kind)) return "each action once at a threshold";
  if (kind === "grace" && context.isLifetime)
    return "grace with `every` (a scope's life never ends, so grace would never begin anew)";
  if (kind === "pause" && context.isLifetime)
    return "pause with `every` (a scope's life never ends: there is nothing to wait for)";
  if (kind === "downgrade" && !context.hasDowngrade)
    return "downgrade with `models: { downgrade: { MODEL: MODEL } }` that says to what";
  const kinds = new Set([kind, ...before.map((other) => other.kind)]);
  const last = kinds.has("stop") ? "stop" : kinds.has("pause") ? "pause" : undefined;
  if (last === undefined) return undefined;
  const moot = [...kinds].find((other) => other !== last && other !== "alert");
  return moot === undefined ? undefined : `${last} alone or with alert (beside ${last}, ${moot} could never happen)`;
}

function readAction(node: ConfigNode, problems: Problems): Action | undefined {
  if (node.kind === "text") return readBareAction(node.place, node.text, problems);
  if (node.kind !== "map" || node.entries.length !== 1) return problems.add(node.place, describeFound(node), ACTIONS_ALLOWED);
  const [entry] = node.entries;
  if (entry?.key === "throttle") return readThrottle(entry.value, problems);
  if (entry?.key === "grace") return readGrace(entry.value, problems);
  if (entry?.key === "pause") return readPause(entry.value, problems);
  if (entry === undefined) return problems.add(node.place, "an empty mapping", ACTIONS_ALLOWED);
  return problems.add(
    entry.keyPlace,
    quote(entry.key),
    explainAction(entry.key, "throttle: LENGTH, grace: { overdraft, calls } or pause: { upTo: LENGTH }"),
  );
}

function readBareAction(place: Place, text: string, problems: Problems): Action | undefined {
  switch (text) {
    case "alert":
    case "downgrade":
    case "stop":
      return { kind: text };
    case "grace":
      return { kind: "grace", ...GRACE_DEFAULT };
    case "throttle":
      return problems.add(place, quote(text), "throttle with how far calls start apart, like { throttle: 2s }");
    case "pause":
      return problems.add(place, quote(text), "pause with how long a call may wait, like { pause: { upTo: 15m } }");
    default:
      return problems.add(place, quote(text), explainAction(text, oneOf(ACTION_NAMES, text)));
  }
}

function explainAction(text: string, otherwise: string): string {
  return ACTIONS_NOT_YET.some((known) => known === text) ? refuseNotYet(ACTION_NAMES, text) : otherwise;
}

function readThrottle(node: ConfigNode, problems: Problems): Action | undefined {
  const intervalMs = node.kind === "text" ? parseLengthMs(node.text) : undefined;
  if (intervalMs !== undefined && intervalMs > 0 && intervalMs <= THROTTLE_MS_MAX) return { kind: "throttle", intervalMs };
  return problems.add(node.place, describeFound(node), "a length from 1ms to 10m, like 2s");
}

function readPause(node: ConfigNode, problems: Problems): Action | undefined {
  const fields = readFields(node, ["upTo"], problems);
  if (fields === undefined) return undefined;
  const upTo = fields.get("upTo")?.value;
  if (upTo === undefined) return problems.add(node.place, describeFound(node), "upTo: LENGTH, like { pause: { upTo: 15m } }");
  const upToMs = upTo.kind === "text" ? parseLengthMs(upTo.text) : undefined;
  if (upToMs !== undefined && upToMs >= PAUSE_MS_MIN && upToMs <= PAUSE_MS_MAX) return { kind: "pause", upToMs };
  return problems.add(upTo.place, describeFound(upTo), "a length from 1s to 1h, like 15m");
}

function readGrace(node: ConfigNode, problems: Problems): Action | undefined {
  const fields = readFields(node, GRACE_KEYS, problems);
  if (fields === undefined) return undefined;
  const overdraft = fields.get("overdraft")?.value;
  const calls = fields.get("calls")?.value;
  const overdraftBps = overdraft === undefined ? GRACE_DEFAULT.overdraftBps : readOverdraftBps(overdraft, problems);
  const callsMax =
    calls === undefined ? GRACE_DEFAULT.callsMax : readWholeNumber(calls, { min: 1n, max: GRACE_CALLS_MAX }, problems);
  if (overdraftBps === undefined || callsMax === undefined) return undefined;
  return { kind: "grace", overdraftBps, callsMax: Number(callsMax) };
}

function readOverdraftBps(node: ConfigNode, problems: Problems): number | undefined {
  const bps = node.kind === "text" ? parseShareBps(node.text) : undefined;
  if (bps !== undefined && bps <= FULL_SHARE_BPS) return Number(bps);
  return problems.add(node.place, describeFound(node), "a share of the limit from 0% to 100%, like 5%");
}

/** Holds thresholds, rising by amount, to a sequence in which each can happen. */
function checkSequence(thresholds: readonly WrittenThreshold[], problems: Problems): boolean {
  const noted = problems.problems.length;
  thresholds.forEach((threshold, index) => {
    const before = thresholds.slice(0, index);
    const allowed = findSequenceContradiction(threshold, before);
    if (allowed !== undefined) problems.add(threshold.place, quote(threshold.label), allowed);
  });
  return problems.problems.length === noted;
}

function findSequenceContradiction(threshold: WrittenThreshold, before: readonly WrittenThreshold[]): string | undefined {
  const same = before.find((other) => isSameAmount(other, threshold));
  if (same !== undefined) return `each amount once: ${quote(same.label)} is the same amount`;
  const refusing = before.find(({ actions }) => actions.some(isRefusingAction));
  if (refusing !== undefined)
    return `thresholds up to ${quote(refusing.label)}: the limit refuses there, so nothing above it can happen`;
  const earlier = before.flatMap(({ actions }) => actions);
  if (has(threshold.actions, "downgrade") && has(earlier, "downgrade"))
    return "downgrade at one threshold: it holds from there on";
  const slowerMs = Math.max(0, ...intervalsOf(threshold.actions));
  const earlierMs = Math.max(0, ...intervalsOf(earlier));
  if (slowerMs > 0 && slowerMs <= earlierMs) return `a longer throttle than at the threshold before it (${earlierMs} ms)`;
  return undefined;
}

function isSameAmount(a: WrittenThreshold, b: WrittenThreshold): boolean {
  if (a.shareBps !== undefined && b.shareBps !== undefined) return a.shareBps === b.shareBps;
  return a.scaledAmount === b.scaledAmount;
}

function has(actions: readonly Action[], kind: Action["kind"]): boolean {
  return actions.some((action) => action.kind === kind);
}

function intervalsOf(actions: readonly Action[]): number[] {
  return actions.flatMap((action) => (action.kind === "throttle" ? [action.intervalMs] : []));
}

/** An amount of a measure as a person writes it: `$2.5`, `400_000`. */
export function formatAmount(measure: Measure, amount: bigint): string {
  return measure === "usd" ? `$${formatUsd(amount)}` : group(amount);
}
