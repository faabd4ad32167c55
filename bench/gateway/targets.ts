/** Owns what is measured: how each proxy is started on its core, in front of one provider, and how it is asked. */
import { spawnSync, type ChildProcess } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { endAll, LOAD_CORE, PROXY_CORE, startPinned } from "../machine.ts";
import { TEN_LIMITS_YAML } from "../ten-limits.ts";

export interface Target {
  name: "direct" | "nginx" | "bare proxy" | "purser" | "Portkey";
  port: number;
  /** Whose processor time and memory are its own; empty for `direct`. */
  pids: number[];
  headers: Record<string, string>;
  canStream: boolean;
  /** SIGTERM, and waits for its end. */
  stop(): Promise<void>;
}

export const folder = mkdtempSync(join(tmpdir(), "purser-bench-"));
process.on("exit", () => {
  endAll();
  rmSync(folder, { recursive: true, force: true });
});
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => process.exit(1));

const here = (file: string): string => fileURLToPath(new URL(file, import.meta.url));

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** The next line a child prints. */
export function nextLine(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    const ended = (): void => reject(new Error(`${child.spawnargs.join(" ")} ended before it answered`));
    const read = (data: Buffer): void => {
      text += data.toString();
      if (!text.includes("\n")) return;
      child.stdout?.off("data", read);
      child.off("exit", ended);
      resolve(text.slice(0, text.indexOf("\n")));
    };
    child.stdout?.on("data", read);
    child.once("exit", ended);
  });
}

async function answers(port: number, path: string, forMs = 20_000): Promise<void> {
  for (const untilMs = performance.now() + forMs; ;) {
    try {
      await fetch(`http://127.0.0.1:${port}${path}`);
      return;
    } catch (error) {
      if (performance.now() > untilMs) throw error;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

function stopper(child: ChildProcess): () => Promise<void> {
  return () =>
    new Promise((resolve) => {
      if (child.exitCode !== null || child.signalCode !== null) return resolve();
      child.once("exit", () => resolve());
      child.kill("SIGTERM");
    });
}

export function startProvider(): ChildProcess {
  return startPinned(LOAD_CORE, process.execPath, [here("../load/provider.ts")]);
}

export function direct(port: number): Target {
  return { name: "direct", port, pids: [], headers: {}, canStream: true, stop: async () => undefined };
}

export async function startBareProxy(providerPort: number): Promise<Target> {
  const child = startPinned(PROXY_CORE, process.execPath, [here("bare-proxy.ts"), `http://127.0.0.1:${providerPort}`]);
  const port = Number(await nextLine(child));
  return { name: "bare proxy", port, pids: [child.pid ?? 0], headers: {}, canStream: true, stop: stopper(child) };
}

/** As `npm start` runs it: the command line, ten limits, a SQLite ledger with fsync. */
export async function startPurser(
  providerPort: number,
  { ledgerPath, nodeArgs = [], core = PROXY_CORE }: { ledgerPath?: string; nodeArgs?: readonly string[]; core?: number } = {},
): Promise<Target> {
  const port = await freePort();
  const config = join(folder, "purser.yaml");
  writeFileSync(config, TEN_LIMITS_YAML);
  const ledger = ledgerPath ?? join(mkdtempSync(join(folder, "ledger-")), "ledger.db");
  const main = here("../../src/cli/main.ts");
  const words = [...nodeArgs, main, "serve", "--config", config, "--ledger", ledger, "--port", String(port)];
  const child = startPinned(core, process.execPath, words, { PURSER_ANTHROPIC_URL: `http://127.0.0.1:${providerPort}` });
  child.stdout?.resume();
  await answers(port, "/readyz");
  return { name: "purser", port, pids: [child.pid ?? 0], headers: {}, canStream: true, stop: stopper(child) };
}

/**
 * Plain proxy_pass with keep-alive on both sides; bodies stay in memory, streams are not held back. One process, so that ending it ends
 * all of it.
 */
export async function startNginx(providerPort: number): Promise<Target | string> {
  if (spawnSync("nginx", ["-v"]).status !== 0)
    return "nginx is not installed (Debian: apt-get install nginx-light); its columns stay empty";
  const port = await freePort();
  const config = join(folder, "nginx.conf");
  writeFileSync(
    config,
    `daemon off; master_process off; worker_rlimit_nofile 16384; pid ${folder}/nginx.pid; error_log ${folder}/nginx.log;
${process.getuid?.() === 0 ? "user root;" : ""}
events { worker_connections 8192; }
http {
  access_log off; tcp_nodelay on; keepalive_requests 100000000; client_body_buffer_size 512k; client_max_body_size 64m;
  client_body_temp_path ${folder}; proxy_temp_path ${folder};
  upstream provider { server 127.0.0.1:${providerPort}; keepalive 512; keepalive_requests 100000000; }
  server {
    listen 127.0.0.1:${port} backlog=4096;
    location / { proxy_pass http://provider; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; proxy_read_timeout 600s; }
  }
}
`,
  );
  const child = startPinned(PROXY_CORE, "nginx", ["-e", `${folder}/nginx.log`, "-c", config]);
  await answers(port, "/", 5_000);
  return { name: "nginx", port, pids: [child.pid ?? 0], headers: {}, canStream: true, stop: stopper(child) };
}

/** Installed into bench/peers on first use. On Node it answers streams of /v1/messages with an error (its issue 1389): JSON only. */
export async function startPortkey(providerPort: number): Promise<Target | string> {
  const peers = here("../peers");
  const entry = join(peers, "node_modules/@portkey-ai/gateway/build/start-server.js");
  if (!existsSync(entry)) {
    process.stdout.write("installing the gateways to compare with into bench/peers …\n");
    spawnSync("npm", ["ci", "--loglevel=error"], {
      cwd: peers,
      stdio: ["ignore", "ignore", "inherit"],
      shell: process.platform === "win32",
    });
  }
  if (!existsSync(entry)) return "Portkey's gateway could not be installed (npm ci in bench/peers); its columns stay empty";
  const port = await freePort();
  const child = startPinned(PROXY_CORE, process.execPath, [entry, `--port=${port}`, "--headless"], { NODE_ENV: "production" });
  child.stdout?.resume();
  await answers(port, "/");
  const headers = {
    "x-portkey-provider": "anthropic",
    "x-portkey-custom-host": `http://127.0.0.1:${providerPort}/v1`,
    authorization: "bench",
  };
  return { name: "Portkey", port, pids: [child.pid ?? 0], headers, canStream: false, stop: stopper(child) };
}
