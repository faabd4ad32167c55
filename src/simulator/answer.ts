/**
 * Owns: what the model answers to a request: its blocks, how many tokens each of them is, and everything consumed on the way.
 * Does not own: how it is told (`events.ts`, `usage.ts`) or sent (`wire.ts`).
 * Invariant: the tokens of the blocks add up to the output tokens of the samplings that write the answer; the answer depends
 * on the request, the behaviour, the cache and the clock alone.
 */
import type { ContentSpec, GenerationOptions, IterationSpec, SimulatedRequest } from "./behaviours.ts";
import { NO_TOKENS, type Consumption, type Sampling, type TokenParts } from "./bill.ts";
import type { PromptCache } from "./cache.ts";
import { asArray, asRecord, asText, type JsonRecord } from "./json.ts";
import type { Model } from "./models.ts";
import { countInputTokens, readPrompt } from "./prompt.ts";
import { seedOf } from "./text.ts";
import { toTotals, type UsageFacts } from "./usage.ts";

/** Every block says over how many deltas it is spread and how many output tokens it took. */
export type AnswerBlock = { readonly tokens: number; readonly deltas: number } & (
  | { readonly type: "text" | "thinking"; readonly text: string }
  | { readonly type: "text" | "thinking"; readonly textBytes: number; readonly seed: number }
  | { readonly type: "tool_use" | "server_tool_use"; readonly id: string; readonly name: string; readonly inputJson: string }
  | { readonly type: "web_search_tool_result"; readonly toolUseId: string; readonly query: string }
);

export interface Answer extends UsageFacts {
  readonly id: string;
  readonly modelId: string;
  readonly blocks: readonly AnswerBlock[];
  readonly stopReason: string;
  readonly stopSequence: string | null;
  /** Output tokens of the answer itself: the whole that `generated` counts up to. */
  readonly outputTokens: number;
  /** Puts what this request wrote into the cache; called when the answer begins. */
  readonly commitCache: () => void;
}

export interface PlanAnswerInput {
  readonly request: SimulatedRequest;
  readonly body: JsonRecord;
  readonly model: Model;
  readonly options: GenerationOptions;
  readonly cache: PromptCache;
  readonly atMs: number;
  readonly outputTokens: ((request: SimulatedRequest) => number) | undefined;
}

const BYTES_PER_TOKEN = 4;
const TOKENS_PER_DELTA = 16;
const DELTAS_MAX = 32;
const SEARCH_RESULT_TOKENS = 1_000;

/** Decides the whole answer at once, before a byte of it is sent. */
export function planAnswer(input: PlanAnswerInput): Answer {
  const { request, body, model, options } = input;
  const seed = seedOf(request.body);
  const maxTokens = Number(body["max_tokens"]);
  const wanted = readWantedOutput(input, seed);
  const outputTokens = Math.max(0, Math.min(wanted, maxTokens));
  const specs = outputTokens === 0 ? [] : (options.content ?? defaultContent(body, options));
  const prompt = readPromptParts(input);
  const consumption = toConsumption(input, { ...prompt.parts, outputTokens });
  const thinkingTokens = readThinkingTokens(specs, options, outputTokens);
  const blocks = toBlocks({ specs, options, body, seed, outputTokens, thinkingTokens });
  return {
    id: request.requestId.replace(/^req_/, "msg_"),
    modelId: model.id,
    consumption,
    thinkingTokens,
    showIterations: options.showIterations ?? options.iterations !== undefined,
    blocks,
    stopReason: options.stopReason ?? toStopReason(blocks, wanted > maxTokens || maxTokens === 0),
    stopSequence: null,
    outputTokens: toTotals(consumption).outputTokens,
    commitCache: prompt.commit,
  };
}

/** What was consumed if only the first `generatedTokens` of the output came about: later samplings never ran. */
export function toConsumptionUntil(answer: Answer, generatedTokens: number): Consumption {
  let tokensLeft = Math.min(generatedTokens, answer.outputTokens);
  let isFirst = true;
  let skipped = 0;
  const samplings = answer.consumption.samplings.flatMap((sampling) => {
    // Compaction and advisors run before the answer is written.
    if (sampling.kind === "compaction" || sampling.kind === "advisor_message") return [sampling];
    if (!isFirst && tokensLeft === 0) {
      skipped += 1;
      return [];
    }
    isFirst = false;
    const outputTokens = Math.min(sampling.outputTokens, tokensLeft);
    tokensLeft -= outputTokens;
    return [{ ...sampling, outputTokens }];
  });
  const webSearchRequests = Math.max(0, answer.consumption.webSearchRequests - skipped);
  return { ...answer.consumption, samplings, webSearchRequests };
}

function readWantedOutput({ request, options, outputTokens }: PlanAnswerInput, seed: number): number {
  const header = asText(request.headers["x-simulator-output-tokens"]);
  return options.parts?.outputTokens ?? options.outputTokens ?? readCount(header) ?? outputTokens?.(request) ?? 16 + (seed % 48);
}

function readCount(header: string | undefined): number | undefined {
  return header === undefined || !/^\d+$/.test(header) ? undefined : Number(header);
}

/** How the prompt splits between cache and uncached input; with `parts`, what they say. */
function readPromptParts({ request, body, model, options, cache, atMs }: PlanAnswerInput): {
  parts: TokenParts;
  commit: () => void;
} {
  if (options.parts !== undefined) return { parts: { ...NO_TOKENS, ...options.parts }, commit: () => undefined };
  const blocks = readPrompt(body, model);
  const header = readCount(asText(request.headers["x-simulator-input-tokens"]));
  const inputTokens = options.inputTokens ?? header ?? countInputTokens(blocks);
  const { commit, ...split } = cache.split({ body, model, blocks, inputTokens, atMs });
  return { parts: { ...split, outputTokens: 0 }, commit };
}

function toConsumption({ body, model, options, atMs }: PlanAnswerInput, main: TokenParts): Consumption {
  const listed = (options.iterations ?? []).map((spec) => toSampling(spec, model));
  const isServedByFallback = listed.some(({ kind }) => kind === "fallback_message");
  const own = isServedByFallback ? [] : toLoop(body, model, options, main);
  return {
    samplings: [...listed.filter(isBefore), ...own, ...listed.filter((sampling) => !isBefore(sampling))],
    webSearchRequests: options.searches ?? 0,
    speed: body["speed"] === "fast" && model.id !== "claude-opus-4-6" ? "fast" : "standard",
    serviceTier: options.serviceTier ?? "standard",
    inferenceGeo: options.inferenceGeo ?? asText(body["inference_geo"]) ?? (model.hasGeography ? "global" : "not_available"),
    atMs,
  };
}

function isBefore({ kind }: Sampling): boolean {
  return kind === "compaction" || kind === "advisor_message";
}

function toSampling({ kind, modelId, ...parts }: IterationSpec, model: Model): Sampling {
  return { ...NO_TOKENS, ...parts, kind, modelId: modelId ?? model.id };
}

/**
 * A server-tool loop samples once more after every search, over the prompt and all results so far. With any cache mark in
 * the request the results are written to the five-minute cache and what came before is read from it; without one the whole
 * prompt is uncached input again (platform.claude.com/docs/en/agents-and-tools/tool-use/tool-use-with-prompt-caching).
 */
function toLoop(body: JsonRecord, model: Model, options: GenerationOptions, main: TokenParts): Sampling[] {
  const searches = options.searches ?? 0;
  const added = options.searchResultTokens ?? SEARCH_RESULT_TOKENS;
  const isCached = JSON.stringify(body).includes('"cache_control"');
  const prompt = main.inputTokens + main.cacheReadTokens + main.cacheWrite5mTokens + main.cacheWrite1hTokens;
  return Array.from({ length: searches + 1 }, (_, round) => {
    const outputTokens = share(main.outputTokens, round, searches + 1);
    const base = { kind: "message" as const, modelId: model.id, ...NO_TOKENS, outputTokens };
    if (round === 0) return { ...base, ...main, outputTokens };
    if (!isCached) return { ...base, inputTokens: prompt + round * added };
    return { ...base, cacheReadTokens: prompt + (round - 1) * added, cacheWrite5mTokens: added };
  });
}

/** The n-th of `count` near-equal whole shares of `total`; they add up to it. */
export function share(total: number, index: number, count: number): number {
  return Math.floor((total * (index + 1)) / count) - Math.floor((total * index) / count);
}

function defaultContent(body: JsonRecord, options: GenerationOptions): ContentSpec[] {
  const thinking = asText(asRecord(body["thinking"])["type"]);
  const thinks = thinking === "enabled" || thinking === "adaptive" || options.thinkingTokens !== undefined;
  const searches = Array.from({ length: options.searches ?? 0 }, () => ({ type: "web_search" as const }));
  return [...(thinks ? [{ type: "thinking" as const }] : []), ...searches, forcedTool(body) ?? { type: "text" }];
}

/** The tool a request insists on, called with an argument. */
function forcedTool(body: JsonRecord): ContentSpec | undefined {
  const choice = asRecord(body["tool_choice"]);
  const first = asText(asRecord(asArray(body["tools"])[0])["name"]);
  const name = choice["type"] === "tool" ? asText(choice["name"]) : choice["type"] === "any" ? first : undefined;
  return name === undefined ? undefined : { type: "tool_use", name, input: { query: "the books — naïve or exact?" } };
}

function readThinkingTokens(specs: readonly ContentSpec[], options: GenerationOptions, outputTokens: number): number {
  const thinks = specs.some(({ type }) => type === "thinking");
  return Math.min(outputTokens, options.thinkingTokens ?? (thinks ? Math.floor(outputTokens / 2) : 0));
}

interface ToBlocksInput {
  readonly specs: readonly ContentSpec[];
  readonly options: GenerationOptions;
  readonly body: JsonRecord;
  readonly seed: number;
  readonly outputTokens: number;
  readonly thinkingTokens: number;
}

function toBlocks(input: ToBlocksInput): AnswerBlock[] {
  const { specs, thinkingTokens, outputTokens } = input;
  const thinking = specs.filter(({ type }) => type === "thinking");
  const others = specs.filter(({ type }) => type !== "thinking");
  return specs.flatMap((spec) =>
    spec.type === "thinking"
      ? toBlock(input, spec, share(thinkingTokens, thinking.indexOf(spec), thinking.length))
      : toBlock(input, spec, share(outputTokens - thinkingTokens, others.indexOf(spec), others.length)),
  );
}

function toBlock({ options, body, seed, specs }: ToBlocksInput, spec: ContentSpec, tokens: number): AnswerBlock[] {
  const deltas = options.deltas ?? Math.max(1, Math.min(DELTAS_MAX, Math.ceil(tokens / TOKENS_PER_DELTA)));
  const index = specs.indexOf(spec);
  switch (spec.type) {
    case "text":
      return [toTextBlock(spec, { tokens, deltas, seed: seed + index, textBytes: options.textBytes })];
    case "thinking": {
      // With display omitted the thinking is paid for and not shown.
      const isHidden = asRecord(body["thinking"])["display"] === "omitted";
      return [toTextBlock(spec, { tokens, deltas, seed: seed + index, textBytes: isHidden ? 0 : undefined })];
    }
    case "tool_use": {
      const id = `toolu_sim${seed}x${index}`;
      return [{ type: "tool_use", id, name: spec.name, inputJson: JSON.stringify(spec.input), tokens, deltas }];
    }
    case "web_search": {
      const id = `srvtoolu_sim${seed}x${index}`;
      const query = spec.query ?? "price of a token";
      const use = { type: "server_tool_use", id, name: "web_search", inputJson: JSON.stringify({ query }) } as const;
      return [
        { ...use, tokens, deltas },
        { type: "web_search_tool_result", toolUseId: id, query, tokens: 0, deltas: 0 },
      ];
    }
  }
}

function toTextBlock(
  spec: { readonly type: "text" | "thinking"; readonly text?: string },
  sizes: { tokens: number; deltas: number; seed: number; textBytes: number | undefined },
): AnswerBlock {
  const { tokens, deltas, seed } = sizes;
  if (spec.text !== undefined) return { type: spec.type, text: spec.text, tokens, deltas };
  return { type: spec.type, textBytes: sizes.textBytes ?? tokens * BYTES_PER_TOKEN, seed, tokens, deltas };
}

function toStopReason(blocks: readonly AnswerBlock[], isCutShort: boolean): string {
  if (isCutShort) return "max_tokens";
  return blocks.at(-1)?.type === "tool_use" ? "tool_use" : "end_turn";
}
