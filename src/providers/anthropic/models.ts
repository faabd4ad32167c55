/**
 * Owns what is known of each Claude model besides its price: image sizes, tool overheads, which features it takes.
 * Does not own prices, context windows and largest outputs (prices/anthropic.json).
 * Invariant: what no source states is read in the most careful way: the dearest overhead, and a feature it does not have.
 *
 * Sources (tags of providers.md): [D vision] images; [D] and [F-107] tool overheads, §9; [AI] @ai-sdk/anthropic 4.0.105
 * `src/anthropic-model-catalog.ts` and [S0] @anthropic-ai/sdk 0.137.0 for features; [P fast-mode] and §7 for fast mode; §3 for
 * inference_geo ("Claude 4.6+"). Where sources differ, the one that takes less counts.
 */
import { spellingsOf } from "../../core/pricing/match.ts";

/** What one model takes, and what its tools cost before anything is said. */
export interface ModelFacts {
  /** Largest image after scaling down, in tokens. */
  imageTokensMax: number;
  /** The system prompt that tools bring along, in tokens: with tool_choice auto or none, and with any or tool. */
  toolPromptTokens: { auto: number; forced: number };
  bashTokens: number;
  thinkingTypes: readonly string[];
  /** True if it reads thinking blocks of earlier turns. */
  isThinking: boolean;
  hasForcedTools: boolean;
  hasFastMode: boolean;
  hasInferenceGeo: boolean;
  hasSamplingParameters: boolean;
  /** Of the names in `RequestFacts.features`. */
  features: readonly string[];
  hasToolSearch: boolean;
  hasCompaction: boolean;
}

/** Most careful reading, for a model nobody listed. The dearest known tool prompt is Opus 4.7's. */
const UNKNOWN: ModelFacts = {
  imageTokensMax: 4_784,
  toolPromptTokens: { auto: 675, forced: 804 },
  bashTokens: 325,
  thinkingTypes: [],
  isThinking: false,
  hasForcedTools: false,
  hasFastMode: false,
  hasInferenceGeo: false,
  hasSamplingParameters: false,
  features: [],
  hasToolSearch: false,
  hasCompaction: false,
};

/** Claude 3 and 3.5: no thinking. */
const CLAUDE_3: ModelFacts = {
  ...UNKNOWN,
  imageTokensMax: 1_568,
  bashTokens: 244,
  thinkingTypes: ["disabled"],
  hasForcedTools: true,
  hasSamplingParameters: true,
};
const CLAUDE_4: ModelFacts = { ...CLAUDE_3, thinkingTypes: ["enabled", "disabled"], isThinking: true };
const CLAUDE_4_5: ModelFacts = { ...CLAUDE_4, features: ["output_format"], hasToolSearch: true };
const CLAUDE_4_6: ModelFacts = {
  ...CLAUDE_4_5,
  thinkingTypes: ["enabled", "adaptive", "disabled"],
  hasInferenceGeo: true,
  features: ["effort", "output_format"],
  hasCompaction: true,
};
/** From 4.7 on: larger images, no budget for thinking, no sampling parameters. */
const CLAUDE_4_7: ModelFacts = {
  ...CLAUDE_4_6,
  imageTokensMax: 4_784,
  bashTokens: 325,
  thinkingTypes: ["adaptive", "disabled"],
  hasSamplingParameters: false,
  features: ["effort", "effort_xhigh", "output_format"],
};
/** Thinking is always on. */
const ALWAYS_THINKING: ModelFacts = { ...CLAUDE_4_7, thinkingTypes: ["adaptive"] };
const UNFORCED: ModelFacts = { ...ALWAYS_THINKING, hasForcedTools: false };

function withToolPrompt(facts: ModelFacts, auto: number, forced: number): ModelFacts {
  return { ...facts, toolPromptTokens: { auto, forced } };
}

/** By name without a date. Exact, never by prefix: claude-opus-5 begins claude-opus-5-5. */
const MODELS: Readonly<Record<string, ModelFacts>> = {
  "claude-fable-5-2": { ...UNFORCED, hasFastMode: true },
  "claude-fable-5-1": UNFORCED,
  "claude-fable-5": ALWAYS_THINKING,
  // Mythos is Fable for verified organisations: read alike. @see providers.md §8
  "claude-mythos-5-2": UNFORCED,
  "claude-mythos-5-1": UNFORCED,
  "claude-mythos-5": ALWAYS_THINKING,
  "claude-opus-5-5": { ...UNFORCED, hasFastMode: true },
  "claude-sonnet-5-5": { ...UNFORCED, thinkingTypes: ["adaptive", "between_tools"] },
  "claude-haiku-5-5": withToolPrompt(CLAUDE_4_7, 286, 406),
  "claude-opus-5": { ...withToolPrompt(CLAUDE_4_7, 286, 406), hasFastMode: true },
  "claude-sonnet-5": withToolPrompt(CLAUDE_4_7, 354, 474),
  // Fast mode of Opus 4.8 ends on 2026-11-30: nothing is moved to it any more.
  "claude-opus-4-8": withToolPrompt(CLAUDE_4_7, 290, 410),
  "claude-opus-4-7": { ...CLAUDE_4_7, features: [...CLAUDE_4_7.features, "task_budget"] },
  // Takes `speed: fast`, and runs and bills at standard speed.
  "claude-opus-4-6": { ...withToolPrompt(CLAUDE_4_6, 497, 589), hasFastMode: true },
  "claude-sonnet-4-6": withToolPrompt(CLAUDE_4_6, 497, 589),
  "claude-opus-4-5": { ...withToolPrompt(CLAUDE_4_5, 496, 588), features: ["effort", "output_format"] },
  "claude-sonnet-4-5": withToolPrompt(CLAUDE_4_5, 496, 588),
  "claude-haiku-4-5": withToolPrompt(CLAUDE_4_5, 496, 588),
  "claude-opus-4-1": { ...withToolPrompt(CLAUDE_4, 313, 315), features: ["output_format"] },
  "claude-opus-4": withToolPrompt(CLAUDE_4, 313, 315),
  "claude-opus-4-0": withToolPrompt(CLAUDE_4, 313, 315),
  "claude-sonnet-4": withToolPrompt(CLAUDE_4, 313, 315),
  "claude-sonnet-4-0": withToolPrompt(CLAUDE_4, 313, 315),
  "claude-3-7-sonnet": CLAUDE_4,
  "claude-3-5-haiku": withToolPrompt(CLAUDE_3, 264, 355),
  "claude-3-5-sonnet": CLAUDE_3,
  "claude-3-haiku": CLAUDE_3,
  "claude-3-opus": CLAUDE_3,
  "claude-3-sonnet": CLAUDE_3,
};

/** The facts of a model in any of its spellings, and whether anything is known of it. */
export function modelFacts(model: string): { facts: ModelFacts; isKnown: boolean } {
  for (const { name } of spellingsOf(model)) {
    if (Object.hasOwn(MODELS, name)) return { facts: MODELS[name] ?? UNKNOWN, isKnown: true };
  }
  return { facts: UNKNOWN, isKnown: false };
}

/** Every model listed here, by name without a date. */
export const KNOWN_MODELS: readonly string[] = Object.keys(MODELS);
