/**
 * Owns how a command ends otherwise than well: exit codes, and the one sentence that says why.
 * Invariant: what a person reads on standard error is a sentence with the place and what to do, never a stack trace.
 */
import { clean } from "./output/text.ts";

/** 0: done · 1: found something wrong · 2: wrong usage · 3: the ledger or the network failed. */
export const EXIT = { done: 0, foundWrong: 1, wrongUsage: 2, failed: 3 } as const;
export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** A command ends here, with a sentence for the person. */
export class CliError extends Error {
  override readonly name = "CliError";
  readonly exitCode: ExitCode;

  constructor(exitCode: ExitCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.exitCode = exitCode;
  }
}

/** The person typed something that cannot be. */
export function wrongUsage(message: string): CliError {
  return new CliError(EXIT.wrongUsage, message);
}

/** What is said on standard error about a failure, and the exit code it means. */
export function describeFailure(error: unknown): { message: string; exitCode: ExitCode } {
  if (error instanceof CliError) return { message: error.message, exitCode: error.exitCode };
  const code = error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;
  const reason = clean(error instanceof Error ? error.message : String(error));
  if (code === "ledger_unavailable" || code === "ledger_unusable") return { message: reason, exitCode: EXIT.failed };
  if (code === "EACCES" || code === "EPERM" || code === "EROFS") {
    return { message: `the operating system does not allow it: ${reason}`, exitCode: EXIT.failed };
  }
  return { message: `something unexpected failed: ${reason}`, exitCode: EXIT.failed };
}
