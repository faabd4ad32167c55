/**
 * Owns the sentence of every refusal: whose limit, the figures, until when, what to do.
 * Does not own statuses, headers and shapes (providers/PROVIDER/errors.ts) or when to refuse (core/decisions).
 * Invariant: a sentence is made of plain figures that the caller hands in; it quotes no prompt, no credential and no clock, tells
 * spent from held by calls in flight, and names no command or setting that does not exist.
 */
import { isSpentAtOnce, type Measure } from "../limits/limit.ts";
import { formatUsd } from "../money/money.ts";
import type { ErrorDetails, Refusal } from "./codes.ts";

/** One limit at the instant of the decision. Amounts in the measure's own unit: nano-dollars for usd, whole numbers otherwise. */
export interface LimitFigures {
  limit: string;
  /** The scope values it counted over; empty: everything. */
  scope: Readonly<Record<string, string>>;
  measure: Measure;
  amount: bigint;
  spent: bigint;
  /** Held by calls in flight. */
  reserved: bigint;
  /** The call's proven bound; absent: it has none, or it was not computed. */
  requested?: bigint;
}

/** What is spent leaves no room. `resetsAt`: ISO 8601, `null` if it never resets by itself. */
export function limitReached(figures: LimitFigures, { resetsAt }: { resetsAt: string | null }): Refusal {
  const until =
    resetsAt === null
      ? "it never resets by itself, so stop here and ask the operator to raise it"
      : `it resets at ${resetsAt}, so stop until then or ask the operator to raise it`;
  return {
    details: { ...detailsOf("limit_reached", figures), resetsAt },
    message: `${theLimit(figures)} leaves no room for this call: ${stateOf(figures)}${boundOf(figures)}; ${until}.`,
  };
}

/**
 * The call alone is larger than the limit: waiting does not help.
 *
 * @param input.leastMaxTokens the figures are those of the call with this max_tokens, the smallest that is still of use; absent: as it
 * was asked.
 * @param input.isMetered it asks no model: an API that is paid per call.
 */
export function limitTooSmall(
  figures: LimitFigures,
  input: { leastMaxTokens?: number | undefined; isMetered?: boolean } = {},
): Refusal {
  const { requested = 0n, amount, measure } = figures;
  const leastMaxTokens = HELPS[measure].includes(LOWER_MAX_TOKENS) ? input.leastMaxTokens : undefined;
  const shortest = leastMaxTokens === undefined ? "" : `, even with max_tokens ${group(BigInt(leastMaxTokens))}`;
  const ofModels = HELPS[measure].filter((help) => leastMaxTokens === undefined || help !== LOWER_MAX_TOKENS);
  const helps = input.isMetered === true ? ["ask for less at once"] : ofModels;
  return {
    details: detailsOf("limit_too_small", figures),
    message:
      `This call may need up to ${quantity(requested, measure)}${shortest}, more than ${lower(theLimit(figures))} ever ` +
      `allows (${quantity(amount, measure)}); waiting does not help: ` +
      `${listOf([...helps, "ask the operator to raise the limit"], "or")}.`,
  };
}

const LOWER_MAX_TOKENS = "lower max_tokens";

/** What a caller can do about a call that is too large. */
const HELPS: Readonly<Record<Measure, readonly string[]>> = {
  usd: [LOWER_MAX_TOKENS, "shorten the input", "use a cheaper model"],
  tokens: [LOWER_MAX_TOKENS, "shorten the input"],
  inputTokens: ["shorten the input"],
  outputTokens: [LOWER_MAX_TOKENS],
  requests: [],
  concurrency: [],
  toolCalls: [],
};

/** Nothing in the request bounds these parts, and a hard limit watches. */
export function unboundedCost(figures: LimitFigures, { parts }: { parts: readonly string[] }): Refusal {
  return {
    details: detailsOf("unbounded_cost", figures),
    message:
      `Nothing in this request bounds what ${listOf(parts)} can cost, and ${lower(theLimit(figures))} ` +
      `(${quantity(figures.amount, figures.measure)}) may not be passed; cap it in the request (max_uses on a web tool) or leave it ` +
      "out, or ask the operator to give the limit an amount to reserve for such calls (unbounded: reserve).",
  };
}

/** No price row for the model, and a hard money limit watches. */
export function unpricedModel(figures: LimitFigures | undefined, { model }: { model: string }): Refusal {
  const watched = figures === undefined ? "its cost cannot be limited" : `${lower(theLimit(figures))} cannot count it`;
  return {
    details: figures === undefined ? { code: "unpriced_model" } : detailsOf("unpriced_model", figures),
    message:
      `No price is known for the model ${quote(model)}, so ${watched}; check the spelling or use a model that has a price, or ask the ` +
      "operator to add one under prices in the configuration.",
  };
}

/** A person has closed a scope. */
export function halted({ scope, reason }: { scope: Readonly<Record<string, string>>; reason: string }): Refusal {
  return {
    details: { code: "halted", scope: { ...scope } },
    message:
      `An operator has halted ${scopeWords(scope)}${reason === "" ? "" : ` (${reason})`}; stop here: nothing is forwarded for it until ` +
      "the operator releases it.",
  };
}

/** The limit has room again within a minute. */
export function rateLimited(figures: LimitFigures, { retryAfterSeconds }: { retryAfterSeconds: number }): Refusal {
  return {
    details: detailsOf("rate_limited", figures),
    message:
      `${theLimit(figures)} has no room right now: ${stateOf(figures)}${boundOf(figures)}; wait ${seconds(retryAfterSeconds)} and send ` +
      "the same call again.",
    retryAfterSeconds,
  };
}

/** The limit has room, but from the threshold reached on calls start one after the other, and the next free start is too far away. */
export function slowedDown(figures: LimitFigures, { retryAfterSeconds }: { retryAfterSeconds: number }): Refusal {
  return {
    details: detailsOf("rate_limited", figures),
    message:
      `${theLimit(figures)} slows calls down (${stateOf(figures)}), and the next free start is too far away for this one; wait ` +
      `${seconds(retryAfterSeconds)} and send the same call again, or run fewer calls at once.`,
    retryAfterSeconds,
  };
}

/** There is money, but calls in flight hold it, and this call has waited as long as it may. */
export function heldByCallsInFlight(figures: LimitFigures, { retryAfterSeconds }: { retryAfterSeconds: number }): Refusal {
  return {
    details: detailsOf("held_by_calls_in_flight", figures),
    message:
      `${theLimit(figures)} is not used up, but calls in flight hold what is left: ${stateOf(figures)}${boundOf(figures)}; wait ` +
      `${seconds(retryAfterSeconds)} and send the same call again, or run fewer calls at once.`,
    retryAfterSeconds,
  };
}

/** The ledger cannot be written, so nothing can be allowed. */
export function ledgerUnavailable({ reason }: { reason: string }): Refusal {
  return {
    details: { code: "ledger_unavailable" },
    message:
      `The ledger cannot be written (${reason}), so no call is forwarded; try again in a few seconds, and if it lasts tell the operator: ` +
      "the gateway's log names the file and the cause.",
  };
}

/** Turned away before any work. */
export function overloaded({ reason }: { reason: string }): Refusal {
  return {
    details: { code: "overloaded" },
    message: `The gateway is overloaded (${reason}); nothing was forwarded or charged: try again in a few seconds.`,
  };
}

/** What could not be read, and where. */
export interface InvalidRequestInput {
  /** "request body", "header x-purser-deadline", … */
  where: string;
  /** Continues "… is not usable: ": the place, what was found, what is allowed. */
  problem: string;
}

/** The request itself is wrong: repeating it changes nothing. */
export function invalidRequest({ where, problem }: InvalidRequestInput): Refusal {
  return {
    details: { code: "invalid_request" },
    message: `The ${where} is not usable: ${problem}. Nothing was forwarded or charged; correct it and send it again.`,
  };
}

/** No usable credential. `problem` never holds the credential itself. */
export function unauthorized({ problem }: { problem: string }): Refusal {
  return {
    details: { code: "unauthorized" },
    message: `The credential is not accepted: ${problem}; send a key in x-api-key or as Authorization: Bearer, or ask the operator for one.`,
  };
}

/** Neither provider has such a path. */
export function unknownPath({ method, path }: { method: string; path: string }): Refusal {
  return {
    details: { code: "unknown_path" },
    message: `Nothing is served at ${method} ${shorten(path)}; check the base URL and the path (Anthropic: /v1/messages).`,
  };
}

/** The provider has it, but it would cost money that nothing here counts. */
export function notMetered({ method, path }: { method: string; path: string }): Refusal {
  return {
    details: { code: "not_metered" },
    message:
      `${method} ${shorten(path)} is not metered, so it is not forwarded: what it costs would be under no limit; use ` +
      "POST /v1/messages instead, or ask the operator.",
  };
}

/** Several providers have it, and nothing in the request says which is meant. */
export function ambiguousPath({ path, prefixes }: { path: string; prefixes: readonly string[] }): Refusal {
  return {
    details: { code: "ambiguous_path" },
    message: `${shorten(path)} belongs to more than one provider; put ${listOf(prefixes, "or")} in front of it in the base URL.`,
  };
}

/** A call with the same idempotency key is open, or was made within a day. */
export function duplicateCall({ callId }: { callId: string }): Refusal {
  return {
    details: { code: "duplicate_call", callId },
    message:
      `The idempotency key was already used by call ${callId}, and no answer is stored; nothing was forwarded or charged: use a new key ` +
      "for a new call.",
  };
}

/** More bytes than are read. `foundBytes` is absent where reading stopped before the end. */
export function requestTooLarge({ foundBytes, bytesMax }: { foundBytes: number | undefined; bytesMax: number }): Refusal {
  const found = foundBytes === undefined ? "has more" : `has ${group(BigInt(foundBytes))}`;
  return {
    details: { code: "request_too_large" },
    message: `The request body ${found} bytes, allowed are ${group(BigInt(bytesMax))}; shorten it. Nothing was forwarded or charged.`,
  };
}

/** A content-encoding that cannot be read, and what cannot be read cannot be bounded. */
export function unsupportedEncoding({ found, allowed }: { found: string; allowed: readonly string[] }): Refusal {
  return {
    details: { code: "unsupported_encoding" },
    message: `The content-encoding ${quote(found)} cannot be read, allowed is ${listOf(allowed, "or")}; nothing was forwarded or charged.`,
  };
}

/** The connection to the provider failed. `wasSent`: the request had already left, so the provider may have charged for it. */
export function upstreamUnreachable({ host, reason, wasSent }: { host: string; reason: string; wasSent: boolean }): Refusal {
  const outcome = wasSent
    ? "the request had already left, so the provider may charge for it and its bound is recorded as spent"
    : "nothing was sent or charged";
  return {
    details: { code: "upstream_unreachable" },
    message: `The connection to the provider at ${host} failed (${reason}); ${outcome}: try again, and if it lasts tell the operator.`,
  };
}

/** The provider did not answer in time: it may have charged for the call. */
export function upstreamTimeout({ host, afterSeconds }: { host: string; afterSeconds: number }): Refusal {
  return {
    details: { code: "upstream_timeout" },
    message:
      `The provider at ${host} did not answer within ${seconds(afterSeconds)}; it may still charge for this call, so its bound is ` +
      "recorded as spent: try again only if the work is worth it twice.",
  };
}

function detailsOf(code: ErrorDetails["code"], figures: LimitFigures): ErrorDetails {
  const { limit, scope, measure, amount, spent, reserved, requested } = figures;
  const plain = (value: bigint): string | number => (measure === "usd" ? formatUsd(value) : Number(value));
  return {
    code,
    limit,
    scope: { ...scope },
    measure,
    amount: plain(amount),
    spent: plain(spent),
    reserved: plain(reserved),
    ...(requested === undefined ? {} : { requested: plain(requested) }),
  };
}

function theLimit({ limit, scope }: LimitFigures): string {
  return `The limit ${limit} of ${scopeWords(scope)}`;
}

function scopeWords(scope: Readonly<Record<string, string>>): string {
  const words = Object.entries(scope)
    .filter(([name]) => name !== "all")
    .map(([name, value]) => `${name} ${value}`);
  return words.length === 0 ? "all calls" : listOf(words);
}

function stateOf({ amount, spent, reserved, measure }: LimitFigures): string {
  const held = reserved === 0n ? "" : ` and ${quantity(reserved, measure)} held by calls in flight`;
  if (measure === "concurrency") return `${group(reserved)} of ${quantity(amount, measure)} are running`;
  return `${number(spent, measure)} of ${quantity(amount, measure)} are ${measure === "usd" ? "spent" : "used"}${held}`;
}

function boundOf({ requested, measure }: LimitFigures): string {
  if (requested === undefined || measure === "concurrency" || isSpentAtOnce(measure)) return "";
  return `, and this call may need up to ${quantity(requested, measure)}`;
}

const UNITS: Readonly<Record<Measure, string>> = {
  usd: "USD",
  tokens: "tokens",
  inputTokens: "input tokens",
  outputTokens: "output tokens",
  requests: "requests",
  concurrency: "calls at once",
  toolCalls: "tool calls",
};

function quantity(value: bigint, measure: Measure): string {
  return `${number(value, measure)} ${UNITS[measure]}`;
}

function number(value: bigint, measure: Measure): string {
  return measure === "usd" ? formatUsd(value) : group(value);
}

/** 1234567 → "1,234,567". */
function group(value: bigint): string {
  return value.toString().replace(/\B(?=(\d{3})+$)/g, ",");
}

function seconds(count: number): string {
  return count === 1 ? "1 second" : `${count} seconds`;
}

function listOf(words: readonly string[], conjunction = "and"): string {
  if (words.length < 2) return words[0] ?? "a part of it";
  return `${words.slice(0, -1).join(", ")} ${conjunction} ${words.at(-1)}`;
}

function lower(sentence: string): string {
  return `t${sentence.slice(1)}`;
}

function quote(text: string): string {
  return JSON.stringify(shorten(text));
}

/** What a caller sent is shown so far that it can be recognised. */
function shorten(text: string): string {
  return text.length > 120 ? `${text.slice(0, 120)}…` : text;
}
