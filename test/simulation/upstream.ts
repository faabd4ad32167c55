/**
 * Owns what a provider does with a request and what it bills for it, by its own arithmetic: prices typed by hand, tokens of its own
 * count, output that grows with time. Imports nothing of ours.
 */
import type { Random } from "./random.ts";

/** Nano-dollars per token (2026-11-25); US-only inference costs a tenth more. */
const PRICES = {
  "claude-haiku-5-5": { input: 100n, read: 10n, write5m: 125n, write1h: 200n, output: 500n },
  "claude-sonnet-5-5": { input: 2_000n, read: 100n, write5m: 2_500n, write1h: 4_000n, output: 10_000n },
  "claude-opus-5-5": { input: 4_000n, read: 200n, write5m: 5_000n, write1h: 8_000n, output: 20_000n },
} as const;

export type ModelName = keyof typeof PRICES;
export const MODELS = Object.keys(PRICES) as [ModelName, ...ModelName[]];

/** How an exchange goes, as the provider sees it. */
export const ENDS = [
  "ok",
  "error",
  "error_event",
  "cut_before_usage",
  "cut_after_usage",
  "cut_after_stop",
  "lost",
  "silent",
  "not_sent",
  "garbled",
  "above",
] as const;
export type End = (typeof ENDS)[number];

/** Tokens of one call. */
export interface Tokens {
  input: number;
  read: number;
  write5m: number;
  write1h: number;
  output: number;
}

/** The most tokens a request can be billed for: a token for each of its bytes, and what it lets the model write. */
export function mostTokens(request: { bytes: number; maxTokens: number; cache: "none" | "5m" | "1h" }): Tokens {
  const { bytes, maxTokens, cache } = request;
  return {
    input: cache === "none" ? bytes : 0,
    read: 0,
    write5m: cache === "5m" ? bytes : 0,
    write1h: cache === "1h" ? bytes : 0,
    output: maxTokens,
  };
}

/** The bill, rounded up once. */
export function costOf(model: ModelName, tokens: Tokens, isUsOnly: boolean): bigint {
  const { input, read, write5m, write1h, output } = PRICES[model];
  const sum =
    BigInt(tokens.input) * input +
    BigInt(tokens.read) * read +
    BigInt(tokens.write5m) * write5m +
    BigInt(tokens.write1h) * write1h +
    BigInt(tokens.output) * output;
  return isUsOnly ? (sum * 11n + 9n) / 10n : sum;
}

/** One request as it arrived, and what becomes of it. */
export class Exchange {
  readonly model: ModelName;
  readonly end: End;
  readonly tokens: Tokens;
  readonly isUsOnly: boolean;
  readonly acceptedAtMs: number;
  /** From the acceptance to the first byte, and to the last token. */
  readonly firstMs: number;
  readonly totalMs: number;
  /** Where it breaks off by itself, as a part of `totalMs`. */
  readonly breakMs: number;
  /** When it noticed that nobody waits any more. */
  stopsAtMs = Infinity;
  /** Set once the whole usage was told: what the books must say then, to the nano-dollar. */
  toldNanoUsd: bigint | undefined;

  /**
   * @param request.read the bytes the model reads, and for how large a share of them there is a token.
   * @param options.isGreedy bills all that the request allows.
   */
  constructor(
    request: { model: ModelName; read: { bytes: number; share: number }; maxTokens: number; cache: "none" | "5m" | "1h" },
    options: { end: End; isGreedy: boolean; nowMs: number; random: Random },
  ) {
    const { end, isGreedy, nowMs, random } = options;
    const share = isGreedy ? 1 : random.next() ** 2;
    const times = end === "above" ? 3 : 1;
    const all = Math.max(1, Math.ceil(request.read.bytes * (isGreedy ? 1 : request.read.share)));
    const read = isGreedy || request.cache === "none" ? 0 : random.int(0, all - 1);
    const written = all - read;
    this.model = request.model;
    this.end = end;
    this.isUsOnly = isGreedy || random.chance(0.2);
    this.tokens = {
      input: request.cache === "none" ? written * times : 0,
      read,
      write5m: request.cache === "5m" ? written * times : 0,
      write1h: request.cache === "1h" ? written * times : 0,
      output: Math.max(1, Math.ceil(request.maxTokens * share)) * times,
    };
    this.acceptedAtMs = nowMs;
    // No model writes more than 500 tokens a second (design §10).
    this.totalMs = Math.ceil((this.tokens.output * 1_000) / random.int(150, 500));
    this.firstMs = random.int(1, Math.max(1, Math.min(this.totalMs - 1, 800)));
    this.breakMs = random.int(0, this.totalMs);
  }

  get bills(): boolean {
    return this.end !== "error" && this.end !== "error_event" && this.end !== "not_sent";
  }

  /** What is billed by an instant. */
  billedNanoUsd(nowMs: number): bigint {
    return this.bills ? costOf(this.model, { ...this.tokens, output: this.outputAt(nowMs) }, this.isUsOnly) : 0n;
  }

  /** Tokens written by an instant: the last one when it is done, none after it stopped. */
  outputAt(nowMs: number): number {
    const untilMs = Math.min(nowMs, this.stopsAtMs, this.acceptedAtMs + this.breaksAfterMs);
    return Math.max(0, Math.floor((this.tokens.output * Math.min(this.totalMs, untilMs - this.acceptedAtMs)) / this.totalMs));
  }

  get breaksAfterMs(): number {
    const isBreaking = this.end === "cut_before_usage" || this.end === "cut_after_usage" || this.end === "lost";
    return isBreaking ? Math.max(this.breakMs, this.firstMs) : this.totalMs;
  }

  /** Whether the bill can still grow. */
  isOver(nowMs: number): boolean {
    return nowMs >= Math.min(this.stopsAtMs, this.acceptedAtMs + this.breaksAfterMs);
  }

  start(): Uint8Array {
    return eventOf("message_start", {
      message: { id: "m", model: this.model, usage: { ...this.#inputUsage(), output_tokens: 1 } },
    });
  }
  stop(): Uint8Array {
    const output_tokens = this.end === "garbled" ? -1 : this.tokens.output;
    return eventOf("message_delta", { delta: { stop_reason: "end_turn" }, usage: { ...this.#inputUsage(), output_tokens } });
  }
  static readonly last = eventOf("message_stop", {});
  static readonly failed = eventOf("error", { error: { type: "overloaded_error", message: "Overloaded" } });

  /** The whole answer to a request that asked for no stream. */
  answer(stopReason: string): Uint8Array {
    const output_tokens = this.end === "garbled" ? -1 : this.tokens.output;
    const usage = { ...this.#inputUsage(), output_tokens };
    return encode(JSON.stringify({ type: "message", id: "m", model: this.model, stop_reason: stopReason, usage }));
  }

  #inputUsage(): Record<string, unknown> {
    const { input, read, write5m, write1h } = this.tokens;
    return {
      input_tokens: input,
      cache_read_input_tokens: read,
      cache_creation_input_tokens: write5m + write1h,
      cache_creation: { ephemeral_5m_input_tokens: write5m, ephemeral_1h_input_tokens: write1h },
      inference_geo: this.isUsOnly ? "us" : "global",
    };
  }
}

function encode(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function eventOf(type: string, more: Record<string, unknown>): Uint8Array {
  return encode(`event: ${type}\ndata: ${JSON.stringify({ type, ...more })}\n\n`);
}
