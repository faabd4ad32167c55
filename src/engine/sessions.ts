/**
 * Owns sessions that nobody named: which earlier call a conversation continues.
 * Does not own named sessions (identify.ts) or what a message is (providers/).
 * Invariants: ids are random and fingerprints are keyed by a secret in memory, so nothing stored can be traced to a prompt; a
 * conversation that continues nobody's starts a session of its own; memory is bounded.
 */
import { IdleMap } from "./idle-map.ts";
import type { Clock, IdSource } from "./ports.ts";

/** A session ends when nothing happened in it for this long. */
export const SESSION_IDLE_MS_MAX = 30 * 60_000;
/** So many conversations are remembered; the one idle longest is forgotten first. */
const CONVERSATIONS_MAX = 50_000;

interface Conversation {
  session: string;
  fingerprint: string;
}

export interface SessionFinder {
  /**
   * @param owner whose conversations are looked at: sessions of different keys never meet.
   * @param chain the fingerprints of the conversation's messages, without what changes between turns (cache marks).
   */
  find(owner: string, chain: readonly string[]): string;
}

/** Recognises a conversation by its beginning: the messages of the last call seen, extended or repeated. */
export function createSessionFinder({ clock, ids }: { clock: Clock; ids: IdSource }): SessionFinder {
  const byFingerprint = new IdleMap<Conversation>({ sizeMax: CONVERSATIONS_MAX, idleMsMax: SESSION_IDLE_MS_MAX });

  return {
    find(owner, chain) {
      const nowMs = clock.nowMs();
      byFingerprint.forget(nowMs);
      const keys = chain.map((fingerprint) => `${owner} ${fingerprint}`);
      const known = keys.findLast((key) => byFingerprint.get(key) !== undefined);
      const before = known === undefined ? undefined : byFingerprint.get(known);
      const session = before?.session ?? ids.next("sess");
      if (before !== undefined) byFingerprint.delete(before.fingerprint);
      const last = keys.at(-1);
      if (last !== undefined) byFingerprint.put(last, { session, fingerprint: last }, nowMs);
      return session;
    },
  };
}
