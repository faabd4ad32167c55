/**
 * Owns changing a request: the bytes of the model's name, of the largest output, and the asking for usage.
 * Does not own whether to change it (core/decisions).
 * Invariant: every other byte of the body stays as it was, in the same order.
 */
import { encodeAscii } from "../json/bytes.ts";
import { cutForMember, encodeJson, splice, type Cut } from "../json/splice.ts";
import type { Provider, RequestFacts } from "../provider.ts";
import { modelFacts } from "./models.ts";

/** @param nameOf how the largest output is called, where a body has none. */
export function editWith(nameOf: (model: string) => string): Provider["editRequest"] {
  return (body, facts, edit) => {
    const { model, maxTokens } = edit;
    const cuts: Cut[] = [];
    if (model !== undefined) cuts.push({ span: facts.spans.model, bytes: encodeJson(model) });
    if (maxTokens !== undefined) cuts.push(cutForMaxTokens(body, facts, { name: nameOf(model ?? facts.model), maxTokens }));
    const { usageAsking } = facts;
    if (usageAsking !== undefined) cuts.push({ span: usageAsking.span, bytes: encodeAscii(usageAsking.text) });
    return splice(body, cuts);
  };
}

/** OpenAI's own models take `max_completion_tokens`, and newer ones nothing else; other servers may know only the older name. */
export function chatMaximumName(model: string): string {
  return modelFacts(model).isKnown ? "max_completion_tokens" : "max_tokens";
}

function cutForMaxTokens(body: Uint8Array, facts: RequestFacts, { name, maxTokens }: { name: string; maxTokens: number }): Cut {
  const span = facts.spans.maxTokens;
  return span === undefined ? cutForMember(body, name, maxTokens) : { span, bytes: encodeJson(maxTokens) };
}
