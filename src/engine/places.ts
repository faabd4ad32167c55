/**
 * Owns who was told to come back when: each refused caller is given a later place in time than the one before.
 * Does not own when a limit clears (core/decisions).
 */

/** So many promises are remembered per counter series; more only make the honest answer later, never earlier. */
const PROMISES_MAX = 1_000;

export interface Places {
  /** By counter series: how many callers were told a time that has not come yet. */
  ahead(nowMs: number): Record<string, number>;
  promise(counterId: string, atMs: number): void;
}

export function createPlaces(): Places {
  const promises = new Map<string, number[]>();
  return {
    ahead(nowMs) {
      const ahead: Record<string, number> = {};
      for (const [counterId, times] of promises) {
        const left = times.filter((atMs) => atMs > nowMs);
        if (left.length === 0) promises.delete(counterId);
        else {
          promises.set(counterId, left);
          ahead[counterId] = left.length;
        }
      }
      return ahead;
    },
    promise(counterId, atMs) {
      const times = promises.get(counterId) ?? [];
      if (times.length < PROMISES_MAX) promises.set(counterId, [...times, atMs]);
    },
  };
}
