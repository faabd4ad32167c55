/**
 * Owns that a gateway archives what is past retention, once a day, in a thread beside the traffic.
 * Does not own what archiving does (ledger/sqlite/archive.ts).
 * Invariants: without a retention nothing is archived; one run at a time; a run that fails is told, and tried again the day after.
 */
import type { Clock, Notifier } from "../engine/ports.ts";
import type { RunningArchive } from "../ledger/sqlite/archive-in-thread.ts";

/** Not at once: a start has better things to do, and a gateway that ends soon archives nothing. */
export const FIRST_ARCHIVING_MS = 60_000;
export const DAY_MS = 24 * 3_600_000;

export interface Archiving {
  /** Ends a run after the step it is in. */
  close(): Promise<void>;
}

export function keepArchiving(input: {
  clock: Clock;
  notifier: Notifier;
  /** `undefined`: everything stays. */
  keepDays: () => number | undefined;
  /** Begins to archive what was written before an instant. */
  archive: (instants: { beforeMs: number; nowMs: number }) => RunningArchive;
}): Archiving {
  const { clock, notifier, keepDays, archive } = input;
  let running: { archive: RunningArchive; told: Promise<void> } | undefined;
  let cancel = clock.after(FIRST_ARCHIVING_MS, run);

  function run(): void {
    cancel = clock.after(DAY_MS, run);
    const days = keepDays();
    if (days === undefined || running !== undefined) return;
    const nowMs = clock.nowMs();
    const begun = archive({ beforeMs: nowMs - days * DAY_MS, nowMs });
    running = { archive: begun, told: tellFailure(begun) };
  }

  async function tellFailure({ done }: RunningArchive): Promise<void> {
    try {
      await done;
    } catch (error) {
      notifier.warn("archiving_failed", { reason: error instanceof Error ? error.message : "unknown" });
    } finally {
      running = undefined;
    }
  }

  return {
    async close() {
      cancel();
      running?.archive.stop();
      await running?.told;
    },
  };
}
