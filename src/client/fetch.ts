/**
 * Owns the `fetch` that SDKs are given: which requests are calls, having them decided, answering what is refused.
 * Does not own the decision (engine/) or carrying what is admitted (carry.ts).
 * Invariants: what goes to no provider passes untouched; what goes to one is metered, free or refused; a denial is the provider's own
 * error, so that an SDK ends by its own rules.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import type { Config } from "../config/config.ts";
import type { Refusal } from "../core/errors/codes.ts";
import { ambiguousPath, invalidRequest, notMetered, unknownPath, unsupportedEncoding } from "../core/errors/refusals.ts";
import type { AskCount } from "../engine/counts.ts";
import type { Labels } from "../engine/identify.ts";
import type { Presence } from "../engine/incoming-call.ts";
import type { Engine } from "../engine/pipeline.ts";
import type { Clock, IdSource } from "../engine/ports.ts";
import type { RunningCall } from "../engine/running-call.ts";
import { COUNT_BYTES_MAX, deniedHeaders } from "../exchange/answer.ts";
import { headerOf } from "../exchange/headers.ts";
import { incomingCall } from "../exchange/incoming.ts";
import type { Provider } from "../providers/provider.ts";
import { loadApi, loadSpeaker } from "./apis.ts";
import { carry } from "./carry.ts";
import { tellDecision, tellSettled, type Events } from "./events.ts";
import {
  headersOf,
  methodOf,
  readRequest,
  urlOf,
  type Fetch,
  type FetchInit,
  type FetchInput,
  type ReadRequest,
} from "./request.ts";
import { placeOf, routeAt, urlAt, type Place, type Target } from "./targets.ts";

/** What calls are made with. */
export interface Caller {
  engine: Engine;
  clock: Clock;
  ids: IdSource;
  config: () => Config;
  targets: readonly Target[];
  events: Events;
  /** `undefined`: the process's own, as it is when a call is made. */
  fetch: Fetch | undefined;
  ending: Ending;
}

/** Whether calls are still made, and which run. */
export interface Ending {
  readonly isEnding: boolean;
  onEnding(callBack: () => void): () => void;
  /** Cuts each of them. */
  running: Set<() => void>;
}

/** @param around the scopes that hold where it is called. */
export function createFetch(caller: Caller, around: () => Labels): Fetch {
  const own: Fetch = async (input, init) => {
    const url = urlOf(input);
    const place = url === undefined ? undefined : placeOf(url, caller.targets);
    // What a middleware of ours carries is metered there.
    if (url === undefined || place === undefined || carriedByMiddleware.getStore() === true) return sender(caller)(input, init);
    return callProvider(caller, { input, init, url, place, labels: around() });
  };
  BEHIND.set(own, processFetch());
  return own;
}

/** True where a request is carried for a middleware of ours: an SDK may be given both, and a call counts once. */
export const carriedByMiddleware = new AsyncLocalStorage<true>();

/** What the process's own `fetch` was when one of ours was made: a program may put ours in its place. */
const BEHIND = new WeakMap<Fetch, Fetch>();

/** The process's own, never one of ours. */
function processFetch(): Fetch {
  return BEHIND.get(globalThis.fetch) ?? globalThis.fetch;
}

function sender(caller: Caller): Fetch {
  return caller.fetch ?? processFetch();
}

/** A request to a provider. */
export interface Asked {
  input: FetchInput;
  init: FetchInit | undefined;
  url: URL;
  place: Place;
  labels: Labels;
}

/** Has a request to a provider decided, and answers it. */
export async function callProvider(caller: Caller, request: Asked): Promise<Response> {
  const { input, init } = request;
  const method = methodOf(input, init);
  const headers = [...headersOf(input, init)].flat();
  const { route, place } = routeAt(request.place, method, headers);
  const asked = { ...request, place };
  const path = place.path.split("?", 1)[0] ?? "";
  switch (route.kind) {
    case "metered":
      return callMetered(caller, { ...asked, api: await loadApi(route.api) }, await readRequest(input, init));
    case "free":
      return passFree(caller, input, init);
    case "batch":
    case "not_metered":
      return refuse(caller, asked, headers, notMetered({ method, path }));
    case "ambiguous":
      return refuse(caller, asked, headers, ambiguousPath({ path, prefixes: ["/anthropic", "/openai"] }));
    default:
      return refuse(caller, asked, headers, unknownPath({ method, path }));
  }
}

/** Costs nothing at the provider; our own headers are nobody else's. */
function passFree(caller: Caller, input: FetchInput, init: FetchInit | undefined): Promise<Response> {
  const headers = headersOf(input, init);
  const ours = [...headers.keys()].filter((name) => name.startsWith("x-purser-"));
  if (ours.length === 0) return sender(caller)(input, init);
  for (const name of ours) headers.delete(name);
  return sender(caller)(input, { ...init, headers });
}

/** A call of one protocol. */
interface AskedCall extends Asked {
  api: Provider;
}

async function callMetered(caller: Caller, asked: AskedCall, read: ReadRequest): Promise<Response> {
  const { engine, events, ending, clock } = caller;
  const provider = asked.api;
  if (ending.isEnding) throw new Error("this Purser is closed");
  const encoding = headerOf(read.headers, "content-encoding") ?? "identity";
  if (encoding !== "identity") {
    return refuse(caller, asked, read.headers, unsupportedEncoding({ found: encoding, allowed: ["identity"] }));
  }
  const call = incomingCall({
    provider,
    headers: read.headers,
    body: read.body,
    caller: NOBODY,
    presence: presenceOf(read.signal, ending),
    askCount: countAsker(caller, asked, read),
    nowMs: clock.nowMs(),
    around: asked.labels,
  });
  if (call.outcome === "invalid") {
    return refuse(caller, asked, read.headers, invalidRequest({ where: "request header", problem: call.problem }));
  }
  const opening = await engine.open(call.call);
  tellDecision(events, opening);
  switch (opening.outcome) {
    case "gone":
      if (read.signal?.aborted === true) throw read.signal.reason;
      throw new Error("this Purser was closed while the call waited; nothing was sent");
    case "refused":
      return refuse(caller, asked, read.headers, opening.refusal, deniedHeaders(opening.callId));
    case "admitted":
      return run(caller, asked, read, opening.call);
  }
}

/** In its own process nobody has to show who they are. */
export const NOBODY = { keyId: undefined, bound: undefined };

async function run(caller: Caller, { url, api }: AskedCall, read: ReadRequest, call: RunningCall): Promise<Response> {
  const { ending, events } = caller;
  const { response, cut } = carry({
    call,
    send: (body, signal) => read.send(sender(caller), { url: url.href, body, signal }),
    requestIdHeader: api.requestIdHeader,
    isFetchKnown: caller.fetch === undefined,
    signal: read.signal,
    onClientAbort: caller.config().onClientAbort,
    onSettled: (settled) => {
      ending.running.delete(cut);
      tellSettled(events, call, settled);
    },
  });
  ending.running.add(cut);
  return await response;
}

/** Asks for a count as the caller whose call it is. */
function countAsker(caller: Caller, { place, api }: AskedCall, read: ReadRequest): AskCount {
  const { target, path } = place;
  return (body) => {
    const controller = new AbortController();
    const url = urlAt(target, api.counting?.pathOf(path) ?? path);
    const ask = async (): Promise<{ status: number; body: Uint8Array }> => {
      const response = await read.send(sender(caller), { url, body, signal: controller.signal });
      return { status: response.status, body: await readSmall(response, () => controller.abort()) };
    };
    return { answer: ask(), cancel: () => controller.abort() };
  };
}

async function readSmall(response: Response, giveUp: () => void): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    bytes += chunk.length;
    if (bytes > COUNT_BYTES_MAX) giveUp();
    else chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

export function presenceOf(signal: AbortSignal | undefined, ending: Ending): Presence {
  return {
    get isGone() {
      return signal?.aborted === true || ending.isEnding;
    },
    get goneFor() {
      return signal?.aborted === true ? undefined : "shutting_down";
    },
    onGone(callBack) {
      signal?.addEventListener("abort", callBack, { once: true });
      const stop = ending.onEnding(callBack);
      return () => {
        signal?.removeEventListener("abort", callBack);
        stop();
      };
    },
  };
}

async function refuse(
  { ids }: Caller,
  { url, place }: Asked,
  requestHeaders: readonly string[],
  refusal: Refusal,
  more: readonly string[] = [],
): Promise<Response> {
  const speaker = await loadSpeaker(place.target.provider);
  const userAgent = headerOf(requestHeaders, "user-agent");
  const requestId = refusal.details.callId ?? ids.next("call");
  const { status, headers, body } = speaker.shapeError(refusal, { userAgent, requestId });
  const all = new Headers(headers);
  for (let index = 0; index < more.length; index += 2) all.set(more[index] ?? "", more[index + 1] ?? "");
  return Object.defineProperty(new Response(body, { status, headers: all }), "url", { value: url.href });
}
