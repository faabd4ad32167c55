/**
 * Owns noticing that another process changed the ledger while calls wait here: what was freed there wakes nobody by itself.
 * Does not own who waits (waiting-line.ts) or who the other processes are (owners.ts).
 */
import type { Ledger } from "../ledger/ledger.ts";
import type { Clock } from "./ports.ts";
import type { WaitingLine } from "./waiting-line.ts";

/** How often waiters look whether another process changed the ledger. */
const FOREIGN_POLL_MS = 20;

/**
 * While somebody waits, looks for changes by other processes. Whether there are others is not asked: one that has just started, or is
 * not known because a beat failed, frees money as well, and a look costs some microseconds.
 */
export function createForeignPoll({ ledger, clock }: { ledger: Ledger; clock: Clock }, line: WaitingLine): { start(): void } {
  let isRunning = false;
  let lastRevision: number | undefined;
  const look = async (): Promise<void> => {
    if (line.size === 0) {
      isRunning = false;
      lastRevision = undefined;
      return;
    }
    const revision = await ledger.revision().catch(() => lastRevision);
    // The first look has nothing to compare with: what changed since the first waiter lay down is not known, so the line is told.
    if (revision !== lastRevision) line.freedSomewhere();
    lastRevision = revision;
    clock.after(FOREIGN_POLL_MS, () => void look());
  };
  return {
    start() {
      if (isRunning) return;
      isRunning = true;
      clock.after(FOREIGN_POLL_MS, () => void look());
    },
  };
}
