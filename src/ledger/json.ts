/**
 * Owns how a ledger's structured columns are written as text: JSON in which exact integers, `Infinity` and what JSON has no word for
 * survive. Does not own which columns there are (sqlite/).
 * Invariant: `fromJson(toJson(x))` equals `x` for everything the core hands to a store.
 */

/** An exact integer or another value that JSON cannot hold, as an object with this one key. No object of the core has such a key. */
const MARK = "#";

/** Writes a value as JSON; bigints as `{"#":"123"}`, `Infinity` as `{"#":"inf"}`, maps and sets as marked lists. */
export function toJson(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) => {
    if (typeof inner === "bigint") return { [MARK]: inner.toString() };
    if (inner === Infinity) return { [MARK]: "inf" };
    if (inner instanceof Map) return { [MARK]: "map", entries: [...inner] };
    if (inner instanceof Set) return { [MARK]: "set", values: [...inner] };
    return inner;
  });
}

/** Reads what `toJson` wrote. @throws SyntaxError if it is no JSON. */
export function fromJson(text: string): unknown {
  return JSON.parse(text, (_key, inner: unknown) => {
    if (typeof inner !== "object" || inner === null || !(MARK in inner)) return inner;
    const marked = inner as { [MARK]: unknown; entries?: [unknown, unknown][]; values?: unknown[] };
    const mark = marked[MARK];
    if (mark === "inf") return Infinity;
    if (mark === "map") return new Map(marked.entries);
    if (mark === "set") return new Set(marked.values);
    return typeof mark === "string" && /^-?\d+$/.test(mark) && Object.keys(inner).length === 1 ? BigInt(mark) : inner;
  });
}
