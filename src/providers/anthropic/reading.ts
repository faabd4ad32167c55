/**
 * Owns what has been read of one request so far, and the meaning of each value as it completes.
 * Does not own where the values stand (slots.ts).
 * Invariant: memory grows with messages, tools and distinct names only, and each of those has a largest number.
 */
import { BodyReading, COUNT_ALLOWED, NAME_BYTES_MAX } from "../json/body-reading.ts";
import { ByteTable, decodeString } from "../json/bytes.ts";
import { JSON_KIND, type JsonValueSpan } from "../json/slot.ts";
import type { MessageSpan, Span } from "../provider.ts";
import { sessionOfUserId } from "./claude-code.ts";
import { hasServerLoop, isKnownClientTool } from "./tools.ts";

/** Messages per request. @see providers.md §2, size limits [S] */
export const MESSAGES_MAX = 100_000;

/** Tools per request that are read: far more than any model is offered, so that a list of them cannot fill the memory. */
export const TOOLS_MAX = 10_000;

/** A cap above this bounds nothing: the part counts as uncapped. */
const USES_MAX = 1_000;

/** Bytes of `metadata.user_id` looked at. Claude Code's take some 250, escapes included. */
const USER_ID_BYTES_MAX = 4_096;

const BLOCK_TYPES = new ByteTable([
  "text",
  "image",
  "document",
  "tool_result",
  "thinking",
  "redacted_thinking",
  "server_tool_use",
  "mcp_tool_use",
  "tool_reference",
  "container_upload",
]);
const BLOCK = {
  image: 1,
  document: 2,
  toolResult: 3,
  thinking: 4,
  redacted: 5,
  serverUse: 6,
  mcpUse: 7,
  toolReference: 8,
  upload: 9,
};

const SOURCE_TYPES = new ByteTable(["base64", "text", "content", "url", "file"]);
const SOURCE = { base64: 0, text: 1, content: 2 };

/** One content block while it is open: order of its keys is free, so it is judged when it closes. */
interface OpenBlock {
  type: number;
  /** -2: it has no source object. */
  source: number;
  dataBytes: number;
}

const NO_SOURCE = -2;

/** The state that the slots of one request write to. */
export class RequestReading extends BodyReading {
  model: string | undefined;
  modelSpan: Span | undefined;
  maxTokens: number | undefined;
  maxTokensSpan: Span | undefined;
  isStream = false;
  /** Bytes of base64 payloads that are not text. */
  payloadBytes = 0;
  imageCount = 0;
  readonly remoteInputs = new Set<string>();
  readonly unboundedParts = new Set<string>();
  readonly clientToolTypes = new Set<string>();
  readonly serverTools: { type: string; usesMax: number | undefined }[] = [];
  isToolForced = false;
  cacheWrites: "none" | "5m" | "1h" = "none";
  speed: "standard" | "fast" = "standard";
  isUsOnly: boolean | undefined;
  thinking: { type: string; budgetTokens: number | undefined } | undefined;
  hasSamplingParameters = false;
  readonly features = new Set<string>();
  /** One sampling for the answer, and one after each use of a server tool: a use ends a sampling, and nothing else does. */
  samplingsMax = 1;
  hasAssistantTurn = false;
  isAnsweringTool = false;
  hasThinking = false;
  readonly messageSpans: MessageSpan[] = [];
  isHistoryEdited = false;
  namedSession: string | undefined;

  #blocks: OpenBlock[] = [];
  #role = "";
  /** What had been counted when the message began. */
  #before = { payloadBytes: 0, imageCount: 0 };
  #messageHasResult = false;
  #messageHasServerUse = false;
  #toolCount = 0;
  #toolType: string | undefined;
  #toolUsesMax: number | undefined;
  #ttl: string | undefined;
  #thinkingType = "";
  #budgetTokens: number | undefined;

  readModel(value: JsonValueSpan): string | undefined {
    const model = this.name(value);
    if (model === undefined || model.trim() === "") return `a model name of 1 to ${NAME_BYTES_MAX - 2} bytes in a string`;
    this.model = model;
    this.modelSpan = { start: value.start, end: value.end };
    return undefined;
  }

  readMaxTokens(value: JsonValueSpan): string | undefined {
    this.maxTokensSpan = { start: value.start, end: value.end };
    if (value.kind === JSON_KIND.null) return undefined;
    this.maxTokens = this.wholeNumber(value);
    return this.maxTokens === undefined ? COUNT_ALLOWED : undefined;
  }

  openMessage(): void {
    this.#role = "";
    this.#before = { payloadBytes: this.payloadBytes, imageCount: this.imageCount };
    this.#messageHasResult = false;
    this.#messageHasServerUse = false;
  }

  readRole(value: JsonValueSpan): void {
    this.#role = this.name(value) ?? "";
    if (this.#role === "assistant") this.hasAssistantTurn = true;
  }

  readMessage(value: JsonValueSpan): string | undefined {
    this.messageSpans.push({
      start: value.start,
      end: value.end,
      isAssistant: this.#role === "assistant",
      payloadBytes: this.payloadBytes - this.#before.payloadBytes,
      imageCount: this.imageCount - this.#before.imageCount,
    });
    // A turn that stopped inside the provider's own tool loop goes on when it is sent back: that is in the middle of a turn too.
    this.isAnsweringTool = this.#role === "assistant" ? this.#messageHasServerUse : this.#messageHasResult;
    return this.messageSpans.length > MESSAGES_MAX ? `at most ${MESSAGES_MAX} messages` : undefined;
  }

  openBlock(): void {
    this.#blocks.push({ type: -1, source: NO_SOURCE, dataBytes: 0 });
  }

  readBlockType(value: JsonValueSpan): void {
    const block = this.#blocks.at(-1);
    if (block !== undefined) block.type = this.indexIn(BLOCK_TYPES, value);
  }

  openSource(): void {
    const block = this.#blocks.at(-1);
    if (block !== undefined) block.source = -1;
  }

  readSourceType(value: JsonValueSpan): void {
    const block = this.#blocks.at(-1);
    if (block !== undefined) block.source = this.indexIn(SOURCE_TYPES, value);
  }

  readSourceData(value: JsonValueSpan): void {
    const block = this.#blocks.at(-1);
    // What stands between the quotes.
    if (block !== undefined && value.kind === JSON_KIND.string) block.dataBytes = value.end - value.start - 2;
  }

  readBlock(): void {
    const block = this.#blocks.pop();
    if (block === undefined) return;
    switch (block.type) {
      case BLOCK.image:
        this.#addImage(block);
        return;
      case BLOCK.toolResult:
        this.#messageHasResult = true;
        break;
      case BLOCK.thinking:
      case BLOCK.redacted:
        this.hasThinking = true;
        break;
      case BLOCK.serverUse:
      case BLOCK.mcpUse:
        this.#messageHasServerUse = true;
        break;
      case BLOCK.toolReference:
        this.remoteInputs.add("tool_reference");
        break;
      case BLOCK.upload:
        this.remoteInputs.add("container_upload");
        this.unboundedParts.add("container");
        break;
    }
    this.#addSource(block);
  }

  /** An image costs what its size costs, wherever it comes from; the base64 text of it is no text to the model. */
  #addImage(block: OpenBlock): void {
    this.imageCount += 1;
    if (block.source === SOURCE.base64) this.payloadBytes += block.dataBytes;
  }

  /** A source that is not text in the body (a PDF, a file, an address, a kind not known here) is input of unknown size. */
  #addSource(block: OpenBlock): void {
    if (block.source === NO_SOURCE || block.source === SOURCE.text || block.source === SOURCE.content) return;
    this.remoteInputs.add(block.type === BLOCK.document ? "document" : "source");
    if (block.type === BLOCK.document && block.source === SOURCE.base64) this.payloadBytes += block.dataBytes;
  }

  openCacheControl(): void {
    this.#ttl = undefined;
  }

  readTtl(value: JsonValueSpan): void {
    this.#ttl = value.kind === JSON_KIND.null ? undefined : (this.name(value) ?? "unknown");
  }

  /** A lifetime that is not known is taken for the dearest. */
  readCacheControl(value: JsonValueSpan): void {
    if (value.kind !== JSON_KIND.object) return;
    if (this.#ttl !== undefined && this.#ttl !== "5m") this.cacheWrites = "1h";
    else if (this.cacheWrites === "none") this.cacheWrites = "5m";
  }

  openTool(): void {
    this.#toolType = undefined;
    this.#toolUsesMax = undefined;
  }

  readToolType(value: JsonValueSpan): void {
    this.#toolType = value.kind === JSON_KIND.null ? undefined : (this.name(value) ?? "unknown");
  }

  readUsesMax(value: JsonValueSpan): string | undefined {
    if (value.kind === JSON_KIND.null) return undefined;
    this.#toolUsesMax = this.wholeNumber(value);
    return this.#toolUsesMax === undefined ? `${COUNT_ALLOWED}, or null` : undefined;
  }

  readTool(): string | undefined {
    this.#toolCount += 1;
    if (this.#toolCount > TOOLS_MAX) return `at most ${TOOLS_MAX} tools`;
    const type = this.#toolType ?? "custom";
    if (isKnownClientTool(type)) this.clientToolTypes.add(type);
    else this.#addServerTool(type, this.#toolUsesMax);
    return undefined;
  }

  /** What a server tool brings back is not in the body; only a cap on its uses bounds how often the model reads it. */
  #addServerTool(type: string, cap: number | undefined): void {
    const usesMax = cap !== undefined && cap <= USES_MAX ? cap : undefined;
    this.serverTools.push({ type, usesMax });
    this.remoteInputs.add(type);
    if (usesMax === undefined || !hasServerLoop(type)) this.unboundedParts.add(type);
    else this.samplingsMax += usesMax;
  }

  readToolChoice(value: JsonValueSpan): void {
    const type = this.name(value);
    this.isToolForced = type === "any" || type === "tool";
  }

  readThinkingType(value: JsonValueSpan): void {
    this.#thinkingType = this.name(value) ?? "";
  }

  readBudgetTokens(value: JsonValueSpan): string | undefined {
    if (value.kind === JSON_KIND.null) return undefined;
    this.#budgetTokens = this.wholeNumber(value);
    return this.#budgetTokens === undefined ? COUNT_ALLOWED : undefined;
  }

  readThinking(value: JsonValueSpan): void {
    if (value.kind === JSON_KIND.object) this.thinking = { type: this.#thinkingType, budgetTokens: this.#budgetTokens };
  }

  /** A speed or tier that has no known price has no bound. */
  readSpeed(value: JsonValueSpan): void {
    if (value.kind === JSON_KIND.null) return;
    const speed = this.name(value);
    if (speed === "fast") this.speed = "fast";
    else if (speed !== "standard") this.unboundedParts.add("speed");
  }

  readServiceTier(value: JsonValueSpan): void {
    if (value.kind === JSON_KIND.null) return;
    const tier = this.name(value);
    if (tier !== "auto" && tier !== "standard_only") this.unboundedParts.add("service_tier");
  }

  /** Only "global" is known to carry no surcharge. */
  readInferenceGeo(value: JsonValueSpan): void {
    if (value.kind !== JSON_KIND.null) this.isUsOnly = this.name(value) !== "global";
  }

  /** Temperature 1 is taken by every model. @see `temperature` in @anthropic-ai/sdk 0.137.0 */
  readTemperature(value: JsonValueSpan): void {
    if (value.kind !== JSON_KIND.null && this.wholeNumber(value) !== 1) this.hasSamplingParameters = true;
  }

  readEffort(value: JsonValueSpan): void {
    if (value.kind === JSON_KIND.null) return;
    this.features.add("effort");
    if (this.name(value) === "xhigh") this.features.add("effort_xhigh");
  }

  readThreadType(value: JsonValueSpan): void {
    if (this.name(value) !== "create") this.remoteInputs.add("thread");
  }

  readEditType(value: JsonValueSpan): void {
    const type = this.name(value);
    // What clearing thinking leaves out stays out when the conversation goes on; tool uses are cleared from a threshold on.
    if (type !== "clear_thinking_20251015") this.isHistoryEdited = true;
    if (type !== "clear_tool_uses_20250919" && type !== "clear_thinking_20251015") this.unboundedParts.add("compaction");
  }

  readUserId(value: JsonValueSpan): void {
    if (value.kind !== JSON_KIND.string || value.end - value.start > USER_ID_BYTES_MAX) return;
    this.namedSession = sessionOfUserId(decodeString(this.bytes, value.start, value.end));
  }
}
