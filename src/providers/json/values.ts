/**
 * Owns looking into JSON whose shape nobody promised. Does not own what any field means.
 * Invariant: never throws; what is not of the asked kind is `undefined`.
 */
import { decodeUtf8 } from "../utf8.ts";

/** A JSON object of unknown fields. */
export type JsonObject = Record<string, unknown>;

/** The value if it is an object and no list. */
export function toObject(value: unknown): JsonObject | undefined {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as JsonObject) : undefined;
}

/** The value if it is text. */
export function toText(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}

/** The object that bytes are the JSON of; `undefined` if they are not JSON, or not an object's. */
export function parseObject(bytes: Uint8Array): JsonObject | undefined {
  try {
    return toObject(JSON.parse(decodeUtf8(bytes)));
  } catch {
    // Cut, or not JSON: what that means differs, so the caller says it.
    return undefined;
  }
}
