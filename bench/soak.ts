/**
 * Hours of mixed traffic with faults: memory, open files and the write-ahead log stay flat, and the ledger agrees with the provider's own
 * bill to the nano-dollar. Calls that the provider breaks off go by an agent of their own: what they cost can only be bounded.
 */
import { spawnSync } from "node:child_process";
import { statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { folder, nextLine, startProvider, startPurser } from "./gateway/targets.ts";
import { Connection, forConnection } from "./load/client.ts";
import { buildRequest, JSON_BODY, STREAM_BODY_BYTES, type Manner } from "./load/traffic.ts";
import { openFiles, rssBytes } from "./machine.ts";
import type { Row, Section } from "./table.ts";

const FAULTS: Manner[] = ["error", "reset", "cut"];
const ONE_FAULT_IN = 100;
const LOOKS = 20;

interface Bill {
  answered: number;
  answeredNanoUsd: number;
  brokenNanoUsdMax: number;
}

interface Report {
  groups: { key: { agent: string }; calls: number; costUsd: string }[];
}

export async function soak({ minutes, rate }: { minutes: number; rate: number }): Promise<Section> {
  const ledgerPath = join(folder, "soak.db");
  const provider = startProvider();
  const gateway = await startPurser(Number(await nextLine(provider)), { ledgerPath });
  const [pid = 0] = gateway.pids;
  const host = `127.0.0.1:${gateway.port}`;
  const requestOf = (isStream: boolean, manner: Manner = "plain"): Buffer =>
    buildRequest({ bytes: 4_096, isStream, manner, host, headers: manner === "plain" ? {} : { "x-purser-agent": "faulty" } });
  const good = [false, true].map((isStream) => ({
    request: requestOf(isStream),
    bytes: isStream ? STREAM_BODY_BYTES : JSON_BODY.length,
  }));
  const faulty = FAULTS.map((manner) => requestOf(manner === "cut", manner));
  const idle: Connection[] = [];
  const running = new Set<Promise<void>>();
  const wrong: string[] = [];

  const callWell = async (index: number): Promise<void> => {
    const { request, bytes } = good[index % 2] ?? { request: Buffer.alloc(0), bytes: 0 };
    let connection = idle.pop();
    // The gateway closes connections that nobody used for a while.
    while (connection?.isOpen === false) connection = idle.pop();
    connection ??= new Connection(gateway.port);
    const { status, payloadBytes } = await connection.send(forConnection(request, index));
    if (status !== 200 || payloadBytes !== bytes) wrong.push(`call ${index}: status ${status}, ${payloadBytes} bytes`);
    idle.push(connection);
  };
  const callBadly = async (index: number): Promise<void> => {
    const connection = new Connection(gateway.port);
    const request = faulty[(index / ONE_FAULT_IN) % faulty.length];
    // An answer or a broken connection: both are what was asked for.
    await connection.send(forConnection(request ?? Buffer.alloc(0), index)).catch(() => undefined);
    connection.close();
  };

  const rows: Row[] = [];
  const startedMs = performance.now();
  const total = Math.round(minutes * 60 * rate);
  for (let index = 0; index <= total && wrong.length === 0; index += 1) {
    if (index % Math.max(1, Math.floor(total / LOOKS)) === 0) {
      rows.push({
        minute: ((performance.now() - startedMs) / 60_000).toFixed(1),
        "calls sent": index,
        "memory (RSS), MB": rssBytes(pid) / 1e6,
        "open files": openFiles(pid),
        "write-ahead log, MB": (statSync(`${ledgerPath}-wal`, { throwIfNoEntry: false })?.size ?? 0) / 1e6,
      });
    }
    const waitMs = startedMs + (index * 1_000) / rate - performance.now();
    if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
    const one: Promise<void> = (index % ONE_FAULT_IN === 0 ? callBadly(index) : callWell(index))
      .catch((error: unknown) => void wrong.push(`call ${index}: ${String(error)}`))
      .then(() => void running.delete(one));
    running.add(one);
  }
  await Promise.all(running);
  for (const connection of idle) connection.close();
  provider.stdin?.write("bill\n");
  const bill = JSON.parse(await nextLine(provider)) as Bill;
  await gateway.stop();
  provider.kill("SIGKILL");
  if (wrong.length > 0) throw new Error(wrong.join("\n"));
  return { title: `${minutes} minutes at ${rate} calls a second, 1 % of them faults`, note: compare(bill, ledgerPath), rows };
}

function compare(bill: Bill, ledgerPath: string): string {
  const purser = (...words: string[]) => {
    const main = fileURLToPath(new URL("../src/cli/main.ts", import.meta.url));
    return spawnSync(process.execPath, [main, ...words, "--ledger", ledgerPath], { encoding: "utf8", maxBuffer: 2 ** 28 });
  };
  const since = new Date(Date.now() - 2 * 86_400_000).toISOString();
  const until = new Date(Date.now() + 86_400_000).toISOString();
  const report = purser("report", "--since", since, "--until", until, "--by", "agent", "--format", "json");
  if (report.status !== 0) throw new Error(`purser report: ${report.stderr}`);
  const groups = new Map((JSON.parse(report.stdout) as Report).groups.map((group) => [group.key.agent, group]));
  const answered = toNano(groups.get("bench-agent")?.costUsd ?? "0");
  const broken = toNano(groups.get("faulty")?.costUsd ?? "0");
  if (answered !== BigInt(bill.answeredNanoUsd))
    throw new Error(
      `the ledger holds ${answered} nano-dollars for ${bill.answered} answered calls, the bill ${bill.answeredNanoUsd}`,
    );
  if (broken < BigInt(bill.brokenNanoUsdMax))
    throw new Error(
      `the ledger holds ${broken} nano-dollars for calls that were broken off, the bill up to ${bill.brokenNanoUsdMax}`,
    );
  const verified = purser("verify");
  if (verified.status !== 0) throw new Error(`purser verify: ${verified.stdout}${verified.stderr}`);
  return `${bill.answered.toLocaleString("en-US")} answered calls: ledger and the provider's own bill agree on ${answered} nano-dollars. Calls broken off: ledger ${broken}, bill at most ${bill.brokenNanoUsdMax}. \`purser verify\` finds nothing.`;
}

function toNano(usd: string): bigint {
  const [whole = "0", part = ""] = usd.split(".");
  return BigInt(whole) * 1_000_000_000n + BigInt(part.padEnd(9, "0"));
}
