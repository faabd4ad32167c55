/**
 * Owns: a simulated OpenAI: its socket, its requests, its stored responses, and its end.
 * Does not own: what an answer looks like (`openai-answers.ts`) or costs (`openai-bill.ts`).
 * Invariant: imports nothing of Purser's other rooms, so that its books and theirs can differ; every call whose body arrived and that is
 * not answered by an error has one line on the bill.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { chatEvents, chatJson, embeddingsJson, responseEvents, responseJson, type Generated } from "./openai-answers.ts";
import { isSold, OpenAiBill, type OpenAiTier, type OpenAiTokens } from "./openai-bill.ts";
import { asArray, asRecord, asText, type JsonRecord } from "./json.ts";

/** How the next call is answered. Left out: a short text. */
export interface OpenAiBehaviour extends Partial<OpenAiTokens> {
  readonly text?: string;
  /** Asks the caller to run this function instead of a text. */
  readonly toolName?: string;
  readonly tier?: OpenAiTier;
  /** Answers with this error instead. */
  readonly error?: { readonly status: number; readonly type: string; readonly code: string; readonly retryAfterSeconds?: number };
  /** `missing`: nowhere. `every`: cumulative, in every chunk, as some servers do. `last_choice`: in the chunk of the last choice. */
  readonly usage?: "missing" | "every" | "last_choice";
  /** How a response ends. */
  readonly status?: "completed" | "incomplete" | "failed";
  /** Closes the connection after so many events. */
  readonly cutAfterEvents?: number;
  /** Awaited before each event. */
  readonly step?: () => Promise<void>;
  /** Azure's first chunk: what its filter found, and no choice. */
  readonly hasFilterChunk?: boolean;
}

export interface OpenAiRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingMessage["headers"];
  readonly body: string;
}

export interface OpenAiSimulator {
  readonly url: string;
  readonly bill: OpenAiBill;
  /** Everything that reached the socket, in order of arrival. */
  readonly requests: readonly OpenAiRequest[];
  /** Queues a behaviour for the next metered call. */
  next(behaviour: OpenAiBehaviour): void;
  /** For every call that finds none in the queue. */
  always(behaviour: OpenAiBehaviour): void;
  /** Ends the work of a response in the background: from now on it is told as ended. */
  finish(responseId: string): void;
  close(): Promise<void>;
}

/** Starts it on a loopback port. */
export async function startOpenAiSimulator(): Promise<OpenAiSimulator> {
  const simulator = new HttpOpenAi();
  await simulator.listen();
  return simulator;
}

class HttpOpenAi implements OpenAiSimulator {
  readonly bill = new OpenAiBill();
  readonly requests: OpenAiRequest[] = [];
  readonly #queue: OpenAiBehaviour[] = [];
  #always: OpenAiBehaviour = {};
  readonly #stored = new Map<string, { generated: Generated; isRunning: boolean }>();
  readonly #server: Server;

  constructor() {
    this.#server = createServer((request, response) => {
      this.#accept(request, response).catch(() => response.destroy());
    });
    this.#server.keepAliveTimeout = 600_000;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  listen(): Promise<void> {
    return new Promise((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
  }

  next(behaviour: OpenAiBehaviour): void {
    this.#queue.push(behaviour);
  }

  always(behaviour: OpenAiBehaviour): void {
    this.#always = behaviour;
  }

  finish(responseId: string): void {
    const stored = this.#stored.get(responseId);
    if (stored !== undefined) stored.isRunning = false;
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeAllConnections();
    await closed;
  }

  async #accept(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    response.on("error", () => undefined);
    const chunks: Buffer[] = [];
    for await (const chunk of incoming as AsyncIterable<Buffer>) chunks.push(chunk);
    const body = Buffer.concat(chunks).toString("utf8");
    const path = (incoming.url ?? "/").split("?", 1)[0] ?? "";
    const method = incoming.method ?? "";
    this.requests.push({ method, path, headers: incoming.headers, body });
    response.setHeader("x-request-id", `req_${this.requests.length}`);
    const json = readBody(body);
    if (method === "POST" && METERED.has(path)) return this.#answer(path, json, response);
    if (path.startsWith("/v1/responses/resp_")) return this.#tell(path.split("/")[3] ?? "", method, response);
    if (path.startsWith("/v1/models")) return sendJson(response, 200, { object: "list", data: [] });
    return sendError(response, 404, "invalid_request_error", "unknown_url");
  }

  async #answer(path: string, json: JsonRecord, response: ServerResponse): Promise<void> {
    const behaviour = this.#queue.shift() ?? this.#always;
    const { error } = behaviour;
    const model = asText(json["model"]) ?? "";
    if (error !== undefined) {
      if (error.retryAfterSeconds !== undefined) response.setHeader("retry-after", String(error.retryAfterSeconds));
      return sendError(response, error.status, error.type, error.code);
    }
    if (!isSold(model)) return sendError(response, 404, "invalid_request_error", "model_not_found");
    const generated = this.#generate(path, json, behaviour);
    this.bill.charge({ requestId: `req_${this.requests.length}`, model, tier: generated.tier, tokens: generated.tokens });
    const isStream = json["stream"] === true;
    if (path === "/v1/embeddings") return sendJson(response, 200, embeddingsJson(generated));
    if (path === "/v1/chat/completions") {
      return isStream
        ? sendEvents(response, chatEvents(generated, json), behaviour)
        : sendJson(response, 200, chatJson(generated));
    }
    const isRunning = json["background"] === true;
    this.#stored.set(generated.id, { generated, isRunning });
    if (isStream) return sendEvents(response, responseEvents(generated), behaviour);
    return sendJson(response, 200, responseJson(generated, isRunning ? "queued" : undefined));
  }

  #tell(id: string, method: string, response: ServerResponse): void {
    const stored = this.#stored.get(id);
    if (stored === undefined) return sendError(response, 404, "invalid_request_error", "not_found");
    if (method === "DELETE") {
      this.#stored.delete(id);
      return sendJson(response, 200, { id, object: "response", deleted: true });
    }
    return sendJson(response, 200, responseJson(stored.generated, stored.isRunning ? "in_progress" : undefined));
  }

  #generate(path: string, json: JsonRecord, behaviour: OpenAiBehaviour): Generated {
    const { input, cached = 0, written = 0, output, reasoning = 0 } = behaviour;
    const most = [json["max_completion_tokens"], json["max_tokens"], json["max_output_tokens"]].find(
      (count) => typeof count === "number",
    );
    const choices = typeof json["n"] === "number" ? json["n"] : 1;
    const each = path === "/v1/embeddings" ? 0 : Math.min(output ?? DEFAULT_OUTPUT_TOKENS, most ?? Infinity);
    const asked = JSON.stringify(json["messages"] ?? json["input"] ?? "");
    return {
      ...behaviour,
      id: `${path === "/v1/responses" ? "resp" : "chatcmpl"}_${this.requests.length}`,
      model: asText(json["model"]) ?? "",
      text: behaviour.text ?? "hello",
      tier: behaviour.tier ?? "default",
      choices,
      inputs: asArray(json["input"]).length || 1,
      isBackground: json["background"] === true,
      tokens: {
        input: input ?? Math.ceil(asked.length / BYTES_PER_TOKEN),
        cached,
        written,
        output: each * choices,
        reasoning: Math.min(reasoning, each * choices),
      },
    };
  }
}

const METERED = new Set(["/v1/chat/completions", "/v1/responses", "/v1/embeddings"]);
const DEFAULT_OUTPUT_TOKENS = 16;
const BYTES_PER_TOKEN = 4;

function readBody(body: string): JsonRecord {
  try {
    return asRecord(JSON.parse(body));
  } catch {
    // What is no JSON asks for nothing.
    return {};
  }
}

function sendJson(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(body));
}

function sendError(response: ServerResponse, status: number, type: string, code: string): void {
  sendJson(response, status, { error: { message: `simulated: ${code}`, type, param: null, code } });
}

async function sendEvents(response: ServerResponse, events: readonly string[], behaviour: OpenAiBehaviour): Promise<void> {
  response.writeHead(200, { "content-type": "text/event-stream; charset=utf-8" });
  response.flushHeaders();
  for (const [index, event] of events.entries()) {
    if (index === behaviour.cutAfterEvents) {
      response.socket?.destroySoon();
      return;
    }
    await behaviour.step?.();
    if (response.destroyed) return;
    response.write(event);
    // One event is one piece on the wire, as far as the socket allows.
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
  response.end();
}
