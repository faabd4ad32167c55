/**
 * Owns the order in which calls of this process wait for money that calls in flight hold.
 * Does not own what they wait for (core/decisions) or how long (pipeline.ts).
 * Invariants: first come, first served per counter series: a call passes an earlier waiter only if they share no blocking counter;
 * a waiter holds nothing; at most a bounded number wait on one series; the first waiter on a series was decided after whatever was freed
 * there last. So nobody lies on money that is there, though only the first is woken: those behind it on the series are held back by it
 * until it leaves or moves away, and then the next is the first.
 */

/** So many may wait on one counter series, and so many be paused there; the next is refused at once. */
export const WAITERS_MAX = 100;

/** Of so many series it is remembered when they were last freed; whoever asks for one that was forgotten is told yes. */
const FREED_REMEMBERED_MAX = 10_000;

export interface Waiter {
  /** Counter series it is blocked on now. Changed by `move` only. */
  blockedOn: readonly string[];
  /** It waits for the end of a window, not for calls in flight: it holds nobody back. Changed by `move` only. */
  isPaused: boolean;
  /** Wakes it, to be decided afresh. Replaced each time it lies down. */
  wake: () => void;
}

export interface WaitingLine {
  /** Joins at the end; `undefined` if too many wait on one of these series already. */
  join(blockedOn: readonly string[], isPaused?: boolean): Waiter | undefined;
  /** Keeps its place and waits on other series from now on. The next on each of those it left is woken. */
  move(waiter: Waiter, blockedOn: readonly string[], isPaused?: boolean): void;
  /** The next on each of its series is woken. */
  leave(waiter: Waiter): void;
  /** Counter series on which somebody who is not paused waits before this waiter; for a call not in line: on which anybody waits. */
  blockedBefore(waiter: Waiter | undefined): string[];
  /** Something was freed in these series: the first waiter on each is woken. */
  freed(counterIds: readonly string[]): void;
  /** Something may have been freed in any series: the first waiter on each is woken. */
  freedSomewhere(): void;
  /** Whatever anybody waits for may have changed. */
  wakeAll(): void;
  /**
   * Rises with everything that may let a waiter go on. With `wasFreedSince`, closes the gap between being told to wait and lying down.
   */
  readonly freedCount: number;
  wasFreedSince(freedCount: number, counterIds: readonly string[]): boolean;
  /** How many wait on a series. */
  waitingOn(counterId: string): number;
  readonly size: number;
}

export function createWaitingLine(): WaitingLine {
  const waiters = new Set<Waiter>();
  let freedCount = 0;
  const lastFreed = new Map<string, number>();
  /** Up to here nothing is known of single series any more. */
  let forgottenCount = 0;

  /** Wakes the first on each of these series; who is being decided at this moment learns of it by `wasFreedSince`. */
  const release = (counterIds: readonly string[]): void => {
    if (counterIds.length === 0) return;
    freedCount += 1;
    for (const id of counterIds) lastFreed.set(id, freedCount);
    if (lastFreed.size > FREED_REMEMBERED_MAX) forget();
    wakeFirstOn(new Set(counterIds));
  };
  const wakeFirstOn = (ids: ReadonlySet<string>): void => {
    if (waiters.size === 0) return;
    const firsts = new Map<string, Waiter>();
    const paused: Waiter[] = [];
    for (const waiter of waiters) {
      // The paused hold nobody back, so each of them may fit where what was spent turned out to be less.
      if (waiter.isPaused && waiter.blockedOn.some((id) => ids.has(id))) paused.push(waiter);
      else if (!waiter.isPaused) for (const id of waiter.blockedOn) if (ids.has(id) && !firsts.has(id)) firsts.set(id, waiter);
    }
    for (const waiter of new Set([...firsts.values(), ...paused])) waiter.wake();
  };
  const forget = (): void => {
    lastFreed.clear();
    forgottenCount = freedCount;
  };
  const countOn = (counterId: string, isCounted: (waiter: Waiter) => boolean): number => {
    let count = 0;
    for (const waiter of waiters) if (waiter.blockedOn.includes(counterId) && isCounted(waiter)) count += 1;
    return count;
  };

  return {
    join(blockedOn, isPaused = false) {
      const isLike = (waiter: Waiter): boolean => waiter.isPaused === isPaused;
      if (blockedOn.some((id) => countOn(id, isLike) >= WAITERS_MAX)) return undefined;
      const waiter: Waiter = { blockedOn, isPaused, wake: () => undefined };
      waiters.add(waiter);
      return waiter;
    },
    move(waiter, blockedOn, isPaused = false) {
      const isHeldStill = (id: string): boolean => blockedOn.includes(id) && (waiter.isPaused || !isPaused);
      const left = waiter.blockedOn.filter((id) => !isHeldStill(id));
      waiter.blockedOn = blockedOn;
      waiter.isPaused = isPaused;
      release(left);
    },
    leave(waiter) {
      if (waiters.delete(waiter)) release(waiter.blockedOn);
    },
    blockedBefore(waiter) {
      const ids = new Set<string>();
      for (const other of waiters) {
        if (other === waiter) break;
        if (!other.isPaused) for (const id of other.blockedOn) ids.add(id);
      }
      return [...ids];
    },
    freed: release,
    get freedCount() {
      return freedCount;
    },
    wasFreedSince: (count, counterIds) => forgottenCount > count || counterIds.some((id) => (lastFreed.get(id) ?? 0) > count),
    freedSomewhere() {
      // Also for whoever is being decided at this moment, by what held until now.
      freedCount += 1;
      forget();
      wakeFirstOn(new Set([...waiters].flatMap(({ blockedOn }) => blockedOn)));
    },
    wakeAll() {
      freedCount += 1;
      forget();
      for (const waiter of waiters) waiter.wake();
    },
    waitingOn: (counterId) => countOn(counterId, () => true),
    get size() {
      return waiters.size;
    },
  };
}
