/**
 * Owns taking cache marks out of a message before it is recognised: clients move them from turn to turn while the conversation stays
 * the same. Does not own what a message is (providers/) or recognising it (sessions.ts).
 * Invariant: two messages that differ in their cache marks only become the same bytes; a message without one stays as it is.
 */

const CACHE_MARK_VALUE = String.raw`"cache_control"\s*:\s*(?:\{[^{}]*\}|null)`;
/** With the comma before it; as the first key, with the one behind it. */
const CACHE_MARK = new RegExp(String.raw`,\s*${CACHE_MARK_VALUE}|${CACHE_MARK_VALUE}\s*,?`, "g");
const CACHE_MARK_KEY = Uint8Array.from('"cache_control"', (character) => character.charCodeAt(0));
const UNDERSCORE_IN_KEY = CACHE_MARK_KEY.indexOf(0x5f);

/** The message without its cache marks; the same object if it has none. */
export function withoutCacheMarks(message: Uint8Array): Uint8Array {
  if (!hasCacheMark(message)) return message;
  let text = "";
  // Latin-1, so that every byte is one character and the result the same bytes.
  for (let at = 0; at < message.length; at += 8_192) text += String.fromCharCode(...message.subarray(at, at + 8_192));
  return Uint8Array.from(text.replaceAll(CACHE_MARK, ""), (character) => character.charCodeAt(0));
}

/** Looks from underscore to underscore: messages are long, marks are few, and this is on every call's path. */
function hasCacheMark(message: Uint8Array): boolean {
  for (let at = message.indexOf(0x5f); at >= 0; at = message.indexOf(0x5f, at + 1)) {
    const start = at - UNDERSCORE_IN_KEY;
    if (CACHE_MARK_KEY.every((byte, index) => message[start + index] === byte)) return true;
  }
  return false;
}
