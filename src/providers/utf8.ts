/**
 * Owns decoding whole bodies and events. Does not own short spans inside a body (json/bytes.ts).
 * Invariant: total: bytes that are no UTF-8 become U+FFFD, and whoever parses the text finds out.
 */

/** The one platform name this room uses: pure, and in every runtime this package runs on, but in no library of the language itself. */
declare const TextDecoder: new (label: "utf-8") => { decode(bytes: Uint8Array): string };

const decoder = new TextDecoder("utf-8");

/** Decodes UTF-8; a byte order mark at the beginning is dropped. */
export function decodeUtf8(bytes: Uint8Array): string {
  return decoder.decode(bytes);
}
