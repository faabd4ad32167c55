/**
 * The Processes figure. Goal: agents in ten processes, and a gateway, share one limit through one SQLite file as exactly as one process does.
 * Method: all call at once until the limit says no; the file is read when they are done.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, onTestFinished, test } from "vitest";
import { openSqliteLedger } from "../../src/ledger/sqlite/sqlite-ledger.ts";
import { startBench } from "../e2e/harness.ts";
import { reportFigure } from "./figures.ts";

const PROGRAM = fileURLToPath(new URL("./client-process.ts", import.meta.url));
const PROCESSES = 10;
const CALLS = 500;
const AT_ONCE = 4;
const GATEWAY_CALLS = 20;
/** 20 input tokens at $0.10 and 30 output tokens at $0.50 a million, by hand: what every answer of the processes costs. */
const CALL_NANO_USD = 20n * 100n + 30n * 500n;

interface Seen {
  answered: number;
  denied: number;
  failed: number;
  problems: string[];
  stallMs: number;
  p99Ms: number;
}

function start(ledgerPath: string, config: object): { child: ChildProcess; seen: Promise<Seen> } {
  const args = [PROGRAM, ledgerPath, JSON.stringify(config), String(CALLS), String(AT_ONCE)];
  const child = spawn(process.execPath, args, { stdio: ["pipe", "pipe", "inherit"] });
  onTestFinished(() => void child.kill());
  let text = "";
  child.stdout.on("data", (chunk: Buffer) => (text += chunk.toString()));
  const seen = new Promise<Seen>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => (code === 0 ? resolve(JSON.parse(text) as Seen) : reject(new Error(`exit code ${code}`))));
  });
  return { child, seen };
}

test("ten processes and a gateway on one file spend exactly what one limit allows", async () => {
  const folder = await mkdtemp(join(tmpdir(), "purser-processes-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const ledgerPath = join(folder, "ledger.db");
  // Room for four in five of them.
  const amountNanoUsd = (BigInt(PROCESSES * CALLS) * CALL_NANO_USD * 4n) / 5n;
  const limit = { name: "shared", per: "all", usd: `${Number(amountNanoUsd) / 1e9}`, fit: "off" };
  const bench = await startBench({ ledgerPath, yaml: `limits: [${JSON.stringify(limit)}]` });
  const processes = Array.from({ length: PROCESSES }, () => start(ledgerPath, { limits: [limit] }));

  for (const { child } of processes) child.stdin?.write("go\n");
  let throughGateway = 0;
  for (let call = 0; call < GATEWAY_CALLS; call += 1) {
    const body = JSON.stringify({ model: "claude-haiku-5-5", max_tokens: 64, messages: [{ role: "user", content: "Go on." }] });
    const headers = { "content-type": "application/json", "x-api-key": "k", "anthropic-version": "2023-06-01" };
    const response = await fetch(`${bench.url}/v1/messages`, { method: "POST", headers, body });
    await response.text();
    expect([200, 402]).toContain(response.status);
    if (response.status === 200) throughGateway += 1;
  }
  const seen = await Promise.all(processes.map((each) => each.seen));

  const ledger = await openSqliteLedger({ path: ledgerPath });
  onTestFinished(() => ledger.close());
  const calls = await ledger.calls({ limit: 100_000 });
  const sum = (of: (each: Seen) => number): number => seen.reduce((total, each) => total + of(each), 0);
  const answered = sum((each) => each.answered);
  const spent = calls.reduce((total, { costNanoUsd }) => total + (costNanoUsd ?? 0n), 0n);
  expect([sum(({ failed }) => failed), seen.flatMap(({ problems }) => problems)]).toEqual([0, []]);
  expect(calls.filter(({ status }) => status === "settled")).toHaveLength(answered + throughGateway);
  expect(calls.filter(({ status }) => status !== "settled" && status !== "denied")).toEqual([]);
  expect(spent).toBe(BigInt(answered) * CALL_NANO_USD + bench.simulator.bill.totalNanoUsd);
  expect(spent).toBeLessThanOrEqual(amountNanoUsd);
  // Whoever was refused would not have fitted: what is left is less than a call may cost.
  const boundMost = calls.reduce((most, { reservedNanoUsd = 0n }) => (reservedNanoUsd > most ? reservedNanoUsd : most), 0n);
  expect(amountNanoUsd - spent).toBeLessThan(boundMost);
  expect(await ledger.openCalls()).toEqual([]);
  const stalls = seen.map(({ stallMs }) => stallMs).toSorted((a, b) => a - b);
  const p99s = seen.map(({ p99Ms }) => p99Ms).toSorted((a, b) => a - b);
  reportFigure(
    "Processes",
    "clients and a gateway",
    `${PROCESSES} processes × ${CALLS} calls and a gateway's ${GATEWAY_CALLS} on one file: ${answered + throughGateway} admitted, ` +
      `${sum(({ denied }) => denied)} refused by the processes, $0 above the limit, 0 failed; longest stall of an event loop ` +
      `${stalls.at(-1)?.toFixed(0)} ms (median process ${stalls[PROCESSES / 2]?.toFixed(0)}; p99 of the worst ${p99s.at(-1)?.toFixed(0)} ms; load ${loadavg()[0]?.toFixed(0)} on this machine)`,
  );
}, 900_000);
