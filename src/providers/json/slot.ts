/**
 * Owns how a reader says which parts of a JSON text it wants to see: a slot per value, with the keys it knows below it.
 * Does not own the scanning (scan.ts) or what any provider calls its fields (the provider's folder).
 * Invariant: what no slot names is checked for grammar only; its keys are the caller's own data and may stand twice.
 */
import { ByteTable } from "./bytes.ts";

/** The kinds of JSON value, as bits so that a slot can allow several. */
export const JSON_KIND = { object: 1, array: 2, string: 4, number: 8, boolean: 16, null: 32 } as const;

/** One kind, or several or-ed together. */
export type JsonKind = number;

/** Every kind. */
export const ANY_KIND: JsonKind = 63;

/** What a reader expects at one place of a text. `S` is the reader's own state. */
export interface JsonSlot<S> {
  /** The key by which it is found; elements of an array carry the array's name. Shown in faults. */
  readonly name: string;
  readonly kinds: JsonKind;
  /** What is allowed here, in words, for the fault if another kind is found. */
  readonly allowed: string;
  /** The keys known inside, if the value is an object. Each may stand once. */
  readonly members?: JsonMembers<S>;
  /** What each element is, if the value is an array. */
  readonly element?: JsonSlot<S>;
  /** Called when an object or array begins. */
  readonly open?: (state: S, kind: JsonKind) => void;
  /**
   * Called when the value is complete.
   *
   * @returns `undefined` if it is acceptable, else what would have been, in words.
   */
  readonly read?: (state: S, value: JsonValueSpan) => string | undefined;
}

/** A complete value: its kind and its bytes `[start, end)`, quotes and brackets included. */
export interface JsonValueSpan {
  kind: JsonKind;
  start: number;
  end: number;
}

/** The known keys of one object: at most 32, so that "seen" is one integer. */
export class JsonMembers<S> {
  readonly #keys: ByteTable;
  #slots: readonly JsonSlot<S>[];

  constructor(slots: readonly JsonSlot<S>[]) {
    if (slots.length > 32) throw new RangeError(`An object's slots are at most 32, got ${slots.length}.`);
    this.#slots = slots;
    this.#keys = new ByteTable(slots.map(({ name }) => name));
  }

  /** Which known key stands between these quotes, or -1. Escapes are resolved before comparing. */
  indexOf(bytes: Uint8Array, start: number, end: number, hasEscapes: boolean): number {
    return this.#keys.indexOf(bytes, start, end, hasEscapes);
  }

  at(index: number): JsonSlot<S> | undefined {
    return this.#slots[index];
  }
}

/** How a slot is written: a function that makes slots for one reader's state. */
export type NewSlot<S> = (
  name: string,
  kinds: JsonKind,
  allowed: string,
  rest?: {
    /** What it answers is what would have been acceptable; nothing: the value is. */
    read?: (state: S, value: JsonValueSpan) => string | undefined | void;
    open?: (state: S, kind: JsonKind) => void;
    members?: readonly JsonSlot<S>[];
    element?: JsonSlot<S>;
  },
) => JsonSlot<S>;

export function slotFor<S>(): NewSlot<S> {
  return (name, kinds, allowed, { read, open, members, element } = {}) => ({
    name,
    kinds,
    allowed,
    ...(members === undefined ? {} : { members: new JsonMembers(members) }),
    ...(element === undefined ? {} : { element }),
    ...(open === undefined ? {} : { open }),
    ...(read === undefined ? {} : { read: (state, value) => read(state, value) ?? undefined }),
  });
}
