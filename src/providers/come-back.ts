/**
 * Owns what an answer that asks its caller to come back must say and must not say. Does not own its shape (PROVIDER/errors.ts).
 * Invariant: no client gives such an answer up for its time or for a word in it.
 */
import type { ErrorDetails, Refusal } from "../core/errors/codes.ts";

/** The longest time to come back: what clears later is a final error. LangChain gives up on more than 60 s. */
const RETRY_AFTER_SECONDS_MAX = 59;

/** Rounds up: a client that comes back early is refused again. */
export function retryAfterSeconds({ retryAfterSeconds: seconds = 1 }: Refusal): number {
  return Math.min(RETRY_AFTER_SECONDS_MAX, Math.max(1, Math.ceil(seconds)));
}

/**
 * Words on which LangChain (core 1.4) gives up on a 429, wherever in the body they stand, and what the contract adds to them.
 *
 * @see build-facts.md "What real clients do with an answer"
 */
const GIVE_UP_WORDS = /billing|quota|credit|resets? at/gi;

/**
 * The refusal without those words. Our own sentences hold none; names that users chose can ("billing-bot"): they are left out of
 * the details and shortened in the sentence, which says so.
 */
export function withoutGiveUpWords({ details, message }: Refusal): { details: ErrorDetails; message: string } {
  const cleanMessage = message.replace(GIVE_UP_WORDS, "…");
  return {
    details: cleanDetails(details),
    message:
      cleanMessage === message ? message : `${cleanMessage} (Names are shortened to "…" where clients stop at a word in them.)`,
  };
}

function cleanDetails(details: ErrorDetails): ErrorDetails {
  const { limit, scope, ...rest } = details;
  const entries = Object.entries(scope ?? {}).filter(([name, value]) => isClean(name) && isClean(value));
  return {
    ...rest,
    ...(limit !== undefined && isClean(limit) ? { limit } : {}),
    ...(scope === undefined ? {} : { scope: Object.fromEntries(entries) }),
  };
}

function isClean(text: string): boolean {
  return text.search(GIVE_UP_WORDS) < 0;
}
