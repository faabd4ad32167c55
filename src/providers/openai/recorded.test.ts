/** Goal: over every recorded call whose whole input stands in its body, the bound of the input is never below what was reported. */
import { afterAll, describe, expect, test } from "vitest";
import { totalInputTokens } from "../../core/usage/usage.ts";
import { dataFolder, NO_DATA } from "../../../test/figures/figures.ts";
import { meterOpenAi, readOpenAiExchanges } from "../../../test/figures/recorded-openai.ts";

describe.skipIf(dataFolder === undefined)(`recorded calls (${dataFolder === undefined ? NO_DATA : "of OpenAI"})`, () => {
  const exchanges = dataFolder === undefined ? [] : readOpenAiExchanges().filter(({ model }) => model !== undefined);
  const ratios: number[] = [];

  test("are all read", () => {
    const outcomes = exchanges.map(({ id, api, request }) => [
      id,
      api.readRequest(new TextEncoder().encode(request.body)).outcome,
    ]);
    expect(outcomes.filter(([, outcome]) => outcome !== "read")).toEqual([]);
  });

  test("have no more input than their bound", () => {
    for (const exchange of exchanges) {
      const { id, api, request } = exchange;
      const read = api.readRequest(new TextEncoder().encode(request.body));
      if (read.outcome !== "read" || read.facts.remoteInputs.length + read.facts.unboundedParts.length > 0) continue;
      const [sampling] = meterOpenAi(exchange).usage?.samplings ?? [];
      const reported = sampling === undefined ? 0 : totalInputTokens(sampling.tokens);
      if (reported === 0) continue;
      const ratio = api.boundInputTokens(read.facts, read.facts.model) / reported;
      ratios.push(ratio);
      expect([id, ratio >= 1]).toEqual([id, true]);
    }
    expect(ratios.length).toBeGreaterThan(300);
  });

  afterAll(() => {
    if (ratios.length === 0) return;
    ratios.sort((left, right) => left - right);
    const [least, median, most] = [ratios[0], ratios[ratios.length >> 1], ratios.at(-1)].map((ratio) => ratio?.toFixed(2));
    console.info(
      `figure: bound of the input over ${ratios.length} recorded OpenAI calls: ${least} to ${most} times, median ${median}`,
    );
  });
});
