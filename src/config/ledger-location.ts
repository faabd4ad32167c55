/**
 * Owns how the place of the ledger is written: a path, or `sqlite:PATH`. Does not own opening it.
 * Invariant: an address may hold a password, so it is never shown.
 */

/** Where the ledger lies. */
export interface LedgerLocation {
  kind: "sqlite";
  path: string;
}

export const LEDGER_DEFAULT: LedgerLocation = { kind: "sqlite", path: "./.purser/ledger.db" };

/**
 * Reads where the ledger lies.
 *
 * @returns the location, or what was found and what is allowed instead.
 */
export function parseLedgerLocation(
  text: string,
): { outcome: "read"; location: LedgerLocation } | { outcome: "invalid"; found: string; allowed: string } {
  const allowed = "a path, or sqlite:PATH";
  if (/^postgres(?:ql)?:/i.test(text)) {
    return { outcome: "invalid", found: "a PostgreSQL address", allowed: `${allowed} (PostgreSQL is not supported yet)` };
  }
  const path = text.replace(/^sqlite:/i, "");
  if (path.trim() === "" || path.endsWith("/")) return { outcome: "invalid", found: "no file name", allowed };
  // A single letter before the colon is a drive of Windows, not a scheme.
  const scheme = /^([a-z][a-z0-9+.-]+):/i.exec(path)?.[1];
  if (scheme !== undefined) return { outcome: "invalid", found: `an address of the kind ${scheme}:`, allowed };
  return { outcome: "read", location: { kind: "sqlite", path } };
}
