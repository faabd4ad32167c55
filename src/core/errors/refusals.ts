/**
 * Owns the sentence of every refusal: whose limit, the figures, until when, what to do.
 * Does not own statuses, headers and shapes (providers/PROVIDER/errors.ts) or when to refuse (core/decisions).
 * Invariant: a sentence is made of plain figures that the caller hands in; it quotes no prompt, no credential and no clock.
 */
import type { Refusal } from "./codes.ts";

/** What could not be read, and where. */
export interface InvalidRequestInput {
  /** "request body", "header x-purser-deadline", … */
  where: string;
  /** Continues "… is not usable: ": the place, what was found, what is allowed. */
  problem: string;
}

/** The request itself is wrong: it was not forwarded, and repeating it changes nothing. */
export function invalidRequest({ where, problem }: InvalidRequestInput): Refusal {
  return {
    details: { code: "invalid_request" },
    message: `The ${where} is not usable: ${problem}. Nothing was forwarded or charged; correct it and send it again.`,
  };
}
