/**
 * Owns requests about batches: handing one in, reading, listing, stopping and deleting them, and passing on their results.
 * Does not own what is reserved and settled (engine/), or batches nobody asks about (batch-keeper.ts).
 * Invariants: nothing is handed in before all of it is reserved; a virtual key reaches its own batches only; an address in an answer
 * leads back here, where its credential is known; results pass as they come, and are settled before they end.
 */
import type { ServerResponse } from "node:http";
import type { Refusal } from "../core/errors/codes.ts";
import { notMetered, unknownPath } from "../core/errors/refusals.ts";
import type { AdmittedBatch, Batches } from "../engine/batches.ts";
import type { BatchResults, Collector } from "../engine/batch-results.ts";
import type { IncomingCall } from "../engine/incoming-call.ts";
import type { Notifier } from "../engine/ports.ts";
import { isLedgerUnavailable } from "../engine/refusing.ts";
import { deniedHeaders } from "../exchange/answer.ts";
import { SPEAKERS } from "../exchange/apis.ts";
import { BATCH_PROTOCOLS } from "../exchange/batch-protocols.ts";
import { answerHeaders, headerOf } from "../exchange/headers.ts";
import type { Route } from "../exchange/routes.ts";
import type { BatchRecord, Ledger } from "../ledger/ledger.ts";
import type { BatchKeeper } from "./batch-keeper.ts";
import { drained } from "./forward.ts";
import type { Account } from "./server.ts";
import { UpstreamError, type UpstreamAnswer, type UpstreamFailure } from "./upstream.ts";

/** Answers about batches up to this size are read; a longer one (no list is) passes as it comes. */
const HELD_BYTES_MAX = 8 * 1_048_576;

export interface BatchRequest {
  route: Extract<Route, { kind: "batch" }>;
  response: ServerResponse;
  account: Account;
  /** As they go upstream. */
  headers: string[];
  call: IncomingCall;
  refuse: (refusal: Refusal, more?: readonly string[]) => void;
  refuseUpstream: (failure: UpstreamFailure) => void;
}

export interface BatchDeskOptions {
  batches: Batches;
  results: BatchResults;
  ledger: Ledger;
  keeper: BatchKeeper;
  notifier: Notifier;
}

/** @returns what answers a request about batches. */
export function createBatchDesk({
  batches,
  results,
  ledger,
  keeper,
  notifier,
}: BatchDeskOptions): (input: BatchRequest) => Promise<void> {
  async function answer(input: BatchRequest): Promise<void> {
    const { route, call, refuse } = input;
    if (route.action === "submit") return submit(input);
    const { batchId } = route;
    const [batch] = batchId === undefined ? [] : await ledger.batches({ batchId });
    const { keyId } = call.caller;
    // The provider knows one credential for all virtual keys: whose batch it is, only the ledger knows.
    if (keyId !== undefined && batchId !== undefined && batch?.keyId !== keyId) {
      return refuse(unknownPath({ method: route.method, path: route.path }));
    }
    if (route.action === "results") return passResults(input, batch);
    if (route.action === "delete" && batch !== undefined && batch.endedAtMs === undefined) await settleFirst(input, batch);
    return pass(input, batch);
  }

  async function submit(input: BatchRequest): Promise<void> {
    const protocol = BATCH_PROTOCOLS[input.route.provider];
    if (protocol === undefined) return input.refuse(notMetered(input.route));
    const opening = await batches.open(input.call, protocol);
    if (opening.outcome === "refused") return input.refuse(opening.refusal, deniedHeaders(opening.callId));
    if (opening.outcome === "gone") return void input.response.destroy();
    const { batch } = opening;
    const { account, route, headers, call, response } = input;
    // A caller that leaves changes nothing: what was handed in may run.
    const sent = account.upstream.send({ method: "POST", path: route.path, headers, body: call.body });
    let held: { answer: UpstreamAnswer; body: Buffer };
    try {
      const got = await sent.answer;
      held = { answer: got, body: await readWhole(got) };
    } catch (error) {
      if (error instanceof UpstreamError && error.failure.kind === "not_sent") await batch.refused("not_sent");
      else batch.lost();
      if (error instanceof UpstreamError) return input.refuseUpstream(error.failure);
      return void response.destroy();
    }
    await conclude(input, batch, held);
    send(response, held, ["x-purser-call", batch.callId, "x-purser-decision", "allowed"]);
  }

  async function conclude(
    input: BatchRequest,
    batch: AdmittedBatch,
    held: { answer: UpstreamAnswer; body: Buffer },
  ): Promise<void> {
    const { status } = held.answer;
    const state = BATCH_PROTOCOLS[input.route.provider]?.readState(held.body);
    if (status >= 200 && status < 300 && state !== undefined) {
      if (input.call.caller.keyId === undefined) keeper.remember(state.batchId, input.headers);
      return batch.accepted(state.batchId);
    }
    if (isRefusal(status)) return batch.refused(`refused with ${status}`);
    batch.lost();
  }

  /** Once it is deleted, nobody can read what it cost. */
  async function settleFirst({ headers }: BatchRequest, batch: BatchRecord): Promise<void> {
    const isSettled = await keeper.settle(batch, headers).catch(() => false);
    if (!isSettled) notifier.warn("batch_deleted_unsettled", { batchId: batch.batchId ?? "" });
  }

  async function pass(input: BatchRequest, batch: BatchRecord | undefined): Promise<void> {
    const { route, response, headers, account, call } = input;
    const { method, path } = route;
    const sent = account.upstream.send({ method, path, headers, body: method === "POST" ? call.body : undefined });
    response.once("close", () => sent.abort());
    try {
      const got = await sent.answer;
      const body = await readWhole(got);
      if (got.status === 200 && batch !== undefined) note(input, batch, body);
      send(response, { answer: got, body }, []);
    } catch (error) {
      failed(input, error);
    }
  }

  function note({ route, headers }: BatchRequest, batch: BatchRecord, body: Buffer): void {
    if (batch.endedAtMs !== undefined || batch.batchId === undefined) return;
    if (batch.keyId === undefined) keeper.remember(batch.batchId, headers);
    if (BATCH_PROTOCOLS[route.provider]?.readState(body)?.isEnded === true) keeper.hurry(batch);
  }

  async function passResults(input: BatchRequest, batch: BatchRecord | undefined): Promise<void> {
    const { route, response, headers, account } = input;
    const sent = account.upstream.send({ method: "GET", path: route.path, headers, body: undefined });
    let isGone = false;
    response.once("close", () => {
      if (response.writableFinished) return;
      isGone = true;
      sent.abort();
    });
    const collecting = { collector: undefined as Collector | undefined };
    try {
      const got = await sent.answer;
      response.writeHead(got.status, answerHeaders(got.headers));
      collecting.collector = collectorFor(input, batch, got);
      await got.body.read((chunk) => both(settling(collecting, chunk), passOn(response, chunk)));
      await settled(collecting, true);
      if (!isGone) response.end();
    } catch (error) {
      await settled(collecting, false);
      failed(input, error);
    }
  }

  function collectorFor(
    { route, headers }: BatchRequest,
    batch: BatchRecord | undefined,
    got: UpstreamAnswer,
  ): Collector | undefined {
    const protocol = BATCH_PROTOCOLS[route.provider];
    if (got.status !== 200 || batch === undefined || batch.endedAtMs !== undefined || protocol === undefined) return undefined;
    if (batch.keyId === undefined && batch.batchId !== undefined) keeper.remember(batch.batchId, headers);
    // Encoded although that was not asked for: read by the keeper, which asks as well.
    if ((headerOf(got.headers, "content-encoding") ?? "identity") !== "identity") return undefined;
    return results.collect(batch, protocol, headerOf(got.headers, SPEAKERS[route.provider].requestIdHeader));
  }

  /** A ledger that cannot be written now keeps nobody from their results: the keeper settles them later. */
  async function settling(collecting: { collector: Collector | undefined }, chunk: Uint8Array): Promise<void> {
    try {
      await collecting.collector?.push(chunk);
    } catch (error) {
      collecting.collector = undefined;
      told(error);
    }
  }

  async function settled({ collector }: { collector: Collector | undefined }, isWhole: boolean): Promise<void> {
    await collector?.end(isWhole).catch(told);
  }

  function told(error: unknown): void {
    const reason = error instanceof Error ? error.message : "unknown";
    notifier.warn(isLedgerUnavailable(error) ? "ledger_unavailable" : "internal_error", { reason });
  }

  return answer;
}

/** True for an answer that says that nothing was made. After any other failure it may have been. */
function isRefusal(status: number): boolean {
  return (status >= 400 && status < 500 && status !== 408) || status === 503 || status === 529;
}

function failed({ response, refuseUpstream }: BatchRequest, error: unknown): void {
  if (response.headersSent || response.destroyed) return void response.destroy();
  if (!(error instanceof UpstreamError)) throw error;
  refuseUpstream(error.failure);
}

async function both(settling: Promise<void>, passing: Promise<void> | undefined): Promise<void> {
  await settling;
  await passing;
}

function passOn(response: ServerResponse, chunk: Uint8Array): Promise<void> | undefined {
  return response.destroyed || response.write(chunk) ? undefined : drained(response);
}

async function readWhole({ body }: UpstreamAnswer): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  await body.read((chunk) => {
    bytes += chunk.length;
    if (bytes > HELD_BYTES_MAX) throw new RangeError(`an answer about batches of more than ${HELD_BYTES_MAX} bytes`);
    chunks.push(chunk);
    return undefined;
  });
  return Buffer.concat(chunks);
}

function send(
  response: ServerResponse,
  { answer, body }: { answer: UpstreamAnswer; body: Buffer },
  more: readonly string[],
): void {
  if (response.destroyed) return;
  const isJson = (headerOf(answer.headers, "content-type") ?? "").includes("json");
  const passed = isJson ? Buffer.from(leadingBack(body.toString("utf8"))) : body;
  response.writeHead(answer.status, [
    ...withoutLength(answerHeaders(answer.headers)),
    "content-length",
    String(passed.length),
    ...more,
  ]);
  response.end(passed);
}

/** The provider's own address of results would lead past the gateway: clients resolve its path against the one they were given. */
function leadingBack(text: string): string {
  return text.replaceAll(
    /("results_url"\s*:\s*")https?:\/\/[^"/]+[^"]*?(\/v1\/messages\/batches\/[A-Za-z0-9_-]+\/results")/g,
    "$1$2",
  );
}

function withoutLength(headers: readonly string[]): string[] {
  const kept: string[] = [];
  for (let index = 0; index < headers.length; index += 2) {
    const name = headers[index] ?? "";
    if (name.toLowerCase() !== "content-length") kept.push(name, headers[index + 1] ?? "");
  }
  return kept;
}
