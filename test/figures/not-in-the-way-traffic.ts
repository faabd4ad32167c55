/**
 * Owns the traffic of the figure "Not in the way": coding agents whose conversations grow turn by turn, and the bytes of their requests.
 * Does not own who admits them or what they cost.
 * Method: output lengths are those of real requests of 32,000 input tokens and more (Mooncake's conversation trace), tool results as long
 * as those of recorded runs of a coding agent (Terminal-Bench, at most 30,000 characters, as agents cut them), tools as slow as recorded
 * (SWE-agent's demos). Which follows which is drawn from a seed. Four bytes of text are one token.
 */
import { dataPath, readJsonLines } from "./figures.ts";

export const CONTEXT_TOKENS = 150_000;
export const MAX_TOKENS = 64_000;
export const BYTES_PER_TOKEN = 4;
const LONG_INPUT_TOKENS = 32_000;
const TOOL_RESULT_BYTES_MAX = 30_000;
/** One exchange of the history that stands there before the first request. */
const HISTORY_BLOCK_TOKENS = 1_500;
const SYSTEM_TOKENS = 12_000;

/** What one turn of an agent writes, gets back from its tool, and how long that takes. */
export interface Turn {
  outputTokens: number;
  toolResultBytes: number;
  toolMs: number;
}

export interface Traffic {
  /** Turn after turn, the same for the same agent whoever admits it. */
  turnsOf(agent: number): () => Turn;
  readonly outputs: readonly number[];
}

export function readTraffic(seed: number): Traffic {
  const trace = readJsonLines<{ input_length: number; output_length: number }>(
    dataPath("trace-mooncake-fast25", "conversation_trace.jsonl"),
  );
  const outputs = trace.filter((line) => line.input_length >= LONG_INPUT_TOKENS).map((line) => Math.max(1, line.output_length));
  const runs = readJsonLines<Trajectory>(dataPath("traj-terminal-bench-sonnet4", "trajectories.jsonl"));
  const results = runs.flatMap(({ steps }) => steps.map((step) => Math.min(step.result_len, TOOL_RESULT_BYTES_MAX)));
  const demos = readJsonLines<Trajectory>(dataPath("traj-swe-agent-demos", "trajectories.jsonl"));
  const times = demos.flatMap(({ steps }) => steps.flatMap((step) => step.execution_time ?? []));
  return {
    outputs,
    turnsOf(agent) {
      const random = createRandom(seed * 1_000 + agent);
      const pick = (list: readonly number[]): number => list[Math.floor(random() * list.length)] ?? 0;
      return () => ({ outputTokens: pick(outputs), toolResultBytes: pick(results), toolMs: Math.ceil(pick(times) * 1_000) });
    },
  };
}

interface Trajectory {
  steps: { result_len: number; execution_time?: number | null }[];
}

/** mulberry32: small, seeded, good enough to choose. */
function createRandom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** A conversation as a client keeps it: the mark for the cache is always on its last message. */
export interface Conversation {
  /** The next request, extending the last one. */
  body(): Uint8Array;
  /** What the model wrote, and what its tool answered. */
  append(outputTokens: number, toolResultBytes: number): void;
  readonly inputTokens: number;
  /** Bytes of what the last turn added, each with the comma before it: what the model wrote, and what its tool answered. */
  readonly added: { answerBytes: number; resultBytes: number };
}

const MARK = ',"cache_control":{"type":"ephemeral"}';

export function startConversation({
  agent,
  model,
  contextTokens = CONTEXT_TOKENS,
}: {
  agent: string;
  model: string;
  contextTokens?: number;
}): Conversation {
  const encode = (text: string): Buffer => Buffer.from(text);
  const words = `${agent} reads and writes files. `;
  const text = (bytes: number): string => words.repeat(Math.ceil(bytes / words.length)).slice(0, bytes);
  const system = text(SYSTEM_TOKENS * BYTES_PER_TOKEN);
  const tools = [{ name: "bash_run", description: "Runs a command.", input_schema: { type: "object" } }];
  const head = encode(
    `${JSON.stringify({ model, max_tokens: MAX_TOKENS, stream: true, tools, system }).slice(0, -1)},"messages":[` +
      JSON.stringify({ role: "user", content: `Task of ${agent}` }),
  );
  const settled: Buffer[] = [head];
  let last: Buffer = Buffer.alloc(0);
  let lastMarked: Buffer = last;
  let inputTokens = SYSTEM_TOKENS + tokensOf(`Task of ${agent}`);
  let turn = 0;
  let added = { answerBytes: 0, resultBytes: 0 };

  function append(outputTokens: number, toolResultBytes: number): void {
    turn += 1;
    const id = `toolu_${agent}_${turn}`;
    const command = text(outputTokens * BYTES_PER_TOKEN);
    const content = text(toolResultBytes);
    const asked = JSON.stringify({
      role: "assistant",
      content: [{ type: "tool_use", id, name: "bash_run", input: { command } }],
    });
    const result = JSON.stringify({ type: "tool_result", tool_use_id: id, content });
    settled.push(last);
    const answered = (mark: string): Buffer => encode(`,${asked},{"role":"user","content":[${result.slice(0, -1)}${mark}}]}`);
    last = answered("");
    lastMarked = answered(MARK);
    const answerBytes = asked.length + 1;
    added = { answerBytes, resultBytes: lastMarked.length - answerBytes };
    inputTokens += outputTokens + tokensOf(content);
  }

  while (inputTokens < contextTokens) {
    const missing = Math.min(HISTORY_BLOCK_TOKENS, contextTokens - inputTokens);
    append(Math.ceil(missing / 3), Math.floor((missing * 2) / 3) * BYTES_PER_TOKEN);
  }
  return {
    body: () => Buffer.concat([...settled, lastMarked, encode("]}")]),
    append,
    get inputTokens() {
      return inputTokens;
    },
    get added() {
      return added;
    },
  };
}

function tokensOf(text: string): number {
  return Math.ceil(text.length / BYTES_PER_TOKEN);
}
