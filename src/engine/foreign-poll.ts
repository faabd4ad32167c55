/**
 * Owns noticing that another process changed the ledger while calls wait here: what was freed there wakes nobody by itself.
 * Does not own who waits (waiting-line.ts) or who the other processes are (owners.ts).
 */
import type { Ledger } from "../ledger/ledger.ts";
import type { Clock } from "./ports.ts";
import type { WaitingLine } from "./waiting-line.ts";

/** How often waiters look whether another process changed the ledger. */
const FOREIGN_POLL_MS = 20;

/** While somebody waits and another process shares the ledger, looks for changes of its. */
export function createForeignPoll(
  { ledger, clock, hasNeighbours }: { ledger: Ledger; clock: Clock; hasNeighbours: () => boolean },
  line: WaitingLine,
): { start(): void } {
  let isRunning = false;
  let lastRevision: number | undefined;
  const look = async (): Promise<void> => {
    if (line.size === 0) {
      isRunning = false;
      lastRevision = undefined;
      return;
    }
    if (hasNeighbours()) {
      const revision = await ledger.revision().catch(() => lastRevision);
      // The first look has nothing to compare with: what changed since the first waiter lay down is not known, so the line is told.
      if (revision !== lastRevision) line.freedSomewhere();
      lastRevision = revision;
    }
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
