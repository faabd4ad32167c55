/**
 * Owns: the provider's error answers: their shape, and which type goes with which status.
 * @see platform.claude.com/docs/en/api/errors
 */

export interface ApiError {
  readonly status: number;
  readonly type: string;
  readonly message: string;
  readonly details?: Readonly<Record<string, unknown>>;
}

const TYPES: Readonly<Record<number, string>> = {
  400: "invalid_request_error",
  401: "authentication_error",
  402: "billing_error",
  403: "permission_error",
  404: "not_found_error",
  409: "conflict_error",
  413: "request_too_large",
  429: "rate_limit_error",
  504: "timeout_error",
  529: "overloaded_error",
};

export function errorTypeOf(status: number): string {
  return TYPES[status] ?? (status >= 500 ? "api_error" : "invalid_request_error");
}

export function apiError(status: number, message: string): ApiError {
  return { status, type: errorTypeOf(status), message };
}

/** The body of an error answer, and (without a request id) of an `error` event inside a stream. */
export function toErrorBody(error: ApiError, requestId?: string): Record<string, unknown> {
  return {
    type: "error",
    error: {
      type: error.type,
      message: error.message,
      ...(error.details === undefined ? {} : { details: error.details }),
    },
    ...(requestId === undefined ? {} : { request_id: requestId }),
  };
}
