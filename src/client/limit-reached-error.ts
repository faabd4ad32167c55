/**
 * Owns the typed decision behind what an SDK throws. Does not own the answer it was made of (providers/PROVIDER/errors.ts).
 * Invariant: only an answer of Purser's own is taken for one: a provider's error without our details is nobody's limit.
 */
import type { ErrorCode, ErrorDetails, Refusal } from "../core/errors/codes.ts";

/** Codes by which a limit, or a person, says no. */
const LIMIT_CODES = [
  "limit_reached",
  "limit_too_small",
  "unbounded_cost",
  "unpriced_model",
  "halted",
  "rate_limited",
  "held_by_calls_in_flight",
] as const satisfies readonly ErrorCode[];

/** One of the codes of `docs/errors/` by which a limit says no. */
export type LimitCode = (typeof LIMIT_CODES)[number];

const BRAND = Symbol.for("purser.LimitReachedError");

/**
 * A limit refused a call.
 *
 * @example
 * try {
 *   await anthropic.messages.create(request);
 * } catch (error) {
 *   const limit = LimitReachedError.from(error);
 *   if (limit === undefined) throw error;
 *   console.log(limit.message, limit.limit, limit.resetsAt);
 * }
 */
export class LimitReachedError extends Error {
  override readonly name = "LimitReachedError";
  readonly code: LimitCode;
  /** True if the same call may pass within a minute; an SDK has tried it again by then. */
  readonly isRetryable: boolean;
  /** The limit's name; `undefined`: the call was refused for another reason than a limit's amount. */
  readonly limit: string | undefined;
  /** The scope values it counted over, such as `{ agent: "a" }`. */
  readonly scope: Readonly<Record<string, string>>;
  /** What it counts: `usd`, `tokens`, … */
  readonly measure: string | undefined;
  /** When it clears; `null`: never by itself; `undefined`: waiting does not help, or it clears within a minute. */
  readonly resetsAt: Date | null | undefined;
  /** By which `purser calls --explain` finds the decision. */
  readonly callId: string | undefined;
  /** Everything that was said, as it was said. Amounts of usd are decimal text. */
  readonly details: Readonly<ErrorDetails>;
  readonly [BRAND] = true;

  constructor({ details, message }: Refusal, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    const code = limitCodeOf(details.code);
    if (code === undefined) throw new RangeError(`${details.code} is no refusal of a limit`);
    this.code = code;
    this.isRetryable = code === "rate_limited" || code === "held_by_calls_in_flight";
    this.limit = details.limit;
    this.scope = details.scope ?? {};
    this.measure = details.measure;
    this.resetsAt = typeof details.resetsAt === "string" ? new Date(details.resetsAt) : details.resetsAt;
    this.callId = details.callId;
    this.details = details;
  }

  /** True for a refusal that a limit, or a person, made: one that this error can be made of. */
  static isFor({ details }: Refusal): boolean {
    return limitCodeOf(details.code) !== undefined;
  }

  /** True for an error of this class, also of another copy of the package. */
  static is(error: unknown): error is LimitReachedError {
    return typeof error === "object" && error !== null && BRAND in error;
  }

  /**
   * Finds the decision in whatever an SDK throws, however it is wrapped.
   *
   * @returns `undefined` if no limit said no: the error is somebody else's.
   */
  static from(error: unknown): LimitReachedError | undefined {
    return search(error, error, new Set());
  }
}

function limitCodeOf(code: unknown): LimitCode | undefined {
  return LIMIT_CODES.find((each) => each === code);
}

/** Where SDKs and those who wrap their errors keep what was answered. */
const PLACES = ["error", "data", "responseBody", "body", "lastError", "cause", "errors", "reason", "message"];
/** More than anybody wraps; errors that hold half a program end here. */
const LOOKED_AT_MAX = 500;

function search(value: unknown, thrown: unknown, seen: Set<object>): LimitReachedError | undefined {
  if (LimitReachedError.is(value)) return value;
  if (typeof value === "string") return searchText(value, thrown, seen);
  if (typeof value !== "object" || value === null || seen.has(value) || seen.size >= LOOKED_AT_MAX) return undefined;
  seen.add(value);
  const inner = Array.isArray(value) ? value : PLACES.map((place) => Reflect.get(value, place) as unknown);
  for (const each of inner) {
    const found = search(each, thrown, seen);
    if (found !== undefined) return found;
  }
  // Behind what is inside: an SDK may repeat the details beside a message of its own.
  const refusal = refusalIn(value);
  return refusal === undefined ? undefined : new LimitReachedError(refusal, thrown);
}

/** An answer that was kept as text, alone or behind a status: `402 {"type":"error",…}`. */
function searchText(text: string, thrown: unknown, seen: Set<object>): LimitReachedError | undefined {
  const start = text.indexOf("{");
  if (start < 0 || !text.includes('"details"')) return undefined;
  try {
    return search(JSON.parse(text.slice(start, text.lastIndexOf("}") + 1)), thrown, seen);
  } catch {
    // Text that is no JSON is no answer of ours.
    return undefined;
  }
}

/** The error object of an answer: `{ message, details: { code, … } }`. */
function refusalIn(value: object): Refusal | undefined {
  const details: unknown = Reflect.get(value, "details");
  const message: unknown = Reflect.get(value, "message");
  if (typeof details !== "object" || details === null || typeof message !== "string") return undefined;
  const code: unknown = Reflect.get(details, "code");
  if (limitCodeOf(code) === undefined) return undefined;
  // Somebody else's error may have such a code; ours names its call or its limit.
  if (typeof Reflect.get(details, "callId") !== "string" && typeof Reflect.get(details, "limit") !== "string") return undefined;
  return { details: details as ErrorDetails, message };
}
