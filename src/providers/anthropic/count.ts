/**
 * Owns asking the provider how many input tokens a request has: the body of `POST /v1/messages/count_tokens`, and what its answer says.
 * Does not own when it is asked (engine/counts.ts) or the margin above it (bound.ts).
 * Invariants: what is counted is what would be sent, byte for byte, less what no model reads; a request with a field not known here, or
 * with a part that the count says nothing of, is not counted.
 *
 * @see providers.md §9 (token counting); `MessageCountTokensParams` (beta) in @anthropic-ai/sdk 1.8.0
 */
import { decodeString } from "../json/bytes.ts";
import { parseObject, toObject } from "../json/values.ts";
import type { RequestFacts } from "../provider.ts";
import { editRequest } from "./edit.ts";

const COUNT_PATH = "/v1/messages/count_tokens";

/** What is counted. */
const COUNTED = new Set([
  "model",
  "messages",
  "system",
  "tools",
  "tool_choice",
  "thinking",
  "cache_control",
  "context_management",
  "output_config",
  "output_format",
  "speed",
]);

/** What counting does not take, and no model reads. */
const LEFT_OUT = new Set([
  "max_tokens",
  "stream",
  "temperature",
  "top_p",
  "top_k",
  "stop_sequences",
  "metadata",
  "service_tier",
  "inference_geo",
]);

/** @param path where the call itself goes, with its query. */
export function countPath(path: string): string {
  const queryAt = path.indexOf("?");
  return queryAt < 0 ? COUNT_PATH : COUNT_PATH + path.slice(queryAt);
}

/**
 * What asks how many tokens the request has on a model.
 *
 * @returns `undefined` if the answer would bound nothing: it is read more than once, or reads what is not in its body.
 */
export function countRequest(body: Uint8Array, facts: RequestFacts, model: string): Uint8Array | undefined {
  if (!isCountable(facts)) return undefined;
  const edited = model === facts.model ? body : editRequest(body, facts, { model });
  const kept: Uint8Array[] = [];
  for (const { name, bytes } of membersOf(edited)) {
    if (COUNTED.has(name)) kept.push(bytes);
    else if (!LEFT_OUT.has(name)) return undefined;
  }
  return objectOf(kept);
}

/** What the answer says; `undefined`: nothing that bounds the request. */
export function readCount(answer: Uint8Array, { isHistoryEdited }: RequestFacts): number | undefined {
  const read = parseObject(answer);
  const counted = read?.["input_tokens"];
  const before = toObject(read?.["context_management"])?.["original_input_tokens"];
  // Whether a threshold clears parts of the conversation is decided again at the call itself: what stood there before bounds both.
  const tokens = isHistoryEdited ? before : counted;
  return typeof tokens === "number" && Number.isSafeInteger(tokens) && tokens >= 0 ? tokens : undefined;
}

function isCountable({ remoteInputs, serverTools, unboundedParts, samplingsMax }: RequestFacts): boolean {
  return remoteInputs.length === 0 && serverTools.length === 0 && unboundedParts.length === 0 && samplingsMax === 1;
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPENING = new Set([0x7b, 0x5b]);
const CLOSING = new Set([0x7d, 0x5d]);
const BETWEEN = new Set([0x20, 0x09, 0x0a, 0x0d, 0x2c]);

/** The members of a JSON object that a scanner has accepted, each from its name to the end of its value. */
function* membersOf(body: Uint8Array): Generator<{ name: string; bytes: Uint8Array }> {
  let at = body.indexOf(0x7b) + 1;
  for (;;) {
    while (BETWEEN.has(body[at] ?? 0)) at += 1;
    if (body[at] !== QUOTE) return;
    const start = at;
    const nameEnd = stringEnd(body, at);
    at = valueEnd(body, nameEnd);
    yield { name: decodeString(body, start, nameEnd), bytes: body.subarray(start, at) };
  }
}

function stringEnd(body: Uint8Array, start: number): number {
  let at = start + 1;
  while (body[at] !== QUOTE) at += body[at] === BACKSLASH ? 2 : 1;
  return at + 1;
}

/** Where the comma or brace behind a value stands. */
function valueEnd(body: Uint8Array, start: number): number {
  let depth = 0;
  for (let at = start; at < body.length;) {
    const byte = body[at] ?? 0;
    if (byte === QUOTE) {
      at = stringEnd(body, at);
      continue;
    }
    if (depth === 0 && (byte === 0x2c || byte === 0x7d)) return at;
    if (OPENING.has(byte)) depth += 1;
    else if (CLOSING.has(byte)) depth -= 1;
    at += 1;
  }
  return body.length;
}

function objectOf(members: readonly Uint8Array[]): Uint8Array {
  const length = members.reduce((sum, { length: bytes }) => sum + bytes + 1, 1);
  const object = new Uint8Array(Math.max(2, length));
  object[0] = 0x7b;
  let at = 1;
  for (const [index, member] of members.entries()) {
    if (index > 0) object[at++] = 0x2c;
    object.set(member, at);
    at += member.length;
  }
  object[at] = 0x7d;
  return object;
}
