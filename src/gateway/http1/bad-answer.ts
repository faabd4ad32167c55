/** Owns the words for an answer that is no HTTP/1.1, or is cut: stable, for logs and refusals; they quote nothing that was sent. */

export type BadAnswerReason =
  /** It does not begin with a status line of HTTP/1.0 or 1.1, with a status of 100 to 999. */
  | "bad_status_line"
  /** A header line is malformed, folded, or without its end. */
  | "bad_header"
  | "head_too_large"
  /** Two statements of where the body ends, or one that says nothing. */
  | "bad_length"
  /** Another transfer coding than `chunked` alone. */
  | "bad_transfer_encoding"
  | "bad_chunk"
  /** More informational answers than anybody has to say. */
  | "too_many_interim_answers"
  /** It leaves HTTP, which nobody asked for. */
  | "switched_protocols"
  /** The connection ended before the answer did. */
  | "ended_early";

export class BadAnswerError extends Error {
  override readonly name = "BadAnswerError";
  readonly code: BadAnswerReason;
  constructor(code: BadAnswerReason) {
    super(`the provider's answer cannot be read: ${code}`);
    this.code = code;
  }
}
