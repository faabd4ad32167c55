/**
 * Owns: which requests the provider refuses with 400, 401 or 404, and in which words.
 * Does not own: errors asked for by a behaviour.
 * Words are the provider's where they are recorded ("model: NAME"), else in its manner.
 */
import { apiError, type ApiError } from "./errors.ts";
import { asArray, asRecord, asText, isRecord, type JsonRecord } from "./json.ts";
import { findModel, type Model } from "./models.ts";
import { hasFastMode } from "./prices.ts";

/** @see platform.claude.com/docs/en/api/versioning; 2026-10-21 is sent by the official SDK from 1.0 on. */
const API_VERSIONS = ["2023-01-01", "2023-06-01", "2026-10-21"];
/** Sampling fields that 2026-10-21 no longer takes. */
const FIELDS_GONE = ["temperature", "top_p", "top_k"];
/** What counting takes (`MessageCountTokensParams` of the SDK, beta); it has no output, so it knows nothing of it. */
const COUNT_FIELDS = new Set([
  "messages",
  "model",
  "cache_control",
  "compaction",
  "context_management",
  "mcp_servers",
  "output_config",
  "output_format",
  "speed",
  "system",
  "thinking",
  "tool_choice",
  "tools",
]);
const BREAKPOINTS_MAX = 4;
const MESSAGES_MAX = 100_000;

type Headers = Readonly<Record<string, string | readonly string[] | undefined>>;

/** Any credential is accepted, as long as there is one: in `x-api-key`, or as a Bearer token. */
export function validateHeaders(headers: Headers): ApiError | undefined {
  const bearer = /^Bearer\s+\S/i.test(String(headers["authorization"] ?? ""));
  if (!bearer && String(headers["x-api-key"] ?? "") === "") return apiError(401, "x-api-key header is required");
  const version = headers["anthropic-version"];
  if (version === undefined) return apiError(400, "anthropic-version: header is required");
  if (!API_VERSIONS.includes(String(version)))
    return apiError(400, `anthropic-version: "${String(version)}" is not a valid version`);
  return undefined;
}

export type Validated = { readonly model: Model } | { readonly error: ApiError };

/** What `POST /v1/messages` must say. `needsMaxTokens` is false for token counting, which has no output to cap. */
export function validateMessages(body: unknown, headers: Headers, needsMaxTokens: boolean): Validated {
  if (!isRecord(body)) return { error: apiError(400, "The request body is not valid JSON: an object is required") };
  const error = validateFields(body, headers, needsMaxTokens);
  if (error !== undefined) return { error };
  const model = findModel(String(body["model"]));
  if (model === undefined) return { error: apiError(404, `model: ${String(body["model"])}`) };
  const refused = validateForModel(body, headers, model);
  return refused === undefined ? { model } : { error: refused };
}

function validateFields(body: JsonRecord, headers: Headers, needsMaxTokens: boolean): ApiError | undefined {
  if (body["model"] === undefined) return apiError(400, "model: Field required");
  if (typeof body["model"] !== "string") return apiError(400, "model: Input should be a valid string");
  const refused = needsMaxTokens ? validateMaxTokens(body) : validateCounted(body);
  if (refused !== undefined) return refused;
  if (headers["anthropic-version"] === "2026-10-21") {
    const gone = FIELDS_GONE.find((field) => body[field] !== undefined);
    if (gone !== undefined) return apiError(400, `${gone}: Extra inputs are not permitted`);
  }
  return validateTurns(body) ?? validateCacheControl(body);
}

function validateMaxTokens(body: JsonRecord): ApiError | undefined {
  const maxTokens = body["max_tokens"];
  if (maxTokens === undefined) return apiError(400, "max_tokens: Field required");
  if (typeof maxTokens !== "number" || !Number.isInteger(maxTokens))
    return apiError(400, "max_tokens: Input should be a valid integer");
  if (maxTokens < 0) return apiError(400, "max_tokens: Input should be greater than or equal to 0");
  // max_tokens 0 warms the cache, and has nothing to stream.
  if (maxTokens === 0 && body["stream"] === true) return apiError(400, "max_tokens: 0 is not allowed with stream");
  return undefined;
}

function validateCounted(body: JsonRecord): ApiError | undefined {
  const extra = Object.keys(body).find((field) => !COUNT_FIELDS.has(field));
  return extra === undefined ? undefined : apiError(400, `${extra}: Extra inputs are not permitted`);
}

function validateTurns(body: JsonRecord): ApiError | undefined {
  const messages = body["messages"];
  if (messages === undefined) return apiError(400, "messages: Field required");
  if (!Array.isArray(messages)) return apiError(400, "messages: Input should be a valid list");
  if (messages.length === 0) return apiError(400, "messages: at least one message is required");
  if (messages.length > MESSAGES_MAX) return apiError(400, `messages: List should have at most ${MESSAGES_MAX} items`);
  for (const [index, message] of messages.entries()) {
    const role = asRecord(message)["role"];
    if (role !== "user" && role !== "assistant" && role !== "system")
      return apiError(400, `messages.${index}.role: Input should be 'user' or 'assistant'`);
    const content = asRecord(message)["content"];
    if (typeof content !== "string" && !Array.isArray(content)) return apiError(400, `messages.${index}.content: Field required`);
  }
  return undefined;
}

/** The lifetimes of all cache marks, in prompt order: tools, system, messages, then the automatic one at the top level. */
function listCacheMarks(body: JsonRecord): string[] {
  const blocks = [
    ...asArray(body["tools"]),
    ...asArray(body["system"]),
    ...asArray(body["messages"]).flatMap((message) => asArray(asRecord(message)["content"])),
    body,
  ];
  return blocks
    .map((block) => asRecord(block)["cache_control"])
    .filter(isRecord)
    .map((mark) => asText(mark["ttl"]) ?? "5m");
}

function validateCacheControl(body: JsonRecord): ApiError | undefined {
  const marks = listCacheMarks(body);
  const unknown = marks.find((ttl) => ttl !== "5m" && ttl !== "1h");
  if (unknown !== undefined) return apiError(400, `cache_control.ttl: Input should be '5m' or '1h', not '${unknown}'`);
  if (marks.length > BREAKPOINTS_MAX)
    return apiError(400, `A maximum of ${BREAKPOINTS_MAX} blocks with cache_control may be provided. Found ${marks.length}.`);
  if (marks.lastIndexOf("1h") > marks.indexOf("5m") && marks.includes("5m"))
    return apiError(400, "cache_control.ttl: a ttl='1h' block must not come after a ttl='5m' block");
  return undefined;
}

function validateForModel(body: JsonRecord, headers: Headers, model: Model): ApiError | undefined {
  const maxTokens = Number(body["max_tokens"] ?? 0);
  if (maxTokens > model.outputTokensMax)
    return apiError(
      400,
      `max_tokens: ${maxTokens} > ${model.outputTokensMax}, which is the maximum allowed number of output tokens for ${model.id}`,
    );
  const geo = asText(body["inference_geo"]);
  if (geo !== undefined && !model.hasGeography) return apiError(400, `inference_geo: ${model.id} does not support inference_geo`);
  const choice = asRecord(body["tool_choice"])["type"];
  if (model.refusesForcedTools === true && (choice === "any" || choice === "tool"))
    return apiError(400, `tool_choice.type: "${choice}" is not supported by ${model.id}`);
  return validateThinking(body, model, maxTokens) ?? validateSpeed(body, headers, model);
}

function validateThinking(body: JsonRecord, model: Model, maxTokens: number): ApiError | undefined {
  const thinking = asRecord(body["thinking"]);
  if (thinking["type"] === "disabled" && model.alwaysThinks === true)
    return apiError(400, `thinking.type: "disabled" is not supported by ${model.id}`);
  if (thinking["type"] !== "enabled") return undefined;
  if (!model.hasThinkingBudget) return apiError(400, `thinking.type: "enabled" is not supported by ${model.id}`);
  const budget = thinking["budget_tokens"];
  if (typeof budget !== "number" || budget < 1024)
    return apiError(400, "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024");
  if (budget >= maxTokens && maxTokens > 0) return apiError(400, "`max_tokens` must be greater than `thinking.budget_tokens`");
  return undefined;
}

function validateSpeed(body: JsonRecord, headers: Headers, model: Model): ApiError | undefined {
  if (body["speed"] !== "fast") return undefined;
  // Opus 4.6 takes the word, and runs and bills at standard speed.
  if (model.id === "claude-opus-4-6") return undefined;
  if (!hasFastMode(model.id)) return apiError(400, `speed: "fast" is not supported by ${model.id}`);
  const betas = String(headers["anthropic-beta"] ?? "");
  if (model.fastBeta !== undefined && !betas.includes(model.fastBeta))
    return apiError(400, `speed: Extra inputs are not permitted without anthropic-beta: ${model.fastBeta}`);
  return undefined;
}
