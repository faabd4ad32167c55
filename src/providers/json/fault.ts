/**
 * Owns how a fault in a JSON text is told: where, what was found, what is allowed.
 * Does not own finding it (scan.ts) or the error shape around it (the provider's folder).
 * Invariant: a fault quotes at most one character or one number of the text, never a prompt.
 */

/** One fault, the first in the text. */
export interface JsonFault {
  /** Bytes before it. */
  offset: number;
  /** From 1. */
  line: number;
  /** From 1, counted in characters. */
  column: number;
  /** The known keys that lead there ("messages[2].content"); empty at the top. */
  path: string;
  found: string;
  allowed: string;
}

/** Completes a fault with its line and column. */
export function locateFault(bytes: Uint8Array, fault: Omit<JsonFault, "line" | "column">): JsonFault {
  let line = 1;
  let column = 1;
  for (let at = 0; at < fault.offset && at < bytes.length; at += 1) {
    const byte = bytes[at] ?? 0;
    if (byte === 0x0a) {
      line += 1;
      column = 1;
    } else if ((byte & 0xc0) !== 0x80) column += 1;
  }
  return { ...fault, line, column };
}

/** One sentence part: `line 3, column 14 (byte 52, max_tokens): found …, allowed is …`. */
export function describeFault(fault: JsonFault): string {
  const place = fault.path === "" ? `byte ${fault.offset}` : `byte ${fault.offset}, ${fault.path}`;
  return `line ${fault.line}, column ${fault.column} (${place}): found ${fault.found}, allowed is ${fault.allowed}`;
}

/** Names one byte for a reader. */
export function describeByte(byte: number | undefined): string {
  if (byte === undefined) return "the end of the text";
  if (byte > 0x20 && byte < 0x7f) return byte === 0x22 ? "a quote" : `"${String.fromCharCode(byte)}"`;
  if (byte === 0x20) return "a space";
  return `the byte 0x${byte.toString(16).padStart(2, "0").toUpperCase()}`;
}
