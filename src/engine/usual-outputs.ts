/**
 * Owns how long the answers of each agent usually are: what a call that has to be made smaller is given at least.
 * Does not own making it smaller (core/decisions).
 * Invariants: it chooses a size and proves none, so that forgetting it (a restart begins with nothing) costs usefulness and no money;
 * memory is bounded.
 */

import { IdleMap } from "./idle-map.ts";

/** The last answers that are remembered of one agent. */
const ANSWERS_MAX = 200;
/** So many agents are remembered; the one idle longest is forgotten first. */
const AGENTS_MAX = 1_000;
const SHARE = 0.9;

export interface UsualOutputs {
  note(agent: string, outputTokens: number): void;
  /** Nine of ten of its answers had no more tokens than this; 0: none is remembered. */
  of(agent: string): number;
}

export function createUsualOutputs(): UsualOutputs {
  const byAgent = new IdleMap<{ answers: number[]; rising: number[] }>({ sizeMax: AGENTS_MAX });

  return {
    note(agent, outputTokens) {
      const known = byAgent.get(agent) ?? { answers: [], rising: [] };
      byAgent.put(agent, known);
      byAgent.forget();
      known.answers.push(outputTokens);
      known.rising.splice(placeIn(known.rising, outputTokens), 0, outputTokens);
      const forgotten = known.answers.length > ANSWERS_MAX ? known.answers.shift() : undefined;
      if (forgotten !== undefined) known.rising.splice(placeIn(known.rising, forgotten), 1);
    },
    of(agent) {
      const rising = byAgent.get(agent)?.rising ?? [];
      return rising[Math.ceil(rising.length * SHARE) - 1] ?? 0;
    },
  };
}

/** The first place of a rising list whose number is not below this one. */
function placeIn(rising: readonly number[], number: number): number {
  let [low, high] = [0, rising.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((rising[middle] ?? 0) < number) low = middle + 1;
    else high = middle;
  }
  return low;
}
