import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { NO_TOKENS, type Sampling, type TokenParts } from "../../core/usage/usage.ts";
import { fromUsage, TOKENS_MAX, type ReadUsageOptions } from "./usage.ts";

const MODEL = "claude-opus-5-5";
const PLAIN = { input_tokens: 100, output_tokens: 50 };

const read = (json: unknown, options?: ReadUsageOptions) => fromUsage(json, MODEL, options);
const tokensOf = (json: unknown, options?: ReadUsageOptions): TokenParts | undefined => read(json, options).samplings[0]?.tokens;
const sampling = (kind: Sampling["kind"], model: string, tokens: Partial<TokenParts>): Sampling => ({
  kind,
  model,
  tokens: { ...NO_TOKENS, ...tokens },
});

describe("reading usage", () => {
  test("keeps the parts apart: input_tokens holds neither cache reads nor writes", () => {
    const usage = {
      ...PLAIN,
      cache_read_input_tokens: 2_000,
      cache_creation_input_tokens: 700,
      cache_creation: { ephemeral_5m_input_tokens: 300, ephemeral_1h_input_tokens: 400 },
      output_tokens_details: { thinking_tokens: 30 },
      service_tier: "standard",
      speed: "fast",
      inference_geo: "us",
    };
    expect(read(usage)).toEqual({
      samplings: [
        sampling("message", MODEL, {
          uncachedInputTokens: 100,
          cacheReadTokens: 2_000,
          cacheWrite5mTokens: 300,
          cacheWrite1hTokens: 400,
          outputTokens: 50,
          reasoningOutputTokens: 30,
        }),
      ],
      webSearchRequests: 0,
      serviceTier: "standard",
      speed: "fast",
      isUsOnly: true,
      flags: [],
    });
  });

  test.each([
    ["null", null],
    ["absent", undefined],
  ])("reads what is %s as not said, without a flag", (_, nothing) => {
    const usage = {
      ...PLAIN,
      cache_creation_input_tokens: nothing,
      cache_read_input_tokens: nothing,
      cache_creation: nothing,
      server_tool_use: nothing,
      service_tier: nothing,
      speed: nothing,
      inference_geo: nothing,
      iterations: nothing,
    };
    expect(read(usage)).toMatchObject({ serviceTier: undefined, speed: undefined, isUsOnly: false, flags: [] });
  });

  test("bills nothing where everything is explicitly zero", () => {
    expect(read({ input_tokens: 0, output_tokens: 0 })).toMatchObject({ samplings: [], flags: [] });
  });

  test("counts searches, and doubts the tier of a loop without its samplings", () => {
    const usage = { ...PLAIN, server_tool_use: { web_search_requests: 3, web_fetch_requests: 1 } };
    expect(read(usage)).toMatchObject({ webSearchRequests: 3, flags: ["tier_of_total"] });
    expect(read({ ...PLAIN, server_tool_use: { web_search_requests: 0 } }).flags).toEqual([]);
  });
});

describe("cache writes of unknown lifetime", () => {
  const unsplit = { ...PLAIN, cache_creation_input_tokens: 700 };
  const grown = { ...unsplit, cache_creation: { ephemeral_5m_input_tokens: 0, ephemeral_1h_input_tokens: 500 } };
  test.each<[string, unknown, ReadUsageOptions["cacheWrites"], number, number, string[]]>([
    ["are 5-minute ones where the request can write no others", unsplit, "5m", 700, 0, []],
    ["are taken as 1-hour ones where the request can write those", unsplit, "1h", 0, 700, ["cache_ttl_unknown"]],
    ["are 5-minute ones, doubted, where the request is not known", unsplit, undefined, 700, 0, ["cache_ttl_unknown"]],
    ["are doubted where the request asked for none", unsplit, "none", 700, 0, ["cache_ttl_unknown"]],
    ["beyond a split are the dearer kind that is in use", grown, undefined, 0, 700, ["cache_ttl_unknown"]],
    ["beyond a split are 5-minute ones where only those can be", grown, "5m", 200, 500, []],
  ])("%s", (_, usage, cacheWrites, cacheWrite5mTokens, cacheWrite1hTokens, flags) => {
    expect(tokensOf(usage, { cacheWrites })).toMatchObject({ cacheWrite5mTokens, cacheWrite1hTokens });
    expect(read(usage, { cacheWrites }).flags).toEqual(flags);
  });

  test("keep the split where its total is smaller, flagged", () => {
    const usage = { ...unsplit, cache_creation: { ephemeral_5m_input_tokens: 900, ephemeral_1h_input_tokens: 0 } };
    expect(tokensOf(usage)).toMatchObject({ cacheWrite5mTokens: 900, cacheWrite1hTokens: 0 });
    expect(read(usage).flags).toEqual(["usage_contradicts"]);
  });

  test("take the split alone where no total is said", () => {
    const usage = { ...PLAIN, cache_creation: { ephemeral_5m_input_tokens: 9, ephemeral_1h_input_tokens: 1 } };
    expect(tokensOf(usage)).toMatchObject({ cacheWrite5mTokens: 9, cacheWrite1hTokens: 1 });
    expect(read(usage).flags).toEqual([]);
  });

  test("count a lifetime this version does not know with the rest", () => {
    const usage = { ...unsplit, cache_creation: { ephemeral_24h_input_tokens: 700 } };
    expect(tokensOf(usage)).toMatchObject({ cacheWrite5mTokens: 700 });
    expect(read(usage).flags).toEqual(["cache_ttl_unknown"]);
  });
});

describe("iterations", () => {
  const entry = (type: string, input: number, output: number, model?: string) => ({
    type,
    input_tokens: input,
    output_tokens: output,
    ...(model === undefined ? {} : { model }),
  });

  test("are each billed by their own model; totals leave advisor and compaction out", () => {
    const usage = {
      input_tokens: 2_390,
      output_tokens: 121,
      iterations: [
        entry("message", 1_128, 110),
        entry("advisor_message", 2_518, 22, "claude-opus-4-8"),
        entry("compaction", 55_196, 125),
        entry("message", 1_262, 11),
      ],
    };
    expect(read(usage)).toMatchObject({
      samplings: [
        sampling("message", MODEL, { uncachedInputTokens: 1_128, outputTokens: 110 }),
        sampling("advisor", "claude-opus-4-8", { uncachedInputTokens: 2_518, outputTokens: 22 }),
        sampling("compaction", MODEL, { uncachedInputTokens: 55_196, outputTokens: 125 }),
        sampling("message", MODEL, { uncachedInputTokens: 1_262, outputTokens: 11 }),
      ],
      flags: [],
    });
  });

  test("give a server-tool loop its own sizes, so its tier is not doubted", () => {
    const usage = {
      ...PLAIN,
      server_tool_use: { web_search_requests: 1 },
      iterations: [entry("message", 60, 30), entry("message", 40, 20)],
    };
    expect(read(usage)).toMatchObject({ webSearchRequests: 1, flags: [] });
  });

  test("count a cache pre-warm, which has no output", () => {
    const usage = { input_tokens: 10, output_tokens: 0, iterations: [entry("message", 10, 0)] };
    expect(read(usage).samplings).toEqual([sampling("message", MODEL, { uncachedInputTokens: 10 })]);
  });

  test("do not bill a fallback's attempt that declined before any output", () => {
    const usage = {
      input_tokens: 412,
      output_tokens: 264,
      iterations: [entry("message", 408, 0, "claude-fable-5"), entry("fallback_message", 412, 264, "claude-opus-4-8")],
    };
    expect(read(usage).samplings).toEqual([
      sampling("fallback", "claude-opus-4-8", { uncachedInputTokens: 412, outputTokens: 264 }),
    ]);
  });

  test("bill an attempt that declined half-way, at the model that was asked for", () => {
    const usage = {
      input_tokens: 412,
      output_tokens: 264,
      iterations: [entry("message", 408, 17), entry("fallback_message", 412, 264, "claude-opus-4-8")],
    };
    expect(read(usage, { requestedModel: "claude-fable-5" }).samplings).toEqual([
      sampling("message", "claude-fable-5", { uncachedInputTokens: 408, outputTokens: 17 }),
      sampling("fallback", "claude-opus-4-8", { uncachedInputTokens: 412, outputTokens: 264 }),
    ]);
  });

  test("are completed by what the totals hold beyond them, flagged", () => {
    const usage = {
      input_tokens: 150,
      output_tokens: 70,
      cache_creation_input_tokens: 8,
      iterations: [entry("message", 100, 50)],
    };
    expect(read(usage, { cacheWrites: "5m" })).toMatchObject({
      samplings: [
        sampling("message", MODEL, { uncachedInputTokens: 100, outputTokens: 50 }),
        sampling("message", MODEL, { uncachedInputTokens: 50, outputTokens: 20, cacheWrite5mTokens: 8 }),
      ],
      flags: ["usage_contradicts"],
    });
  });

  test("of an unknown kind are billed by the model they name, flagged", () => {
    const usage = { ...PLAIN, iterations: [entry("message", 100, 50), entry("referee", 7, 3, "claude-haiku-5-5")] };
    expect(read(usage)).toMatchObject({
      samplings: [{ model: MODEL }, sampling("message", "claude-haiku-5-5", { uncachedInputTokens: 7, outputTokens: 3 })],
      flags: ["unknown_meter"],
    });
  });

  test.each([[{}], ["x"], [[1, null]]])(
    "that are no list of objects (%j) leave the totals as they are, flagged",
    (iterations) => {
      expect(read({ ...PLAIN, iterations })).toMatchObject({
        samplings: [sampling("message", MODEL, { uncachedInputTokens: 100, outputTokens: 50 })],
        flags: ["malformed_usage"],
      });
    },
  );
});

describe("special bills", () => {
  test("a refusal before any output is not billed, one after output is", () => {
    const refused = { input_tokens: 18, output_tokens: 0 };
    expect(read(refused, { stopReason: "refusal" }).samplings).toEqual([]);
    expect(read({ ...refused, output_tokens: 5 }, { stopReason: "refusal" }).samplings).toHaveLength(1);
    expect(read(refused, { stopReason: "max_tokens" }).samplings).toHaveLength(1);
  });

  test("a redeemed fallback credit bills cache writes as reads", () => {
    const usage = { ...PLAIN, cache_creation_input_tokens: 700, fallback_credit: { status: { type: "redeemed" } } };
    expect(tokensOf(usage)).toMatchObject({ cacheReadTokens: 700, cacheWrite5mTokens: 0 });
    const refused = { ...usage, fallback_credit: { status: { type: "not_applied", reason: "expired" } } };
    expect(tokensOf(refused)).toMatchObject({ cacheReadTokens: 0, cacheWrite5mTokens: 700 });
  });
});

describe("what this version does not know", () => {
  test.each<[string, Record<string, unknown>]>([
    ["a count under another name", { audio_tokens: 12 }],
    ["a server tool with a price of its own", { server_tool_use: { code_execution_requests: 1 } }],
    ["a service tier", { service_tier: "platinum" }],
    ["a speed", { speed: "ludicrous" }],
    ["a place of inference", { inference_geo: "moon" }],
  ])("is flagged: %s", (_, more) => {
    expect(read({ ...PLAIN, ...more }).flags).toContain("unknown_meter");
  });
});

describe("a broken breakdown of the output", () => {
  test.each<[string, unknown, number]>([
    ["more thinking than output", 51, 50],
    ["negative thinking", -1, 0],
    ["thinking as text", "30", 0],
  ])("leaves the output as it is: %s", (_, thinking, reasoningOutputTokens) => {
    const usage = { ...PLAIN, output_tokens_details: { thinking_tokens: thinking } };
    expect(tokensOf(usage)).toMatchObject({ outputTokens: 50, reasoningOutputTokens });
    expect(read(usage).flags).toEqual(["usage_contradicts"]);
  });
});

describe("malformed usage", () => {
  test.each<[string, unknown]>([
    ["negative", -5],
    ["a fraction", 1.5],
    ["text", "100"],
    ["1e308", 1e308],
    ["more than a call can have", TOKENS_MAX + 1],
    ["true", true],
    ["a list", [1]],
    ["an object", {}],
  ])("leaves out a figure that is %s and flags it", (_, figure) => {
    expect(tokensOf({ input_tokens: figure, output_tokens: 50 })).toMatchObject({ uncachedInputTokens: 0, outputTokens: 50 });
    for (const key of ["input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens"]) {
      expect(read({ ...PLAIN, [key]: figure }).flags).toEqual(["malformed_usage"]);
    }
  });

  test.each([null, undefined, 7, "usage", [], true])("reads %j as no usage at all, flagged", (json) => {
    expect(read(json)).toMatchObject({ samplings: [], flags: ["malformed_usage"] });
  });

  test("never throws, and every part is a whole number at or above 0", () => {
    const keys =
      "input_tokens output_tokens cache_read_input_tokens cache_creation_input_tokens cache_creation iterations server_tool_use";
    const figure = fc.oneof(fc.jsonValue(), fc.nat(), fc.double(), fc.constantFrom("us", "batch", "message", "refusal"));
    const shape = fc.dictionary(
      fc.constantFrom(...keys.split(" "), "type", "__proto__", "output_tokens_details"),
      fc.oneof(figure, fc.array(fc.dictionary(fc.constantFrom(...keys.split(" "), "type", "model"), figure))),
    );
    fc.assert(
      fc.property(fc.oneof(shape, fc.jsonValue()), (json) => {
        for (const { tokens } of read(json, { cacheWrites: "1h", stopReason: "refusal" }).samplings) {
          for (const count of Object.values(tokens)) expect(Number.isSafeInteger(count) && count >= 0).toBe(true);
        }
      }),
      { numRuns: 2_000 },
    );
  });
});
