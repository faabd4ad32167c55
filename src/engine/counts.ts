/**
 * Owns asking a provider how many tokens a request has: how long, how many at once, and what follows when it does not answer.
 * Does not own what is asked (providers/), by which connection (the faces), or when it is worth it (core/decisions/admit.ts).
 * Invariants: nothing waits for a count longer than {@link COUNT_MS_MAX}; a provider that does not answer is left alone for a while;
 * a count that is not to be had changes no bound.
 */
import type { Clock } from "./ports.ts";

/** A count takes some tenths of a second; whoever waits for one is not served meanwhile. */
export const COUNT_MS_MAX = 2_000;
/** More calls than these do not ask at the same time: their bytes bound them. Providers limit counts by the minute. */
export const COUNTS_AT_ONCE_MAX = 16;
/** After a count that was not to be had none is asked for so long. */
export const COUNT_PAUSE_MS = 10_000;

/** Sends the body that asks, as the caller whose call it is. Rejects if no answer came. */
export type AskCount = (body: Uint8Array) => { answer: Promise<CountAnswer>; cancel: () => void };

export interface CountAnswer {
  status: number;
  body: Uint8Array;
}

export interface Counts {
  /** Whether one more may be asked for now. */
  readonly isOpen: boolean;
  /** @returns `undefined` if there is no answer to be had by then, or the caller left. */
  ask(ask: AskCount, body: Uint8Array, caller: CountingCaller): Promise<Uint8Array | undefined>;
}

/** Whose request is counted. */
export interface CountingCaller {
  /** It waits no longer (epoch ms; `Infinity`: as long as it takes). */
  untilMs: number;
  /** Calls back once when it leaves; the returned function stops that. */
  onGone: (callBack: () => void) => () => void;
}

export function createCounts(clock: Clock): Counts {
  let asking = 0;
  let closedUntilMs = -Infinity;
  return {
    get isOpen() {
      return asking < COUNTS_AT_ONCE_MAX && clock.nowMs() >= closedUntilMs;
    },
    async ask(ask, body, { untilMs, onGone }) {
      const msMax = Math.min(COUNT_MS_MAX, untilMs - clock.nowMs());
      if (msMax <= 0) return undefined;
      asking += 1;
      const { answer, cancel } = ask(body);
      const late = Promise.withResolvers<undefined>();
      let isGone = false;
      const stopTimer = clock.after(msMax, () => late.resolve(undefined));
      const stopWatching = onGone(() => {
        isGone = true;
        late.resolve(undefined);
      });
      try {
        const answered = await Promise.race([answer.catch(() => undefined), late.promise]);
        // A caller in a hurry, or gone, says nothing of the provider.
        const isFailing = answered === undefined ? msMax === COUNT_MS_MAX && !isGone : isNobodys(answered.status);
        if (isFailing) closedUntilMs = clock.nowMs() + COUNT_PAUSE_MS;
        return answered?.status === 200 ? answered.body : undefined;
      } finally {
        stopTimer();
        stopWatching();
        cancel();
        asking -= 1;
      }
    },
  };
}

/** True for an answer that says nothing of the one request: the provider cannot, or will not, count now. */
function isNobodys(status: number): boolean {
  return status === 404 || status === 429 || status >= 500;
}
