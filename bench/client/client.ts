/**
 * What `purser.fetch` adds to a call in the same process: one call after the other to a provider on this machine, with and without it in
 * turns, each call reserved and settled in a SQLite file with fsync under ten limits.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { loadConfig } from "../../src/config/load-config.ts";
import { startPurser } from "../../src/client/purser.ts";
import { MODEL } from "../load/traffic.ts";
import { median, type Row, type Section } from "../table.ts";
import { TEN_LIMITS_YAML } from "../ten-limits.ts";

type Fetch = typeof globalThis.fetch;

interface Sample {
  direct: number[];
  through: number[];
  /** Of the whole process, the ledger's threads among it, in microseconds. */
  directCpuUs: number;
  throughCpuUs: number;
}

/** Calls of one kind behind each other: processor time is counted over all of them. */
const TURN = 20;

/** Bytes of the request beside its text. */
const BODY_BYTES = 4_096;

export async function measureClient(input: { rounds: number; roundMs: number; warmUpMs: number }): Promise<Section> {
  const provider = spawn(process.execPath, [fileURLToPath(new URL("../load/provider.ts", import.meta.url))], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const [port] = (await once(provider.stdout, "data")) as [Buffer];
  const url = `http://127.0.0.1:${port.toString().trim()}`;
  const folder = mkdtempSync(join(tmpdir(), "purser-bench-client-"));
  const env = { PURSER_ANTHROPIC_URL: url, PURSER_LIMITS: limitsOnly(TEN_LIMITS_YAML) };
  const read = await loadConfig({ path: undefined, env });
  if (read.outcome === "invalid") throw new Error(read.problems.map(({ message }) => message).join("\n"));
  const purser = await startPurser(read.config, { ledger: join(folder, "ledger.db") });
  try {
    const rows: Row[] = [];
    for (const isStream of [false, true]) {
      const ask = (fetch: Fetch): Promise<number> => timeCall(fetch, `${url}/v1/messages`, isStream);
      await compare(ask, purser.fetch, input.warmUpMs / 2);
      const sample = await compare(ask, purser.fetch, input.rounds * input.roundMs);
      rows.push(rowOf(isStream ? "stream" : "JSON", sample));
    }
    const note = "One call at a time, direct and through it in turns. Added is the difference of the medians.";
    return { title: "Client: what purser.fetch adds to a call", note, rows };
  } finally {
    await purser.close();
    provider.kill();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The variable holds the list itself. */
function limitsOnly(yaml: string): string {
  return yaml.replace(/^limits:\n/, "");
}

async function compare(ask: (fetch: Fetch) => Promise<number>, through: Fetch, ms: number): Promise<Sample> {
  const sample: Sample = { direct: [], through: [], directCpuUs: 0, throughCpuUs: 0 };
  const untilMs = performance.now() + ms;
  while (performance.now() < untilMs) {
    sample.directCpuUs += await takeTurn(() => ask(fetch), sample.direct);
    sample.throughCpuUs += await takeTurn(() => ask(through), sample.through);
  }
  return sample;
}

async function takeTurn(ask: () => Promise<number>, times: number[]): Promise<number> {
  const before = process.cpuUsage();
  for (let call = 0; call < TURN; call += 1) times.push(await ask());
  const { user, system } = process.cpuUsage(before);
  return user + system;
}

/** One call, its answer read to its end, in milliseconds. */
async function timeCall(fetch: Fetch, url: string, isStream: boolean): Promise<number> {
  const text = "x".repeat(BODY_BYTES);
  const body = JSON.stringify({ model: MODEL, max_tokens: 512, messages: [{ role: "user", content: text }], stream: isStream });
  const headers = { "content-type": "application/json", "x-api-key": "k", "anthropic-version": "2023-06-01" };
  const startedAtMs = performance.now();
  const response = await fetch(url, { method: "POST", headers, body });
  let bytes = 0;
  for await (const chunk of response.body ?? []) bytes += (chunk as Uint8Array).length;
  const tookMs = performance.now() - startedAtMs;
  if (response.status !== 200 || bytes === 0) throw new Error(`bench: status ${response.status}, ${bytes} bytes`);
  return tookMs;
}

function rowOf(answer: string, { direct, through, directCpuUs, throughCpuUs }: Sample): Row {
  return {
    answer,
    "direct, ms (median)": median(direct),
    "purser.fetch, ms (median)": median(through),
    "added, ms": median(through) - median(direct),
    "p99 direct, ms": quantile(direct, 0.99),
    "p99 purser.fetch, ms": quantile(through, 0.99),
    "added processor, µs": throughCpuUs / through.length - directCpuUs / direct.length,
    calls: through.length,
  };
}

function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(share * (sorted.length - 1))] ?? Number.NaN;
}
