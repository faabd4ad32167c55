import { describe, expect, test } from "vitest";
import { candidateOf, reserveOf } from "../../../test/contract/samples.ts";
import type { CallFacts, Candidate } from "./call.ts";
import { emptySessionState, type SessionState } from "./counters.ts";
import { CALLS_WITHOUT_TURN_MAX, chooseModel } from "./downgrade.ts";

const asked = candidateOf({ model: "big", canonicalModel: "big", tenCallsNanoUsd: 100n });
const cheaper = candidateOf({ model: "small", canonicalModel: "small", tenCallsNanoUsd: 20n });
const START = { hasAssistantTurn: false, isAnsweringTool: false, hasThinking: false };
const ANSWERING = { hasAssistantTurn: true, isAnsweringTool: true, hasThinking: false };

function choose(input: {
  candidates?: Candidate[];
  history?: CallFacts["history"];
  session?: Partial<SessionState>;
  isDue?: boolean;
}) {
  const { candidates = [asked, cheaper], history = START, session = {}, isDue = true } = input;
  const call = { ...reserveOf("call").call, history };
  return chooseModel({ call, candidates, session: { ...emptySessionState(), ...session }, isDue });
}

test("nothing changes before a threshold asks for it", () => {
  expect(choose({ isDue: false })).toEqual({ kind: "as_asked" });
});

test("a new conversation switches at once", () => {
  expect(choose({})).toEqual({ kind: "downgraded", candidate: cheaper, isFirst: true });
});

describe("in the middle of tool calls", () => {
  test("waits for a message of the user's own", () => {
    expect(choose({ history: ANSWERING })).toEqual({ kind: "postponed" });
    expect(choose({ history: { ...ANSWERING, isAnsweringTool: false } })).toMatchObject({ kind: "downgraded" });
  });

  test("switches after ten calls without one, if no thinking forbids it", () => {
    const before = { callsSinceDowngradeDue: CALLS_WITHOUT_TURN_MAX - 1 };
    const after = { callsSinceDowngradeDue: CALLS_WITHOUT_TURN_MAX };

    expect(choose({ history: ANSWERING, session: before })).toEqual({ kind: "postponed" });
    expect(choose({ history: ANSWERING, session: after })).toMatchObject({ kind: "downgraded" });
    expect(choose({ history: { ...ANSWERING, hasThinking: true }, session: after })).toEqual({ kind: "postponed" });
  });
});

test("a session that was switched stays switched, also when nothing asks for it any more", () => {
  const session = { downgraded: new Map([["big", "small"]]) };

  expect(choose({ isDue: false, history: ANSWERING, session })).toEqual({
    kind: "downgraded",
    candidate: cheaper,
    isFirst: false,
  });
});

describe("skips", () => {
  test.each([
    ["where ten more calls would cost the same", [asked, { ...cheaper, tenCallsNanoUsd: 100n }], "not be cheaper"],
    ["where the cheaper model's price is unknown", [asked, { ...cheaper, tenCallsNanoUsd: undefined }], "not be cheaper"],
    ["where it does not take the request", [asked, { ...cheaper, rejectedBy: "no images" }], "small: no images"],
    ["where none is configured", [asked], "no cheaper model is configured"],
  ])("%s", (_what, candidates, reason) => {
    expect(choose({ candidates })).toEqual({ kind: "skipped", reason: expect.stringContaining(reason) });
  });

  test("to the second one where the first does not take the request", () => {
    const third = candidateOf({ model: "tiny", canonicalModel: "tiny", tenCallsNanoUsd: 5n });

    expect(choose({ candidates: [asked, { ...cheaper, rejectedBy: "no images" }, third] })).toMatchObject({ candidate: third });
  });
});
