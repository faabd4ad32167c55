/**
 * Whole answers, from bytes to dollars, against sums done by hand: every mix of stream or not, cache parts, server tool or not, service
 * tier, and under or over the long-context threshold. Prices of claude-haiku-5-5 per million tokens, in / 5m / 1h / read / out:
 * 0.10 / 0.125 / 0.20 / 0.01 / 0.50 up to 100,000 tokens of input, 0.50 / 0.625 / 1 / 0.05 / 2.50 above.
 */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { readShippedRows } from "../../../test/figures/shipped-prices.ts";
import { formatUsd } from "../../core/money/money.ts";
import { buildPriceBook } from "../../core/pricing/price-book.ts";
import { rateUsage } from "../../core/pricing/rate.ts";
import { sumTokens, totalInputTokens } from "../../core/usage/usage.ts";
import { openMeter } from "./meter.ts";
import { fromUsage } from "./usage.ts";

const MODEL = "claude-haiku-5-5";
const AT_MS = Date.UTC(2026, 10, 22);
const book = buildPriceBook(readShippedRows());

const CACHES = {
  "no cache": { read: 0, write5m: 0, write1h: 0 },
  "cache read": { read: 20_000, write5m: 0, write1h: 0 },
  "5-minute write": { read: 0, write5m: 20_000, write1h: 0 },
  "1-hour write": { read: 0, write5m: 0, write1h: 20_000 },
  mixed: { read: 20_000, write5m: 10_000, write1h: 10_000 },
} as const;

/** Dollars for 10,000 or 110,000 uncached input and 1,000 output tokens besides the cache's. */
const BY_HAND: Record<keyof typeof CACHES, { under: string; over: string; underBatch: string; overBatch: string }> = {
  //                 10,000·0.10 + 1,000·0.50 + …            110,000·0.50 + 1,000·2.50 + …
  "no cache": { under: "0.0015", over: "0.0575", underBatch: "0.00075", overBatch: "0.02875" },
  "cache read": { under: "0.0017", over: "0.0585", underBatch: "0.00085", overBatch: "0.02925" },
  "5-minute write": { under: "0.004", over: "0.07", underBatch: "0.002", overBatch: "0.035" },
  "1-hour write": { under: "0.0055", over: "0.0775", underBatch: "0.00275", overBatch: "0.03875" },
  mixed: { under: "0.00495", over: "0.07475", underBatch: "0.002475", overBatch: "0.037375" },
};

interface Case {
  cache: keyof typeof CACHES;
  context: "under" | "over";
  serviceTier: "standard" | "batch" | "priority";
  searches: 0 | 2;
  isStream: boolean;
}

const cases: Case[] = (Object.keys(CACHES) as (keyof typeof CACHES)[]).flatMap((cache) =>
  (["under", "over"] as const).flatMap((context) =>
    (["standard", "batch", "priority"] as const).flatMap((serviceTier) =>
      ([0, 2] as const).flatMap((searches) =>
        [true, false].map((isStream) => ({ cache, context, serviceTier, searches, isStream })),
      ),
    ),
  ),
);

function usageOf({ cache, context, serviceTier, searches }: Case) {
  const { read, write5m, write1h } = CACHES[cache];
  return {
    input_tokens: context === "under" ? 10_000 : 110_000,
    cache_read_input_tokens: read,
    cache_creation_input_tokens: write5m + write1h,
    cache_creation: { ephemeral_5m_input_tokens: write5m, ephemeral_1h_input_tokens: write1h },
    output_tokens: 1_000,
    service_tier: serviceTier,
    server_tool_use: searches === 0 ? null : { web_search_requests: searches, web_fetch_requests: 0 },
  };
}

function answerOf(each: Case): { contentType: string; body: string } {
  const usage = usageOf(each);
  const message = { id: "msg_1", type: "message", role: "assistant", model: MODEL, content: [], stop_reason: "end_turn" };
  if (!each.isStream) return { contentType: "application/json", body: JSON.stringify({ ...message, usage }) };
  const { server_tool_use: tools, cache_creation: _, service_tier: __, ...cumulative } = usage;
  const events = [
    {
      type: "message_start",
      message: { ...message, stop_reason: null, usage: { ...usage, server_tool_use: null, output_tokens: 2 } },
    },
    { type: "content_block_delta", index: 0, delta: { type: "text_delta", text: "Hi" } },
    { type: "message_delta", delta: { stop_reason: "end_turn" }, usage: { ...cumulative, server_tool_use: tools } },
    { type: "message_stop" },
  ];
  const body = events.map((event) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`).join("");
  return { contentType: "text/event-stream", body };
}

describe("an answer's cost", () => {
  test.each(cases)("is the sum by hand: $cache, $context 100,000, $serviceTier, $searches searches, stream $isStream", (each) => {
    const { contentType, body } = answerOf(each);
    const meter = openMeter({ contentType, requestedModel: MODEL });
    meter.push(new TextEncoder().encode(body));
    meter.end();
    const { usage, isFinal } = meter.reading();
    expect(isFinal).toBe(true);
    const rated = rateUsage(usage ?? fromUsage(null, MODEL), (model) => book.find("anthropic", model, AT_MS));
    const tokensUsd = BY_HAND[each.cache][each.serviceTier === "batch" ? (`${each.context}Batch` as const) : each.context];
    const expected = (Number(tokensUsd) + each.searches * 0.01).toFixed(9);
    expect(rated).toMatchObject({ outcome: "rated" });
    expect(Number(formatUsd(rated.outcome === "rated" ? rated.costNanoUsd : -1n)).toFixed(9)).toBe(expected);
    expect(rated.flags).toEqual(each.searches > 0 && each.context === "over" ? ["tier_of_total"] : []);
  });

  test("holds every token the provider counted, in exactly one part", () => {
    const count = fc.nat({ max: 1_000_000 });
    const counted = fc.record({ input: count, read: count, write5m: count, write1h: count, unsplit: count, output: count });
    fc.assert(
      fc.property(counted, ({ input, read, write5m, write1h, unsplit, output }) => {
        const usage = {
          input_tokens: input,
          cache_read_input_tokens: read,
          cache_creation_input_tokens: write5m + write1h + unsplit,
          cache_creation: { ephemeral_5m_input_tokens: write5m, ephemeral_1h_input_tokens: write1h },
          output_tokens: output,
        };
        const sum = sumTokens(fromUsage(usage, MODEL));
        expect([totalInputTokens(sum), sum.outputTokens]).toEqual([input + read + write5m + write1h + unsplit, output]);
      }),
    );
  });
});
