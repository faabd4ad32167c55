/**
 * Owns whether anything more is taken on: not while the gateway ends, nor while it has more to do than it can.
 * Does not own what is said then (server.ts) or how running calls end (serve.ts).
 * Invariant: asked before any work is done for a request; whoever was taken on is served, however much there is to do.
 */
import { getHeapStatistics } from "node:v8";

/**
 * An event loop that is later than this delays every stream by it, and more with each call that it takes on. A gateway that keeps up is
 * late by single milliseconds; a garbage collection or the largest body by some tens.
 */
const LAG_MS_MAX = 200;
/** Above this share of its heap Node spends its time collecting garbage, and at the whole of it the process ends. */
const HEAP_SHARE_MAX = 0.92;
/** So many calls are open at once: an idle stream takes 0.1 to 0.2 MB, and two of the file descriptors a process may have. */
export const OPEN_CALLS_MAX = 5_000;
/** With no more calls open than these, what makes it late is not the calls it takes on, but a slow disk or others on the machine. */
export const FEW_CALLS = 100;
/** How often this process is looked at: one look tells that it has recovered. */
const LOOK_MS = 100;
/** Late twice in a row, and by so much within four looks, it is behind: a single pause of the loop, or of a disk, is over when it is seen. */
const LATE_MS_MIN = 800;
const LOOKS = 4;
/** Who was behind so lately is so again at the first late look: otherwise each time the door opens, more is taken on than can be done. */
const STILL_WARY_MS = 5_000;

/** How this process does. */
export interface LoadProbe {
  /**
   * How late the event loop is, or how long the ledger has kept an operation waiting, whichever is more; 0 while neither has been late for
   * some time.
   */
  lagMs(): number;
  /** Of the heap that the process may have, the part in use: 0 to 1. */
  heapShare(): number;
  close(): void;
}

export interface Door {
  /** Why nothing more is taken on now, in words behind "it is"; `undefined`: it is open. */
  closedBecause(): string | undefined;
  /** One more is served, until `left`. */
  entered(): void;
  left(): void;
  /** From here on nothing is taken on. */
  end(): void;
  readonly isEnding: boolean;
  /** Calls back when the ending begins; the returned function stops that. */
  onEnding(callBack: () => void): () => void;
}

/** @param openCallsMax for tests that cannot open thousands. */
export function createDoor(probe: LoadProbe, openCallsMax = OPEN_CALLS_MAX): Door {
  const told = new Set<() => void>();
  let openCount = 0;
  let isEnding = false;
  return {
    closedBecause() {
      if (isEnding) return "it is ending";
      if (openCount >= openCallsMax) return `it serves ${openCallsMax} calls, as many as it takes at once`;
      if (openCount > FEW_CALLS && probe.lagMs() > LAG_MS_MAX) return "it is behind with its work";
      if (probe.heapShare() > HEAP_SHARE_MAX) return "its memory is nearly full";
      return undefined;
    },
    entered: () => void (openCount += 1),
    left: () => void (openCount -= 1),
    end() {
      isEnding = true;
      for (const callBack of told) callBack();
    },
    get isEnding() {
      return isEnding;
    },
    onEnding(callBack) {
      told.add(callBack);
      return () => told.delete(callBack);
    },
  };
}

/**
 * Looks at this process ten times a second.
 *
 * @param waitedMs how long the ledger has kept an operation waiting: its thread has its own share of the work, and can be what is behind.
 */
export function createLoadProbe(waitedMs: () => number = () => 0): LoadProbe {
  let dueAtMs = performance.now() + LOOK_MS;
  const latest = Array.from({ length: LOOKS }, () => 0);
  let waryUntilMs = -Infinity;
  let heapShare = 0;
  const timer = setInterval(() => {
    const nowMs = performance.now();
    latest.shift();
    latest.push(Math.max(0, nowMs - dueAtMs, waitedMs()));
    dueAtMs = nowMs + LOOK_MS;
    const isLate = latest.slice(-2).every((lateMs) => lateMs > LAG_MS_MAX);
    if (isLate && latest.reduce((sum, lateMs) => sum + lateMs, 0) >= LATE_MS_MIN) waryUntilMs = nowMs + STILL_WARY_MS;
    const { used_heap_size: used, heap_size_limit: most } = getHeapStatistics();
    heapShare = used / most;
  }, LOOK_MS).unref();
  return {
    lagMs() {
      const nowMs = performance.now();
      // The loop may be late since the last look, in the middle of a turn that takes on hundreds of calls.
      return nowMs < waryUntilMs ? Math.max(latest.at(-1) ?? 0, nowMs - dueAtMs, waitedMs()) : 0;
    },
    heapShare: () => heapShare,
    close: () => clearInterval(timer),
  };
}
