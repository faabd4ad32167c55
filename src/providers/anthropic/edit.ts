/**
 * Owns changing a request: the bytes of the model's name, of max_tokens, or of both.
 * Does not own whether to change it (core/decisions).
 * Invariant: every other byte of the body stays as it was, in the same order.
 */
import { encodeAscii } from "../json/bytes.ts";
import type { RequestFacts, Span } from "../provider.ts";

/** What a decision may replace. `maxTokens`: a whole number from 0. */
export interface RequestEdit {
  model?: string;
  maxTokens?: number;
}

/**
 * The body with the edit applied; the body itself if the edit is empty.
 *
 * @remarks A body without `max_tokens` gets the member in front of its first one: nothing can be replaced there.
 */
export function editRequest(body: Uint8Array, facts: RequestFacts, edit: RequestEdit): Uint8Array {
  const cuts: { span: Span; bytes: Uint8Array }[] = [];
  if (edit.model !== undefined) cuts.push({ span: facts.spans.model, bytes: encodeJson(edit.model) });
  if (edit.maxTokens !== undefined) cuts.push(cutForMaxTokens(body, facts, edit.maxTokens));
  cuts.sort((left, right) => left.span.start - right.span.start);
  return splice(body, cuts);
}

function cutForMaxTokens(body: Uint8Array, facts: RequestFacts, maxTokens: number): { span: Span; bytes: Uint8Array } {
  const span = facts.spans.maxTokens;
  if (span !== undefined) return { span, bytes: encodeJson(maxTokens) };
  const start = body.indexOf(0x7b) + 1;
  return { span: { start, end: start }, bytes: encodeAscii(`"max_tokens":${maxTokens},`) };
}

function splice(body: Uint8Array, cuts: readonly { span: Span; bytes: Uint8Array }[]): Uint8Array {
  if (cuts.length === 0) return body;
  const length = cuts.reduce((sum, { span, bytes }) => sum + bytes.length - (span.end - span.start), body.length);
  const edited = new Uint8Array(length);
  let from = 0;
  let to = 0;
  for (const { span, bytes } of cuts) {
    edited.set(body.subarray(from, span.start), to);
    to += span.start - from;
    edited.set(bytes, to);
    to += bytes.length;
    from = span.end;
  }
  edited.set(body.subarray(from), to);
  return edited;
}

/** A value as JSON in ASCII: what is not ASCII is escaped, so that one letter is one byte. */
function encodeJson(value: string | number): Uint8Array {
  const text = JSON.stringify(value);
  return encodeAscii(text.replace(/[^\x20-\x7e]/g, (letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`));
}
