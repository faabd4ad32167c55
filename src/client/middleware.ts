/**
 * Owns being a middleware of Anthropic's SDK, for clients that sign or encode a request after it is made (Bedrock, Vertex): it sees the
 * request before that, and the answer decoded. Does not own what is done with a call (fetch.ts).
 * Invariant: a request is known by its path alone, since its address is any cloud's.
 */
import type { Labels } from "../engine/identify.ts";
import { callProvider, carriedByMiddleware, type Caller } from "./fetch.ts";
import { urlOf, type Fetch, type FetchInit } from "./request.ts";

/** For the option `middleware` of `@anthropic-ai/sdk` and of its clients for other clouds. */
export type SdkMiddleware = <Request extends { url: string }>(
  request: Request,
  next: (request: Request) => Promise<Response>,
) => Promise<Response>;

const decoder = new TextDecoder();

/** @param around the scopes that hold where a call is made. */
export function createMiddleware(caller: Caller, around: () => Labels): SdkMiddleware {
  return async (request, next) => {
    const url = urlOf(request.url);
    // The last one: an address can have one of its own (Vertex).
    const pathAt = url?.pathname.lastIndexOf("/v1/") ?? -1;
    if (url === undefined || pathAt < 0) return next(request);
    const base = new URL(url.pathname.slice(0, pathAt + 1), url);
    const place = { target: { provider: "anthropic" as const, base }, path: url.pathname.slice(pathAt) + url.search };
    // What comes behind reads the body as text, to sign or to encode it.
    const fetch: Fetch = (input, init) =>
      carriedByMiddleware.run(true, () =>
        next({ ...request, ...init, url: urlOf(input)?.href ?? request.url, body: textOf(init?.body) }),
      );
    const init = request as FetchInit;
    return callProvider({ ...caller, fetch }, { input: request.url, init, url, place, labels: around() });
  };
}

function textOf(body: FetchInit["body"]): FetchInit["body"] {
  return body instanceof Uint8Array ? decoder.decode(body) : body;
}
