/**
 * Goal: a batch of 10,000 requests is held whole before it is handed in, survives that its gateway is killed, twice, and is settled to the
 * nano-dollar although nobody fetches its results. Method: `purser serve` as a process of its own, killed without warning once the batch
 * is in and once in the middle of settling it; the provider's own bill beside the ledger.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import Anthropic from "@anthropic-ai/sdk";
import { afterAll, beforeAll, expect, test } from "vitest";
import { compileLimits, totalsOf, type ScopeState } from "../../src/core/decisions/counters.ts";
import type { Limit } from "../../src/core/limits/limit.ts";
import type { BatchRecord, CallRecord } from "../../src/ledger/ledger.ts";
import { openReading } from "../../src/ledger/sqlite/file.ts";
import { Queries } from "../../src/ledger/sqlite/queries.ts";
import { verifySqliteLedger } from "../../src/ledger/sqlite/verify.ts";
import { startSimulator, type Simulator } from "../../src/testing/testing.ts";
import { run, serve } from "../e2e/processes.ts";
import { reportFigure } from "./figures.ts";

const LINES = 10_000;
const MAX_TOKENS = 1_000;
const CONFIG = "limits: [{ name: all-spend, per: all, usd: 100 }, { name: agent-spend, per: agent, usd: 100, every: day }]\n";
/** Of a hundred requests, by the last two digits of their number. */
const OUTCOMES = { 7: "errored", 8: "canceled", 9: "expired" } as const;

let folder: string;
let simulator: Simulator;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "purser-batch-"));
  writeFileSync(join(folder, "purser.yaml"), CONFIG);
  simulator = await startSimulator();
});
afterAll(async () => {
  await simulator.close();
  rmSync(folder, { recursive: true, force: true });
});

/** Looks at the ledger's file from outside. */
function look<T>(read: (queries: Queries) => T): T {
  const db = openReading(join(folder, "ledger.db"));
  try {
    return read(new Queries(db));
  } finally {
    db.close();
  }
}

function totals(): { spent: bigint; reserved: bigint } {
  return look((queries) => {
    const limits = queries.answer({ kind: "limits" }) as Limit[];
    const [all] = compileLimits({ version: "", limits, downgrade: new Map() }).limits;
    const state = (queries.answer({ kind: "scopeStates" }) as Map<string, ScopeState>).get("all");
    return all === undefined || state === undefined ? { spent: 0n, reserved: 0n } : totalsOf(state, all, Date.now());
  });
}

async function until(isTrue: () => boolean): Promise<void> {
  while (!isTrue()) await sleep(20);
}

function outcomeOf(index: number) {
  return OUTCOMES[(index % 100) as keyof typeof OUTCOMES] ?? "succeeded";
}

test(
  "a batch of 10,000 requests is held, restarted in the middle, settled to the nano-dollar",
  { timeout: 300_000 },
  async () => {
    const options = { cwd: folder, env: { PURSER_ANTHROPIC_URL: simulator.url, ANTHROPIC_API_KEY: "sk-own" } };
    const words = ["--ledger", join(folder, "ledger.db")];
    const made = run(["keys", "create", "--project", "p", "--agent", "nightly", ...words], options);
    const [apiKey] = await made.printed(/prs_[A-Za-z0-9_-]+/);
    await made.ended;
    const requests = Array.from({ length: LINES }, (_, index) => ({
      custom_id: `line-${index}`,
      params: {
        model: "claude-haiku-4-5",
        max_tokens: MAX_TOKENS,
        messages: [{ role: "user" as const, content: `Question ${index}: what did this cost?` }],
      },
    }));
    // Half of $1 and $5 per million tokens; a token per byte.
    const bytes = requests.reduce((sum, { params }) => sum + Buffer.byteLength(JSON.stringify(params)), 0);
    const bound = BigInt(bytes) * 500n + BigInt(LINES * MAX_TOKENS) * 2_500n;

    const first = await serve(words, options);
    const client = new Anthropic({ apiKey, baseURL: first.url, maxRetries: 0 });
    const beganMs = performance.now();
    const { id } = await client.messages.batches.create({ requests });
    const takenMs = performance.now() - beganMs;
    const held = totals();
    first.child.kill("SIGKILL");
    await first.ended;

    const second = await serve(words, options);
    const heldAgain = totals();
    simulator.endBatch(id, (_, index) => outcomeOf(index));
    await until(() => totals().spent > 0n);
    second.child.kill("SIGKILL");
    await second.ended;
    const middle = totals();

    const third = await serve(words, options);
    const batches = (): BatchRecord[] => look((queries) => queries.answer({ kind: "batches", query: {} }) as BatchRecord[]);
    await until(() => batches()[0]?.endedAtMs !== undefined);
    third.child.kill("SIGTERM");
    await third.ended;

    const settled = totals();
    const calls = look((queries) => queries.answer({ kind: "calls", query: { limit: LINES + 1 } }) as CallRecord[]);
    const count = (status: CallRecord["status"]): number => calls.filter((call) => call.status === status).length;
    const cost = calls.reduce((sum, { costNanoUsd }) => sum + (costNanoUsd ?? 0n), 0n);
    const bill = simulator.bill.totalNanoUsd;
    expect([held, heldAgain]).toEqual([
      { spent: 0n, reserved: bound },
      { spent: 0n, reserved: bound },
    ]);
    expect(middle.spent).toBeGreaterThan(0n);
    expect(middle.reserved).toBeGreaterThan(0n);
    expect(settled).toEqual({ spent: bill, reserved: 0n });
    expect(cost).toBe(bill);
    expect([calls.length, count("settled"), count("voided")]).toEqual([LINES, (LINES * 97) / 100, (LINES * 3) / 100]);
    expect(calls.filter(({ overrunNanoUsd, result }) => overrunNanoUsd > 0n || (result?.flags.length ?? 0) > 0)).toEqual([]);
    expect(verifySqliteLedger(join(folder, "ledger.db")).differences).toEqual([]);
    reportFigure(
      "Batch",
      "10,000 requests",
      `${LINES.toLocaleString("en-US")} requests held at ${bound} nano-dollars, taken in ${Math.round(takenMs)} ms; gateway killed when it was in and again ` +
        `with ${middle.spent} settled; settled ${settled.spent}, billed ${bill}: difference ${settled.spent - bill}; reserved ${settled.reserved}; ` +
        `${count("settled")} settled, ${count("voided")} voided`,
    );
  },
);
