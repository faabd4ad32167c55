/**
 * Owns how many input tokens a request can be billed for at most, on any model.
 * Does not own the context window, which caps each sampling and alone bounds what is not in the body (the engine takes it from the
 * price row), nor output (max_tokens) or money (core/pricing/bound.ts).
 * Invariant: no part is left out; a part whose size no source states counts as the dearest known. docs/bounds.md proves each part.
 */
import type { MessageSpan, RequestFacts } from "../provider.ts";
import { modelFacts, type ModelFacts } from "./models.ts";
import { toolName } from "./tools.ts";

/**
 * What a client tool's own definition costs, in tokens, by name without a date. Two are published with "~": rounded up to the next
 * 500.
 *
 * @see providers.md §9 [D]; the older computer tool is 735 and up to 499 of system prompt
 */
const TOOL_TOKENS: Readonly<Record<string, number>> = {
  custom: 0,
  text_editor: 700,
  computer: 735 + 499,
  computer_toolset: 5_000,
  browser_toolset: 7_000,
};

/** For a client tool without a published figure (memory): the dearest known. */
const TOOL_TOKENS_MAX = 7_000;

/**
 * The most input tokens of all samplings together, before the context window caps each.
 *
 * @remarks A server-tool loop reads the context once per sampling. So the window caps this at `samplingsMax` × window, and where
 * the request has remote inputs, `samplingsMax` × window is the bound.
 */
export function boundInputTokens(facts: RequestFacts, model: string): number {
  const known = modelFacts(model).facts;
  return facts.samplingsMax * (facts.textBytes + facts.imageCount * known.imageTokensMax + toolOverhead(facts, known));
}

/** The most tokens that messages add: their bytes and the comma before each, and their images. Tools defined in them are no part. */
export function boundMessageTokens(messages: readonly MessageSpan[], model: string): number {
  const { imageTokensMax } = modelFacts(model).facts;
  return messages.reduce(
    (sum, { start, end, payloadBytes, imageCount }) => sum + 1 + end - start - payloadBytes + imageCount * imageTokensMax,
    0,
  );
}

/** By how much the provider's own count may be too low: a twentieth, and as much as a small request has in all. @see design §4 */
const COUNT_MARGIN_SHARE = 20;
export const COUNT_MARGIN_TOKENS = 500;

/** The most input tokens of a request that the provider counted, images apart: one that is fetched may be another by then. */
export function boundCountedTokens(counted: number, facts: RequestFacts, model: string): number {
  const { imageTokensMax } = modelFacts(model).facts;
  const margin = Math.ceil(counted / COUNT_MARGIN_SHARE) + COUNT_MARGIN_TOKENS;
  return counted + margin + facts.imageCount * imageTokensMax;
}

function toolOverhead(facts: RequestFacts, known: ModelFacts): number {
  if (facts.clientToolTypes.length === 0 && facts.serverTools.length === 0) return 0;
  const prompt = facts.isToolForced ? known.toolPromptTokens.forced : known.toolPromptTokens.auto;
  return facts.clientToolTypes.reduce((sum, type) => sum + toolTokens(toolName(type), known), prompt);
}

function toolTokens(name: string, known: ModelFacts): number {
  return name === "bash" ? known.bashTokens : (TOOL_TOKENS[name] ?? TOOL_TOKENS_MAX);
}
