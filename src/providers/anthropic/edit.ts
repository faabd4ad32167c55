/**
 * Owns changing a request: the bytes of the model's name, of max_tokens, or of both.
 * Does not own whether to change it (core/decisions).
 * Invariant: every other byte of the body stays as it was, in the same order.
 */
import { cutForMember, encodeJson, splice, type Cut } from "../json/splice.ts";
import type { RequestFacts } from "../provider.ts";

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
  const cuts: Cut[] = [];
  if (edit.model !== undefined) cuts.push({ span: facts.spans.model, bytes: encodeJson(edit.model) });
  if (edit.maxTokens !== undefined) cuts.push(cutForMaxTokens(body, facts, edit.maxTokens));
  return splice(body, cuts);
}

function cutForMaxTokens(body: Uint8Array, facts: RequestFacts, maxTokens: number): Cut {
  const span = facts.spans.maxTokens;
  return span === undefined ? cutForMember(body, "max_tokens", maxTokens) : { span, bytes: encodeJson(maxTokens) };
}
