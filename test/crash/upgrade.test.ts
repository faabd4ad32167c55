/**
 * Goal: a ledger that any released version wrote says the same, and goes on the same, under this one (trust I20).
 * Method: fixtures of every schema, closed and as a killed process left them, compared with what their own program said; processes that
 * are killed while they bring one to this schema.
 */
import Database from "better-sqlite3";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { SCHEMA_VERSION } from "../../src/ledger/sqlite/migrations/migrations.ts";
import { openSqliteLedger } from "../../src/ledger/sqlite/sqlite-ledger.ts";
import { verifySqliteLedger } from "../../src/ledger/sqlite/verify.ts";
import { reportFigure } from "../figures/figures.ts";
import { DirectLedger } from "./direct-ledger.ts";
import { putFixture, SCHEMAS, toldBy, type FixtureState } from "./fixtures/fixture.ts";
import { goOn, PORTRAIT_INSTANTS } from "./fixtures/story.ts";
import { Killer } from "./killer.ts";
import { removeLedger } from "./ledger-files.ts";
import { changesOf, portraitOf } from "./portrait.ts";
import { hasCompiler, NO_COMPILER } from "./shim.ts";
import { ONLY_OPENED } from "./stories.ts";

let folder: string;
let path: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "purser-upgrade-"));
  path = join(folder, "ledger.db");
});
afterEach(() => rmSync(folder, { recursive: true }));

const CASES = SCHEMAS.flatMap((schema) =>
  (["closed", "running"] as const).map((state): [number, FixtureState] => [schema, state]),
);

describe.each(CASES)("a ledger of schema %i, %s", (schema, state) => {
  beforeEach(() => putFixture(schema, state, path));

  test("says what it said, and goes on as it would have", async () => {
    const told = toldBy(schema);
    const ledger = await openSqliteLedger({ path });
    const before = await portraitOf(ledger, PORTRAIT_INSTANTS);
    const answers = await goOn(ledger);
    const changes = changesOf(before, await portraitOf(ledger, PORTRAIT_INSTANTS));
    await ledger.close();

    expect(before).toEqual(told.before);
    expect(answers).toEqual(told.answers);
    expect(changes).toEqual(told.changes);
    expect(verifySqliteLedger(path).differences).toEqual([]);
  });

  test("is whole after it was opened and closed, and says the same when it is opened again", async () => {
    await (await openSqliteLedger({ path })).close();

    expect(verifySqliteLedger(path).differences).toEqual([]);
    const ledger = await openSqliteLedger({ path });
    const portrait = await portraitOf(ledger, PORTRAIT_INSTANTS);
    await ledger.close();
    expect(portrait).toEqual(toldBy(schema).before);
  });
});

/** Places of one upgrade where it is killed. */
const PLACES = process.env["PURSER_LONG"] === "1" ? Infinity : 20;
const OLD = CASES.filter(([schema]) => schema < SCHEMA_VERSION);

if (!hasCompiler) reportFigure("Crash", "upgrades", `NOT RUN: kills while a schema is changed (${NO_COMPILER})`);

/** How many changes an upgrade makes: it is killed at the last one that still kills. */
async function countChanges(killer: Killer, place: (path: string) => void): Promise<number> {
  let [most, least] = [1, 0];
  const isKilledAt = async (at: number): Promise<boolean> => {
    place(killer.path("counted"));
    return (await killer.kill({ story: ONLY_OPENED, path: killer.path("counted"), at })) === "killed";
  };
  for (; await isKilledAt(most); most *= 2) least = most;
  while (most - least > 1) {
    const middle = Math.floor((least + most) / 2);
    if (await isKilledAt(middle)) least = middle;
    else most = middle;
  }
  return least;
}

describe.skipIf(!hasCompiler)(`an upgrade that is killed${hasCompiler ? "" : ` (${NO_COMPILER})`}`, () => {
  let killer: Killer;
  let killed = 0;
  beforeAll(() => {
    killer = new Killer();
  });
  afterAll(async () => {
    await killer.end();
    const line = `${killed} processes killed while they changed the schema (from ${[...new Set(OLD.map(([schema]) => schema))].join(", ")} to ${SCHEMA_VERSION}): each ledger says the same when it is opened again`;
    process.stdout.write(`killed upgrades: ${line}\n`);
    reportFigure("Crash", "upgrades", line);
  });

  test.each(OLD)(
    "from schema %i (%s) at any call that changes a file is as if it had not begun, or done",
    { timeout: 3_600_000 },
    async (schema, state) => {
      const target = killer.path("killed");
      const place = (to: string): void => {
        removeLedger(to);
        putFixture(schema, state, to);
      };
      const changes = await countChanges(killer, place);
      const step = Math.max(1, changes / PLACES);
      for (let next = 1; next <= changes; next += step) {
        place(target);
        expect(await killer.kill({ story: ONLY_OPENED, path: target, at: Math.floor(next) })).toBe("killed");
        killed += 1;
        const ledger = new DirectLedger(target);
        const portrait = await portraitOf(ledger, PORTRAIT_INSTANTS);
        ledger.end();
        expect([Math.floor(next), portrait]).toEqual([Math.floor(next), toldBy(schema).before]);
        expect(verifySqliteLedger(target).differences).toEqual([]);
      }
      expect(changes).toBeGreaterThan(20);
    },
  );
});

test("there is a fixture of every schema", () => {
  expect(SCHEMAS).toEqual(Array.from({ length: SCHEMA_VERSION }, (_nothing, index) => index + 1));
});

test("a ledger of a newer schema is refused with what to do, and left as it is", async () => {
  putFixture(SCHEMA_VERSION, "closed", path);
  const db = new Database(path);
  db.pragma(`user_version = ${SCHEMA_VERSION + 1}`);
  db.close();
  const before = readFileSync(path);

  const refusal = await openSqliteLedger({ path }).catch((error: unknown) => error);

  expect(refusal).toMatchObject({ code: "ledger_unusable" });
  expect(String(refusal)).toContain(path);
  expect(String(refusal)).toContain(`schema ${SCHEMA_VERSION + 1}; this one knows up to ${SCHEMA_VERSION}`);
  expect(String(refusal)).toContain("Update Purser, or restore a backup");
  expect(readFileSync(path).equals(before)).toBe(true);
});
