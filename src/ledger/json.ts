/**
 * Owns how a ledger's structured columns are written as text: JSON in which exact integers, `Infinity`, maps and sets survive.
 * Does not own which columns there are (sqlite/).
 * Invariant: `fromJson(toJson(x))` equals `x` for everything the core hands to a store, whatever names its callers gave to tags.
 */

/** What JSON has no word for is an object with this key; an object of the core that has such a key is written as a list of its own. */
const MARK = "#";

/** Text that is JSON already, to be put in as it is. */
export class WrittenJson {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

/**
 * Writes a value as one line of JSON. Written out by hand: `JSON.stringify` with a replacer takes three times as long, and this is
 * the dearest step of a reservation.
 */
export function toJson(value: unknown): string {
  switch (typeof value) {
    case "string":
      return JSON.stringify(value);
    case "number":
      return Number.isFinite(value) ? String(value) : value === Infinity ? `{"${MARK}":"inf"}` : "null";
    case "boolean":
      return value ? "true" : "false";
    case "bigint":
      return `{"${MARK}":"${value}"}`;
    case "object":
      return value === null ? "null" : objectToJson(value);
    default:
      return "null";
  }
}

function objectToJson(value: object): string {
  if (Array.isArray(value)) return listToJson(value);
  if (value instanceof WrittenJson) return value.text;
  if (value instanceof Map) return `{"${MARK}":"map","entries":${listToJson([...value])}}`;
  if (value instanceof Set) return `{"${MARK}":"set","values":${listToJson([...value])}}`;
  if (Object.hasOwn(value, MARK)) return `{"${MARK}":"object","entries":${listToJson(Object.entries(value))}}`;
  let text = "{";
  for (const key of Object.keys(value)) {
    const inner = (value as Record<string, unknown>)[key];
    if (inner === undefined) continue;
    text += `${text === "{" ? "" : ","}${keyToJson(key)}:${toJson(inner)}`;
  }
  return `${text}}`;
}

/** Most keys are our own names and need no escaping. */
function keyToJson(key: string): string {
  return /^\w+$/.test(key) ? `"${key}"` : JSON.stringify(key);
}

function listToJson(values: readonly unknown[]): string {
  let text = "[";
  for (let index = 0; index < values.length; index += 1) text += (index === 0 ? "" : ",") + toJson(values[index]);
  return `${text}]`;
}

/** Reads what `toJson` wrote. @throws SyntaxError if it is no JSON. */
export function fromJson(text: string): unknown {
  return JSON.parse(text, (_key, inner: unknown) => {
    if (typeof inner !== "object" || inner === null || !Object.hasOwn(inner, MARK)) return inner;
    const marked = inner as { [MARK]: unknown; entries?: [string, unknown][]; values?: unknown[] };
    switch (marked[MARK]) {
      case "inf":
        return Infinity;
      case "map":
        return new Map(marked.entries);
      case "set":
        return new Set(marked.values);
      case "object":
        return Object.fromEntries(marked.entries ?? []);
      default:
        return BigInt(String(marked[MARK]));
    }
  });
}
