/**
 * Goal: a ledger whose files were damaged, lost, mixed up or put back says what it said before, or is refused with the file and what was
 * found; it never says less in silence (trust I12). Method: random damage to each of its files, and every mix-up people make, judged by
 * what the whole ledger says.
 */
import { closeSync, copyFileSync, existsSync, ftruncateSync, mkdtempSync, openSync, rmSync, statSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { verifySqliteLedger } from "../../src/ledger/sqlite/verify.ts";
import { NOON_MS, ownerOf, rulesOf } from "../contract/samples.ts";
import { reportFigure } from "../figures/figures.ts";
import { CALLER_LIMITS, stepsOf } from "./caller.ts";
import { DirectLedger } from "./direct-ledger.ts";
import { copyLedger, removeLedger } from "./ledger-files.ts";
import { portraitOf } from "./portrait.ts";
import { createRandom } from "./random.ts";

const PLACES = process.env["PURSER_LONG"] === "1" ? 10_000 : 300;
const SEED = Number(process.env["PURSER_SEED"] ?? 20_261_125);

let folder: string;
/** One closed, one as a process leaves it that is killed. */
let closed: string;
let killed: string;
let path: string;

function start(at: string): DirectLedger {
  const ledger = new DirectLedger(at);
  ledger.run([{ kind: "beat", owner: ownerOf("owner") }]);
  ledger.run([{ kind: "configure", rules: rulesOf(CALLER_LIMITS) }]);
  return ledger;
}

function makeCalls(ledger: DirectLedger, name: string, calls: number): void {
  for (let index = 1; index <= calls; index += 1) {
    ledger.applyAll(stepsOf(name, index).map(({ operation }) => operation));
  }
}

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "purser-damage-"));
  [closed, killed, path] = [join(folder, "closed.db"), join(folder, "killed.db"), join(folder, "ledger.db")];
  const first = start(closed);
  makeCalls(first, "first", 40);
  first.end();
  const working = join(folder, "working.db");
  copyLedger(closed, working);
  const second = start(working);
  makeCalls(second, "second", 20);
  // What is newest stands in the log alone, part of it folded and part of it not.
  second.fold();
  makeCalls(second, "third", 10);
  copyLedger(working, killed);
  rmSync(`${killed}-shm`, { force: true });
  second.end();
});
beforeEach(() => removeLedger(path));
afterAll(() => rmSync(folder, { recursive: true }));

/** What a ledger says of its money. @throws where it is refused. */
async function saidBy(at: string): Promise<string> {
  const ledger = new DirectLedger(at);
  try {
    const { totals, reports, calls, open } = await portraitOf(ledger, [NOON_MS]);
    return JSON.stringify([totals, reports, calls, open]);
  } finally {
    ledger.end();
  }
}

async function refusalOf(at: string): Promise<string> {
  const error: unknown = await saidBy(at).catch((thrown: unknown) => thrown);
  if (!(error instanceof Error)) throw new Error("it was opened");
  return error.message;
}

type Random = (below: number) => number;

/** Damages one file in one place. @returns what was done. */
function damage(file: string, random: Random): string {
  const size = statSync(file).size;
  const at = random(size);
  const handle = openSync(file, "r+");
  try {
    const kind = random(3);
    if (kind === 0) {
      ftruncateSync(handle, at);
      return `cut at ${at}`;
    }
    const length = kind === 1 ? 1 : Math.min(size - at, 1 + random(4_096));
    const bytes = kind === 1 ? Buffer.of(random(256)) : Buffer.alloc(length);
    writeSync(handle, bytes, 0, length, at);
    return kind === 1 ? `a byte at ${at}` : `${length} zeros at ${at}`;
  } finally {
    closeSync(handle);
  }
}

test("damage anywhere in its files is refused by name, or changes nothing that it says", { timeout: 3_600_000 }, async () => {
  const random = createRandom(SEED);
  const whole = new Map<string, string>();
  for (const base of [closed, killed]) {
    copyLedger(base, path);
    whole.set(base, await saidBy(path));
  }
  const problems: string[] = [];
  const found = { refused: 0, equal: 0 };
  for (let place = 1; place <= PLACES; place += 1) {
    const base = random(2) === 0 ? closed : killed;
    const files = ["", "-wal", "-witness"].filter((suffix) => existsSync(base + suffix));
    const suffix = files[random(files.length)] ?? "";
    copyLedger(base, path);
    const where = `${base === closed ? "closed" : "killed"}${suffix}, ${damage(path + suffix, random)}`;
    const said = await saidBy(path).catch((error: unknown) => error);
    if (said === whole.get(base)) found.equal += 1;
    else if (said instanceof Error && said.message.includes(path)) found.refused += 1;
    else problems.push(`${where}: ${said instanceof Error ? said.message : "it says something else"}`);
    removeLedger(path);
  }

  expect(problems).toEqual([]);
  expect(found.refused).toBeGreaterThan(PLACES / 10);
  const line = `${PLACES} random cuts, bytes and zeros in file, log and witness: ${found.refused} refused by name, ${found.equal} changed nothing, 0 said less, seed ${SEED}`;
  process.stdout.write(`damage: ${line}\n`);
  reportFigure("Crash", "damage", line);
});

describe("a ledger is refused, at start and by verify,", () => {
  test.each<[string, () => void, RegExp]>([
    [
      "whose write-ahead log is gone",
      () => {
        copyLedger(killed, path);
        rmSync(`${path}-wal`);
      },
      /ends with entry \d+, but entry \d+ had been written .*-witness.*write-ahead log \(-wal\) is gone/,
    ],
    [
      "beside which lies the write-ahead log of another ledger",
      () => {
        copyLedger(closed, path);
        const other = join(folder, "other.db");
        const ledger = start(other);
        makeCalls(ledger, "other", 12);
        copyFileSync(`${other}-wal`, `${path}-wal`);
        ledger.end();
        removeLedger(other);
      },
      /entry|table|page|integrity|malformed/i,
    ],
    [
      "in whose place an older copy was put",
      () => {
        copyLedger(killed, path);
        rmSync(`${path}-wal`);
        copyFileSync(closed, path);
      },
      /an older copy was put back/,
    ],
    [
      "whose older copy was put back and went on without its witness, when that comes back",
      () => {
        copyLedger(closed, path);
        rmSync(`${path}-witness`);
        const ledger = start(path);
        makeCalls(ledger, "instead", 60);
        ledger.end();
        copyFileSync(`${killed}-witness`, `${path}-witness`);
      },
      /is another one than was written here/,
    ],
  ])("%s", async (_name, mixUp, words) => {
    mixUp();

    expect(verifySqliteLedger(path).differences.join("\n")).toMatch(words);
    const refusal = await refusalOf(path);
    expect(refusal).toMatch(words);
    expect(refusal).toContain(path);
  });

  test("of which only the witness is left", async () => {
    copyLedger(killed, path);
    for (const suffix of ["", "-wal"]) rmSync(path + suffix);

    expect(await refusalOf(path)).toMatch(/it holds no entry, but entry \d+ had been written/);
  });
});

describe("copies made by hand while a process writes", () => {
  /** The file, then so many calls, then the log. */
  async function copyTorn(between: (ledger: DirectLedger) => void): Promise<{ live: string; copied: string | Error }> {
    const working = join(folder, "live.db");
    removeLedger(working);
    copyLedger(killed, working);
    const ledger = start(working);
    copyFileSync(working, path);
    between(ledger);
    for (const suffix of ["-wal", "-witness"]) if (existsSync(working + suffix)) copyFileSync(working + suffix, path + suffix);
    ledger.end();
    const copied = await saidBy(path).catch((error: unknown) => error as Error);
    return { live: await saidBy(working), copied };
  }

  test("hold everything if no log was folded into the file meanwhile", async () => {
    const { live, copied } = await copyTorn((ledger) => makeCalls(ledger, "meanwhile", 5));

    expect(copied).toBe(live);
  });

  test("are refused if one was", async () => {
    const { copied } = await copyTorn((ledger) => {
      makeCalls(ledger, "meanwhile", 5);
      ledger.checkpoint();
      makeCalls(ledger, "after", 5);
    });

    expect(copied).toBeInstanceOf(Error);
    expect(String(copied)).toContain(path);
  });
});

test("a copy that is meant is opened once the witness is moved away, and is witnessed from then on", async () => {
  copyLedger(killed, path);
  rmSync(`${path}-wal`);
  expect(await refusalOf(path)).toContain("if this one is meant, or a new ledger is to begin, move the -witness file away");

  rmSync(`${path}-witness`);

  await expect(saidBy(path)).resolves.toContain("first-1");
  const ledger = start(path);
  makeCalls(ledger, "next", 2);
  ledger.end();
  expect(existsSync(`${path}-witness`)).toBe(true);
  await expect(saidBy(path)).resolves.toContain("next-2");
});
