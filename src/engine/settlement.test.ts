/** What every end of a call is settled at: the table of design §10, a row at a time, then what must hold for all of them. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Candidate } from "../core/decisions/call.ts";
import { NO_TOKENS, type TokenParts, type Usage } from "../core/usage/usage.ts";
import { anthropic } from "../providers/anthropic/anthropic.ts";
import type { MeterReading } from "../providers/provider.ts";
import { candidatesFor } from "./candidates.ts";
import { book, factsOf, START_MS, type RequestInput } from "./engine.fixture.ts";
import { OUTPUT_TOKENS_PER_SECOND_MAX, renewedBounds, resultOf, type CallEnd, type SettlementInput } from "./settlement.ts";

/** $4 / $20 per million tokens; cache reads $0.20, writes $5 and $8; fast mode twice, US only 1.1 times; searches $0.01. */
const MODEL = "claude-opus-5-5";

function usageOf(tokens: Partial<TokenParts>, more: Partial<Usage> = {}): Usage {
  return {
    samplings: [{ kind: "message", model: MODEL, tokens: { ...NO_TOKENS, ...tokens } }],
    webSearchRequests: 0,
    serviceTier: "standard",
    speed: "standard",
    isUsOnly: false,
    flags: [],
    ...more,
  };
}

function readingOf(usage: Usage | undefined, more: Partial<MeterReading> = {}): MeterReading {
  return { usage, isFinal: false, model: MODEL, stopReason: undefined, error: undefined, ...more };
}

const FINAL = readingOf(usageOf({ uncachedInputTokens: 1_000, outputTokens: 100 }), { isFinal: true, stopReason: "end_turn" });
/** What a stream has said after its first event. */
const STARTED = readingOf(usageOf({ uncachedInputTokens: 1_000, outputTokens: 2 }));
const NOTHING = readingOf(undefined, { model: undefined });

interface Setting extends Partial<SettlementInput> {
  request?: RequestInput;
}

function inputOf(end: CallEnd, { request = {}, ...more }: Setting = {}): SettlementInput {
  const facts = factsOf({ model: MODEL, more: { inference_geo: "global" }, ...request });
  const [candidate] = candidatesFor({
    provider: anthropic,
    facts,
    book,
    downgrade: new Map(),
    onUnpricedModel: "deny",
    atMs: START_MS,
  });
  if (candidate === undefined) throw new Error("no candidate");
  return {
    end,
    candidate,
    facts,
    provider: "anthropic",
    book,
    onUnpricedModel: "deny",
    sentAtMs: START_MS,
    endedAtMs: START_MS + 200,
    providerRequestId: "req_1",
    ...more,
  };
}

const settled = (end: CallEnd, setting?: Setting) => resultOf(inputOf(end, setting));
/** Input bound of the plain request: one token per byte. */
const BOUND = inputOf({ kind: "lost", by: "upstream" }).candidate.inputTokensBound;
/** 0.2 s and one second more at 500 tokens a second. */
const TIMED = 600;
const usd = (input: number, output: number): bigint => BigInt(input) * 4_000n + BigInt(output) * 20_000n;

test.each<[string, CallEnd]>([
  ["whose answer was lost", { kind: "lost", by: "caller" }],
  [
    "that broke off with an error",
    { kind: "completed", status: 200, reading: readingOf(undefined, { error: { type: "x", message: "" } }) },
  ],
])("work in the background %s goes on: it is counted at the whole bound", (_, end) => {
  const { facts, ...input } = inputOf(end);
  const result = resultOf({ ...input, facts: { ...facts, isBackground: true } });

  expect([result.costNanoUsd, result.flags]).toEqual([usd(BOUND, 1_000), ["unknown"]]);
});

describe("the table of design §10", () => {
  const rows: [string, CallEnd, Setting, { cost: bigint; input: number; output: number; flags: string[] }][] = [
    [
      "final usage is taken as it is",
      { kind: "completed", status: 200, reading: FINAL },
      {},
      { cost: usd(1_000, 100), input: 1_000, output: 100, flags: [] },
    ],
    [
      "final usage is taken although the connection broke after it",
      { kind: "cut", status: 200, reading: FINAL, by: "upstream" },
      {},
      { cost: usd(1_000, 100), input: 1_000, output: 100, flags: [] },
    ],
    [
      "usage that came with the stop reason is final, though the last event is missing",
      { kind: "cut", status: 200, reading: { ...FINAL, isFinal: false }, by: "caller" },
      {},
      { cost: usd(1_000, 100), input: 1_000, output: 100, flags: [] },
    ],
    [
      "final usage that fell keeps its flag, and is not exact",
      { kind: "completed", status: 200, reading: { ...FINAL, usage: usageOf({ outputTokens: 5 }, { flags: ["usage_fell"] }) } },
      {},
      { cost: usd(0, 5), input: 0, output: 5, flags: ["usage_fell"] },
    ],
    [
      "final usage of zero is zero, and not missing",
      { kind: "completed", status: 200, reading: { ...FINAL, usage: usageOf({}, { samplings: [] }) } },
      {},
      { cost: 0n, input: 0, output: 0, flags: [] },
    ],
    [
      "the provider's error answer costs nothing",
      { kind: "completed", status: 529, reading: readingOf(undefined, { error: { type: "overloaded_error", message: "" } }) },
      {},
      { cost: 0n, input: 0, output: 0, flags: ["unbilled_error"] },
    ],
    [
      "an error answer that breaks off is an error answer",
      { kind: "cut", status: 500, reading: NOTHING, by: "upstream" },
      {},
      { cost: 0n, input: 0, output: 0, flags: ["unbilled_error"] },
    ],
    [
      "an error event before anything was generated costs nothing",
      { kind: "completed", status: 200, reading: readingOf(undefined, { error: { type: "overloaded_error", message: "" } }) },
      {},
      { cost: 0n, input: 0, output: 0, flags: ["unbilled_error"] },
    ],
    [
      "an error event after the first report is a stream that was cut",
      { kind: "completed", status: 200, reading: { ...STARTED, error: { type: "api_error", message: "" } } },
      {},
      { cost: usd(1_000, TIMED), input: 1_000, output: TIMED, flags: ["estimated"] },
    ],
    [
      "lost after sending: input bound and the output that time allows",
      { kind: "lost", by: "upstream" },
      {},
      { cost: usd(BOUND, TIMED), input: BOUND, output: TIMED, flags: ["unknown"] },
    ],
    [
      "the caller left before an answer began: the same",
      { kind: "lost", by: "caller" },
      {},
      { cost: usd(BOUND, TIMED), input: BOUND, output: TIMED, flags: ["unknown"] },
    ],
    [
      "an answer that came whole and says nothing of its usage: the whole bound, however fast it was written",
      { kind: "completed", status: 200, reading: NOTHING },
      {},
      { cost: usd(BOUND, 1_000), input: BOUND, output: 1_000, flags: ["unknown"] },
    ],
    [
      "usage with a figure that is no count: the same, whatever else it says",
      {
        kind: "completed",
        status: 200,
        reading: { ...FINAL, usage: usageOf({ outputTokens: 1 }, { flags: ["malformed_usage"] }) },
      },
      {},
      { cost: usd(BOUND, 1_000), input: BOUND, output: 1_000, flags: ["unknown", "malformed_usage"] },
    ],
    [
      "a stream that was cut: reported input and the output that time allows",
      { kind: "cut", status: 200, reading: STARTED, by: "upstream" },
      {},
      { cost: usd(1_000, TIMED), input: 1_000, output: TIMED, flags: ["estimated"] },
    ],
    [
      "the caller left in the middle: the same",
      { kind: "cut", status: 200, reading: STARTED, by: "caller" },
      {},
      { cost: usd(1_000, TIMED), input: 1_000, output: TIMED, flags: ["estimated"] },
    ],
    [
      "a stream that ends without its end was cut",
      { kind: "completed", status: 200, reading: STARTED },
      {},
      { cost: usd(1_000, TIMED), input: 1_000, output: TIMED, flags: ["estimated"] },
    ],
    [
      "the output that time allows is at most max_tokens",
      { kind: "cut", status: 200, reading: STARTED, by: "caller" },
      { endedAtMs: START_MS + 3_600_000 },
      { cost: usd(1_000, 1_000), input: 1_000, output: 1_000, flags: ["estimated"] },
    ],
    [
      "and at least what was reported",
      {
        kind: "cut",
        status: 200,
        reading: readingOf(usageOf({ uncachedInputTokens: 1_000, outputTokens: 900 })),
        by: "caller",
      },
      {},
      { cost: usd(1_000, 900), input: 1_000, output: 900, flags: ["estimated"] },
    ],
  ];

  test.each(rows)("%s", (_, end, setting, expected) => {
    const result = settled(end, setting);

    expect(result.costNanoUsd).toBe(expected.cost);
    expect(result.tokens.uncachedInputTokens).toBe(expected.input);
    expect(result.tokens.outputTokens).toBe(expected.output);
    expect(result.flags).toEqual(expected.flags);
    const isExact = expected.flags.length === 0 || expected.flags.includes("unbilled_error");
    expect(result.isEstimated).toBe(!isExact);
    expect(result.providerRequestId).toBe("req_1");
    expect(result.status).toBe(end.kind === "lost" ? undefined : end.status);
  });
});

describe("what is not known is the dearest it can be", () => {
  const lost: CallEnd = { kind: "lost", by: "upstream" };

  test.each<[string, RequestInput, keyof TokenParts, bigint]>([
    ["no cache mark", {}, "uncachedInputTokens", 4_000n],
    ["a 5-minute mark", { more: { cache_control: { type: "ephemeral" } } }, "cacheWrite5mTokens", 5_000n],
    ["a 1-hour mark", { more: { cache_control: { type: "ephemeral", ttl: "1h" } } }, "cacheWrite1hTokens", 8_000n],
  ])("input under %s", (_, { more }, part, price) => {
    const input = inputOf(lost, { request: { more: { inference_geo: "global", ...more } } });
    const result = resultOf(input);

    expect(result.tokens[part]).toBe(input.candidate.inputTokensBound);
    expect(result.costNanoUsd).toBe(BigInt(input.candidate.inputTokensBound) * price + BigInt(TIMED) * 20_000n);
  });

  test("output in fast mode comes two and a half times as fast, at the price of fast mode", () => {
    const input = inputOf(lost, { request: { maxTokens: 4_000, more: { speed: "fast", inference_geo: "global" } } });
    const result = resultOf(input);

    expect(result.tokens.outputTokens).toBe(1.2 * OUTPUT_TOKENS_PER_SECOND_MAX * 2.5);
    expect(result.costNanoUsd).toBe(2n * usd(input.candidate.inputTokensBound, 1_500));
  });

  test("where the request does not say where it runs, the surcharge is assumed", () => {
    const input = inputOf(lost, { request: { more: {} } });
    const result = resultOf(input);

    expect(result.costNanoUsd).toBe((usd(input.candidate.inputTokensBound, TIMED) * 11n) / 10n);
  });

  test("searches are all that the tool's cap allows", () => {
    const tools = [{ type: "web_search_20250305", name: "web_search", max_uses: 3 }];
    const input = inputOf(lost, { request: { more: { tools, inference_geo: "global" } } });
    const result = resultOf(input);

    expect(result.webSearchRequests).toBe(3);
    expect(result.costNanoUsd).toBe(usd(input.candidate.inputTokensBound, TIMED) + 30_000_000n);
  });

  test("a cut loop of the provider's own may have read its input with every step, and searched as often as it may", () => {
    const tools = [{ type: "web_search_20250305", name: "web_search", max_uses: 2 }];
    const end: CallEnd = { kind: "cut", status: 200, reading: STARTED, by: "upstream" };
    const input = inputOf(end, { request: { more: { tools, inference_geo: "global" } } });
    const result = resultOf(input);

    expect(result.tokens.uncachedInputTokens).toBe(input.candidate.inputTokensBound);
    expect(result.webSearchRequests).toBe(2);
    expect(result.costNanoUsd).toBe(usd(input.candidate.inputTokensBound, TIMED) + 20_000_000n);
  });

  test("what nothing bounds is counted at what was reserved for it", () => {
    const tools = [{ type: "web_search_20250305", name: "web_search" }];
    const end: CallEnd = { kind: "cut", status: 200, reading: STARTED, by: "upstream" };
    const input = inputOf(end, { request: { more: { tools } } });
    const usdBound = 2_000_000_000n as NonNullable<Candidate["usdBound"]>;
    const result = resultOf({
      ...input,
      candidate: { ...input.candidate, usdBound: ((input.candidate.usdBound ?? 0n) + usdBound) as typeof usdBound },
    });

    expect(result.costNanoUsd).toBe((input.candidate.usdBound ?? 0n) + usdBound);
    expect(result.flags).toEqual(["estimated", "at_bound"]);
  });

  test("several samplings keep what each reported, and the last one writes what time allows beyond them", () => {
    const sampling = (outputTokens: number) => ({
      kind: "message" as const,
      model: MODEL,
      tokens: { ...NO_TOKENS, uncachedInputTokens: 10, outputTokens },
    });
    const usage = usageOf({}, { samplings: [sampling(250), sampling(1)] });
    const result = settled({ kind: "cut", status: 200, reading: readingOf(usage), by: "upstream" });

    expect(result.tokens).toMatchObject({ uncachedInputTokens: 20, outputTokens: TIMED });
  });
});

describe("prices", () => {
  const completed: CallEnd = { kind: "completed", status: 200, reading: FINAL };
  const unknownModel = "claude-nobody-knows-1";
  const unknown: CallEnd = {
    kind: "completed",
    status: 200,
    reading: {
      ...FINAL,
      usage: usageOf(
        { outputTokens: 10 },
        { samplings: [{ kind: "message", model: unknownModel, tokens: { ...NO_TOKENS, outputTokens: 10 } }] },
      ),
    },
  };

  test("are those of the sending", () => {
    const atMs: number[] = [];
    const watching = {
      ...book,
      find: (provider: string, model: string, asOfMs: number) => (atMs.push(asOfMs), book.find(provider, model, asOfMs)),
    };
    resultOf(inputOf(completed, { book: watching, sentAtMs: START_MS - 5_000 }));

    expect(new Set(atMs)).toEqual(new Set([START_MS - 5_000]));
  });

  test("that nobody knows leave the cost unknown, never zero", () => {
    const result = resultOf(inputOf(unknown));

    expect(result.costNanoUsd).toBeUndefined();
    expect(result.flags).toEqual(["unpriced"]);
    expect(result.isEstimated).toBe(true);
    expect(result.tokens.outputTokens).toBe(10);
  });

  test("that nobody knows are the dearest of the provider where the configuration says so", () => {
    const result = resultOf(inputOf(unknown, { onUnpricedModel: "dearest" }));

    expect(result.costNanoUsd).toBeGreaterThan(usd(0, 10));
    expect(result.flags).toEqual(["dearest_price"]);
    expect(result.isEstimated).toBe(true);
  });

  test("of a meter that this version does not know leave the cost unknown", () => {
    const usage = usageOf({ outputTokens: 10 }, { flags: ["unknown_meter"] });
    const result = settled({ kind: "completed", status: 200, reading: { ...FINAL, usage } });

    expect(result.costNanoUsd).toBeUndefined();
    expect(result.flags).toEqual(["unknown_meter", "unpriced"]);
  });
});

describe("a running call's bound", () => {
  const boundsOf = (reading: MeterReading, request: RequestInput = {}) => {
    const { candidate, facts } = inputOf({ kind: "lost", by: "upstream" }, { request });
    return renewedBounds(reading, candidate, facts);
  };

  test("is the reported input and all the output it may still write", () => {
    const reading = readingOf(usageOf({ uncachedInputTokens: 5, cacheReadTokens: 7, outputTokens: 1 }));

    expect(boundsOf(reading)).toMatchObject({
      inputTokensBound: 12,
      outputTokensBound: 1_000,
      usage: { samplings: [{ tokens: { uncachedInputTokens: 5, cacheReadTokens: 7, outputTokens: 1_000 } }] },
    });
  });

  test.each<[string, MeterReading, RequestInput]>([
    ["nothing was reported", NOTHING, {}],
    ["the answer has ended", FINAL, {}],
    ["what was counted has no price", { ...STARTED, usage: usageOf({ outputTokens: 1 }, { flags: ["unknown_meter"] }) }, {}],
    ["the provider may loop", STARTED, { more: { tools: [{ type: "web_search_20250305", name: "web_search", max_uses: 1 }] } }],
    ["a part is unbounded", STARTED, { more: { tools: [{ type: "web_search_20250305", name: "web_search" }] } }],
  ])("stays as it is where %s", (_, reading, request) => {
    expect(boundsOf(reading, request)).toBeUndefined();
  });
});

test("however a call ends, it costs no less than was reported, and nothing only where nothing was billed", () => {
  const tokens = fc.record({
    uncachedInputTokens: fc.nat(5_000),
    cacheReadTokens: fc.nat(5_000),
    cacheWrite5mTokens: fc.nat(5_000),
    cacheWrite1hTokens: fc.nat(5_000),
    outputTokens: fc.nat(1_000),
    reasoningOutputTokens: fc.constant(0),
  });
  const ends = fc.record({
    tokens,
    kind: fc.constantFrom("completed" as const, "cut" as const),
    isFinal: fc.boolean(),
    elapsedMs: fc.nat(100_000),
    flag: fc.constantFrom(undefined, "usage_fell" as const, "message_restarted" as const),
  });
  fc.assert(
    fc.property(ends, ({ tokens: each, kind, isFinal, elapsedMs, flag }) => {
      const reading = readingOf(usageOf(each, { flags: flag === undefined ? [] : [flag] }), { isFinal });
      const end = { kind, status: 200, reading, by: "upstream" as const };
      const result = settled(end, { endedAtMs: START_MS + elapsedMs });
      const exact = settled({ kind: "completed", status: 200, reading: { ...reading, isFinal: true } });

      expect(result.costNanoUsd).toBeGreaterThanOrEqual(exact.costNanoUsd ?? 0n);
      expect(result.flags.includes("estimated")).toBe(!isFinal);
      for (const part of ["uncachedInputTokens", "cacheReadTokens", "outputTokens"] as const) {
        expect(result.tokens[part]).toBeGreaterThanOrEqual(each[part]);
      }
      expect(result.tokens.outputTokens).toBeLessThanOrEqual(Math.max(each.outputTokens, 1_000));
    }),
  );
});

test("the bound that was reserved holds whatever is assumed of a call that was lost", () => {
  const requests = fc.record({
    model: fc.constantFrom("claude-opus-5-5", "claude-haiku-5-5", "claude-sonnet-4-5", "claude-fable-5-2"),
    maxTokens: fc.integer({ min: 1, max: 8_000 }),
    text: fc.string({ maxLength: 3_000 }),
    cache: fc.constantFrom(undefined, { type: "ephemeral" }, { type: "ephemeral", ttl: "1h" }),
    geo: fc.constantFrom(undefined, "us", "global"),
    usesMax: fc.constantFrom(undefined, 1, 4),
    elapsedMs: fc.nat(600_000),
  });
  fc.assert(
    fc.property(requests, ({ model, maxTokens, text, cache, geo, usesMax, elapsedMs }) => {
      const more = {
        ...(cache === undefined ? {} : { cache_control: cache }),
        ...(geo === undefined ? {} : { inference_geo: geo }),
        ...(usesMax === undefined ? {} : { tools: [{ type: "web_search_20250305", name: "web_search", max_uses: usesMax }] }),
      };
      const input = inputOf(
        { kind: "lost", by: "upstream" },
        { request: { model, maxTokens, text: `x${text}`, more }, endedAtMs: START_MS + elapsedMs },
      );
      const { costNanoUsd } = resultOf(input);
      if (input.candidate.usdBound === undefined) return;
      expect(costNanoUsd).toBeLessThanOrEqual(input.candidate.usdBound);
      expect(costNanoUsd).toBeGreaterThan(0n);
    }),
  );
});
