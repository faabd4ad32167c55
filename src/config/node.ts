/**
 * Owns the tree that every configuration is read from: texts, lists and maps, each with its place. Does not own where a tree comes from
 * (document.ts, object-node.ts) or what any of it means.
 */
import type { Place } from "./problems.ts";
import { quote } from "./problems.ts";

/** One value with its place. `nothing` is an empty value or `null`. */
export type ConfigNode =
  | { kind: "text"; place: Place; text: string }
  | { kind: "map"; place: Place; entries: readonly MapEntry[] }
  | { kind: "list"; place: Place; items: readonly ConfigNode[] }
  | { kind: "nothing"; place: Place };

export interface MapEntry {
  key: string;
  keyPlace: Place;
  value: ConfigNode;
}

/** Deeper than any configuration goes. */
export const DEPTH_MAX = 24;

/** The path of a member: `limits[0].at.$5`, in brackets where the name holds more than a path can show. */
export function joinPath(path: string, key: string): string {
  if (!/^[\w$%:-]+(?:\.\d+[%\w-]*)?$/.test(key)) return `${path}[${quote(key)}]`;
  return path === "" ? key : `${path}.${key}`;
}
