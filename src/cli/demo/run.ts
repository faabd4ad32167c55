/**
 * Owns the demo's run: a provider with its own bill, a gateway with a real ledger, four agents, and what came out of it.
 * Does not own how it is shown (view.ts).
 * Invariants: no network beyond this machine, no key, nothing of the person's own settings or ledger; nothing is left behind.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readConfig, type Config } from "../../config/config.ts";
import type { Alert } from "../../core/decisions/alerts.ts";
import { startGateway } from "../../gateway/serve.ts";
import type { ReportGroup } from "../../ledger/ledger.ts";
import { startSimulator } from "../../testing/testing.ts";
import { newProgress, requestOf, runAgent, type AgentEvent, type AgentProgress } from "./agent.ts";
import { demoYaml, OUTPUT_TOKENS_PER_SECOND, PLANS, RUNAWAY, type AgentPlan } from "./plans.ts";

export interface DemoInput {
  nowMs(): number;
  /** Waits; false: it is to end. */
  pause(waitMs: number): Promise<boolean>;
  signal: AbortSignal;
  /** Told once everything runs. */
  started(start: DemoStart): void;
  tell(event: AgentEvent): void;
  /** How long one start of a throttled session is from the next, as the configuration writes it. */
  throttle: string;
  /** What times between calls are multiplied by: 1 for people, less for tests. */
  pace: number;
}

export interface DemoStart {
  gatewayUrl: string;
  providerUrl: string;
  config: Config;
  agents: readonly AgentProgress[];
}

export interface DemoResult {
  agents: readonly AgentProgress[];
  alerts: readonly Alert[];
  /** Spend by agent and model, from the ledger. */
  groups: readonly ReportGroup[];
  ledgerNanoUsd: bigint;
  /** What the provider itself would charge. */
  billNanoUsd: bigint;
  /** What the provider would charge for the same work with nothing between. */
  withoutNanoUsd: bigint;
  withoutCalls: number;
  /** Calls of the runaway that reached the provider after its first refusal. */
  forwardedAfterStop: number;
  startedAtMs: number;
  stoppedAtMs: number | undefined;
}

/** Runs it. @returns `undefined` if it was ended before its time. */
export async function runDemo(input: DemoInput): Promise<DemoResult | undefined> {
  const folder = await mkdtemp(join(tmpdir(), "purser-demo-"));
  try {
    return await runIn(folder, input);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function runIn(folder: string, input: DemoInput): Promise<DemoResult | undefined> {
  const startedAtMs = input.nowMs();
  const provider = await startSimulator({
    isPacedByGeneration: true,
    outputTokensPerSecond: OUTPUT_TOKENS_PER_SECOND / input.pace,
  });
  const env = { PURSER_PORT: "0", PURSER_LEDGER: join(folder, "ledger.db"), PURSER_ANTHROPIC_URL: provider.url };
  const config = readDemoConfig(input.throttle, env);
  const alerts: Alert[] = [];
  const gateway = await startGateway({
    config,
    env,
    notifier: { alert: (alert) => void alerts.push(alert), warn: () => undefined },
  });
  const agents = PLANS.map((plan) => newProgress(plan));
  let forwardedAtStop: number | undefined;
  let stoppedAtMs: number | undefined;
  const ofRunaway = (): number =>
    provider.requests.filter(({ headers }) => headers["x-simulator-input-tokens"] !== undefined).length;
  try {
    input.started({ gatewayUrl: gateway.url, providerUrl: provider.url, config, agents });
    const without = billWithout();
    const tell = (event: AgentEvent): void => {
      if (event.kind === "refused" && event.agent === RUNAWAY) {
        forwardedAtStop = ofRunaway();
        stoppedAtMs = input.nowMs();
      }
      input.tell(event);
    };
    const think = async (waitMs: number): Promise<boolean> => input.pause(waitMs * input.pace);
    await Promise.all(
      agents.map(async (progress) => runAgent({ url: gateway.url, progress, think, signal: input.signal, tell })),
    );
    const { billNanoUsd: withoutNanoUsd, calls: withoutCalls } = await without;
    if (input.signal.aborted) return undefined;
    await provider.idle();
    const groups = await gateway.ledger.report({ fromMs: 0, toMs: input.nowMs() + 1_000, by: ["agent", "model"] });
    return {
      agents,
      alerts,
      groups,
      ledgerNanoUsd: groups.reduce((sum, { costNanoUsd }) => sum + costNanoUsd, 0n),
      billNanoUsd: provider.bill.totalNanoUsd,
      withoutNanoUsd,
      withoutCalls,
      forwardedAfterStop: forwardedAtStop === undefined ? 0 : ofRunaway() - forwardedAtStop,
      startedAtMs,
      stoppedAtMs,
    };
  } finally {
    await gateway.close(0);
    await provider.close();
  }
}

function readDemoConfig(throttle: string, env: Record<string, string>): Config {
  const read = readConfig({ text: demoYaml(throttle), fileName: "the demo's purser.yaml", env });
  if (read.outcome === "invalid") throw new Error(read.problems.map(({ message }) => message).join("; "));
  return read.config;
}

/** The same work against a second provider with nothing between, at once: its bill is what Purser is compared with. */
async function billWithout(): Promise<{ billNanoUsd: bigint; calls: number }> {
  const provider = await startSimulator();
  try {
    await Promise.all(PLANS.map(async (plan) => callAll(provider.url, plan)));
    await provider.idle();
    return { billNanoUsd: provider.bill.totalNanoUsd, calls: provider.bill.lines.length };
  } finally {
    await provider.close();
  }
}

async function callAll(url: string, plan: AgentPlan): Promise<void> {
  const request = requestOf(plan);
  for (let call = 0; call < plan.calls; call += 1) {
    const response = await fetch(`${url}/v1/messages`, { method: "POST", ...request });
    await response.arrayBuffer();
  }
}
