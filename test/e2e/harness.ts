/** A real gateway in front of the provider simulator, on real sockets and a real ledger file. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { readConfig } from "../../src/config/config.ts";
import type { Config } from "../../src/config/config.ts";
import type { Alert } from "../../src/core/decisions/alerts.ts";
import type { Clock } from "../../src/engine/ports.ts";
import { createSystemClock } from "../../src/exchange/system.ts";
import { startGateway, type Gateway, type GatewayInput } from "../../src/gateway/serve.ts";
import type { CallRecord } from "../../src/ledger/ledger.ts";
import {
  startOpenAiSimulator,
  startSimulator,
  type OpenAiSimulator,
  type Simulator,
  type SimulatorOptions,
} from "../../src/testing/testing.ts";

export interface Bench {
  simulator: Simulator;
  openai: OpenAiSimulator;
  gateway: Gateway;
  /** Where a client points its base URL. */
  url: string;
  alerts: Alert[];
  warnings: { event: string; details: Readonly<Record<string, string | number>> }[];
  ledgerPath: string;
  /** All calls of the ledger, oldest first. */
  calls(): Promise<CallRecord[]>;
  /** Reads a configuration for this bench's simulator. */
  configOf(yaml: string): Config;
}

export interface BenchOptions {
  /** purser.yaml; without it no limit holds but one nobody reaches. */
  yaml?: string;
  clock?: Clock;
  simulator?: SimulatorOptions;
  env?: Record<string, string>;
  gateway?: Partial<GatewayInput>;
  /** Where the ledger lies, if not in a folder of its own. */
  ledgerPath?: string;
}

const ROOMY = "limits: [{ name: roomy, per: all, usd: 1_000_000, every: day }]\n";

/** Starts both, and ends both with the test. */
export async function startBench(options: BenchOptions = {}): Promise<Bench> {
  const { bench, close } = await openBench(options);
  onTestFinished(close);
  return bench;
}

/** Starts both for all tests of a file, with a clock that follows the machine's and can be moved on. */
export async function startSharedBench(
  options: Omit<BenchOptions, "clock"> = {},
): Promise<{ bench: Bench & { clock: TestClock }; close: () => Promise<void> }> {
  const clock = createMovableClock();
  const { bench, close } = await openBench({ ...options, clock });
  return { bench: { ...bench, clock }, close };
}

async function openBench(options: BenchOptions): Promise<{ bench: Bench; close: () => Promise<void> }> {
  const folder = await mkdtemp(join(tmpdir(), "purser-e2e-"));
  const ledgerPath = options.ledgerPath ?? join(folder, "ledger.db");
  const clock = options.clock;
  const simulator = await startSimulator({ ...(clock === undefined ? {} : { now: () => clock.nowMs() }), ...options.simulator });
  const openai = await startOpenAiSimulator();
  const upstreams = { PURSER_ANTHROPIC_URL: simulator.url, PURSER_OPENAI_URL: openai.url };
  const env = { PURSER_PORT: "0", PURSER_LEDGER: ledgerPath, ...upstreams, ...options.env };
  const configOf = (yaml: string): Config => {
    const read = readConfig({ text: yaml, fileName: "purser.yaml", env });
    if (read.outcome === "invalid") throw new Error(read.problems.map(({ message }) => message).join("\n"));
    return read.config;
  };
  const alerts: Alert[] = [];
  const warnings: Bench["warnings"] = [];
  const started = startGateway({
    config: configOf(options.yaml ?? ROOMY),
    env,
    notifier: { alert: (alert) => void alerts.push(alert), warn: (event, details) => void warnings.push({ event, details }) },
    // The machine of the tests is busy with the tests: what a gateway does then has tests of its own.
    load: { lagMs: () => 0, heapShare: () => 0, close: () => undefined },
    ...(clock === undefined ? {} : { clock }),
    ...options.gateway,
  });
  const gateway = await started.catch(async (error: unknown) => {
    await Promise.all([simulator.close(), openai.close()]);
    await rm(folder, { recursive: true, force: true });
    throw error;
  });
  const close = async (): Promise<void> => {
    await gateway.close(1_000);
    await Promise.all([simulator.close(), openai.close()]);
    await rm(folder, { recursive: true, force: true });
  };
  const calls = async (): Promise<CallRecord[]> => (await gateway.ledger.calls({ limit: 100_000 })).toReversed();
  const bench = { simulator, openai, gateway, url: gateway.url, alerts, warnings, ledgerPath, calls, configOf };
  return { bench, close };
}

/** The machine's clock, moved on by a test: timers run in real time. */
function createMovableClock(): TestClock {
  const system = createSystemClock();
  let movedMs = 0;
  return {
    nowMs: () => system.nowMs() + movedMs,
    after: (waitMs, callBack) => system.after(waitMs, callBack),
    advance: (byMs) => void (movedMs += byMs),
    timers: 0,
  };
}

/** A clock that stands still until it is told to go on; waiting costs no real time. */
export interface TestClock extends Clock {
  advance(byMs: number): void;
  /** How many wait for it. */
  readonly timers: number;
}

/** @param ownWaitMsMax whoever waits no longer than this moves the clock itself, so that a story of hours runs in seconds. */
export function createTestClock(startMs: number, ownWaitMsMax = 0): TestClock {
  let nowMs = startMs;
  const timers = new Set<{ atMs: number; callBack: () => void }>();
  const fire = (): void => {
    for (const timer of [...timers].sort((a, b) => a.atMs - b.atMs)) {
      if (timer.atMs > nowMs || !timers.delete(timer)) continue;
      timer.callBack();
    }
  };
  return {
    nowMs: () => nowMs,
    after(waitMs, callBack) {
      const timer = { atMs: nowMs + waitMs, callBack };
      timers.add(timer);
      if (waitMs > 0 && waitMs <= ownWaitMsMax) {
        setImmediate(() => {
          if (!timers.has(timer)) return;
          nowMs = Math.max(nowMs, timer.atMs);
          fire();
        });
      }
      return () => timers.delete(timer);
    },
    advance(byMs) {
      nowMs += byMs;
      fire();
    },
    get timers() {
      return timers.size;
    },
  };
}
