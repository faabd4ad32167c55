/**
 * Owns reading what `fetch` was called with, and calling it again with another body. Does not own what is done in between (carry.ts).
 * Invariants: everything that `fetch` takes is taken, and goes on as it came but for the body, our own headers and the signal; what
 * `fetch` would throw for is thrown before anything is decided.
 */
import type { RawHeaders } from "../exchange/headers.ts";

export type Fetch = typeof globalThis.fetch;
export type FetchInput = Parameters<Fetch>[0];
export type FetchInit = NonNullable<Parameters<Fetch>[1]>;

/** A request whose body was read. */
export interface ReadRequest {
  method: string;
  /** As `fetch` was given them; ours among them. */
  headers: RawHeaders;
  body: Uint8Array;
  signal: AbortSignal | undefined;
  /** Sends it without our own headers. */
  send(fetch: Fetch, request: { url: string; body: Uint8Array; signal: AbortSignal }): Promise<Response>;
}

/** Where it goes; `undefined`: `fetch` itself says what is wrong with it. */
export function urlOf(input: FetchInput): URL | undefined {
  return URL.parse(addressOf(input)) ?? undefined;
}

/** What is neither text nor a request, such as another realm's `URL`, is what it is as text. */
function addressOf(input: FetchInput): string {
  return typeof input === "object" && "url" in input ? input.url : String(input);
}

export function methodOf(input: FetchInput, init: FetchInit | undefined): string {
  return (init?.method ?? (input instanceof Request ? input.method : "GET")).toUpperCase();
}

/** Headers as they will be sent; those of `init` replace those of a request. */
export function headersOf(input: FetchInput, init: FetchInit | undefined): Headers {
  return new Headers(init?.headers ?? (input instanceof Request ? input.headers : undefined));
}

/** Reads a request. Its body is then this function's: a `Request` is used up, as by `fetch`. */
export async function readRequest(input: FetchInput, init: FetchInit | undefined): Promise<ReadRequest> {
  const body = init?.body;
  const isPlain = !(input instanceof Request) && (typeof body === "string" || body instanceof Uint8Array);
  if (!isPlain) return readAny(input, init);
  assertSendable(addressOf(input), init ?? {});
  return readPlain(init ?? {}, body);
}

/** Throws what `fetch` would. Headers were read already; of a signal only what is none is looked at, since following one costs. */
function assertSendable(address: string, init: FetchInit): void {
  const signal = init.signal instanceof AbortSignal ? null : (init.signal ?? null);
  void new Request(address, { ...init, body: null, headers: {}, signal });
}

/** What SDKs send: text or bytes to an address. */
function readPlain(init: FetchInit, body: string | Uint8Array): ReadRequest {
  const headers = headersOf("", init);
  // Bytes are copied: the caller may write over them while the call waits.
  const bytes = typeof body === "string" ? Buffer.from(body) : new Uint8Array(body);
  if (typeof body === "string" && !headers.has("content-type")) headers.set("content-type", "text/plain;charset=UTF-8");
  const outgoing = withoutOurs(headers);
  return {
    method: methodOf("", init),
    headers: rawHeaders(headers),
    body: bytes,
    signal: init.signal ?? undefined,
    send: (fetch, { url, body: sent, signal }) =>
      // Text goes on as text: encoding it is the one copy that is made of it.
      fetch(url, { ...init, headers: outgoing, body: sent === bytes && typeof body === "string" ? body : asBody(sent), signal }),
  };
}

async function readAny(input: FetchInput, init: FetchInit | undefined): Promise<ReadRequest> {
  const request = new Request(input, init);
  const outgoing = withoutOurs(request.headers);
  const { method, signal } = request;
  const body = new Uint8Array(await unlessAborted(request.arrayBuffer(), signal));
  return {
    method,
    headers: rawHeaders(request.headers),
    body,
    signal,
    send: (fetch, { url, body: sent, signal: ending }) => {
      const again = { ...init, method, headers: outgoing, body: asBody(sent), signal: ending };
      // What a request holds besides its address, such as how it follows redirects, is in the request alone.
      return url === request.url ? fetch(new Request(request, again)) : fetch(url, again);
    },
  };
}

/** Whoever leaves does not wait for a body that may never end. */
async function unlessAborted<Value>(value: Promise<Value>, signal: AbortSignal): Promise<Value> {
  let leave: (() => void) | undefined;
  const left = new Promise<never>((_resolve, reject) => {
    leave = () => reject(signal.reason as Error);
    if (signal.aborted) leave();
    else signal.addEventListener("abort", leave, { once: true });
  });
  try {
    return await Promise.race([value, left]);
  } finally {
    if (leave !== undefined) signal.removeEventListener("abort", leave);
  }
}

function asBody(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return bytes as Uint8Array<ArrayBuffer>;
}

function rawHeaders(headers: Headers): RawHeaders {
  return [...headers].flat();
}

/** Ours mean something to Purser and nothing to a provider; how long the body is, is known when it is sent: it may be another then. */
function withoutOurs(headers: Headers): Headers {
  const kept = new Headers(headers);
  kept.delete("content-length");
  for (const name of headers.keys()) if (name.startsWith("x-purser-")) kept.delete(name);
  return kept;
}
