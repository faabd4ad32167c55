import * as fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { NO_TOKENS, toCostNanoUsd, toCostParts, type Consumption, type Sampling } from "./bill.ts";
import { findModel } from "./models.ts";
import { ask, question, readEvents } from "./raw.fixture.ts";
import { startSimulator, type Simulator } from "./simulator.ts";

const NOVEMBER = Date.parse("2026-11-22T12:00:00Z");

function consume(sampling: Partial<Sampling>, more: Partial<Consumption> = {}): Consumption {
  return {
    samplings: [{ kind: "message", modelId: "claude-opus-5-5", ...NO_TOKENS, ...sampling }],
    webSearchRequests: 0,
    speed: "standard",
    serviceTier: "standard",
    inferenceGeo: "global",
    atMs: NOVEMBER,
    ...more,
  };
}

describe("the cost of what was consumed", () => {
  it.each([
    // 60,000 × $4/M = $0.24; 1,536 × $20/M = $0.03072; together $0.27072.
    ["the night story's call", consume({ inputTokens: 60_000, outputTokens: 1_536 }), 270_720_000n],
    // The same on Haiku 5.5: 60,000 × $0.10/M = $0.006; 1,536 × $0.50/M = $0.000768.
    ["the same on Haiku 5.5", consume({ modelId: "claude-haiku-5-5", inputTokens: 60_000, outputTokens: 1_536 }), 6_768_000n],
    // 100,000 is the last prompt of the lower tier: 100,000 × $0.10/M = $0.01; 1,000 × $0.50/M = $0.0005.
    [
      "Haiku 5.5 at its tier's edge",
      consume({ modelId: "claude-haiku-5-5", inputTokens: 100_000, outputTokens: 1_000 }),
      10_500_000n,
    ],
    // One token more moves all of it: 1 × $0.50 + 60,000 × $0.05 (read) + 40,000 × $0.625 (write), per M, + 1,000 × $2.50/M.
    [
      "Haiku 5.5 above it, cached tokens counted",
      consume({
        modelId: "claude-haiku-5-5",
        inputTokens: 1,
        cacheReadTokens: 60_000,
        cacheWrite5mTokens: 40_000,
        outputTokens: 1_000,
      }),
      30_500_500n,
    ],
    // 7 × $4 + 11 × $0.20 + 13 × $5 + 17 × $8 + 19 × $20 = $611.2 per M = 611,200 nano-dollars.
    [
      "all parts of Opus 5.5",
      consume({ inputTokens: 7, cacheReadTokens: 11, cacheWrite5mTokens: 13, cacheWrite1hTokens: 17, outputTokens: 19 }),
      611_200n,
    ],
    // A read of Haiku 5.5 is $0.01/M = 10 nano; in batch 5; in the US 11; both 5.5, so 6.
    [
      "a fraction, rounded up once",
      consume({ modelId: "claude-haiku-5-5", cacheReadTokens: 1 }, { inferenceGeo: "us", serviceTier: "batch" }),
      6n,
    ],
    // Three of them are 16.5, so 17, not 18.
    [
      "three fractions, rounded up once",
      consume({ modelId: "claude-haiku-5-5", cacheReadTokens: 3 }, { inferenceGeo: "us", serviceTier: "batch" }),
      17n,
    ],
    // Fast Opus 5: (1,000 × $10 + 100 × $50) per M = $0.015; in the US × 1.1.
    [
      "fast mode in the US",
      consume({ modelId: "claude-opus-5", inputTokens: 1_000, outputTokens: 100 }, { speed: "fast", inferenceGeo: "us" }),
      16_500_000n,
    ],
    // (1,000 × $3 + 100 × $15) per M = $0.0045, half of it in batch; two searches at $0.01 are not halved.
    [
      "batch with searches",
      consume(
        { modelId: "claude-sonnet-4-6", inputTokens: 1_000, outputTokens: 100 },
        { serviceTier: "batch", webSearchRequests: 2 },
      ),
      22_250_000n,
    ],
    // The advisor is billed by its own model: 100 × $8/M + 10 × $40/M = $0.0012, beside 10 × $2/M + 1 × $10/M = $0.00003.
    [
      "an advisor of another model",
      {
        ...consume({}),
        samplings: [
          { kind: "message", modelId: "claude-sonnet-5-5", ...NO_TOKENS, inputTokens: 10, outputTokens: 1 },
          { kind: "advisor_message", modelId: "claude-fable-5-2", ...NO_TOKENS, inputTokens: 100, outputTokens: 10 },
        ],
      } satisfies Consumption,
      1_230_000n,
    ],
    // A declined attempt without output is free: only 100 × $5/M + 10 × $25/M = $0.00075 of the fallback is left.
    [
      "a fallback after a refusal",
      {
        ...consume({}),
        samplings: [
          { kind: "message", modelId: "claude-fable-5-2", ...NO_TOKENS, inputTokens: 100 },
          { kind: "fallback_message", modelId: "claude-opus-5", ...NO_TOKENS, inputTokens: 100, outputTokens: 10 },
        ],
      } satisfies Consumption,
      750_000n,
    ],
  ])("is the sum written out by hand for %s", (_, consumption, nanoUsd) => {
    expect(toCostNanoUsd(consumption)).toBe(nanoUsd);
  });

  // Typed a second time from the published table, so that a slip in the first has to be made twice: input, five-minute write,
  // one-hour write, read, output, in US dollars per million tokens.
  it.each([
    ["claude-fable-5-2", 8, 10, 16, 0.2, 40],
    ["claude-fable-5-1", 10, 12.5, 20, 0.25, 50],
    ["claude-fable-5", 10, 12.5, 20, 1, 50],
    ["claude-opus-5-5", 4, 5, 8, 0.2, 20],
    ["claude-opus-5", 5, 6.25, 10, 0.5, 25],
    ["claude-opus-4-8", 5, 6.25, 10, 0.5, 25],
    ["claude-opus-4-7", 5, 6.25, 10, 0.5, 25],
    ["claude-opus-4-6", 5, 6.25, 10, 0.5, 25],
    ["claude-opus-4-5-20251101", 5, 6.25, 10, 0.5, 25],
    ["claude-sonnet-5-5", 2, 2.5, 4, 0.1, 10],
    ["claude-sonnet-5", 2, 2.5, 4, 0.2, 10],
    ["claude-sonnet-4-6", 3, 3.75, 6, 0.3, 15],
    ["claude-sonnet-4-5-20250929", 3, 3.75, 6, 0.3, 15],
    ["claude-haiku-5-5", 0.1, 0.125, 0.2, 0.01, 0.5],
    ["claude-haiku-4-5-20251001", 1, 1.25, 2, 0.1, 5],
  ])("has the published prices of %s", (modelId, ...printed) => {
    const meters = ["inputTokens", "cacheWrite5mTokens", "cacheWrite1hTokens", "cacheReadTokens", "outputTokens"] as const;

    // A thousand tokens, so that Haiku 5.5 stays in its lower tier: a thousandth of the price per million.
    const costs = meters.map((meter) => Number(toCostNanoUsd(consume({ modelId, [meter]: 1_000 }))));

    expect(costs).toEqual(printed.map((usd) => Math.round(usd * 1e6)));
    expect(findModel(modelId)?.id).toBe(modelId);
  });

  it("takes the cache read of Sonnet 5.5 from the row in force that day", () => {
    const before = consume(
      { modelId: "claude-sonnet-5-5", cacheReadTokens: 1_000_000 },
      { atMs: Date.parse("2026-10-06T23:59:59.999Z") },
    );
    const after = consume(
      { modelId: "claude-sonnet-5-5", cacheReadTokens: 1_000_000 },
      { atMs: Date.parse("2026-10-07T00:00:00Z") },
    );

    expect(toCostNanoUsd(before)).toBe(200_000_000n);
    expect(toCostNanoUsd(after)).toBe(100_000_000n);
  });

  it("throws for a model without a price instead of billing nothing", () => {
    expect(() => toCostNanoUsd(consume({ modelId: "claude-unknown" }))).toThrow('no price for model "claude-unknown"');
    expect(() => toCostNanoUsd(consume({ modelId: "claude-sonnet-5" }, { speed: "fast" }))).toThrow("at speed fast");
  });

  it("adds up the same however a sampling's tokens are divided, to one rounding", () => {
    const tokens = fc.integer({ min: 0, max: 2_000_000 });
    fc.assert(
      fc.property(tokens, tokens, fc.constantFrom("us", "global"), fc.constantFrom("standard", "batch"), (a, b, geo, tier) => {
        const more = { inferenceGeo: geo, serviceTier: tier } as const;
        const whole = toCostParts(consume({ outputTokens: a + b }, more)).outputPicoUsd;
        const parts = [a, b].map((outputTokens) => toCostParts(consume({ outputTokens }, more)).outputPicoUsd);
        expect(parts.reduce((sum, part) => sum + part, 0n)).toBe(whole);
      }),
    );
  });
});

describe("the bill", () => {
  let simulator: Simulator;
  beforeEach(async () => {
    simulator = await startSimulator({ now: () => NOVEMBER });
  });
  afterEach(() => simulator.close());

  const billed = { "x-simulator-input-tokens": "60000", "x-simulator-output-tokens": "1536" };

  it.each([false, true])("holds exactly the tokens that headers asked for (stream: %s)", async (stream) => {
    await ask(simulator, { headers: billed, body: question({ max_tokens: 2_048, stream }) });

    const line = simulator.bill.forRequest(simulator.requests[0]?.requestId ?? "");
    expect(line).toMatchObject({
      model: "claude-opus-5-5",
      atMs: NOVEMBER,
      inputPicoUsd: 240_000_000_000n,
      outputPicoUsd: 30_720_000_000n,
      costNanoUsd: 270_720_000n,
      reportedCostNanoUsd: 270_720_000n,
      reported: "truth",
      reason: "answered",
    });
    expect(simulator.bill.totalNanoUsd).toBe(270_720_000n);
  });

  it("caps the output at max_tokens, says so, and bills no more", async () => {
    const { body } = await ask(simulator, { headers: billed, body: question({ max_tokens: 100 }) });

    expect(JSON.parse(body.toString())).toMatchObject({ stop_reason: "max_tokens", usage: { output_tokens: 100 } });
    // 60,000 × $4/M + 100 × $20/M.
    expect(simulator.bill.totalNanoUsd).toBe(242_000_000n);
  });

  it("bills a refused call nothing, on a line of its own", async () => {
    simulator.next({ kind: "status", status: 529 });
    await ask(simulator);

    expect(simulator.bill.lines).toMatchObject([
      { model: "claude-opus-5-5", costNanoUsd: 0n, reported: "nothing", reason: "refused" },
    ]);
  });

  it("has no lines for counting tokens and listing models", async () => {
    await ask(simulator, { path: "/v1/messages/count_tokens" });
    await ask(simulator, { method: "GET", path: "/v1/models" });

    expect(simulator.requests).toHaveLength(2);
    expect(simulator.bill.lines).toEqual([]);
  });

  it("bills every sampling of a search loop, and the stream's last usage exceeds its first", async () => {
    simulator.next({ kind: "answer", inputTokens: 1_000, outputTokens: 30, searches: 2, searchResultTokens: 500 });
    const { body } = await ask(simulator, { body: question({ stream: true }) });

    const events = readEvents(body);
    expect(events[0]?.data).toMatchObject({ message: { usage: { input_tokens: 1_000 } } });
    // 1,000 + 1,500 + 2,000: each sampling reads the prompt and all results so far.
    expect(events.at(-2)?.data).toMatchObject({
      usage: { input_tokens: 4_500, output_tokens: 30, server_tool_use: { web_search_requests: 2 } },
    });
    // 4,500 × $4/M + 30 × $20/M + 2 × $0.01.
    expect(simulator.bill.lines).toMatchObject([{ costNanoUsd: 38_600_000n, reported: "truth" }]);
  });

  it("bills compaction that the totals leave out, and a report without iterations is an untruth", async () => {
    const iterations = [{ kind: "compaction", inputTokens: 60_000, outputTokens: 500 }] as const;
    simulator.next({ kind: "answer", inputTokens: 1_000, outputTokens: 10, iterations });
    simulator.next({ kind: "answer", inputTokens: 1_000, outputTokens: 10, iterations, showIterations: false });
    const { body } = await ask(simulator);
    await ask(simulator);

    expect(JSON.parse(body.toString())).toMatchObject({
      usage: {
        input_tokens: 1_000,
        output_tokens: 10,
        iterations: [
          { type: "compaction", input_tokens: 60_000, output_tokens: 500 },
          { type: "message", input_tokens: 1_000, output_tokens: 10 },
        ],
      },
    });
    // (61,000 × $4 + 510 × $20) per M; the totals alone are (1,000 × $4 + 10 × $20) per M.
    expect(simulator.bill.lines).toMatchObject([
      { costNanoUsd: 254_200_000n, reportedCostNanoUsd: 254_200_000n, reported: "truth" },
      { costNanoUsd: 254_200_000n, reportedCostNanoUsd: 4_200_000n, reported: "untruth" },
    ]);
  });
});
