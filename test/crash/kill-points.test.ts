/**
 * Goal: kill -9 anywhere loses nothing that was answered, doubles nothing, and never leaves less recorded and reserved than is billed
 * (trust I4). Method: a process works on several ledgers at once and is killed at one of its calls that change a file, which leaves each
 * ledger at a place of its own; the next process goes on with the same files. The oracle knows what was answered from a pipe.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { reportFigure } from "../figures/figures.ts";
import type { CallerLine } from "./caller.ts";
import { createRandom, prepareKilling, type Killing } from "./killing.ts";
import { Oracle } from "./oracle.ts";

/** A kill costs half a second of work per ledger; what kills leave everywhere else is in images.test.ts. */
const POINTS = process.env["PURSER_LONG"] === "1" ? 10_000 : 24;
const SEED = Number(process.env["PURSER_SEED"] ?? 20_261_125);
const FILES = 8;
/** Kills of the same files before they are judged. */
const KILLS = 4;
const CALLS = 10;
/** Making, working on and closing a file with so many calls changes it about so often, and says so many lines. */
const CHANGES_PER_FILE = 150;
const LINES_PER_FILE = 48;

interface Tally {
  points: number;
  kills: number;
  settled: number;
  problems: string[];
}

/** One set of files: killed again and again, then judged. */
async function runSet(input: {
  killing: Killing;
  folder: string;
  random: (below: number) => number;
  tally: Tally;
}): Promise<void> {
  const { killing, random, tally } = input;
  const folder = mkdtempSync(join(input.folder, "set-"));
  const paths = Array.from({ length: FILES }, (_nothing, file) => join(folder, `ledger-${file}.db`));
  const oracles = paths.map(() => new Oracle());
  for (let kill = 0; kill < KILLS && tally.points < POINTS; kill += 1) {
    const closed = new Set<number>();
    const hear = (text: string): void => {
      const line = JSON.parse(text) as CallerLine;
      if (line.kind === "closed") closed.add(line.file);
      oracles[line.file]?.hear(line);
    };
    const at = { call: 1 + random(CHANGES_PER_FILE * FILES), line: 1 + random(LINES_PER_FILE * FILES) };
    const isKilled = await killing.run("caller.ts", [`killed-${kill}`, String(CALLS), ...paths], at, hear);
    if (isKilled) tally.kills += 1;
    if (isKilled) tally.points += FILES - closed.size;
  }
  for (const [file, path] of paths.entries()) {
    const oracle = oracles[file] ?? new Oracle();
    await oracle.judgeFile(path);
    tally.settled += oracle.settledCount;
    tally.problems.push(...oracle.problems.map((problem) => `${path}: ${problem}`));
  }
  if (tally.problems.length === 0) rmSync(folder, { recursive: true });
}

test("kill -9 at any call that changes a file loses and doubles nothing", { timeout: 7_200_000 }, async () => {
  const folder = mkdtempSync(join(tmpdir(), "purser-kills-"));
  const killing = prepareKilling(folder);
  const tally: Tally = { points: 0, kills: 0, settled: 0, problems: [] };
  const random = createRandom(SEED);

  while (tally.points < POINTS && tally.problems.length === 0) {
    await Promise.all([1, 2].map(() => runSet({ killing, folder, random, tally })));
  }

  expect(tally.problems).toEqual([]);
  expect(tally.points).toBeGreaterThanOrEqual(POINTS);
  expect(tally.settled).toBeGreaterThan(POINTS / 2);
  rmSync(folder, { recursive: true });
  const { points, kills, settled } = tally;
  const line = `${points} ledgers killed in ${kills} kills ${killing.mechanism}: of ${settled} answered settlements 0 lost, 0 doubled; recorded + reserved never below the bill, 0 held after recovery, seed ${SEED}`;
  process.stdout.write(`kill -9: ${line}\n`);
  reportFigure("Crash", "kills", line);
});
