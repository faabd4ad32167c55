import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { MIGRATIONS, SCHEMA_VERSION } from "./migrations.ts";

/** A released migration never changes: files out there were made by it. A change of the schema is another migration. */
const RELEASED: Record<string, string> = {
  "0001-first": "bb2adb3ab00e457998f51053ae77e313cd1f26ff91f1cc6fde0f5cfa0ec3b78b",
  "0002-folding": "285f2c9d93d536437419dff4d4f2673d340d613880b3171202f153414d404ed1",
  "0003-references": "2ae021a594893fcb52fabf30c3cd5f87dfb159cb72cdcabb01f820bae813c612",
  "0004-archiving": "67db58b8cabc49ebf4a2b620b3e504d449215ccd189b9ac196f1d48ce9fe4400",
  "0005-batches": "f201d9c26f0a777f80bc93b427a0a213de3aee73021cf7baa2f963fb38e35165",
};

test("a released migration is what it was", () => {
  const hashes = Object.fromEntries(MIGRATIONS.map(({ name, sql }) => [name, createHash("sha256").update(sql).digest("hex")]));

  expect(hashes).toEqual(RELEASED);
  expect(SCHEMA_VERSION).toBe(Object.keys(RELEASED).length);
});
