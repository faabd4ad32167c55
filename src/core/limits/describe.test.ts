import { expect, test } from "vitest";
import { describeLimit, formatLength, formatMeasured } from "./describe.ts";
import type { Limit } from "./limit.ts";

const NOW_MS = Date.UTC(2026, 10, 22, 10, 30);
const USD = 1_000_000_000n;
const DAY = { kind: "calendar", unit: "day", timeZone: "UTC", weekStart: 1, monthDay: 1 } as const;

function limit(parts: Partial<Limit>): Limit {
  const amount = parts.amount ?? 50n * USD;
  return {
    name: "a",
    per: ["all"],
    where: [],
    measure: "usd",
    amount,
    window: { kind: "lifetime" },
    cacheReads: "count",
    unboundedReserveNanoUsd: undefined,
    thresholds: [{ amount, label: "100%", actions: [{ kind: "stop" }] }],
    ...parts,
  };
}

test.each<[string, Limit]>([
  [
    "a: all calls together may spend $50.00 a day (UTC; ends 2026-11-23 00:00 UTC); told at $25.00 and $40.00, stopped at $50.00.",
    limit({
      window: DAY,
      thresholds: [
        { amount: 25n * USD, label: "50%", actions: [{ kind: "alert" }] },
        { amount: 40n * USD, label: "80%", actions: [{ kind: "alert" }] },
        { amount: 50n * USD, label: "100%", actions: [{ kind: "alert" }, { kind: "stop" }] },
      ],
    }),
  ],
  [
    "a: each session may spend $10.00 in total (never starts anew); told at $5.00, on a cheaper model from $5.00, one start every 2 seconds from $8.50, stopped at $10.00.",
    limit({
      per: ["session"],
      amount: 10n * USD,
      thresholds: [
        { amount: 5n * USD, label: "$5", actions: [{ kind: "alert" }, { kind: "downgrade" }] },
        { amount: 8_500_000_000n, label: "85%", actions: [{ kind: "throttle", intervalMs: 2_000 }] },
        { amount: 10n * USD, label: "100%", actions: [{ kind: "stop" }] },
      ],
    }),
  ],
  [
    "a: all calls together may spend $50.00 a day (UTC; ends 2026-11-23 00:00 UTC); paused at $50.00 (a call waits up to 15 minutes for the limit to clear).",
    limit({
      window: DAY,
      thresholds: [{ amount: 50n * USD, label: "100%", actions: [{ kind: "alert" }, { kind: "pause", upToMs: 900_000 }] }],
    }),
  ],
  [
    "a: each agent may use 500,000 tokens (cache reads not counted) a day (Europe/Berlin; ends 2026-11-23 00:00 Europe/Berlin); from 500,000 on running sessions may finish (at most 20 calls each, never above 525,000) and nothing new starts.",
    limit({
      per: ["agent"],
      measure: "tokens",
      amount: 500_000n,
      cacheReads: "ignore",
      window: { ...DAY, timeZone: "Europe/Berlin" },
      thresholds: [{ amount: 500_000n, label: "100%", actions: [{ kind: "grace", overdraftBps: 500, callsMax: 20 }] }],
    }),
  ],
  [
    "a: each project should spend at most $200.00 a month (UTC, from day 15; ends 2026-12-15 00:00 UTC); told at $100.00, never stopped.",
    limit({
      per: ["project"],
      amount: 200n * USD,
      window: { ...DAY, unit: "month", monthDay: 15 },
      thresholds: [{ amount: 100n * USD, label: "50%", actions: [{ kind: "alert" }] }],
    }),
  ],
  [
    "a: each combination of project and value of the tag team (only calls whose model is claude-opus-* or o3 and user is bob) may make 1 request a week (UTC, from Sunday; ends 2026-11-29 00:00 UTC); stopped at 1.",
    limit({
      per: ["project", "tag:team"],
      measure: "requests",
      amount: 1n,
      window: { ...DAY, unit: "week", weekStart: 7 },
      where: [
        {
          scope: "model",
          anyOf: [
            { text: "claude-opus-", isPrefix: true },
            { text: "o3", isPrefix: false },
          ],
        },
        { scope: "user", anyOf: [{ text: "bob", isPrefix: false }] },
      ],
    }),
  ],
  [
    "a: each agent may have 5 calls in flight at once; a call over 5 waits.",
    limit({ per: ["agent"], measure: "concurrency", amount: 5n }),
  ],
  [
    "a: each combination of agent and tool may run 20 tool calls in any 5 hours; stopped at 20.",
    limit({ per: ["agent", "tool"], measure: "toolCalls", amount: 20n, window: { kind: "rolling", lengthMs: 18_000_000 } }),
  ],
  [
    "a: all calls together may use 1,000 input tokens in any 5 hours; stopped at 1,000.",
    limit({ measure: "inputTokens", amount: 1_000n, window: { kind: "rolling", lengthMs: 18_000_000 } }),
  ],
  [
    "a: all calls together may use 1,000 output tokens an hour (UTC; ends 2026-11-22 11:00 UTC); stopped at 1,000.",
    limit({ measure: "outputTokens", amount: 1_000n, window: { ...DAY, unit: "hour" } }),
  ],
  [
    "a: all calls together may spend $50.00 in total (never starts anew); stopped at $50.00; a call without a provable bound sets $2.00 aside.",
    limit({ unboundedReserveNanoUsd: 2n * USD }),
  ],
  [
    "a: all calls together may spend $50.00 in total (never starts anew); stopped at $50.00; calls are not made smaller to fit.",
    limit({ fit: "off" }),
  ],
])("says: %s", (sentence, described) => {
  expect(describeLimit(described, { nowMs: NOW_MS })).toBe(sentence);
});

test.each([
  [0n, "$0.00"],
  [1n, "$0.000000001"],
  [2_500_000_000n, "$2.50"],
  [1_234_567n * USD, "$1,234,567.00"],
])("writes %d nano-dollars as %s, exactly", (amount, text) => {
  expect(formatMeasured("usd", amount)).toBe(text);
});

test.each([
  [500, "500 ms"],
  [1_000, "1 second"],
  [90_000, "90 seconds"],
  [5_400_000, "90 minutes"],
  [86_400_000, "1 day"],
])("writes a length of %d ms as %s", (lengthMs, text) => {
  expect(formatLength(lengthMs)).toBe(text);
});
