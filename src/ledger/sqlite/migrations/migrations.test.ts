import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { MIGRATIONS, SCHEMA_VERSION } from "./migrations.ts";

/** A released migration never changes: files out there were made by it. A change of the schema is another migration. */
const RELEASED: Record<string, string> = {
  "0001-first": "74aac30acbb6367dedb28e550bc04327f3bd627147b01610ce699642b96599e6",
};

test("a released migration is what it was", () => {
  const hashes = Object.fromEntries(MIGRATIONS.map(({ name, sql }) => [name, createHash("sha256").update(sql).digest("hex")]));

  expect(hashes).toEqual(RELEASED);
  expect(SCHEMA_VERSION).toBe(Object.keys(RELEASED).length);
});
