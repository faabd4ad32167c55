/**
 * Owns how a mistake in the configuration is told: the place, what was found there, what is allowed.
 * Does not own what is a mistake (the readers beside this file).
 * Invariant: every problem names a place a person can go to: file, line and column, or the environment variable.
 */

/** Where something stands. */
export interface Place {
  /** The file, or the environment variable. */
  file: string;
  /** From 1; absent for a variable that holds one value. */
  line: number | undefined;
  /** From 1, in UTF-16 units; absent for a variable that holds one value. */
  column: number | undefined;
  /** `limits[2].every`; empty for the whole document. */
  path: string;
}

/** One mistake. */
export interface ConfigProblem extends Place {
  found: string;
  allowed: string;
  /** All of it in one readable line: `purser.yaml:12:7: limits[2].every: found "fortnight"; allowed: …`. */
  message: string;
}

/** Something that is allowed and yet worth telling. */
export interface ConfigWarning extends Place {
  message: string;
}

/** Collects problems and warnings while a configuration is read, so that a person sees all of them at once. */
export class Problems {
  readonly problems: ConfigProblem[] = [];
  readonly warnings: ConfigWarning[] = [];

  /** Notes a mistake. Answers `undefined`, so that a reader can end with `return problems.add(…)`. */
  add(place: Place, found: string, allowed: string): undefined {
    this.problems.push({
      ...placeOf(place),
      found,
      allowed,
      message: `${formatPlace(place)}: found ${found}; allowed: ${allowed}`,
    });
  }

  warn(place: Place, text: string): void {
    this.warnings.push({ ...placeOf(place), message: `${formatPlace(place)}: ${text}` });
  }

  /** In the order in which they stand in the file; those of variables after them. */
  sorted(): ConfigProblem[] {
    return this.problems.toSorted((a, b) => (a.line ?? Infinity) - (b.line ?? Infinity) || (a.column ?? 0) - (b.column ?? 0));
  }
}

/** Text as it may be shown: quoted, one line, cut after 60 characters. */
export function quote(text: string): string {
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}…` : text);
}

/** The allowed name nearest to what was written, if it is near enough to have been meant. */
export function nearest(text: string, names: readonly string[]): string | undefined {
  if (text.length > 60) return undefined;
  // Two letters that changed places are two edits; in a word of three that would be nearly any word.
  const farthest = Math.max(text.length < 4 ? 1 : 2, Math.floor(text.length / 3));
  let best: { name: string; distance: number } | undefined;
  for (const name of names) {
    const distance = editDistance(text.toLowerCase(), name.toLowerCase());
    if (distance <= farthest && distance < (best?.distance ?? Infinity)) best = { name, distance };
  }
  return best?.name;
}

/** A list of names for a person, with the one that was probably meant. */
export function oneOf(names: readonly string[], written?: string): string {
  const meant = written === undefined ? undefined : nearest(written, names);
  return `${names.join(", ")}${meant === undefined ? "" : ` (did you mean ${quote(meant)}?)`}`;
}

function placeOf({ file, line, column, path }: Place): Place {
  return { file, line, column, path };
}

function formatPlace({ file, line, column, path }: Place): string {
  if (line === undefined) return path === "" || path === file ? file : `${file} (${path})`;
  return `${file}:${line}:${column ?? 1}${path === "" ? "" : `: ${path}`}`;
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const replaced = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
