/**
 * Owns whose child a session is, over all generations: a caller names the nearest parents, and their own parents are known from before.
 * Does not own what counting for a parent means (core/decisions).
 * Invariants: a session once counted for a parent goes on counting for it, whether or not it is named again; rings end; memory is
 * bounded, and what it has forgotten is read back from the ledger.
 */
import type { Ledger } from "../ledger/ledger.ts";
import { SESSION_DEPTH_MAX } from "./identify.ts";
import { IdleMap } from "./idle-map.ts";
import { isLedgerUnavailable } from "./refusing.ts";

/** So many sessions are remembered; the one longest unused is forgotten first. */
const SESSIONS_MAX = 50_000;

export interface ParentFinder {
  /** @returns the sessions that this one counts for, nearest first, at most eight; a promise only where the ledger has to be asked. */
  find(session: string, named: readonly string[]): readonly string[] | Promise<readonly string[]>;
}

export function createParentFinder(ledger: Pick<Ledger, "calls">): ParentFinder {
  const bySession = new IdleMap<readonly string[]>({ sizeMax: SESSIONS_MAX });

  function remember(session: string, parents: readonly string[]): void {
    bySession.put(session, parents);
    bySession.forget();
  }

  function conclude(session: string, ancestors: readonly string[]): string[] {
    const all = new Set([...ancestors, ...(bySession.get(session) ?? [])]);
    all.delete(session);
    const parents = [...all].slice(0, SESSION_DEPTH_MAX);
    if (parents.length > 0) remember(session, parents);
    return parents;
  }

  async function readParents(session: string): Promise<readonly string[]> {
    try {
      const [last] = await ledger.calls({ session, limit: 1 });
      const parents = last?.facts.scopes.parentSessions ?? [];
      remember(session, parents);
      return parents;
    } catch (error) {
      // The decision asks the same ledger next, and refuses if that is gone.
      if (!isLedgerUnavailable(error)) throw error;
      return [];
    }
  }

  return {
    find(session, named) {
      const farthest = named.at(-1);
      if (farthest === undefined) return conclude(session, []);
      const above = bySession.get(farthest);
      if (above !== undefined) return conclude(session, [...named, ...above]);
      return readParents(farthest).then((parents) => conclude(session, [...named, ...parents]));
    },
  };
}
