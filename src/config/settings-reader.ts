/**
 * Owns the settings that are no limits: upstreams, listeners, the replacement of models, what to do when something is missing.
 * Does not own prices (prices-reader.ts) or limits.
 * Invariant: an upstream is a bare http or https address; no problem ever shows a password that stood in one.
 */
import type { ConfigNode } from "./node.ts";
import { describeFound, readChoice, readEntries, readFields, readText, readWholeNumber } from "./fields.ts";
import type { Fields } from "./fields.ts";
import type { Problems } from "./problems.ts";
import { quote } from "./problems.ts";

/** Names and addresses that only this machine can reach. */
export const LOOPBACK = /^(?:localhost|127(?:\.\d+){3}|::1|\[::1\])$/;

/** Where calls are sent on to: an address without a slash at its end. */
export interface Upstreams {
  anthropic: string;
  openai: string;
}

/** Where Purser listens, and what it takes. */
export interface ServerSettings {
  host: string;
  /** 0: any free port. */
  port: number;
  adminHost: string;
  adminPort: number;
  bodyBytesMax: number;
  /** Whether callers off loopback may use their own provider keys. */
  passthroughKeys: "allow" | "deny";
}

export const UPSTREAM_KEYS = ["anthropic", "openai"] as const;
export const SERVER_KEYS = ["host", "port", "adminHost", "adminPort", "bodyBytesMax", "passthroughKeys"] as const;
export const LEDGER_KEYS = ["keepDays"] as const;
export const MODELS_KEYS = ["downgrade"] as const;
export const PASSTHROUGH_CHOICES = ["allow", "deny"] as const;

/** The providers' own addresses. */
export const UPSTREAMS_DEFAULT: Upstreams = { anthropic: "https://api.anthropic.com", openai: "https://api.openai.com" };

/** 32 MiB: the largest body Anthropic takes for a message. @see https://docs.anthropic.com/en/api/errors */
const BODY_BYTES_DEFAULT = 32 * 1024 * 1024;
export const BODY_BYTES = { min: 1_024n, max: 1_073_741_824n };
/** A month, and some days: its reports and limits are never cut. */
export const KEEP_DAYS = { min: 35n, max: 36_500n };
export const PORT = { min: 0n, max: 65_535n };

export const SERVER_DEFAULT: ServerSettings = {
  host: "127.0.0.1",
  port: 4141,
  adminHost: "127.0.0.1",
  adminPort: 4142,
  bodyBytesMax: BODY_BYTES_DEFAULT,
  passthroughKeys: "deny",
};

/** Reads `upstreams:`. What is not said, and what is wrong, keeps its default. */
export function readUpstreams(node: ConfigNode | undefined, problems: Problems): Upstreams {
  const fields = node === undefined ? undefined : readFields(node, UPSTREAM_KEYS, problems);
  const upstreams = { ...UPSTREAMS_DEFAULT };
  for (const [name, entry] of fields ?? []) upstreams[name] = readUpstream(entry.value, problems) ?? upstreams[name];
  return upstreams;
}

function readUpstream(node: ConfigNode, problems: Problems): string | undefined {
  const allowed = "an http or https address like https://api.anthropic.com, without user, query or fragment";
  const text = readText(node, allowed, problems);
  if (text === undefined) return undefined;
  const url = URL.parse(text);
  if (url === null || !/^https?:\/\//i.test(text)) return problems.add(node.place, redact(text), allowed);
  if (url.username !== "" || url.password !== "") {
    return problems.add(
      node.place,
      "an address with a user or password in it",
      `${allowed}: keys come from ANTHROPIC_API_KEY and OPENAI_API_KEY`,
    );
  }
  if (/[?#]/.test(text)) return problems.add(node.place, redact(text), allowed);
  const path = url.pathname.replace(/\/+$/, "");
  if (path.endsWith("/v1"))
    return problems.add(node.place, quote(text), "the address without /v1: every call brings its own path");
  return `${url.origin}${path}`;
}

/** A text that may hold a secret, without what stands before an `@` or behind a `?`. */
function redact(text: string): string {
  return quote(text.replace(/\/\/[^/@]*@/, "//…@").replace(/[?#].*$/s, (rest) => `${rest.slice(0, 1)}…`));
}

/** Reads `server:`. What is not said, and what is wrong, keeps its default. */
export function readServer(node: ConfigNode | undefined, problems: Problems): ServerSettings {
  const fields = node === undefined ? undefined : readFields(node, SERVER_KEYS, problems);
  if (node === undefined || fields === undefined) return SERVER_DEFAULT;
  const server: ServerSettings = {
    host: readHost(fields, "host", problems),
    port: readNumber(fields, "port", PORT, problems),
    adminHost: readHost(fields, "adminHost", problems),
    adminPort: readNumber(fields, "adminPort", PORT, problems),
    bodyBytesMax: readNumber(fields, "bodyBytesMax", BODY_BYTES, problems),
    passthroughKeys: readPassthrough(fields, problems),
  };
  if (server.port !== 0 && server.port === server.adminPort) {
    const place = (fields.get("adminPort") ?? fields.get("port"))?.value.place ?? node.place;
    problems.add(place, `port ${server.port} twice`, "different ports for calls (port) and for administration (adminPort)");
  }
  return server;
}

type ServerFields = Fields<(typeof SERVER_KEYS)[number]>;

function readHost(fields: ServerFields, name: "host" | "adminHost", problems: Problems): string {
  const node = fields.get(name)?.value;
  if (node === undefined) return SERVER_DEFAULT[name];
  if (node.kind === "text" && /^[\w.:-]+$/.test(node.text) && !/^[^:]*:\d*$/.test(node.text)) return node.text;
  problems.add(node.place, describeFound(node), "a host name or address alone, like 127.0.0.1, 0.0.0.0 or ::1");
  return SERVER_DEFAULT[name];
}

function readNumber(
  fields: ServerFields,
  name: "port" | "adminPort" | "bodyBytesMax",
  range: { min: bigint; max: bigint },
  problems: Problems,
): number {
  const node = fields.get(name)?.value;
  const value = node === undefined ? undefined : readWholeNumber(node, range, problems);
  return value === undefined ? SERVER_DEFAULT[name] : Number(value);
}

function readPassthrough(fields: ServerFields, problems: Problems): ServerSettings["passthroughKeys"] {
  const node = fields.get("passthroughKeys")?.value;
  return (node === undefined ? undefined : readChoice(node, PASSTHROUGH_CHOICES, problems)) ?? SERVER_DEFAULT.passthroughKeys;
}

/** Reads `ledger: { keepDays }`; `undefined`: nothing is ever archived by itself. */
export function readKeepDays(node: ConfigNode | undefined, problems: Problems): number | undefined {
  const fields = node === undefined ? undefined : readFields(node, LEDGER_KEYS, problems);
  const field = fields?.get("keepDays")?.value;
  const days = field === undefined ? undefined : readWholeNumber(field, KEEP_DAYS, problems);
  return days === undefined ? undefined : Number(days);
}

/** Notes an upstream that is Purser's own address: every call would go round until nothing is left. */
export function checkNoLoop(
  upstreams: Upstreams,
  server: ServerSettings,
  places: { upstreams: ConfigNode | undefined },
  problems: Problems,
): void {
  for (const name of UPSTREAM_KEYS) {
    const { hostname, port } = new URL(upstreams[name]);
    const isOwnHost = LOOPBACK.test(hostname) || hostname === server.host;
    if (!isOwnHost || Number(port) !== server.port || server.port === 0) continue;
    const entry = places.upstreams?.kind === "map" ? places.upstreams.entries.find(({ key }) => key === name) : undefined;
    if (entry !== undefined) problems.add(entry.value.place, quote(upstreams[name]), "the provider's address, not Purser's own");
  }
}

/** Reads `models: { downgrade }`; a chain may have several steps, and never comes back to where it began. */
export function readDowngrade(node: ConfigNode | undefined, problems: Problems): ReadonlyMap<string, string> {
  const downgrade = new Map<string, string>();
  const fields = node === undefined ? undefined : readFields(node, MODELS_KEYS, problems);
  const field = fields?.get("downgrade")?.value;
  const entries =
    field === undefined ? [] : (readEntries(field, "models and what each is replaced by: { MODEL: MODEL }", problems) ?? []);
  for (const { key, value } of entries) {
    const to = readText(value, "the name of a model", problems);
    if (to !== undefined) downgrade.set(key, to);
  }
  for (const { key, value } of entries) {
    if (leadsTo(downgrade, key))
      problems.add(value.place, quote(downgrade.get(key) ?? ""), `a model that does not lead back to ${quote(key)}`);
  }
  return downgrade;
}

function leadsTo(downgrade: ReadonlyMap<string, string>, model: string): boolean {
  let next = downgrade.get(model);
  for (let steps = 0; next !== undefined && steps < downgrade.size; steps += 1) {
    if (next === model) return true;
    next = downgrade.get(next);
  }
  return false;
}
