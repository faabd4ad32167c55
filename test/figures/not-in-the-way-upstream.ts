/**
 * Owns the provider of the figure "Not in the way": its prompt cache, its answers as event streams, and its own bill.
 * Does not share code with Purser: prices are typed by hand (nano-dollars per token, of the provider's published dollars per million), and
 * tokens are counted from the bytes that reach it.
 */
import { createHash } from "node:crypto";
import { BYTES_PER_TOKEN } from "./not-in-the-way-traffic.ts";

export interface Prices {
  uncached: bigint;
  cacheRead: bigint;
  cacheWrite: bigint;
  output: bigint;
}

/** At more than 100,000 tokens of input, which all requests of the figure have. */
export const PRICES = {
  "claude-opus-5-5": { uncached: 4_000n, cacheRead: 200n, cacheWrite: 5_000n, output: 20_000n },
  "claude-sonnet-5-5": { uncached: 2_000n, cacheRead: 100n, cacheWrite: 2_500n, output: 10_000n },
  "claude-haiku-5-5": { uncached: 500n, cacheRead: 50n, cacheWrite: 625n, output: 2_500n },
} as const satisfies Record<string, Prices>;
export type Model = keyof typeof PRICES;

const HIGHER_TIER_TOKENS = 100_000;
/** A cache entry lives so long after its last use. */
const CACHE_MS = 5 * 60_000;
/** Marks are looked for so many blocks back. */
const LOOKBACK_BLOCKS = 20;
/** Middle of what such models are measured at. */
const FIRST_EVENT_MS = 1_500;
const TOKENS_PER_SECOND = 80;

export interface Answer {
  /** Comes after `startMs`, and says what the input was. */
  start: Uint8Array;
  startMs: number;
  /** Comes `writingMs` later, and is the rest. */
  rest: Uint8Array;
  writingMs: number;
  inputTokens: number;
  outputTokens: number;
  isCutShort: boolean;
  costNanoUsd: bigint;
}

export interface Upstream {
  /** @param wanted how much the model would write if it may. */
  answer(body: Uint8Array, input: { wanted: number; nowMs: number }): Answer;
  /** Takes a request's prefix into the cache, as somebody did before the figure begins. Costs nothing here. */
  warm(body: Uint8Array, nowMs: number): void;
  /** What all answers so far cost. */
  readonly billNanoUsd: bigint;
}

interface Request {
  model: Model;
  max_tokens: number;
  system: string;
  messages: Message[];
}

interface Message {
  role: string;
  content: string | { input?: { command: string }; content?: string; cache_control?: unknown }[];
}

export function createUpstream(): Upstream {
  const cache = new Map<string, { tokens: number; untilMs: number }>();
  let billNanoUsd = 0n;

  /** What is read from the cache; what stands before the last mark is there from now on. */
  function readCache(marks: readonly { key: string; tokens: number }[], nowMs: number): number {
    const last = marks.at(-1);
    if (last === undefined) return 0;
    const hit = marks
      .slice(-LOOKBACK_BLOCKS)
      .toReversed()
      .map(({ key }) => cache.get(key))
      .find((entry) => entry !== undefined && entry.untilMs >= nowMs);
    const untilMs = nowMs + CACHE_MS;
    if (hit !== undefined) hit.untilMs = untilMs;
    cache.set(last.key, { tokens: last.tokens, untilMs });
    return hit?.tokens ?? 0;
  }

  return {
    answer(body, { wanted, nowMs }) {
      const request = parse(body);
      const prices = PRICES[request.model];
      const { marks, tokens } = prefixesOf(request);
      if (tokens <= HIGHER_TIER_TOKENS) throw new Error(`the prices typed here are of longer requests than ${tokens} tokens`);
      const readTokens = readCache(marks, nowMs);
      const writtenTokens = (marks.at(-1)?.tokens ?? 0) - readTokens;
      const uncachedTokens = tokens - readTokens - writtenTokens;
      const outputTokens = Math.min(wanted, request.max_tokens);
      const costNanoUsd =
        BigInt(readTokens) * prices.cacheRead +
        BigInt(writtenTokens) * prices.cacheWrite +
        BigInt(uncachedTokens) * prices.uncached +
        BigInt(outputTokens) * prices.output;
      billNanoUsd += costNanoUsd;
      const isCutShort = outputTokens < wanted;
      const usage = {
        input_tokens: uncachedTokens,
        cache_creation_input_tokens: writtenTokens,
        cache_read_input_tokens: readTokens,
        cache_creation: { ephemeral_5m_input_tokens: writtenTokens, ephemeral_1h_input_tokens: 0 },
        service_tier: "standard",
        inference_geo: "global",
      };
      return {
        start: eventOf({
          type: "message_start",
          message: {
            id: "msg_1",
            type: "message",
            role: "assistant",
            model: request.model,
            content: [],
            usage: { ...usage, output_tokens: 1 },
          },
        }),
        startMs: FIRST_EVENT_MS,
        rest: Buffer.concat([
          eventOf({
            type: "message_delta",
            delta: { stop_reason: isCutShort ? "max_tokens" : "tool_use", stop_sequence: null },
            usage: { output_tokens: outputTokens },
          }),
          eventOf({ type: "message_stop" }),
        ]),
        writingMs: Math.ceil((outputTokens * 1_000) / TOKENS_PER_SECOND),
        inputTokens: tokens,
        outputTokens,
        isCutShort,
        costNanoUsd,
      };
    },
    warm: (body, nowMs) => void readCache(prefixesOf(parse(body)).marks, nowMs),
    get billNanoUsd() {
      return billNanoUsd;
    },
  };
}

/** What the provider counts a request with, asked before it. */
export function countTokens(body: Uint8Array): number {
  return prefixesOf(parse(body)).tokens;
}

/** All text of the figure is ASCII. */
function parse(body: Uint8Array): Request {
  return JSON.parse(Buffer.from(body).toString("latin1")) as Request;
}

/** Every place in a request where the cache can begin to be read, and how many tokens stand before it. */
function prefixesOf({ system, messages }: { system: string; messages: readonly Message[] }) {
  const chain = createHash("sha1").update(system);
  let tokens = tokensOf(system);
  const prefixes: { key: string; tokens: number; isMarked: boolean }[] = [];
  messages.forEach(({ role, content }, index) => {
    const blocks = typeof content === "string" ? [{ content }] : content;
    const texts = blocks.map((block) => ("input" in block ? (block.input?.command ?? "") : (block.content ?? "")));
    for (const text of texts) {
      chain.update(`${role}:${text.length}:`).update(text, "latin1");
      tokens += tokensOf(text);
    }
    if (index < messages.length - LOOKBACK_BLOCKS) return;
    const isMarked = blocks.some((block) => "cache_control" in block);
    prefixes.push({ key: chain.copy().digest("base64"), tokens, isMarked });
  });
  return { tokens, marks: prefixes.slice(0, prefixes.findLastIndex(({ isMarked }) => isMarked) + 1) };
}

function tokensOf(text: string): number {
  return Math.ceil(text.length / BYTES_PER_TOKEN);
}

function eventOf(data: Readonly<Record<string, unknown>> & { type: string }): Buffer {
  return Buffer.from(`event: ${data.type}\ndata: ${JSON.stringify(data)}\n\n`);
}
