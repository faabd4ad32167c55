/**
 * Owns the shape in which an Anthropic client meets a refusal: status, error type, headers, body.
 * Does not own the sentence (core/errors/refusals.ts) or the provider's own errors, which pass through unchanged.
 * Invariants: what is final is not retried by any known client, and what asks to come back is; no answer with status 429 and a
 * `retry-after` holds a word on which a client gives up.
 *
 * @see contract.md "Denials and errors"; providers.md §6 (error types, retries by client)
 */
import type { ErrorCode, Refusal } from "../../core/errors/codes.ts";
import { retryAfterSeconds, withoutGiveUpWords } from "../come-back.ts";
import type { ShapedError } from "../provider.ts";

interface Row {
  status: number;
  type: string;
  /** Whole seconds, or the refusal's own. */
  retryAfter?: number | "own";
  /** What Claude Code gets instead: it ends on 429 `billing_error` without a retry, and its handling of 402 is undocumented. */
  isSpendLimit?: boolean;
}

const SPEND: Row = { status: 402, type: "billing_error", isSpendLimit: true };
const COME_BACK: Row = { status: 429, type: "rate_limit_error", retryAfter: "own" };

/** The contract's table. */
const ROWS: Readonly<Record<ErrorCode, Row>> = {
  limit_reached: SPEND,
  limit_too_small: SPEND,
  unbounded_cost: SPEND,
  unpriced_model: SPEND,
  halted: { status: 403, type: "permission_error", isSpendLimit: true },
  rate_limited: COME_BACK,
  held_by_calls_in_flight: COME_BACK,
  ledger_unavailable: { status: 503, type: "api_error", retryAfter: 5 },
  overloaded: { status: 503, type: "overloaded_error", retryAfter: 5 },
  invalid_request: { status: 400, type: "invalid_request_error" },
  unauthorized: { status: 401, type: "authentication_error" },
  unknown_path: { status: 404, type: "not_found_error" },
  not_metered: { status: 404, type: "not_found_error" },
  ambiguous_path: { status: 404, type: "not_found_error" },
  duplicate_call: { status: 409, type: "conflict_error" },
  request_too_large: { status: 413, type: "request_too_large" },
  unsupported_encoding: { status: 415, type: "invalid_request_error" },
  upstream_unreachable: { status: 502, type: "api_error" },
  upstream_timeout: { status: 504, type: "timeout_error" },
};

/** Puts a refusal into Anthropic's shape. */
export function shapeError(refusal: Refusal, client: { userAgent: string | undefined; requestId: string }): ShapedError {
  const row = rowFor(refusal.details.code, client.userAgent);
  const { details, message } = row === COME_BACK ? withoutGiveUpWords(refusal) : refusal;
  return {
    status: row.status,
    headers: headersFor(row, refusal, client.requestId),
    body: JSON.stringify({ type: "error", error: { type: row.type, message, details }, request_id: client.requestId }),
  };
}

function rowFor(code: ErrorCode, userAgent: string | undefined): Row {
  const row = ROWS[code];
  const isClaudeCode = userAgent?.startsWith("claude-cli/") === true;
  return row.isSpendLimit === true && isClaudeCode ? { status: 429, type: "billing_error" } : row;
}

function headersFor(row: Row, refusal: Refusal, requestId: string): Record<string, string> {
  const headers: Record<string, string> = { "content-type": "application/json", "request-id": requestId };
  if (row.retryAfter !== undefined) {
    headers["retry-after"] = String(row.retryAfter === "own" ? retryAfterSeconds(refusal) : row.retryAfter);
  } else if (row.status < 500) headers["x-should-retry"] = "false";
  return headers;
}
