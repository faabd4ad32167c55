/**
 * Owns what each path means. The one table of routes: what is not in it is refused.
 * Invariant: a request is read once, from its raw target; a path that only looks like one of ours (escaped, doubled, with dots) is none.
 */
import type { ApiName, ProviderName } from "./apis.ts";
import { headerOf, type RawHeaders } from "./headers.ts";

export type Route =
  /** Decided, forwarded and metered. */
  | { kind: "metered"; provider: ProviderName; api: ApiName; path: string }
  /** Costs nothing at the provider: forwarded as it is. */
  | { kind: "free"; provider: ProviderName; method: Method; path: string }
  /** About batches: handed in and reserved, or free, but read along with. `batchId`: the one it is about. */
  | {
      kind: "batch";
      provider: ProviderName;
      action: BatchAction;
      batchId: string | undefined;
      method: Method;
      path: string;
    }
  | { kind: "health" }
  | { kind: "ready" }
  /** A provider's path that is not metered here. */
  | { kind: "not_metered"; provider: ProviderName; path: string }
  | { kind: "ambiguous"; path: string }
  | { kind: "wrong_method"; provider: ProviderName; path: string; allowed: string }
  | { kind: "unknown"; path: string };

type Method = "GET" | "POST" | "DELETE";

/** What a request about batches asks for. */
export type BatchAction = "submit" | "list" | "read" | "cancel" | "results" | "delete";

const FREE_MODEL = /^\/v1\/models\/[A-Za-z0-9._:@-]+$/;

/** @param target the request target as it stands in the request line. */
export function routeOf(method: string, target: string, headers: RawHeaders): Route {
  const queryAt = target.indexOf("?");
  const path = queryAt < 0 ? target : target.slice(0, queryAt);
  const query = queryAt < 0 ? "" : target.slice(queryAt);
  if (path === "/healthz") return { kind: "health" };
  if (path === "/readyz") return { kind: "ready" };
  if (!/^\/[A-Za-z0-9._:@/-]*$/.test(path) || path.includes("//") || /(^|\/)\.{1,2}(\/|$)/.test(path))
    return { kind: "unknown", path };

  const prefixed = /^\/(anthropic|openai)(?=\/v1\/)/.exec(path);
  const plain = prefixed === null ? path : path.slice(prefixed[0].length);
  if (!plain.startsWith("/v1/")) return { kind: "unknown", path };
  const provider = (prefixed?.[1] as ProviderName | undefined) ?? providerOf(plain, headers);
  if (provider === undefined) return { kind: "ambiguous", path };
  return routeAmong(ROWS[provider], { provider, method, path: plain, query });
}

/** Whose path it is where no prefix says so. Models and files are both's. */
function providerOf(path: string, headers: RawHeaders): ProviderName | undefined {
  if (path !== "/v1/models" && !FREE_MODEL.test(path) && !FILES.test(path))
    return OPENAI_ONLY.test(path) ? "openai" : "anthropic";
  if (headerOf(headers, "anthropic-version") !== undefined) return "anthropic";
  return /^Bearer /i.test(headerOf(headers, "authorization") ?? "") ? "openai" : undefined;
}

const FILES = /^\/v1\/files(\/|$)/;

/** What Anthropic has no paths for: also those of it that are refused, so that its clients are told in their own words. */
const OPENAI_ONLY =
  /^\/v1\/(chat|responses|embeddings|completions|images|audio|moderations|realtime|conversations|vector_stores|fine_tuning|assistants|threads|uploads|videos|evals|batches)(\/|$)/;

interface Row {
  path: RegExp;
  method: Method;
  /** Absent: it costs nothing. */
  api?: ApiName;
  /** Present: it is about batches; the path's first group is the one it is about. */
  batch?: BatchAction;
}

const MODELS: Row[] = [{ path: /^\/v1\/models(\/[A-Za-z0-9._:@-]+)?$/, method: "GET" }];

/** All that is passed on, by provider. */
const ROWS: Readonly<Record<ProviderName, readonly Row[]>> = {
  anthropic: [
    { path: /^\/v1\/messages$/, method: "POST", api: "messages" },
    { path: /^\/v1\/messages\/count_tokens$/, method: "POST" },
    { path: /^\/v1\/messages\/batches$/, method: "POST", batch: "submit" },
    { path: /^\/v1\/messages\/batches$/, method: "GET", batch: "list" },
    { path: /^\/v1\/messages\/batches\/([A-Za-z0-9_-]+)$/, method: "GET", batch: "read" },
    { path: /^\/v1\/messages\/batches\/([A-Za-z0-9_-]+)$/, method: "DELETE", batch: "delete" },
    { path: /^\/v1\/messages\/batches\/([A-Za-z0-9_-]+)\/cancel$/, method: "POST", batch: "cancel" },
    { path: /^\/v1\/messages\/batches\/([A-Za-z0-9_-]+)\/results$/, method: "GET", batch: "results" },
    ...MODELS,
  ],
  openai: [
    { path: /^\/v1\/chat\/completions$/, method: "POST", api: "chat" },
    { path: /^\/v1\/responses$/, method: "POST", api: "responses" },
    { path: /^\/v1\/embeddings$/, method: "POST", api: "embeddings" },
    // What was stored: read, listed, stopped, thrown away.
    { path: /^\/v1\/chat\/completions$/, method: "GET" },
    { path: /^\/v1\/chat\/completions\/[A-Za-z0-9_-]+(\/messages)?$/, method: "GET" },
    { path: /^\/v1\/chat\/completions\/[A-Za-z0-9_-]+$/, method: "DELETE" },
    { path: /^\/v1\/responses\/input_tokens$/, method: "POST" },
    { path: /^\/v1\/responses\/resp_[A-Za-z0-9_-]+(\/input_items)?$/, method: "GET" },
    { path: /^\/v1\/responses\/resp_[A-Za-z0-9_-]+$/, method: "DELETE" },
    { path: /^\/v1\/responses\/resp_[A-Za-z0-9_-]+\/cancel$/, method: "POST" },
    ...MODELS,
  ],
};

function routeAmong(
  rows: readonly Row[],
  { provider, method, path, query }: { provider: ProviderName; method: string; path: string; query: string },
): Route {
  const known = rows.filter((row) => row.path.test(path));
  const row = known.find((each) => each.method === method);
  const target = path + query;
  if (row?.batch !== undefined) {
    const batchId = row.path.exec(path)?.[1];
    return { kind: "batch", provider, action: row.batch, batchId, method: row.method, path: target };
  }
  if (row?.api !== undefined) return { kind: "metered", provider, api: row.api, path: target };
  if (row !== undefined) return { kind: "free", provider, method: row.method, path: target };
  const [first] = known;
  return first === undefined
    ? { kind: "not_metered", provider, path }
    : { kind: "wrong_method", provider, path, allowed: first.method };
}
