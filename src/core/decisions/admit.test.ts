import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { admit, type AdmitInput, type LimitView, type Pace } from "./admit.ts";

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
