/**
 * Owns what is known of each OpenAI model besides its price: which parameters it takes, how many tokens an image has at most.
 * Does not own prices, context windows and largest outputs (prices/openai.json).
 * Invariant: what no source states is read in the most careful way.
 *
 * Images: the guide "Images and vision" scales them down to tiles (base + tiles × tokens per tile, at most eight tiles) or to 32-pixel
 * patches × a factor of the model. The dearest tiles are gpt-4o-mini's, 2,833 + 8 × 5,667; the dearest factor published is 2.46, the
 * largest budget of patches 10,000.
 */
import { spellingsOf } from "../../core/pricing/match.ts";

export interface ModelFacts {
  /** It thinks before it answers: takes an effort, and no temperature. */
  isReasoning: boolean;
  hasImages: boolean;
  /** Largest image, in tokens. */
  imageTokensMax: number;
}

const PATCHES_MAX = 25_000;
const TILES_OF_4O_MINI_MAX = 2_833 + 8 * 5_667;

const UNKNOWN: ModelFacts = { isReasoning: true, hasImages: false, imageTokensMax: TILES_OF_4O_MINI_MAX };
const REASONING: ModelFacts = { isReasoning: true, hasImages: true, imageTokensMax: PATCHES_MAX };
const PLAIN: ModelFacts = { ...REASONING, isReasoning: false };

function named(names: string, facts: ModelFacts): [string, ModelFacts][] {
  return names.split(" ").map((name) => [name, facts]);
}

/** By name without a date. Exact, never by prefix: gpt-5 begins gpt-5.6-sol. */
const MODELS: ReadonlyMap<string, ModelFacts> = new Map([
  ...named("gpt-6.2-astra gpt-6.2-sol gpt-6.1-sol gpt-6.1-terra gpt-6-astra gpt-6-sol gpt-6-luna", REASONING),
  ...named("gpt-5.6 gpt-5.6-sol gpt-5.6-terra gpt-5.6-luna gpt-5.5 gpt-5.4 gpt-5.4-mini gpt-5.4-nano", REASONING),
  ...named("gpt-5.2 gpt-5.1 gpt-5 gpt-5-mini gpt-5-nano o1 o3 o4-mini", REASONING),
  ...named("o3-mini", { ...REASONING, hasImages: false }),
  ...named("gpt-4.1 gpt-4.1-mini gpt-4.1-nano gpt-4o gpt-4-turbo", PLAIN),
  ...named("gpt-4o-mini", { ...PLAIN, imageTokensMax: TILES_OF_4O_MINI_MAX }),
  ...named("gpt-3.5-turbo", { ...PLAIN, hasImages: false }),
]);

/** The facts of a model in any of its spellings, and whether anything is known of it. */
export function modelFacts(model: string): { facts: ModelFacts; isKnown: boolean } {
  for (const { name } of spellingsOf(model)) {
    const facts = MODELS.get(name);
    if (facts !== undefined) return { facts, isKnown: true };
  }
  return { facts: UNKNOWN, isKnown: false };
}

/** Every model listed here, by name without a date. */
export const KNOWN_MODELS: readonly string[] = [...MODELS.keys()];
