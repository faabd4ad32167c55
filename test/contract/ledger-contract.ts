/**
 * What every ledger must do, told by examples; run against each store. What no example tells, the model tests find (test/model).
 */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { scopeKeyOf, totalsOf, compileLimits } from "../../src/core/decisions/counters.ts";
import { scopesOfTool, type Limit } from "../../src/core/limits/limit.ts";
import { toNanoUsd } from "../../src/core/money/money.ts";
import type { Ledger } from "../../src/ledger/ledger.ts";
import {
  adjustOf,
  at,
  batchOf,
  batchOfLines,
  candidateOf,
  DAY,
  expireOf,
  HOUR_MS,
  keyOf,
  LIFETIME,
  MINUTE,
  limitOf,
  NOON_MS,
  ownerOf,
  renewOf,
  reserveOf,
  rulesOf,
  scopesOf,
  settleOf,
  tokensOf,
  voidOf,
} from "./samples.ts";

const DEAR: Limit["where"] = [{ scope: "model", anyOf: [{ text: "dear", isPrefix: false }] }];

/** Describes one store. @param open gives an empty ledger each time. */
export function describeLedger(name: string, open: () => Promise<Ledger>): void {
  describe(`the contract of ${name}`, () => {
    let ledger: Ledger;
    beforeEach(async () => {
      ledger = await open();
    });
    afterEach(() => ledger.close());

    const outcomesOf = async (operations: Parameters<Ledger["apply"]>[0]): Promise<string[]> =>
      (await ledger.apply(operations)).map(({ outcome }) => outcome);

    const totals = async (limit: Limit, scope: Record<string, string> = {}, atMs = NOON_MS) => {
      const [compiled] = compileLimits(rulesOf([limit])).limits;
      const state = (await ledger.scopeStates()).get(scopeKeyOf(scope));
      if (compiled === undefined || state === undefined) return undefined;
      return totalsOf(state, compiled, atMs);
    };

    const runOf = (callId: string, tool: string) => {
      const operation = reserveOf(callId);
      return { ...operation, call: { ...operation.call, scopes: scopesOfTool(operation.call.scopes, tool) } };
    };

    describe("operations", () => {
      test("admits up to the limit to the nano-dollar, and not one above", async () => {
        await ledger.configure(rulesOf([limitOf({ amount: 300n })]));

        const outcomes = await outcomesOf([
          reserveOf("1", { usd: 100n }),
          reserveOf("2", { usd: 201n }),
          reserveOf("3", { usd: 200n }),
          reserveOf("4", { usd: 1n }),
        ]);

        expect(outcomes).toEqual(["reserved", "wait", "reserved", "wait"]);
      });

      test("two hundred callers at once of a limit for seven: exactly seven are admitted", async () => {
        await ledger.configure(rulesOf([limitOf({ amount: 700n, per: ["session"], window: LIFETIME })]));

        const answers = await Promise.all(
          Array.from({ length: 200 }, (_nothing, index) => ledger.apply([reserveOf(`call-${index}`)])),
        );

        expect(answers.filter(([answer]) => answer?.outcome === "reserved")).toHaveLength(7);
      });

      test("limits that hold only where there are none take nobody's place, whoever comes first", async () => {
        const names = async (): Promise<string[]> => (await ledger.limits()).map(({ name: limit }) => limit);
        const builtIn = { ...rulesOf([limitOf({ name: "built-in", amount: 5n })]), isOnlyIfNone: true };
        const written = rulesOf([limitOf({ name: "written", amount: 1n })], NOON_MS, "v2");

        // Asked for at once: which of the two comes first makes no difference.
        await Promise.all([ledger.configure(builtIn), ledger.configure(written), ledger.configure(builtIn)]);
        expect(await names()).toEqual(["written"]);

        await ledger.configure(builtIn);
        expect(await names()).toEqual(["written"]);
      });

      test("a limit of zero admits nothing", async () => {
        await ledger.configure(rulesOf([limitOf({ amount: 0n })]));

        const [answer] = await ledger.apply([reserveOf("1", { usd: 1n })]);

        expect(answer).toMatchObject({ outcome: "denied", code: "limit_too_small" });
      });

      test("settling replaces the reservation; what is above it is an overrun and counted in full", async () => {
        const limit = limitOf({ amount: 1_000n });
        await ledger.configure(rulesOf([limit]));
        await ledger.apply([reserveOf("1"), reserveOf("2")]);

        const [below, above] = await ledger.apply([settleOf("1", 40n), settleOf("2", 130n)]);

        expect(below).toMatchObject({ outcome: "done", overrunNanoUsd: 0n });
        expect(above).toMatchObject({ outcome: "done", overrunNanoUsd: 30n });
        expect(await totals(limit)).toEqual({ spent: 170n, reserved: 0n });
      });

      test("settling again says the same; settling with another amount is a conflict and changes nothing", async () => {
        const limit = limitOf({ amount: 1_000n });
        await ledger.configure(rulesOf([limit]));

        const outcomes = await outcomesOf([
          reserveOf("1"),
          settleOf("1", 40n),
          settleOf("1", 40n),
          settleOf("1", 41n),
          voidOf("1"),
          expireOf("1"),
          settleOf("never", 1n),
        ]);

        expect(outcomes).toEqual(["reserved", "done", "already_done", "conflict", "conflict", "conflict", "unknown_call"]);
        expect(await totals(limit)).toEqual({ spent: 40n, reserved: 0n });
      });

      test("an ending that is said again after the limits changed still tells what it freed", async () => {
        const limit = limitOf({ amount: 1_000n });
        await ledger.configure(rulesOf([limit]));
        await ledger.apply([reserveOf("1"), settleOf("1", 40n)]);
        await ledger.configure(rulesOf([limit, limitOf({ name: "agent", per: ["agent"], amount: 1_000n })], NOON_MS, "v2"));

        const [again] = await ledger.apply([settleOf("1", 40n)]);

        expect(again).toMatchObject({ outcome: "already_done", freedCounterIds: ["all usd@day:UTC"] });
      });

      test("a call asked for again with the same id is a duplicate, whatever became of it", async () => {
        await ledger.configure(rulesOf([limitOf({ amount: 250n })]));
        await ledger.apply([reserveOf("open"), reserveOf("ended"), settleOf("ended", 1n), reserveOf("denied", { usd: 400n })]);

        const outcomes = await outcomesOf([reserveOf("open"), reserveOf("ended"), reserveOf("denied", { usd: 1n })]);

        expect(outcomes).toEqual(["duplicate", "duplicate", "duplicate"]);
      });

      test("voiding gives back everything, requests too", async () => {
        const requests = limitOf({ name: "rate", measure: "requests", amount: 1n });
        await ledger.configure(rulesOf([requests, limitOf({ amount: 100n })]));

        const outcomes = await outcomesOf([reserveOf("1"), voidOf("1"), voidOf("1"), reserveOf("2")]);

        expect(outcomes).toEqual(["reserved", "done", "already_done", "reserved"]);
      });

      test("a tool's invocation counts at once, by tool, and for limits of tool calls alone; nothing else counts there", async () => {
        const byTool = limitOf({ name: "by-tool", per: ["tool"], measure: "toolCalls", amount: 2n });
        const requests = limitOf({ name: "rate", measure: "requests", amount: 2n });
        await ledger.configure(rulesOf([byTool, requests, limitOf({ amount: 300n })]));

        expect(
          await outcomesOf([runOf("t1", "x"), runOf("t1", "x"), runOf("t2", "x"), runOf("t3", "x"), runOf("t4", "y")]),
        ).toEqual(["reserved", "duplicate", "reserved", "denied", "reserved"]);
        expect(await outcomesOf([reserveOf("1"), settleOf("t1", 0n), expireOf("t2"), voidOf("t4"), runOf("t5", "y")])).toEqual([
          "reserved",
          "done",
          "done",
          "done",
          "reserved",
        ]);

        expect(await totals(byTool, { tool: "x" })).toEqual({ spent: 2n, reserved: 0n });
        expect(await totals(byTool, { tool: "y" })).toEqual({ spent: 1n, reserved: 0n });
        expect(await totals(requests)).toEqual({ spent: 1n, reserved: 0n });
      });

      test("a limit of tool calls that comes later counts what ran before it", async () => {
        const byTool = limitOf({ name: "by-tool", per: ["tool"], measure: "toolCalls", amount: 2n });
        await ledger.configure(rulesOf([limitOf({ amount: 1_000n })]));
        await outcomesOf([runOf("t1", "x"), settleOf("t1", 0n), reserveOf("1"), settleOf("1", 30n)]);

        await ledger.configure(rulesOf([byTool], NOON_MS, "v2"));

        expect(await totals(byTool, { tool: "x" })).toEqual({ spent: 1n, reserved: 0n });
      });

      test("an expired call counts at its bound until a late settlement replaces it", async () => {
        const usd = limitOf({ amount: 1_000n });
        const tokens = limitOf({ name: "tokens", measure: "tokens", amount: 1_000n });
        const slots = limitOf({ name: "slots", measure: "concurrency", amount: 1n });
        await ledger.configure(rulesOf([usd, tokens, slots]));
        await ledger.apply([reserveOf("1"), expireOf("1")]);

        expect(await totals(usd)).toEqual({ spent: 100n, reserved: 0n });
        expect(await totals(tokens)).toEqual({ spent: 150n, reserved: 0n });
        expect(await totals(slots)).toEqual({ spent: 0n, reserved: 0n });

        expect(await outcomesOf([settleOf("1", 30n), settleOf("1", 30n)])).toEqual(["done", "already_done"]);
        expect(await totals(usd)).toEqual({ spent: 30n, reserved: 0n });
        expect(await totals(tokens)).toEqual({ spent: 15n, reserved: 0n });
        expect(await ledger.calls({ limit: 1 })).toMatchObject([{ status: "settled", isLate: true, costNanoUsd: 30n }]);
      });

      test("a renewal lowers what a call holds and never raises it", async () => {
        const limit = limitOf({ amount: 1_000n });
        await ledger.configure(rulesOf([limit]));
        await ledger.apply([reserveOf("1")]);

        await ledger.apply([renewOf("1", 60n)]);
        expect(await totals(limit)).toEqual({ spent: 0n, reserved: 60n });

        await ledger.apply([renewOf("1", 90n)]);
        expect(await totals(limit)).toEqual({ spent: 0n, reserved: 60n });
        expect(await outcomesOf([renewOf("never", 1n)])).toEqual(["not_open"]);
      });

      test("one operation that is wrong by itself is refused alone", async () => {
        await ledger.configure(rulesOf([limitOf({ amount: 1_000n })]));

        const answers = await Promise.allSettled([
          ledger.apply([reserveOf("1")]),
          ledger.apply([{ ...reserveOf("2"), candidates: [] }]),
          ledger.apply([{ ...reserveOf("3"), atMs: Number.NaN }]),
          ledger.apply([reserveOf("4", { candidates: [candidateOf({ usdBound: toNanoUsd(-1n) })] })]),
          ledger.apply([reserveOf("5")]),
        ]);

        expect(answers.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "rejected", "rejected", "fulfilled"]);
        expect(answers[1]).toMatchObject({ reason: expect.objectContaining({ message: expect.stringContaining("candidates") }) });
      });

      test("nothing is admitted before any limits are in force", async () => {
        await expect(ledger.apply([reserveOf("1")])).rejects.toThrow("no limits are in force");
      });
    });

    describe("corrections", () => {
      const day = limitOf({ amount: 1_000n });
      const perAgent = limitOf({ name: "agent", per: ["agent"], amount: 1_000n, window: LIFETIME });
      const tokens = limitOf({ name: "tokens", measure: "tokens", amount: 1_000n });

      test("a correction changes what a settled call costs in every money counter and in no other", async () => {
        await ledger.configure(rulesOf([day, perAgent, tokens]));
        await ledger.apply([reserveOf("1"), settleOf("1", 40n)]);

        const [answer] = await ledger.apply([adjustOf("1", -15n)]);

        expect(answer).toEqual({ kind: "adjust", outcome: "done", costNanoUsd: 25n, alerts: [] });
        expect(await totals(day)).toEqual({ spent: 25n, reserved: 0n });
        expect(await totals(perAgent, { agent: "a" })).toEqual({ spent: 25n, reserved: 0n });
        expect(await totals(tokens)).toEqual({ spent: 15n, reserved: 0n });
        expect(await ledger.calls({ limit: 1 })).toMatchObject([
          {
            status: "settled",
            costNanoUsd: 25n,
            adjustedNanoUsd: -15n,
            result: { costNanoUsd: 40n },
            adjustments: [
              { adjustmentId: "adj-1", atMs: NOON_MS + 2_000, deltaNanoUsd: -15n, reason: "billed otherwise", by: "ann" },
            ],
          },
        ]);
        expect(await ledger.report({ fromMs: NOON_MS, toMs: NOON_MS + 1, by: [] })).toMatchObject([
          { calls: 1, costNanoUsd: 25n },
        ]);
      });

      test("a correction with the same id is made once, with another amount it is a conflict, with another id it is one more", async () => {
        await ledger.configure(rulesOf([day]));
        await ledger.apply([reserveOf("1"), settleOf("1", 40n), adjustOf("1", 5n)]);
        // Whatever a store keeps of it must last: other limits make it put away everything it has in hand.
        await ledger.configure(rulesOf([day, perAgent], NOON_MS, "v2"));

        const answers = await ledger.apply([
          adjustOf("1", 5n),
          adjustOf("1", 6n),
          adjustOf("1", -10n, { adjustmentId: "adj-2" }),
          adjustOf("1", -10n, { adjustmentId: "adj-2" }),
        ]);

        expect(answers.map(({ outcome, costNanoUsd }) => [outcome, costNanoUsd])).toEqual([
          ["already_done", 45n],
          ["conflict", 45n],
          ["done", 35n],
          ["already_done", 35n],
        ]);
        expect(await totals(day)).toEqual({ spent: 35n, reserved: 0n });
        expect(await totals(perAgent, { agent: "a" })).toEqual({ spent: 35n, reserved: 0n });
        const [record] = await ledger.calls({ limit: 1 });
        expect(record?.adjustments.map(({ adjustmentId }) => adjustmentId)).toEqual(["adj-1", "adj-2"]);
      });

      test("no correction brings a cost below zero, or out of what can be summed", async () => {
        await ledger.configure(rulesOf([day]));
        await ledger.apply([reserveOf("1"), settleOf("1", 40n)]);

        expect(await outcomesOf([adjustOf("1", -41n), adjustOf("1", 2n ** 62n), adjustOf("1", -40n)])).toEqual([
          "out_of_range",
          "out_of_range",
          "done",
        ]);
        expect(await totals(day)).toEqual({ spent: 0n, reserved: 0n });
        await expect(ledger.apply([adjustOf("1", 0n)])).rejects.toThrow("deltaNanoUsd is 0");
        await expect(ledger.apply([adjustOf("1", 1n, { reason: "" })])).rejects.toThrow("reason");
      });

      test("only what was sent and is over can be corrected", async () => {
        await ledger.configure(rulesOf([day]));
        await ledger.apply([reserveOf("open"), reserveOf("voided"), voidOf("voided"), reserveOf("denied", { usd: 2_000n })]);

        expect(
          await outcomesOf([adjustOf("open", 1n), adjustOf("voided", 1n), adjustOf("denied", 1n), adjustOf("never", 1n)]),
        ).toEqual(["not_ended", "nothing_sent", "nothing_sent", "unknown_call"]);
        expect(await totals(day)).toEqual({ spent: 0n, reserved: 100n });
      });

      test("a settlement said again agrees with what was settled, not with its correction", async () => {
        await ledger.configure(rulesOf([day]));
        await ledger.apply([reserveOf("1"), settleOf("1", 40n), adjustOf("1", -15n)]);
        await ledger.configure(rulesOf([day, perAgent], NOON_MS, "v2"));

        expect(await outcomesOf([settleOf("1", 40n), settleOf("1", 25n)])).toEqual(["already_done", "conflict"]);
        expect(await totals(day)).toEqual({ spent: 25n, reserved: 0n });
      });

      test("a late settlement replaces the bound of an expired call together with its corrections", async () => {
        await ledger.configure(rulesOf([day, tokens]));
        await ledger.apply([reserveOf("1"), expireOf("1"), adjustOf("1", -30n)]);
        expect(await totals(day)).toEqual({ spent: 70n, reserved: 0n });
        // A limit that comes now starts with the corrected cost, and the late settlement replaces that too.
        await ledger.configure(rulesOf([day, tokens, perAgent], NOON_MS, "v2"));
        expect(await totals(perAgent, { agent: "a" })).toEqual({ spent: 70n, reserved: 0n });
        await ledger.apply([adjustOf("1", -20n, { adjustmentId: "adj-2" })]);
        expect(await totals(perAgent, { agent: "a" })).toEqual({ spent: 50n, reserved: 0n });

        expect(await outcomesOf([settleOf("1", 33n), adjustOf("1", -30n), adjustOf("1", 7n, { adjustmentId: "adj-3" })])).toEqual(
          ["done", "already_done", "done"],
        );

        expect(await totals(day)).toEqual({ spent: 40n, reserved: 0n });
        expect(await totals(perAgent, { agent: "a" })).toEqual({ spent: 40n, reserved: 0n });
        expect(await totals(tokens)).toEqual({ spent: 15n, reserved: 0n });
        expect(await ledger.calls({ limit: 1 })).toMatchObject([
          { isLate: true, costNanoUsd: 40n, adjustedNanoUsd: 7n, adjustments: [{ adjustmentId: "adj-3" }] },
        ]);
      });

      test("a correction long after counts in the window of its call, and in no other", async () => {
        const hour = limitOf({ name: "hour", amount: 1_000n, window: { kind: "rolling", lengthMs: HOUR_MS } });
        await ledger.configure(rulesOf([day, hour]));
        await ledger.apply([reserveOf("1"), settleOf("1", 40n)]);
        const laterMs = NOON_MS + 40 * 24 * HOUR_MS;
        for (const days of [20, 40]) {
          const atMs = NOON_MS + days * 24 * HOUR_MS;
          await ledger.apply([reserveOf(`day-${days}`, { atMs }), settleOf(`day-${days}`, 7n, { atMs })]);
        }

        await ledger.apply([adjustOf("1", 60n, { atMs: laterMs })]);

        expect(await totals(day, {}, laterMs)).toEqual({ spent: 7n, reserved: 0n });
        expect(await totals(hour, {}, laterMs)).toEqual({ spent: 7n, reserved: 0n });
        const [record] = await ledger.calls({ limit: 1, callId: "1" });
        expect([record?.endedAtMs, record?.costNanoUsd]).toEqual([NOON_MS + 1_000, 100n]);
        // A clock set back asks for the window again.
        expect(await outcomesOf([reserveOf("back", { usd: 901n })])).toEqual(["denied"]);
        expect(await totals(day)).toEqual({ spent: 100n, reserved: 0n });
      });

      test("what a limit never counted because its window was over is not taken from it", async () => {
        await ledger.configure(rulesOf([tokens]));
        await ledger.apply([reserveOf("1"), settleOf("1", 40n)]);
        const laterMs = NOON_MS + 40 * 24 * HOUR_MS;
        await ledger.configure(rulesOf([tokens, day, perAgent], laterMs, "v2"));

        await ledger.apply([adjustOf("1", -15n, { atMs: laterMs })]);

        expect((await totals(day)) ?? { spent: 0n, reserved: 0n }).toEqual({ spent: 0n, reserved: 0n });
        expect(await totals(perAgent, { agent: "a" })).toEqual({ spent: 25n, reserved: 0n });
      });

      test("a limit that was away starts again with the corrected cost", async () => {
        await ledger.configure(rulesOf([day, perAgent]));
        await ledger.apply([reserveOf("1"), settleOf("1", 40n)]);
        await ledger.configure(rulesOf([day], NOON_MS, "v2"));
        await ledger.apply([adjustOf("1", -15n)]);

        await ledger.configure(rulesOf([day, perAgent], NOON_MS, "v3"));

        expect(await totals(perAgent, { agent: "a" })).toEqual({ spent: 25n, reserved: 0n });
      });

      test("a call without a price gets its cost by a correction", async () => {
        await ledger.configure(rulesOf([day, tokens]));
        await ledger.apply([
          reserveOf("1", { isForced: true, candidates: [candidateOf({ usdBound: undefined })] }),
          settleOf("1", undefined),
          adjustOf("1", 30n),
        ]);
        const [record] = await ledger.calls({ limit: 1 });

        expect([record?.status, record?.costNanoUsd]).toEqual(["settled", 30n]);
        expect(await totals(day)).toEqual({ spent: 30n, reserved: 0n });
      });

      test("a correction that reaches a threshold tells it", async () => {
        await ledger.configure(
          rulesOf([limitOf({ amount: 100n, thresholds: [at(50n, { kind: "alert" }), at(100n, { kind: "stop" })] })]),
        );
        await ledger.apply([reserveOf("1"), settleOf("1", 40n)]);

        const [answer] = await ledger.apply([adjustOf("1", 20n)]);

        expect(answer?.alerts.map(({ threshold, spent }) => [threshold, spent])).toEqual([["at 50", 60n]]);
      });
    });

    describe("windows", () => {
      test("a call over midnight counts in the day it was admitted in", async () => {
        const limit = limitOf({ amount: 100n });
        await ledger.configure(rulesOf([limit]));
        const beforeMidnightMs = NOON_MS + 12 * HOUR_MS - 1;
        await ledger.apply([reserveOf("1", { atMs: beforeMidnightMs }), settleOf("1", 90n, { atMs: beforeMidnightMs + 5_000 })]);

        expect(await totals(limit, {}, beforeMidnightMs)).toEqual({ spent: 90n, reserved: 0n });
        expect(await totals(limit, {}, beforeMidnightMs + 1)).toEqual({ spent: 0n, reserved: 0n });
        expect(await outcomesOf([reserveOf("2", { atMs: beforeMidnightMs + 1 })])).toEqual(["reserved"]);
      });

      test("a call that expired and is settled late, the day after, changes the day it was admitted in and no other", async () => {
        const limit = limitOf({ amount: 1_000n });
        await ledger.configure(rulesOf([limit]));
        const midnightMs = NOON_MS + 12 * HOUR_MS;
        const nextDayMs = midnightMs + 12 * HOUR_MS;
        await ledger.apply([
          reserveOf("late", { atMs: midnightMs - 1 }),
          expireOf("late", midnightMs + 60_000),
          reserveOf("next day", { atMs: nextDayMs }),
          settleOf("next day", 7n, { atMs: nextDayMs }),
        ]);
        const days = async () => {
          const spentOf = async (atMs: number) => (await totals(limit, {}, atMs))?.spent;
          const reportOf = async (fromMs: number) =>
            (await ledger.report({ fromMs, toMs: fromMs + 24 * HOUR_MS, by: [] })).map(({ costNanoUsd }) => costNanoUsd);
          return {
            spent: [await spentOf(midnightMs - 1), await spentOf(nextDayMs)],
            reported: [await reportOf(midnightMs - 24 * HOUR_MS), await reportOf(midnightMs)],
          };
        };
        expect(await days()).toEqual({ spent: [100n, 7n], reported: [[100n], [7n]] });

        expect(await outcomesOf([settleOf("late", 30n, { atMs: nextDayMs + HOUR_MS })])).toEqual(["done"]);

        expect(await days()).toEqual({ spent: [30n, 7n], reported: [[30n], [7n]] });
        expect(await ledger.calls({ limit: 1, callId: "late" })).toMatchObject([{ status: "settled", isLate: true }]);
      });

      test("a clock that goes back finds the window as it left it, however far it was away", async () => {
        const limit = limitOf({ amount: 100n });
        await ledger.configure(rulesOf([limit]));
        await ledger.apply([reserveOf("1"), settleOf("1", 100n)]);
        for (const days of [1, 30, 3_650]) {
          const atMs = NOON_MS + days * 24 * HOUR_MS;
          await ledger.apply([reserveOf(`far-${days}`, { atMs }), settleOf(`far-${days}`, 100n, { atMs })]);
        }

        expect(await outcomesOf([reserveOf("back", { usd: 1n })])).toEqual(["denied"]);
        expect(await totals(limit)).toEqual({ spent: 100n, reserved: 0n });
      });
    });

    describe("changed limits", () => {
      test("the limits in force are those configured last, none before", async () => {
        expect(await ledger.limits()).toEqual([]);
        await ledger.configure(rulesOf([limitOf({ amount: 1n })]));
        const last = limitOf({ amount: 2n, window: LIFETIME });
        await ledger.configure(rulesOf([last]));

        expect(await ledger.limits()).toEqual([last]);
      });

      test("a new limit starts from the calls already in its window, running ones included", async () => {
        await ledger.configure(rulesOf([limitOf({ amount: 10_000n })]));
        await ledger.apply([
          reserveOf("yesterday", { atMs: NOON_MS - 24 * HOUR_MS }),
          settleOf("yesterday", 70n),
          reserveOf("settled"),
          settleOf("settled", 40n, { result: { tokens: tokensOf(10, 5, 20) } }),
          reserveOf("voided"),
          voidOf("voided"),
          reserveOf("expired"),
          expireOf("expired"),
          reserveOf("running", { scopes: { agent: "other" } }),
        ]);
        const perAgent = limitOf({ name: "agent", per: ["agent"], amount: 1_000n });
        const reads = limitOf({ name: "tokens", measure: "tokens", cacheReads: "ignore", amount: 10_000n });
        const requests = limitOf({ name: "rate", measure: "requests", amount: 100n });
        const life = limitOf({ name: "life", window: LIFETIME, amount: 10_000n });

        await ledger.configure(rulesOf([perAgent, reads, requests, life], NOON_MS, "v2"));

        expect(await totals(perAgent, { agent: "a" })).toEqual({ spent: 140n, reserved: 0n });
        expect(await totals(perAgent, { agent: "other" })).toEqual({ spent: 0n, reserved: 100n });
        expect(await totals(reads)).toEqual({ spent: 15n + 150n, reserved: 150n });
        expect(await totals(requests)).toEqual({ spent: 3n, reserved: 0n });
        expect(await totals(life)).toEqual({ spent: 70n + 140n, reserved: 100n });

        await ledger.apply([settleOf("running", 55n), settleOf("expired", 35n)]);
        expect(await totals(perAgent, { agent: "other" })).toEqual({ spent: 55n, reserved: 0n });
        expect(await totals(perAgent, { agent: "a" })).toEqual({ spent: 75n, reserved: 0n });
        expect(await totals(life)).toEqual({ spent: 70n + 40n + 35n + 55n, reserved: 0n });
      });

      test("a new limit counts what is in the windows of every process, also where the one that adds it is a week ahead", async () => {
        await ledger.configure(rulesOf([limitOf({ amount: 10_000n })]));
        await ledger.beat(ownerOf("owner-1"));
        await ledger.apply([reserveOf("settled"), settleOf("settled", 40n), reserveOf("running")]);
        const [daily, rolling] = [
          limitOf({ name: "new", per: ["agent"], amount: 1_000n }),
          limitOf({ name: "rolling", window: { kind: "rolling", lengthMs: 60_000 }, amount: 1_000n }),
        ];

        await ledger.configure(rulesOf([daily, rolling], NOON_MS + 168 * HOUR_MS, "v2"));

        for (const limit of [daily, rolling])
          expect(await totals(limit, limit === daily ? { agent: "a" } : {})).toEqual({ spent: 40n, reserved: 100n });
      });

      test("a limit that was taken out and put back has missed nothing", async () => {
        const perAgent = limitOf({ name: "agent", per: ["agent"], amount: 1_000n });
        await ledger.configure(rulesOf([perAgent]));
        await ledger.apply([reserveOf("1"), settleOf("1", 10n), reserveOf("across")]);
        await ledger.configure(rulesOf([limitOf({ amount: 1_000n })], NOON_MS, "v2"));
        await ledger.apply([reserveOf("2"), settleOf("2", 20n), settleOf("across", 30n), reserveOf("running")]);

        await ledger.configure(rulesOf([perAgent], NOON_MS, "v3"));

        expect(await totals(perAgent, { agent: "a" })).toEqual({ spent: 60n, reserved: 100n });
      });

      test("another amount or threshold for the same counter loses nothing", async () => {
        await ledger.configure(rulesOf([limitOf({ amount: 100n })]));
        await ledger.apply([reserveOf("1"), settleOf("1", 90n)]);

        await ledger.configure(rulesOf([limitOf({ name: "renamed", amount: 150n })], NOON_MS, "v2"));

        expect(await outcomesOf([reserveOf("2", { usd: 61n }), reserveOf("3", { usd: 60n })])).toEqual(["denied", "reserved"]);
      });

      test("a call that held nothing is still charged to a limit that came while it ran", async () => {
        await ledger.configure(rulesOf([limitOf({ amount: 100n })]));
        await ledger.apply([reserveOf("free", { usd: 0n })]);
        const perAgent = limitOf({ name: "agent", per: ["agent"], amount: 1_000n });
        await ledger.configure(rulesOf([perAgent], NOON_MS, "v2"));

        await ledger.apply([settleOf("free", 7n)]);

        expect(await totals(perAgent, { agent: "a" })).toEqual({ spent: 7n, reserved: 0n });
      });
    });

    describe("reading", () => {
      test("lists calls newest first, in pages, by session and by id", async () => {
        await ledger.configure(rulesOf([limitOf({ amount: 250n })]));
        await ledger.apply([
          reserveOf("1", { scopes: { session: "x" } }),
          reserveOf("2"),
          settleOf("1", 40n),
          reserveOf("3", { scopes: { session: "x" }, usd: 900n }),
        ]);

        const all = await ledger.calls({ limit: 10 });

        expect(all.map(({ callId, status }) => [callId, status])).toEqual([
          ["3", "denied"],
          ["2", "reserved"],
          ["1", "settled"],
        ]);
        expect(all[0]).toMatchObject({
          deniedWith: { code: "limit_too_small", view: { limit: "limit", bound: 900n, amount: 250n } },
        });
        expect(all[2]).toMatchObject({
          startedAtMs: NOON_MS,
          endedAtMs: NOON_MS + 1_000,
          reservedNanoUsd: 100n,
          costNanoUsd: 40n,
          facts: { scopes: scopesOf({ session: "x" }) },
          decision: { limitsVersion: "v1", admit: { views: [{ spent: 0n, reserved: 0n, bound: 100n, ceiling: 250n }] } },
          result: { providerRequestId: "req_1" },
        });
        const page = await ledger.calls({ limit: 2 });
        const next = await ledger.calls({ limit: 2, before: page[1]?.position ?? 0 });
        expect(next.map(({ callId }) => callId)).toEqual(["1"]);
        expect((await ledger.calls({ limit: 10, session: "x" })).map(({ callId }) => callId)).toEqual(["3", "1"]);
        expect((await ledger.calls({ limit: 10, callId: "2" })).map(({ callId }) => callId)).toEqual(["2"]);
      });

      test("reports by any labels what was reserved in an interval, refusals counted beside", async () => {
        await ledger.configure(rulesOf([limitOf({ amount: 350n })]));
        await ledger.apply([
          reserveOf("1", { scopes: { agent: "a", tags: { team: "t" } } }),
          settleOf("1", 40n, { atMs: NOON_MS + HOUR_MS, result: { tokens: tokensOf(10, 5, 20) } }),
          reserveOf("2", { scopes: { agent: "b", user: "v" } }),
          expireOf("2"),
          reserveOf("3", { scopes: { agent: "b" }, usd: 900n }),
          reserveOf("running", { scopes: { agent: "a" } }),
          reserveOf("later", { atMs: NOON_MS + HOUR_MS, usd: 1n }),
        ]);
        const interval = { fromMs: NOON_MS, toMs: NOON_MS + HOUR_MS };

        expect(await ledger.report({ ...interval, by: [] })).toEqual([
          { key: {}, calls: 3, denied: 1, costNanoUsd: 140n, tokens: { ...tokensOf(110, 55, 20) } },
        ]);
        const byAgent = await ledger.report({ ...interval, by: ["agent"] });
        expect(
          new Map(byAgent.map(({ key, calls, denied, costNanoUsd }) => [key["agent"], [calls, denied, costNanoUsd]])),
        ).toEqual(
          new Map([
            ["a", [2, 0, 40n]],
            ["b", [1, 1, 100n]],
          ]),
        );
        const byTag = await ledger.report({ ...interval, by: ["tag:team", "user"] });
        expect(new Set(byTag.map(({ key, calls }) => `${key["tag:team"]} ${key["user"]} ${calls}`))).toEqual(
          new Set(["default u 1", "default v 1", "t u 1"]),
        );
        expect(await ledger.report({ fromMs: 0, toMs: 1, by: [] })).toEqual([]);
      });

      test("tells a threshold once, and lists it", async () => {
        const thresholds = [at(50n, { kind: "alert" }), at(100n, { kind: "stop" })];
        await ledger.configure(rulesOf([limitOf({ amount: 100n, thresholds })]));
        await ledger.apply([reserveOf("1", { usd: 60n }), reserveOf("2", { usd: 40n })]);

        const answers = await ledger.apply([settleOf("1", 60n), settleOf("2", 40n)]);

        expect(answers.map(({ alerts }) => alerts.map(({ threshold }) => threshold))).toEqual([["at 50"], ["at 100"]]);
        expect((await ledger.alerts({ limit: 10 })).map(({ threshold, spent }) => [threshold, spent])).toEqual([
          ["at 100", 100n],
          ["at 50", 60n],
        ]);
        expect(await ledger.alerts({ limit: 1 })).toHaveLength(1);
      });

      test.each([{}, { fit: "off" as const }])(
        "tells once that calls wait for a limit that pauses, and keeps its length (%j)",
        async (more) => {
          const upToMs = 13 * HOUR_MS;
          const thresholds = [at(100n, { kind: "pause", upToMs })];
          await ledger.configure(rulesOf([{ ...limitOf({ amount: 100n, thresholds }), ...more }]));
          await ledger.apply([reserveOf("1", { usd: 60n }), settleOf("1", 60n)]);

          const [first] = await ledger.apply([reserveOf("2", { usd: 60n })]);
          const [second] = await ledger.apply([reserveOf("3", { usd: 60n })]);
          const [hurried] = await ledger.apply([{ ...reserveOf("4", { usd: 60n }), deadlineAtMs: NOON_MS + HOUR_MS }]);

          const clearsAtMs = NOON_MS + 12 * HOUR_MS;
          expect(first).toMatchObject({
            outcome: "wait",
            untilMs: clearsAtMs,
            pause: { sinceMs: NOON_MS, alerts: [{ threshold: "at 100" }] },
          });
          expect(second).toMatchObject({ outcome: "wait", pause: { alerts: [] } });
          expect(hurried).toMatchObject({ outcome: "denied", code: "limit_reached", clearsAtMs });
          expect(await ledger.alerts({ limit: 10 })).toHaveLength(1);
          const [denied] = await ledger.calls({ limit: 1, callId: "4" });
          expect(denied?.decision?.admit.views).toMatchObject([{ pauseUpToMs: upToMs, ...more }]);
          expect(denied?.decision?.admit.views[0]?.fit).toBe(more.fit);
        },
      );

      test("says which limits are in force, the last configured", async () => {
        expect(await ledger.limits()).toEqual([]);
        await ledger.configure(rulesOf([limitOf({ amount: 1n })]));
        const last = [limitOf({ name: "a", amount: 100n, unbounded: 7n }), limitOf({ name: "b", amount: 2n, window: LIFETIME })];

        await ledger.configure(rulesOf(last, NOON_MS, "v2"));

        expect(await ledger.limits()).toEqual(last);
      });
    });

    describe("owners and keys", () => {
      test("knows who holds what, until it is told to forget", async () => {
        await ledger.configure(rulesOf([limitOf({ amount: 1_000n })]));
        await ledger.beat(ownerOf("owner-1"));
        await ledger.beat(ownerOf("owner-2"));
        await ledger.beat(ownerOf("owner-1", NOON_MS + 5_000));
        await ledger.apply([reserveOf("1"), reserveOf("2", { ownerId: "owner-2" }), renewOf("2", 60n, [90, 40])]);

        expect(await ledger.owners()).toEqual([ownerOf("owner-1", NOON_MS + 5_000), ownerOf("owner-2")]);
        expect((await ledger.openCalls()).map(({ callId }) => callId)).toEqual(["1", "2"]);
        expect(await ledger.openCalls("owner-2")).toMatchObject([
          { callId: "2", usdBound: 60n, inputTokensBound: 90, outputTokensBound: 40, charges: [{ reserved: 60n }] },
        ]);

        await ledger.removeOwner("owner-2");
        expect((await ledger.owners()).map(({ ownerId }) => ownerId)).toEqual(["owner-1"]);
      });

      test("keeps batches until they are forgotten, each under a name of its own", async () => {
        const open = batchOf("one");
        expect(await ledger.addBatch(open)).toBe(true);
        expect(await ledger.addBatch({ ...open, keyId: "other" })).toBe(false);
        await ledger.addBatch({ ...batchOf("two"), submittedAtMs: NOON_MS - 1, keyId: "key" });
        await ledger.updateBatch({ ...open, batchId: "msgbatch_1", endedAtMs: NOON_MS + 9 });
        await ledger.updateBatch(batchOf("none"));

        expect(await ledger.batches()).toEqual([
          { ...batchOf("two"), submittedAtMs: NOON_MS - 1, keyId: "key" },
          { ...open, batchId: "msgbatch_1", endedAtMs: NOON_MS + 9 },
        ]);
        const names = async (query: Parameters<Ledger["batches"]>[0]): Promise<string[]> =>
          (await ledger.batches(query)).map(({ submissionId }) => submissionId);
        expect(await names({ isOpen: true })).toEqual(["two"]);
        expect(await names({ batchId: "msgbatch_1" })).toEqual(["one"]);
        expect(await names({ batchId: "msgbatch_2" })).toEqual([]);
        await ledger.removeBatch("one");
        expect((await ledger.batches()).map(({ submissionId }) => submissionId)).toEqual(["two"]);
      });

      test("keeps keys without their secrets, and revokes one once", async () => {
        await ledger.createKey(keyOf("one"));
        await ledger.createKey({ ...keyOf("two"), createdAtMs: NOON_MS + 1, expiresAtMs: NOON_MS + HOUR_MS });

        expect(await ledger.revokeKey({ keyId: "one", atMs: NOON_MS + 9 })).toBe(true);
        expect(await ledger.revokeKey({ keyId: "one", atMs: NOON_MS + 10 })).toBe(false);
        expect(await ledger.revokeKey({ keyId: "none", atMs: NOON_MS })).toBe(false);
        await expect(ledger.createKey(keyOf("one"))).rejects.toThrow("exists");
        expect(await ledger.keys()).toEqual([
          { ...keyOf("one"), revokedAtMs: NOON_MS + 9 },
          { ...keyOf("two"), createdAtMs: NOON_MS + 1, expiresAtMs: NOON_MS + HOUR_MS },
        ]);
      });
    });

    describe("a batch", () => {
      const usd = limitOf({ name: "usd", amount: 1_000n });
      const rate = limitOf({ name: "rate", measure: "requests", amount: 2n, window: MINUTE });
      const daily = limitOf({ name: "daily", measure: "requests", amount: 10n });
      const slots = limitOf({ name: "slots", measure: "concurrency", amount: 1n, window: LIFETIME });

      test("is reserved whole, and every line settles by itself", async () => {
        await ledger.configure(rulesOf([usd, rate, daily, slots]));

        expect(await outcomesOf(batchOfLines("b", [400n, 300n, 300n]))).toEqual(["reserved", "reserved", "reserved"]);
        expect(await totals(usd)).toEqual({ spent: 0n, reserved: 1_000n });
        expect(await totals(rate)).toEqual({ spent: 1n, reserved: 0n });
        expect(await totals(daily)).toEqual({ spent: 3n, reserved: 0n });
        expect(await totals(slots)).toEqual({ spent: 0n, reserved: 0n });

        await ledger.apply([settleOf("b-0", 10n), voidOf("b-1"), settleOf("b-2", 30n)]);
        expect(await totals(usd)).toEqual({ spent: 40n, reserved: 0n });
        expect(await ledger.openCalls("b")).toEqual([]);
      });

      test("that does not fit by one is refused whole, with what all of it asks for, and changes nothing", async () => {
        await ledger.configure(rulesOf([usd, daily]));

        const [first, ...others] = await ledger.apply(batchOfLines("b", [400n, 300n, 301n]));

        expect(first).toMatchObject({ outcome: "denied", code: "limit_too_small", view: { limit: "usd", bound: 1_001n } });
        expect(others.map(({ outcome }) => outcome)).toEqual(["left_out", "left_out"]);
        expect(await totals(usd)).toBeUndefined();
        expect(await totals(daily)).toBeUndefined();
        expect(await ledger.openCalls()).toEqual([]);
      });

      test("waits for what calls in flight hold, whole", async () => {
        await ledger.configure(rulesOf([usd]));
        await ledger.apply([reserveOf("running", { usd: 1n })]);

        expect(await outcomesOf(batchOfLines("b", [500n, 500n]))).toEqual(["wait", "left_out"]);
        await ledger.apply([voidOf("running")]);
        expect(await outcomesOf(batchOfLines("b", [500n, 500n]))).toEqual(["reserved", "reserved"]);
      });

      test("is refused by a limit that only a later line counts for", async () => {
        await ledger.configure(rulesOf([limitOf({ name: "dear", per: ["model"], where: DEAR, amount: 500n })]));

        const [first] = await ledger.apply(batchOfLines("b", [100n, 501n], ["cheap", "dear"]));
        expect(first).toMatchObject({ outcome: "denied", view: { limit: "dear", bound: 501n } });
        expect(await outcomesOf(batchOfLines("c", [100n, 500n], ["cheap", "dear"]))).toEqual(["reserved", "reserved"]);
      });

      test("takes no lines under a first line of somebody else's", async () => {
        await ledger.configure(rulesOf([usd]));
        await ledger.apply([reserveOf("b-0")]);

        expect(await outcomesOf(batchOfLines("b", [1n, 1n]))).toEqual(["duplicate", "left_out"]);
      });
    });

    test("a day limit and what it counts can be told by its zone alone", async () => {
      const utc = limitOf({ amount: 100n });
      const tokyo = limitOf({ name: "tokyo", amount: 100n, window: { ...DAY, timeZone: "Asia/Tokyo" } as typeof DAY });
      await ledger.configure(rulesOf([utc, tokyo]));
      // 12:00 in UTC is 21:00 in Tokyo; four hours later it is the next day there.
      await ledger.apply([reserveOf("1"), settleOf("1", 100n)]);

      expect(await totals(tokyo, {}, NOON_MS + 4 * HOUR_MS)).toEqual({ spent: 0n, reserved: 0n });
      expect(await totals(utc, {}, NOON_MS + 4 * HOUR_MS)).toEqual({ spent: 100n, reserved: 0n });
    });
  });
}
