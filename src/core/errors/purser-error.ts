/**
 * Owns the two kinds of thing that are thrown: the world failed ({@link PurserError}), or we made a mistake ({@link InvariantError}).
 * Does not own answers: a refusal is an outcome and is returned, never thrown (refusals.ts).
 * Invariant: an error is recognised by its brand, not by its class, because two copies of the package can meet in one process.
 */

const BRAND: unique symbol = Symbol.for("purser.error");

/** What an operating error carries. */
export interface PurserErrorInput {
  /** lower_snake and stable: users are told to match on it. */
  code: string;
  /** A sentence with the place and the values received; no secrets, no prompts. */
  message: string;
  /** True if the same attempt may succeed later without anybody changing anything. */
  isRetryable: boolean;
  /** Safe to write as JSON. */
  details?: Readonly<Record<string, unknown>>;
  cause?: unknown;
}

/** The world failed: a file, a lock, the network, a configuration. */
export class PurserError extends Error {
  readonly [BRAND] = true;
  readonly code: string;
  readonly isRetryable: boolean;
  readonly details: Readonly<Record<string, unknown>>;

  constructor({ code, message, isRetryable, details = {}, cause }: PurserErrorInput) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "PurserError";
    this.code = code;
    this.isRetryable = isRetryable;
    this.details = details;
  }

  /** True for an error of this class from any copy of the package. */
  static is(error: unknown): error is PurserError {
    return typeof error === "object" && error !== null && BRAND in error;
  }
}

/** Our own mistake. Nobody catches it but the outermost frame, which ends the request and keeps the books closed. */
export class InvariantError extends Error {
  override readonly name = "InvariantError";
}

/** Stops if a thing that must hold does not. `message` says what was expected, with the values found. */
export function assertInvariant(condition: boolean, message: string): asserts condition {
  if (!condition) throw new InvariantError(message);
}
