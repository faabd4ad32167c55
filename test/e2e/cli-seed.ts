/** A ledger with a known day and a half in it, for the command line's tests: every figure can be worked out by hand. */
import { readConfig, type Config } from "../../src/config/config.ts";
import type { Candidate } from "../../src/core/decisions/call.ts";
import type { CallResult } from "../../src/core/decisions/operations.ts";
import { toNanoUsd } from "../../src/core/money/money.ts";
import { boundCost } from "../../src/core/pricing/bound.ts";
import { buildPriceBook } from "../../src/core/pricing/price-book.ts";
import { rateUsage } from "../../src/core/pricing/rate.ts";
import { NO_TOKENS, type TokenParts } from "../../src/core/usage/usage.ts";
import type { Ledger } from "../../src/ledger/ledger.ts";
import { readShippedRows } from "../figures/shipped-prices.ts";

/** Sunday, at four past ten. */
export const NOW_MS = Date.parse("2026-11-22T10:04:05Z");

export const SEED_YAML = `limits:
  - { name: everything-day, per: all, usd: 50, every: day, at: { 50%: alert, 80%: alert, 100%: stop } }
  - { name: session-spend, per: session, usd: 1, at: { 50%: alert, 100%: stop } }
  - { name: agent-rate, per: agent, requests: 30, every: 1m }
  - { name: in-flight, per: all, concurrency: 8 }
  - { name: project-month, per: project, tokens: 5_000_000, every: month, at: { 80%: alert, 100%: grace } }
`;

const book = buildPriceBook(readShippedRows());

/** The configuration of {@link SEED_YAML}. */
export function seedConfig(yaml = SEED_YAML): Config {
  const read = readConfig({ text: yaml, fileName: "purser.yaml", env: {} });
  if (read.outcome === "invalid") throw new Error(read.problems.map(({ message }) => message).join("\n"));
  return read.config;
}

interface SeedCall {
  id: string;
  atMs: number;
  agent: string;
  session: string;
  model: string;
  tokens: Partial<TokenParts>;
  ending?: "settle" | "void" | "none" | "expire";
  error?: { type: string; message: string };
  extension?: Candidate["extension"];
}

/** One call: reserved at its proven bound, and ended as it says. */
async function call(ledger: Ledger, seed: SeedCall): Promise<void> {
  const { id, atMs, agent, session, model, ending = "settle" } = seed;
  const tokens = { ...NO_TOKENS, ...seed.tokens };
  const row = book.find("anthropic", model, atMs);
  if (row === undefined) throw new Error(`no price for ${model}`);
  const inputTokensBound = 2 * (tokens.uncachedInputTokens + tokens.cacheReadTokens + tokens.cacheWrite5mTokens);
  const bound = { inputTokens: inputTokensBound, outputTokens: 2_048, cacheWrites: "none", speed: "standard" } as const;
  const candidate: Candidate = {
    model,
    canonicalModel: row.model,
    rejectedBy: undefined,
    maxTokens: 2_048,
    inputTokensBound,
    ...(seed.extension === undefined ? {} : { extension: seed.extension }),
    outputTokensBound: 2_048,
    usdBound: boundCost(row, { ...bound, isUsOnly: false, isPriority: false, webSearches: 0 }),
    unboundedParts: [],
    tenCallsNanoUsd: undefined,
    priceIds: [row.id],
  };
  const [reserved] = await ledger.apply([
    {
      kind: "reserve",
      atMs,
      ownerId: "own_test",
      call: {
        callId: id,
        scopes: {
          project: "support",
          agent,
          session,
          parentSessions: [],
          user: "default",
          key: "default",
          task: "default",
          tags: {},
        },
        provider: "anthropic",
        requestedModel: model,
        attempt: 0,
        isStream: true,
        attribution: { user: "ann", tags: { team: "blue" } },
        history: { hasAssistantTurn: false, isAnsweringTool: false, hasThinking: false },
      },
      candidates: [candidate],
      heldBack: [],
      grantedStartsMs: {},
    },
  ]);
  if (reserved?.outcome !== "reserved" || ending === "none") return;
  const endedAtMs = atMs + 4_200;
  if (ending === "void") await ledger.apply([{ kind: "void", atMs: endedAtMs, callId: id, reason: "nothing was sent" }]);
  if (ending === "expire") await ledger.apply([{ kind: "expire", atMs: endedAtMs, callId: id, reason: "its process ended" }]);
  if (ending !== "settle") return;
  const usage = {
    samplings: [{ kind: "message" as const, model, tokens }],
    webSearchRequests: 0,
    serviceTier: undefined,
    speed: undefined,
    isUsOnly: false,
    flags: [],
  };
  const rated = rateUsage(usage, () => row);
  const result: CallResult = {
    costNanoUsd: rated.outcome === "rated" ? rated.costNanoUsd : toNanoUsd(0n),
    tokens,
    costParts: rated.parts,
    priceIds: rated.priceIds,
    webSearchRequests: 0,
    isEstimated: false,
    flags: [],
    model,
    status: seed.error === undefined ? 200 : 529,
    stopReason: "end_turn",
    providerRequestId: `req_${id}`,
    error: seed.error,
  };
  await ledger.apply([{ kind: "settle", atMs: endedAtMs, callId: id, result }]);
}

/** Fills an empty ledger: yesterday 12 calls, today 14, one running, one refused, one void, one expired. */
export async function seedLedger(ledger: Ledger, config: Config = seedConfig(), nowMs = NOW_MS): Promise<void> {
  const startMs = nowMs - 36 * 3_600_000;
  await ledger.configure({ version: config.version, limits: config.limits, downgrade: config.downgrade, atMs: startMs });
  for (let index = 0; index < 12; index += 1) {
    const atMs = nowMs - 26 * 3_600_000 + index * 1_800_000;
    const agent = index % 3 === 0 ? "triage" : "ticket-responder";
    const tokens = { uncachedInputTokens: 1_200 + index * 10, outputTokens: 350, cacheReadTokens: 24_000 };
    await call(ledger, { id: `call_y${index}`, atMs, agent, session: `ticket-47${index}`, model: "claude-sonnet-5-5", tokens });
  }
  for (let index = 0; index < 8; index += 1) {
    const atMs = nowMs - 3_600_000 + index * 60_000;
    const tokens = {
      uncachedInputTokens: 900,
      cacheWrite5mTokens: index === 0 ? 24_000 : 0,
      cacheReadTokens: index === 0 ? 0 : 24_000,
      outputTokens: 420,
    };
    await call(ledger, {
      id: `call_t${index}`,
      atMs,
      agent: "ticket-responder",
      session: `ticket-4821`,
      model: "claude-sonnet-5-5",
      tokens,
    });
  }
  for (let index = 0; index < 4; index += 1) {
    const atMs = nowMs - 50_000 + index * 10_000;
    await call(ledger, {
      id: `call_r${index}`,
      atMs,
      agent: "runaway",
      session: "night-shift",
      model: "claude-opus-5-5",
      tokens: { uncachedInputTokens: 60_000, outputTokens: 1_536 },
      ...(index === 1 ? { extension: { inputTokens: 60_000, outputTokens: 1_536, newTokens: 58_464 } } : {}),
    });
  }
  const at = (secondsAgo: number): number => nowMs - secondsAgo * 1_000;
  await call(ledger, {
    id: "call_v",
    atMs: at(300),
    agent: "triage",
    session: "inbox",
    model: "claude-haiku-5-5",
    tokens: { uncachedInputTokens: 500 },
    ending: "void",
  });
  await call(ledger, {
    id: "call_x",
    atMs: at(280),
    agent: "triage",
    session: "inbox",
    model: "claude-haiku-5-5",
    tokens: { uncachedInputTokens: 500 },
    ending: "expire",
  });
  const error = { type: "overloaded_error", message: "Overloaded" };
  await call(ledger, {
    id: "call_e",
    atMs: at(200),
    agent: "triage",
    session: "inbox",
    model: "claude-haiku-5-5",
    tokens: {},
    error,
  });
  await call(ledger, {
    id: "call_open",
    atMs: at(3),
    agent: "triage",
    session: "inbox",
    model: "claude-haiku-5-5",
    tokens: { uncachedInputTokens: 2_000 },
    ending: "none",
  });
}
