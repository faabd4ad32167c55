/**
 * Goal: kill -9 at any call that changes a file loses nothing that was answered, doubles nothing, and never leaves less recorded and
 * reserved than is billed (trust I4). Method: processes of their own, forked from one that has everything loaded, work on a ledger and
 * are killed at exactly one of those calls: stories at every one of theirs, chains of processes on one file at random ones. What each
 * leaves is opened, recovered, verified, and compared by an oracle with what the process had said.
 */
import { openSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { reportFigure } from "../figures/figures.ts";
import type { CallerLine } from "./caller.ts";
import type { Death, DeathAnswer } from "./dying.ts";
import { Killer } from "./killer.ts";
import { copyLedger, removeLedger, toldOf } from "./ledger-files.ts";
import { Oracle } from "./oracle.ts";
import { createRandom } from "./random.ts";
import { hasCompiler, NO_COMPILER } from "./shim.ts";
import { STORIES } from "./stories.ts";

const CHAIN_POINTS = process.env["PURSER_LONG"] === "1" ? 10_000 : 20;
const SEED = Number(process.env["PURSER_SEED"] ?? 20_261_125);
const POINTS_MIN = 500;
/** Processes that follow each other on one file before it is judged. */
const CHAIN_LINKS = 4;
/** A process of a chain changes its files about so often. */
const CHAIN_CHANGES = 60;
const IN_CHAINS = "one process after the other";

/** What was found. */
class Tally {
  readonly kills = new Map<string, number>();
  settled = 0;
  readonly problems: string[] = [];

  killsOf(name: string): number {
    return this.kills.get(name) ?? 0;
  }
  get points(): number {
    return [...this.kills.values()].reduce((sum, count) => sum + count, 0);
  }
  hear(name: string, answer: DeathAnswer): void {
    if (answer === "killed") this.kills.set(name, this.killsOf(name) + 1);
  }

  /** Opens what is left, and compares it with what was said. */
  async judge(where: string, path: string): Promise<void> {
    const oracle = new Oracle();
    const lines = readFileSync(toldOf(path), "utf8").split("\n");
    for (const line of lines) if (line !== "") oracle.hear(JSON.parse(line) as CallerLine);
    await oracle.judgeFile(path).catch((error: unknown) => oracle.problems.push(`it cannot be opened: ${String(error)}`));
    this.settled += oracle.settledCount;
    this.problems.push(...oracle.problems.map((problem) => `${where}: ${problem}`));
  }
}

/** Lives a story again and again, killed at its first change, at its second, and so on to its end. */
async function killEverywhere(killer: Killer, tally: Tally, story: number, fails?: Death["fails"]): Promise<void> {
  const { name, prepare } = STORIES[story] ?? { name: "", prepare: () => undefined };
  const [base, path] = [killer.path("base"), killer.path("killed")];
  prepare(base, { file: openSync(toldOf(base), "w"), attempt: (work) => work() });
  for (let at = 1, answer = "killed"; answer === "killed" && tally.problems.length === 0; at += 1) {
    copyLedger(base, path);
    answer = await killer.kill({ story, path, at, ...(fails === undefined ? {} : { fails }) });
    tally.hear(name, answer as DeathAnswer);
    await tally.judge(`${name}, killed at change ${at}`, path);
    if (fails === undefined || answer === "ended") continue;
    copyLedger(base, path);
    await killer.kill({ story, path, at, fails: { ...fails, next: "tries again" } });
    await tally.judge(`${name}, going on after call ${at} failed`, path);
  }
  removeLedger(base);
}

/** One file, killed at random places again and again, each process going on with what the last one left. */
async function killInChain(killer: Killer, tally: Tally, random: (below: number) => number): Promise<void> {
  const path = killer.path(`chain-${tally.points}`);
  for (let link = 1; link <= CHAIN_LINKS; link += 1) {
    tally.hear(IN_CHAINS, await killer.kill({ story: `link-${link}`, path, at: 1 + random(CHAIN_CHANGES) }));
  }
  await tally.judge(path, path);
  removeLedger(path);
}

if (!hasCompiler) reportFigure("Crash", "kills", `NOT RUN: ${POINTS_MIN} kills at exact places (${NO_COMPILER})`);

describe.skipIf(!hasCompiler)(`kill -9${hasCompiler ? "" : ` (${NO_COMPILER})`}`, () => {
  test("at any call that changes a file loses and doubles nothing", { timeout: 7_200_000 }, async () => {
    const killer = new Killer();
    const tally = new Tally();

    for (const story of STORIES.keys()) await killEverywhere(killer, tally, story);
    const random = createRandom(SEED);
    const wanted = Math.max(CHAIN_POINTS, POINTS_MIN - tally.points);
    while (tally.killsOf(IN_CHAINS) < wanted && tally.problems.length === 0) await killInChain(killer, tally, random);
    await killer.end();
    const { problems, points, settled } = tally;

    expect(problems.slice(0, 20)).toEqual([]);
    expect(points).toBeGreaterThanOrEqual(POINTS_MIN);
    // A process of a chain is killed after half a settlement on average, one of a story after six.
    expect(settled).toBeGreaterThan(points / 4);
    const where = Array.from(tally.kills, ([name, count]) => `${count} ${name}`).join(", ");
    const line = `${points} processes killed at a system call (${where}): of ${settled} answered settlements 0 lost, 0 doubled; recorded + reserved never below the bill, 0 held after recovery, seed ${SEED}`;
    process.stdout.write(`kill -9: ${line}\n`);
    reportFigure("Crash", "kills", line);
  });

  // What a failed commit wrote may be there when the file is opened again (trust I6).
  test("after a commit that failed leaves what was asked there or not, and once", { timeout: 3_600_000 }, async () => {
    const killer = new Killer();
    const tally = new Tally();

    for (const story of STORIES.keys()) {
      await killEverywhere(killer, tally, story, { error: "EIO", kinds: "s", next: "is killed" });
    }
    await killer.end();

    expect(tally.problems.slice(0, 20)).toEqual([]);
    expect(tally.points).toBeGreaterThan(40);
    const line = `${tally.points} syncs that failed with EIO, the process killed there or going on: of ${tally.settled} answered settlements 0 lost, 0 doubled`;
    process.stdout.write(`failed commits: ${line}\n`);
    reportFigure("Crash", "failed commits", line);
  });
});
