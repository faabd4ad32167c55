/** The Cost figure over OpenAI's protocols: what recorded exchanges cost by us and by independent labels. */
import { afterAll, describe, expect, test } from "vitest";
import { formatUsd, toNanoUsd } from "../../src/core/money/money.ts";
import { buildPriceBook } from "../../src/core/pricing/price-book.ts";
import { rateUsage, type RateResult } from "../../src/core/pricing/rate.ts";
import { addUpNanoUsd, costExceptions } from "./cost-exceptions.ts";
import { dataFolder, dataPath, NO_DATA, readJsonLines, reportFigure } from "./figures.ts";
import { meterOpenAi, readOpenAiExchanges } from "./recorded-openai.ts";
import { readShippedRows } from "./shipped-prices.ts";

/** The labels hold gpt-5.6-sol at the price it has from 2026-10-04 on; no other price of theirs changed by then. */
const LABELS_AT_MS = Date.UTC(2026, 9, 5);

const exceptions = costExceptions.recordedOpenAiExchanges;
const book = buildPriceBook(readShippedRows());

function oursUsd(result: RateResult | undefined): string {
  return result?.outcome === "rated" ? formatUsd(result.costNanoUsd) : "unpriced";
}

describe.skipIf(dataFolder === undefined)(
  `what OpenAI's recorded exchanges cost (${dataFolder === undefined ? NO_DATA : "labelled by others"})`,
  () => {
    const labels = new Map<string, number>();
    const results = new Map<string, RateResult>();
    const unread: string[] = [];
    if (dataFolder !== undefined) {
      const lines = readJsonLines<{ id: string; genai_prices_usd?: number }>(dataPath("http-pydantic-ai", "peer_cost.jsonl"));
      for (const { id, genai_prices_usd: label } of lines) if (label !== undefined) labels.set(id, label);
      for (const exchange of readOpenAiExchanges()) {
        const { usage, isFinal } = meterOpenAi(exchange);
        if (usage === undefined || !isFinal) unread.push(exchange.id);
        else
          results.set(
            exchange.id,
            rateUsage(usage, (model) => book.find("openai", model, LABELS_AT_MS)),
          );
      }
    }
    const labelled = [...results.keys()].filter((id) => labels.has(id));
    const isEqual = (id: string): boolean => {
      const result = results.get(id);
      const label = labels.get(id);
      if (result?.outcome !== "rated" || label === undefined) return false;
      return Math.abs(Number(result.costNanoUsd) - label * 1e9) <= 1;
    };

    test("reads a final usage of every one of them", () => {
      expect(unread).toEqual([]);
    });

    test("equals the label to within one nano-dollar, except where the list says why not", () => {
      const different = labelled.filter((id) => !isEqual(id));
      expect(different.toSorted()).toEqual(exceptions.map(({ id }) => id).toSorted());
    });

    test.each(exceptions.map((exception) => [exception.id, exception] as const))(
      "differs as the list says: %s",
      (id, exception) => {
        const ours = oursUsd(results.get(id));
        expect(ours).toBe(exception.oursUsd);
        expect(Math.abs((labels.get(id) ?? 0) - Number(exception.labelUsd))).toBeLessThan(1e-9);
        const summed = addUpNanoUsd(exception.sum);
        // What has no price of ours is counted at its bound: the sum shows where the label's figure comes from.
        expect(formatUsd(toNanoUsd(summed))).toBe(ours === "unpriced" ? exception.labelUsd : ours);
        expect(exception.reason.length).toBeGreaterThan(20);
      },
    );

    afterAll(() => {
      if (dataFolder === undefined) return;
      const equal = labelled.filter(isEqual).length;
      const fees = [...results.values()].filter(({ flags }) => flags.includes("unknown_meter")).length;
      reportFigure(
        "Cost",
        "recorded OpenAI exchanges",
        `${equal} of ${labelled.length} labelled exchanges equal genai_prices_usd to within 1 nano-dollar; ` +
          `${labelled.length - equal} on the list of exceptions; ${results.size - labelled.length} have no label; ` +
          `${fees} show work with a fee that no usage says, flagged and counted at their bound`,
      );
    });
  },
);
