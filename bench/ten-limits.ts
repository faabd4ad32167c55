/** The full gate of every benchmark: ten limits over eight scope values, as a team with agents would have them, wide enough to admit. */
import { readConfig } from "../src/config/config.ts";

const amounts = "at: { 50%: alert, 100%: stop }";

export const TEN_LIMITS_YAML = `limits:
  - { name: everything-day, per: all, usd: 1_000_000, every: day, ${amounts} }
  - { name: everything-month, per: all, usd: 1_000_000, every: month, ${amounts} }
  - { name: project-month, per: project, usd: 1_000_000, every: month, ${amounts} }
  - { name: agent-day, per: agent, usd: 1_000_000, every: day, ${amounts} }
  - { name: agent-tokens, per: agent, tokens: 900_000_000_000, every: day, ${amounts} }
  - { name: agent-rate, per: agent, requests: 900_000_000_000, every: 1m, ${amounts} }
  - { name: agent-slots, per: agent, concurrency: 900_000_000_000 }
  - { name: user-day, per: user, usd: 1_000_000, every: day, ${amounts} }
  - { name: session-spend, per: session, usd: 1_000_000, ${amounts} }
  - { name: model-day, per: model, outputTokens: 900_000_000_000, every: day, ${amounts} }
`;

const read = readConfig({ text: TEN_LIMITS_YAML, fileName: "bench.yaml", env: {} });
if (read.outcome === "invalid") throw new Error(read.problems.map(({ message }) => message).join("\n"));
export const TEN_LIMITS = read.config.limits;
if (TEN_LIMITS.length !== 10) throw new Error("the gate of the benchmarks has ten limits");
