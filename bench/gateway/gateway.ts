/**
 * Prints calls per second through Purser and through a bare proxy, interleaved in one run, 64 connections.
 * Not pinned to cores: load, proxy and provider share the machine, so only the ratio says something.
 */
import { fork, type ChildProcess } from "node:child_process";
import { fileURLToPath } from "node:url";
import { Pool } from "undici";

const CONNECTIONS = 64;
const WARM_UP_MS = 3_000;
const ROUND_MS = 2_000;
const ROUNDS = 3;
const KINDS = [
  { name: "JSON, 4 kB request", bytes: 4_000, isStream: false },
  { name: "JSON, 200 kB request", bytes: 200_000, isStream: false },
  { name: "stream of 61 events", bytes: 4_000, isStream: true },
];

const children: ChildProcess[] = [];
const upstream = await start("upstream.ts");
const targets = [
  { name: "bare proxy", url: await start("bare-proxy.ts", upstream) },
  { name: "purser", url: await start("purser.ts", upstream) },
];
try {
  for (const { url } of targets) for (const kind of KINDS) await run(url, kind, WARM_UP_MS);
  console.table(await measureAll());
} finally {
  for (const child of children) child.kill("SIGKILL");
}

async function measureAll() {
  const rows = [];
  for (const kind of KINDS) {
    const rates = new Map<string, number[]>(targets.map(({ name }) => [name, []]));
    for (let round = 0; round < ROUNDS; round += 1) {
      for (const { name, url } of round % 2 === 0 ? targets : targets.toReversed())
        rates.get(name)?.push(await run(url, kind, ROUND_MS));
    }
    const [bare = 0, purser = 0] = targets.map(({ name }) => median(rates.get(name) ?? []));
    rows.push({
      kind: kind.name,
      "bare/s": Math.round(bare),
      "purser/s": Math.round(purser),
      "purser ÷ bare": (purser / bare).toFixed(2),
    });
  }
  return rows;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

function start(file: string, argument = ""): Promise<string> {
  const child = fork(fileURLToPath(new URL(file, import.meta.url)), [argument], {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  children.push(child);
  return new Promise((resolve, reject) => {
    child.once("message", (port) => resolve(`http://127.0.0.1:${Number(port)}`));
    child.once("exit", () => reject(new Error(`${file} ended before it listened`)));
  });
}

/** Calls per second over a while, each connection sending the next call when the last is answered. */
async function run(url: string, kind: (typeof KINDS)[number], forMs: number): Promise<number> {
  const pool = new Pool(url, { connections: CONNECTIONS, pipelining: 1 });
  const content = "word ".repeat(kind.bytes / 5);
  const body = JSON.stringify({
    model: "claude-sonnet-5-5",
    max_tokens: 200,
    stream: kind.isStream,
    messages: [{ role: "user", content }],
  });
  const headers = {
    "content-type": "application/json",
    "x-api-key": "bench",
    "anthropic-version": "2023-06-01",
    "x-purser-session": "bench",
    ...(kind.isStream ? { "x-bench": "stream" } : {}),
  };
  const startedMs = performance.now();
  const untilMs = startedMs + forMs;
  let calls = 0;
  const connection = async (): Promise<void> => {
    while (performance.now() < untilMs) {
      const answer = await pool.request({ method: "POST", path: "/v1/messages", headers, body });
      if (answer.statusCode !== 200) throw new Error(`${url} answered ${answer.statusCode}: ${await answer.body.text()}`);
      for await (const chunk of answer.body) void chunk;
      calls += 1;
    }
  };
  await Promise.all(Array.from({ length: CONNECTIONS }, connection));
  await pool.destroy();
  return (calls * 1_000) / (performance.now() - startedMs);
}
