/**
 * Owns: the simulator's own price list, typed by hand from the provider's published figures, and which row is in force.
 * Does not own: Purser's price book (`prices/`); nothing here is read from it or shared with it.
 * Invariant: a price is the text the publisher prints (US dollars per million tokens); it becomes an integer number of
 * pico-dollars per token and is never a float.
 *
 * Sources of the figures:
 * - `pricing`: platform.claude.com/docs/en/about-claude/pricing, as mirrored on 2026-08-22 in
 *   github.com/gpambrozio/ClaudeDocs@ff5b8ed9 (docs-md/about-claude/pricing).
 * - `overview`: platform.claude.com/docs/en/about-claude/models/overview, read 2026-10-08 (models released after August 2026).
 * - `notes`: platform.claude.com/docs/en/release-notes/overview, entry of 2026-11-09. It gives input and output of Fable 5.2;
 *   the cache columns are from the price table of rightsize v0.10.2, a secondary source.
 * - `fast`: code.claude.com/docs/en/fast-mode and platform.claude.com/docs/en/build-with-claude/fast-mode.
 */

/** US dollars per million tokens, as printed by the publisher. */
export interface PrintedPrices {
  readonly input: string;
  readonly write5m: string;
  readonly write1h: string;
  readonly read: string;
  readonly output: string;
}

interface PriceRow extends PrintedPrices {
  readonly source: string;
  /** Half-open: in force while `fromMs <= now < untilMs`. Absent means without end on that side. */
  readonly fromMs?: number;
  readonly untilMs?: number;
  /** The row of prompts with more than this many tokens, all parts of the prompt counted, of one sampling. */
  readonly promptTokensAbove?: number;
  readonly speed?: "fast";
}

const OPUS_4_AND_5: PrintedPrices = { input: "5", write5m: "6.25", write1h: "10", read: "0.50", output: "25" };
const OPUS_4_AND_5_FAST: PrintedPrices = { input: "10", write5m: "12.50", write1h: "20", read: "1", output: "50" };
const SONNET_4: PrintedPrices = { input: "3", write5m: "3.75", write1h: "6", read: "0.30", output: "15" };

/** Sonnet 5.5's cache read went from 0.20 to 0.10 at the start of this day (overview). */
const SONNET_5_5_READ_CHANGE_MS = Date.parse("2026-10-07T00:00:00Z");

const ROWS: Readonly<Record<string, readonly PriceRow[]>> = {
  "claude-fable-5-2": [
    { input: "8", write5m: "10", write1h: "16", read: "0.20", output: "40", source: "notes" },
    { input: "16", write5m: "20", write1h: "32", read: "0.40", output: "80", speed: "fast", source: "fast" },
  ],
  "claude-fable-5-1": [{ input: "10", write5m: "12.50", write1h: "20", read: "0.25", output: "50", source: "overview" }],
  "claude-fable-5": [{ input: "10", write5m: "12.50", write1h: "20", read: "1", output: "50", source: "pricing" }],
  "claude-opus-5-5": [
    { input: "4", write5m: "5", write1h: "8", read: "0.20", output: "20", source: "overview" },
    { input: "8", write5m: "10", write1h: "16", read: "0.40", output: "40", speed: "fast", source: "fast" },
  ],
  "claude-opus-5": [
    { ...OPUS_4_AND_5, source: "pricing" },
    { ...OPUS_4_AND_5_FAST, speed: "fast", source: "fast" },
  ],
  "claude-opus-4-8": [
    { ...OPUS_4_AND_5, source: "pricing" },
    { ...OPUS_4_AND_5_FAST, speed: "fast", source: "fast" },
  ],
  "claude-opus-4-7": [{ ...OPUS_4_AND_5, source: "pricing" }],
  "claude-opus-4-6": [{ ...OPUS_4_AND_5, source: "pricing" }],
  "claude-opus-4-5-20251101": [{ ...OPUS_4_AND_5, source: "pricing" }],
  "claude-sonnet-5-5": [
    {
      input: "2",
      write5m: "2.50",
      write1h: "4",
      read: "0.20",
      output: "10",
      source: "overview",
      untilMs: SONNET_5_5_READ_CHANGE_MS,
    },
    {
      input: "2",
      write5m: "2.50",
      write1h: "4",
      read: "0.10",
      output: "10",
      source: "overview",
      fromMs: SONNET_5_5_READ_CHANGE_MS,
    },
  ],
  "claude-sonnet-5": [{ input: "2", write5m: "2.50", write1h: "4", read: "0.20", output: "10", source: "pricing" }],
  "claude-sonnet-4-6": [{ ...SONNET_4, source: "pricing" }],
  "claude-sonnet-4-5-20250929": [{ ...SONNET_4, source: "pricing" }],
  "claude-haiku-5-5": [
    { input: "0.10", write5m: "0.125", write1h: "0.20", read: "0.01", output: "0.50", source: "overview" },
    {
      input: "0.50",
      write5m: "0.625",
      write1h: "1",
      read: "0.05",
      output: "2.50",
      source: "overview",
      promptTokensAbove: 100_000,
    },
  ],
  "claude-haiku-4-5-20251001": [{ input: "1", write5m: "1.25", write1h: "2", read: "0.10", output: "5", source: "pricing" }],
};

/** Ten US dollars for a thousand searches (pricing); no batch, geography or speed multiplier is published for it. */
export const WEB_SEARCH_USD = "0.01";

/** Integer pico-dollars (1e-12 USD) per token. */
export interface PicoPrices {
  readonly input: bigint;
  readonly write5m: bigint;
  readonly write1h: bigint;
  readonly read: bigint;
  readonly output: bigint;
}

/**
 * Turns printed decimal dollars into an integer count of a smaller unit by moving the decimal point.
 * @param places - how many places the point moves: 12 for dollars to pico-dollars, 6 for dollars per million tokens to
 * pico-dollars per token (1 USD / 1e6 tokens = 1e-6 USD = 1e6 pico-dollars per token).
 */
export function shiftDecimal(printed: string, places: number): bigint {
  const [whole = "", fraction = ""] = printed.split(".");
  if (!/^\d+$/.test(whole) || !/^\d*$/.test(fraction) || fraction.length > places)
    throw new RangeError(`price ${JSON.stringify(printed)} is not a decimal with at most ${places} places`);
  return BigInt(whole + fraction.padEnd(places, "0"));
}

export interface FindPriceInput {
  readonly modelId: string;
  readonly atMs: number;
  /** Uncached input + cache reads + cache writes of one sampling. */
  readonly promptTokens: number;
  readonly speed: "standard" | "fast";
}

/** @returns the row in force, or undefined for a model (or a speed of it) that is not sold. */
export function findPrice(input: FindPriceInput): PicoPrices | undefined {
  const inForce = (ROWS[input.modelId] ?? []).filter(
    (row) =>
      (row.fromMs ?? -Infinity) <= input.atMs &&
      input.atMs < (row.untilMs ?? Infinity) &&
      (row.speed ?? "standard") === input.speed &&
      input.promptTokens > (row.promptTokensAbove ?? -1),
  );
  // The highest tier that applies stands last in its list.
  const row = inForce.at(-1);
  return row === undefined ? undefined : toPico(row);
}

/** Whether the model is sold at double price for double speed. */
export function hasFastMode(modelId: string): boolean {
  return (ROWS[modelId] ?? []).some((row) => row.speed === "fast");
}

function toPico(row: PrintedPrices): PicoPrices {
  return {
    input: shiftDecimal(row.input, 6),
    write5m: shiftDecimal(row.write5m, 6),
    write1h: shiftDecimal(row.write1h, 6),
    read: shiftDecimal(row.read, 6),
    output: shiftDecimal(row.output, 6),
  };
}
