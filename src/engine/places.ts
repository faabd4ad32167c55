/**
 * Owns who was told to come back when: each refused caller is given a time of its own, later than those told before it.
 * Does not own when a limit clears (core/decisions): a crowd makes nobody's refusal final.
 */

/** So many promises are remembered per series; those beyond share the last place. */
const PROMISES_MAX = 1_000;

export interface Places {
  /** How many others were told a time that has not come yet. Asking again keeps a caller's own place. */
  of(input: { series: string; who: string; nowMs: number }): number;
  promise(input: { series: string; who: string; atMs: number }): void;
}

export function createPlaces(): Places {
  const series = new Map<string, Map<string, number>>();

  const forgetPast = (nowMs: number): void => {
    for (const [name, promises] of series) {
      for (const [who, atMs] of promises) if (atMs <= nowMs) promises.delete(who);
      if (promises.size === 0) series.delete(name);
    }
  };

  return {
    of({ series: name, who, nowMs }) {
      forgetPast(nowMs);
      const promises = series.get(name);
      if (promises === undefined) return 0;
      const place = [...promises.keys()].indexOf(who);
      return place < 0 ? promises.size : place;
    },
    promise({ series: name, who, atMs }) {
      const promises = series.get(name) ?? new Map<string, number>();
      series.set(name, promises);
      if (promises.has(who) || promises.size < PROMISES_MAX) promises.set(who, atMs);
    },
  };
}
