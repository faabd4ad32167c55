/**
 * Goal: whatever a kill -9 or a power cut leaves of the files, the ledger in them is whole and holds everything that was answered (trust
 * I4, I5). Method: one run is recorded call by call; at every call that changes a file the bytes that a kill there leaves are rebuilt
 * and verified, and so are those that a power cut may leave: what was not synced is dropped by the sector. Entries are only ever added and
 * are chained, so a sound file with as many entries as were answered holds all of them.
 */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { verifySqliteLedger } from "../../src/ledger/sqlite/verify.ts";
import { reportFigure } from "../figures/figures.ts";
import type { CallerLine } from "./caller.ts";
import { Oracle } from "./oracle.ts";
import { createRandom } from "./random.ts";
import { change, cutPower, putImage, record, type Change, type Image } from "./recording.ts";
import { compileShim, hasCompiler, NO_COMPILER } from "./shim.ts";

const IS_LONG = process.env["PURSER_LONG"] === "1";
const KILLED_IMAGES = IS_LONG ? 10_000 : 500;
const POWER_CUTS = IS_LONG ? 5_000 : 300;
/** One in so many images is also opened, and its calls are compared one by one. */
const OPENED_EVERY = IS_LONG ? 100 : 50;
const CALLS = IS_LONG ? 300 : 30;
const SEED = Number(process.env["PURSER_SEED"] ?? 20_261_125);
const NAME = "ledger.db";
const NAMES = [NAME, `${NAME}-wal`, `${NAME}-journal`, `${NAME}-shm`, `${NAME}-witness`];

let folder: string;
let changes: Change[];

if (!hasCompiler) {
  reportFigure("Crash", "kill images", `NOT RUN: ${KILLED_IMAGES} images (${NO_COMPILER})`);
  reportFigure("Crash", "power cuts", `NOT RUN: ${POWER_CUTS} images (${NO_COMPILER})`);
}

describe.skipIf(!hasCompiler)(`the files of a run${hasCompiler ? "" : ` (${NO_COMPILER})`}`, () => {
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "purser-images-"));
    const recorded = join(folder, "recorded");
    mkdirSync(recorded);
    const library = compileShim(folder);
    // Three processes after each other: the file is made, reopened, and its log folded into it twice in between.
    changes = ["one", "two", "three"].flatMap((name) =>
      record({ library, program: "caller.ts", args: [join(recorded, NAME), name, String(CALLS)], watched: recorded }),
    );
    mkdirSync(join(folder, "image"));
  }, 120_000);
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test("a kill at any call that changes a file loses nothing that was answered", { timeout: 3_600_000 }, async () => {
    const places = changes.flatMap(({ kind }, index) => (kind === "said" ? [] : [index]));
    const step = Math.max(1, places.length / KILLED_IMAGES);
    const image: Image = new Map();
    const told: CallerLine[] = [];
    const problems: string[] = [];
    let [done, checked] = [0, 0];
    for (let next = 0; next < places.length; next += step) {
      const place = places[Math.floor(next)] ?? 0;
      for (; done < place; done += 1) apply(image, told, changes[done]);
      checked += 1;
      putImage(image, join(folder, "image"), NAMES);
      const found = await problemsOf(told, checked % OPENED_EVERY === 0);
      problems.push(...found.map((problem) => `killed at change ${place}: ${problem}`));
    }

    expect(problems).toEqual([]);
    const line = `${checked} places of a run of ${CALLS * 3} calls (${places.length} calls that change a file): the files as a kill leaves them are whole, 0 answered operations lost`;
    process.stdout.write(`kill images: ${line}\n`);
    reportFigure("Crash", "kill images", line);
    expect(checked).toBeGreaterThanOrEqual(Math.min(KILLED_IMAGES, places.length));
    expect(checked).toBeGreaterThanOrEqual(500);
  });

  test("a power cut anywhere loses nothing that was answered", { timeout: 3_600_000 }, async () => {
    const random = createRandom(SEED);
    const problems: string[] = [];
    let differing = 0;
    for (let cut = 1; cut <= POWER_CUTS; cut += 1) {
      const place = 1 + random(changes.length);
      const before = changes.slice(0, place);
      const told = before.flatMap((one) => (one.kind === "said" ? linesOf(one.text) : []));
      const image = cutPower(before, random);
      if (!isSame(image, before)) differing += 1;
      putImage(image, join(folder, "image"), NAMES);
      const found = await problemsOf(told, cut % OPENED_EVERY === 0);
      problems.push(...found.map((problem) => `cut ${cut} at change ${place}, seed ${SEED}: ${problem}`));
    }

    expect(problems).toEqual([]);
    const line = `${POWER_CUTS} images, ${differing} of them with writes dropped or torn: all whole, 0 answered operations lost, seed ${SEED}`;
    process.stdout.write(`power cuts: ${line}\n`);
    reportFigure("Crash", "power cuts", line);
    expect(differing).toBeGreaterThan(POWER_CUTS / 3);
  });

  /** What is wrong with the files in the image's folder, after so much was said. */
  async function problemsOf(told: readonly CallerLine[], isOpened: boolean): Promise<readonly string[]> {
    const path = join(folder, "image", NAME);
    const did = told.filter(({ kind }) => kind === "did").length;
    // Before anything was answered there may be no ledger yet: opening makes one.
    if (isOpened || did === 0) {
      const oracle = new Oracle();
      for (const line of told) oracle.hear(line);
      await oracle.judgeFile(path);
      return oracle.problems;
    }
    const asked = told.filter(({ kind }) => kind === "asks").length;
    const { differences, entryCount } = verifySqliteLedger(path);
    const isCounted = entryCount >= did && entryCount <= asked;
    return isCounted ? differences : [...differences, `${entryCount} entries; ${did} were answered, ${asked} asked for`];
  }
});

function linesOf(text: string): CallerLine[] {
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as CallerLine);
}

function apply(image: Image, told: CallerLine[], one: Change | undefined): void {
  if (one === undefined) return;
  if (one.kind === "said") told.push(...linesOf(one.text));
  else change(image, one);
}

function isSame(image: Image, before: readonly Change[]): boolean {
  const whole: Image = new Map();
  for (const one of before) change(whole, one);
  return NAMES.every((name) => (image.get(name) ?? Buffer.alloc(0)).equals(whole.get(name) ?? Buffer.alloc(0)));
}
