/**
 * Owns: what OpenAI would charge for a simulated call, by prices typed by hand, and the bill of one simulator.
 * Does not own: Purser's price book (`prices/`); nothing here is read from it or shared with it.
 * Invariant: a price is the text the publisher prints; it becomes a whole number of pico-dollars per token, and a call is rounded up once.
 *
 * Sources of the figures: developers.openai.com, the model pages of gpt-6.2-sol and gpt-5.4-mini, the embeddings page; read 2026-11-20.
 */

/** US dollars per million tokens: input, cached input, cache write (30 minutes), output. */
const PRICES: Readonly<Record<string, readonly [input: string, cached: string, written: string, output: string]>> = {
  "gpt-6.2-sol": ["2", "0.10", "2.50", "10"],
  "gpt-6-luna": ["0.10", "0.01", "0.125", "0.50"],
  "gpt-5.4-mini": ["0.75", "0.075", "0.75", "4.50"],
  "text-embedding-3-small": ["0.02", "0.02", "0.02", "0"],
};

const PICO_USD_PER_USD_PER_MTOK = 1_000_000n;
const PICO_PER_NANO = 1_000n;
/** Half of the price, and twice: in halves, so that both are whole numbers. */
const HALVES: Readonly<Record<OpenAiTier, bigint>> = { default: 2n, flex: 1n, priority: 4n };

export type OpenAiTier = "default" | "flex" | "priority";

/** What one call took. Input holds the cached and the written tokens; output holds the reasoning. */
export interface OpenAiTokens {
  readonly input: number;
  readonly cached: number;
  readonly written: number;
  readonly output: number;
  readonly reasoning: number;
}

export interface OpenAiBillLine {
  readonly requestId: string;
  readonly model: string;
  readonly tier: OpenAiTier;
  readonly tokens: OpenAiTokens;
  readonly costNanoUsd: bigint;
}

export class OpenAiBill {
  readonly lines: OpenAiBillLine[] = [];

  get totalNanoUsd(): bigint {
    return this.lines.reduce((sum, { costNanoUsd }) => sum + costNanoUsd, 0n);
  }

  charge(line: Omit<OpenAiBillLine, "costNanoUsd">): void {
    this.lines.push({ ...line, costNanoUsd: costOf(line) });
  }
}

export function isSold(model: string): boolean {
  return Object.hasOwn(PRICES, model);
}

function costOf({ model, tier, tokens }: Omit<OpenAiBillLine, "costNanoUsd">): bigint {
  const [input, cached, written, output] = (PRICES[model] ?? ["0", "0", "0", "0"]).map(picoUsdPerToken);
  const { input: all, cached: read, written: wrote, output: out } = tokens;
  const parts = [
    [all - read - wrote, input],
    [read, cached],
    [wrote, written],
    [out, output],
  ] as const;
  const pico = parts.reduce((sum, [count, price]) => sum + BigInt(count) * (price ?? 0n), 0n);
  const divisor = 2n * PICO_PER_NANO;
  return (pico * HALVES[tier] + divisor - 1n) / divisor;
}

function picoUsdPerToken(text: string): bigint {
  const [whole = "0", fraction = ""] = text.split(".");
  return BigInt(whole + fraction.padEnd(6, "0")) * (PICO_USD_PER_USD_PER_MTOK / 1_000_000n);
}
