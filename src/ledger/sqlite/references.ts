/**
 * Owns which earlier entries an entry's text names instead of spelling a thing out again: they must not go before it does.
 * Does not own what is named there.
 */
import type { EntryRow } from "./statements/entries.ts";

/** A reference to a counter is one number: its entry, times this, and its place there. */
const PLACES_PER_ENTRY = 1_024;

/** The entries that an entry refers to. */
export function referencesIn({ charges, body }: Pick<EntryRow, "charges" | "body">): number[] {
  return [...referencesInCharges(charges), ...referencesInBody(body)];
}

function referencesInCharges(text: string): number[] {
  if (!text.startsWith("{")) return [];
  const { of } = JSON.parse(text) as { of: readonly unknown[] | number };
  if (typeof of === "number") return [of];
  return of.filter((counter) => typeof counter === "number").map((counter) => Math.floor(counter / PLACES_PER_ENTRY));
}

function referencesInBody(text: string): number[] {
  if (!text.startsWith('["reserved"')) return [];
  const [, , limits] = JSON.parse(text) as readonly unknown[];
  return typeof limits === "number" ? [limits] : [];
}
