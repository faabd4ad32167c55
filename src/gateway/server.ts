/**
 * Owns the HTTP face: reading a request, asking the engine, having the answer sent. Does not own the decision (engine/), what a path
 * means (routes.ts), how an answer is written (answering.ts, forward.ts) or the choice of concrete parts (serve.ts).
 * Invariants: every metered path goes through the engine; every error is in the provider's own shape; no caller can end the process.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import type { Refusal } from "../core/errors/codes.ts";
import {
  ambiguousPath,
  invalidRequest,
  ledgerUnavailable,
  notMetered,
  overloaded,
  requestTooLarge,
  unauthorized,
  unknownPath,
  unsupportedEncoding,
  upstreamTimeout,
  upstreamUnreachable,
} from "../core/errors/refusals.ts";
import type { IncomingCall, Presence } from "../engine/incoming-call.ts";
import type { Engine } from "../engine/pipeline.ts";
import type { Caller } from "../engine/identify.ts";
import type { Clock, IdSource, Notifier } from "../engine/ports.ts";
import { isLedgerUnavailable } from "../engine/refusing.ts";
import type { Provider } from "../providers/provider.ts";
import { refuseBytes, sendJson, sendRefusal } from "./answering.ts";
import type { BatchRequest } from "./batches.ts";
import { countAsker } from "./count-asker.ts";
import { readBody, type BodyMemory } from "./body.ts";
import type { Door } from "./door.ts";
import { drained, forward } from "./forward.ts";
import { deniedHeaders } from "../exchange/answer.ts";
import { answerHeaders, credentialOf, upstreamHeaders, type RawHeaders } from "../exchange/headers.ts";
import { incomingCall } from "../exchange/incoming.ts";
import { APIS, SPEAKERS, type ProviderName } from "../exchange/apis.ts";
import { routeOf, type Route } from "../exchange/routes.ts";
import type { SlowBodies } from "./slow-bodies.ts";
import { HEADERS_TIMEOUT_MS, UpstreamError, type Upstream, type UpstreamFailure } from "./upstream.ts";
import { isVirtualKey } from "./virtual-key.ts";

/** Where a provider is reached. */
export interface Account {
  upstream: Upstream;
  /** For messages. */
  host: string;
  /** Put on the upstream request where the caller used a virtual key. */
  key: string | undefined;
  /** The variable that the key comes from, for messages. */
  keyVariable: string;
}

/** What may change while the gateway runs. */
export interface GatewaySettings {
  bodyBytesMax: number;
  onClientAbort: "cancel" | "drain";
  /** Whether callers may use credentials of their own. */
  isPassthroughAllowed: boolean;
}

/** Finds the owner of a virtual key. */
export type KeyFinder = (
  credential: string,
) => Promise<{ outcome: "found"; caller: Caller } | { outcome: "refused"; problem: string }>;

export interface GatewayOptions {
  engine: Engine;
  accounts: Readonly<Record<ProviderName, Account>>;
  settings: () => GatewaySettings;
  door: Door;
  bodyMemory: BodyMemory;
  slowBodies: SlowBodies;
  findKey: KeyFinder;
  clock: Clock;
  ids: IdSource;
  /** Answers requests about batches. */
  answerBatch: (input: BatchRequest) => Promise<void>;
  notifier: Notifier;
  isReady: () => boolean;
}

const SERVER_OPTIONS = {
  /** Longer than clients keep theirs, so that they close first. */
  keepAliveTimeout: 65_000,
  /** A head is a few kilobytes; whoever needs longer holds a socket for nothing. */
  headersTimeout: 20_000,
  /** A body of 32 MB takes 256 s on a line of 1 Mbit/s. */
  requestTimeout: 300_000,
  connectionsCheckingInterval: 2_000,
};

/** Connections beyond this are closed as soon as they come: each takes a file descriptor and some kilobytes, also if it never speaks. */
const CONNECTIONS_MAX = 20_000;

/** The data listener, not yet listening. */
export function createGatewayServer(options: GatewayOptions): Server {
  const answers = new WeakMap<Duplex, ServerResponse>();
  const server = createServer(SERVER_OPTIONS, (request, response) => {
    answers.set(request.socket, response);
    answer(options, request, response).catch((error: unknown) => {
      options.notifier.warn("internal_error", {
        message: error instanceof Error ? (error.stack ?? error.message) : "not an Error",
      });
      if (response.headersSent) response.destroy();
      else
        sendRefusal(shapingOf(options), request, response, {
          details: { code: "overloaded" },
          message: "The gateway failed on this request; it was not forwarded twice. Try again.",
        });
    });
  });
  server.maxConnections = CONNECTIONS_MAX;
  server.on("clientError", (error, socket) => refuseBytes(shapingOf(options), error, socket, answers.get(socket)));
  return server;
}

/** Where nothing says whose client it is, it is taken for Anthropic's. */
function shapingOf({ ids }: GatewayOptions, route?: Route): { provider: Provider; ids: IdSource } {
  return { provider: SPEAKERS[route !== undefined && "provider" in route ? route.provider : "anthropic"], ids };
}

async function answer(options: GatewayOptions, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const headers = request.rawHeaders;
  const route = routeOf(request.method ?? "GET", request.url ?? "/", headers);
  switch (route.kind) {
    case "health":
      return sendJson(response, 200, { status: "ok" });
    case "ready":
      return sendJson(response, options.isReady() ? 200 : 503, { status: options.isReady() ? "ready" : "not ready" });
    case "metered":
    case "free":
    case "batch":
      return answerProvider(options, request, response, route);
    case "not_metered":
    case "ambiguous":
    case "wrong_method":
    case "unknown":
      return sendRefusal(shapingOf(options, route), request, response, refusalOfRoute(route, request.method ?? "GET"));
  }
}

function refusalOfRoute(
  route: Exclude<Route, { kind: "metered" | "free" | "batch" | "health" | "ready" }>,
  method: string,
): Refusal {
  const { path } = route;
  if (route.kind === "ambiguous") return ambiguousPath({ path, prefixes: ["/anthropic", "/openai"] });
  if (route.kind === "not_metered") return notMetered({ method, path });
  return unknownPath({ method, path });
}

async function answerProvider(
  options: GatewayOptions,
  request: IncomingMessage,
  response: ServerResponse,
  route: Extract<Route, { kind: "metered" | "free" | "batch" }>,
): Promise<void> {
  const { door } = options;
  const speaker = SPEAKERS[route.provider];
  const shaping = { provider: speaker, ids: options.ids };
  const refuse = (refusal: Refusal): void => sendRefusal(shaping, request, response, refusal);
  const closed = door.closedBecause();
  if (closed !== undefined) return turnAway(options, { response, refuse, reason: closed });
  door.entered();
  try {
    await answerTakenOn(options, { request, response, route, refuse });
  } finally {
    // Not with the answer's end alone: a call whose caller left may be read on, with its body.
    atEndOf(response, () => door.left());
  }
}

/** A request that the door let in. */
async function answerTakenOn(
  options: GatewayOptions,
  input: Pick<ReadRequest, "request" | "response" | "route" | "refuse">,
): Promise<void> {
  const { request, response, route, refuse } = input;
  const { bodyMemory, slowBodies, clock } = options;
  const account = options.accounts[route.provider];
  const who = await callerOf(options, account, request.rawHeaders);
  if (who.outcome === "refused") return refuse(who.refusal);

  const { bodyBytesMax: bytesMax } = options.settings();
  const read = await readBody(request, { bytesMax, memory: bodyMemory, slowBodies, nowMs: clock.nowMs() });
  if (read.outcome === "gone") return void response.destroy();
  if (read.outcome !== "read") return refuse(refusalOfBody(read, bytesMax));
  try {
    await answerRead(options, {
      ...input,
      account,
      caller: who.caller,
      isVirtual: who.isVirtual,
      body: read.body,
    });
  } finally {
    atEndOf(response, () => bodyMemory.giveBack(read.body.length));
  }
}

interface ReadRequest {
  request: IncomingMessage;
  response: ServerResponse;
  route: Extract<Route, { kind: "metered" | "free" | "batch" }>;
  account: Account;
  refuse: (refusal: Refusal) => void;
  caller: Caller;
  isVirtual: boolean;
  body: Uint8Array;
}

async function answerRead(options: GatewayOptions, input: ReadRequest): Promise<void> {
  const { request, response, route, account, refuse, caller, isVirtual, body } = input;
  const headers = request.rawHeaders;
  const { upstream, key } = account;
  const credential = isVirtual && key !== undefined ? SPEAKERS[route.provider].credentialHeader(key) : undefined;
  // OpenAI's clients have no such header: what stands in it is somebody else's.
  const outgoing = upstreamHeaders(headers, credential, route.provider === "openai" ? "x-api-key" : undefined);
  if (route.kind === "free") return passFree(account, { route, response, headers: outgoing, body, refuse });
  const provider = route.kind === "batch" ? SPEAKERS[route.provider] : APIS[route.api];
  const askCount = countAsker({ provider, upstream }, { path: route.path, headers: outgoing });
  const presence = presenceOf(response, options.door);
  const nowMs = options.clock.nowMs();
  const call = incomingCall({ provider, headers, body, caller, presence, askCount, nowMs });
  if (call.outcome === "invalid") return refuse(invalidRequest({ where: "request header", problem: call.problem }));
  if (route.kind === "batch") return answerBatch(options, { ...input, route }, { headers: outgoing, call: call.call });
  await answerMetered(options, { request, response, account, path: route.path, outgoing, call: call.call, refuse });
}

function answerBatch(
  options: GatewayOptions,
  input: ReadRequest & { route: BatchRequest["route"] },
  made: Pick<BatchRequest, "headers" | "call">,
): Promise<void> {
  const { route, request, response, account } = input;
  const shaping = { provider: SPEAKERS[route.provider], ids: options.ids };
  const refuse = (refusal: Refusal, more?: readonly string[]): void => {
    if (!response.headersSent && !response.destroyed) sendRefusal(shaping, request, response, refusal, more);
  };
  const refuseUpstream = (failure: UpstreamFailure): void => refuse(upstreamRefusal(account, failure));
  return options.answerBatch({ route, response, account, refuse, refuseUpstream, ...made });
}

/** Before any work. A caller that comes back on a new connection may find another gateway there. */
function turnAway(
  options: GatewayOptions,
  { response, refuse, reason }: { response: ServerResponse; refuse: (refusal: Refusal) => void; reason: string },
): void {
  if (options.door.isEnding) response.shouldKeepAlive = false;
  refuse(overloaded({ reason }));
}

async function answerMetered(
  options: GatewayOptions,
  input: {
    request: IncomingMessage;
    response: ServerResponse;
    account: Account;
    path: string;
    outgoing: string[];
    call: IncomingCall<Provider>;
    refuse: (refusal: Refusal) => void;
  },
): Promise<void> {
  const { response, account, refuse } = input;
  const { provider } = input.call;
  const opening = await options.engine.open(input.call);
  switch (opening.outcome) {
    case "gone":
      // A caller that is still there waited in line, which ends with the gateway: it held nothing.
      if (response.destroyed) return;
      return turnAway(options, { ...input, reason: "it is ending" });
    case "refused":
      return sendRefusal({ provider, ids: options.ids }, input.request, response, opening.refusal, deniedHeaders(opening.callId));
    case "admitted":
      return forward({
        call: opening.call,
        upstream: account.upstream,
        requestIdHeader: provider.requestIdHeader,
        path: input.path,
        headers: input.outgoing,
        response,
        onClientAbort: options.settings().onClientAbort,
        refuse: (failure) => {
          if (!response.headersSent && !response.destroyed) refuse(upstreamRefusal(account, failure));
        },
      });
  }
}

function atEndOf(response: ServerResponse, callBack: () => void): void {
  if (response.destroyed) callBack();
  else response.once("close", callBack);
}

type Who = { outcome: "found"; caller: Caller; isVirtual: boolean } | { outcome: "refused"; refusal: Refusal };

async function callerOf(options: GatewayOptions, account: Account, headers: RawHeaders): Promise<Who> {
  const credential = credentialOf(headers);
  if (credential.outcome === "misplaced") {
    const problem = `a virtual key stands in ${credential.where}, from where it would be passed on to the provider`;
    return { outcome: "refused", refusal: unauthorized({ problem }) };
  }
  if (credential.outcome === "two_different") {
    const problem = "x-api-key and authorization carry two different credentials; send one, or the same in both";
    return { outcome: "refused", refusal: invalidRequest({ where: "credential", problem }) };
  }
  if (credential.outcome === "one" && isVirtualKey(credential.value)) {
    const found = await options.findKey(credential.value).catch((error: unknown) => {
      if (!isLedgerUnavailable(error)) throw error;
      options.notifier.warn("ledger_unavailable", { reason: error.message });
      return undefined;
    });
    if (found === undefined) {
      return { outcome: "refused", refusal: ledgerUnavailable({ reason: "its keys cannot be read" }) };
    }
    if (found.outcome === "refused") return { outcome: "refused", refusal: unauthorized({ problem: found.problem }) };
    if (account.key === undefined) {
      const problem = `the key is valid, but the gateway has no ${account.keyVariable} of its own to call the provider with`;
      return { outcome: "refused", refusal: unauthorized({ problem }) };
    }
    return { outcome: "found", caller: found.caller, isVirtual: true };
  }
  if (!options.settings().isPassthroughAllowed) {
    const problem = "this gateway is reachable from other machines, so it wants a virtual key (prs_…); ask its operator for one";
    return { outcome: "refused", refusal: unauthorized({ problem }) };
  }
  return { outcome: "found", caller: { keyId: undefined, bound: undefined }, isVirtual: false };
}

function refusalOfBody(
  read:
    | { outcome: "too_large"; found: string }
    | { outcome: "unsupported_encoding"; found: string }
    | { outcome: "malformed"; problem: string }
    | { outcome: "too_slow" }
    | { outcome: "overloaded" },
  bytesMax: number,
): Refusal {
  switch (read.outcome) {
    case "too_large":
      return requestTooLarge({ foundBytes: Number.parseInt(read.found, 10) || undefined, bytesMax });
    case "unsupported_encoding":
      return unsupportedEncoding({ found: read.found, allowed: ["identity", "gzip"] });
    case "malformed":
      return invalidRequest({ where: "request body", problem: read.problem });
    case "too_slow":
      return invalidRequest({
        where: "request body",
        problem: "it arrives too slowly: more than 1,000 bytes a second are expected",
      });
    case "overloaded":
      return overloaded({ reason: "the requests it holds fill the memory it has for them" });
  }
}

/** Nobody is waited for any more once the gateway ends: what is not admitted by then is told to come back. */
function presenceOf(response: ServerResponse, door: Door): Presence {
  return {
    get isGone() {
      return response.destroyed || door.isEnding;
    },
    get goneFor() {
      return response.destroyed ? undefined : "shutting_down";
    },
    onGone(callBack) {
      response.once("close", callBack);
      const stop = door.onEnding(callBack);
      return () => {
        response.off("close", callBack);
        stop();
      };
    },
  };
}

/** A path that costs nothing at the provider: passed on and back as it is. */
async function passFree(
  account: Account,
  input: {
    route: Extract<Route, { kind: "free" }>;
    response: ServerResponse;
    headers: string[];
    body: Uint8Array;
    refuse: (refusal: Refusal) => void;
  },
): Promise<void> {
  const { response, body, headers } = input;
  const { method, path } = input.route;
  const sent = account.upstream.send({ method, path, headers, body: method === "POST" ? body : undefined });
  response.once("close", () => {
    if (!response.writableFinished) sent.abort();
  });
  try {
    const answer = await sent.answer;
    response.writeHead(answer.status, answerHeaders(answer.headers));
    await answer.body.read((chunk) => (response.write(chunk) ? undefined : drained(response)));
    response.end();
  } catch (error) {
    if (response.headersSent) return void response.destroy();
    if (!(error instanceof UpstreamError)) throw error;
    if (!response.destroyed) input.refuse(upstreamRefusal(account, error.failure));
  }
}

function upstreamRefusal({ host }: Account, { kind, reason }: UpstreamFailure): Refusal {
  return kind === "timeout"
    ? upstreamTimeout({ host, afterSeconds: HEADERS_TIMEOUT_MS / 1_000 })
    : upstreamUnreachable({ host, reason, wasSent: kind === "lost" });
}
