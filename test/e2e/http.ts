/** Asking a gateway over real sockets: a whole exchange, one that the test keeps open, and bytes that no HTTP client would send. */
import { request as httpRequest, type ClientRequest, type IncomingMessage } from "node:http";
import { connect, type Socket } from "node:net";
import type { Simulator } from "../../src/testing/testing.ts";

export const MODEL = "claude-sonnet-5-5";

/** The body of a small call; `extra` adds or replaces fields. */
export function messageOf(extra: Record<string, unknown> = {}): string {
  return JSON.stringify({ model: MODEL, max_tokens: 256, messages: [{ role: "user", content: "Hello." }], ...extra });
}

export interface AskOptions {
  method?: string;
  path?: string;
  /** Beside a content type, a key and a version; `undefined` leaves one of those out. */
  headers?: Record<string, string | undefined>;
  body?: string | Buffer;
}

/** A whole answer, and the error in it if it holds one. */
export interface Answer {
  status: number;
  headers: IncomingMessage["headers"];
  text: string;
  /** Purser's own error, or the provider's; `undefined`: the answer is none. */
  error: AnswerError | undefined;
}

export interface AnswerError {
  type: string;
  message: string;
  details: Record<string, unknown>;
}

/** Opens one request on a socket of its own; the caller writes and ends the body. */
export function openRequest(
  url: string,
  { method = "POST", path = "/v1/messages", headers = {} }: Omit<AskOptions, "body">,
): ClientRequest {
  const { hostname, port } = new URL(url);
  const all = { "content-type": "application/json", "x-api-key": "sk-test", "anthropic-version": "2023-06-01", ...headers };
  const named = Object.entries(all).filter((entry): entry is [string, string] => entry[1] !== undefined);
  return httpRequest({ host: hostname, port, path, method, agent: false, headers: Object.fromEntries(named) });
}

/** Asks, and resolves with the head of the answer. */
export function begin(url: string, options: AskOptions = {}): Promise<IncomingMessage> {
  const body = options.body ?? ((options.method ?? "POST") === "POST" ? messageOf() : undefined);
  // Node states no length for a method that rarely has a body, which would make the body the next request.
  const length = body === undefined ? {} : { "content-length": String(Buffer.byteLength(body)) };
  const request = openRequest(url, { ...options, headers: { ...length, ...options.headers } });
  const head = headOf(request);
  request.end(body);
  return head;
}

/** Resolves with the head of the answer to an open request. */
export function headOf(request: ClientRequest): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    request.once("response", resolve);
    request.once("error", reject);
  });
}

/** Asks, and resolves with the whole answer. */
export async function ask(url: string, options: AskOptions = {}): Promise<Answer> {
  return readAnswer(await begin(url, options));
}

/** Reads an answer to its end. */
export async function readAnswer(response: IncomingMessage): Promise<Answer> {
  let text = "";
  response.setEncoding("utf8");
  for await (const chunk of response) text += chunk as string;
  return { status: response.statusCode ?? 0, headers: response.headers, text, error: errorIn(text) };
}

function errorIn(text: string): AnswerError | undefined {
  if (!text.startsWith("{")) return undefined;
  const { type, error } = JSON.parse(text) as { type?: string; error?: Partial<AnswerError> | null };
  // Anthropic's errors say what they are; OpenAI's are an `error` and nothing beside it.
  if ((type !== "error" && type !== undefined) || error === undefined || error === null) return undefined;
  return { type: error.type ?? "", message: error.message ?? "", details: error.details ?? {} };
}

/** Connects without speaking. */
export function connectTo(url: string, { allowHalfOpen = false } = {}): Promise<Socket> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve, reject) => {
    const socket = connect({ host: hostname, port: Number(port), allowHalfOpen }, () => resolve(socket));
    socket.once("error", reject);
  });
}

/** Writes bytes as they are and resolves with everything that came back until the gateway closed. */
export async function exchange(url: string, bytes: string): Promise<string> {
  const socket = await connectTo(url);
  socket.write(bytes);
  return allOf(socket);
}

/** Everything that arrives until the other side closes. */
export async function allOf(socket: Socket): Promise<string> {
  let text = "";
  socket.setEncoding("utf8");
  for await (const chunk of socket) text += chunk as string;
  return text;
}

/** Tries until something holds; for what no event tells. Gives up with the test's own timeout. */
export async function until(isTrue: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await isTrue())) await new Promise((resolve) => setTimeout(resolve, 5));
}

/** Answers that stand still until the test lets them go, in the order in which they came. */
export interface HeldAnswers {
  /** How many stand still now. */
  readonly count: number;
  /** The most that ever stood at once. */
  readonly most: number;
  release(answers?: number): void;
}

/** Makes a simulator hold every JSON answer. @param outputTokens of each. */
export function holdAnswers(simulator: Simulator, { outputTokens = 20 }: { outputTokens?: number } = {}): HeldAnswers {
  const held: (() => void)[] = [];
  let most = 0;
  const step = (): Promise<void> =>
    new Promise((resolve) => {
      held.push(resolve);
      most = Math.max(most, held.length);
    });
  simulator.always(() => ({ kind: "answer", outputTokens, step }));
  return {
    get count() {
      return held.length;
    },
    get most() {
      return most;
    },
    release: (answers = 1) => held.splice(0, answers).forEach((letGo) => letGo()),
  };
}
