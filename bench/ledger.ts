/**
 * Calls per second through the ledger: reserve and settle of one call under ten limits, at 64 and 512 calls in flight, every answer
 * durable (one fsync per batch). The limits are wide: what is measured is the admitted path.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Candidate } from "../src/core/decisions/call.ts";
import type { ReserveOperation, SettleOperation } from "../src/core/decisions/operations.ts";
import type { Limit, Measure, ScopeName, Window } from "../src/core/limits/limit.ts";
import { toNanoUsd } from "../src/core/money/money.ts";
import { NO_TOKENS } from "../src/core/usage/usage.ts";
import type { Ledger } from "../src/ledger/ledger.ts";
import { createMemoryLedger } from "../src/ledger/memory/memory-ledger.ts";
import { openSqliteLedger } from "../src/ledger/sqlite/sqlite-ledger.ts";

const SECONDS = Number(process.argv[2] ?? 3);
const DAY: Window = { kind: "calendar", unit: "day", timeZone: "UTC", weekStart: 1, monthDay: 1 };
const MONTH: Window = { ...DAY, unit: "month" };
const MINUTE: Window = { kind: "rolling", lengthMs: 60_000 };

function limit(name: string, per: ScopeName[], measure: Measure, window: Window): Limit {
  const amount = 10n ** 15n;
  const thresholds = [
    { amount: amount / 2n, label: "50%", actions: [{ kind: "alert" as const }] },
    { amount, label: "100%", actions: [{ kind: "stop" as const }] },
  ];
  return { name, per, where: [], measure, amount, window, cacheReads: "count", unboundedReserveNanoUsd: undefined, thresholds };
}

/** Ten limits over eight scope values, as a team with agents would have them. */
export const TEN_LIMITS: Limit[] = [
  limit("everything-day", ["all"], "usd", DAY),
  limit("everything-month", ["all"], "usd", MONTH),
  limit("project-month", ["project"], "usd", MONTH),
  limit("agent-day", ["agent"], "usd", DAY),
  limit("agent-tokens", ["agent"], "tokens", DAY),
  limit("agent-rate", ["agent"], "requests", MINUTE),
  limit("agent-slots", ["agent"], "concurrency", DAY),
  limit("user-day", ["user"], "usd", DAY),
  limit("session-spend", ["session"], "usd", { kind: "lifetime" }),
  limit("model-day", ["model"], "outputTokens", DAY),
];

const candidate: Candidate = {
  model: "claude-opus-5-5",
  canonicalModel: "claude-opus-5-5",
  rejectedBy: undefined,
  maxTokens: 2_048,
  inputTokensBound: 60_000,
  outputTokensBound: 2_048,
  usdBound: toNanoUsd(351_200_000n),
  unboundedParts: [],
  tenCallsNanoUsd: undefined,
  priceIds: ["claude-opus-5-5@2026-08-01"],
};

export function reserveOf(index: number, atMs: number): ReserveOperation {
  const scopes = {
    project: `project-${index % 4}`,
    agent: `agent-${index % 16}`,
    session: `session-${index % 64}`,
    parentSessions: [],
    user: `user-${index % 32}`,
    key: "key",
    task: "default",
    tags: {},
  };
  return {
    kind: "reserve",
    atMs,
    ownerId: "bench",
    call: {
      callId: `call_${atMs}_${index}`,
      scopes,
      provider: "anthropic",
      requestedModel: "claude-opus-5-5",
      attempt: 0,
      isStream: true,
      attribution: { user: scopes.user, tags: {} },
      history: { hasAssistantTurn: true, isAnsweringTool: true, hasThinking: false },
    },
    candidates: [candidate],
    heldBack: [],
    grantedStartsMs: {},
  };
}

export function settleOf(callId: string, atMs: number): SettleOperation {
  return {
    kind: "settle",
    atMs,
    callId,
    result: {
      costNanoUsd: toNanoUsd(270_720_000n),
      tokens: { ...NO_TOKENS, uncachedInputTokens: 60_000, outputTokens: 1_536 },
      costParts: [],
      priceIds: candidate.priceIds,
      webSearchRequests: 0,
      isEstimated: false,
      flags: [],
      model: candidate.model,
      status: 200,
      stopReason: "end_turn",
      providerRequestId: "req_011CQ",
      error: undefined,
    },
  };
}

interface Figures {
  callsPerSecond: number;
  p50Ms: number;
  p99Ms: number;
  /** Processor time of the whole process per call: comparable also where the machine is shared. */
  cpuUsPerCall: number;
}

async function measure(ledger: Ledger, inFlight: number, seconds: number): Promise<Figures> {
  const cpuBefore = process.cpuUsage();
  const untilMs = performance.now() + seconds * 1_000;
  const startedAtMs = performance.now();
  const latencies: number[] = [];
  let index = 0;
  async function caller(): Promise<void> {
    while (performance.now() < untilMs) {
      const operation = reserveOf((index += 1), Date.now());
      const beganMs = performance.now();
      const [reserved] = await ledger.apply([operation]);
      latencies.push(performance.now() - beganMs);
      if (reserved?.outcome !== "reserved") throw new Error(`not admitted: ${JSON.stringify(reserved?.outcome)}`);
      await ledger.apply([settleOf(operation.call.callId, Date.now())]);
    }
  }
  await Promise.all(Array.from({ length: inFlight }, caller));
  latencies.sort((a, b) => a - b);
  const at = (share: number): number => latencies[Math.floor(latencies.length * share)] ?? 0;
  const callsPerSecond = (latencies.length * 1_000) / (performance.now() - startedAtMs);
  const { user, system } = process.cpuUsage(cpuBefore);
  return { callsPerSecond, p50Ms: at(0.5), p99Ms: at(0.99), cpuUsPerCall: (user + system) / latencies.length };
}

async function measureStore(name: string, open: () => Promise<Ledger>): Promise<void> {
  for (const inFlight of [1, 64, 512]) {
    const ledger = await open();
    await ledger.configure({ version: "bench", limits: TEN_LIMITS, downgrade: new Map(), atMs: Date.now() });
    // Compiled code first: the threads start cold.
    await measure(ledger, inFlight, 1);
    const { callsPerSecond, p50Ms, p99Ms, cpuUsPerCall } = await measure(ledger, inFlight, SECONDS);
    await ledger.close();
    const rate = Math.round(callsPerSecond).toLocaleString("en-US");
    process.stdout.write(
      `${name.padEnd(8)} ${String(inFlight).padStart(4)} in flight: ${rate.padStart(8)} calls/s, reserve p50 ${p50Ms.toFixed(2)} ms, p99 ${p99Ms.toFixed(2)} ms, ${cpuUsPerCall.toFixed(0)} µs of processor a call\n`,
    );
  }
}

if (process.argv[1] === import.meta.filename) {
  const folder = mkdtempSync(join(tmpdir(), "purser-bench-"));
  let fileCount = 0;
  try {
    await measureStore("memory", async () => createMemoryLedger());
    await measureStore("sqlite", () => {
      fileCount += 1;
      return openSqliteLedger({ path: join(folder, `ledger-${fileCount}.db`) });
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
}
