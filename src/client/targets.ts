/**
 * Owns which addresses are a provider's. Does not own what a path means there (exchange/routes.ts).
 * Invariant: an address is compared as it will be called, not as it is written.
 */
import { UPSTREAMS_DEFAULT, type Upstreams } from "../config/settings-reader.ts";
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
  /** Other providers at the very same address: there the request says whose it is. */
  rivals?: readonly Target[];
}

const PROVIDERS: readonly ProviderName[] = ["anthropic", "openai"];

/** Where providers are called: as configured, and always at their own hosts, so that nobody gets past the limits by naming those. */
export function targetsOf(upstreams: Upstreams): Target[] {
  return PROVIDERS.flatMap((provider) => {
    const own = UPSTREAMS_DEFAULT[provider];
    const bases = [upstreams[provider], own, own.replace("https:", "http:")];
    return bases.map((base) => ({ provider, base: new URL(base) }));
  });
}

/** Where an address lies; `undefined`: it is nobody's we know. Of addresses inside each other the longest holds. */
export function placeOf(url: URL, targets: readonly Target[]): Place | undefined {
  const host = hostOf(url);
  let found: { place: Place; prefix: string } | undefined;
  let rivals: Target[] = [];
  for (const target of targets) {
    const prefix = prefixOf(target);
    const path = hostOf(target.base) === host ? pathBehind(prefix, url.pathname) : undefined;
    if (path === undefined || (found !== undefined && prefix.length < found.prefix.length)) continue;
    if (found === undefined || prefix.length > found.prefix.length) {
      found = { place: { target, path: path + url.search }, prefix };
      rivals = [];
    } else if (target.provider !== found.place.target.provider) rivals.push(target);
  }
  return found === undefined || rivals.length === 0 ? found?.place : { ...found.place, rivals };
}

function prefixOf({ base }: Target): string {
  return base.pathname.replace(/\/+$/, "");
}

/** A server may take a path for one that is only written otherwise. What follows the prefix stays as it is, for `routeOf` to judge. */
function pathBehind(prefix: string, pathname: string): string | undefined {
  if (pathname.startsWith(`${prefix}/`)) return pathname.slice(prefix.length);
  const [plain, start] = [plainPath(pathname), `${plainPath(prefix)}/`];
  return plain.startsWith(start) ? plain.slice(start.length - 1) : undefined;
}

/** Without doubled slashes, and without escapes of letters that need none. */
function plainPath(pathname: string): string {
  const unescaped = pathname.replaceAll(/%[0-9a-f]{2}/gi, (escaped) => {
    const letter = String.fromCharCode(Number.parseInt(escaped.slice(1), 16));
    return /[\w.~-]/.test(letter) ? letter : escaped.toUpperCase();
  });
  return unescaped.replaceAll(/\/{2,}/g, "/");
}

/** Names of this very machine. */
const LOOPBACK = new Set(["localhost", "127.0.0.1", "[::1]", "[::ffff:7f00:1]", "0.0.0.0", "[::]"]);

/** A dot behind the last label names the same host. */
function hostOf({ protocol, hostname, port }: URL): string {
  const name = hostname.replace(/\.$/, "");
  return `${protocol}//${LOOPBACK.has(name) ? "localhost" : name}:${port}`;
}

/** What a path means at a provider that is known by its address, and whose it is where several have that address. */
export function routeAt(place: Place, method: string, headers: RawHeaders): { route: Route; place: Place } {
  const { target, path, rivals } = place;
  if (rivals === undefined) return { route: routeOf(method, `/${target.provider}${path}`, headers), place };
  const route = routeOf(method, path, headers);
  const owner = "provider" in route ? rivals.find(({ provider }) => provider === route.provider) : undefined;
  return { route, place: { target: owner ?? target, path } };
}

/** The address of another path of the same provider. */
export function urlAt(target: Target, path: string): string {
  return target.base.origin + prefixOf(target) + path;
}
