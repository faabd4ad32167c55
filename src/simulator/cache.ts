/**
 * Owns: the prompt cache: what is in it, for how long, and how a prompt splits into read, written and uncached tokens.
 * Does not own: token counts (`prompt.ts`) or prices.
 * Invariant: the four parts add up to the prompt's tokens. A lifetime runs from the start of the request that wrote or last
 * read the entry, and a prefix can be read only once the answer that wrote it has begun.
 * @see platform.claude.com/docs/en/build-with-claude/prompt-caching
 */
import { createHash } from "node:crypto";
import { asArray, asRecord, asText, toCanonicalJson, type JsonRecord } from "./json.ts";
import type { Model } from "./models.ts";
import type { CacheTtl, PromptBlock, PromptLevel } from "./prompt.ts";

const LIFETIME_MS: Readonly<Record<CacheTtl, number>> = { "5m": 300_000, "1h": 3_600_000 };
/** A breakpoint looks back over this many blocks, itself included. */
const LOOKBACK_BLOCKS = 20;

interface Entry {
  readonly ttl: CacheTtl;
  readonly tokens: number;
  expiresAtMs: number;
}

/** How the tokens of one prompt are billed. */
export interface CacheSplit {
  readonly inputTokens: number;
  readonly cacheReadTokens: number;
  readonly cacheWrite5mTokens: number;
  readonly cacheWrite1hTokens: number;
  /** Puts what was written into the cache; called when the answer begins. */
  readonly commit: () => void;
}

export interface SplitPromptInput {
  readonly body: JsonRecord;
  readonly model: Model;
  readonly blocks: readonly PromptBlock[];
  /** All input tokens; where it differs from the sum over the blocks, the blocks share it in proportion. */
  readonly inputTokens: number;
  /** Start of the request, epoch milliseconds. */
  readonly atMs: number;
}

interface Breakpoint {
  readonly index: number;
  readonly ttl: CacheTtl;
  readonly key: string;
  readonly tokens: number;
}

export class PromptCache {
  readonly #entries = new Map<string, Entry>();

  /** How many prefixes are readable at that instant. */
  countEntries(atMs: number): number {
    return [...this.#entries.values()].filter((entry) => atMs < entry.expiresAtMs).length;
  }

  /** Splits a prompt, and refreshes the entries it reads. */
  split(input: SplitPromptInput): CacheSplit {
    const keys = toKeys(input);
    const hit = this.#findHighestHit(input, keys);
    const tokensTo = scaleTokens(input, hit);
    const breakpoints = listBreakpoints(input, keys, tokensTo);
    // Names of the provider's description: A is the highest hit, B the highest one-hour breakpoint after it, C the last one.
    const a = hit?.tokens ?? 0;
    const after = breakpoints.filter((breakpoint) => breakpoint.tokens > a);
    const b = after.filter(({ ttl }) => ttl === "1h").at(-1)?.tokens ?? a;
    const c = after.at(-1)?.tokens ?? a;
    return {
      inputTokens: input.inputTokens - c,
      cacheReadTokens: a,
      cacheWrite1hTokens: b - a,
      cacheWrite5mTokens: c - b,
      commit: () => {
        for (const { key, ttl, tokens } of after)
          this.#entries.set(key, { ttl, tokens, expiresAtMs: input.atMs + LIFETIME_MS[ttl] });
      },
    };
  }

  /** The longest cached prefix within the lookback of a breakpoint; every entry met on the way is refreshed. */
  #findHighestHit(input: SplitPromptInput, keys: readonly string[]): { index: number; tokens: number } | undefined {
    let highest: { index: number; tokens: number } | undefined;
    for (const [index, block] of input.blocks.entries()) {
      if (block.ttl === undefined) continue;
      for (let back = index; back > index - LOOKBACK_BLOCKS && back >= 0; back--) {
        const entry = this.#entries.get(keys[back] ?? "");
        if (entry === undefined || entry.expiresAtMs <= input.atMs) continue;
        entry.expiresAtMs = Math.max(entry.expiresAtMs, input.atMs + LIFETIME_MS[entry.ttl]);
        highest = { index: back, tokens: Math.min(entry.tokens, input.inputTokens) };
        break;
      }
    }
    return highest;
  }
}

/** One key per block: a hash over everything up to and including it, and over what invalidates its level. */
function toKeys(input: SplitPromptInput): string[] {
  const { body, model } = input;
  const tools = asArray(body["tools"]);
  const hasWebSearch = tools.some((tool) => (asText(asRecord(tool)["type"]) ?? "").startsWith("web_search_"));
  const effort = asRecord(body["output_config"])["effort"];
  const salts: Readonly<Record<PromptLevel, string>> = {
    tools: model.id,
    system: `speed=${body["speed"] === "fast"} search=${hasWebSearch}`,
    messages: toCanonicalJson([body["tool_choice"] ?? null, body["thinking"] ?? null, effort ?? null]),
  };
  let chain = model.id;
  let level: PromptLevel | undefined;
  return input.blocks.map((block) => {
    const salt = block.level === level ? "" : salts[block.level];
    // A prompt without system blocks goes from tools to messages, and is still invalidated by what invalidates system.
    const skipped = level !== "system" && block.level === "messages" ? salts.system : "";
    level = block.level;
    chain = createHash("sha256").update(`${chain}\n${skipped}\n${salt}\n${block.level}\n${block.identity}`).digest("hex");
    return chain;
  });
}

/**
 * Tokens up to and including block n. Where a total was asked for, what lies before the hit keeps the tokens it was written
 * with, and the rest is shared by the later blocks in proportion, so that equal prefixes cost equal reads.
 */
function scaleTokens(input: SplitPromptInput, hit: { index: number; tokens: number } | undefined): (index: number) => number {
  const natural: number[] = [];
  let sum = 0;
  for (const block of input.blocks) natural.push((sum += block.tokens));
  const base = hit?.tokens ?? 0;
  const naturalBase = hit === undefined ? 0 : (natural[hit.index] ?? 0);
  const naturalRest = Math.max(1, sum - naturalBase);
  return (index) => {
    const beyond = (natural[index] ?? 0) - naturalBase;
    return beyond <= 0 ? base : base + Math.floor(((input.inputTokens - base) * beyond) / naturalRest);
  };
}

function listBreakpoints(
  input: SplitPromptInput,
  keys: readonly string[],
  tokensTo: (index: number) => number,
): readonly Breakpoint[] {
  return input.blocks.flatMap((block, index) => {
    const tokens = tokensTo(index);
    const isTooShort = tokens < input.model.cacheableTokensMin;
    return block.ttl === undefined || isTooShort ? [] : [{ index, ttl: block.ttl, key: keys[index] ?? "", tokens }];
  });
}
