/**
 * Owns how long the answers of each agent usually are: what a call that has to be made smaller is given at least.
 * Does not own making it smaller (core/decisions).
 * Invariants: it chooses a size and proves none, so that forgetting it (a restart begins with nothing) costs usefulness and no money;
 * memory is bounded.
 */

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
  // Insertion order is the order of use, so the first key is the one idle longest.
  const byAgent = new Map<string, { answers: number[]; usual: number | undefined }>();

  return {
    note(agent, outputTokens) {
      const known = byAgent.get(agent) ?? { answers: [], usual: undefined };
      byAgent.delete(agent);
      byAgent.set(agent, known);
      known.answers.push(outputTokens);
      if (known.answers.length > ANSWERS_MAX) known.answers.shift();
      known.usual = undefined;
      for (const [oldest] of byAgent) {
        if (byAgent.size <= AGENTS_MAX) break;
        byAgent.delete(oldest);
      }
    },
    of(agent) {
      const known = byAgent.get(agent);
      if (known === undefined) return 0;
      const rank = Math.ceil(known.answers.length * SHARE) - 1;
      known.usual ??= known.answers.toSorted((a, b) => a - b)[rank] ?? 0;
      return known.usual;
    },
  };
}
