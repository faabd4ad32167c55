/**
 * Owns how many input tokens a request can be billed for at most, on any model.
 * Does not own the context window, which caps each reading and alone bounds what is not in the body (the engine takes it from the price
 * row), nor output or money (core/pricing/bound.ts).
 * Invariant: no part is left out. docs/bounds.md proves each part.
 */
import type { MessageSpan, RequestFacts } from "../provider.ts";
import { modelFacts } from "./models.ts";

/** A tool that the provider runs makes the model read everything again. The inputs of an embedding are read once each. */
export function boundInputTokens(facts: RequestFacts, model: string): number {
  const once = facts.textBytes + facts.imageCount * modelFacts(model).facts.imageTokensMax;
  return facts.serverTools.length > 0 ? once * facts.samplingsMax : once;
}

/** The most tokens that messages add: their bytes and the comma before each, and their images. */
export function boundMessageTokens(messages: readonly MessageSpan[], model: string): number {
  const { imageTokensMax } = modelFacts(model).facts;
  return messages.reduce(
    (sum, { start, end, payloadBytes, imageCount }) => sum + 1 + end - start - payloadBytes + imageCount * imageTokensMax,
    0,
  );
}
