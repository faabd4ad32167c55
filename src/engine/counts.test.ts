/** How long a count is waited for, how many are asked for at once, and when none is. */
import { expect, test } from "vitest";
import { COUNT_MS_MAX, COUNT_PAUSE_MS, COUNTS_AT_ONCE_MAX, createCounts, type CountAnswer } from "./counts.ts";
import { createFakeClock } from "./engine.fixture.ts";

const BODY = new Uint8Array([1]);

function start() {
  const clock = createFakeClock();
  const counts = createCounts(clock);
  const asked: { answer: (status: number) => void; fail: () => void; isCancelled: boolean }[] = [];
  const leaving = new Set<() => void>();
  const leave = (): void => leaving.forEach((callBack) => callBack());
  const onGone = (callBack: () => void): (() => void) => {
    leaving.add(callBack);
    return () => leaving.delete(callBack);
  };
  const ask = (untilMs = Infinity) =>
    counts.ask(
      () => {
        const { promise, resolve, reject } = Promise.withResolvers<CountAnswer>();
        const one = {
          answer: (status: number) => resolve({ status, body: BODY }),
          fail: () => reject(new Error("gone")),
          isCancelled: false,
        };
        asked.push(one);
        return { answer: promise, cancel: () => void (one.isCancelled = true) };
      },
      BODY,
      { untilMs, onGone },
    );
  return { clock, counts, asked, ask, leave, leaving };
}

test("hands on the answer, and leaves no timer and no request behind", async () => {
  const { clock, counts, asked, ask } = start();
  const answer = ask();
  asked[0]?.answer(200);

  expect(await answer).toBe(BODY);
  expect({ timers: clock.timerCount, isCancelled: asked[0]?.isCancelled, isOpen: counts.isOpen }).toEqual({
    timers: 0,
    isCancelled: true,
    isOpen: true,
  });
});

test("waits no longer than it may, and then leaves the provider alone for a while", async () => {
  const { clock, counts, asked, ask } = start();
  const answer = ask();
  await clock.advance(COUNT_MS_MAX);

  expect(await answer).toBeUndefined();
  expect(asked[0]?.isCancelled).toBe(true);
  expect(counts.isOpen).toBe(false);
  await clock.advance(COUNT_PAUSE_MS);
  expect(counts.isOpen).toBe(true);
});

test("is given up when the caller leaves, which closes nothing", async () => {
  const { clock, counts, asked, ask, leave, leaving } = start();
  const answer = ask();
  leave();

  expect(await answer).toBeUndefined();
  expect({ isCancelled: asked[0]?.isCancelled, isOpen: counts.isOpen, timers: clock.timerCount, watching: leaving.size }).toEqual(
    {
      isCancelled: true,
      isOpen: true,
      timers: 0,
      watching: 0,
    },
  );
});

test("a caller in a hurry waits less, and closes nothing", async () => {
  const { clock, counts, ask, asked } = start();
  const answer = ask(clock.nowMs() + 100);
  await clock.advance(100);

  expect(await answer).toBeUndefined();
  expect(await ask(clock.nowMs())).toBeUndefined();
  expect({ asked: asked.length, isOpen: counts.isOpen }).toEqual({ asked: 1, isOpen: true });
});

test.each([
  [400, true],
  [401, true],
  [404, false],
  [429, false],
  [500, false],
  [529, false],
])("status %i is no count; others may be asked for then: %s", async (status, isOpen) => {
  const { counts, asked, ask } = start();
  const answer = ask();
  asked[0]?.answer(status);

  expect(await answer).toBeUndefined();
  expect(counts.isOpen).toBe(isOpen);
});

test("a connection that fails is no count", async () => {
  const { counts, asked, ask } = start();
  const answer = ask();
  asked[0]?.fail();

  expect(await answer).toBeUndefined();
  expect(counts.isOpen).toBe(false);
});

test("so many ask at once, and no more", async () => {
  const { counts, asked, ask } = start();
  const answers = Array.from({ length: COUNTS_AT_ONCE_MAX }, () => ask());
  expect(counts.isOpen).toBe(false);

  asked[0]?.answer(200);
  await answers[0];

  expect(counts.isOpen).toBe(true);
});
