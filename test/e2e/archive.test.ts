/**
 * Goal: what is past retention leaves the ledger by itself, or by hand, and nothing else changes. Method: a gateway on a clock that is
 * moved on for months, and the command as it is.
 */
import { readdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";
import { checkArchive } from "../../src/ledger/sqlite/archive-file.ts";
import { createMemoryLedger } from "../../src/ledger/memory/memory-ledger.ts";
import { openSqliteLedger } from "../../src/ledger/sqlite/sqlite-ledger.ts";
import { verifySqliteLedger } from "../../src/ledger/sqlite/verify.ts";
import { DAY_MS, FIRST_ARCHIVING_MS } from "../../src/gateway/archiving.ts";
import { limitOf, LIFETIME, reserveOf, rulesOf, settleOf } from "../contract/samples.ts";
import { runCli, useTemporaryFolder } from "./cli-harness.ts";
import { NOW_MS } from "./cli-seed.ts";
import { createTestClock, startBench, type Bench } from "./harness.ts";
import { ask, until } from "./http.ts";

useTemporaryFolder();

const EVER = "limits: [{ name: ever, per: all, usd: 1_000 }]\n";
const START_MS = Date.UTC(2026, 0, 5, 12);

const archivesOf = async ({ ledgerPath }: Bench): Promise<string[]> =>
  (await readdir(dirname(ledgerPath))).filter((name) => name.includes(".archive-"));

test("a gateway archives once a day what is older than ledger.keepDays, and its totals stay", { timeout: 120_000 }, async () => {
  const clock = createTestClock(START_MS);
  const bench = await startBench({ yaml: `${EVER}ledger: { keepDays: 35 }\n`, clock });
  for (let call = 0; call < 3; call += 1) await ask(bench.url);
  const said = async () => ({
    report: await bench.gateway.ledger.report({ fromMs: 0, toMs: Infinity, by: ["model"] }),
    spent: [...(await bench.gateway.ledger.scopeStates())].map(([scope, { counters }]) => [scope, [...counters]]),
  });
  const before = await said();

  clock.advance(FIRST_ARCHIVING_MS);
  clock.advance(DAY_MS);
  expect(await archivesOf(bench)).toEqual([]);
  clock.advance(35 * DAY_MS);
  await until(async () => {
    clock.advance(DAY_MS);
    return (await bench.calls()).length === 0;
  });

  expect(await said()).toEqual(before);
  const [file, ...others] = await archivesOf(bench);
  expect(others).toEqual([]);
  expect(await checkArchive(join(dirname(bench.ledgerPath), file ?? ""))).toMatchObject({ fromSeq: 1, differences: [] });
  expect((await ask(bench.url)).status).toBe(200);
  expect(await bench.calls()).toHaveLength(1);
  expect(verifySqliteLedger(bench.ledgerPath).differences).toEqual([]);
  expect(bench.warnings).toEqual([]);
});

test("the command archives, checks what it made, and says why it does not", { timeout: 120_000 }, async () => {
  const path = "archive-me.db";
  const ledger = await openSqliteLedger({ path, seed: 1 });
  await ledger.configure(rulesOf([limitOf({ amount: 10n ** 12n, window: LIFETIME })], NOW_MS - 90 * DAY_MS));
  const at = (daysAgo: number): number => NOW_MS - daysAgo * DAY_MS;
  await ledger.apply([reserveOf("old", { atMs: at(60) }), settleOf("old", 40n, { atMs: at(60) + 1 })]);
  await ledger.apply([reserveOf("new", { atMs: at(1) }), settleOf("new", 2n, { atMs: at(1) + 1 })]);
  await ledger.close();
  const run = (words: string) => runCli(`archive --ledger ${path} ${words}`, { ledger: createMemoryLedger() });

  expect(await run("")).toMatchObject({ exitCode: 2, err: expect.stringContaining("ledger: { keepDays: DAYS }") as unknown });
  expect(await run("--older-than 34")).toMatchObject({ exitCode: 2 });
  expect(await run("--older-than 70")).toMatchObject({
    exitCode: 0,
    out: expect.stringContaining("Nothing is older") as unknown,
  });
  expect(await run(`--older-than 35 --to ${path}`)).toMatchObject({ exitCode: 2 });
  const done = await run("--older-than 35 --to old.jsonl");
  expect(done).toMatchObject({ exitCode: 0, err: "" });
  expect(done.out).toContain("old.jsonl: 1 calls (2 entries) up to 2026-09-23 10:04:05 UTC");
  expect(await run("--check old.jsonl")).toMatchObject({
    exitCode: 0,
    out: "old.jsonl: entries 1 to 2, each as it was written.\n",
  });
  expect(verifySqliteLedger(path).differences).toEqual([]);
  const left = await openSqliteLedger({ path, seed: 1 });
  const report = await runCli("report --since 2026-01-01 --format json", { ledger: left });
  await left.close();
  expect(JSON.parse(report.out)).toMatchObject({ total: { calls: 2, costUsd: "0.000000042" } });

  await writeFile("old.jsonl", '{"format":"purser-archive-1","fromSeq":1,"previousHash":""}\n{"seq":1}\n');
  expect(await run("--check old.jsonl")).toMatchObject({ exitCode: 1 });
});
