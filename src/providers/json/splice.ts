/**
 * Owns replacing a few values in the bytes of a JSON text. Does not own which (PROVIDER/edit.ts).
 * Invariant: every other byte stays as it was, in the same order.
 */
import type { Span } from "../provider.ts";
import { encodeAscii } from "./bytes.ts";

/** Bytes that stand in place of a span; an empty span: they are put in. */
export interface Cut {
  span: Span;
  bytes: Uint8Array;
}

/** The text with all cuts made; the text itself if there are none. */
export function splice(text: Uint8Array, cuts: readonly Cut[]): Uint8Array {
  if (cuts.length === 0) return text;
  const inOrder = cuts.toSorted((left, right) => left.span.start - right.span.start);
  const length = inOrder.reduce((sum, { span, bytes }) => sum + bytes.length - (span.end - span.start), text.length);
  const edited = new Uint8Array(length);
  let from = 0;
  let to = 0;
  for (const { span, bytes } of inOrder) {
    edited.set(text.subarray(from, span.start), to);
    to += span.start - from;
    edited.set(bytes, to);
    to += bytes.length;
    from = span.end;
  }
  edited.set(text.subarray(from), to);
  return edited;
}

/** Puts a member in front of an object's first one. Its object holds at least one. */
export function cutForMember(text: Uint8Array, name: string, value: string | number): Cut {
  const start = text.indexOf(0x7b) + 1;
  return { span: { start, end: start }, bytes: encodeAscii(`"${name}":${value},`) };
}

/** A value as JSON in ASCII: what is not ASCII is escaped, so that one letter is one byte. */
export function encodeJson(value: string | number): Uint8Array {
  const text = JSON.stringify(value);
  return encodeAscii(text.replace(/[^\x20-\x7e]/g, (letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`));
}
