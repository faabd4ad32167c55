/**
 * Owns: the words in which a test asks the simulator to answer in a certain way or to misbehave, and the queue of them.
 * Does not own: carrying them out (`serve.ts`, `usage.ts`, `wire.ts`).
 * Invariant: a behaviour changes what is sent, never what the bill says was generated, unless it says how much is generated.
 */
import type { IncomingHttpHeaders } from "node:http";
import type { Sampling, TokenParts } from "./bill.ts";
import { asRecord, asText } from "./json.ts";

/** A request as it reached the socket. Its fields fill in as it is served. */
export interface SimulatedRequest {
  /** The `request-id` of the answer; also the key of its bill line. */
  readonly requestId: string;
  readonly method: string;
  /** As sent, with the query. */
  readonly path: string;
  /** Without the query. */
  readonly pathname: string;
  /** Names in lower case. */
  readonly headers: IncomingHttpHeaders;
  /** Name, value, name, value, … exactly as they arrived. */
  readonly rawHeaders: readonly string[];
  /** Epoch milliseconds at which the head of the request arrived. */
  readonly atMs: number;
  /** The bytes of the body; empty until all of it has arrived. */
  readonly body: Buffer;
  /** The body as JSON (after content-encoding); undefined where it is none. */
  readonly json: unknown;
  /** The status sent; undefined before the head of the answer went out. */
  readonly status: number | undefined;
  /** Bytes of the answer's body handed to the socket so far (before chunked framing, after gzip). */
  readonly bytesWritten: number;
  /** Events of a stream handed to the socket so far, pings included. */
  readonly eventsWritten: number;
  readonly state: "open" | "answered" | "aborted" | "cut" | "closed";
}

/** A block of the answer. Left out, the content is a text (after thinking, if asked for; a tool call, if forced). */
export type ContentSpec =
  | { readonly type: "text"; readonly text?: string }
  | { readonly type: "thinking"; readonly text?: string }
  | { readonly type: "tool_use"; readonly name: string; readonly input: Readonly<Record<string, unknown>> }
  /** A search the provider itself runs: a `server_tool_use` block and its result. */
  | { readonly type: "web_search"; readonly query?: string };

/**
 * What is wrong with the usage that is reported.
 * - `missing`: no usage anywhere. `missing_final`: none in `message_delta` (in JSON: the same as `missing`).
 * - `null`: `usage: null` in the final report. `null_fields`: every field that may be null is null, and the rest is true.
 * - `repeated`: two final reports, the second one true. `falling`: two, the second one lower (streams only: JSON has one).
 * - `zero`: every count is 0, from `message_start` on.
 * - `negative`, `float`, `string`, `huge` (1e308): one field of the final report is no count, `usageField` says which.
 */
export type UsageFault =
  | "missing"
  | "missing_final"
  | "null"
  | "null_fields"
  | "repeated"
  | "falling"
  | "zero"
  | "negative"
  | "float"
  | "string"
  | "huge";

export interface IterationSpec extends Partial<TokenParts> {
  readonly kind: Sampling["kind"];
  /** Left out, the model of the request. */
  readonly modelId?: string;
}

/** How much is generated, and of what. */
export interface GenerationOptions {
  /** All input tokens, cached or not. Also: the request header `x-simulator-input-tokens`. */
  readonly inputTokens?: number;
  /** Output tokens, thinking included; never above `max_tokens`. Also: the request header `x-simulator-output-tokens`. */
  readonly outputTokens?: number;
  /** Of the output tokens, those spent on thinking. */
  readonly thinkingTokens?: number;
  /** Sets the parts of the main sampling outright, past the cache and the counting. */
  readonly parts?: Partial<TokenParts>;
  readonly content?: readonly ContentSpec[];
  readonly stopReason?: string;
  /** Bytes of generated text; left out, four per text token. A huge answer is `{ textBytes: 200e6, deltas: 3_200 }`. */
  readonly textBytes?: number;
  /** Over how many events each text is spread; at least 1. Left out, one per 16 tokens and at most 32. */
  readonly deltas?: number;
  /**
   * Samplings beside the main one, reported in `usage.iterations`. `compaction` and `advisor_message` stand outside the
   * totals; `message` adds to them; with a `fallback_message` the totals are those of the fallback alone.
   */
  readonly iterations?: readonly IterationSpec[];
  /** A server-tool loop: this many searches, each followed by one more sampling over the prompt and its results. */
  readonly searches?: number;
  /** Tokens that each search adds to the prompt of the next sampling. Left out, 1,000. */
  readonly searchResultTokens?: number;
  /** Whether `usage.iterations` stands in the report. Left out, true if `iterations` is given. */
  readonly showIterations?: boolean;
  readonly serviceTier?: "standard" | "priority" | "batch";
  readonly inferenceGeo?: string;
}

/** How the answer is told: the usage in it, and the order and number of events. */
export interface TellingOptions {
  readonly usage?: UsageFault;
  /** The field that `negative`, `float`, `string` and `huge` spoil. Left out, `output_tokens`. */
  readonly usageField?: string;
  /** Changes each usage object before it is sent; what it returns is what is sent. `undefined` leaves it out. */
  readonly editUsage?: (usage: Readonly<Record<string, unknown>>, place: "start" | "delta" | "json") => unknown;
  /** How many `message_delta` events carry the cumulative usage; at least 1. */
  readonly messageDeltas?: number;
  readonly omitMessageStop?: boolean;
  /** A `ping` after every so many events (the one after the first block starts is always sent). */
  readonly pingEvery?: number;
}

/** How the bytes travel. */
export interface WireOptions {
  /** Encodes the body if the request accepts gzip; each event is flushed. */
  readonly gzip?: boolean;
  /** Ends lines with CR LF. */
  readonly crlf?: boolean;
  /** Splits what is written into chunks of so many bytes, each flushed on its own. */
  readonly chunkBytes?: number;
  /** Splits in the middle of every character that has several bytes. */
  readonly splitCharacters?: boolean;
  /** Writes text as Latin-1: bytes that are no UTF-8. What Latin-1 lacks is escaped. */
  readonly latin1?: boolean;
  readonly contentType?: string;
  /** Informational responses sent before the head. */
  readonly informational?: readonly (100 | 102 | 103)[];
  readonly headers?: Readonly<Record<string, string>>;
}

export interface PaceOptions {
  /** Time between events. */
  readonly eventPaceMs?: number;
  /** Awaited before each event (also before the one body of a JSON answer); the event is written when it resolves. */
  readonly step?: () => Promise<void>;
}

export interface AnswerOptions extends GenerationOptions, TellingOptions, WireOptions, PaceOptions {}

/** Events count everything written, `message_start` first, pings included. */
export type Behaviour =
  /** A proper answer: JSON, or a stream if the request says so. */
  | ({ readonly kind: "answer" } & AnswerOptions)
  /** An error answer in the provider's shape (or with a body of its own). Nothing is generated. */
  | {
      readonly kind: "status";
      readonly status: number;
      readonly type?: string;
      readonly message?: string;
      readonly details?: Readonly<Record<string, unknown>>;
      /** Left out, 1 on 429 and absent elsewhere; null leaves it out. */
      readonly retryAfterSeconds?: number | null;
      readonly headers?: Readonly<Record<string, string>>;
      readonly body?: string;
    }
  /** Says nothing more after so many events, or before the head where `afterEvents` is left out, until `until` resolves. */
  | ({ readonly kind: "stall"; readonly afterEvents?: number; readonly until?: () => Promise<void> } & AnswerOptions)
  /** An `error` event inside a stream, after so many events; a JSON answer becomes the error's status instead. */
  | ({
      readonly kind: "error_event";
      readonly afterEvents: number;
      readonly type?: string;
      readonly message?: string;
    } & AnswerOptions)
  /** Breaks off after so many body bytes, or in the middle of the event after so many events; `reset` sends RST. */
  | ({
      readonly kind: "cut";
      readonly afterEvents?: number;
      readonly afterBytes?: number;
      readonly reset?: boolean;
    } & AnswerOptions)
  /** Closes the connection without an answer. What was generated till then is on the bill. */
  | ({ readonly kind: "close"; readonly reset?: boolean } & GenerationOptions)
  /** A 200 whose JSON (or whose event in mid-stream) breaks off. */
  | ({ readonly kind: "malformed_json" } & AnswerOptions);

export type RequestMatch = (request: SimulatedRequest) => boolean;
export type BehaviourChoice = Behaviour | ((request: SimulatedRequest) => Behaviour | undefined);

/** A behaviour as JSON in this request header wins over the queue and `always`. */
export const BEHAVIOUR_HEADER = "x-simulator-behaviour";

const KINDS: ReadonlySet<string> = new Set<Behaviour["kind"]>([
  "answer",
  "status",
  "stall",
  "error_event",
  "cut",
  "close",
  "malformed_json",
]);

/** First come, first served: a request takes the first behaviour in the queue that matches it. */
export class BehaviourQueue {
  readonly #queue: { readonly behaviour: Behaviour; readonly match: RequestMatch }[] = [];
  #always: BehaviourChoice | undefined;

  next(behaviour: Behaviour, match?: RequestMatch): void {
    assertKind(behaviour);
    this.#queue.push({ behaviour, match: match ?? isMessagesRequest });
  }

  always(choice: BehaviourChoice | undefined): void {
    if (choice !== undefined && typeof choice !== "function") assertKind(choice);
    this.#always = choice;
  }

  take(request: SimulatedRequest): Behaviour {
    const named = readHeader(request);
    if (named !== undefined) return named;
    const index = this.#queue.findIndex(({ match }) => match(request));
    if (index >= 0) return this.#queue.splice(index, 1)[0]?.behaviour ?? { kind: "answer" };
    if (!isMessagesRequest(request)) return { kind: "answer" };
    const always = typeof this.#always === "function" ? this.#always(request) : this.#always;
    return always ?? { kind: "answer" };
  }
}

function isMessagesRequest(request: SimulatedRequest): boolean {
  return request.method === "POST" && request.pathname === "/v1/messages";
}

function readHeader(request: SimulatedRequest): Behaviour | undefined {
  const text = asText(request.headers[BEHAVIOUR_HEADER]);
  if (text === undefined) return undefined;
  try {
    const behaviour = JSON.parse(text) as Behaviour;
    assertKind(behaviour);
    return behaviour;
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return { kind: "status", status: 400, message: `${BEHAVIOUR_HEADER}: ${why}` };
  }
}

function assertKind(behaviour: Behaviour): void {
  const kind = String(asRecord(behaviour)["kind"]);
  if (!KINDS.has(kind)) throw new RangeError(`behaviour kind ${JSON.stringify(kind)} is none of ${[...KINDS].join(", ")}`);
}
