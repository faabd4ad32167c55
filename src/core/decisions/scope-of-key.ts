/** Owns reading a scope key back into the values it names: the inverse of `scopeKeyOf` (counters.ts), for people and for records. */
import { OWNER_NAME } from "./counters.ts";

/** The scope values that a scope key such as `agent=a&model=m` names. */
export function scopeOfKey(scopeKey: string): Record<string, string> {
  if (scopeKey === "all") return {};
  const parts = scopeKey.split("&").map((part) => part.split("=", 2).map((text) => unescapeName(text)));
  return Object.fromEntries(parts.filter(([name]) => name !== OWNER_NAME).map(([name = "", value = ""]) => [name, value]));
}

function unescapeName(text: string): string {
  return text.replaceAll(/%([0-9a-f]{2})/g, (_found, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
}
