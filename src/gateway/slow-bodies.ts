/**
 * Owns that nobody keeps a request open by sending its body drop by drop. Does not own reading bodies (body.ts) or the time that a head
 * may take (Node's own).
 */

/** A body may arrive slowly for this long before its pace counts: the first bytes of a new connection are slow. */
const GRACE_MS = 10_000;
/** The slowest pace that counts as sending: a tenth of the slowest modem line, which no agent is on. */
const BYTES_PER_SECOND_MIN = 1_000;
const LOOK_MS = 1_000;

/** A body that is being read. */
export interface ArrivingBody {
  readonly sinceMs: number;
  readonly bytes: number;
  /** Called once. */
  tooSlow(): void;
}

export interface SlowBodies {
  /** The returned function ends the watch. */
  watch(body: ArrivingBody): () => void;
  close(): void;
}

export function createSlowBodies({ nowMs }: { nowMs: () => number }, graceMs = GRACE_MS): SlowBodies {
  const arriving = new Set<ArrivingBody>();
  const look = (): void => {
    for (const body of arriving) {
      const tookMs = nowMs() - body.sinceMs;
      if (tookMs <= graceMs || body.bytes * 1_000 >= BYTES_PER_SECOND_MIN * tookMs) continue;
      arriving.delete(body);
      body.tooSlow();
    }
  };
  const timer = setInterval(look, Math.min(LOOK_MS, graceMs)).unref();
  return {
    watch(body) {
      arriving.add(body);
      return () => arriving.delete(body);
    },
    close: () => clearInterval(timer),
  };
}
