import { describe, expect, test } from "vitest";
import { NO_TOKENS, sumTokens, totalInputTokens, type TokenParts, type Usage } from "./usage.ts";

const TOKENS: TokenParts = {
  uncachedInputTokens: 1,
  cacheReadTokens: 20,
  cacheWrite5mTokens: 300,
  cacheWrite1hTokens: 4_000,
  outputTokens: 50_000,
  reasoningOutputTokens: 40_000,
};

describe("tokens in disjoint parts", () => {
  test("have all input in four of them, and none of the output", () => {
    expect(totalInputTokens(TOKENS)).toBe(4_321);
  });

  test("add up over the samplings of a call, part by part", () => {
    const sampling = { kind: "message" as const, model: "m", tokens: TOKENS };
    const usage: Usage = {
      samplings: [sampling, { ...sampling, kind: "advisor" }],
      webSearchRequests: 0,
      serviceTier: undefined,
      speed: undefined,
      isUsOnly: false,
      flags: [],
    };
    expect(sumTokens(usage)).toEqual({
      uncachedInputTokens: 2,
      cacheReadTokens: 40,
      cacheWrite5mTokens: 600,
      cacheWrite1hTokens: 8_000,
      outputTokens: 100_000,
      reasoningOutputTokens: 80_000,
    });
    expect(sumTokens({ ...usage, samplings: [] })).toEqual(NO_TOKENS);
    expect(NO_TOKENS.outputTokens).toBe(0);
  });
});
