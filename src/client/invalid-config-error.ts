/** A configuration that cannot be used, with every mistake in it. */
import type { ConfigProblem } from "../config/problems.ts";

const BRAND = Symbol.for("purser.InvalidConfigError");

/** The configuration holds mistakes; its message names them all. */
export class InvalidConfigError extends Error {
  override readonly name = "InvalidConfigError";
  readonly code = "invalid_config";
  /** Each with its place, what was found there and what is allowed. */
  readonly problems: readonly ConfigProblem[];
  readonly [BRAND] = true;

  constructor(problems: readonly ConfigProblem[]) {
    super(problems.map(({ message }) => message).join("\n"));
    this.problems = problems;
  }

  /** True for an error of this class, also of another copy of the package. */
  static is(error: unknown): error is InvalidConfigError {
    return typeof error === "object" && error !== null && BRAND in error;
  }
}
