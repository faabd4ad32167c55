/** Limits in this process: a Purser on a real ledger file, in front of the provider simulator on real sockets. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Anthropic from "@anthropic-ai/sdk";
import { onTestFinished } from "vitest";
import { createPurser, type ConfigObject, type LimitObject, type Purser } from "../../../src/client/entry.ts";
import type { PurserEvents } from "../../../src/client/entry.ts";
import type { CallRecord } from "../../../src/ledger/ledger.ts";
import { openSqliteLedger } from "../../../src/ledger/sqlite/sqlite-ledger.ts";
import { startSimulator, type Simulator, type SimulatorOptions } from "../../../src/testing/testing.ts";

export interface ClientBench {
  simulator: Simulator;
  /** Where SDKs point their base URL: what Purser takes for Anthropic's address. */
  url: string;
  purser: Purser;
  ledgerPath: string;
  warnings: PurserEvents["warning"][];
  /** The SDK as a program makes it. */
  anthropic: Anthropic;
  /** All calls of the ledger, oldest first. */
  readonly calls: () => Promise<CallRecord[]>;
}

export interface ClientBenchOptions {
  /** Without limits none holds but one that nobody reaches. */
  limits?: readonly LimitObject[];
  config?: Omit<ConfigObject, "limits" | "upstreams">;
  simulator?: SimulatorOptions;
  fetch?: typeof globalThis.fetch;
  ledgerPath?: string;
  /** What the path in Anthropic's address is, such as `/proxy`. */
  basePath?: string;
}

const ROOMY: readonly LimitObject[] = [{ name: "roomy", per: "all", usd: 1_000_000, every: "day" }];

export const MODEL = "claude-sonnet-5-5";
export const REQUEST = { model: MODEL, max_tokens: 64, messages: [{ role: "user" as const, content: "Say hello." }] };

/** Starts both, and ends both with the test. */
export async function startClientBench(options: ClientBenchOptions = {}): Promise<ClientBench> {
  const folder = await mkdtemp(join(tmpdir(), "purser-client-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const simulator = await startSimulator(options.simulator);
  onTestFinished(() => simulator.close());
  const ledgerPath = options.ledgerPath ?? join(folder, "ledger.db");
  const url = simulator.url + (options.basePath ?? "");
  const ledger = await openSqliteLedger({ path: ledgerPath });
  onTestFinished(() => ledger.close());
  const purser = await createPurser({
    config: { limits: options.limits ?? ROOMY, upstreams: { anthropic: url }, ...options.config },
    ledger,
    ...(options.fetch === undefined ? {} : { fetch: options.fetch }),
  });
  onTestFinished(() => purser.close({ deadlineMs: 1_000 }));
  const warnings: ClientBench["warnings"] = [];
  purser.on("warning", (warning) => warnings.push(warning));
  const anthropic = new Anthropic({ apiKey: "sk-test", baseURL: url, fetch: purser.fetch });
  const calls = async (): Promise<CallRecord[]> => (await ledger.calls({ limit: 100_000 })).toReversed();
  return { simulator, url, purser, ledgerPath, warnings, anthropic, calls };
}

/** A request as an SDK hands it to `fetch`. */
export function messageInit(body: object = REQUEST, more: RequestInit = {}): RequestInit & { body: string } {
  const headers = { "content-type": "application/json", "x-api-key": "sk-test", "anthropic-version": "2023-06-01" };
  return {
    method: "POST",
    ...more,
    headers: { ...headers, ...(more.headers as Record<string, string>) },
    body: JSON.stringify(body),
  };
}

/** What calls cost together. */
export function sumOf(calls: readonly CallRecord[]): bigint {
  return calls.reduce((sum, { costNanoUsd }) => sum + (costNanoUsd ?? 0n), 0n);
}
