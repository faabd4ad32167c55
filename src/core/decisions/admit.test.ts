import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ZERO_USD } from "../money/money.ts";
import { admit, type AdmitInput, type FitInput, type LimitView, type Pace } from "./admit.ts";

const NOW_MS = 1_000_000;

/** A limit of 100 that is empty, asked for 10. */
function viewOf(view: Partial<LimitView> = {}): LimitView {
  return {
    limit: "limit",
    scope: {},
    counterId: "all usd@day:UTC",
    measure: "usd",
    amount: 100n,
    ceiling: 100n,
    graceCeiling: undefined,
    spent: 0n,
    reserved: 0n,
    bound: 10n,
    windowEndMs: NOW_MS + 3_600_000,
    clearsAtMs: NOW_MS + 3_600_000,
    ...view,
  };
}

function decide(views: Partial<LimitView>[], input: Partial<AdmitInput> = {}) {
  return admit({
    views: views.map(viewOf),
    paces: [],
    heldBack: new Set(),
    isPriceKnown: true,
    unboundedParts: [],
    nowMs: NOW_MS,
    ...input,
  });
}

describe("one limit", () => {
  test.each([
    ["one below the limit", { spent: 89n }, "admitted"],
    ["exactly the limit", { spent: 90n }, "admitted"],
    ["one above the limit", { spent: 91n }, "denied"],
    ["all of the limit at once", { bound: 100n }, "admitted"],
    ["more than the limit at once", { bound: 101n }, "denied"],
    ["reserved up to the limit", { spent: 50n, reserved: 40n }, "admitted"],
    ["reserved above the limit", { spent: 50n, reserved: 41n }, "wait"],
    ["a limit of zero", { ceiling: 0n, bound: 1n }, "denied"],
    ["nothing under a limit of zero", { ceiling: 0n, bound: 0n }, "admitted"],
    ["a limit that never refuses", { ceiling: undefined, spent: 1_000n }, "admitted"],
    ["an overrun before", { spent: 130n, bound: 1n }, "denied"],
    ["what is free, when all money is spent", { spent: 130n, bound: 0n }, "admitted"],
    ["no tokens, when all tokens are spent", { measure: "tokens", spent: 130n, bound: 0n }, "denied"],
  ] as const)("%s", (_what, view, outcome) => {
    expect(decide([view]).outcome).toBe(outcome);
  });

  test("a bound above the limit itself is final, whatever was spent", () => {
    expect(decide([{ bound: 101n, clearsAtMs: NOW_MS + 1 }])).toMatchObject({
      by: { code: "limit_too_small", clearsAtMs: Infinity },
    });
  });

  test.each([
    [10_000, "wait"],
    [10_001, "rate_limited"],
    [59_000, "rate_limited"],
    [59_001, "limit_reached"],
    [Infinity, "limit_reached"],
  ] as const)("spent that clears in %d ms: %s", (ms, expected) => {
    const admission = decide([{ spent: 95n, clearsAtMs: NOW_MS + ms }]);

    expect(admission.outcome === "denied" ? admission.by.code : admission.outcome).toBe(expected);
  });

  test.each([
    [true, "unbounded_cost"],
    [false, "unpriced_model"],
  ] as const)("what nothing bounds is refused by a limit that refuses, price known: %s", (isPriceKnown, code) => {
    expect(decide([{ bound: undefined }], { isPriceKnown })).toMatchObject({ outcome: "denied", by: { code } });
    expect(decide([{ bound: undefined, ceiling: undefined }], { isPriceKnown }).outcome).toBe("admitted");
  });
});

describe("several limits", () => {
  test("one that refuses beats one that waits", () => {
    expect(decide([{ reserved: 95n }, { limit: "full", spent: 95n }])).toMatchObject({
      outcome: "denied",
      by: { view: { limit: "full" } },
    });
  });

  test("the refusal names the limit that clears last, and a final one before all", () => {
    const soon = { limit: "soon", spent: 95n, clearsAtMs: NOW_MS + 20_000 };
    const late = { limit: "late", spent: 95n, clearsAtMs: NOW_MS + 90_000 };
    const later = { limit: "later", spent: 95n, clearsAtMs: NOW_MS + 99_000 };
    const small = { limit: "small", bound: 200n };

    expect(decide([soon, late, later])).toMatchObject({ by: { view: { limit: "later" }, code: "limit_reached" } });
    expect(decide([soon, small, later])).toMatchObject({ by: { view: { limit: "small" }, code: "limit_too_small" } });
  });

  test("a wait names every counter that blocks, and when time alone may help", () => {
    const reserved = { counterId: "a", reserved: 95n, windowEndMs: NOW_MS + 30_000 };
    const spent = { counterId: "b", spent: 95n, clearsAtMs: NOW_MS + 5_000 };
    const free = { counterId: "c" };

    expect(decide([reserved, spent, free])).toEqual({ outcome: "wait", blockedOn: ["a", "b"], untilMs: NOW_MS + 5_000 });
    expect(decide([reserved, free])).toEqual({ outcome: "wait", blockedOn: ["a"], untilMs: NOW_MS + 30_000 });
  });
});

test("a call does not pass an earlier one that waits on a counter they share", () => {
  const heldBack = new Set(["a"]);

  expect(decide([{ counterId: "a" }], { heldBack })).toMatchObject({ outcome: "wait", blockedOn: ["a"] });
  expect(decide([{ counterId: "b" }], { heldBack }).outcome).toBe("admitted");
});

describe("grace", () => {
  test("lets a session go on above the limit, up to its second ceiling", () => {
    expect(decide([{ spent: 95n, graceCeiling: 105n }])).toEqual({ outcome: "admitted", isGraced: true });
    expect(decide([{ spent: 96n, graceCeiling: 105n }]).outcome).toBe("denied");
    expect(decide([{ spent: 90n, graceCeiling: 105n }])).toEqual({ outcome: "admitted", isGraced: false });
  });
});

describe("fit", () => {
  /** One nano-dollar and one token for each token of output, on top of ten of input. */
  const line = { fixed: 10n * 10n ** 14n, perOutputToken: 10n ** 14n, searches: ZERO_USD };
  const fit: FitInput = { askedMaxTokens: 50, leastMaxTokens: 20, inputTokensBound: 10, usd: line };
  const bound = 60n;

  test.each([
    ["what fits as it is, as it was asked", { spent: 40n }, { outcome: "admitted", isGraced: false }],
    ["one less where one is missing", { spent: 41n }, { outcome: "admitted", isGraced: false, maxTokens: 49 }],
    ["its smallest useful form", { spent: 70n }, { outcome: "admitted", isGraced: false, maxTokens: 20 }],
    [
      "more than is there at once, but never more than ever",
      { bound: 160n },
      { outcome: "admitted", isGraced: false, maxTokens: 90 },
    ],
    ["as much as calls in flight leave", { spent: 41n, reserved: 9n }, { outcome: "admitted", isGraced: false, maxTokens: 40 }],
  ] as const)("admits %s", (_what, view, expected) => {
    const asked = Number(("bound" in view ? view.bound : bound) - 10n);

    expect(decide([{ bound, ...view }], { fit: { ...fit, askedMaxTokens: asked } })).toEqual(expected);
  });

  test.each([
    ["room that calls in flight hold, where it fits whole without them", { spent: 40n, reserved: 1n }],
    ["room for its smallest useful form", { spent: 41n, reserved: 30n }],
  ])("waits for %s", (_what, view) => {
    expect(decide([{ bound, ...view }], { fit }).outcome).toBe("wait");
  });

  test("refuses only what would not fit in its smallest useful form with nothing in flight", () => {
    expect(decide([{ bound, spent: 71n }], { fit })).toMatchObject({ outcome: "denied", by: { code: "limit_reached" } });
    expect(decide([{ bound, ceiling: 29n }], { fit })).toMatchObject({ outcome: "denied", by: { code: "limit_too_small" } });
  });

  test("a limit with `fit: off` takes the call as it was asked, or not at all", () => {
    expect(decide([{ bound, spent: 41n, fit: "off" }], { fit })).toMatchObject({ outcome: "denied" });
    expect(
      decide(
        [
          { bound, spent: 41n },
          { bound, spent: 40n, fit: "off" },
        ],
        { fit },
      ),
    ).toMatchObject({ maxTokens: 49 });
  });

  test("fits the tightest of several limits, of money and of tokens", () => {
    const money = { bound, spent: 45n };
    const tokens = { bound, spent: 50n, measure: "tokens" as const };
    const output = { bound: 50n, ceiling: 38n, measure: "outputTokens" as const };

    expect(decide([money, tokens, output], { fit })).toMatchObject({ maxTokens: 38 });
    expect(decide([money, tokens], { fit })).toMatchObject({ maxTokens: 40 });
    expect(decide([money], { fit })).toMatchObject({ maxTokens: 45 });
  });

  test("does not pass an earlier call that waits on the same counter", () => {
    expect(decide([{ bound, spent: 41n, counterId: "a" }], { fit, heldBack: new Set(["a"]) })).toMatchObject({ outcome: "wait" });
  });

  test("whatever the figures: the most that all limits afford, found by trying each size", () => {
    const amount = fc.bigInt({ min: 0n, max: 100n });
    const view = fc.record({
      spent: amount,
      reserved: amount,
      ceiling: amount,
      measure: fc.constantFrom("usd" as const, "tokens" as const, "outputTokens" as const),
      fit: fc.constantFrom(undefined, undefined, "off" as const),
    });
    const tally: Record<string, number> = {};

    fc.assert(
      fc.property(fc.array(view, { minLength: 1, maxLength: 3 }), (some) => {
        const boundOf = (measure: string, tokens: number) => BigInt(measure === "outputTokens" ? tokens : tokens + 10);
        const views = some.map(({ fit: off, ...one }, index) => ({
          ...one,
          ...(off === undefined ? {} : { fit: off }),
          counterId: `c${index}`,
          bound: boundOf(one.measure, 50),
        }));
        const fits = (tokens: number, holds: (one: { reserved: bigint }) => bigint, isOffWhole: boolean): boolean =>
          views.every((one) => {
            const size = one.fit === "off" && isOffWhole ? 50 : tokens;
            return one.spent + holds(one) + boundOf(one.measure, size) <= one.ceiling;
          });
        const none = (): bigint => 0n;
        const all = ({ reserved }: { reserved: bigint }): bigint => reserved;
        const sizes = Array.from({ length: 31 }, (_none, index) => 50 - index);
        // Only the limits that fit choose the size; the others take what comes of it, or are waited for.
        const chosen = sizes.find((tokens) =>
          views.every((one) => one.fit === "off" || one.spent + one.reserved + boundOf(one.measure, tokens) <= one.ceiling),
        );
        const now = chosen !== undefined && fits(chosen, all, false) ? chosen : undefined;
        const expected = !fits(20, none, true)
          ? "denied"
          : fits(50, none, true)
            ? fits(50, all, true)
              ? "50"
              : "wait"
            : now === undefined
              ? "wait"
              : String(now);

        const admission = decide(views, { fit });
        const found = admission.outcome === "admitted" ? String(admission.maxTokens ?? 50) : admission.outcome;
        tally[expected] = (tally[expected] ?? 0) + 1;

        expect(found).toBe(expected);
      }),
      { numRuns: 2_000 },
    );
    // A run in which nothing was made smaller, or nothing waited, proves nothing.
    const smaller = Object.keys(tally).filter((what) => Number(what) < 50);
    expect([smaller.length > 0, (tally["wait"] ?? 0) > 0, (tally["50"] ?? 0) > 0]).toEqual([true, true, true]);
  });
});

describe("throttle", () => {
  const pace = (change: Partial<Pace>): Pace => ({
    key: "pace",
    limit: "limit",
    intervalMs: 2_000,
    nextStartMs: 0,
    notBeforeMs: 0,
    grantedStartMs: undefined,
    ...change,
  });

  test.each([
    ["a free start", { nextStartMs: NOW_MS }, { outcome: "admitted", isGraced: false }],
    ["the next start", { nextStartMs: NOW_MS + 1 }, { outcome: "throttled", startAtMs: NOW_MS + 1 }],
    ["a start 30 s away", { nextStartMs: NOW_MS + 30_000 }, { outcome: "throttled", startAtMs: NOW_MS + 30_000 }],
    ["a start given before", { nextStartMs: NOW_MS + 9_000, grantedStartMs: NOW_MS }, { outcome: "admitted", isGraced: false }],
    [
      "a start given before, behind one that was late",
      { grantedStartMs: NOW_MS, notBeforeMs: NOW_MS + 50 },
      { outcome: "throttled", startAtMs: NOW_MS + 50 },
    ],
  ] as const)("%s", (_what, change, expected) => {
    expect(decide([{}], { paces: [pace(change)] })).toEqual(expected);
  });

  test("a start more than 30 s away is refused with the time to come back", () => {
    expect(decide([{}], { paces: [pace({ nextStartMs: NOW_MS + 30_001 })] })).toMatchObject({
      outcome: "denied",
      by: { code: "rate_limited", clearsAtMs: NOW_MS + 1, view: { limit: "limit" } },
    });
  });
});

test("whatever the figures: admitted means room everywhere, and a refusal for want of room means some limit is spent", () => {
  const amount = fc.bigInt({ min: 0n, max: 20n });
  const view = fc.record({ spent: amount, reserved: amount, bound: amount, ceiling: fc.option(amount, { nil: undefined }) });

  fc.assert(
    fc.property(fc.array(view, { maxLength: 4 }), (views) => {
      const limits = views.map((one, index) => ({ ...one, counterId: `c${index}` }));
      // What costs nothing takes nothing: a money limit does not look at it.
      const refusing = limits.filter(({ ceiling, bound }) => ceiling !== undefined && bound !== 0n);
      const has = (ceiling: bigint | undefined, need: bigint): boolean => need <= (ceiling ?? 0n);

      const { outcome } = decide(limits);

      // What is free is served under any money limit.
      const counting = refusing.filter(({ bound }) => bound > 0n);
      const hasRoom = counting.every(({ spent, reserved, bound, ceiling }) => has(ceiling, spent + reserved + bound));
      const isSpent = counting.some(({ spent, bound, ceiling }) => !has(ceiling, spent + bound));
      expect(outcome).toBe(hasRoom ? "admitted" : isSpent ? "denied" : "wait");
    }),
  );
});

describe("a limit that pauses", () => {
  const MINUTE_MS = 60_000;
  const spent = { spent: 91n, clearsAtMs: NOW_MS + 10 * MINUTE_MS, pauseUpToMs: 15 * MINUTE_MS };

  test("makes a call wait for it to clear, and says since when", () => {
    expect(decide([spent])).toMatchObject({
      outcome: "wait",
      untilMs: NOW_MS + 10 * MINUTE_MS,
      pause: { sinceMs: NOW_MS, by: { spent: 91n } },
    });
    expect(decide([spent], { pausedSinceMs: NOW_MS - 5 * MINUTE_MS })).toMatchObject({
      pause: { sinceMs: NOW_MS - 5 * MINUTE_MS },
    });
  });

  test.each([
    ["it clears too late", { clearsAtMs: NOW_MS + 15 * MINUTE_MS + 1 }, {}],
    ["it never clears", { clearsAtMs: Infinity }, {}],
    ["the call waits for too long already", {}, { pausedSinceMs: NOW_MS - 5 * MINUTE_MS - 1 }],
    ["its caller leaves before", {}, { deadlineAtMs: NOW_MS + 10 * MINUTE_MS - 1 }],
  ] as const)("refuses where %s", (_why, view, input) => {
    const clearsAtMs = "clearsAtMs" in view ? view.clearsAtMs : spent.clearsAtMs;
    expect(decide([{ ...spent, ...view }], input)).toMatchObject({
      outcome: "denied",
      by: { code: "limit_reached", clearsAtMs },
    });
  });

  test("is like any other where it has room, where calls in flight hold it, and where it clears in a moment", () => {
    expect(decide([{ ...spent, spent: 90n }]).outcome).toBe("admitted");
    expect(decide([{ ...spent, spent: 80n, reserved: 20n }])).toMatchObject({ outcome: "wait" });
    expect(decide([{ ...spent, spent: 80n, reserved: 20n }])).not.toHaveProperty("pause");
    expect(decide([{ ...spent, clearsAtMs: NOW_MS + 10_000 }])).not.toHaveProperty("pause");
    expect(decide([{ ...spent, bound: 101n }])).toMatchObject({ by: { code: "limit_too_small" } });
  });

  test("gives way to one that refuses", () => {
    expect(decide([spent, { spent: 100n, limit: "hard" }])).toMatchObject({ outcome: "denied", by: { view: { limit: "hard" } } });
  });
});
