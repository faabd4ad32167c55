/**
 * Owns the shape in which an OpenAI client meets a refusal: status, type, code, headers, body.
 * Does not own the sentence (core/errors/refusals.ts) or the provider's own errors, which pass through unchanged.
 * Invariants: what is final is not retried by any known client, and what asks to come back is; no answer with status 429 and a
 * `retry-after` holds a word on which a client gives up.
 *
 * @see contract.md "Denials and errors"; providers.md §12 (errors, retries of the SDK)
 */
import type { ErrorCode, Refusal } from "../../core/errors/codes.ts";
import { retryAfterSeconds, withoutGiveUpWords } from "../come-back.ts";
import type { ShapedError } from "../provider.ts";

interface Row {
  status: number;
  type: string;
  /** Absent: Purser's own code. */
  code?: string;
  /** Whole seconds, or the refusal's own. */
  retryAfter?: number | "own";
}

const SPEND: Row = { status: 402, type: "insufficient_quota" };
const COME_BACK: Row = { status: 429, type: "requests", code: "rate_limit_exceeded", retryAfter: "own" };
const INVALID = "invalid_request_error";

/** The contract's table. */
const ROWS: Readonly<Record<ErrorCode, Row>> = {
  limit_reached: SPEND,
  limit_too_small: SPEND,
  unbounded_cost: SPEND,
  unpriced_model: SPEND,
  halted: { status: 403, type: "permission_denied" },
  rate_limited: COME_BACK,
  held_by_calls_in_flight: COME_BACK,
  ledger_unavailable: { status: 503, type: "server_error", retryAfter: 5 },
  overloaded: { status: 503, type: "server_error", retryAfter: 5 },
  invalid_request: { status: 400, type: INVALID },
  unauthorized: { status: 401, type: INVALID, code: "invalid_api_key" },
  unknown_path: { status: 404, type: INVALID },
  not_metered: { status: 404, type: INVALID },
  ambiguous_path: { status: 404, type: INVALID },
  duplicate_call: { status: 409, type: INVALID },
  request_too_large: { status: 413, type: INVALID },
  unsupported_encoding: { status: 415, type: INVALID },
  upstream_unreachable: { status: 502, type: "server_error" },
  upstream_timeout: { status: 504, type: "server_error" },
};

/** Measures that count tokens: OpenAI's own rate limits say `tokens` then, and `requests` of the rest. */
const TOKEN_MEASURES = new Set(["tokens", "inputTokens", "outputTokens"]);

/** Puts a refusal into OpenAI's shape. */
export function shapeError(refusal: Refusal, client: { requestId: string }): ShapedError {
  const row = ROWS[refusal.details.code];
  const { details, message } = row === COME_BACK ? withoutGiveUpWords(refusal) : refusal;
  const isOfTokens = row === COME_BACK && TOKEN_MEASURES.has(details.measure ?? "");
  const error = { type: isOfTokens ? "tokens" : row.type, code: row.code ?? details.code, message, param: null, details };
  return { status: row.status, headers: headersFor(row, refusal, client.requestId), body: JSON.stringify({ error }) };
}

function headersFor(row: Row, refusal: Refusal, requestId: string): Record<string, string> {
  const headers: Record<string, string> = { "content-type": "application/json", "x-request-id": requestId };
  if (row.retryAfter !== undefined) {
    headers["retry-after"] = String(row.retryAfter === "own" ? retryAfterSeconds(refusal) : row.retryAfter);
  } else if (row.status < 500) headers["x-should-retry"] = "false";
  return headers;
}
