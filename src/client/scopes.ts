/**
 * Owns which scopes hold where in the code: they follow it through promises, timers, streams and event emitters.
 * Does not own what a scope counts for (engine/identify.ts).
 * Invariants: what runs side by side never sees each other's scopes; what is nearer to a call wins.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { labelProblem, TAG_NAME, TAGS_MAX, type Labels } from "../engine/identify.ts";
import { within } from "../exchange/incoming.ts";

/** Who a call counts for. What nobody names is `default`, a value like any other. */
export interface CallScopes {
  project?: string;
  agent?: string;
  /** One run of an agent. Inside another session it counts for that one too, at most eight deep. */
  session?: string;
  /** A session this one counts for, where the code does not nest. */
  parentSession?: string;
  user?: string;
  task?: string;
  tags?: Readonly<Record<string, string>>;
}

/** The scopes of the code that runs, for one Purser. */
export interface ScopeStack {
  /** What holds here. */
  current(): Labels;
  /** Runs a function with these around everything in it, however deep. */
  run<Result>(labels: Labels, fn: () => Result): Result;
}

export function createScopeStack(): ScopeStack {
  const storage = new AsyncLocalStorage<Labels>();
  const current = (): Labels => storage.getStore() ?? NO_LABELS;
  return { current, run: (labels, fn) => storage.run(within(current(), labels), fn) };
}

const NO_LABELS: Labels = {};

/** @throws RangeError naming the scope that cannot be used, and why. */
export function labelsOfScopes({ parentSession, tags, ...scopes }: CallScopes): Labels {
  const labels: Labels = {};
  for (const name of SCOPES) {
    const value = scopes[name];
    if (value !== undefined) labels[name] = checked(name, value);
  }
  if (parentSession !== undefined) labels.parentSessions = [checked("parentSession", parentSession)];
  if (tags !== undefined) labels.tags = checkedTags(tags);
  return labels;
}

const SCOPES = ["project", "agent", "session", "user", "task"] as const;

function checked(name: string, value: unknown): string {
  assertLabel(name, value);
  return value;
}

/** @throws RangeError naming what cannot be stored with every call, and why. */
export function assertLabel(name: string, value: unknown): asserts value is string {
  if (typeof value !== "string" || value === "") {
    throw new RangeError(`${name} is ${JSON.stringify(value) ?? typeof value}; a text that is not empty is allowed`);
  }
  const problem = labelProblem(name, value);
  if (problem !== undefined) throw new RangeError(problem);
}

function checkedTags(tags: Readonly<Record<string, string>>): Record<string, string> {
  const entries = Object.entries(tags);
  if (entries.length > TAGS_MAX) throw new RangeError(`tags holds ${entries.length} tags; at most ${TAGS_MAX} are allowed`);
  const wrong = entries.find(([name]) => !TAG_NAME.test(name));
  if (wrong !== undefined) {
    throw new RangeError(`tags holds ${JSON.stringify(wrong[0])}; names of letters, digits, "_", "." and "-" are allowed`);
  }
  return Object.fromEntries(entries.map(([name, value]) => [name, checked(`tags.${name}`, value)]));
}
