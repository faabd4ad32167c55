/**
 * Owns the order in which calls of this process wait for money that calls in flight hold.
 * Does not own what they wait for (core/decisions) or how long (pipeline.ts).
 * Invariants: first come, first served per counter series: a call passes an earlier waiter only if they share no blocking counter;
 * a waiter holds nothing; at most a bounded number wait on one series.
 */

/** So many may wait on one counter series; the next is refused at once. */
export const WAITERS_MAX = 100;

/** Of so many series it is remembered when they were last freed. */
const FREED_REMEMBERED_MAX = 10_000;

export interface Waiter {
  /** Counter series it is blocked on now. */
  blockedOn: readonly string[];
  /** Wakes it, to be decided afresh. Replaced each time it lies down. */
  wake: () => void;
}

export interface WaitingLine {
  /** Joins at the end; `undefined` if too many wait on one of these series already. */
  join(blockedOn: readonly string[]): Waiter | undefined;
  leave(waiter: Waiter): void;
  /** Counter series on which somebody waits before this waiter; for a call not in line: on which anybody waits. */
  blockedBefore(waiter: Waiter | undefined): string[];
  /** Something was freed in these series, or a waiter on them left: the waiters on them are woken, first come first. */
  freed(counterIds: readonly string[]): void;
  wakeAll(): void;
  /** Rises with every `freed`. With `wasFreedSince`, closes the gap between being told to wait and lying down. */
  readonly freedCount: number;
  wasFreedSince(freedCount: number, counterIds: readonly string[]): boolean;
  /** How many wait on a series. */
  waitingOn(counterId: string): number;
  readonly size: number;
}

export function createWaitingLine(): WaitingLine {
  const waiters = new Set<Waiter>();
  let freedCount = 0;
  let forgottenCount = 0;
  const lastFreed = new Map<string, number>();

  const wakeOn = (counterIds: ReadonlySet<string>): void => {
    for (const waiter of waiters) if (waiter.blockedOn.some((id) => counterIds.has(id))) waiter.wake();
  };
  const waitingOn = (counterId: string): number => {
    let count = 0;
    for (const { blockedOn } of waiters) if (blockedOn.includes(counterId)) count += 1;
    return count;
  };

  const freed = (counterIds: readonly string[]): void => {
    if (counterIds.length === 0) return;
    freedCount += 1;
    if (lastFreed.size > FREED_REMEMBERED_MAX) {
      lastFreed.clear();
      forgottenCount = freedCount;
    }
    for (const id of counterIds) lastFreed.set(id, freedCount);
    if (waiters.size > 0) wakeOn(new Set(counterIds));
  };

  return {
    join(blockedOn) {
      if (blockedOn.some((id) => waitingOn(id) >= WAITERS_MAX)) return undefined;
      const waiter: Waiter = { blockedOn, wake: () => undefined };
      waiters.add(waiter);
      return waiter;
    },
    leave(waiter) {
      // Those behind it may have been held back by it alone, also those that the ledger is just deciding about.
      if (waiters.delete(waiter)) freed(waiter.blockedOn);
    },
    blockedBefore(waiter) {
      const ids = new Set<string>();
      for (const other of waiters) {
        if (other === waiter) break;
        for (const id of other.blockedOn) ids.add(id);
      }
      return [...ids];
    },
    freed,
    get freedCount() {
      return freedCount;
    },
    // What was forgotten may have been one of these: a look too many costs less than a sleep too long.
    wasFreedSince: (count, counterIds) => count < forgottenCount || counterIds.some((id) => (lastFreed.get(id) ?? 0) > count),
    wakeAll() {
      for (const waiter of waiters) waiter.wake();
    },
    waitingOn,
    get size() {
      return waiters.size;
    },
  };
}
