/** A client that hides nothing: what arrived on the socket, byte for byte. */
import { connect, type Socket } from "node:net";
import type { Simulator } from "./simulator.ts";

export interface RawAnswer {
  /** Everything that arrived, heads included. */
  readonly bytes: Buffer;
  readonly text: string;
  readonly head: string;
  /** The body without chunked framing. */
  readonly body: Buffer;
  /** The sizes of the chunks of the chunked framing. */
  readonly chunkSizes: readonly number[];
  /** Whether the chunked framing came to its end. */
  readonly isComplete: boolean;
  /** How the connection ended. */
  readonly end: "answered" | "closed" | "reset";
}

export interface RawRequest {
  readonly method?: string;
  readonly path?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: unknown;
}

/** The head and body of a request as bytes. Without a body it is a plain question in 64 tokens at most. */
export function toRequestBytes({ method = "POST", path = "/v1/messages", headers = {}, body }: RawRequest): Buffer {
  const text = method === "GET" ? "" : typeof body === "string" ? body : JSON.stringify(body ?? question());
  const all = {
    host: "simulator",
    "x-api-key": "sk-test",
    "anthropic-version": "2023-06-01",
    "content-type": "application/json",
    "content-length": String(Buffer.byteLength(text)),
    ...headers,
  };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  return Buffer.from(`${method} ${path} HTTP/1.1\r\n${lines.join("")}\r\n${text}`);
}

export function question(more: Readonly<Record<string, unknown>> = {}): Record<string, unknown> {
  return {
    model: "claude-opus-5-5",
    max_tokens: 64,
    messages: [{ role: "user", content: "What did the voyage cost?" }],
    ...more,
  };
}

/** Connects, sends, and collects until the answer is complete or the connection ends. */
export async function ask(simulator: Simulator, request: RawRequest = {}): Promise<RawAnswer> {
  const socket = connect(simulator.port, "127.0.0.1");
  socket.write(toRequestBytes(request));
  return collect(socket);
}

export async function collect(socket: Socket): Promise<RawAnswer> {
  const chunks: Buffer[] = [];
  const end = await new Promise<RawAnswer["end"]>((resolve) => {
    socket.on("data", (chunk: Buffer) => {
      chunks.push(chunk);
      const { isComplete } = toAnswer(Buffer.concat(chunks), "answered");
      if (isComplete) resolve("answered");
    });
    socket.on("end", () => resolve("closed"));
    socket.on("error", () => resolve("reset"));
  });
  socket.destroy();
  return toAnswer(Buffer.concat(chunks), end);
}

function toAnswer(bytes: Buffer, end: RawAnswer["end"]): RawAnswer {
  const text = bytes.toString("utf8");
  const headStart = Math.max(
    0,
    bytes.lastIndexOf("HTTP/1.1 200"),
    bytes.lastIndexOf("HTTP/1.1 4"),
    bytes.lastIndexOf("HTTP/1.1 5"),
  );
  const headEnd = bytes.indexOf("\r\n\r\n", headStart);
  const head = bytes.subarray(0, Math.max(0, headEnd)).toString();
  return { bytes, text, head, end, ...unchunk(bytes.subarray(headEnd + 4), head) };
}

function unchunk(framed: Buffer, head: string): Pick<RawAnswer, "body" | "chunkSizes" | "isComplete"> {
  const length = /content-length: (\d+)/i.exec(head)?.[1];
  if (length !== undefined) return { body: framed, chunkSizes: [], isComplete: framed.length >= Number(length) };
  const parts: Buffer[] = [];
  const chunkSizes: number[] = [];
  let rest = framed;
  for (;;) {
    const lineEnd = rest.indexOf("\r\n");
    if (lineEnd < 0) break;
    const size = Number.parseInt(rest.subarray(0, lineEnd).toString(), 16);
    if (size === 0) return { body: Buffer.concat(parts), chunkSizes, isComplete: true };
    parts.push(rest.subarray(lineEnd + 2, lineEnd + 2 + size));
    chunkSizes.push(size);
    rest = rest.subarray(lineEnd + 2 + size + 2);
  }
  return { body: Buffer.concat(parts), chunkSizes, isComplete: false };
}

/** The events of a stream's body: name and data, in order. */
export function readEvents(body: Buffer | string): { name: string; data: Record<string, unknown> }[] {
  return body
    .toString()
    .split(/\r?\n\r?\n/)
    .filter((block) => block.includes("data:"))
    .map((block) => {
      const name = /^event: (.*)$/m.exec(block)?.[1]?.trim() ?? "";
      const data: unknown = JSON.parse(/^data: (.*)$/m.exec(block)?.[1] ?? "null");
      return { name, data: data as Record<string, unknown> };
    });
}
