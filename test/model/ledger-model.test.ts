/**
 * Goal: every store answers exactly as the ledger in memory does, and neither ever breaks the two promises of a limit.
 * Method: random programs, carried out on both step by step, judged by an oracle that sums a list of calls.
 */
import * as fc from "fast-check";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Ledger } from "../../src/ledger/ledger.ts";
import { createMemoryLedger } from "../../src/ledger/memory/memory-ledger.ts";
import { openSqliteLedger } from "../../src/ledger/sqlite/sqlite-ledger.ts";
import { verifySqliteLedger } from "../../src/ledger/sqlite/verify.ts";
import { programs } from "./programs.ts";
import { Run, type Tally } from "./run.ts";

const IS_LONG = process.env["PURSER_LONG"] === "1";
/** A failure names its seed and path at once; shrinking it takes minutes: `PURSER_SHRINK=1`. */
const endOnFailure = process.env["PURSER_SHRINK"] !== "1";
const SEED = Number(process.env["PURSER_SEED"] ?? (IS_LONG ? Date.now() % 2 ** 31 : 20_261_122));

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "purser-model-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

function show(title: string, tally: Tally): void {
  const counts = Object.entries(tally)
    .toSorted(([a], [b]) => a.localeCompare(b))
    .map(([what, count]) => `${what} ${count}`);
  process.stdout.write(`${title}, seed ${SEED}: ${counts.join(" · ")}\n`);
}

const USUAL = [
  "reserved",
  "wait",
  "denied limit_reached",
  "denied limit_too_small",
  "renewed",
  "expire done",
  "void done",
  "adjust done",
];
/** Met by hundreds of programs, not by every dozen. */
const RARE = ["uncounted", "adjust already_done", "settled late", "throttled", "downgraded", "graced", "paused", "fitted"];

/** Kinds of answer that a run must have met to mean something, and did not. */
function missingKinds(tally: Tally, kinds: readonly string[]): string[] {
  return [...kinds, "totals compared with the oracle"].filter((kind) => (tally[kind] ?? 0) === 0);
}

test("the ledger in memory keeps both promises of a limit", { timeout: 600_000 }, async () => {
  const tally: Tally = {};

  await fc.assert(
    fc.asyncProperty(programs(120), async (program) => {
      const reopen = async (): Promise<Ledger> => ledger;
      const ledger = createMemoryLedger();
      await new Run(createMemoryLedger(), { ledger, reopen }, program, tally).all();
    }),
    { seed: SEED, endOnFailure, numRuns: IS_LONG ? 2_000 : 80 },
  );

  show("in memory", tally);
  expect(missingKinds(tally, [...USUAL, ...RARE])).toEqual([]);
});

test("the ledger in SQLite answers step by step as the one in memory", { timeout: 3_600_000 }, async () => {
  const tally: Tally = {};
  let fileCount = 0;

  await fc.assert(
    fc.asyncProperty(programs(120), async (program) => {
      fileCount += 1;
      const path = join(folder, `ledger-${fileCount}.db`);
      const open = (): Promise<Ledger> => openSqliteLedger({ path, seed: fileCount });
      const subject = {
        ledger: await open(),
        async reopen() {
          await subject.ledger.close();
          return open();
        },
      };
      try {
        await new Run(createMemoryLedger(), subject, program, tally).all();
      } finally {
        await subject.ledger.close();
      }
      expect(verifySqliteLedger(path).differences).toEqual([]);
    }),
    { seed: SEED, endOnFailure, numRuns: IS_LONG ? 1_000 : 16 },
  );

  show("in SQLite", tally);
  expect(missingKinds(tally, USUAL)).toEqual([]);
});
