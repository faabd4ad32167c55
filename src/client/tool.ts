/**
 * Owns counting what tools an agent runs: asking before each invocation, and answering in the tool's place where a limit says no.
 * Does not own the decision (engine/), or what a tool pays for (meter.ts): a tool by itself costs nothing.
 * Invariants: a refused tool did not run, and its agent is told by a value, not by an error; one invocation counts once, however often
 * it is run.
 */
import type { ErrorCode, ErrorDetails, Refusal } from "../core/errors/codes.ts";
import type { Labels } from "../engine/identify.ts";
import type { RunningCall } from "../engine/running-call.ts";
import { NOTHING, readingOf, toolApi } from "../providers/metered.ts";
import { tellDecision, tellSettled } from "./events.ts";
import type { Caller } from "./fetch.ts";
import { askForCall, whyGone, type WaitOptions } from "./open-call.ts";
import { assertLabel } from "./scopes.ts";
import { toolUseIdIn } from "./tool-use-id.ts";

const BRAND = Symbol.for("purser.ToolRefusal");

/** What a tool returns that was not run: plain data, for the model to read. */
export interface ToolRefusal {
  readonly outcome: "refused";
  readonly tool: string;
  /** One of the codes of `docs/errors/`. */
  readonly code: ErrorCode;
  /** One sentence: which limit, its figures, until when. */
  readonly message: string;
  /** The limit's name; `undefined`: it was refused for another reason, such as a ledger that cannot be written. */
  readonly limit: string | undefined;
  /** ISO 8601; `null`: never by itself; `undefined`: waiting does not help, or it clears within a minute. */
  readonly resetsAt: string | null | undefined;
  readonly details: Readonly<ErrorDetails>;
}

/** True for what a tool of this package, or of another copy of it, returned instead of running. */
export function isToolRefusal(value: unknown): value is ToolRefusal {
  return typeof value === "object" && value !== null && BRAND in value;
}

export interface ToolOptions<Args extends unknown[]> extends Pick<WaitOptions, "deadlineMs"> {
  /**
   * The provider's id of the invocation, by which it counts once. @defaultValue where the Anthropic SDK, the AI SDK, LangChain and the
   * OpenAI Agents SDK hand it to a tool; an invocation without one counts each time
   */
  toolUseId?: (...args: Args) => string | undefined;
}

/** Wraps a tool's function: the same arguments, and its result, or why it was not run. */
export type ToolWrapper = <Args extends unknown[], Result>(
  name: string,
  fn: (...args: Args) => Result,
  options?: ToolOptions<Args>,
) => (...args: Args) => Promise<Awaited<Result> | ToolRefusal>;

/** @param around the scopes that hold where a tool is called. */
export function createTool(caller: Caller, around: () => Labels): ToolWrapper {
  return function tool<Args extends unknown[], Result>(
    name: string,
    fn: (...args: Args) => Result,
    { toolUseId = toolUseIdIn, deadlineMs }: ToolOptions<Args> = {},
  ) {
    assertLabel("name", name);
    const wait = deadlineMs === undefined ? {} : { deadlineMs };
    return async (...args: Args): Promise<Awaited<Result> | ToolRefusal> => {
      const labels = around();
      const idempotencyKey = invocationOf(labels, toolUseId(...args));
      const opening = await askForCall(caller, { api: toolApi(name), tool: name, labels, wait, idempotencyKey });
      // Counted already: it is run again, as by somebody who lost its result.
      if (opening.outcome === "refused" && opening.refusal.details.code === "duplicate_call") return await fn(...args);
      tellDecision(caller.events, opening);
      if (opening.outcome === "gone") throw whyGone(wait);
      if (opening.outcome === "refused") return refusalOf(name, opening.refusal);
      return await run(caller, name, opening.call, () => fn(...args));
    };
  };
}

/** Shorter ids may be numbers that begin anew: they are unlike others inside a session only. */
const UNIQUE_ID_CHARS_MIN = 20;

/** Under what an invocation is counted once; `undefined`: nothing tells it from others. */
function invocationOf({ project, agent, session }: Labels, id: string | undefined): string | undefined {
  if (id === undefined || (session === undefined && id.length < UNIQUE_ID_CHARS_MIN)) return undefined;
  return JSON.stringify(["tool", project, agent, session, id]);
}

async function run<Result>(
  { ending, events }: Caller,
  name: string,
  call: RunningCall,
  fn: () => Result,
): Promise<Awaited<Result>> {
  let isEnded = false;
  const end = async (): Promise<void> => {
    if (isEnded) return;
    isEnded = true;
    tellSettled(events, call, await call.end({ kind: "completed", status: 200, reading: readingOf(name, NOTHING) }));
  };
  const cut = (): void => void end();
  ending.running.add(cut);
  call.markSent();
  try {
    return await fn();
  } finally {
    await end();
    ending.running.delete(cut);
  }
}

function refusalOf(tool: string, { details, message }: Refusal): ToolRefusal {
  const { code, limit, resetsAt } = details;
  const refusal = {
    outcome: "refused" as const,
    tool,
    code,
    message: `${tool} was not run. ${message}`,
    limit,
    resetsAt,
    details,
  };
  // Not enumerable: the model reads what a copy as JSON shows.
  return Object.defineProperty(refusal, BRAND, { value: true });
}
