/** `purser serve` and `purser demo` as processes of their own, with real signals, sockets and files. */
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, expect, it, onTestFinished } from "vitest";
import { startSimulator } from "../../src/testing/testing.ts";
import * as processes from "./processes.ts";

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "purser-serve-"));
  return async () => rm(folder, { recursive: true, force: true });
});

function run(words: readonly string[], env: Record<string, string> = {}, cwd = folder): processes.Running {
  return processes.run(words, { cwd, env });
}

async function serve(
  words: readonly string[] = [],
  env: Record<string, string> = {},
  cwd = folder,
): Promise<processes.Running & { url: string }> {
  return processes.serve(words, { cwd, env });
}

async function askAt(url: string): Promise<Response> {
  const body = JSON.stringify({ model: "claude-haiku-5-5", max_tokens: 64, messages: [{ role: "user", content: "hello" }] });
  return fetch(`${url}/v1/messages`, { method: "POST", body, headers: { "x-api-key": "k", "anthropic-version": "2023-06-01" } });
}

it("says in its first line which limit holds, and how to point an agent at the port it has", async () => {
  const gateway = await serve(["--ledger", "first.db"]);
  const { port } = new URL(gateway.url);

  const [first] = gateway.out().split("\n");
  expect(first).toMatch(
    /^Limit \(the default; .*\): everything-day: all calls together may spend \$50\.00 a day .*told at \$25\.00 and \$40\.00, stopped at \$50\.00\.$/,
  );
  expect(gateway.out()).toContain(`Anthropic SDK export ANTHROPIC_BASE_URL=http://127.0.0.1:${port}\n`);
  expect(gateway.out()).toContain(`Claude Code   ANTHROPIC_BASE_URL=http://127.0.0.1:${port} claude\n`);
  expect(gateway.out()).toContain("Ledger        first.db\n");
  expect(gateway.out()).toContain(`OpenAI SDK    export OPENAI_BASE_URL=http://127.0.0.1:${port}/v1\n`);
  expect((await fetch(`${gateway.url}/healthz`)).status).toBe(200);
});

it.each(["SIGTERM", "SIGINT"] as const)("lets running calls finish after %s, takes no more, and ends with 0", async (signal) => {
  const simulator = await startSimulator({ requireStepping: true });
  onTestFinished(async () => simulator.close());
  const gateway = await serve(["--ledger", `${signal}.db`], { PURSER_ANTHROPIC_URL: simulator.url });
  const answer = askAt(gateway.url);
  await simulator.arrived(0);

  gateway.child.kill(signal);
  await gateway.printed(/"event":"stopping".*"running":1/, "err");
  await expect(fetch(`${gateway.url}/healthz`)).rejects.toThrow("fetch failed");
  simulator.step(100);

  expect((await answer).status).toBe(200);
  expect(await gateway.ended).toBe(0);
  expect(gateway.err()).toContain('"event":"stopped"');
  const calls = run(["calls", "--json", "--ledger", `${signal}.db`]);
  expect(await calls.ended).toBe(0);
  expect(JSON.parse(calls.out())).toMatchObject([{ status: "settled" }]);
});

it("ends at once at a second signal a second later, and counts what was cut at its bound at the next start", async () => {
  const simulator = await startSimulator({ requireStepping: true });
  onTestFinished(async () => simulator.close());
  const env = { PURSER_ANTHROPIC_URL: simulator.url };
  const gateway = await serve(["--ledger", "twice.db"], env);
  const answer = askAt(gateway.url).catch(() => undefined);
  await simulator.arrived(0);

  gateway.child.kill("SIGINT");
  await gateway.printed(/"event":"stopping"/, "err");
  gateway.child.kill("SIGINT");
  const again = setInterval(() => gateway.child.kill("SIGINT"), 1_100);
  const exitCode = await gateway.ended;
  clearInterval(again);
  await answer;

  expect(exitCode).toBe(1);
  expect(gateway.err()).toContain("ended at once; 1 call cut, and counted at the bound when Purser starts again");
  const next = await serve(["--ledger", "twice.db"], env);
  await next.printed(/"event":"recovered"/, "err");
});

it("names the port in use, and what to do", async () => {
  const other = createServer();
  await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void other.close());
  const { port } = other.address() as { port: number };

  const gateway = run(["serve", "--port", String(port), "--ledger", "port.db"]);

  expect(await gateway.ended).toBe(3);
  expect(gateway.out()).toBe("");
  expect(gateway.err()).toBe(
    `purser: port ${port} on 127.0.0.1 is in use by another program (another purser serve?); end that one, or use another port: npx purser serve --port ${port + 1}\n`,
  );
});

it.each([
  ["a host of another machine", ["--host", "192.0.2.1"], /"192\.0\.2\.1" is no address of this machine/],
  ["a ledger that is none", ["--ledger", "text.db"], /^purser: ledger .*text\.db: /],
])("refuses %s with a sentence and code 3", async (_what, words, message) => {
  await writeFile(join(folder, "text.db"), "this is no database, however long it may be ".repeat(50));

  const gateway = run(["serve", "--port", "0", ...words]);

  expect(await gateway.ended).toBe(3);
  expect(gateway.err()).toMatch(message);
  expect(gateway.err()).not.toMatch(/\n\s+at /);
});

it("puts a changed configuration in force while it runs, keeps the old one when the new one is broken, and says both", async () => {
  const file = join(folder, "live.yaml");
  await writeFile(file, "limits: [{ name: first, per: all, usd: 1 }]\n");
  const gateway = await serve(["--config", file, "--ledger", "live.db"]);
  expect(gateway.out()).toMatch(/^1 limit holds, from .*live\.yaml:\n {2}• first: /);

  await writeFile(file, "limits: [{ name: second, per: all, usd: 2 }]\n");
  await gateway.printed(/"event":"reloaded"[^]*second: all calls together may spend \$2\.00/, "err");
  await writeFile(file, "limits: [{ name: third, per: all, usd: lots }]\n");
  const [line] = await gateway.printed(/.*"event":"reload_failed".*/, "err");

  expect(JSON.parse(line)).toMatchObject({
    level: "error",
    message: expect.stringMatching(/the one before stays: .*live\.yaml:1:\d+: .*found "lots"/),
  });
});

it("takes a first purser.yaml up without a restart", async () => {
  const own = await mkdtemp(join(folder, "first-"));
  const gateway = await serve(["--ledger", "own.db"], {}, own);

  await writeFile(join(own, "purser.yaml"), "limits: [{ name: mine, per: all, usd: 3 }]\n");
  await gateway.printed(/"event":"reloaded"[^]*mine: all calls together may spend \$3\.00/, "err");

  expect(gateway.err()).not.toContain("reload_failed");
});

it("tells nothing at PURSER_LOG_LEVEL=silent", async () => {
  const gateway = await serve(["--ledger", "silent.db"], { PURSER_LOG_LEVEL: "silent" });

  gateway.child.kill("SIGTERM");

  expect(await gateway.ended).toBe(0);
  expect(gateway.err()).toBe("");
});

it("shows the spend of a running gateway from another process", async () => {
  const simulator = await startSimulator();
  onTestFinished(async () => simulator.close());
  const gateway = await serve(["--ledger", "shared.db"], { PURSER_ANTHROPIC_URL: simulator.url });
  for (let call = 0; call < 3; call += 1) await (await askAt(gateway.url)).arrayBuffer();

  const status = run(["status", "--json", "--ledger", "shared.db"]);
  expect(await status.ended).toBe(0);

  const [line] = JSON.parse(status.out()) as { spent: string }[];
  const [whole = "", fraction = ""] = (line?.spent ?? "").split(".");
  expect(BigInt(whole + fraction.padEnd(9, "0"))).toBe(simulator.bill.totalNanoUsd);
});

it("plays the demo to its end: the runaway moved, slowed and stopped, the ledger equal to the bill, nothing left behind", async () => {
  // A folder of its own: others may run a demo on this machine.
  const temporary = await mkdtemp(join(folder, "demo-"));
  const startedAtMs = Date.now();
  const demo = run(["demo"], { TMPDIR: temporary });

  expect(await demo.ended).toBe(0);

  expect(Date.now() - startedAtMs).toBeLessThan(60_000);
  expect(demo.err()).toBe("");
  for (const text of [
    "runs on claude-sonnet-5-5",
    "slowed down to one start a second",
    "stopped at $9.",
    "the same, to the nano-dollar",
  ]) {
    expect(demo.out()).toContain(text);
  }
  expect(demo.out()).toContain("none reached the provider. The three others finished their work and noticed nothing.");
  expect(demo.out()).toMatch(/without Purser +\$54\.6137128 /);
  expect(demo.out()).not.toContain("\u001B");
  expect(await readdir(temporary)).toEqual([]);
}, 90_000);
