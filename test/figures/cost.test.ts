/** The Cost figure: what recorded exchanges cost by us and by independent labels. */
import { afterAll, describe, expect, test } from "vitest";
import { buildPriceBook } from "../../src/core/pricing/price-book.ts";
import type { PriceRow } from "../../src/core/pricing/price.ts";
import { rateUsage, type RateResult } from "../../src/core/pricing/rate.ts";
import { formatUsd } from "../../src/core/money/money.ts";
import { addUpNanoUsd, costExceptions } from "./cost-exceptions.ts";
import { dataFolder, dataPath, NO_DATA, readJsonLines, reportFigure } from "./figures.ts";
import { meterExchange, readAnthropicExchanges } from "./recorded.ts";
import { readShippedRows } from "./shipped-prices.ts";

/** The labels are of npm @pydantic/genai-prices 0.1.8, whose prices stand for this day. */
const LABELS_AT_MS = Date.UTC(2026, 7, 21);

const exceptions = costExceptions.recordedExchanges;

const book = buildPriceBook(readShippedRows());
const find = (model: string): PriceRow | undefined => book.find("anthropic", model, LABELS_AT_MS);

function costNanoUsd(result: RateResult): bigint {
  if (result.outcome !== "rated") throw new Error(`unpriced: ${JSON.stringify(result.missing)}`);
  return result.costNanoUsd;
}

describe.skipIf(dataFolder === undefined)(
  `what recorded exchanges cost (${dataFolder === undefined ? NO_DATA : "labelled by others"})`,
  () => {
    const labels = new Map<string, number>();
    const results = new Map<string, RateResult>();
    const listed = new Map(exceptions.map((exception) => [exception.id, exception]));
    if (dataFolder !== undefined) {
      for (const { id, genai_prices_usd: label } of readJsonLines<{ id: string; genai_prices_usd: number }>(
        dataPath("http-pydantic-ai", "peer_cost.jsonl"),
      )) {
        labels.set(id, label);
      }
      for (const { exchange } of readAnthropicExchanges()) {
        const { usage, isFinal } = meterExchange(exchange);
        if (usage === undefined || !isFinal) throw new Error(`${exchange.id}: no final usage read`);
        results.set(exchange.id, rateUsage(usage, find));
      }
    }
    const gapNanoUsd = (id: string): number =>
      Math.abs(Number(costNanoUsd(results.get(id) as RateResult)) - (labels.get(id) ?? Number.NaN) * 1e9);

    test("equals the label to within one nano-dollar, except where the list says why not", () => {
      const different = [...results.keys()].filter((id) => !(gapNanoUsd(id) <= 1));
      expect(different.toSorted()).toEqual([...listed.keys()].toSorted());
    });

    test.each(exceptions.map((exception) => [exception.id, exception] as const))(
      "differs as the list says: %s",
      (id, exception) => {
        const ours = costNanoUsd(results.get(id) as RateResult);
        expect(formatUsd(ours)).toBe(exception.oursUsd);
        expect(addUpNanoUsd(exception.sum)).toBe(ours);
        expect(Math.abs((labels.get(id) ?? 0) - Number(exception.labelUsd))).toBeLessThan(1e-9);
        expect(ours).toBeGreaterThan(BigInt(Math.round(Number(exception.labelUsd) * 1e9)));
        expect(exception.reason.length).toBeGreaterThan(20);
      },
    );

    test("doubts exactly the server-tool loops whose total is above a tier's threshold", () => {
      const flagged = [...results].filter(([, { flags }]) => flags.length > 0);
      expect(flagged.map(([, { flags }]) => flags)).toEqual(flagged.map(() => ["tier_of_total"]));
      const tiered = [...results].filter(([, { parts }]) =>
        parts.some((part) => part.meter === "uncachedInput" && part.quantity > 200_000),
      );
      expect(flagged.map(([id]) => id).toSorted()).toEqual(tiered.map(([id]) => id).toSorted());
      expect(flagged).toHaveLength(4);
    });

    afterAll(() => {
      if (dataFolder === undefined) return;
      const equal = [...results.keys()].filter((id) => gapNanoUsd(id) <= 1).length;
      const doubted = [...results.values()].filter(({ flags }) => flags.length > 0).length;
      reportFigure(
        "Cost",
        "recorded exchanges",
        `${equal} of ${results.size} Anthropic exchanges equal genai_prices_usd to within 1 nano-dollar; ` +
          `${results.size - equal} on the list of exceptions; ${doubted} loops without iterations rated in the tier of their total, flagged`,
      );
    });
  },
);
