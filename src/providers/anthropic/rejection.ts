/**
 * Owns why a model would not take a request that was written for another one.
 * Does not own whether its context window and largest output suffice (the engine: price rows) or when to switch (core/decisions).
 * Invariant: a doubt is a reason; a call is never moved to a model that answers it with an error as far as any source states.
 */
import type { RequestFacts } from "../provider.ts";
import { modelFacts, type ModelFacts } from "./models.ts";
import { toolName } from "./tools.ts";

/** Client tools of which no source states which models take them: they stay where they are. */
const BOUND_TOOLS = new Set(["computer", "computer_toolset", "browser_toolset"]);

/** In words, for the notice that a downgrade was skipped; `undefined` if the model takes the request. */
export function rejectedBy(facts: RequestFacts, model: string): string | undefined {
  const { facts: known, isKnown } = modelFacts(model);
  const reason = rejectionOf(facts, known);
  if (reason === undefined || isKnown) return reason;
  return `${reason} (nothing is known of this model, so only plain requests are moved to it)`;
}

function rejectionOf(facts: RequestFacts, known: ModelFacts): string | undefined {
  return thinkingReason(facts, known) ?? optionReason(facts, known) ?? toolReason(facts, known) ?? placeReason(facts);
}

function thinkingReason({ thinking, history }: RequestFacts, known: ModelFacts): string | undefined {
  if (thinking !== undefined && !known.thinkingTypes.includes(thinking.type)) return `it does not take thinking ${thinking.type}`;
  if (history.hasThinking && !known.isThinking) return "the conversation holds thinking blocks, and it does not think";
  return undefined;
}

function optionReason(facts: RequestFacts, known: ModelFacts): string | undefined {
  if (facts.speed === "fast" && !known.hasFastMode) return "it has no fast mode";
  if (facts.isUsOnly !== undefined && !known.hasInferenceGeo) return "it does not take inference_geo";
  if (facts.hasSamplingParameters && !known.hasSamplingParameters) return "it does not take temperature, top_p or top_k";
  if (facts.unboundedParts.includes("compaction") && !known.hasCompaction) return "it does not compact";
  const missing = facts.features.find((feature) => !known.features.includes(feature));
  return missing === undefined ? undefined : `it does not take ${missing}`;
}

function toolReason(facts: RequestFacts, known: ModelFacts): string | undefined {
  if (facts.isToolForced && !known.hasForcedTools) return "it does not take a forced tool_choice";
  if (!known.hasToolSearch && facts.serverTools.some(({ type }) => type.startsWith("tool_search_")))
    return "it has no tool search";
  const bound = facts.clientToolTypes.find((type) => BOUND_TOOLS.has(toolName(type)));
  return bound === undefined ? undefined : `no source states that it takes the tool ${bound}`;
}

/** A continued thread holds state of the model that began it. */
function placeReason({ remoteInputs }: RequestFacts): string | undefined {
  return remoteInputs.includes("thread") ? "a continued thread stays with its model" : undefined;
}
