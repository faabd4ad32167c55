/**
 * Owns which addresses are a provider's. Does not own what a path means there (exchange/routes.ts).
 * Invariant: an address is compared as it will be called, not as it is written.
 */
import type { ProviderName } from "../exchange/apis.ts";
import { routeOf, type Route } from "../exchange/routes.ts";
import type { RawHeaders } from "../exchange/headers.ts";

/** A provider, and where it is called. */
export interface Target {
  provider: ProviderName;
  /** Its address; the path goes before every path of the provider's. */
  base: URL;
}

/** An address inside a provider. */
export interface Place {
  target: Target;
  /** The provider's own path, with its query. */
  path: string;
}

/** Where an address lies; `undefined`: it is nobody's we know. */
export function placeOf(url: URL, targets: readonly Target[]): Place | undefined {
  for (const target of targets) {
    const { base } = target;
    const prefix = base.pathname.replace(/\/+$/, "");
    if (hostOf(url) !== hostOf(base) || !url.pathname.startsWith(`${prefix}/`)) continue;
    return { target, path: url.pathname.slice(prefix.length) + url.search };
  }
  return undefined;
}

/** A dot behind the last label names the same host. */
function hostOf({ protocol, hostname, port }: URL): string {
  return `${protocol}//${hostname.replace(/\.$/, "")}:${port}`;
}

/** What a path means at a provider that is known by its address. */
export function routeAt({ target, path }: Place, method: string, headers: RawHeaders): Route {
  return routeOf(method, `/${target.provider}${path}`, headers);
}

/** The address of another path of the same provider. */
export function urlAt({ base }: Target, path: string): string {
  return base.origin + base.pathname.replace(/\/+$/, "") + path;
}
