/**
 * Owns what the four agents of the demo do, and the limits they do it under.
 * Invariant: every figure the demo shows comes out of these calls; nothing of it is written here.
 */

/** One agent's work: the same call again and again. */
export interface AgentPlan {
  agent: string;
  session: string;
  model: string;
  /** Calls it would make if nobody stopped it. */
  calls: number;
  /** Between an answer and the next call. */
  thinkMs: number;
  /** Bytes of its prompt. */
  promptBytes: number;
  /** Part of the prompt that it marks for the provider's cache. */
  cachedBytes: number;
  /** Tokens the provider counts for the prompt; `undefined`: one for four bytes. */
  inputTokens: number | undefined;
  outputTokens: number;
  maxTokens: number;
  what: string;
}

export const RUNAWAY = "ticket-retry";

/** Calls that a refused runaway still tries: what a loop without manners does. */
export const TRIES_AFTER_REFUSAL = 5;

export const PLANS: readonly AgentPlan[] = [
  {
    agent: "triage",
    session: "inbox-monday",
    model: "claude-haiku-5-5",
    calls: 24,
    thinkMs: 750,
    promptBytes: 12_000,
    cachedBytes: 0,
    inputTokens: undefined,
    outputTokens: 180,
    maxTokens: 512,
    what: "sorts incoming tickets",
  },
  {
    agent: "ticket-responder",
    session: "ticket-4822",
    model: "claude-sonnet-5-5",
    calls: 14,
    thinkMs: 1_300,
    promptBytes: 3_600,
    cachedBytes: 80_000,
    inputTokens: undefined,
    outputTokens: 420,
    maxTokens: 1_024,
    what: "answers one, with a cached handbook",
  },
  {
    agent: "report-writer",
    session: "weekly-report",
    model: "claude-opus-5-5",
    calls: 5,
    thinkMs: 3_600,
    promptBytes: 32_000,
    cachedBytes: 0,
    inputTokens: undefined,
    outputTokens: 1_400,
    maxTokens: 2_048,
    what: "writes the weekly report",
  },
  {
    agent: RUNAWAY,
    session: "ticket-4821",
    model: "claude-opus-5-5",
    calls: 200,
    thinkMs: 20,
    promptBytes: 60_000,
    cachedBytes: 0,
    inputTokens: 60_000,
    outputTokens: 1_536,
    maxTokens: 2_048,
    what: "rejects every answer and asks again",
  },
];

/** How fast the simulated models write: what makes a call last about a quarter of a second. */
export const OUTPUT_TOKENS_PER_SECOND = 6_000;

/** The demo's purser.yaml. */
export function demoYaml(throttle: string): string {
  return `limits:
  - name: session-spend
    per: session
    usd: 10
    at: { $5: [alert, downgrade], $8: [alert, { throttle: ${throttle} }], 100%: [alert, stop] }
  - name: everything-day
    per: all
    usd: 50
    every: day
models:
  downgrade: { claude-opus-5-5: claude-sonnet-5-5 }
`;
}
