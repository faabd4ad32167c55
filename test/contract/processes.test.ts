/** Goal: processes that share one ledger file share one truth, to the nano-dollar, and none of them starves. */
import { spawn, type ChildProcessWithoutNullStreams } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openSqliteLedger } from "../../src/ledger/sqlite/sqlite-ledger.ts";
import { verifySqliteLedger } from "../../src/ledger/sqlite/verify.ts";
import { LIFETIME, limitOf, NOON_MS, reserveOf, rulesOf } from "./samples.ts";

let folder: string;
let path: string;
const children: ChildProcessWithoutNullStreams[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "purser-processes-"));
  path = join(folder, "ledger.db");
});
afterEach(() => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
  rmSync(folder, { recursive: true });
});

interface Spender {
  child: ChildProcessWithoutNullStreams;
  lines: AsyncIterator<string>;
}

async function start(name: string, callCount: number, amount: bigint): Promise<Spender> {
  const file = new URL("./spender.ts", import.meta.url).pathname;
  const child = spawn(process.execPath, [file, path, name, String(callCount), "8", String(amount)]);
  children.push(child);
  child.stderr.pipe(process.stderr);
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  expect((await lines.next()).value).toBe("ready");
  return { child, lines };
}

async function finish({ child, lines }: Spender): Promise<{ admitted: number; spent: bigint }> {
  const exit = once(child, "exit");
  let last = "";
  for (let line = await lines.next(); line.done !== true; line = await lines.next()) last = line.value;
  const { admitted, spent } = JSON.parse(last) as { admitted: number; spent: string };
  expect(await exit).toEqual([0, null]);
  return { admitted, spent: BigInt(spent) };
}

async function totalsOf(): Promise<{ calls: number; denied: number; costNanoUsd: bigint }> {
  const ledger = await openSqliteLedger({ path });
  const [group] = await ledger.report({ fromMs: 0, toMs: Infinity, by: [] });
  expect(await ledger.openCalls()).toEqual([]);
  const state = (await ledger.scopeStates()).get("all");
  const counters = [...(state?.counters.get("usd@day:UTC")?.values() ?? [])];
  expect(counters).toMatchObject([{ spent: group?.costNanoUsd ?? 0n, reserved: 0n }]);
  await ledger.close();
  if (group === undefined) throw new Error("nothing was spent");
  return group;
}

test("two processes spend from one file: the totals are exactly the sum of both", { timeout: 120_000 }, async () => {
  const spenders = [await start("one", 200, 10n ** 9n), await start("two", 200, 10n ** 9n)];
  for (const { child } of spenders) child.stdin.write("go\n");

  const results = await Promise.all(spenders.map(finish));

  expect(results.map(({ admitted }) => admitted)).toEqual([180, 180]);
  const { calls, costNanoUsd } = await totalsOf();
  expect(calls).toBe(400);
  expect(costNanoUsd).toBe(results.reduce((sum, { spent }) => sum + spent, 0n));
  expect(verifySqliteLedger(path).differences).toEqual([]);
});

test("a hard limit holds over three processes, and each of them gets its turn", { timeout: 120_000 }, async () => {
  const amount = 6_000n;
  const names = ["one", "two", "three"];
  const spenders = await Promise.all(names.map((name) => start(name, 120, amount)));
  for (const { child } of spenders) child.stdin.write("go\n");

  const results = await Promise.all(spenders.map(finish));

  const { costNanoUsd, denied } = await totalsOf();
  expect(costNanoUsd).toBe(results.reduce((sum, { spent }) => sum + spent, 0n));
  expect(costNanoUsd).toBeLessThanOrEqual(amount);
  expect(costNanoUsd).toBeGreaterThan(amount - 101n);
  expect(denied).toBeGreaterThan(0);
  for (const { admitted } of results) expect(admitted).toBeGreaterThan(0);
  expect(verifySqliteLedger(path).differences).toEqual([]);
});

test("a process is told that another changed the ledger, and not that it did itself", async () => {
  const mine = await openSqliteLedger({ path });
  const other = await openSqliteLedger({ path });
  await mine.configure(rulesOf([limitOf({ amount: 1_000n, window: LIFETIME })]));
  const before = await mine.revision();

  await mine.apply([reserveOf("1")]);
  const afterOwn = await mine.revision();
  await other.apply([reserveOf("2")]);

  expect(afterOwn).toBe(before);
  expect(await mine.revision()).not.toBe(before);
  await mine.close();
  await other.close();
});

test(
  "what a killed process had been answered is there, and what it held can be ended by another",
  { timeout: 300_000 },
  async () => {
    const kills = process.env["PURSER_LONG"] === "1" ? 100 : 4;
    let answeredCount = 0;
    for (let kill = 1; kill <= kills; kill += 1) {
      const spender = await start(`killed-${kill}`, 100_000, 10n ** 12n);
      spender.child.stdin.write("go\n");
      const answered = new Map<string, bigint>();
      // Killed in the middle of its work, after another number of answers each time.
      for (let line = await spender.lines.next(); line.done !== true; line = await spender.lines.next()) {
        const [id = "", cost = ""] = line.value.split(" ");
        if (/^\d+$/.test(cost)) answered.set(id, BigInt(cost));
        if (answered.size === 20 + kill * 7) spender.child.kill("SIGKILL");
      }
      answeredCount += answered.size;
      expect(await lostAfterKill(`killed-${kill}`, answered)).toEqual([]);
    }

    process.stdout.write(`kills: ${kills}, ${answeredCount} answered calls, none lost\n`);
    expect(answeredCount).toBeGreaterThan(kills * 20);
    expect(verifySqliteLedger(path).differences).toEqual([]);
  },
);

/** Ends what a killed process left open, as another would, and says what it had been answered that is not there. */
async function lostAfterKill(ownerId: string, answered: ReadonlyMap<string, bigint>): Promise<string[]> {
  const ledger = await openSqliteLedger({ path });
  const calls = await ledger.calls({ limit: 100_000 });
  const costs = new Map(calls.map(({ callId, status, costNanoUsd }) => [callId, status === "settled" ? costNanoUsd : undefined]));
  const left = await ledger.openCalls(ownerId);
  const ended = await ledger.apply(
    left.map(({ callId }) => ({ kind: "expire" as const, atMs: NOON_MS, callId, reason: "killed" })),
  );
  const open = await ledger.openCalls();
  await ledger.close();
  return [
    ...[...answered].filter(([id, cost]) => costs.get(id) !== cost).map(([id, cost]) => `${id}, settled at ${cost}`),
    ...ended.filter(({ outcome }) => outcome !== "done").map(({ outcome }) => `not ended: ${outcome}`),
    ...open.map(({ callId }) => `still open: ${callId}`),
  ];
}
