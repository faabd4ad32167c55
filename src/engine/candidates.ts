/**
 * Owns what a call could run on and the most it could cost there. Does not own which of them it gets (core/decisions).
 * Invariant: a bound is proven or absent; nothing learned or guessed goes into it.
 */
import { extendedTokens, type Candidate, type Extension } from "../core/decisions/call.ts";
import type { NanoUsd } from "../core/money/money.ts";
import { boundAt, boundLine } from "../core/pricing/bound.ts";
import type { BuiltPriceBook } from "../core/pricing/price-book.ts";
import type { PriceRow } from "../core/pricing/price.ts";
import { rateUsage } from "../core/pricing/rate.ts";
import { usageOfUnits, type PaidUnits } from "../core/usage/usage.ts";
import type { PaidApi, RequestFacts } from "../providers/provider.ts";

/** What a model without a published maximum may write at most: the largest maximum of any model in the price book (2026-11-22). */
const OUTPUT_TOKENS_UNKNOWN_MAX = 128_000;
/** Less than this, and what goes with it for thinking, is no useful answer: no call is made smaller (design §4). */
const USEFUL_OUTPUT_TOKENS_MIN = 1_024;
/** For comparing models only, never for a bound: how much of max_tokens a call is expected to use. */
const EXPECTED_OUTPUT_TOKENS_MAX = 1_024;
/** For comparing models only: bytes of text per token. */
const EXPECTED_BYTES_PER_TOKEN = 4;

export interface CandidateInput {
  provider: PaidApi;
  facts: RequestFacts;
  book: BuiltPriceBook;
  /** Model → the next cheaper one. */
  downgrade: ReadonlyMap<string, string>;
  onUnpricedModel: "deny" | "dearest";
  atMs: number;
  /** What the answers of this agent usually have at most; absent: not known. */
  usualOutputTokens?: number;
  /** What bounds its input on a model because it extends an earlier call that ran there; absent: it extends none. */
  extensionOn?: (model: Pick<Candidate, "canonicalModel" | "model">) => Extension | undefined;
  /** What the provider counted it with, by model as it is spelled upstream; `undefined` there: asked in vain. */
  counted?: ReadonlyMap<string, number | undefined>;
  /** Whether the provider can be asked for more of those. */
  canCount?: boolean;
  /** True: one line of a batch. */
  isBatch?: boolean;
}

/** The model asked for, then those to fall back to, in order. */
export function candidatesFor(input: CandidateInput): Candidate[] {
  const { provider, facts, book, atMs } = input;
  const asked = candidateFor(input, facts.model, undefined);
  const candidates = [asked];
  const seen = new Set([facts.model, asked.canonicalModel]);
  let model = nextOf(input, facts.model, asked.canonicalModel);
  while (model !== undefined) {
    const row = book.find(provider.name, model, atMs);
    const canonicalModel = row?.model ?? model;
    // A ring may close under another spelling of the same model.
    if (seen.has(canonicalModel)) break;
    seen.add(canonicalModel);
    candidates.push(candidateFor(input, model, provider.rejectedBy(facts, model) ?? tooLarge(facts, row)));
    model = nextOf(input, model, canonicalModel);
  }
  return candidates;
}

/** The configuration may name a model by any of its spellings, and so may the caller. */
function nextOf({ downgrade, book, provider, atMs }: CandidateInput, model: string, canonicalModel: string): string | undefined {
  const exact = downgrade.get(model) ?? downgrade.get(canonicalModel);
  if (exact !== undefined) return exact;
  for (const [from, to] of downgrade) if (book.find(provider.name, from, atMs)?.model === canonicalModel) return to;
  return undefined;
}

function candidateFor(input: CandidateInput, model: string, rejectedBy: string | undefined): Candidate {
  const { provider, facts, book, onUnpricedModel, atMs } = input;
  const known = book.find(provider.name, model, atMs);
  const row = known ?? (onUnpricedModel === "dearest" ? book.dearest(provider.name, atMs) : undefined);
  const canonicalModel = known?.model ?? model;
  const fromRequest = inputBound(provider, facts, model, row);
  const extension = input.extensionOn?.({ canonicalModel, model });
  const extended = extension === undefined ? Infinity : extendedTokens(extension);
  const counting = countOf(input, model, { fromRequest, isExtension: extension !== undefined });
  const inputTokensBound = Math.min(fromRequest, extended, counting.bound);
  const maxTokens = model === facts.model ? facts.maxTokens : lowered(facts.maxTokens, row?.outputTokensMax);
  const eachTokensBound = maxTokens ?? row?.outputTokensMax ?? OUTPUT_TOKENS_UNKNOWN_MAX;
  const outputTokensBound = eachTokensBound * facts.choices + facts.extraOutputTokens;
  const line =
    row &&
    boundLine(row, {
      ...waysOf(facts),
      isBatch: input.isBatch === true,
      inputTokens: inputTokensBound,
      outputTokens: outputTokensBound,
    });
  const unbounded = row?.isFree === true ? [] : unboundedParts(facts, row);
  const leastMaxTokens = leastUsefulOutput(input);
  return {
    model,
    canonicalModel,
    rejectedBy,
    maxTokens,
    inputTokensBound,
    ...(extension === undefined || extended > inputTokensBound || extended === fromRequest ? {} : { extension }),
    ...(counting.bound === inputTokensBound && counting.bound < fromRequest ? { countedTokens: counting.tokens } : {}),
    ...(counting.isOpen ? { isCountable: true } : {}),
    outputTokensBound,
    usdBound: facts.units === undefined ? line && boundAt(line, outputTokensBound) : unitsBound(facts.units, model, row),
    unboundedParts: unbounded,
    tenCallsNanoUsd: row === undefined ? undefined : expectedTenCalls(facts, row, model !== facts.model),
    priceIds: row === undefined ? [] : [row.id],
    // What max_tokens does not bound is not bounded by less of it either; several answers at once are not made smaller.
    ...(unbounded.length > 0 || leastMaxTokens >= outputTokensBound || outputTokensBound !== eachTokensBound
      ? {}
      : { fit: { leastMaxTokens, usd: line } }),
  };
}

/** What is asked for at most is what it can cost at most. */
function unitsBound(units: PaidUnits, model: string, row: PriceRow | undefined): NanoUsd | undefined {
  const rated = rateUsage(usageOfUnits(units, model), () => row);
  return rated.outcome === "rated" ? rated.costNanoUsd : undefined;
}

/** What the provider's count says of a model, and whether it can still be asked: only where no earlier call bounds it. */
function countOf(
  { provider: { counting }, facts, counted, canCount = false }: CandidateInput,
  model: string,
  { fromRequest, isExtension }: { fromRequest: number; isExtension: boolean },
): { bound: number; tokens: number; isOpen: boolean } {
  const tokens = counted?.get(model);
  const mayHelp = counting !== undefined && fromRequest > 2 * counting.marginTokens;
  const isOpen = canCount && mayHelp && !isExtension && counted?.has(model) !== true;
  if (counting === undefined || tokens === undefined) return { bound: Infinity, tokens: 0, isOpen };
  return { bound: counting.boundOf(tokens, facts, model), tokens, isOpen };
}

/** The smallest max_tokens with which an answer is still of use: its thinking, and what this agent usually needs. */
function leastUsefulOutput({ facts, usualOutputTokens = 0 }: CandidateInput): number {
  const thinking = facts.thinking?.budgetTokens ?? 0;
  return Math.max(thinking + USEFUL_OUTPUT_TOKENS_MIN, usualOutputTokens);
}

function waysOf(facts: RequestFacts) {
  return {
    cacheWrites: facts.cacheWrites,
    speed: facts.speed,
    isUsOnly: facts.isUsOnly,
    isPriority: facts.isPriority,
    webSearches: webSearchesMax(facts),
  };
}

/** How many searches the caps of the request's tools allow. A tool without a cap is an unbounded part and counts none here. */
export function webSearchesMax({ serverTools }: RequestFacts): number {
  return serverTools.filter(({ type }) => type.startsWith("web_search")).reduce((sum, { usesMax }) => sum + (usesMax ?? 0), 0);
}

/** What lies outside the body is bounded by the context window alone, so without a published window it is not bounded. */
function unboundedParts({ unboundedParts, remoteInputs }: RequestFacts, row: PriceRow | undefined): readonly string[] {
  return row?.contextTokensMax === undefined ? [...new Set([...unboundedParts, ...remoteInputs])] : unboundedParts;
}

/** A context window holds all that one sampling reads, wherever it comes from; a window nobody published caps nothing. */
function inputBound(provider: PaidApi, facts: RequestFacts, model: string, row: PriceRow | undefined): number {
  const context = row?.contextTokensMax;
  const fromBody = provider.boundInputTokens(facts, model);
  if (context === undefined) return fromBody;
  const windows = context * facts.samplingsMax;
  return facts.remoteInputs.length > 0 ? windows : Math.min(fromBody, windows);
}

function lowered(maxTokens: number | undefined, most: number | undefined): number | undefined {
  return maxTokens === undefined || most === undefined ? maxTokens : Math.min(maxTokens, most);
}

/** Judged by the careful estimate, so that a conversation is not moved to a model that refuses it. */
function tooLarge(facts: RequestFacts, row: PriceRow | undefined): string | undefined {
  const context = row?.contextTokensMax;
  const tokens = Math.ceil(facts.textBytes / EXPECTED_BYTES_PER_TOKEN);
  if (context !== undefined && tokens > context) return `about ${tokens} input tokens do not fit its context of ${context}`;
  const budget = facts.thinking?.budgetTokens;
  const most = row?.outputTokensMax;
  if (budget !== undefined && most !== undefined && budget >= most)
    return `thinking budget ${budget} does not fit its ${most} output tokens`;
  return undefined;
}

/** Ten more calls of this size, in nano-dollars: a warm cache where the request marks one, written anew first if the model changes. */
function expectedTenCalls(facts: RequestFacts, row: PriceRow, isChange: boolean): bigint | undefined {
  const tokens = Math.ceil(facts.textBytes / EXPECTED_BYTES_PER_TOKEN);
  const tier = row.tiers.findLast(({ aboveInputTokens }) => tokens > aboveInputTokens);
  const { uncachedInput, cacheRead, cacheWrite5m, cacheWrite1h, output } = tier?.nanoUsdPerMTok ?? row.nanoUsdPerMTok;
  if (row.isFree) return 0n;
  if (uncachedInput === undefined || output === undefined) return undefined;
  const isCached = facts.cacheWrites !== "none" && facts.history.hasAssistantTurn;
  const read = isCached ? (cacheRead ?? uncachedInput) : uncachedInput;
  const write = (facts.cacheWrites === "1h" ? cacheWrite1h : cacheWrite5m) ?? uncachedInput;
  const inputs = isCached && isChange ? write + 9n * read : 10n * read;
  const outputs = 10n * output * BigInt(Math.min(facts.maxTokens ?? EXPECTED_OUTPUT_TOKENS_MAX, EXPECTED_OUTPUT_TOKENS_MAX));
  return (inputs * BigInt(tokens) + outputs) / 1_000_000n;
}
