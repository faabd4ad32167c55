/**
 * Owns carrying one admitted call to its provider and the answer back, and telling the engine how it ended.
 * Does not own the decision (engine/) or how bytes are handed on (answer-stream.ts).
 * Invariants: every path ends the call once; once an answer began, the caller gets one, which breaks off where the provider's did; what
 * the caller sees is what `fetch` would have shown it, and our headers.
 */
import { costHeaders, decisionHeaders, DRAIN_MS_MAX, endOf, filterOf, HELD_BYTES_MAX, isHeld } from "../exchange/answer.ts";
import type { RunningCall } from "../engine/running-call.ts";
import type { Settled } from "../engine/settler.ts";
import { answerStream, type AnswerSource } from "./answer-stream.ts";

export interface CarryInput {
  call: RunningCall;
  /** Sends the call's body; rejects as `fetch` does. */
  send(body: Uint8Array, signal: AbortSignal): Promise<Response>;
  /** Under which the provider names a request. */
  requestIdHeader: string;
  /** True if a rejection can be believed that says nothing was sent: a `fetch` of somebody else's may have tried twice. */
  isFetchKnown: boolean;
  /** The caller's. */
  signal: AbortSignal | undefined;
  onClientAbort: "cancel" | "drain";
  onSettled(settled: Settled): void;
}

/** A call on its way. */
export interface CarriedCall {
  /** Rejects only where no answer began: with what `fetch` rejected with, or with the caller's reason. */
  readonly response: Promise<Response>;
  /** Ends it, wherever it is. Holds nothing of the answer. */
  readonly cut: () => void;
}

/** Carries a call. Whatever happens, it is ended. */
export function carry(input: CarryInput): CarriedCall {
  const carried = new Carried(input);
  return { response: carried.begin(), cut: () => carried.cut() };
}

class Carried {
  readonly #input: CarryInput;
  readonly #upstream = new AbortController();
  /** Tells the caller that it left, while it waits for an answer. Gone with that: it would hold the answer. */
  #tellLeft: ((reason: unknown) => void) | undefined;
  #stopWatching: () => void = () => undefined;
  #isCallerGone = false;
  #isDraining: boolean;
  #drainTimer: NodeJS.Timeout | undefined;
  #settled: Promise<Settled> | undefined;
  /** Ends it at what is known by now. */
  #endNow: () => Promise<unknown> = () => this.#end(() => this.#input.call.end({ kind: "lost", by: "caller" }));
  /** Breaks off what is handed on, once something is. */
  #breakOff: ((reason: unknown) => void) | undefined;

  constructor(input: CarryInput) {
    this.#input = input;
    this.#isDraining = input.onClientAbort === "drain";
  }

  async begin(): Promise<Response> {
    const { call, signal } = this.#input;
    if (signal?.aborted === true) {
      await this.#end(() => call.end({ kind: "not_sent", reason: "caller_left" }));
      throw signal.reason;
    }
    this.#watch(signal);
    return new Promise((resolve, reject) => {
      this.#tellLeft = reject;
      void this.#carry()
        .then(resolve, reject)
        .finally(() => {
          this.#tellLeft = undefined;
        });
    });
  }

  cut(): void {
    // Its end is being written: whoever reads it learns that in a moment.
    if (this.#settled !== undefined) return;
    this.#isDraining = false;
    this.#leave(new Error("Purser was closed"));
  }

  async #carry(): Promise<Response> {
    const { call } = this.#input;
    try {
      call.markSent();
      const response = await this.#input.send(call.body, this.#upstream.signal);
      return await this.#carryAnswer(response);
    } catch (error) {
      // A mistake of ours must not leave money held either: what was sent is counted as lost. Ended already, this changes nothing.
      const by = this.#isCallerGone ? "caller" : "upstream";
      const isVoid = this.#input.isFetchKnown && isNotSent(error);
      await this.#end(() => call.end(isVoid ? { kind: "not_sent", reason: "unreachable" } : { kind: "lost", by }));
      throw error;
    }
  }

  async #carryAnswer(response: Response): Promise<Response> {
    const { call } = this.#input;
    const { status, headers, body } = response;
    const meter = call.openMeter(headers.get("content-type") ?? "");
    const end = (isWhole: boolean): Promise<Settled> =>
      this.#end(() => {
        meter.end();
        const isCallerGone = this.#isCallerGone;
        return call.end(endOf({ status, meter, isWhole, isCallerGone }), headers.get(this.#input.requestIdHeader) ?? undefined);
      });
    this.#endNow = () => end(false);
    if (body === null) return this.#whole(response, null, await end(true));
    // What is handed on is decoded, whatever its head says of a coding.
    const filter = filterOf(call, ["content-type", headers.get("content-type") ?? ""]);
    const source: AnswerSource = {
      reader: body.getReader(),
      push(chunk) {
        meter.push(chunk);
        return filter === undefined ? chunk : filter.push(chunk);
      },
      rest: () => filter?.end(),
      end: async (isWhole) => void (await end(isWhole)),
      leave: (reason) => this.#leaveAnswer(source, reason),
    };
    const held = isHeld([...headers].flat()) ? await readHeld(source) : { outcome: "long" as const, chunks: [] };
    if (held.outcome === "whole") return this.#whole(response, held.body, await end(true));
    if (held.outcome === "long") return this.#handOn(response, source, { first: held.chunks, isFiltered: filter !== undefined });
    await end(false);
    return answerLike(response, brokenAfter(held.chunks, held.error), decisionHeaders(call));
  }

  #whole(response: Response, body: Uint8Array | null, settled: Settled): Response {
    return answerLike(response, body, [...decisionHeaders(this.#input.call), ...costHeaders(settled)]);
  }

  #handOn(
    response: Response,
    source: AnswerSource,
    { first, isFiltered }: { first: readonly Uint8Array[]; isFiltered: boolean },
  ): Response {
    // Of the stream itself nothing is kept: when nobody holds it any more, the call ends.
    const { readable, abort } = answerStream(source, first);
    this.#breakOff = abort;
    const answer = answerLike(response, readable, decisionHeaders(this.#input.call));
    // What is taken out was counted in the length.
    if (isFiltered) answer.headers.delete("content-length");
    return answer;
  }

  #watch(signal: AbortSignal | undefined): void {
    if (signal === undefined) return;
    const onAbort = (): void => this.#leave(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    this.#stopWatching = () => signal.removeEventListener("abort", onAbort);
  }

  /** The caller wants no answer any more. */
  #leave(reason: unknown): void {
    if (this.#breakOff !== undefined) return this.#breakOff(reason);
    this.#isCallerGone = true;
    // Whoever leaves does not wait for what is read on without it.
    this.#tellLeft?.(reason);
    this.#giveUp(reason);
    // What is sent with may not listen to the signal.
    if (!this.#isDraining) void this.#endNow();
  }

  /** The caller wants no more of what is handed on. */
  async #leaveAnswer(source: AnswerSource, reason: unknown): Promise<void> {
    if (this.#settled !== undefined) return;
    this.#isCallerGone = true;
    this.#giveUp(reason);
    if (!this.#isDraining) return source.end(false);
    // Read on for its bill alone.
    void readOn(source);
  }

  #giveUp(reason: unknown): void {
    const abort = (): void => this.#upstream.abort(reason);
    if (this.#isDraining) this.#drainTimer ??= setTimeout(abort, DRAIN_MS_MAX).unref();
    else abort();
  }

  #end(end: () => Promise<Settled>): Promise<Settled> {
    this.#settled ??= this.#endOnce(end);
    return this.#settled;
  }

  async #endOnce(end: () => Promise<Settled>): Promise<Settled> {
    this.#stopWatching();
    clearTimeout(this.#drainTimer);
    const settled = await end();
    this.#input.onSettled(settled);
    return settled;
  }
}

type Held =
  | { outcome: "whole"; body: Uint8Array }
  | { outcome: "long"; chunks: Uint8Array[] }
  | { outcome: "broken"; chunks: Uint8Array[]; error: unknown };

/** Reads a short answer whole, or as much of a long one as shows that it is long. */
async function readHeld(source: AnswerSource): Promise<Held> {
  const chunks: Uint8Array[] = [];
  let heldBytes = 0;
  try {
    for (;;) {
      const { done, value } = await source.reader.read();
      if (done) break;
      source.push(value);
      chunks.push(value);
      heldBytes += value.length;
      if (heldBytes > HELD_BYTES_MAX) return { outcome: "long", chunks };
    }
  } catch (error) {
    return { outcome: "broken", chunks, error };
  }
  const [only] = chunks;
  return { outcome: "whole", body: chunks.length === 1 && only !== undefined ? only : Buffer.concat(chunks, heldBytes) };
}

async function readOn(source: AnswerSource): Promise<void> {
  try {
    for (;;) {
      const { done, value } = await source.reader.read();
      if (done) break;
      source.push(value);
    }
  } catch {
    // It broke off while nobody waited: what was said by then counts.
    return source.end(false);
  }
  return source.end(true);
}

/** What came of an answer that broke off, and then the error that broke it. */
function brokenAfter(chunks: readonly Uint8Array[], error: unknown): ReadableStream<Uint8Array> {
  const left = [...chunks];
  return new ReadableStream<Uint8Array>(
    {
      pull(controller) {
        const next = left.shift();
        if (next === undefined) controller.error(error);
        else controller.enqueue(next);
      },
    },
    { highWaterMark: 0 },
  );
}

/** The answer as `fetch` gave it, with another body and our headers; nobody but us writes those. */
function answerLike(answer: Response, body: ReadableStream<Uint8Array> | Uint8Array | null, ours: readonly string[]): Response {
  const { status, statusText, url, redirected, type } = answer;
  const headers = new Headers(answer.headers);
  for (const name of answer.headers.keys()) if (name.startsWith("x-purser-")) headers.delete(name);
  for (let index = 0; index < ours.length; index += 2) headers.set(ours[index] ?? "", headerText(ours[index + 1] ?? ""));
  const like = new Response(body as Uint8Array<ArrayBuffer> | ReadableStream<Uint8Array> | null, { status, statusText, headers });
  return Object.defineProperties(like, { url: { value: url }, redirected: { value: redirected }, type: { value: type } });
}

/** A model's name can hold any letter; a header cannot. */
function headerText(text: string): string {
  return text.replaceAll(/[^\t\x20-\x7e\x80-\xff]/g, "?");
}

/** Failures of looking up or opening a connection: before those no byte can have left. */
function isNotSent(error: unknown): boolean {
  const cause: unknown = error instanceof Error ? error.cause : undefined;
  if (cause instanceof AggregateError) return cause.errors.length > 0 && cause.errors.every(isConnecting);
  return isConnecting(cause);
}

function isConnecting(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const isOpening = "syscall" in error && (error.syscall === "connect" || error.syscall === "getaddrinfo");
  return isOpening || ("code" in error && error.code === "UND_ERR_CONNECT_TIMEOUT");
}
