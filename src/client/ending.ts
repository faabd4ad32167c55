/**
 * Owns how a Purser ends: no new calls, those that run are waited for, what still runs then is cut and settled at what is known.
 * Does not own the ledger's end (purser.ts).
 */
import type { Engine } from "../engine/pipeline.ts";
import type { Clock } from "../engine/ports.ts";
import type { Ending } from "./fetch.ts";

export interface OwnEnding extends Ending {
  /** Resolves once every call has its ending, as far as the ledger takes them. */
  end(deadlineMs: number): Promise<void>;
}

/** Time for what was cut to be settled. */
const CUT_MS_MAX = 5_000;
const LOOK_MS = 5;

export function createEnding(engine: Engine, clock: Clock): OwnEnding {
  const running = new Set<() => void>();
  const waiting = new Set<() => void>();
  let isEnding = false;
  const whileRunning = async (untilMs: number): Promise<void> => {
    while (engine.runningCount > 0 && clock.nowMs() < untilMs) {
      await new Promise<void>((resolve) => clock.after(LOOK_MS, resolve));
    }
  };
  return {
    running,
    get isEnding() {
      return isEnding;
    },
    onEnding(callBack) {
      waiting.add(callBack);
      return () => void waiting.delete(callBack);
    },
    async end(deadlineMs) {
      isEnding = true;
      for (const callBack of waiting) callBack();
      const deadlineAtMs = clock.nowMs() + deadlineMs;
      await whileRunning(deadlineAtMs);
      for (const cut of running) cut();
      await whileRunning(deadlineAtMs + CUT_MS_MAX);
      await engine.flush(deadlineAtMs + CUT_MS_MAX);
    },
  };
}
