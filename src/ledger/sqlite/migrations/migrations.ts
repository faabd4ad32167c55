/**
 * Owns the order of schema changes. Forward only; a released one is immutable (a checksum test says so).
 * Does not own when they run (file.ts).
 */
import { FIRST } from "./0001-first.ts";

/** Marks a SQLite file as a ledger of this project: "Purs" in ASCII. */
export const APPLICATION_ID = 0x50757273;

/** By version, from 1 on: the schema's version is how many of them ran. */
export const MIGRATIONS: readonly { name: string; sql: string }[] = [{ name: "0001-first", sql: FIRST }];

/** The schema version this program writes. */
export const SCHEMA_VERSION = MIGRATIONS.length;
