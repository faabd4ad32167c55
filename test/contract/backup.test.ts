/** Goal: a backup is the ledger as it stood at one commit, whatever is written meanwhile, and never half of it. */
import { spawn, spawnSync, type ChildProcessWithoutNullStreams } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { gunzipSync } from "node:zlib";
import Database from "better-sqlite3";
import { afterEach, beforeEach, expect, test } from "vitest";
import { backupSqliteLedger } from "../../src/ledger/sqlite/backup.ts";
import { openSqliteLedger } from "../../src/ledger/sqlite/sqlite-ledger.ts";
import { verifySqliteLedger } from "../../src/ledger/sqlite/verify.ts";
import { limitOf, reserveOf, rulesOf, settleOf } from "./samples.ts";

let folder: string;
let path: string;
let copy: string;
let child: ChildProcessWithoutNullStreams | undefined;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "purser-backup-"));
  path = join(folder, "ledger.db");
  copy = join(folder, "copy.db");
});
afterEach(() => {
  child?.kill("SIGKILL");
  child = undefined;
  rmSync(folder, { recursive: true });
});

/** Fills a ledger from another process, as fast as it can. @returns once so many calls were settled; it goes on. */
async function spendUntil(count: number): Promise<void> {
  const file = new URL("./spender.ts", import.meta.url).pathname;
  child = spawn(process.execPath, [file, path, "busy", "10000000", "64", String(10n ** 15n)]);
  child.stderr.pipe(process.stderr);
  child.stdin.write("go\n");
  const lines = createInterface(child.stdout);
  await new Promise<void>((resolve) => {
    let seen = 0;
    lines.on("line", () => {
      seen += 1;
      if (seen === count) resolve();
    });
  });
}

async function fill(callCount: number): Promise<void> {
  const ledger = await openSqliteLedger({ path });
  await ledger.configure(rulesOf([limitOf({ amount: 10n ** 15n })]));
  for (let index = 0; index < callCount; index += 1) await ledger.apply([reserveOf(`${index}`), settleOf(`${index}`, 7n)]);
  await ledger.close();
}

function headOf(file: string, upTo = Number.MAX_SAFE_INTEGER): { seq: number; hash: string } {
  const db = new Database(file, { readonly: true, timeout: 5_000 });
  const row = db
    .prepare<[number], { seq: number; hash: Buffer }>("select seq, hash from entries where seq <= ? order by seq desc limit 1")
    .get(upTo);
  db.close();
  if (row === undefined) throw new Error(`${file} has no entries`);
  return { seq: row.seq, hash: row.hash.toString("hex") };
}

test(
  "a copy made while another process writes at full speed is a beginning of the ledger, and right",
  { timeout: 120_000 },
  async () => {
    await spendUntil(500);

    const heads: number[] = [];
    for (const name of ["one.db", "two.db"]) {
      const before = headOf(path).seq;
      const result = await backupSqliteLedger({ path, to: join(folder, name) });
      const after = headOf(path).seq;

      expect(result).toMatchObject({ outcome: "done", check: { differences: [] } });
      const head = headOf(join(folder, name));
      expect(head).toEqual(headOf(path, head.seq));
      expect(head.seq).toBeGreaterThanOrEqual(before);
      expect(head.seq).toBeLessThan(after);
      heads.push(head.seq);
    }

    expect(heads).toEqual(heads.toSorted((a, b) => a - b));
  },
);

test("is one file for its owner alone, which opens as a ledger with the same totals and goes on", async () => {
  await fill(50);

  const result = await backupSqliteLedger({ path, to: copy });

  expect(result).toMatchObject({ outcome: "done", bytes: statSync(copy).size, check: { callCount: 50 } });
  expect(statSync(copy).mode & 0o777).toBe(0o600);
  expect(readdirSync(folder).filter((name) => name.startsWith("copy"))).toEqual(["copy.db"]);
  const restored = await openSqliteLedger({ path: copy });
  expect(await restored.report({ fromMs: 0, toMs: Infinity, by: [] })).toMatchObject([{ calls: 50, costNanoUsd: 350n }]);
  await restored.apply([reserveOf("later"), settleOf("later", 1n)]);
  await restored.close();
  expect(verifySqliteLedger(copy).differences).toEqual([]);
  expect(verifySqliteLedger(path).callCount).toBe(50);
});

test("overwrites nothing, leaves alone what another process is writing, and removes what a killed one left", async () => {
  await fill(1);
  writeFileSync(copy, "mine");

  expect(await backupSqliteLedger({ path, to: copy })).toEqual({ outcome: "exists", path: copy });

  rmSync(copy);
  const gone = spawnSync(process.execPath, ["--version"]).pid;
  const [running, killed] = [`${copy}.${process.ppid}.partial`, `${copy}.${gone}.partial`];
  for (const partial of [running, killed, `${killed}-journal`]) writeFileSync(partial, "half");
  expect(await backupSqliteLedger({ path, to: copy })).toMatchObject({ outcome: "done" });
  expect(
    readdirSync(folder)
      .filter((name) => name.startsWith("copy"))
      .sort(),
  ).toEqual(["copy.db", `copy.db.${process.ppid}.partial`]);
});

test("a ledger that was edited gives no backup, and says what differs", async () => {
  await fill(5);
  const db = new Database(path);
  db.exec("drop trigger entries_never_change; update entries set cost_nano_usd = 1 where kind = 'settled'");
  db.close();

  const result = await backupSqliteLedger({ path, to: copy });

  expect(result.outcome).toBe("damaged");
  expect(result.outcome === "damaged" && result.check.differences.join("\n")).toContain("its stored hash is");
  expect(readdirSync(folder).filter((name) => name.startsWith("copy"))).toEqual([]);
});

test("a backup that is stopped leaves nothing behind", async () => {
  await fill(5);

  expect(await backupSqliteLedger({ path, to: copy, isStopped: () => true })).toEqual({ outcome: "stopped" });

  expect(readdirSync(folder).filter((name) => name.startsWith("copy"))).toEqual([]);
});

test("no ledger, and what is no ledger, give no backup", async () => {
  await expect(backupSqliteLedger({ path, to: copy })).rejects.toMatchObject({ code: "ledger_unavailable" });

  writeFileSync(path, "no database at all, just some text that somebody wrote");
  await expect(backupSqliteLedger({ path, to: copy })).rejects.toMatchObject({ code: "ledger_unavailable" });

  writeFileSync(path, "");
  await expect(backupSqliteLedger({ path, to: copy })).rejects.toMatchObject({ code: "ledger_unusable" });

  rmSync(path);
  new Database(path).exec("create table other (a)").close();
  await expect(backupSqliteLedger({ path, to: copy })).rejects.toMatchObject({ code: "ledger_unusable" });
  expect(existsSync(copy)).toBe(false);
});

test("a ledger of an older version is not copied unchecked, but refused with what to do", async () => {
  writeFileSync(path, gunzipSync(readFileSync(new URL("../crash/fixtures/schema-1.ledger.gz", import.meta.url))));

  const refused = backupSqliteLedger({ path, to: copy });

  await expect(refused).rejects.toMatchObject({ code: "ledger_unusable", message: expect.stringContaining("its schema is 1") });
  expect(existsSync(copy)).toBe(false);

  await (await openSqliteLedger({ path })).close();
  expect(await backupSqliteLedger({ path, to: copy })).toMatchObject({ outcome: "done", check: { differences: [] } });
});
