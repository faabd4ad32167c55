/**
 * Owns what goes over the wire in the benchmarks: requests as coding agents make them, answers as Anthropic's Messages API gives them.
 * Everything is fixed: the same bytes in every run.
 */

export const MODEL = "claude-opus-5-5";
export const INPUT_TOKENS = 900;
export const OUTPUT_TOKENS = 120;
/** Replaced by the number of the connection: every connection is a session of its own. */
export const SESSION = "session-0000";

/**
 * What the provider is asked for, in the last bytes of the body, where it finds it without parsing:
 * `plain` at once, `slow` after half a second, `paced` an event every 10 ms, `held` the beginning only, until it is told to go on; the others are faults.
 */
export type Manner = "plain" | "slow" | "paced" | "held" | "error" | "reset" | "cut";

export interface RequestOptions {
  /** Of the body. */
  bytes: number;
  isStream: boolean;
  manner?: Manner;
  host: string;
  headers?: Readonly<Record<string, string>>;
}

const TOOLS = [
  {
    name: "read_file",
    description: "Reads a file of the workspace. Lines are numbered from 1; long lines are cut at 2,000 characters.",
    input_schema: {
      type: "object",
      properties: { path: { type: "string" }, offset: { type: "integer", minimum: 1 }, limit: { type: "integer" } },
      required: ["path"],
    },
  },
  {
    name: "run_command",
    description: "Runs a command in a shell and returns what it printed, with its exit code.",
    input_schema: {
      type: "object",
      properties: { command: { type: "string" }, timeoutMs: { type: "integer" } },
      required: ["command"],
    },
  },
];

const TEXT =
  'export function total(rows: readonly Row[]): bigint {\n\t// "cost" is in nano-dollars — never a float\n\treturn rows.reduce((sum, { cost }) => sum + cost, 0n);\n}\n';

/** A conversation with tools in the middle of its work, filled up to exactly `bytes`. */
export function buildBody({ bytes, isStream, manner = "plain" }: Pick<RequestOptions, "bytes" | "isStream" | "manner">): Buffer {
  const turns: object[] = [
    { role: "user", content: "Find out why the totals of the report differ from the bill, and repair it." },
  ];
  const body = () =>
    Buffer.from(
      JSON.stringify({
        model: MODEL,
        max_tokens: 2_048,
        system: [{ type: "text", text: "You are an engineer in this repository.", cache_control: { type: "ephemeral" } }],
        tools: TOOLS,
        messages: [...turns, { role: "user", content: [{ type: "text", text: filler }] }],
        metadata: { user_id: `bench-${manner}` },
        ...(isStream ? { stream: true } : {}),
      }),
    );
  let filler = "";
  const turnBytes = Math.max(512, Math.floor(bytes / 24));
  for (let index = 0; body().length + turnBytes + 1_024 < bytes; index += 1) turns.push(...toolTurn(index, turnBytes));
  const short = bytes - body().length;
  if (short < 0) throw new RangeError(`a body of ${bytes} bytes has no room for its conversation; at least ${bytes - short}`);
  filler = "x".repeat(short);
  return body();
}

function toolTurn(index: number, bytes: number): object[] {
  const id = `toolu_01A09q90qw90lq9178${String(index).padStart(4, "0")}`;
  const content = TEXT.repeat(Math.ceil(bytes / TEXT.length)).slice(0, Math.max(0, bytes - 320));
  return [
    { role: "assistant", content: [{ type: "tool_use", id, name: "read_file", input: { path: `src/report/rows-${index}.ts` } }] },
    { role: "user", content: [{ type: "tool_result", tool_use_id: id, content }] },
  ];
}

/** Head and body, ready for the socket. */
export function buildRequest(options: RequestOptions): Buffer {
  const body = buildBody(options);
  const headers = {
    host: options.host,
    "content-type": "application/json",
    "content-length": String(body.length),
    "x-api-key": "bench",
    "anthropic-version": "2023-06-01",
    "user-agent": "bench/1",
    accept: "application/json",
    "x-purser-session": SESSION,
    "x-purser-agent": "bench-agent",
    ...options.headers,
  };
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  return Buffer.concat([Buffer.from(`POST /v1/messages HTTP/1.1\r\n${lines.join("")}\r\n`), body]);
}

const usage = {
  input_tokens: INPUT_TOKENS,
  cache_creation_input_tokens: 0,
  cache_read_input_tokens: 0,
  cache_creation: { ephemeral_5m_input_tokens: 0, ephemeral_1h_input_tokens: 0 },
  output_tokens: OUTPUT_TOKENS,
  service_tier: "standard",
};
const message = { id: "msg_01XFDUDYJgAACzvnptvVoYEL", type: "message", role: "assistant", model: MODEL, stop_sequence: null };

const headOf = (contentType: string): string =>
  [
    "HTTP/1.1 200 OK",
    "date: Wed, 25 Nov 2026 12:00:00 GMT",
    `content-type: ${contentType}`,
    "request-id: req_011CSHoEeqs5C35K2UUqR7Fy",
    "anthropic-organization-id: 6a1b2c3d-0000-4000-8000-000000000000",
    "anthropic-ratelimit-requests-limit: 4000",
    "anthropic-ratelimit-requests-remaining: 3999",
    "anthropic-ratelimit-requests-reset: 2026-11-25T12:00:01Z",
  ].join("\r\n");

export const JSON_BODY = Buffer.from(
  JSON.stringify({ ...message, content: [{ type: "text", text: TEXT.repeat(5) }], stop_reason: "end_turn", usage }),
);
export const JSON_ANSWER = Buffer.concat([
  Buffer.from(`${headOf("application/json")}\r\ncontent-length: ${JSON_BODY.length}\r\n\r\n`),
  JSON_BODY,
]);

const event = (type: string, data: object): string => `event: ${type}\ndata: ${JSON.stringify({ type, ...data })}\n\n`;
const chunk = (text: string): string => `${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`;

export const STREAM_HEAD = `${headOf("text/event-stream; charset=utf-8")}\r\ntransfer-encoding: chunked\r\n\r\n`;
export const STREAM_END = "0\r\n\r\n";
/** Marks the instant an event was sent, in nanoseconds of the monotonic clock, in as many digits as `STAMP_DIGITS`. */
export const STAMP = "@@";
export const STAMP_DIGITS = 18;
const WORDS = `${STAMP}${"0".repeat(STAMP_DIGITS)} and the next words `;

/** 61 events, each in a chunk of its own. */
export const STREAM_EVENTS: readonly string[] = [
  event("message_start", { message: { ...message, content: [], stop_reason: null, usage: { ...usage, output_tokens: 1 } } }),
  event("content_block_start", { index: 0, content_block: { type: "text", text: "" } }),
  ...Array.from({ length: 56 }, () => event("content_block_delta", { index: 0, delta: { type: "text_delta", text: WORDS } })),
  event("content_block_stop", { index: 0 }),
  event("message_delta", { delta: { stop_reason: "end_turn", stop_sequence: null }, usage: { output_tokens: OUTPUT_TOKENS } }),
  event("message_stop", {}),
].map((text) => chunk(text));
export const STREAM_ANSWER = Buffer.from(STREAM_HEAD + STREAM_EVENTS.join("") + STREAM_END);
export const STREAM_BODY_BYTES = STREAM_EVENTS.reduce(
  (sum, text) => sum + Buffer.byteLength(text.replace(/^[0-9a-f]+\r\n|\r\n$/g, "")),
  0,
);

const errorBody = JSON.stringify({ type: "error", error: { type: "overloaded_error", message: "Overloaded" } });
export const ERROR_ANSWER = Buffer.from(
  `${headOf("application/json").replace("200 OK", "529 Overloaded")}\r\ncontent-length: ${errorBody.length}\r\n\r\n${errorBody}`,
);
