/**
 * Owns why a model would not take a request that was written for another one.
 * Does not own whether its context window and largest output suffice (the engine: price rows) or when to switch (core/decisions).
 * Invariant: a doubt is a reason; a call is never moved to a model that answers it with an error as far as any source states.
 */
import type { RequestFacts } from "../provider.ts";
import { modelFacts, type ModelFacts } from "./models.ts";
import { isPlainTool } from "./tools.ts";

const STORED = new Set(["previous_response_id", "conversation", "prompt", "item_reference"]);

/** In words, for the notice that a downgrade was skipped; `undefined` if the model takes the request. */
export function rejectedBy(facts: RequestFacts, model: string): string | undefined {
  const { facts: known, isKnown } = modelFacts(model);
  const reason = placeReason(facts) ?? optionReason(facts, known);
  if (reason === undefined || isKnown) return reason;
  return `${reason} (nothing is known of this model, so only plain requests are moved to it)`;
}

function placeReason({ features, remoteInputs, history, clientToolTypes, serverTools }: RequestFacts): string | undefined {
  if (features.includes("embedding")) return "an embedding of another model means something else";
  if (history.hasThinking) return "the conversation holds the reasoning of the model that wrote it";
  if (remoteInputs.some((part) => STORED.has(part))) return "what is stored at the provider stays with its model";
  const bound = [...serverTools.map(({ type }) => type), ...clientToolTypes].find((type) => !isPlainTool(type));
  return bound === undefined ? undefined : `no source states that it takes the tool ${bound}`;
}

function optionReason(facts: RequestFacts, known: ModelFacts): string | undefined {
  if (facts.hasSamplingParameters && known.isReasoning)
    return "it does not take temperature, top_p, stop, penalties or log probabilities";
  if (facts.features.includes("max_tokens") && known.isReasoning) return "it takes max_completion_tokens and not max_tokens";
  if (facts.features.includes("reasoning_effort") && !known.isReasoning) return "it takes no reasoning effort";
  if (facts.imageCount > 0 && !known.hasImages) return "it does not take images";
  return undefined;
}
