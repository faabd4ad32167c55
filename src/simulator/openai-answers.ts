/**
 * Owns: what simulated answers of OpenAI look like: JSON bodies and the events of streams, with the usage in them.
 * Does not own: what was generated (`openai.ts`).
 *
 * @see openai 7.57.0, resources/chat/completions and resources/responses
 */
import type { OpenAiBehaviour } from "./openai.ts";
import type { OpenAiTier, OpenAiTokens } from "./openai-bill.ts";
import { asRecord, type JsonRecord } from "./json.ts";

export interface Generated extends OpenAiBehaviour {
  readonly id: string;
  readonly model: string;
  readonly text: string;
  readonly tier: OpenAiTier;
  readonly choices: number;
  readonly inputs: number;
  readonly isBackground: boolean;
  readonly tokens: OpenAiTokens;
}

const CREATED = 1_763_900_000;

function chatUsage({ input, cached, written, output, reasoning }: OpenAiTokens, share = 1): JsonRecord {
  const completion = Math.ceil(output * share);
  return {
    prompt_tokens: input,
    completion_tokens: completion,
    total_tokens: input + completion,
    prompt_tokens_details: { cached_tokens: cached, cache_write_tokens: written, audio_tokens: 0 },
    completion_tokens_details: { reasoning_tokens: Math.min(reasoning, completion), rejected_prediction_tokens: 0 },
  };
}

function toolCalls({ toolName, id }: Generated): JsonRecord {
  return toolName === undefined
    ? {}
    : { tool_calls: [{ index: 0, id: `call_${id}`, type: "function", function: { name: toolName, arguments: "{}" } }] };
}

function finishReason({ toolName }: Generated): string {
  return toolName === undefined ? "stop" : "tool_calls";
}

export function chatJson(generated: Generated): JsonRecord {
  const { id, model, text, tier, choices, usage, toolName } = generated;
  return {
    id,
    object: "chat.completion",
    created: CREATED,
    model,
    choices: Array.from({ length: choices }, (_, index) => ({
      index,
      message: { role: "assistant", content: toolName === undefined ? text : null, refusal: null, ...toolCalls(generated) },
      logprobs: null,
      finish_reason: finishReason(generated),
    })),
    ...(usage === "missing" ? {} : { usage: chatUsage(generated.tokens) }),
    service_tier: tier,
  };
}

/** One text in pieces, then the end, then the usage if it was asked for. */
export function chatEvents(generated: Generated, request: JsonRecord): string[] {
  const { id, model, text, tier, choices, tokens, usage: telling, hasFilterChunk } = generated;
  const isAsked = asRecord(request["stream_options"])["include_usage"] === true && telling !== "missing";
  const base = { id, object: "chat.completion.chunk", created: CREATED, model, service_tier: tier };
  const pieces = Array.from(text);
  const share = (index: number): JsonRecord => chatUsage(tokens, (index + 1) / (pieces.length + 1));
  const usageOf = (index: number): JsonRecord => (telling === "every" ? { usage: share(index) } : isAsked ? { usage: null } : {});
  const chunk = (delta: JsonRecord, reason: string | null, more: JsonRecord, index = 0): string =>
    event({ ...base, choices: [{ index, delta, logprobs: null, finish_reason: reason }], ...more });
  const events: string[] = [];
  if (hasFilterChunk === true) {
    events.push(event({ ...base, choices: [], prompt_filter_results: [{ prompt_index: 0, content_filter_results: {} }] }));
  }
  for (let choice = 0; choice < choices; choice += 1) {
    events.push(chunk({ role: "assistant", content: "" }, null, usageOf(0), choice));
    for (const [index, piece] of pieces.entries()) events.push(chunk({ content: piece }, null, usageOf(index), choice));
    if (generated.toolName !== undefined) events.push(chunk(toolCalls(generated), null, usageOf(0), choice));
    const isLast = choice === choices - 1;
    const more = telling === "last_choice" && isLast ? { usage: chatUsage(tokens) } : usageOf(pieces.length);
    events.push(chunk({}, finishReason(generated), more, choice));
  }
  if (isAsked && telling === undefined) events.push(event({ ...base, choices: [], usage: chatUsage(tokens) }));
  return [...events, "data: [DONE]\n\n"];
}

function responseUsage({ input, cached, written, output, reasoning }: OpenAiTokens): JsonRecord {
  return {
    input_tokens: input,
    input_tokens_details: { cached_tokens: cached, cache_write_tokens: written },
    output_tokens: output,
    output_tokens_details: { reasoning_tokens: reasoning },
    total_tokens: input + output,
  };
}

/** @param running how far it is, while it has not ended. */
export function responseJson(generated: Generated, running?: "queued" | "in_progress"): JsonRecord {
  const { id, model, text, tier, tokens, usage, status = "completed", isBackground, toolName } = generated;
  const item =
    toolName === undefined
      ? { id: `msg_${id}`, type: "message", role: "assistant", status, content: [{ type: "output_text", text, annotations: [] }] }
      : { id: `fc_${id}`, type: "function_call", call_id: `call_${id}`, name: toolName, arguments: "{}", status };
  return {
    id,
    object: "response",
    created_at: CREATED,
    status: running ?? status,
    background: isBackground,
    error: status === "failed" && running === undefined ? { code: "server_error", message: "simulated" } : null,
    incomplete_details: status === "incomplete" && running === undefined ? { reason: "max_output_tokens" } : null,
    model,
    output: running === undefined ? [item] : [],
    parallel_tool_calls: true,
    tools: [],
    service_tier: running === undefined ? tier : "auto",
    usage: running === undefined && usage !== "missing" ? responseUsage(tokens) : null,
  };
}

export function responseEvents(generated: Generated): string[] {
  const { id, text, status = "completed" } = generated;
  let sequence = 0;
  const named = (type: string, fields: JsonRecord): string => {
    sequence += 1;
    return `event: ${type}\n${event({ type, ...fields, sequence_number: sequence })}`;
  };
  const place = { item_id: `msg_${id}`, output_index: 0, content_index: 0 };
  const item = { id: `msg_${id}`, type: "message", role: "assistant", status: "in_progress", content: [] };
  const part = { type: "output_text", text: "", annotations: [] };
  return [
    named("response.created", { response: responseJson(generated, "in_progress") }),
    named("response.in_progress", { response: responseJson(generated, "in_progress") }),
    named("response.output_item.added", { output_index: 0, item }),
    named("response.content_part.added", { ...place, part }),
    ...Array.from(text, (delta) => named("response.output_text.delta", { ...place, delta, logprobs: [] })),
    named("response.output_text.done", { ...place, text, logprobs: [] }),
    named("response.content_part.done", { ...place, part: { ...part, text } }),
    named("response.output_item.done", { output_index: 0, item: { ...item, status, content: [{ ...part, text }] } }),
    named(`response.${status}`, { response: responseJson(generated) }),
  ];
}

export function embeddingsJson({ model, tokens, inputs }: Generated): JsonRecord {
  return {
    object: "list",
    // Four floats in base64, which the SDK asks for.
    data: Array.from({ length: inputs }, (_, index) => ({ object: "embedding", index, embedding: "AACAPwAAAEAAAEBAAACAQA==" })),
    model,
    usage: { prompt_tokens: tokens.input, total_tokens: tokens.input },
  };
}

function event(data: JsonRecord): string {
  return `data: ${JSON.stringify(data)}\n\n`;
}
