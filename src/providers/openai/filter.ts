/**
 * Owns taking the usage chunk out of a chat's stream where the caller did not ask for it: the one with `choices: []` and a `usage`.
 * Does not own asking for it (request.ts, edit.ts) or reading it (stream.ts).
 * Invariants: every other event passes byte for byte, `usage: null` in them included; no event is held longer than until its end, and of
 * one that is too long to be that chunk nothing is held.
 */
import { parseObject, toObject } from "../json/values.ts";
import type { AnswerFilter } from "../provider.ts";

/** The chunk is some 500 bytes. */
const HELD_BYTES_MAX = 16_384;
const LF = 0x0a;
const CR = 0x0d;
const SPACE = 0x20;
const COLON = 0x3a;
const OPENING_BRACE = 0x7b;
const NOTHING = new Uint8Array(0);

export class UsageChunkFilter implements AnswerFilter {
  /** The beginning of an event whose end has not come. */
  #held: Uint8Array = NOTHING;
  /** The event that is passing was too long to be held. */
  #isPassing = false;
  /** Bytes of the line that is open, a carriage return left out. */
  #lineBytes = 0;

  push(chunk: Uint8Array): Uint8Array {
    const passed: Uint8Array[] = [];
    let from = 0;
    for (let at = 0; at < chunk.length; at += 1) {
      const byte = chunk[at];
      if (byte !== LF) {
        if (byte !== CR) this.#lineBytes += 1;
        continue;
      }
      const isBlank = this.#lineBytes === 0;
      this.#lineBytes = 0;
      if (!isBlank) continue;
      this.#endEvent(chunk.subarray(from, at + 1), passed);
      from = at + 1;
    }
    this.#keep(chunk.subarray(from), passed);
    return joined(passed);
  }

  end(): Uint8Array {
    const rest = this.#held;
    this.#held = NOTHING;
    return rest;
  }

  #endEvent(rest: Uint8Array, passed: Uint8Array[]): void {
    const event = joined([this.#held, rest]);
    this.#held = NOTHING;
    if (this.#isPassing || !isUsageChunk(event)) passed.push(event);
    this.#isPassing = false;
  }

  #keep(rest: Uint8Array, passed: Uint8Array[]): void {
    if (rest.length === 0) return;
    const begun = joined([this.#held, rest]);
    if (!this.#isPassing && begun.length <= HELD_BYTES_MAX) {
      // Copied, because the chunk belongs to whoever forwards it.
      this.#held = begun.slice();
      return;
    }
    this.#held = NOTHING;
    this.#isPassing = true;
    passed.push(begun);
  }
}

const USAGE_KEY = Uint8Array.from('"usage"', (letter) => letter.charCodeAt(0));
const DATA_FIELD = Uint8Array.from("data:", (letter) => letter.charCodeAt(0));

/** Azure's first chunk has no choices either, and what it says is for the caller. */
function isUsageChunk(event: Uint8Array): boolean {
  const start = indexOf(event, DATA_FIELD);
  // Every chunk says `usage: null` once usage was asked for: only one that holds an object is read.
  if (start < 0 || !holdsUsage(event)) return false;
  const json = parseObject(event.subarray(start + DATA_FIELD.length));
  const choices: unknown = json?.["choices"];
  const isEmpty = Array.isArray(choices) && choices.length === 0;
  return isEmpty && toObject(json?.["usage"]) !== undefined && json?.["prompt_filter_results"] === undefined;
}

function holdsUsage(event: Uint8Array): boolean {
  const keyAt = indexOf(event, USAGE_KEY);
  if (keyAt < 0) return false;
  let at = keyAt + USAGE_KEY.length;
  while (event[at] === COLON || event[at] === SPACE) at += 1;
  return event[at] === OPENING_BRACE;
}

function indexOf(bytes: Uint8Array, word: Uint8Array): number {
  const first = word[0] ?? 0;
  for (let at = bytes.indexOf(first); at >= 0; at = bytes.indexOf(first, at + 1)) {
    if (word.every((code, index) => bytes[at + index] === code)) return at;
  }
  return -1;
}

function joined(pieces: readonly Uint8Array[]): Uint8Array {
  const filled = pieces.filter(({ length }) => length > 0);
  if (filled.length <= 1) return filled[0] ?? NOTHING;
  const whole = new Uint8Array(filled.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const piece of filled) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}
