/** Goal: a damaged write-ahead log never makes a ledger forget answered calls without a word. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { LedgerUnusableError } from "../ledger.ts";
import { openSqliteLedger } from "./sqlite-ledger.ts";
import { verifySqliteLedger } from "./verify.ts";
import { findWalDamage } from "./wal.ts";

let folder: string;
let killed: string;
let path: string;
let callCount: number;

/** A ledger whose process was killed: everything since it was opened is in the log alone. */
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "purser-wal-"));
  killed = join(folder, "killed.db");
  const spender = new URL("../../../test/contract/spender.ts", import.meta.url).pathname;
  const child = spawn(process.execPath, [spender, killed, "killed", "100000", "4", "1000000000"]);
  const exit = once(child, "exit");
  let lines = 0;
  createInterface(child.stdout).on("line", () => {
    lines += 1;
    if (lines === 1) child.stdin.write("go\n");
    if (lines === 40) child.kill("SIGKILL");
  });
  await exit;
});
beforeEach(async () => {
  path = join(folder, "ledger.db");
  rmSync(`${path}-shm`, { force: true });
  copyFileSync(killed, path);
  copyFileSync(`${killed}-wal`, `${path}-wal`);
  callCount = verifySqliteLedger(path).callCount;
  rmSync(`${path}-shm`, { force: true });
  copyFileSync(`${killed}-wal`, `${path}-wal`);
});
afterAll(() => rmSync(folder, { recursive: true }));

function flip(position: number): void {
  const log = readFileSync(`${path}-wal`);
  log[position] = (log[position] ?? 0) ^ 0x10;
  writeFileSync(`${path}-wal`, log);
}

test("a killed process leaves a log in which nothing is lost", () => {
  expect(existsSync(`${path}-wal`)).toBe(true);
  expect(findWalDamage(path)).toBeUndefined();
  expect(callCount).toBeGreaterThan(30);
});

test.each([0.02, 0.2, 0.4, 0.6])("a flipped bit at %d of the log is found by verify and stops the start", async (share) => {
  flip(Math.floor(readFileSync(`${path}-wal`).length * share));

  expect(verifySqliteLedger(path).differences).toContainEqual(
    expect.stringMatching(/log \(-wal\) is damaged at frame \d+: \d+ transactions/),
  );
  rmSync(`${path}-shm`, { force: true });
  const failure: unknown = await openSqliteLedger({ path }).catch((error: unknown) => error);
  expect(failure).toBeInstanceOf(LedgerUnusableError);
  expect(String(failure)).toContain("damaged at frame");
});

test("a flipped bit in its header is found", () => {
  flip(28);

  expect(findWalDamage(path)).toMatchObject({ frame: 1 });
});

test("a log cut in its last transaction is what a power cut leaves, and is no damage", async () => {
  const { length } = readFileSync(`${path}-wal`);
  truncateSync(`${path}-wal`, length - 5_000);

  expect(findWalDamage(path)).toBeUndefined();
  const ledger = await openSqliteLedger({ path });
  await ledger.close();
  expect(verifySqliteLedger(path).differences).toEqual([]);
});

test("a ledger without a log has nothing to lose", () => {
  rmSync(`${path}-wal`);

  expect(findWalDamage(path)).toBeUndefined();
});
