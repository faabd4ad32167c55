/** Owns how an instant is written for people and machines. Invariant: always UTC, always ISO 8601 with `Z`. */
import { Temporal } from "temporal-polyfill";

/** 1795305600000 → "2026-11-22T00:00:00Z"; milliseconds only where there are any. @param atMs epoch milliseconds, whole. */
export function formatInstant(atMs: number): string {
  return Temporal.Instant.fromEpochMilliseconds(atMs).toString();
}
