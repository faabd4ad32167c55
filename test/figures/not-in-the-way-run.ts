/**
 * Owns a run of the figure "Not in the way": twenty agents on one budget until each was refused for good, in virtual time, and the judge
 * who looks at every refusal. Does not own who admits (not-in-the-way-gates.ts).
 * The judge shares no code with Purser: a refusal is false if what is spent, and the smallest useful form of the call as docs/bounds.md
 * proves it (by the call it extends, by the provider's count, by its bytes), come to no more than the budget.
 */
import type { Answered, Gate } from "./not-in-the-way-gates.ts";
import { MAX_TOKENS, startConversation, type Traffic, type Turn } from "./not-in-the-way-traffic.ts";
import { createUpstream, PRICES, type Model, type Upstream } from "./not-in-the-way-upstream.ts";

export const AGENTS = 20;
const USEFUL_OUTPUT_TOKENS = 1_024;
/** Tools of the client's bring a system prompt along: the dearest published. */
const TOOL_PROMPT_TOKENS = 675;
/** So long a call is remembered by those that extend it. */
const REMEMBERED_MS = 30 * 60_000;
const STEP_MS = 10_000;
const STEPS_MAX = 100_000;

export interface Run {
  calls: number;
  /** Refused for good. */
  refusals: number;
  /** Refused, and would have fitted in their smallest useful form with nothing in flight. */
  falseRefusals: number;
  /** Those of them that would have fitted as they were asked for. */
  falseAsAsked: number;
  /** Told to come back later. */
  laterAnswers: number;
  /** Answers that end at a max_tokens that was made smaller. */
  cutShort: number;
  billNanoUsd: bigint;
  overspendNanoUsd: bigint;
  /** At the first refusal for good: the budget less what was spent, and what the refused call needed at least. */
  leftAtFirst: bigint;
  neededAtFirst: bigint;
  reservedAtEnd: bigint;
  waitsMs: number[];
  contextTokensMax: number;
  endedAtMs: number;
}

/** What the provider reported of a call, and when. */
export interface Read {
  inputTokens: number;
  outputTokens: number;
  endedAtMs: number;
}

/** A refused request, and everything that bounds what it reads. */
export interface JudgedRequest {
  body: Uint8Array;
  /** The call it extends; `undefined`: none that is remembered. */
  extended: Pick<Read, "inputTokens" | "outputTokens"> | undefined;
  added: { answerBytes: number; resultBytes: number };
  /** As the provider counts it. */
  countedTokens: number;
}

export async function run(input: { gate: Gate; model: Model; traffic: Traffic; ceiling: bigint }): Promise<Run> {
  const { gate, model, traffic, ceiling } = input;
  const upstream = createUpstream();
  const made: Run = {
    calls: 0,
    refusals: 0,
    falseRefusals: 0,
    falseAsAsked: 0,
    laterAnswers: 0,
    cutShort: 0,
    billNanoUsd: 0n,
    overspendNanoUsd: 0n,
    leftAtFirst: 0n,
    neededAtFirst: 0n,
    reservedAtEnd: 0n,
    waitsMs: [],
    contextTokensMax: 0,
    endedAtMs: 0,
  };
  let spent = 0n;
  let isRefused = false;
  const { clock } = gate;
  const startedAtMs = clock.nowMs();
  const sleep = (waitMs: number): Promise<void> => new Promise((resolve) => void clock.after(waitMs, resolve));

  function judge(request: JudgedRequest, outputs: readonly number[]): void {
    const needed = leastBound(model, request, outputs);
    made.refusals += 1;
    if (spent + needed <= ceiling) made.falseRefusals += 1;
    if (spent + boundOf(model, request, MAX_TOKENS) <= ceiling) made.falseAsAsked += 1;
    if (isRefused) return;
    isRefused = true;
    made.leftAtFirst = ceiling - spent;
    made.neededAtFirst = needed;
  }

  async function serve(admitted: Extract<Answered, { outcome: "admitted" }>, turn: Turn, from: Upstream): Promise<Read> {
    const answer = from.answer(admitted.body, { wanted: turn.outputTokens, nowMs: clock.nowMs() });
    await sleep(answer.startMs);
    admitted.started(answer);
    await sleep(answer.writingMs);
    // Known to the judge when it is told: whoever is decided because of it may be refused before that returns.
    spent += answer.costNanoUsd;
    await admitted.ended(answer);
    made.calls += 1;
    if (answer.isCutShort) made.cutShort += 1;
    made.contextTokensMax = Math.max(made.contextTokensMax, answer.inputTokens + answer.outputTokens);
    return { inputTokens: answer.inputTokens, outputTokens: answer.outputTokens, endedAtMs: clock.nowMs() };
  }

  async function live(index: number): Promise<void> {
    const agent = `coder-${String(index).padStart(2, "0")}`;
    const conversation = startConversation({ agent, model });
    const nextTurn = traffic.turnsOf(index);
    const outputs: number[] = [];
    let read: Read | undefined;
    upstream.warm(conversation.body(), clock.nowMs());
    for (;;) {
      const turn = nextTurn();
      const askedAtMs = clock.nowMs();
      const body = conversation.body();
      let answered = await gate.ask({ agent, body, inputTokens: conversation.inputTokens });
      while (answered.outcome === "later") {
        made.laterAnswers += 1;
        await sleep(answered.afterMs);
        answered = await gate.ask({ agent, body, inputTokens: conversation.inputTokens });
      }
      if (answered.outcome === "refused") {
        const isRemembered = read !== undefined && clock.nowMs() - read.endedAtMs <= REMEMBERED_MS;
        const extended = isRemembered ? read : undefined;
        return judge({ body, extended, added: conversation.added, countedTokens: conversation.inputTokens }, outputs);
      }
      made.waitsMs.push(clock.nowMs() - askedAtMs);
      read = await serve(answered, turn, upstream);
      outputs.push(read.outputTokens);
      await sleep(turn.toolMs);
      conversation.append(read.outputTokens, turn.toolResultBytes);
    }
  }

  const state = { isDone: false };
  const agents = Promise.all(Array.from({ length: AGENTS }, (_, index) => live(index))).then(() => (state.isDone = true));
  // Time goes on only here: whoever waits for something else than time would wait for ever.
  for (let step = 0; !state.isDone && step < STEPS_MAX; step += 1) await clock.advance(STEP_MS);
  if (!state.isDone) throw new Error(`agents still run after ${STEPS_MAX} steps`);
  await agents;
  made.billNanoUsd = upstream.billNanoUsd;
  made.overspendNanoUsd = made.billNanoUsd > ceiling ? made.billNanoUsd - ceiling : 0n;
  made.reservedAtEnd = await gate.reservedNanoUsd();
  made.endedAtMs = clock.nowMs() - startedAtMs;
  return made;
}

/** The proven bound of a call's smallest useful form. */
export function leastBound(model: Model, request: JudgedRequest, outputs: readonly number[]): bigint {
  return boundOf(model, request, Math.min(MAX_TOKENS, Math.max(USEFUL_OUTPUT_TOKENS, usualOutput(outputs))));
}

/** A token per byte, or less where an earlier call proves less, or else the provider's count and its margin. */
function inputBound({ body, extended, added, countedTokens }: JudgedRequest): number {
  const byBytes = body.length + TOOL_PROMPT_TOKENS;
  if (extended === undefined) return Math.min(byBytes, Math.ceil((countedTokens * 105) / 100) + 500);
  const { inputTokens, outputTokens } = extended;
  return Math.min(byBytes, inputTokens + Math.max(outputTokens, added.answerBytes) + added.resultBytes);
}

/** Nine of ten answers of this agent are no longer. */
function usualOutput(outputs: readonly number[]): number {
  const sorted = outputs.toSorted((a, b) => a - b);
  return sorted[Math.ceil(sorted.length * 0.9) - 1] ?? 0;
}

/** All of its input written to the cache, and so much output; a tenth dearer, since the account's default may be the US and the request does not say. */
function boundOf(model: Model, request: JudgedRequest, outputTokens: number): bigint {
  const { cacheWrite, output } = PRICES[model];
  const once = BigInt(inputBound(request)) * cacheWrite + BigInt(outputTokens) * output;
  return (once * 11n + 9n) / 10n;
}
