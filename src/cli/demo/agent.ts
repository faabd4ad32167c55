/**
 * Owns one agent of the demo: plain HTTP calls, one after the other, as any agent in any language makes them.
 * Invariant: it knows nothing of Purser but the address; what it learns stands in the answers it gets.
 */
import { parseUsd } from "../../core/money/money.ts";
import { TRIES_AFTER_REFUSAL, type AgentPlan } from "./plans.ts";

/** What an agent has seen so far. */
export interface AgentProgress {
  plan: AgentPlan;
  calls: number;
  spentNanoUsd: bigint;
  /** The model of its last answer. */
  model: string;
  state: "working" | "cheaper model" | "slowed down" | "stopped" | "finished" | "failed";
  /** What it was refused with, and when. */
  refusal: Refused | undefined;
  /** Calls it tried after that. */
  triesAfterRefusal: number;
}

/** A refusal as its caller reads it: the sentence, and the figures beside it. */
export interface Refused {
  message: string;
  limit: string;
  spentNanoUsd: bigint;
  amountNanoUsd: bigint;
  requestedNanoUsd: bigint;
}

/** Something worth a line. */
export interface AgentEvent {
  agent: string;
  kind: "downgraded" | "throttled" | "refused" | "finished" | "failed";
  progress: AgentProgress;
  detail: string;
}

export interface AgentInput {
  url: string;
  progress: AgentProgress;
  /** True while the demo goes on; waits between calls. */
  think: (waitMs: number) => Promise<boolean>;
  signal: AbortSignal;
  tell: (event: AgentEvent) => void;
}

/** A plan that nothing was done of yet. */
export function newProgress(plan: AgentPlan): AgentProgress {
  return { plan, calls: 0, spentNanoUsd: 0n, model: plan.model, state: "working", refusal: undefined, triesAfterRefusal: 0 };
}

/** Makes the agent's calls until they are done, or it gives up. */
export async function runAgent(input: AgentInput): Promise<void> {
  const { progress, tell, think } = input;
  const { plan } = progress;
  const told = (kind: AgentEvent["kind"], detail = ""): void => tell({ agent: plan.agent, kind, progress, detail });
  for (let call = 0; call < plan.calls; call += 1) {
    const answer = await ask(input.url, plan, input.signal);
    if (answer.outcome === "answered") noteAnswer(progress, answer, told);
    else if (answer.outcome === "refused") {
      if (progress.refusal !== undefined) progress.triesAfterRefusal += 1;
      else {
        progress.refusal = answer.refused;
        progress.state = "stopped";
        told("refused", answer.refused.message);
      }
      if (progress.triesAfterRefusal >= TRIES_AFTER_REFUSAL) return;
    } else {
      progress.state = "failed";
      return told("failed", answer.reason);
    }
    if (!(await think(plan.thinkMs))) return;
  }
  if (progress.state !== "stopped") progress.state = "finished";
  told("finished");
}

type Answer =
  | { outcome: "answered"; costNanoUsd: bigint; model: string; marks: readonly string[] }
  | { outcome: "refused"; refused: Refused }
  | { outcome: "failed"; reason: string };

function noteAnswer(
  progress: AgentProgress,
  answer: Extract<Answer, { outcome: "answered" }>,
  told: (kind: AgentEvent["kind"], detail?: string) => void,
): void {
  progress.calls += 1;
  progress.spentNanoUsd += answer.costNanoUsd;
  progress.model = answer.model;
  if (answer.marks.includes("throttled")) {
    if (progress.state !== "slowed down") told("throttled");
    progress.state = "slowed down";
  } else if (answer.marks.includes("downgraded") && progress.state === "working") {
    progress.state = "cheaper model";
    told("downgraded", answer.model);
  }
}

/** The request an agent sends, as bytes. */
export function requestOf(plan: AgentPlan): { body: string; headers: Record<string, string> } {
  const text = "The customer says the parcel is late. ".repeat(Math.ceil(plan.promptBytes / 38)).slice(0, plan.promptBytes);
  const handbook = "If a parcel is late, say so and give the new date. "
    .repeat(Math.ceil(plan.cachedBytes / 51))
    .slice(0, plan.cachedBytes);
  const system = [{ type: "text", text: handbook, cache_control: { type: "ephemeral" } }];
  const body = JSON.stringify({
    model: plan.model,
    max_tokens: plan.maxTokens,
    ...(plan.cachedBytes === 0 ? {} : { system }),
    messages: [{ role: "user", content: text }],
  });
  const headers = {
    "content-type": "application/json",
    "anthropic-version": "2023-06-01",
    "x-api-key": "demo-needs-no-key",
    "x-purser-project": "demo",
    "x-purser-agent": plan.agent,
    "x-purser-session": plan.session,
    "x-simulator-output-tokens": String(plan.outputTokens),
    ...(plan.inputTokens === undefined ? {} : { "x-simulator-input-tokens": String(plan.inputTokens) }),
  };
  return { body, headers };
}

async function ask(url: string, plan: AgentPlan, signal: AbortSignal): Promise<Answer> {
  try {
    const response = await fetch(`${url}/v1/messages`, { method: "POST", ...requestOf(plan), signal });
    const text = await response.text();
    if (response.ok) {
      return {
        outcome: "answered",
        costNanoUsd: parseUsd(response.headers.get("x-purser-cost-usd") ?? "0") ?? 0n,
        model: response.headers.get("x-purser-model") ?? plan.model,
        marks: (response.headers.get("x-purser-decision") ?? "").split(",").map((mark) => mark.trim()),
      };
    }
    if (response.status === 402) return { outcome: "refused", refused: readRefusal(text) };
    return { outcome: "failed", reason: `${response.status}: ${readRefusal(text).message}` };
  } catch (error) {
    return { outcome: "failed", reason: error instanceof Error ? error.message : String(error) };
  }
}

function readRefusal(text: string): Refused {
  const { error } = readJson(text) as { error?: { message?: string; details?: Record<string, string> } };
  const amount = (name: string): bigint => parseUsd(error?.details?.[name] ?? "0") ?? 0n;
  return {
    message: error?.message ?? text,
    limit: error?.details?.["limit"] ?? "",
    spentNanoUsd: amount("spent"),
    amountNanoUsd: amount("amount"),
    requestedNanoUsd: amount("requested"),
  };
}

function readJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // An answer that is no JSON has no figures; its text is shown as it came.
    return {};
  }
}
