/**
 * Owns carrying one admitted call to its upstream and the answer back, byte for byte, and telling the engine how it ended.
 * Does not own the decision (engine/) or which route this is (server.ts).
 * Invariants: a stream is never buffered; a caller that leaves is never mistaken for an upstream that fails, nor the other way round; a
 * stopped reader stops the upstream; every path ends the call once.
 */
import type { ServerResponse } from "node:http";
import type { RunningCall } from "../engine/running-call.ts";
import { feedMeter, type MeterFeed } from "./decoding.ts";
import {
  costHeaders,
  declaredLength,
  decisionHeaders,
  DRAIN_MS_MAX,
  endOf,
  filterOf,
  HELD_BYTES_MAX,
  isHeld,
} from "../exchange/answer.ts";
import { answerHeaders, headerOf } from "../exchange/headers.ts";
import type { AnswerFilter } from "../providers/provider.ts";
import { UpstreamError, type Upstream, type UpstreamAnswer, type UpstreamCall, type UpstreamFailure } from "./upstream.ts";

/** What was written of an answer that broke off has so long to be read. */
const WRITE_OUT_MS_MAX = 10_000;

export interface ForwardInput {
  call: RunningCall;
  upstream: Upstream;
  requestIdHeader: string;
  path: string;
  headers: string[];
  response: ServerResponse;
  onClientAbort: "cancel" | "drain";
  /** Writes Purser's own error; only before anything of an answer was written. */
  refuse: (failure: UpstreamFailure) => void;
}

/** Carries a call. Never rejects for what a caller or an upstream does; whatever fails, the call is ended. */
export async function forward(input: ForwardInput): Promise<void> {
  try {
    await carry(input);
  } catch (error) {
    // A mistake of ours must not leave money held: what was sent is counted as lost.
    await input.call.end({ kind: "lost", by: "upstream" });
    throw error;
  }
}

async function carry(input: ForwardInput): Promise<void> {
  const { call, upstream, response } = input;
  let sent: UpstreamCall | undefined;
  let drainTimer: NodeJS.Timeout | undefined;
  const caller = watchCaller(response, () => {
    if (input.onClientAbort === "cancel") sent?.abort();
    else drainTimer = setTimeout(() => sent?.abort(), DRAIN_MS_MAX).unref();
  });
  if (caller.isGone()) {
    await call.end({ kind: "not_sent", reason: "caller_left" });
    return;
  }
  let answer: UpstreamAnswer;
  try {
    call.markSent();
    sent = upstream.send({ method: "POST", path: input.path, headers: input.headers, body: call.body });
    answer = await sent.answer;
  } catch (error) {
    await endWithoutAnswer(input, error, caller.isGone());
    return;
  }
  try {
    await carryAnswer(input, answer, caller, sent);
  } catch (error) {
    // Nobody reads on: what still came would be kept.
    sent.abort();
    throw error;
  } finally {
    clearTimeout(drainTimer);
  }
}

interface Caller {
  isGone(): boolean;
}

function watchCaller(response: ServerResponse, onGone: () => void): Caller {
  let isGone = response.destroyed && !response.writableFinished;
  response.once("close", () => {
    // `close` comes after every answer; only one that was not written whole means that the caller left.
    if (response.writableFinished) return;
    isGone = true;
    onGone();
  });
  return { isGone: () => isGone };
}

async function endWithoutAnswer({ call, refuse }: ForwardInput, error: unknown, isCallerGone: boolean): Promise<void> {
  if (!(error instanceof UpstreamError)) throw error;
  const { failure } = error;
  // What never left cannot cost, whoever waited for it.
  if (failure.kind === "not_sent") await call.end({ kind: "not_sent", reason: failure.reason });
  else await call.end({ kind: "lost", by: isCallerGone ? "caller" : "upstream" });
  if (!isCallerGone) refuse(failure);
}

async function carryAnswer(input: ForwardInput, answer: UpstreamAnswer, caller: Caller, sent: UpstreamCall): Promise<void> {
  const { call, response } = input;
  const meter = call.openMeter(headerOf(answer.headers, "content-type") ?? "");
  const feed = feedMeter(meter, headerOf(answer.headers, "content-encoding"));
  const outcome = await readAnswer(input, answer, feed, caller);
  if (!outcome.isWhole) sent.abort();
  await feed.end();
  const { isWhole } = outcome;
  const end = endOf({ status: answer.status, meter, isWhole, isCallerGone: caller.isGone() });
  const settled = await call.end(end, headerOf(answer.headers, input.requestIdHeader));
  if (!isWhole) {
    breakOff(response, declaredLength(answer.headers) > 0);
    return;
  }
  if (outcome.held !== undefined && !response.headersSent) {
    writeHead(input, answer, costHeaders(settled));
    const [only] = outcome.held;
    response.end(outcome.held.length === 1 ? only : Buffer.concat(outcome.held));
    return;
  }
  response.end();
}

/**
 * Ends the connection without the end of the answer: what the upstream broke off must not look finished to the caller. What was written
 * before still reaches it. An answer that neither says its length nor comes in chunks ends with its connection, so that one is reset.
 */
function breakOff(response: ServerResponse, hasLength: boolean): void {
  const { socket } = response;
  if (socket === null || !response.headersSent) {
    response.destroy();
    return;
  }
  if (!response.chunkedEncoding && !hasLength) {
    socket.resetAndDestroy();
    return;
  }
  socket.destroySoon();
  // A caller that does not read is not waited for longer.
  const timer = setTimeout(() => socket.destroy(), WRITE_OUT_MS_MAX).unref();
  socket.once("close", () => clearTimeout(timer));
}

interface Outcome {
  isWhole: boolean;
  /** Chunks not yet written, if the answer was held. */
  held: Uint8Array[] | undefined;
}

/** Reads the answer to its end. A short one is held back whole; one that turns out long is passed on from then on. */
async function readAnswer(input: ForwardInput, answer: UpstreamAnswer, feed: MeterFeed, caller: Caller): Promise<Outcome> {
  let held: Uint8Array[] | undefined = isHeld(answer.headers) ? [] : undefined;
  let heldBytes = 0;
  const filter = filterOf(input.call, answer.headers);
  const pass = passTo(input, answer, caller, filter);
  try {
    const reading = answer.body.read((chunk) => {
      feed.push(chunk);
      if (held === undefined) return pass.write(chunk);
      held.push(chunk);
      heldBytes += chunk.length;
      if (heldBytes <= HELD_BYTES_MAX) return undefined;
      const pieces = held;
      held = undefined;
      return pass.write(Buffer.concat(pieces, heldBytes));
    });
    // What came with the head was written with it; where nothing did, the caller learns now that the answer has begun.
    if (held === undefined) pass.begin();
    await reading;
    if (held === undefined) pass.end();
  } catch {
    // The upstream broke off, or was cancelled because the caller left: `caller` tells which.
    return { isWhole: false, held: undefined };
  }
  return { isWhole: true, held };
}

function passTo(
  input: ForwardInput,
  answer: UpstreamAnswer,
  caller: Caller,
  filter: AnswerFilter | undefined,
): { begin(): void; write(chunk: Uint8Array): Promise<void> | undefined; end(): void } {
  const { response } = input;
  // What is taken out was counted in the length.
  const headers = filter === undefined ? answer.headers : withoutLength(answer.headers);
  const isDue = (): boolean => !caller.isGone() && !response.headersSent;
  const writeOn = (chunk: Uint8Array): Promise<void> | undefined => {
    if (isDue()) writeHead(input, { ...answer, headers }, []);
    return caller.isGone() || chunk.length === 0 || response.write(chunk) ? undefined : drained(response);
  };
  return {
    begin() {
      if (!isDue()) return;
      writeHead(input, { ...answer, headers }, []);
      response.flushHeaders();
    },
    write: (chunk) => writeOn(filter === undefined ? chunk : filter.push(chunk)),
    end: () => void (filter && writeOn(filter.end())),
  };
}

function withoutLength(headers: readonly string[]): string[] {
  return headers.filter((_, index) => headers[index - (index % 2)]?.toLowerCase() !== "content-length");
}

/** Waits until the caller has read what was written, or has left. */
export function drained(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      response.off("drain", done);
      response.off("close", done);
      resolve();
    };
    if (response.destroyed) {
      resolve();
      return;
    }
    response.on("drain", done);
    response.on("close", done);
  });
}

function writeHead({ call, response }: ForwardInput, answer: UpstreamAnswer, more: readonly string[]): void {
  response.writeHead(answer.status, [...answerHeaders(answer.headers), ...decisionHeaders(call), ...more]);
}
