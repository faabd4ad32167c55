/**
 * Owns: how many input tokens a request has, block by block in prompt order (tools, system, messages).
 * Does not own: what is cached (`cache.ts`).
 * Invariant: the count depends on the request alone. It is the simulator's own measure (a token per four UTF-8 bytes of text,
 * rounded up for every block, plus small overheads), not a tokenizer.
 */
import { asArray, asRecord, asText, toCanonicalJson, type JsonRecord } from "./json.ts";
import type { Model } from "./models.ts";

export type CacheTtl = "5m" | "1h";
export type PromptLevel = "tools" | "system" | "messages";

export interface PromptBlock {
  readonly level: PromptLevel;
  readonly tokens: number;
  /** Equal identities mean equal content; the cache compares chains of them. */
  readonly identity: string;
  /** Set where a cache breakpoint stands on this block. */
  readonly ttl?: CacheTtl;
}

const REQUEST_OVERHEAD_TOKENS = 3;
const MESSAGE_OVERHEAD_TOKENS = 4;
/** A 1000 × 1000 image: ceil(1000 / 28)² (platform.claude.com/docs/en/build-with-claude/vision). Sizes are not looked at. */
const IMAGE_TOKENS = 1_296;

/** A token per four bytes of UTF-8, rounded up. */
export function textTokens(text: string): number {
  return Math.ceil(Buffer.byteLength(text) / 4);
}

/** The prompt of a request, one entry per tool, system block and content block. */
export function readPrompt(body: JsonRecord, model: Model): PromptBlock[] {
  const blocks = [...readTools(body, model), ...readSystem(body), ...readMessages(body)];
  const automatic = readTtl(body);
  const last = blocks.at(-1);
  // A mark at the top level is a breakpoint on the last block.
  if (automatic !== undefined && last !== undefined) blocks[blocks.length - 1] = { ...last, ttl: last.ttl ?? automatic };
  return blocks;
}

/** All input tokens of a request, whatever part of them is cached. */
export function countInputTokens(blocks: readonly PromptBlock[]): number {
  return blocks.reduce((sum, block) => sum + block.tokens, 0);
}

function readTools(body: JsonRecord, model: Model): PromptBlock[] {
  const choice = asText(asRecord(body["tool_choice"])["type"]) ?? "auto";
  const [auto, forced] = model.toolPromptTokens;
  const systemTokens = choice === "any" || choice === "tool" ? forced : auto;
  return asArray(body["tools"]).map((tool, index) => {
    const text = toCanonicalJson(tool);
    return toBlock("tools", tool, text, textTokens(text) + (index === 0 ? systemTokens : 0));
  });
}

function readSystem(body: JsonRecord): PromptBlock[] {
  const system = body["system"];
  if (typeof system === "string") return [toBlock("system", undefined, toCanonicalJson(system), textTokens(system))];
  return asArray(system).map((block) =>
    toBlock("system", block, toCanonicalJson(asText(asRecord(block)["text"]) ?? block), textTokens(readText(block))),
  );
}

function readMessages(body: JsonRecord): PromptBlock[] {
  return asArray(body["messages"]).flatMap((message, messageIndex) => {
    const { role, content } = asRecord(message);
    const parts: readonly unknown[] = typeof content === "string" ? [{ type: "text", text: content }] : asArray(content);
    return parts.map((part, index) => {
      const overhead = (index === 0 ? MESSAGE_OVERHEAD_TOKENS : 0) + (messageIndex + index === 0 ? REQUEST_OVERHEAD_TOKENS : 0);
      return toBlock("messages", part, `${String(role)}:${toCanonicalJson(part)}`, partTokens(part) + overhead);
    });
  });
}

function toBlock(level: PromptLevel, marked: unknown, identity: string, tokens: number): PromptBlock {
  const ttl = readTtl(asRecord(marked));
  return { level, identity, tokens, ...(ttl === undefined ? {} : { ttl }) };
}

function readTtl(block: JsonRecord): CacheTtl | undefined {
  const mark = block["cache_control"];
  if (typeof mark !== "object" || mark === null) return undefined;
  return asRecord(mark)["ttl"] === "1h" ? "1h" : "5m";
}

function partTokens(part: unknown): number {
  return asRecord(part)["type"] === "image" ? IMAGE_TOKENS : textTokens(readText(part));
}

/** The text of a content block; of a block that is not text, its JSON. */
function readText(part: unknown): string {
  const block = asRecord(part);
  if (block["type"] === "text") return asText(block["text"]) ?? "";
  if (block["type"] === "tool_result" && typeof block["content"] === "string") return block["content"];
  return toCanonicalJson(part);
}
