/**
 * Owns which headers mean something to Purser and which travel on. Does not own what labels count for (engine/identify).
 * Invariants: hop-by-hop headers stop here in both directions; a virtual key never leaves, a caller's own credential goes only where
 * it was meant to go; everything unknown travels as it came.
 */
import type { Labels } from "../engine/identify.ts";
import { labelProblem, TAG_NAME, TAGS_MAX } from "../engine/identify.ts";

/** Header names and values as they came, alternating. */
export type RawHeaders = readonly string[];

const HOP_BY_HOP = new Set([
  "connection",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);
/** Ours, the connection's, or made anew for the upstream. */
const NOT_FORWARDED = new Set(["host", "content-length", "content-encoding", "accept-encoding", "expect", "cookie", "forwarded"]);

/** First value of a header, or `undefined`. @param name in lower case. */
export function headerOf(headers: RawHeaders, name: string): string | undefined {
  for (let index = 0; index < headers.length; index += 2) {
    const found = headers[index] ?? "";
    if (found.length === name.length && (found === name || found.toLowerCase() === name)) return headers[index + 1];
  }
  return undefined;
}

/** What the providers' own headers ask for, as they came (`anthropic-beta`, `openai-beta`): it may change how the body is read. */
export function variantOf(headers: RawHeaders): string {
  const own: string[] = [];
  for (let index = 0; index < headers.length; index += 2) {
    const name = (headers[index] ?? "").toLowerCase();
    if (name.startsWith("anthropic-") || name.startsWith("openai-")) own.push(name, headers[index + 1] ?? "");
  }
  return JSON.stringify(own);
}

/** The credential a caller presents, by either door. */
export type Credential =
  | { outcome: "none" }
  | { outcome: "one"; value: string }
  | { outcome: "two_different" }
  /** A virtual key where nobody looks for one: it would travel on to the provider. */
  | { outcome: "misplaced"; where: string };

/** Reads `x-api-key` and `authorization: Bearer`, every one of them; several that are equal are one. */
export function credentialOf(headers: RawHeaders): Credential {
  const values = new Set<string>();
  for (let index = 0; index < headers.length; index += 2) {
    const name = headers[index]?.toLowerCase() ?? "";
    const value = headers[index + 1] ?? "";
    const found =
      name === "x-api-key" ? value.trim() : name === "authorization" ? /^Bearer +(.+)$/i.exec(value)?.[1]?.trim() : undefined;
    if (found !== undefined && found !== "") values.add(found);
    else if (holdsVirtualKey(value)) return { outcome: "misplaced", where: `the header ${name}` };
  }
  const [value] = values;
  if (value === undefined) return { outcome: "none" };
  return values.size === 1 ? { outcome: "one", value } : { outcome: "two_different" };
}

/** Looks into Basic credentials as well, since that is what tools make of a key in an address. */
function holdsVirtualKey(value: string): boolean {
  const basic = /^Basic +(.+)$/i.exec(value)?.[1];
  return /prs_[a-z0-9]{8}_/.test(basic === undefined ? value : Buffer.from(basic, "base64").toString("latin1"));
}

/**
 * What goes upstream.
 *
 * @param credential a header that replaces every credential of the caller's; `undefined`: the caller's own goes on as it came.
 * @param foreign the header, in lower case, in which only another provider's clients show a credential: it stops here.
 */
export function upstreamHeaders(
  headers: RawHeaders,
  credential: readonly [name: string, value: string] | undefined,
  foreign?: string,
): string[] {
  const listed = connectionTokens(headers);
  const forwarded: string[] = [];
  for (let index = 0; index < headers.length; index += 2) {
    const name = headers[index] ?? "";
    const lower = name.toLowerCase();
    if (HOP_BY_HOP.has(lower) || NOT_FORWARDED.has(lower) || listed.has(lower)) continue;
    if (lower.startsWith("x-purser-") || lower.startsWith("x-forwarded-")) continue;
    if (lower === foreign) continue;
    if (credential !== undefined && (lower === "x-api-key" || lower === "authorization")) continue;
    forwarded.push(name, headers[index + 1] ?? "");
  }
  // Usage has to be read: an answer nobody compressed needs no decoding.
  forwarded.push("accept-encoding", "identity");
  if (credential !== undefined) forwarded.push(...credential);
  return forwarded;
}

/** What goes back to the caller: the upstream's headers less those of the connection. */
export function answerHeaders(headers: RawHeaders): string[] {
  const listed = connectionTokens(headers);
  const kept: string[] = [];
  for (let index = 0; index < headers.length; index += 2) {
    const lower = (headers[index] ?? "").toLowerCase();
    if (HOP_BY_HOP.has(lower) || listed.has(lower) || lower.startsWith("x-purser-")) continue;
    kept.push(headers[index] ?? "", headers[index + 1] ?? "");
  }
  return kept;
}

const NOTHING_LISTED: ReadonlySet<string> = new Set();

/** What any of the `connection` headers lists: it belongs to this connection. */
function connectionTokens(headers: RawHeaders): ReadonlySet<string> {
  let tokens: Set<string> | undefined;
  for (let index = 0; index < headers.length; index += 2) {
    // Lengths are compared first: this is on every call's path, twice, and most names are others.
    const name = headers[index] ?? "";
    if (name.length !== "connection".length || name.toLowerCase() !== "connection") continue;
    tokens ??= new Set();
    for (const token of (headers[index + 1] ?? "").split(",")) tokens.add(token.trim().toLowerCase());
  }
  return tokens ?? NOTHING_LISTED;
}

export type LabelsResult = { outcome: "read"; labels: Labels } | { outcome: "invalid"; problem: string };

/** Reads what the caller says of itself; Claude Code's own session headers count where ours are absent. */
export function labelsOf(headers: RawHeaders): LabelsResult {
  const own = ownHeaders(headers);
  if (typeof own === "string")
    return { outcome: "invalid", problem: `${own} stands twice with different values; one is allowed` };
  const labels: Labels = {};
  for (const [label, name] of LABEL_HEADERS) {
    const value = own.get(name)?.trim();
    if (value === undefined || value === "") continue;
    const problem = labelProblem(name, value);
    if (problem !== undefined) return { outcome: "invalid", problem };
    labels[label] = value;
  }
  const parent = own.get("x-purser-parent-session")?.trim();
  if (parent !== undefined && parent !== "") {
    const problem = labelProblem("x-purser-parent-session", parent);
    if (problem !== undefined) return { outcome: "invalid", problem };
    labels.parentSessions = [parent];
  }
  const tags = tagsOf(own.get("x-purser-tags"));
  if (typeof tags === "string") return { outcome: "invalid", problem: tags };
  if (tags !== undefined) labels.tags = tags;
  return { outcome: "read", labels: labels.session === undefined ? withClaudeCode(headers, labels) : labels };
}

const LABEL_HEADERS = (["project", "agent", "session", "user", "task"] as const).map(
  (label) => [label, `x-purser-${label}`] as const,
);

/** By name; or the name of one that stands twice with different values: which counts would be a guess, and proxies guess differently. */
function ownHeaders(headers: RawHeaders): ReadonlyMap<string, string> | string {
  const own = new Map<string, string>();
  for (let index = 0; index < headers.length; index += 2) {
    const name = headers[index]?.toLowerCase() ?? "";
    if (!name.startsWith("x-purser-")) continue;
    const value = headers[index + 1] ?? "";
    if ((own.get(name) ?? value) !== value) return name;
    own.set(name, value);
  }
  return own;
}

function tagsOf(header: string | undefined): Record<string, string> | string | undefined {
  if (header === undefined || header.trim() === "") return undefined;
  const pairs = header.split(",").map((pair) => pair.trim());
  if (pairs.length > TAGS_MAX) return `x-purser-tags holds ${pairs.length} tags; at most ${TAGS_MAX} are allowed`;
  const tags: Record<string, string> = Object.create(null) as Record<string, string>;
  for (const pair of pairs) {
    const [name = "", ...rest] = pair.split("=");
    const value = rest.join("=").trim();
    if (rest.length === 0 || !TAG_NAME.test(name.trim())) {
      return `x-purser-tags holds ${JSON.stringify(pair)}; "name=value, name=value" is allowed, names of letters, digits, "_", "." and "-"`;
    }
    if (name.trim() in tags) return `x-purser-tags names ${name.trim()} twice; once is allowed`;
    const problem = labelProblem(`x-purser-tags: ${name.trim()}`, value);
    if (problem !== undefined) return problem;
    tags[name.trim()] = value;
  }
  return tags;
}

/** Claude Code names its session always, and each subagent: a subagent is a session of its own that counts for its parents. */
function withClaudeCode(headers: RawHeaders, labels: Labels): Labels {
  const session = headerOf(headers, "x-claude-code-session-id");
  if (session === undefined || session === "" || labelProblem("", session) !== undefined) return labels;
  const agent = headerOf(headers, "x-claude-code-agent-id");
  const parentAgent = headerOf(headers, "x-claude-code-parent-agent-id");
  if (agent === undefined || agent === "" || labelProblem("", agent) !== undefined) return { ...labels, session };
  const parents = parentAgent === undefined || parentAgent === "" ? [session] : [`${session}/${parentAgent}`, session];
  return { ...labels, session: `${session}/${agent}`, parentSessions: [...parents, ...(labels.parentSessions ?? [])] };
}

/**
 * When the caller stops waiting: its own header, or the timeout its SDK announces, whichever is sooner.
 *
 * @returns epoch ms; `undefined`: it says nothing; a text: why the header cannot be used.
 */
export function deadlineOf(headers: RawHeaders, nowMs: number): number | string | undefined {
  const own = headerOf(headers, "x-purser-deadline")?.trim();
  const timeoutSeconds = Number(headerOf(headers, "x-stainless-timeout"));
  const bySdk = Number.isFinite(timeoutSeconds) && timeoutSeconds > 0 ? nowMs + timeoutSeconds * 1_000 : Infinity;
  if (own === undefined || own === "") return bySdk === Infinity ? undefined : bySdk;
  const atMs = /^\d{1,12}$/.test(own) ? nowMs + Number(own) : parseInstant(own);
  if (atMs === undefined) {
    return `x-purser-deadline is ${JSON.stringify(own)}; an ISO 8601 instant with its zone (2026-11-22T10:00:00Z), or whole milliseconds from now, are allowed`;
  }
  return Math.min(atMs, bySdk);
}

const INSTANT = /^(\d{4}-\d{2}-)(\d{2})T\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:\d{2})$/;

/** Only what ISO 8601 writes: `Date.parse` also takes words, dates without a zone, and the 30th of February. */
function parseInstant(text: string): number | undefined {
  const [, yearAndMonth, day] = INSTANT.exec(text) ?? [];
  if (yearAndMonth === undefined || day === undefined) return undefined;
  const atMs = Date.parse(text);
  const dayExists = new Date(`${yearAndMonth}${day}T00:00:00Z`).toISOString().slice(8, 10) === day;
  return Number.isNaN(atMs) || !dayExists ? undefined : atMs;
}

const IDEMPOTENCY_KEY_CHARS_MAX = 255;

/** The caller's name for this call, by which a second sending of it is known. */
export function idempotencyKeyOf(
  headers: RawHeaders,
): { outcome: "read"; key: string | undefined } | { outcome: "invalid"; problem: string } {
  const key = headerOf(headers, "x-purser-idempotency-key")?.trim() ?? "";
  if (key.length > IDEMPOTENCY_KEY_CHARS_MAX) {
    const problem = `x-purser-idempotency-key has ${key.length} characters; at most ${IDEMPOTENCY_KEY_CHARS_MAX} are allowed`;
    return { outcome: "invalid", problem };
  }
  return { outcome: "read", key: key === "" ? undefined : key };
}
