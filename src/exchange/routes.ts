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
  | { kind: "free"; provider: ProviderName; path: string }
  | { kind: "health" }
  | { kind: "ready" }
  /** A provider's path that is not metered here. */
  | { kind: "not_metered"; path: string }
  | { kind: "ambiguous"; path: string }
  | { kind: "wrong_method"; path: string; allowed: string }
  | { kind: "unknown"; path: string };

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
  const provider = prefixed?.[1] ?? providerOf(plain, headers);
  if (provider === undefined) return { kind: "ambiguous", path };
  if (provider !== "anthropic") return { kind: "not_metered", path };
  return anthropicRoute(method, plain, query);
}

/** Whose path it is where no prefix says so. Only the listing of models is both's. */
function providerOf(path: string, headers: RawHeaders): "anthropic" | "openai" | undefined {
  if (path !== "/v1/models" && !FREE_MODEL.test(path)) return "anthropic";
  if (headerOf(headers, "anthropic-version") !== undefined) return "anthropic";
  return headerOf(headers, "authorization") === undefined ? undefined : "openai";
}

function anthropicRoute(method: string, path: string, query: string): Route {
  const provider = "anthropic";
  const target = path + query;
  if (path === "/v1/messages")
    return method === "POST" ? { kind: "metered", provider, api: "messages", path: target } : wrongMethod(path, "POST");
  if (path === "/v1/messages/count_tokens")
    return method === "POST" ? { kind: "free", provider, path: target } : wrongMethod(path, "POST");
  if (path === "/v1/models" || FREE_MODEL.test(path)) {
    return method === "GET" ? { kind: "free", provider, path: target } : wrongMethod(path, "GET");
  }
  return { kind: "not_metered", path };
}

function wrongMethod(path: string, allowed: string): Route {
  return { kind: "wrong_method", path, allowed };
}
