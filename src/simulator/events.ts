/**
 * Owns: the events of a streamed answer, in the provider's order, and the message of a JSON answer.
 * Does not own: when and how they are written (`serve.ts`, `wire.ts`).
 * Invariant: events are made one at a time, so an answer of any length takes little memory; `tokensDone` never falls and ends
 * at all output tokens.
 * @see platform.claude.com/docs/en/build-with-claude/streaming
 */
import { share, type Answer, type AnswerBlock } from "./answer.ts";
import type { TellingOptions } from "./behaviours.ts";
import type { JsonRecord } from "./json.ts";
import { textOfBytes } from "./text.ts";
import { spoilUsage, toDeltaUsage, toJsonUsage, toStartUsage } from "./usage.ts";

export interface StreamEvent {
  readonly name: string;
  readonly data: JsonRecord;
  /** Output tokens generated when this event can first be written. */
  readonly tokensDone: number;
  /** The usage in this event, as sent. */
  readonly usage?: { readonly place: "start" | "delta"; readonly value: unknown };
}

/** The whole answer to a request that does not stream. */
export function toMessage(answer: Answer, options: TellingOptions): JsonRecord {
  const usage = spoilUsage(toJsonUsage(answer), "json", options);
  return {
    ...toEnvelope(answer),
    content: answer.blocks.map(toWholeBlock),
    stop_reason: answer.stopReason,
    stop_sequence: answer.stopSequence,
    ...(usage === undefined ? {} : { usage }),
  };
}

/** `message_start`, the blocks, one or more `message_delta`, `message_stop`; a ping after the first block starts. */
export function* toEvents(answer: Answer, options: TellingOptions): Generator<StreamEvent, void, undefined> {
  let count = 0;
  let isPingDue = true;
  for (const event of toProperEvents(answer, options)) {
    yield event;
    count += 1;
    const isFirstStart = isPingDue && event.name === "content_block_start";
    if (isFirstStart || (options.pingEvery !== undefined && count % options.pingEvery === 0)) {
      yield { name: "ping", data: { type: "ping" }, tokensDone: event.tokensDone };
      if (isFirstStart) isPingDue = false;
    }
  }
}

function* toProperEvents(answer: Answer, options: TellingOptions): Generator<StreamEvent, void, undefined> {
  yield toStartEvent(answer, options);
  let tokensBefore = 0;
  for (const [index, block] of answer.blocks.entries()) {
    yield* toBlockEvents(block, index, tokensBefore);
    tokensBefore += block.tokens;
  }
  yield* toDeltaEvents(answer, options);
  if (options.omitMessageStop !== true)
    yield { name: "message_stop", data: { type: "message_stop" }, tokensDone: answer.outputTokens };
}

function toEnvelope(answer: Answer): JsonRecord {
  return {
    id: answer.id,
    type: "message",
    role: "assistant",
    model: answer.modelId,
    container: null,
    diagnostics: null,
    stop_details: null,
  };
}

function toStartEvent(answer: Answer, options: TellingOptions): StreamEvent {
  const usage = spoilUsage(toStartUsage(answer), "start", options);
  const message = {
    ...toEnvelope(answer),
    content: [],
    stop_reason: null,
    stop_sequence: null,
    ...(usage === undefined ? {} : { usage }),
  };
  return {
    name: "message_start",
    data: { type: "message_start", message },
    tokensDone: 0,
    usage: { place: "start", value: usage },
  };
}

function* toBlockEvents(block: AnswerBlock, index: number, tokensBefore: number): Generator<StreamEvent, void, undefined> {
  const tokensAfter = tokensBefore + block.tokens;
  const start = { type: "content_block_start", index, content_block: toEmptyBlock(block) };
  yield { name: "content_block_start", data: start, tokensDone: tokensBefore };
  for (let step = 0; step < block.deltas; step++) {
    const delta = toDelta(block, step);
    if (delta === undefined) continue;
    const tokensDone = tokensBefore + Math.floor((block.tokens * (step + 1)) / block.deltas);
    yield { name: "content_block_delta", data: { type: "content_block_delta", index, delta }, tokensDone };
  }
  if (block.type === "thinking") {
    const delta = { type: "signature_delta", signature: toSignature(block) };
    yield { name: "content_block_delta", data: { type: "content_block_delta", index, delta }, tokensDone: tokensAfter };
  }
  yield { name: "content_block_stop", data: { type: "content_block_stop", index }, tokensDone: tokensAfter };
}

/** Cumulative reports: the last one is the whole, earlier ones a part of it. A falling one is the half, after the whole. */
function* toDeltaEvents(answer: Answer, options: TellingOptions): Generator<StreamEvent, void, undefined> {
  const whole = toDeltaUsage(answer);
  const half = { ...whole, output_tokens: Math.floor(answer.outputTokens / 2) };
  for (const report of toReports(whole, half, options)) {
    const usage = spoilUsage(report, "delta", options);
    const data = {
      type: "message_delta",
      delta: { stop_reason: answer.stopReason, stop_sequence: answer.stopSequence, stop_details: null },
      ...(usage === undefined ? {} : { usage }),
    };
    yield { name: "message_delta", data, tokensDone: answer.outputTokens, usage: { place: "delta", value: usage } };
  }
}

function toReports(whole: JsonRecord, half: JsonRecord, options: TellingOptions): JsonRecord[] {
  if (options.usage === "falling") return [whole, half];
  const count = Math.max(options.usage === "repeated" ? 2 : 1, options.messageDeltas ?? 1);
  const output = Number(whole["output_tokens"]);
  return Array.from({ length: count }, (_, index) => ({
    ...whole,
    output_tokens: Math.floor((output * (index + 1)) / count),
  }));
}

/** A block as its start event shows it: what comes in deltas is empty, what comes whole is there. */
function toEmptyBlock(block: AnswerBlock): JsonRecord {
  switch (block.type) {
    case "text":
      return { type: "text", text: "", citations: null };
    case "thinking":
      return { type: "thinking", thinking: "", signature: "" };
    case "tool_use":
    case "server_tool_use":
      return { type: block.type, id: block.id, name: block.name, input: {}, caller: { type: "direct" } };
    case "web_search_tool_result":
      return toWholeBlock(block);
  }
}

function toWholeBlock(block: AnswerBlock): JsonRecord {
  switch (block.type) {
    case "text":
      return { type: "text", text: toWholeText(block), citations: null };
    case "thinking":
      return { type: "thinking", thinking: toWholeText(block), signature: toSignature(block) };
    case "tool_use":
    case "server_tool_use":
      return { ...toEmptyBlock(block), input: JSON.parse(block.inputJson) as unknown };
    case "web_search_tool_result":
      return {
        type: "web_search_tool_result",
        tool_use_id: block.toolUseId,
        caller: { type: "direct" },
        content: [
          {
            type: "web_search_result",
            url: "https://example.com/prices",
            title: `About ${block.query}`,
            encrypted_content: "c2ltdWxhdGVk",
            page_age: null,
          },
        ],
      };
  }
}

type TextBlock = Extract<AnswerBlock, { readonly type: "text" | "thinking" }>;

function toWholeText(block: TextBlock): string {
  return Array.from({ length: block.deltas }, (_, step) => toTextPart(block, step)).join("");
}

function toTextPart(block: TextBlock, step: number): string {
  if ("textBytes" in block) {
    const offset = block.seed * 37 + Math.floor((block.textBytes * step) / block.deltas);
    return textOfBytes(share(block.textBytes, step, block.deltas), offset);
  }
  const characters = Array.from(block.text);
  return characters
    .slice(Math.floor((characters.length * step) / block.deltas), Math.floor((characters.length * (step + 1)) / block.deltas))
    .join("");
}

/** Undefined where there is nothing to say: deltas of text are never empty. */
function toDelta(block: AnswerBlock, step: number): JsonRecord | undefined {
  switch (block.type) {
    case "text": {
      const text = toTextPart(block, step);
      return text === "" ? undefined : { type: "text_delta", text };
    }
    case "thinking": {
      const thinking = toTextPart(block, step);
      return thinking === "" ? undefined : { type: "thinking_delta", thinking };
    }
    case "tool_use":
    case "server_tool_use": {
      const { inputJson, deltas } = block;
      const from = Math.floor((inputJson.length * step) / deltas);
      return {
        type: "input_json_delta",
        partial_json: inputJson.slice(from, Math.floor((inputJson.length * (step + 1)) / deltas)),
      };
    }
    case "web_search_tool_result":
      return undefined;
  }
}

function toSignature(block: TextBlock): string {
  return Buffer.from(`simulated ${block.tokens}`).toString("base64");
}
