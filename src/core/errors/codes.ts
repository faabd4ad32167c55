/**
 * Owns the catalogue of everything Purser itself answers instead of an upstream's answer: one code per way of reacting.
 * Does not own HTTP statuses and provider shapes (providers/PROVIDER/errors.ts) or exit codes (cli/).
 * Invariant: a code here has a page `docs/errors/CODE.md`, and every page has a code here.
 */

/** Every code a caller can find at `details.code`. Stable. */
export const ERROR_CODES = [
  "limit_reached",
  "limit_too_small",
  "unbounded_cost",
  "unpriced_model",
  "halted",
  "rate_limited",
  "held_by_calls_in_flight",
  "ledger_unavailable",
  "overloaded",
  "invalid_request",
  "unauthorized",
  "unknown_path",
  "not_metered",
  "ambiguous_path",
  "duplicate_call",
  "request_too_large",
  "unsupported_encoding",
  "upstream_unreachable",
  "upstream_timeout",
] as const;

export type ErrorCode = (typeof ERROR_CODES)[number];

/** What a refusal tells its reader besides the sentence. Amounts of usd as decimal text, of others as numbers. */
export interface ErrorDetails {
  code: ErrorCode;
  limit?: string;
  scope?: Record<string, string>;
  measure?: string;
  amount?: string | number;
  spent?: string | number;
  reserved?: string | number;
  requested?: string | number;
  /** ISO 8601, or `null` if it never resets by itself. */
  resetsAt?: string | null;
  callId?: string;
}

/** One answer of Purser's own, before a provider's shape is put around it. */
export interface Refusal {
  details: ErrorDetails;
  /** One sentence a person understands: whose limit, the figures, until when, what to do. */
  message: string;
  /** Whole seconds, 1…59, for codes that ask the caller to come back. */
  retryAfterSeconds?: number;
}
