/** What start-up and a running ledger say about a file that is not as it should be. */
import Database from "better-sqlite3";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { limitOf, reserveOf, rulesOf, settleOf } from "../../../test/contract/samples.ts";
import { LedgerUnavailableError, LedgerUnusableError, type Ledger } from "../ledger.ts";
import { openSqliteLedger } from "./sqlite-ledger.ts";
import { verifySqliteLedger } from "./verify.ts";

let folder: string;
let path: string;
const opened: Ledger[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "purser-file-"));
  path = join(folder, "ledger.db");
});
afterEach(async () => {
  for (const ledger of opened.splice(0)) await ledger.close();
  rmSync(folder, { recursive: true });
});

async function open(input: Partial<Parameters<typeof openSqliteLedger>[0]> = {}): Promise<Ledger> {
  const ledger = await openSqliteLedger({ path, seed: 1, ...input });
  opened.push(ledger);
  return ledger;
}

/** A closed ledger file with some calls in it. */
async function writeLedger(callCount: number): Promise<void> {
  const ledger = await openSqliteLedger({ path, seed: 1 });
  await ledger.configure(rulesOf([limitOf({ amount: 10n ** 9n })]));
  const ids = Array.from({ length: callCount }, (_nothing, index) => `call-${index}`);
  await Promise.all(ids.map((id) => ledger.apply([reserveOf(id), settleOf(id, 40n)])));
  await ledger.close();
}

async function reserveUntilItFails(ledger: Ledger): Promise<{ admitted: number; failure: unknown }> {
  for (let admitted = 0; admitted < 10_000; admitted += 1) {
    try {
      await ledger.apply([reserveOf(`call-${admitted}`)]);
    } catch (failure) {
      return { admitted, failure };
    }
  }
  throw new Error("there was room for ten thousand calls");
}

async function failureOf(opening: Promise<unknown>): Promise<Error> {
  return opening.then(
    () => {
      throw new Error("it opened");
    },
    (error: unknown) => error as Error,
  );
}

describe("a new ledger", () => {
  test("is made for its owner alone, with its folder", async () => {
    path = join(folder, "a", "b", "ledger.db");
    await (await open()).configure(rulesOf([limitOf({ amount: 1n })]));

    expect(statSync(join(folder, "a", "b")).mode & 0o777).toBe(0o700);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(statSync(`${path}-wal`).mode & 0o777).toBe(0o600);
  });

  test("keeps everything over closing and opening again, limits in force included", async () => {
    const first = await open();
    await first.configure(rulesOf([limitOf({ amount: 100n })]));
    await first.apply([reserveOf("1"), settleOf("1", 40n), reserveOf("2", { usd: 60n })]);
    await first.close();

    const second = await open();

    expect(await second.apply([reserveOf("3", { usd: 1n }), reserveOf("1"), settleOf("2", 60n)])).toMatchObject([
      { outcome: "wait" },
      { outcome: "duplicate" },
      { outcome: "done" },
    ]);
  });

  test("that is opened by two at once is made once", async () => {
    const [one, two] = await Promise.all([open(), open({ seed: 2 })]);

    await one.configure(rulesOf([limitOf({ amount: 100n })]));

    expect(await two.apply([reserveOf("1")])).toMatchObject([{ outcome: "reserved" }]);
    expect(await one.apply([reserveOf("1"), reserveOf("2")])).toMatchObject([{ outcome: "duplicate" }, { outcome: "wait" }]);
  });
});

describe("start-up refuses", () => {
  test("a file that is no database, naming it", async () => {
    writeFileSync(path, "limits:\n  - name: this is a configuration file and no ledger\n".repeat(50));

    const failure = await failureOf(open());

    expect(failure).toBeInstanceOf(LedgerUnusableError);
    expect(failure.message).toContain(path);
    expect(failure.message).toContain("file is not a database");
    expect(failure.message).toContain("Restore a backup");
    expect(readFileSync(path, "utf8")).toMatch(/^limits:/);
  });

  test("a database that is no ledger", async () => {
    const db = new Database(path);
    db.exec("create table other (a)");
    db.close();

    const failure = await failureOf(open());

    expect(failure).toBeInstanceOf(LedgerUnusableError);
    expect(failure.message).toContain("no ledger of Purser");
  });

  test("a ledger from a newer version", async () => {
    await writeLedger(1);
    const db = new Database(path);
    db.pragma("user_version = 99");
    db.close();

    const failure = await failureOf(open());

    expect(failure).toBeInstanceOf(LedgerUnusableError);
    expect(failure.message).toContain("schema 99");
    expect(failure.message).toContain("Update Purser");
  });

  test("a corrupt file, and one that was cut", async () => {
    await writeLedger(300);
    const whole = readFileSync(path);

    const damaged = Buffer.from(whole);
    damaged.fill(0xff, 4_096 * 3, 4_096 * 3 + 200);
    writeFileSync(path, damaged);
    expect(await failureOf(open())).toBeInstanceOf(LedgerUnusableError);

    for (const share of [0.3, 0.5, 0.9]) {
      writeFileSync(path, whole);
      truncateSync(path, Math.floor(whole.length * share));
      const failure = await failureOf(open());
      expect(failure).toBeInstanceOf(LedgerUnusableError);
      expect(failure.message).toContain(path);
    }
  });

  test("a ledger whose last entry was edited, naming the entry", async () => {
    await writeLedger(3);
    const db = new Database(path);
    db.exec("drop trigger entries_never_change");
    db.exec("update entries set body = replace(body, '\"40\"', '\"39\"') where seq = 6");
    db.close();

    const failure = await failureOf(open());

    expect(failure).toBeInstanceOf(LedgerUnusableError);
    expect(failure.message).toContain("entry 6 is not what was written");
  });

  test("a folder that cannot be made or written", async () => {
    path = "/proc/purser/ledger.db";
    const missing = await failureOf(open());
    expect(missing).toBeInstanceOf(LedgerUnusableError);
    expect(missing.message).toContain("/proc/purser");

    const file = join(folder, "file");
    writeFileSync(file, "");
    path = join(file, "ledger.db");
    expect(await failureOf(open())).toBeInstanceOf(LedgerUnusableError);

    path = join(folder, "folder");
    mkdirSync(path);
    expect(await failureOf(open())).toBeInstanceOf(LedgerUnusableError);
  });

  test("a ledger that is locked by another program, after the time it may take", async () => {
    await writeLedger(1);
    const other = new Database(path);
    other.pragma("locking_mode = exclusive");
    other.exec("begin exclusive");

    const failure = await failureOf(open({ lockWaitMs: 50 }));

    expect(failure).toBeInstanceOf(LedgerUnavailableError);
    expect(failure.message).toContain(path);
    expect(failure.message).toContain("lock");
    other.close();
  });
});

describe("a running ledger", () => {
  test("that is locked for too long answers unavailable, and goes on when the lock is free", async () => {
    const ledger = await open({ lockWaitMs: 60 });
    await ledger.configure(rulesOf([limitOf({ amount: 1_000n })]));
    const other = new Database(path, { timeout: 1_000 });
    other.exec("begin immediate");

    await expect(ledger.apply([reserveOf("1")])).rejects.toThrow(LedgerUnavailableError);
    other.exec("rollback");
    other.close();

    expect(await ledger.apply([reserveOf("1")])).toMatchObject([{ outcome: "reserved" }]);
  });

  test("whose file is full answers unavailable, loses nothing that was answered, and admits nothing", async () => {
    const ledger = await open({ pagesMax: 60 });
    await ledger.configure(rulesOf([limitOf({ amount: 10n ** 9n })]));
    const { admitted, failure } = await reserveUntilItFails(ledger);

    expect(failure).toBeInstanceOf(LedgerUnavailableError);
    expect(String(failure)).toContain("full");
    expect(await ledger.openCalls()).toHaveLength(admitted);
    await ledger.close();
    expect(verifySqliteLedger(path).differences).toEqual([]);
    const roomier = await open();
    expect(await roomier.apply([settleOf("call-0", 1n)])).toMatchObject([{ outcome: "done" }]);
  });

  // A real small file system needs the right to mount one.
  const canMount = process.platform === "linux" && process.getuid?.() === 0 && tryMount();

  test.runIf(canMount)("on a disk that is full answers unavailable, and recovers when space returns", async () => {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m", "purser-test", folder]);
    try {
      const ballast = join(folder, "ballast");
      writeFileSync(ballast, Buffer.alloc(400_000));
      const ledger = await open();
      await ledger.configure(rulesOf([limitOf({ amount: 10n ** 9n })]));
      const { admitted, failure } = await reserveUntilItFails(ledger);
      expect(failure).toBeInstanceOf(LedgerUnavailableError);

      rmSync(ballast);

      expect(await ledger.apply([settleOf("call-0", 40n)])).toMatchObject([{ outcome: "done" }]);
      expect(await ledger.openCalls()).toHaveLength(admitted - 1);
      await ledger.close();
      expect(verifySqliteLedger(path).differences).toEqual([]);
    } finally {
      for (const ledger of opened.splice(0)) await ledger.close();
      execFileSync("umount", [folder]);
    }
  });

  test("refuses what cannot reach its thread alone", async () => {
    const ledger = await open();
    await ledger.configure(rulesOf([limitOf({ amount: 10n ** 9n })]));
    const broken = { ...reserveOf("2"), atMs: reserveOf("2").atMs, oddity: 1n };

    const answers = await Promise.allSettled([
      ledger.apply([reserveOf("1")]),
      ledger.apply([broken]),
      ledger.apply([reserveOf("3")]),
    ]);

    expect(answers.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
  });

  test.runIf(canMount)("on a file system that can only be read is refused at start, with what to check", async () => {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=8m", "purser-test", folder]);
    try {
      await writeLedger(1);
      execFileSync("mount", ["-o", "remount,ro", folder]);

      const failure = await failureOf(open());

      expect(failure).toBeInstanceOf(LedgerUnusableError);
      expect(failure.message).toContain("read-only file system");
      expect(failure.message).toContain("may write to");
    } finally {
      execFileSync("umount", [folder]);
    }
  });

  test("answers everything that was asked before it is closed, and nothing after", async () => {
    const ledger = await open();
    await ledger.configure(rulesOf([limitOf({ amount: 10n ** 9n })]));
    const asked = Array.from({ length: 50 }, (_nothing, index) => ledger.apply([reserveOf(`call-${index}`)]));

    await ledger.close();

    expect(await Promise.all(asked)).toHaveLength(50);
    await expect(ledger.apply([reserveOf("late")])).rejects.toThrow(LedgerUnavailableError);
    expect(existsSync(`${path}-wal`)).toBe(false);
  });
});

function tryMount(): boolean {
  const probe = mkdtempSync(join(tmpdir(), "purser-mount-"));
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m", "purser-test", probe], { stdio: "ignore" });
    execFileSync("umount", [probe]);
    return true;
  } catch {
    // Without the right to mount there is still the file's page limit, above.
    return false;
  } finally {
    rmSync(probe, { recursive: true });
  }
}
