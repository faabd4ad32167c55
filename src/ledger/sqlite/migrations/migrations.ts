/**
 * Owns the order of schema changes. Forward only; a released one is immutable (a checksum test says so).
 * Does not own when they run (file.ts).
 */
import { FIRST } from "./0001-first.ts";
import { FOLDING } from "./0002-folding.ts";
import { REFERENCES } from "./0003-references.ts";
import { ARCHIVING } from "./0004-archiving.ts";
import { BATCHES } from "./0005-batches.ts";

/** Marks a SQLite file as a ledger of this project: "Purs" in ASCII. */
export const APPLICATION_ID = 0x50757273;

/** The function that migrations take the check sum of a row with: the table's name and the columns, in their order. */
export const CHECK_SUM_FUNCTION = "purser_check_sum";

/** By version, from 1 on: the schema's version is how many of them ran. */
export const MIGRATIONS: readonly { name: string; sql: string }[] = [
  { name: "0001-first", sql: FIRST },
  { name: "0002-folding", sql: FOLDING },
  { name: "0003-references", sql: REFERENCES },
  { name: "0004-archiving", sql: ARCHIVING },
  { name: "0005-batches", sql: BATCHES },
];

/** The schema version this program writes. */
export const SCHEMA_VERSION = MIGRATIONS.length;
