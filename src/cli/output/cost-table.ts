/**
 * Owns the table of a cost: each part on a line, exact, and their sum.
 * Does not own the arithmetic (core/pricing).
 */
import { formatDecimal, formatUsd } from "../../core/money/money.ts";
import { sumCostParts, type CostMeter, type CostPart } from "../../core/pricing/rate.ts";
import { formatCount, formatDollars } from "./figures.ts";
import type { Cell, TableInput } from "./table.ts";

/** What a meter is called to a person. */
export const METER_NAMES: Readonly<Record<CostMeter, string>> = {
  uncachedInput: "input",
  cacheRead: "cache read",
  cacheWrite5m: "cache write, 5 minutes",
  cacheWrite1h: "cache write, 1 hour",
  cacheWrite30m: "cache write, 30 minutes",
  cacheWrite12h: "cache write, 12 hours",
  output: "output",
  webSearch: "web search",
  unit: "unit",
};

/** The parts of a cost as a table whose last line is their sum. */
export function costTable(parts: readonly CostPart[], costNanoUsd: bigint): TableInput {
  const multiplied = parts.some(({ multipliers }) => multipliers.length > 0);
  const models = new Set(parts.map(({ model }) => model));
  const rows = parts.map((part): Cell[] => [
    ...(models.size > 1 ? [part.model] : []),
    METER_NAMES[part.meter],
    formatCount(part.quantity),
    part.unitQuantity === 1 ? `${formatDollars(part.unitUsd)} each` : `${formatDollars(part.unitUsd)} / MTok`,
    ...(multiplied ? [part.multipliers.map(({ name, bps }) => `× ${formatDecimal(BigInt(bps), 4)} ${name}`).join(" ")] : []),
    formatDollars(part.costUsd),
  ]);
  const blank = Array.from({ length: (models.size > 1 ? 1 : 0) + 3 + (multiplied ? 1 : 0) }, (_, index) =>
    index === 0 ? "Total" : "",
  );
  return {
    columns: [
      ...(models.size > 1 ? [{ title: "Model", kind: "text" as const }] : []),
      { title: "Part", kind: "whole" },
      { title: "Quantity", kind: "figure" },
      { title: "Price", kind: "figure" },
      ...(multiplied ? [{ title: "Multiplied", kind: "whole" as const }] : []),
      { title: "Cost", kind: "figure" },
    ],
    rows,
    total: [...blank, formatDollars(formatUsd(costNanoUsd))],
  };
}

/** Says how the exact sum of the parts became the cost, where that was rounded. */
export function roundingText(parts: readonly CostPart[], costNanoUsd: bigint): string | undefined {
  const exact = sumCostParts(parts);
  return exact === formatUsd(costNanoUsd) ? undefined : `$${exact} rounded up once, to a nano-dollar`;
}
