/**
 * Goal: what is archived is gone, and nothing that is counted changes by a nano-dollar: no counter whose window goes on, no report of any
 * zone's days, by any label. Method: a hundred and fifty days of calls with every ending, archived up to some instant, whole, broken off after every
 * transaction, and while others write; `verify` recomputes the ledger each time.
 */
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { readdir, watch } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Temporal } from "temporal-polyfill";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { Operation } from "../../src/core/decisions/operations.ts";
import type { Limit } from "../../src/core/limits/limit.ts";
import type { Ledger, ReportDimension } from "../../src/ledger/ledger.ts";
import { archiveSqliteLedger, type ArchiveInput, type ArchiveStep } from "../../src/ledger/sqlite/archive.ts";
import { checkArchive } from "../../src/ledger/sqlite/archive-file.ts";
import { openSqliteLedger } from "../../src/ledger/sqlite/sqlite-ledger.ts";
import { verifySqliteLedger } from "../../src/ledger/sqlite/verify.ts";
import { until } from "../e2e/http.ts";
import { portraitOf } from "../crash/portrait.ts";
import {
  adjustOf,
  expireOf,
  HOUR_MS,
  LIFETIME,
  limitOf,
  MINUTE,
  renewOf,
  reserveOf,
  rulesOf,
  settleOf,
  tokensOf,
  voidOf,
} from "./samples.ts";

const DAY_MS = 24 * HOUR_MS;
const DAYS = 150;
/** Over the end of summer time in Europe and America, and its beginning in Australia. */
const START_MS = Date.UTC(2026, 5, 28, 7);
const END_MS = START_MS + DAYS * DAY_MS;
const CUT_MS = START_MS + 118 * DAY_MS;
const MONTH = { kind: "calendar", unit: "month", timeZone: "Asia/Kathmandu", weekStart: 1, monthDay: 1 } as const;

const LIMITS: readonly Limit[] = [
  limitOf({ name: "ever", amount: 10n ** 15n, window: LIFETIME }),
  limitOf({ name: "session", per: ["session"], amount: 10n ** 12n, window: LIFETIME }),
  limitOf({ name: "month", per: ["project"], measure: "tokens", amount: 10n ** 9n, window: MONTH }),
  limitOf({ name: "day", amount: 10n ** 12n }),
  limitOf({ name: "rate", per: ["agent"], measure: "requests", amount: 10n ** 6n, window: MINUTE }),
  limitOf({
    name: "long",
    per: ["tag:team"],
    measure: "outputTokens",
    amount: 10n ** 9n,
    window: { kind: "rolling", lengthMs: 60 * DAY_MS },
  }),
  limitOf({ name: "at-once", measure: "concurrency", amount: 1_000n, window: LIFETIME }),
];

/** Every test writes and reads a ledger of months, several times. */
vi.setConfig({ testTimeout: 120_000 });

let folder = "";
let path = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "purser-archive-"));
  path = join(folder, "ledger.db");
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** mulberry32. */
function createRandom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** Everything that happens to one call, each at its instant. */
function livesOf(index: number, random: () => number): Operation[] {
  const pick = <T>(...of: readonly T[]): T => of[Math.floor(random() * of.length)] as T;
  const atMs = START_MS + Math.floor(random() * DAYS * DAY_MS);
  const id = `call-${index}`;
  const scopes = {
    agent: pick("a", "b"),
    project: pick("p", "q"),
    session: `s${Math.floor(random() * 40)}`,
    tags: pick<Record<string, string>>({}, { team: "x" }, { team: "y", cost: "1" }),
  };
  const cost = BigInt(Math.floor(random() * 99));
  const endsMs = atMs + 1 + Math.floor(random() * pick(60_000, 30 * HOUR_MS));
  const result = { tokens: tokensOf(Math.floor(random() * 90), Math.floor(random() * 49), 3) };
  const begin = reserveOf(id, { atMs, scopes });
  const settled = settleOf(id, cost, { atMs: endsMs, result });
  switch (Math.floor(random() * 8)) {
    case 0:
      return [begin, voidOf(id, endsMs)];
    case 1:
      return [begin, expireOf(id, endsMs)];
    case 2:
      return [begin, expireOf(id, endsMs), { ...settled, atMs: endsMs + 2 * HOUR_MS }];
    case 3:
      return [begin, settled, adjustOf(id, 7n, { atMs: endsMs + Math.floor(random() * pick(9, 90) * DAY_MS) })];
    case 4:
      return [{ kind: "refuse", atMs, call: begin.call, code: "limit_reached", view: undefined }];
    case 5:
      return [begin, { ...renewOf(id, 60n), atMs: atMs + 1 }, settled];
    default:
      return [begin, settled];
  }
}

/** A ledger that has seen all of it, and stays open for who asks. */
async function fill(calls: number): Promise<Ledger> {
  const ledger = await openSqliteLedger({ path, seed: 1 });
  await ledger.configure(rulesOf(LIMITS, START_MS));
  const random = createRandom(7);
  const happened = Array.from({ length: calls }, (_, index) => livesOf(index, random)).flat();
  const inOrder = happened.toSorted((a, b) => a.atMs - b.atMs);
  for (let at = 0; at < inOrder.length; at += 40) await ledger.apply(inOrder.slice(at, at + 40));
  return ledger;
}

async function filled(calls = 160): Promise<void> {
  const ledger = await fill(calls);
  await ledger.close();
}

const GROUPINGS: readonly ReportDimension[][] = [[], ["agent", "model"], ["session"], ["user", "tag:team"]];
/** On 4 October in Lord Howe, 25 October in Berlin, 1 November in New York. */
const CLOCKS_FROM_MS = Date.UTC(2026, 9, 2);
const CLOCKS_UNTIL_MS = Date.UTC(2026, 10, 4);
/** At :00, :30 and :45, and whose clocks change in these weeks at an hour or at half of one. */
const ZONES = ["UTC", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "Europe/Berlin"];

/** The days of every zone, by every grouping. */
async function daysOf(ledger: Ledger): Promise<string[]> {
  const lines: string[] = [];
  for (const zone of ZONES) {
    let day = Temporal.Instant.fromEpochMilliseconds(CLOCKS_FROM_MS).toZonedDateTimeISO(zone).startOfDay();
    for (let index = 0; day.epochMilliseconds < CLOCKS_UNTIL_MS; index += 1) {
      const next = day.add({ days: 1 });
      const by = GROUPINGS[index % GROUPINGS.length] ?? [];
      const groups = await ledger.report({ fromMs: day.epochMilliseconds, toMs: next.epochMilliseconds, by });
      const texts = groups.map(({ key, calls, denied, costNanoUsd, tokens }) =>
        [JSON.stringify(key), calls, denied, costNanoUsd, JSON.stringify(tokens)].join(" "),
      );
      lines.push(`${zone} ${day.toPlainDate().toString()} by ${by.join("+")}: ${texts.toSorted().join("; ")}`);
      day = next;
    }
  }
  return lines;
}

/** What a ledger says that archiving must not change. */
async function saidBy(file: string): Promise<Record<string, unknown>> {
  const ledger = await openSqliteLedger({ path: file, seed: 1 });
  try {
    const { totals, reports, open, keys, limits } = await portraitOf(ledger, [END_MS, END_MS + 20 * DAY_MS]);
    return { totals, reports, open, keys, limits, days: await daysOf(ledger) };
  } finally {
    await ledger.close();
  }
}

const archive = (more: Partial<ArchiveInput> = {}) => archiveSqliteLedger({ path, beforeMs: CUT_MS, nowMs: END_MS, ...more });
const differences = (): readonly string[] => verifySqliteLedger(path).differences;

describe("what is archived", () => {
  test("changes no counter and no report of any zone's day, and is in the file, whole", async () => {
    await filled();
    const before = await saidBy(path);
    const { entryCount: entriesBefore, counterCount: countersBefore } = verifySqliteLedger(path);

    const outcome = await archive();

    expect(outcome).toMatchObject({ outcome: "done", file: `${path}.archive-1.jsonl` });
    if (outcome.outcome !== "done") throw new Error(outcome.outcome);
    expect(differences()).toEqual([]);
    expect(await saidBy(path)).toEqual(before);
    const check = await checkArchive(outcome.file);
    expect(check).toMatchObject({ fromSeq: 1, entryCount: outcome.entryCount, differences: [] });
    expect(outcome.entryCount).toBeGreaterThan(0.6 * entriesBefore);
    // A closing for each day takes their place; counters whose windows were over long before are gone as well.
    expect(verifySqliteLedger(path).counterCount).toBeLessThan(countersBefore);
    expect(verifySqliteLedger(path).entryCount).toBeLessThan(entriesBefore - outcome.entryCount + 120);
    const ledger = await openSqliteLedger({ path, seed: 1 });
    const left = await ledger.calls({ limit: 10_000 });
    expect(left.length).toBeLessThan(160 - outcome.callCount + 1);
    expect(Math.min(...left.map(({ startedAtMs }) => startedAtMs))).toBeGreaterThan(CUT_MS - 3 * DAY_MS);
    await ledger.close();
  });

  test("goes on from where it ended, day after day, and says nothing twice", async () => {
    await filled();
    const before = await saidBy(path);
    const files: string[] = [];
    for (const days of [5, 5, 70, 149, 149]) {
      const outcome = await archive({ beforeMs: START_MS + days * DAY_MS });
      files.push(...("file" in outcome ? [outcome.file] : []));
      expect(differences()).toEqual([]);
    }

    expect(files).toHaveLength(3);
    expect(await saidBy(path)).toEqual(before);
    const checks = await Promise.all(files.map(checkArchive));
    expect(checks.flatMap(({ differences: found }) => found)).toEqual([]);
    checks.slice(1).forEach(({ fromSeq }, index) => expect(fromSeq).toBe((checks[index]?.throughSeq ?? 0) + 1));
  });

  test("counts in a limit that comes later, as far as it looks back", async () => {
    await filled();
    const limits = [
      ...LIMITS,
      limitOf({ name: "agent-ever", per: ["agent"], amount: 10n ** 15n, window: LIFETIME }),
      limitOf({ name: "calls-ever", per: ["project"], measure: "requests", amount: 10n ** 9n, window: LIFETIME }),
    ];
    const totalsWith = async (): Promise<string[]> => {
      const ledger = await openSqliteLedger({ path, seed: 1 });
      await ledger.configure(rulesOf(limits, END_MS, "v2"));
      const { totals } = await portraitOf(ledger, [END_MS]);
      await ledger.close();
      return totals.filter((line) => line.includes("-ever"));
    };
    const copy = await archiveCopy();
    const expected = await totalsWith();
    path = copy;

    await archive();

    expect(await totalsWith()).toEqual(expected);
    expect(expected.length).toBeGreaterThan(3);
    expect(differences()).toEqual([]);
  });

  async function archiveCopy(): Promise<string> {
    const { backupSqliteLedger } = await import("../../src/ledger/sqlite/backup.ts");
    const to = join(folder, "copy.db");
    expect(await backupSqliteLedger({ path, to })).toMatchObject({ outcome: "done" });
    return to;
  }

  test("is not known any more: a call can neither be corrected nor settled, and its name is free", async () => {
    await filled(60);
    const ledger = await openSqliteLedger({ path, seed: 1 });
    const first = (await ledger.calls({ limit: 1_000 })).findLast(({ status }) => status === "settled");
    const callId = first?.callId ?? "";
    await archive();

    expect(await ledger.calls({ limit: 1, callId })).toEqual([]);
    expect(await ledger.apply([adjustOf(callId, 5n, { atMs: END_MS, adjustmentId: "late" })])).toMatchObject([
      { outcome: "unknown_call" },
    ]);
    expect(await ledger.apply([reserveOf(callId, { atMs: END_MS }), settleOf(callId, 3n, { atMs: END_MS + 1 })])).toMatchObject([
      { outcome: "reserved" },
      { outcome: "done" },
    ]);
    await ledger.close();
    expect(differences()).toEqual([]);
  });

  test("is no call that still runs, nor anything behind it", async () => {
    let ledger = await openSqliteLedger({ path, seed: 1 });
    await ledger.configure(rulesOf(LIMITS, START_MS));
    const reserved = (id: string, days: number) => reserveOf(id, { atMs: START_MS + days * DAY_MS });
    await ledger.apply([reserved("one", 0), settleOf("one", 1n, { atMs: START_MS + 1 })]);
    await ledger.apply([reserved("runs", 1), reserved("two", 2), settleOf("two", 1n, { atMs: START_MS + 2 * DAY_MS })]);
    // Closing folds what is not folded yet: only that is archived.
    await ledger.close();
    ledger = await openSqliteLedger({ path, seed: 1 });

    await archive();

    expect((await ledger.calls({ limit: 10 })).map(({ callId }) => callId)).toEqual(["two", "runs"]);
    expect(await ledger.apply([settleOf("runs", 9n, { atMs: END_MS })])).toMatchObject([{ outcome: "done" }]);
    await ledger.close();
    expect(differences()).toEqual([]);
  });

  test("asks for a file of its own, and does nothing where nothing is old enough", async () => {
    await filled(20);

    expect(await archive({ to: path })).toMatchObject({ outcome: "exists" });
    expect(await archive({ beforeMs: START_MS })).toEqual({ outcome: "nothing" });
    expect((await readdir(folder)).filter((name) => name.includes("jsonl"))).toEqual([]);
    expect(statSync(path).size).toBeGreaterThan(0);
  });
});

describe("archiving that breaks off", () => {
  test("leaves a whole ledger after every transaction, and the next run ends it", async () => {
    await filled(50);
    const before = await saidBy(path);
    let steps = 0;
    for (let isDone = false; !isDone;) {
      let left = 3 + (steps % 5);
      const onStep = (): void => {
        steps += 1;
        if ((left -= 1) === 0) throw new Error("killed");
      };
      isDone = await archive({ onStep }).then(
        () => true,
        (error: unknown) => (String(error).includes("killed") ? false : Promise.reject(error)),
      );
      expect(differences()).toEqual([]);
    }

    expect(steps).toBeGreaterThan(60);
    expect(await saidBy(path)).toEqual(before);
  });
});

describe("archiving that is killed", () => {
  const KILLS = 6;

  /** Runs the command until it has begun to write its file, and so long on. @returns how it ended. */
  async function runFor(aliveMs: number): Promise<string> {
    const main = join(import.meta.dirname, "../../src/cli/main.ts");
    const begun = watch(folder)[Symbol.asyncIterator]();
    const running = spawn(process.execPath, [main, "archive", "--ledger", path, "--older-than", "35"], { stdio: "ignore" });
    const ended = new Promise<string>((resolve) => running.once("exit", (code, signal) => resolve(signal ?? `exit ${code}`)));
    const isBegun = async (): Promise<boolean> => (await begun.next()).value?.filename?.endsWith(".jsonl") === true;
    await Promise.race([ended, until(isBegun)]);
    const timer = setTimeout(() => running.kill("SIGKILL"), aliveMs);
    const how = await ended;
    clearTimeout(timer);
    await begun.return?.();
    return how;
  }

  test("leaves a whole ledger, wherever it is, and the next run ends it", async () => {
    await filled(50);
    const before = await saidBy(path);
    const ends: string[] = [];
    const found: string[] = [];
    for (let kill = 0; kill < KILLS; kill += 1) {
      ends.push(await runFor(20 * kill));
      found.push(...differences());
    }

    expect(await runFor(60_000)).toBe("exit 0");
    process.stdout.write(`figure: archiving killed: ${ends.join(", ")}\n`);
    expect(ends.slice(0, 2)).toEqual(["SIGKILL", "SIGKILL"]);
    expect(found).toEqual([]);
    expect(differences()).toEqual([]);
    expect(await saidBy(path)).toEqual(before);
  });
});

describe("archiving beside a gateway", () => {
  test("keeps what a call refers to that comes while it is planned, and writes each entry into its file once", async () => {
    const ledger = await openSqliteLedger({ path, seed: 1 });
    await ledger.configure(rulesOf(LIMITS, START_MS));
    const callOf = (id: string, session: string, atMs: number): Operation[] => [
      reserveOf(id, { atMs, scopes: { session } }),
      settleOf(id, 2n, { atMs }),
    ];
    await ledger.apply(callOf("first", "kept open", START_MS));
    for (let index = 1; index < 400; index += 1) await ledger.apply(callOf(`call-${index}`, `s${index}`, START_MS + index));
    let late = 0;
    const onStep = async (name: ArchiveStep): Promise<void> => {
      // The process that wrote the first call names what it spelled out there.
      if (name === "planned" && (late += 1) === 1) await ledger.apply(callOf("late", "kept open", END_MS));
    };

    const outcome = await archive({ onStep });

    if (outcome.outcome !== "done") throw new Error(outcome.outcome);
    expect(late).toBeGreaterThan(1);
    expect(differences()).toEqual([]);
    expect(await checkArchive(outcome.file)).toMatchObject({ fromSeq: 1, entryCount: outcome.entryCount, differences: [] });
    await ledger.close();
    expect(differences()).toEqual([]);
  });

  test("is one process's work at a time: the second does nothing, and says so", async () => {
    await filled(60);
    const refused: string[] = [];
    const onStep = async (name: ArchiveStep): Promise<void> => {
      if (name === "leftovers") return;
      refused.push(
        await archive().then(
          ({ outcome }) => outcome,
          (error: unknown) => String(error),
        ),
      );
    };

    expect(await archive({ onStep })).toMatchObject({ outcome: "done" });

    expect(new Set(refused)).toEqual(
      new Set([`LedgerUnavailableError: ledger ${path}: another process archives it; nothing was done`]),
    );
    expect(differences()).toEqual([]);
    expect(await archive()).toEqual({ outcome: "nothing" });
  });

  test("changes nothing for who spends meanwhile, and its locks are short", async () => {
    await filled(60);
    const ledger = await openSqliteLedger({ path, seed: 1 });
    let count = 0;
    const found: string[] = [];
    const onStep = async (): Promise<void> => {
      count += 1;
      const id = `beside-${count}`;
      const atMs = END_MS + count;
      const answers = await ledger.apply([reserveOf(id, { atMs }), settleOf(id, 2n, { atMs })]);
      expect(answers).toMatchObject([{ outcome: "reserved" }, { outcome: "done" }]);
      if (count % 20 === 0) found.push(...differences());
    };

    const outcome = await archive({ onStep });

    expect(outcome).toMatchObject({ outcome: "done" });
    expect(found).toEqual([]);
    const [total] = await ledger.report({ fromMs: END_MS, toMs: Infinity, by: [] });
    expect(total).toMatchObject({ calls: count, costNanoUsd: 2n * BigInt(count) });
    await ledger.close();
    expect(differences()).toEqual([]);
    if (outcome.outcome === "done")
      process.stdout.write(`figure: archiving held the lock ${outcome.lockMsMax.toFixed(1)} ms at most\n`);
  });
});
