/**
 * Owns what has been read of one request so far, and the meaning of each value as it completes.
 * Does not own where the values stand (slots.ts).
 * Invariant: memory grows with messages, tools and distinct names only, and each of those has a largest number.
 */
import { BodyReading, COUNT_ALLOWED, NAME_BYTES_MAX } from "../json/body-reading.ts";
import { JSON_KIND, type JsonKind, type JsonValueSpan } from "../json/slot.ts";
import type { MessageSpan, Span } from "../provider.ts";
import { isClientTool, isPlainTool } from "./tools.ts";

/** Elements of a conversation, or of an embedding's input, that are read: far more than any model takes. */
const ITEMS_MAX = 100_000;
const TOOLS_MAX = 10_000;
/** Answers side by side. The provider's own limit is 128. */
const CHOICES_MAX = 1_000;
/** A cap on tool calls above this bounds nothing. */
const USES_MAX = 1_000;

/** Parts of a message that are text, or stand for text that is in the body. */
const TEXT_PARTS = new Set(["text", "input_text", "output_text", "summary_text", "reasoning_text", "refusal", "json_schema"]);
const IMAGE_PARTS = new Set(["image_url", "input_image", "computer_screenshot"]);

/** Items that a model wrote, and are all in the body. */
const MODEL_ITEMS = new Set([
  "reasoning",
  "function_call",
  "custom_tool_call",
  "local_shell_call",
  "shell_call",
  "apply_patch_call",
  "computer_call",
  "compaction",
]);
/** What a caller's tool gave back. */
const RESULT_ITEMS = new Set([
  "function_call_output",
  "custom_tool_call_output",
  "local_shell_call_output",
  "shell_call_output",
  "apply_patch_call_output",
  "computer_call_output",
]);

/** The longest a name of a tier may be that has a price by itself. */
const PLAIN_TIERS = new Set(["default", "flex"]);
const PRIORITY_TIERS = new Set(["priority", "fast"]);
/** What the project or a contract decides. */
const OPEN_TIERS = new Set(["auto", "scale"]);

/** The state that the slots of one request write to. */
export class RequestReading extends BodyReading {
  model: string | undefined;
  modelSpan: Span | undefined;
  maxTokens: number | undefined;
  maxTokensSpan: Span | undefined;
  /** Two fields that bound the output stand beside each other. */
  hasTwoMaxima = false;
  choices = 1;
  extraOutputTokens = 0;
  isStream = false;
  /** `stream_options` as it stands, and in it `include_usage`. */
  streamOptions: JsonValueSpan | undefined;
  includeUsage: { span: Span; isTrue: boolean } | undefined;
  payloadBytes = 0;
  imageCount = 0;
  readonly remoteInputs = new Set<string>();
  readonly unboundedParts = new Set<string>();
  readonly clientToolTypes = new Set<string>();
  readonly serverTools: { type: string; usesMax: number | undefined }[] = [];
  isToolForced = false;
  toolCallsMax: number | undefined;
  cacheWrites: "none" | "1h" = "none";
  isPriority: boolean | undefined;
  hasSamplingParameters = false;
  /** It goes on whether or not anybody listens. */
  isBackground = false;
  /** `max_tokens: null`: a place for a number where the model takes that name. */
  nullMaxTokensSpan: Span | undefined;
  readonly features = new Set<string>();
  hasAssistantTurn = false;
  isAnsweringTool = false;
  hasThinking = false;
  readonly messageSpans: MessageSpan[] = [];
  isHistoryEdited = false;
  /** Elements of an embedding's input; 0: it is one text. */
  inputCount = 0;

  #role = "";
  #type = "";
  /** What the model wrote stands in the item, open or sealed. */
  #hasContent = false;
  #before = { payloadBytes: 0, imageCount: 0 };
  #part = newPart();
  #toolCount = 0;
  #toolType = "";

  readModel(value: JsonValueSpan): string | undefined {
    const model = this.name(value);
    if (model === undefined || model.trim() === "") return `a model name of 1 to ${NAME_BYTES_MAX - 2} bytes in a string`;
    this.model = model;
    this.modelSpan = { start: value.start, end: value.end };
    return undefined;
  }

  /** null is as good as absent, but a place where a number can be put. */
  readMaxTokens(value: JsonValueSpan, key: string): string | undefined {
    const isNull = value.kind === JSON_KIND.null;
    if (key === "max_tokens") {
      if (isNull) this.nullMaxTokensSpan = { start: value.start, end: value.end };
      else this.features.add("max_tokens");
      if (isNull) return undefined;
    }
    if (this.maxTokens !== undefined && !isNull) this.hasTwoMaxima = true;
    if (this.maxTokens === undefined) this.maxTokensSpan = { start: value.start, end: value.end };
    if (isNull) return undefined;
    this.maxTokens = this.wholeNumber(value);
    return this.maxTokens === undefined ? COUNT_ALLOWED : undefined;
  }

  readChoices(value: JsonValueSpan): string | undefined {
    if (value.kind === JSON_KIND.null) return undefined;
    const choices = this.wholeNumber(value);
    if (choices === undefined || choices < 1 || choices > CHOICES_MAX) return `a whole number from 1 to ${CHOICES_MAX}`;
    this.choices = choices;
    return undefined;
  }

  readToolCallsMax(value: JsonValueSpan): string | undefined {
    if (value.kind === JSON_KIND.null) return undefined;
    this.toolCallsMax = this.wholeNumber(value);
    return this.toolCallsMax === undefined ? COUNT_ALLOWED : undefined;
  }

  /** What is predicted and not used is billed as output. A token stands for at least one byte. */
  readPrediction({ kind, start, end }: JsonValueSpan): void {
    if (kind !== JSON_KIND.null) this.extraOutputTokens = end - start;
  }

  readIncludeUsage({ kind, start, end }: JsonValueSpan): void {
    this.includeUsage = { span: { start, end }, isTrue: kind === JSON_KIND.boolean && end - start === 4 };
  }

  openItem(): void {
    this.#role = "";
    this.#type = "";
    this.#hasContent = false;
    this.#before = { payloadBytes: this.payloadBytes, imageCount: this.imageCount };
  }

  readRole(value: JsonValueSpan): void {
    this.#role = this.name(value) ?? "";
  }

  readItemType(value: JsonValueSpan): void {
    this.#type = value.kind === JSON_KIND.null ? "" : (this.name(value) ?? "unknown");
  }

  /** A whole input that is one text is one message. */
  readText(value: JsonValueSpan): string | undefined {
    this.openItem();
    this.#role = "user";
    return this.readItem(value);
  }

  readContent(): void {
    this.#hasContent = true;
  }

  readItem(value: JsonValueSpan): string | undefined {
    // Without a type it is a message if it says whose, and otherwise the name of something stored.
    const isMessage = this.#type === "message" || (this.#type === "" && this.#role !== "");
    const isAssistant = isMessage ? this.#role === "assistant" : MODEL_ITEMS.has(this.#type);
    const isResult = isMessage ? this.#role === "tool" || this.#role === "function" : RESULT_ITEMS.has(this.#type);
    // What a provider's own tool did, or is only named, may be more than what stands here.
    if (!isMessage && !isAssistant && !isResult) this.remoteInputs.add(this.#type === "" ? "item_reference" : this.#type);
    // Reasoning that comes back by its name alone is filled in by the provider.
    if (this.#type === "reasoning" && !this.#hasContent) this.remoteInputs.add("reasoning");
    if (this.#type === "reasoning" || this.#type === "compaction") this.hasThinking = true;
    if (isAssistant) this.hasAssistantTurn = true;
    this.isAnsweringTool = isResult;
    this.messageSpans.push({
      start: value.start,
      end: value.end,
      isAssistant,
      payloadBytes: this.payloadBytes - this.#before.payloadBytes,
      imageCount: this.imageCount - this.#before.imageCount,
    });
    return this.messageSpans.length > ITEMS_MAX ? `at most ${ITEMS_MAX} messages` : undefined;
  }

  openPart(): void {
    this.#hasContent = true;
    this.#part = newPart();
  }

  readPartType(value: JsonValueSpan): void {
    this.#part.type = this.name(value) ?? "unknown";
  }

  /** Base64 in an address is no text to the model. */
  readAddress({ kind, start, end }: JsonValueSpan): void {
    if (kind !== JSON_KIND.string) return;
    const commaAt = startsWithData(this.bytes, start + 1, end) ? this.bytes.indexOf(0x2c, start) : -1;
    if (commaAt >= 0 && commaAt < end) this.#part.payloadBytes = end - 1 - commaAt - 1;
  }

  readPart(): void {
    const { type, payloadBytes } = this.#part;
    if (TEXT_PARTS.has(type)) return;
    if (IMAGE_PARTS.has(type)) {
      this.imageCount += 1;
      this.payloadBytes += payloadBytes;
      return;
    }
    if (type === "input_audio") this.unboundedParts.add("audio");
    // A file, and whatever is not known, is input of unknown size.
    else this.remoteInputs.add(type === "input_file" ? "file" : type);
  }

  readInputElement(): string | undefined {
    this.inputCount += 1;
    return this.inputCount > ITEMS_MAX ? `at most ${ITEMS_MAX} inputs` : undefined;
  }

  openTool(): void {
    this.#toolType = "";
  }

  readToolType(value: JsonValueSpan): void {
    this.#toolType = this.name(value) ?? "unknown";
  }

  readTool(): string | undefined {
    this.#toolCount += 1;
    if (this.#toolCount > TOOLS_MAX) return `at most ${TOOLS_MAX} tools`;
    const type = this.#toolType === "" ? "function" : this.#toolType;
    if (!isClientTool(type)) {
      this.serverTools.push({ type, usesMax: undefined });
      this.remoteInputs.add(type);
      // Calls of these have fees that stand in no usage report, or loop without a cap.
      this.unboundedParts.add(type);
      return undefined;
    }
    this.clientToolTypes.add(type);
    // It brings along a prompt of the provider's, of a size nobody states.
    if (!isPlainTool(type)) this.remoteInputs.add(type);
    return undefined;
  }

  readToolChoice(value: JsonValueSpan): void {
    this.isToolForced = value.kind === JSON_KIND.object || this.name(value) === "required";
  }

  readServiceTier(value: JsonValueSpan): void {
    if (value.kind === JSON_KIND.null) return;
    const tier = this.name(value) ?? "";
    if (PLAIN_TIERS.has(tier)) this.isPriority = false;
    else if (PRIORITY_TIERS.has(tier)) this.isPriority = true;
    else if (!OPEN_TIERS.has(tier)) this.unboundedParts.add("service_tier");
  }

  /** A lifetime that is not known is taken for the dearest. */
  readTtl(value: JsonValueSpan): void {
    if (value.kind !== JSON_KIND.null && this.name(value) !== "30m") this.cacheWrites = "1h";
  }

  /** A mark without a lifetime is written too, at a price that depends on the server. */
  readCacheControl({ kind }: JsonValueSpan): void {
    if (kind !== JSON_KIND.null) this.cacheWrites = "1h";
  }

  readTruncation(value: JsonValueSpan): void {
    if (value.kind !== JSON_KIND.null && this.name(value) !== "disabled") this.isHistoryEdited = true;
  }

  readModality(value: JsonValueSpan): void {
    if (this.name(value) !== "text") this.unboundedParts.add("audio");
  }

  readEffort({ kind }: JsonValueSpan): void {
    if (kind !== JSON_KIND.null) this.features.add("reasoning_effort");
  }

  /** A mode that asks the model several times: recorded, six times the tokens that stand in the request. */
  readReasoningMode(value: JsonValueSpan): void {
    if (value.kind !== JSON_KIND.null && this.name(value) !== "standard") this.unboundedParts.add("reasoning_mode");
  }

  /** Temperature 1 is taken by every model. */
  readTemperature(value: JsonValueSpan): void {
    if (value.kind !== JSON_KIND.null && this.wholeNumber(value) !== 1) this.hasSamplingParameters = true;
  }

  /** How often a model can read its context, where the tools that the provider runs are capped. */
  get samplingsMax(): number {
    if (this.inputCount > 0) return this.inputCount;
    const { toolCallsMax } = this;
    const isCapped = this.serverTools.length > 0 && toolCallsMax !== undefined && toolCallsMax <= USES_MAX;
    return isCapped ? 1 + toolCallsMax : 1;
  }
}

interface OpenPart {
  type: string;
  payloadBytes: number;
}

function newPart(): OpenPart {
  return { type: "unknown", payloadBytes: 0 };
}

const DATA = Uint8Array.from("data:", (letter) => letter.charCodeAt(0));

function startsWithData(bytes: Uint8Array, at: number, end: number): boolean {
  return at + DATA.length < end && DATA.every((code, index) => bytes[at + index] === code);
}

/** True for a value that is there. */
export function isSaid(kind: JsonKind): boolean {
  return kind !== JSON_KIND.null;
}
