/**
 * Goal: a ledger that any released version wrote says the same, and goes on the same, under this one (trust I20).
 * Method: fixtures of every schema, closed and as a killed process left them, compared with what their own program said.
 */
import Database from "better-sqlite3";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { SCHEMA_VERSION } from "../../src/ledger/sqlite/migrations/migrations.ts";
import { openSqliteLedger } from "../../src/ledger/sqlite/sqlite-ledger.ts";
import { verifySqliteLedger } from "../../src/ledger/sqlite/verify.ts";
import { putFixture, SCHEMAS, toldBy, type FixtureState } from "./fixtures/fixture.ts";
import { goOn, PORTRAIT_INSTANTS } from "./fixtures/story.ts";
import { changesOf, portraitOf } from "./portrait.ts";

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
