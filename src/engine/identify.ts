/**
 * Owns who a call counts for: which labels are believed, and what a missing one means.
 * Does not own where labels are written (gateway/) or sessions nobody named (sessions.ts).
 * Invariants: what a key binds, nothing the caller sends overrides; every call has a value for every scope, `default` where nobody
 * named one.
 */
import type { Scopes } from "../core/limits/limit.ts";

/** Who presented which credential. */
export interface Caller {
  /** The virtual key's id; `undefined`: the caller's own credential, or none. */
  keyId: string | undefined;
  /** What the key binds; `undefined` without a key, where labels are believed. */
  bound: { project: string; agent: string; allow: readonly string[] } | undefined;
}

/** What the caller says of itself, as far as it says anything. */
export interface Labels {
  project?: string;
  agent?: string;
  session?: string;
  /** Nearest first. */
  parentSessions?: readonly string[];
  user?: string;
  task?: string;
  tags?: Readonly<Record<string, string>>;
}

/** The value of a scope that nobody named. */
export const UNNAMED = "default";

/** A label longer than this is refused: it is stored with every call. */
export const LABEL_CHARS_MAX = 200;
export const TAGS_MAX = 20;
/** Deeper nesting counts for the nearest eight only. */
export const SESSION_DEPTH_MAX = 8;

/** Why a label cannot be used, for the caller; `undefined`: it can. */
export function labelProblem(name: string, value: string): string | undefined {
  if (value.length > LABEL_CHARS_MAX) return `${name} has ${value.length} characters; at most ${LABEL_CHARS_MAX} are allowed`;
  // Control characters would reach terminals and logs; a lone surrogate cannot be stored as text.
  if (/[\p{Cc}\p{Cs}]/u.test(value)) return `${name} holds a control character; printable text is allowed`;
  return undefined;
}

/** A tag's name: what a limit can name behind `tag:`. */
export const TAG_NAME = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/;

/** The scopes a call counts for, and what reports say of its user and tags. */
export function scopesOf(input: { caller: Caller; labels: Labels; session: string }): {
  scopes: Scopes;
  attribution: { user: string; tags: Readonly<Record<string, string>> };
} {
  const { caller, labels, session } = input;
  const { bound } = caller;
  const tags = labels.tags ?? {};
  const isAllowed = (label: string): boolean => bound === undefined || bound.allow.includes(label);
  return {
    scopes: {
      project: bound?.project ?? orUnnamed(labels.project),
      agent: bound?.agent ?? orUnnamed(labels.agent),
      session,
      parentSessions: (labels.parentSessions ?? []).filter((parent) => parent !== session).slice(0, SESSION_DEPTH_MAX),
      user: isAllowed("user") ? orUnnamed(labels.user) : UNNAMED,
      key: caller.keyId ?? UNNAMED,
      task: orUnnamed(labels.task),
      tags: Object.fromEntries(Object.entries(tags).filter(([name]) => isAllowed(`tag:${name}`))),
    },
    attribution: { user: orUnnamed(labels.user), tags },
  };
}

function orUnnamed(value: string | undefined): string {
  return value === undefined || value === "" ? UNNAMED : value;
}
