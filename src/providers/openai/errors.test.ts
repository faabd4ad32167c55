import { describe, expect, test } from "vitest";
import { ERROR_CODES, type ErrorCode } from "../../core/errors/codes.ts";
import { SAMPLES } from "../../../test/architecture/refusal-samples.fixture.ts";
import { shapeError } from "./errors.ts";

const shaped = (code: ErrorCode) => shapeError(SAMPLES[code], { requestId: "req_1" });

/** Typed again from the contract: code, status, type, code of OpenAI's, header. */
const TABLE: Record<string, [status: number, type: string, code: string, header: string]> = {
  limit_reached: [402, "insufficient_quota", "limit_reached", "x-should-retry: false"],
  limit_too_small: [402, "insufficient_quota", "limit_too_small", "x-should-retry: false"],
  unbounded_cost: [402, "insufficient_quota", "unbounded_cost", "x-should-retry: false"],
  unpriced_model: [402, "insufficient_quota", "unpriced_model", "x-should-retry: false"],
  halted: [403, "permission_denied", "halted", "x-should-retry: false"],
  ledger_unavailable: [503, "server_error", "ledger_unavailable", "retry-after: 5"],
  overloaded: [503, "server_error", "overloaded", "retry-after: 5"],
  invalid_request: [400, "invalid_request_error", "invalid_request", "x-should-retry: false"],
  unauthorized: [401, "invalid_request_error", "invalid_api_key", "x-should-retry: false"],
  unknown_path: [404, "invalid_request_error", "unknown_path", "x-should-retry: false"],
  not_metered: [404, "invalid_request_error", "not_metered", "x-should-retry: false"],
  ambiguous_path: [404, "invalid_request_error", "ambiguous_path", "x-should-retry: false"],
  duplicate_call: [409, "invalid_request_error", "duplicate_call", "x-should-retry: false"],
  request_too_large: [413, "invalid_request_error", "request_too_large", "x-should-retry: false"],
  unsupported_encoding: [415, "invalid_request_error", "unsupported_encoding", "x-should-retry: false"],
  upstream_unreachable: [502, "server_error", "upstream_unreachable", ""],
  upstream_timeout: [504, "server_error", "upstream_timeout", ""],
};

describe("a refusal in OpenAI's shape", () => {
  test.each(Object.entries(TABLE))(
    "has the contract's status, type, code and headers: %s",
    (code, [status, type, name, header]) => {
      const { status: found, headers, body } = shaped(code as ErrorCode);
      const { error } = JSON.parse(body) as { error: Record<string, unknown> };
      const ours = Object.entries(headers).filter(([key]) => key === "retry-after" || key === "x-should-retry");

      expect([found, error["type"], error["code"], error["param"]]).toEqual([status, type, name, null]);
      expect(ours.map((entry) => entry.join(": ")).join()).toBe(header);
      expect(error["details"]).toMatchObject({ code });
      expect(headers["x-request-id"]).toBe("req_1");
    },
  );

  test.each(["rate_limited", "held_by_calls_in_flight"] as const)(
    "asks to come back, in no word that ends a client: %s",
    (code) => {
      const { status, headers, body } = shaped(code);

      expect(status).toBe(429);
      expect(Number(headers["retry-after"])).toBeGreaterThanOrEqual(1);
      expect(Number(headers["retry-after"])).toBeLessThanOrEqual(59);
      expect(headers).not.toHaveProperty("x-should-retry");
      expect(body).not.toMatch(/billing|quota|credit|resets? at/i);
      expect(JSON.parse(body)).toMatchObject({ error: { code: "rate_limit_exceeded", details: { code } } });
    },
  );

  test.each([
    ["tokens", "tokens"],
    ["inputTokens", "tokens"],
    ["requests", "requests"],
    ["concurrency", "requests"],
  ])("says of a limit on %s that it is one of %s", (measure, type) => {
    const refusal = { ...SAMPLES.rate_limited, details: { ...SAMPLES.rate_limited.details, measure } };
    const { error } = JSON.parse(shapeError(refusal, { requestId: "r" }).body) as { error: { type: string } };

    expect(error.type).toBe(type);
  });

  test("exists for every code", () => {
    const come = ["rate_limited", "held_by_calls_in_flight"];
    expect([...Object.keys(TABLE), ...come].toSorted()).toEqual([...ERROR_CODES].toSorted());
  });
});
