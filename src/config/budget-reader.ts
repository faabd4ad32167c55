/**
 * Owns the short form `budget:`: three amounts become three limits. Does not own what a limit is (limit-reader.ts).
 * Invariant: per session it stops, per agent and day it lets running work finish (grace), per project and month it only tells.
 */
import type { Limit, Measure, Threshold } from "../core/limits/limit.ts";
import type { ConfigNode } from "./node.ts";
import {
  addMissing,
  COUNT_MAX,
  describeFound,
  parseShareBps,
  readFields,
  readOneOrMore,
  readUsd,
  readWholeNumber,
} from "./fields.ts";
import type { LimitDefaults, PlacedLimit } from "./limit-reader.ts";
import type { Problems } from "./problems.ts";
import { readThresholds } from "./threshold-reader.ts";

export const BUDGET_KEYS = ["per_session_tokens", "daily_tokens", "monthly_usd", "alert_thresholds"] as const;
/** Where a budget tells if it does not say. */
export const ALERT_SHARES_DEFAULT = ["50%", "80%", "100%"] as const;

const AMOUNT_KEYS = ["amount", "at"] as const;
const FULL_SHARE_BPS = 10_000n;

/** What each amount of a budget means. The names are reserved for them: two limits never share one. */
const FORMS = [
  { key: "per_session_tokens", name: "budget-session", per: "session", measure: "tokens", unit: undefined, final: "stop" },
  { key: "daily_tokens", name: "budget-agent-day", per: "agent", measure: "tokens", unit: "day", final: "grace" },
  { key: "monthly_usd", name: "budget-project-month", per: "project", measure: "usd", unit: "month", final: "alert" },
] as const;

type Form = (typeof FORMS)[number];

/** Reads `budget:` into limits. */
export function readBudget(node: ConfigNode, defaults: LimitDefaults, problems: Problems): PlacedLimit[] {
  const fields = readFields(node, BUDGET_KEYS, problems);
  if (fields === undefined) return [];
  const shares = readAlertShares(fields.get("alert_thresholds")?.value, problems);
  const forms = FORMS.filter(({ key }) => fields.has(key));
  const allowed = FORMS.map(({ key }) => key).join(", ");
  if (forms.length === 0) problems.add(node.place, "a budget without an amount", `at least one of ${allowed}`);
  return forms.flatMap((form) => {
    const entry = fields.get(form.key);
    const limit = entry === undefined ? undefined : readForm(form, entry.value, shares, defaults, problems);
    return limit === undefined || entry === undefined ? [] : [{ limit, place: entry.keyPlace }];
  });
}

function readAlertShares(node: ConfigNode | undefined, problems: Problems): string[] {
  if (node === undefined) return [...ALERT_SHARES_DEFAULT];
  const allowed = "shares above 0% and up to 100%, like [50%, 80%], each once";
  const items = readOneOrMore(node, allowed, problems) ?? [];
  const shares = new Map<bigint, string>();
  for (const item of items) {
    const bps = item.kind === "text" ? parseShareBps(item.text) : undefined;
    if (item.kind !== "text" || bps === undefined || bps === 0n || bps > FULL_SHARE_BPS || shares.has(bps)) {
      problems.add(item.place, describeFound(item), allowed);
    } else shares.set(bps, item.text);
  }
  return [...shares.values()];
}

function readForm(
  form: Form,
  node: ConfigNode,
  shares: readonly string[],
  defaults: LimitDefaults,
  problems: Problems,
): Limit | undefined {
  const fields = node.kind === "map" ? readFields(node, AMOUNT_KEYS, problems) : undefined;
  if (node.kind === "map" && fields === undefined) return undefined;
  const amountNode = fields === undefined ? node : fields.get("amount")?.value;
  if (amountNode === undefined) return addMissing(node.place, "amount", "the amount of this part of the budget", problems);
  const amount = readAmount(form.measure, amountNode, problems);
  if (amount === undefined) return undefined;
  const context = { measure: form.measure, amount, isLifetime: form.unit === undefined, hasDowngrade: defaults.hasDowngrade };
  const at = fields?.get("at")?.value ?? defaultAt(form, shares, amountNode);
  const thresholds = readThresholds(at, context, problems);
  return thresholds === undefined ? undefined : buildLimit(form, amount, thresholds, defaults);
}

function readAmount(measure: Measure, node: ConfigNode, problems: Problems): bigint | undefined {
  return measure === "usd" ? readUsd(node, problems) : readWholeNumber(node, { min: 0n, max: COUNT_MAX }, problems);
}

/** The thresholds of the short form, as if somebody had written them. */
function defaultAt(form: Form, shares: readonly string[], { place }: ConfigNode): ConfigNode {
  const text = (word: string): ConfigNode => ({ kind: "text", place, text: word });
  const tells = shares.filter((share) => parseShareBps(share) !== FULL_SHARE_BPS);
  const tellsAtEnd = form.final !== "alert" || shares.length > tells.length;
  const entries = [
    ...tells.map((key) => ({ key, keyPlace: place, value: text("alert") })),
    ...(tellsAtEnd ? [{ key: "100%", keyPlace: place, value: text(form.final) }] : []),
  ];
  return { kind: "map", place, entries };
}

function buildLimit(form: Form, amount: bigint, thresholds: Threshold[], defaults: LimitDefaults): Limit {
  const { name, per, measure, unit } = form;
  const { timeZone } = defaults;
  return {
    name,
    per: [per],
    where: [],
    measure,
    amount,
    window: unit === undefined ? { kind: "lifetime" } : { kind: "calendar", unit, timeZone, weekStart: 1, monthDay: 1 },
    cacheReads: "count",
    unboundedReserveNanoUsd: undefined,
    thresholds,
  };
}
