/**
 * Goal: whatever happens to the ledger's file, no call passes without being counted, nothing that was counted is lost, and the operator
 * is told which file, what was found and what to do. Method: real files, real locks held by another connection, a real full disk.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { closeSync, ftruncateSync, openSync, statSync, unlinkSync, writeFileSync, writeSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Database from "better-sqlite3";
import { describe, expect, it, onTestFinished } from "vitest";
import { hashSecret } from "../../src/exchange/system.ts";
import { createVirtualKeySecret } from "../../src/gateway/virtual-key.ts";
import type { Ledger } from "../../src/ledger/ledger.ts";
import { openSqliteLedger } from "../../src/ledger/sqlite/sqlite-ledger.ts";
import { startBench, type Bench } from "./harness.ts";
import { ask, begin, messageOf, readAnswer, until } from "./http.ts";

const UNAVAILABLE = { status: 503, type: "api_error", code: "ledger_unavailable", retryAfter: "5" };

async function newFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "purser-ledger-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** A ledger file with one settled call in it. */
async function newLedgerFile(): Promise<string> {
  const path = join(await newFolder(), "ledger.db");
  const bench = await startBench({ ledgerPath: path });
  await ask(bench.url);
  await bench.gateway.close(1_000);
  return path;
}

/** Starts a gateway on a file that it cannot use, and resolves with what it says. */
async function startFailure(path: string): Promise<{ code: unknown; message: string }> {
  const error: unknown = await startBench({ ledgerPath: path }).catch((thrown: unknown) => thrown);
  if (!(error instanceof Error)) throw new Error("the gateway started");
  return { code: "code" in error ? error.code : undefined, message: error.message };
}

async function askWithoutLedger(bench: Bench) {
  const { status, error, headers } = await ask(bench.url);
  return { status, type: error?.type, code: error?.details["code"], retryAfter: headers["retry-after"] };
}

/** A stream that stands still in the middle until it is let go. */
async function openStream(bench: Bench): Promise<{ finish: () => Promise<string> }> {
  let letGo = (): void => undefined;
  const held = new Promise<void>((resolve) => (letGo = resolve));
  bench.simulator.next({ kind: "answer", outputTokens: 40, deltas: 4, step: once(held) });
  const response = await begin(bench.url, { body: messageOf({ stream: true }) });
  return {
    finish: async () => {
      letGo();
      return (await readAnswer(response)).text;
    },
  };
}

/** Lets the first two events pass, then waits. */
function once(held: Promise<void>): () => Promise<void> {
  let events = 0;
  return () => ((events += 1) <= 2 ? Promise.resolve() : held);
}

describe("a ledger file that is locked by another program", () => {
  it("stops the start with the file, the reason and what to do", async () => {
    const path = await newLedgerFile();
    const other = new Database(path);
    onTestFinished(() => void other.close());
    other.pragma("locking_mode = exclusive");
    other.exec("begin immediate");

    const ledger = await openSqliteLedger({ path, lockWaitMs: 50 }).catch((error: unknown) => error);

    expect(ledger).toMatchObject({ code: "ledger_unavailable" });
    expect(String(ledger)).toContain(path);
    expect(String(ledger)).toMatch(/another program held its lock/);
  });

  it("while calls run: new ones are answered 503, the running stream finishes, and all of it is in the books afterwards", async () => {
    const path = join(await newFolder(), "ledger.db");
    const bench = await startBench({ ledgerPath: path, gateway: { ledger: await openSqliteLedger({ path, lockWaitMs: 50 }) } });
    const stream = await openStream(bench);
    const other = new Database(path);
    onTestFinished(() => void other.close());
    other.exec("begin immediate");

    expect(await askWithoutLedger(bench)).toEqual(UNAVAILABLE);
    expect(await stream.finish()).toContain("event: message_stop");
    expect(bench.simulator.requests).toHaveLength(1);
    expect(bench.warnings.map(({ event }) => event)).toContain("settlement_waits");

    other.exec("commit");
    await until(() => bench.gateway.engine.unsettledCount === 0);
    expect((await ask(bench.url)).status).toBe(200);
    await expectBooksEqualBill(bench);
  });
});

/** Every settled call is on the bill at the same amount, and nothing is held any more. */
async function expectBooksEqualBill(bench: Bench): Promise<void> {
  const calls = await bench.calls();
  const settled = calls.filter(({ status }) => status === "settled").map(({ costNanoUsd }) => costNanoUsd);
  expect(settled).toEqual(bench.simulator.bill.lines.map(({ costNanoUsd }) => costNanoUsd));
  expect(calls.filter(({ status }) => status === "reserved")).toEqual([]);
  expect(await bench.gateway.ledger.openCalls()).toEqual([]);
}

describe("a ledger file that is read-only", () => {
  it("stops the start with the file and what to do", async ({ skip }) => {
    const path = await newLedgerFile();
    // Permissions do not bind the administrator: a file system that is mounted read-only does.
    if (process.getuid?.() === 0) mountOver(path, skip);
    else execFileSync("chmod", ["0444", path]);

    const failure = await startFailure(path);

    expect(failure).toMatchObject({ code: "ledger_unusable" });
    expect(failure.message).toContain(path);
    expect(failure.message).toMatch(/cannot be created or written.*Name a file in a folder that this user may write to/s);
  });
});

function mountOver(path: string, skip: (note: string) => void): void {
  const folder = join(path, "..");
  const isMounted = spawnSync("mount", ["--bind", "-o", "ro", folder, folder]).status === 0;
  if (isMounted) onTestFinished(() => void execFileSync("umount", [folder]));
  const isReadOnly = isMounted && spawnSync("mount", ["-o", "remount,bind,ro", folder]).status === 0;
  if (!isReadOnly) skip("an administrator without the right to mount cannot make a file read-only");
}

describe("a ledger file that is corrupt", () => {
  it.each([
    ["text", (path: string) => writeFileSync(path, "not a database, but as long as one would be\n".repeat(200))],
    ["cut in the middle", (path: string) => resize(path, Math.floor(statSync(path).size / 2))],
    ["overwritten in the middle", (path: string) => overwrite(path, 3 * 4_096, 2 * 4_096)],
    ["another database", (path: string) => replaceByForeign(path)],
  ])("(%s) stops the start with the file, what was found, and how to restore", async (_name, damage) => {
    const path = await newLedgerFile();
    damage(path);

    const failure = await startFailure(path);

    expect(failure).toMatchObject({ code: "ledger_unusable" });
    expect(failure.message).toContain(path);
    expect(failure.message).toMatch(/Restore a backup|Name another file/);
  });

  it("in a scope value that is in use closes that one and leaves the others open", async () => {
    const path = join(await newFolder(), "ledger.db");
    const bench = await startBench({ ledgerPath: path, yaml: "limits: [{ name: agents, per: agent, usd: 10, every: day }]\n" });
    const agent = (name: string) => ask(bench.url, { headers: { "x-purser-agent": name } });
    await Promise.all([agent("a"), agent("b")]);
    await bench.gateway.close(1_000);
    const other = new Database(path);
    other.prepare("update counters set state = replace(state, 'usd', 'uzd') where scope_key like '%agent%a%'").run();
    other.close();

    const reopened = await startBench({
      ledgerPath: path,
      yaml: "limits: [{ name: agents, per: agent, usd: 10, every: day }]\n",
    });
    const before = reopened.simulator.requests.length;
    const broken = await ask(reopened.url, { headers: { "x-purser-agent": "a" } });
    const whole = await ask(reopened.url, { headers: { "x-purser-agent": "b" } });

    expect({ broken: broken.status, whole: whole.status }).toEqual({ broken: 503, whole: 200 });
    expect(broken.error?.details["code"]).toBe("ledger_unavailable");
    expect(reopened.simulator.requests).toHaveLength(before + 1);
  });
});

function resize(path: string, bytes: number): void {
  const file = openSync(path, "r+");
  ftruncateSync(file, bytes);
  closeSync(file);
}

function overwrite(path: string, offset: number, bytes: number): void {
  const file = openSync(path, "r+");
  writeSync(file, Buffer.alloc(bytes, 0x5a), 0, bytes, offset);
  closeSync(file);
}

function replaceByForeign(path: string): void {
  unlinkSync(path);
  const db = new Database(path);
  db.exec("create table notes (text)");
  db.close();
}

describe("a ledger file from a newer version", () => {
  it("stops the start and says to update", async () => {
    const path = await newLedgerFile();
    const db = new Database(path);
    db.pragma("user_version = 999");
    db.close();

    const failure = await startFailure(path);

    expect(failure).toMatchObject({ code: "ledger_unusable" });
    expect(failure.message).toMatch(/newer version of Purser \(schema 999.*Update Purser, or restore a backup/s);
  });
});

describe("a port in use", () => {
  it("stops the start, names the port, and leaves the ledger to others", async () => {
    const taken = createServer();
    const port = await new Promise<number>((resolve) => {
      taken.listen(0, "127.0.0.1", () => resolve((taken.address() as { port: number }).port));
    });
    onTestFinished(() => void taken.close());
    const path = join(await newFolder(), "ledger.db");

    const failure = await startBench({ ledgerPath: path, env: { PURSER_PORT: String(port) } }).catch((error: unknown) => error);

    expect(failure).toMatchObject({ code: "EADDRINUSE", port });
    const ledger = await openSqliteLedger({ path });
    onTestFinished(() => ledger.close());
    expect(await ledger.owners()).toEqual([]);
  });
});

describe("a start that fails after the ledger was opened", () => {
  it("closes it, so that the process can end and others find the file free", async () => {
    const path = join(await newFolder(), "ledger.db");
    const ledger = await openSqliteLedger({ path });
    ledger.owners = () => Promise.reject(new Error("unreadable"));

    await expect(startBench({ ledgerPath: path, gateway: { ledger } })).rejects.toThrow("unreadable");

    await expect(ledger.calls({ limit: 1 })).rejects.toThrow("is closed");
  });
});

/** A file system of one megabyte, filled and emptied with a second file. */
async function newSmallDisk(skip: (note: string) => void): Promise<{ path: string; fill: () => void; empty: () => void }> {
  const folder = await newFolder();
  const isMounted = spawnSync("mount", ["-t", "tmpfs", "-o", "size=2m", "tmpfs", folder]).status === 0;
  if (!isMounted) skip("without the right to mount there is no small file system; the page limit is tested instead");
  else onTestFinished(() => void execFileSync("umount", ["-l", folder]));
  const ballast = join(folder, "ballast");
  return { path: join(folder, "ledger.db"), fill: () => fill(ballast), empty: () => unlinkSync(ballast) };
}

function fill(path: string): void {
  const file = openSync(path, "a");
  try {
    for (;;) writeSync(file, Buffer.alloc(512, 1));
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ENOSPC")) throw error;
  } finally {
    closeSync(file);
  }
}

/** Asks until the ledger can take no more, since what is allocated already still has room. */
async function askUntilFull(bench: Bench): Promise<void> {
  await until(async () => (await ask(bench.url)).status === 503);
}

describe("a disk that is full", () => {
  it("(a small file system) answers new calls 503 and forwards nothing; running streams finish, and their settlements land when space returns", async ({
    skip,
  }) => {
    const disk = await newSmallDisk(skip);
    const bench = await startBench({ ledgerPath: disk.path });
    const stream = await openStream(bench);
    disk.fill();
    await askUntilFull(bench);
    const forwarded = bench.simulator.requests.length;

    const refused = await Promise.all(Array.from({ length: 10 }, () => askWithoutLedger(bench)));
    const streamed = await stream.finish();
    await bench.simulator.idle();

    expect(refused).toEqual(Array.from({ length: 10 }, () => UNAVAILABLE));
    expect(bench.simulator.requests).toHaveLength(forwarded);
    expect(streamed).toContain("event: message_stop");
    expect(bench.gateway.engine.unsettledCount).toBeGreaterThan(0);
    expect((await ask(bench.url, { method: "GET", path: "/healthz" })).status).toBe(200);

    disk.empty();
    await until(() => bench.gateway.engine.unsettledCount === 0);
    expect((await ask(bench.url)).status).toBe(200);
    const calls = await bench.calls();
    expect(sum(calls.map(({ costNanoUsd }) => costNanoUsd ?? 0n))).toBe(bench.simulator.bill.totalNanoUsd);
    expect(await bench.gateway.ledger.openCalls()).toEqual([]);
  });

  it("(a page limit) answers new calls 503 and forwards nothing, and the running stream finishes", async () => {
    const path = join(await newFolder(), "ledger.db");
    const bench = await startBench({ ledgerPath: path, gateway: { ledger: await openSqliteLedger({ path, pagesMax: 60 }) } });
    const stream = await openStream(bench);
    await askUntilFull(bench);
    const forwarded = bench.simulator.requests.length;

    expect(await askWithoutLedger(bench)).toEqual(UNAVAILABLE);
    expect(await stream.finish()).toContain("event: message_stop");
    expect(bench.simulator.requests).toHaveLength(forwarded);
    expect(bench.warnings.find(({ event }) => event === "ledger_unavailable")?.details["reason"]).toMatch(
      /full: free some space/,
    );
  });

  it("for long keeps no more in memory than a bounded number of calls, however many ask", async () => {
    const { ledger, setBroken } = await newBreakableLedger();
    const bench = await startBench({ gateway: { ledger } });
    setBroken(true);

    const statuses = new Set<number>();
    for (let round = 0; round < 24; round += 1) {
      const answers = await Promise.all(Array.from({ length: 50 }, () => ask(bench.url)));
      for (const { status } of answers) statuses.add(status);
    }

    expect([...statuses]).toEqual([503]);
    expect(bench.gateway.engine.unsettledCount).toBeLessThanOrEqual(1_000);
    setBroken(false);
    await until(() => bench.gateway.engine.unsettledCount === 0);
    expect((await ask(bench.url)).status).toBe(200);
  });

  it("with onLedgerUnavailable: allow lets calls through, says so, and writes them down with their cost when space returns", async ({
    skip,
  }) => {
    const disk = await newSmallDisk(skip);
    const bench = await startBench({
      ledgerPath: disk.path,
      yaml: "onLedgerUnavailable: allow\nlimits: [{ name: roomy, per: all, usd: 1_000, every: day }]\n",
    });
    await ask(bench.url);
    disk.fill();
    await until(async () => {
      await ask(bench.url);
      return bench.warnings.some(({ event }) => event === "ledger_bypassed");
    });

    expect((await ask(bench.url)).status).toBe(200);
    expect(bench.warnings.filter(({ event }) => event === "ledger_bypassed").at(-1)?.details).toMatchObject({ count: 2 });

    disk.empty();
    await until(() => bench.gateway.engine.unsettledCount === 0);
    await expectBooksEqualBill(bench);
    expect((await bench.calls()).at(-1)?.result?.flags).toContain("ledger_bypassed");
  });
});

/** A real ledger that says, while it is broken, what a ledger says whose disk is gone. */
async function newBreakableLedger(): Promise<{ ledger: Ledger; setBroken: (isBroken: boolean) => void }> {
  const path = join(await newFolder(), "ledger.db");
  const ledger = await openSqliteLedger({ path, lockWaitMs: 1 });
  const other = new Database(path);
  onTestFinished(() => void other.close());
  return { ledger, setBroken: (isBroken) => void other.exec(isBroken ? "begin immediate" : "commit") };
}

describe("virtual keys while the ledger cannot be read", () => {
  it("are answered 503 rather than taken for unknown", async () => {
    const path = join(await newFolder(), "ledger.db");
    const ledger = await openSqliteLedger({ path });
    const bench = await startBench({ ledgerPath: path, gateway: { ledger }, env: { ANTHROPIC_API_KEY: "sk-up" } });
    const { keyId, secret } = createVirtualKeySecret();
    const times = { createdAtMs: 0, expiresAtMs: undefined, revokedAtMs: undefined };
    await ledger.createKey({ keyId, secretHash: hashSecret(secret), project: "p", agent: "a", allow: [], ...times });
    await ledger.close();

    const { status, error } = await ask(bench.url, { headers: { "x-api-key": secret } });

    expect({ status, code: error?.details["code"] }).toEqual({ status: 503, code: "ledger_unavailable" });
    expect(bench.simulator.requests).toEqual([]);
  });
});

function sum(amounts: readonly bigint[]): bigint {
  return amounts.reduce((total, amount) => total + amount, 0n);
}
