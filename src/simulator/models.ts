/**
 * Owns: the models the simulator serves, what each of them accepts, and the shape of `GET /v1/models`.
 * Does not own: prices (`prices.ts`).
 * Invariant: ids match exactly; a dated id and its alias are the same model, and an answer names the dated one.
 */

/** @see platform.claude.com/docs/en/about-claude/models/overview and …/build-with-claude/prompt-caching (minimums). */
export interface Model {
  readonly id: string;
  readonly alias?: string;
  readonly displayName: string;
  readonly line: "haiku" | "sonnet" | "opus" | "fable";
  readonly releasedOn: string;
  readonly inputTokensMax: number;
  readonly outputTokensMax: number;
  /** Prefixes below this many tokens are silently not cached. */
  readonly cacheableTokensMin: number;
  /** Tokens of the system prompt added when tools are given: `tool_choice` auto or none, and any or tool. */
  readonly toolPromptTokens: readonly [auto: number, forced: number];
  /** `inference_geo: "us"` exists from Claude 4.6 on; older models answer 400. */
  readonly hasGeography: boolean;
  /** Always thinks: `thinking: {type: "disabled"}` answers 400. */
  readonly alwaysThinks?: true;
  /** `thinking: {type: "enabled", budget_tokens}` answers 400 from Claude 4.7 on. */
  readonly hasThinkingBudget: boolean;
  /** `tool_choice` any or tool answers 400. */
  readonly refusesForcedTools?: true;
  /** The beta header fast mode needs; undefined where none is needed. */
  readonly fastBeta?: string;
  readonly deprecatedOn?: string;
  readonly retiresOn?: string;
}

const FAST_BETA = "fast-mode-2026-02-01";
const MILLION = { inputTokensMax: 1_000_000, outputTokensMax: 128_000 } as const;
const CLASSIC = { inputTokensMax: 200_000, outputTokensMax: 64_000 } as const;
/** The tool prompt of Fable 5.x, Opus 5.5 and Sonnet 5.5 is not published; Opus 5's stands in for it. */
const UNPUBLISHED_TOOL_PROMPT = [286, 406] as const;

/** Most recently released first, as the provider lists them. */
export const MODELS: readonly Model[] = [
  {
    id: "claude-fable-5-2",
    displayName: "Claude Fable 5.2",
    line: "fable",
    releasedOn: "2026-11-09",
    ...MILLION,
    cacheableTokensMin: 512,
    toolPromptTokens: UNPUBLISHED_TOOL_PROMPT,
    hasGeography: true,
    alwaysThinks: true,
    hasThinkingBudget: false,
    refusesForcedTools: true,
  },
  {
    id: "claude-haiku-5-5",
    displayName: "Claude Haiku 5.5",
    line: "haiku",
    releasedOn: "2026-10-07",
    ...MILLION,
    cacheableTokensMin: 512,
    toolPromptTokens: [286, 406],
    hasGeography: true,
    hasThinkingBudget: false,
  },
  {
    id: "claude-sonnet-5-5",
    displayName: "Claude Sonnet 5.5",
    line: "sonnet",
    releasedOn: "2026-09-28",
    ...MILLION,
    cacheableTokensMin: 512,
    toolPromptTokens: UNPUBLISHED_TOOL_PROMPT,
    hasGeography: true,
    hasThinkingBudget: false,
    refusesForcedTools: true,
  },
  {
    id: "claude-opus-5-5",
    displayName: "Claude Opus 5.5",
    line: "opus",
    releasedOn: "2026-09-22",
    ...MILLION,
    cacheableTokensMin: 512,
    toolPromptTokens: UNPUBLISHED_TOOL_PROMPT,
    hasGeography: true,
    alwaysThinks: true,
    hasThinkingBudget: false,
    refusesForcedTools: true,
  },
  {
    id: "claude-fable-5-1",
    displayName: "Claude Fable 5.1",
    line: "fable",
    releasedOn: "2026-09-01",
    ...MILLION,
    cacheableTokensMin: 512,
    toolPromptTokens: UNPUBLISHED_TOOL_PROMPT,
    hasGeography: true,
    alwaysThinks: true,
    hasThinkingBudget: false,
    refusesForcedTools: true,
  },
  {
    id: "claude-opus-5",
    displayName: "Claude Opus 5",
    line: "opus",
    releasedOn: "2026-07-24",
    ...MILLION,
    cacheableTokensMin: 512,
    toolPromptTokens: [286, 406],
    hasGeography: true,
    hasThinkingBudget: false,
    fastBeta: FAST_BETA,
  },
  {
    id: "claude-sonnet-5",
    displayName: "Claude Sonnet 5",
    line: "sonnet",
    releasedOn: "2026-06-30",
    ...MILLION,
    cacheableTokensMin: 1_024,
    toolPromptTokens: [354, 474],
    hasGeography: true,
    hasThinkingBudget: false,
  },
  {
    id: "claude-fable-5",
    displayName: "Claude Fable 5",
    line: "fable",
    releasedOn: "2026-06-09",
    ...MILLION,
    cacheableTokensMin: 512,
    toolPromptTokens: UNPUBLISHED_TOOL_PROMPT,
    hasGeography: true,
    alwaysThinks: true,
    hasThinkingBudget: false,
  },
  {
    id: "claude-opus-4-8",
    displayName: "Claude Opus 4.8",
    line: "opus",
    releasedOn: "2026-05-28",
    ...MILLION,
    cacheableTokensMin: 1_024,
    toolPromptTokens: [290, 410],
    hasGeography: true,
    hasThinkingBudget: false,
    fastBeta: FAST_BETA,
  },
  {
    id: "claude-opus-4-7",
    displayName: "Claude Opus 4.7",
    line: "opus",
    releasedOn: "2026-04-16",
    ...MILLION,
    cacheableTokensMin: 2_048,
    toolPromptTokens: [675, 804],
    hasGeography: true,
    hasThinkingBudget: false,
  },
  {
    id: "claude-sonnet-4-6",
    displayName: "Claude Sonnet 4.6",
    line: "sonnet",
    releasedOn: "2026-02-17",
    ...MILLION,
    cacheableTokensMin: 1_024,
    toolPromptTokens: [497, 589],
    hasGeography: true,
    hasThinkingBudget: true,
  },
  {
    id: "claude-opus-4-6",
    displayName: "Claude Opus 4.6",
    line: "opus",
    releasedOn: "2026-02-05",
    ...MILLION,
    cacheableTokensMin: 4_096,
    toolPromptTokens: [497, 589],
    hasGeography: true,
    hasThinkingBudget: true,
  },
  {
    id: "claude-opus-4-5-20251101",
    alias: "claude-opus-4-5",
    displayName: "Claude Opus 4.5",
    line: "opus",
    releasedOn: "2025-11-01",
    ...CLASSIC,
    cacheableTokensMin: 4_096,
    toolPromptTokens: [496, 588],
    hasGeography: false,
    hasThinkingBudget: true,
  },
  {
    id: "claude-haiku-4-5-20251001",
    alias: "claude-haiku-4-5",
    displayName: "Claude Haiku 4.5",
    line: "haiku",
    releasedOn: "2025-10-01",
    ...CLASSIC,
    cacheableTokensMin: 4_096,
    toolPromptTokens: [496, 588],
    hasGeography: false,
    hasThinkingBudget: true,
  },
  {
    id: "claude-sonnet-4-5-20250929",
    alias: "claude-sonnet-4-5",
    displayName: "Claude Sonnet 4.5",
    line: "sonnet",
    releasedOn: "2025-09-29",
    ...CLASSIC,
    cacheableTokensMin: 1_024,
    toolPromptTokens: [496, 588],
    hasGeography: false,
    hasThinkingBudget: true,
    deprecatedOn: "2026-09-30",
    retiresOn: "2026-11-30",
  },
];

/** Finds a model by its exact id or alias. `undefined` is the provider's 404. */
export function findModel(modelId: string): Model | undefined {
  return MODELS.find((model) => model.id === modelId || model.alias === modelId);
}

const YES = { supported: true };

/** One entry of `GET /v1/models` (`ModelInfo` of the official SDK 1.8.0). It holds no prices: the provider's has none. */
export function toModelInfo(model: Model): Record<string, unknown> {
  return {
    type: "model",
    id: model.id,
    display_name: model.displayName,
    created_at: `${model.releasedOn}T00:00:00Z`,
    line: model.line,
    lifecycle: model.deprecatedOn === undefined ? "active" : "deprecated",
    deprecated_at: model.deprecatedOn === undefined ? null : `${model.deprecatedOn}T00:00:00Z`,
    retires_at: model.retiresOn === undefined ? null : `${model.retiresOn}T00:00:00Z`,
    max_input_tokens: model.inputTokensMax,
    max_tokens: model.outputTokensMax,
    capabilities: {
      batch: YES,
      citations: YES,
      code_execution: YES,
      context_management: {
        supported: true,
        clear_thinking_20251015: YES,
        clear_tool_uses_20250919: YES,
        compact_20260112: YES,
      },
      effort: { supported: true, low: YES, medium: YES, high: YES, max: YES, xhigh: YES },
      image_input: YES,
      pdf_input: YES,
      server_tools: { supported: true, code_execution: YES, web_search: YES },
      structured_outputs: YES,
      thinking: {
        supported: true,
        adaptive: YES,
        between_tools: YES,
        disabled: { supported: model.alwaysThinks !== true },
        enabled: { supported: model.hasThinkingBudget },
      },
    },
  };
}

/** The page a `GET /v1/models` query asks for: `limit` (1–1000, default 20), `after_id`, `before_id`. */
export function toModelsPage(query: URLSearchParams): Record<string, unknown> {
  const limit = Math.min(1000, Math.max(1, Number(query.get("limit") ?? 20) || 20));
  const afterId = query.get("after_id");
  const beforeId = query.get("before_id");
  const indexAfter = afterId === null ? 0 : MODELS.findIndex((model) => model.id === afterId) + 1;
  const indexBefore = beforeId === null ? MODELS.length : MODELS.findIndex((model) => model.id === beforeId);
  const end = Math.min(indexBefore, beforeId === null ? indexAfter + limit : indexBefore);
  const page = MODELS.slice(beforeId === null ? indexAfter : Math.max(0, end - limit), end);
  const hasMore = beforeId === null ? end < MODELS.length : end - limit > 0;
  return {
    data: page.map(toModelInfo),
    has_more: hasMore,
    first_id: page[0]?.id ?? null,
    last_id: page.at(-1)?.id ?? null,
  };
}
