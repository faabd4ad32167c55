/** One refusal of every code, with the figures that the pages in `docs/errors/` show. */
import type { ErrorCode, Refusal } from "../../src/core/errors/codes.ts";
import * as refusals from "../../src/core/errors/refusals.ts";

const usd = (amount: number): bigint => BigInt(amount * 1_000_000) * 1_000n;

const UNBOUNDED: refusals.LimitFigures = {
  limit: "session-spend",
  scope: { session: "ticket-4821" },
  measure: "usd",
  amount: usd(10),
  spent: usd(9.87),
  reserved: usd(0),
};

const SESSION: refusals.LimitFigures = { ...UNBOUNDED, requested: usd(0.30144) };

const RATE: refusals.LimitFigures = {
  limit: "agent-rate",
  scope: { agent: "ticket-responder" },
  measure: "requests",
  amount: 30n,
  spent: 30n,
  reserved: 0n,
  requested: 1n,
};

export const SAMPLES: Readonly<Record<ErrorCode, Refusal>> = {
  limit_reached: refusals.limitReached(SESSION, { resetsAt: null }),
  limit_too_small: refusals.limitTooSmall({ ...SESSION, spent: usd(0), requested: usd(12.5) }),
  unbounded_cost: refusals.unboundedCost(UNBOUNDED, { parts: ["web_search_20250305"] }),
  unpriced_model: refusals.unpricedModel(UNBOUNDED, { model: "claude-opus-9" }),
  halted: refusals.halted({ scope: { agent: "ticket-responder" }, reason: "sends the same mail again and again" }),
  rate_limited: refusals.rateLimited(RATE, { retryAfterSeconds: 24 }),
  held_by_calls_in_flight: refusals.heldByCallsInFlight(
    { ...SESSION, spent: usd(6.2), reserved: usd(3.6) },
    { retryAfterSeconds: 7 },
  ),
  ledger_unavailable: refusals.ledgerUnavailable({ reason: "the disk is full" }),
  overloaded: refusals.overloaded({ reason: "the requests it holds fill the memory it has for them" }),
  invalid_request: refusals.invalidRequest({
    where: "request body",
    problem: "line 1, column 43 (byte 42, max_tokens): found the number -5, allowed is a whole number from 0",
  }),
  unauthorized: refusals.unauthorized({ problem: "the virtual key prs_k3v9x2ab was revoked" }),
  unknown_path: refusals.unknownPath({ method: "POST", path: "/v1/mesages" }),
  not_metered: refusals.notMetered({ method: "POST", path: "/v1/messages/batches" }),
  ambiguous_path: refusals.ambiguousPath({ path: "/v1/models", prefixes: ["/anthropic", "/openai"] }),
  duplicate_call: refusals.duplicateCall({ callId: "call_01jd2x7m9q" }),
  request_too_large: refusals.requestTooLarge({ foundBytes: 40_000_000, bytesMax: 33_554_432 }),
  unsupported_encoding: refusals.unsupportedEncoding({ found: "br", allowed: ["gzip", "deflate", "identity"] }),
  upstream_unreachable: refusals.upstreamUnreachable({ host: "api.anthropic.com", reason: "connection refused", wasSent: false }),
  upstream_timeout: refusals.upstreamTimeout({ host: "api.anthropic.com", afterSeconds: 600 }),
};
