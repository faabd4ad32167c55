import { describe, expect, onTestFinished, test } from "vitest";
import { createDoor, createLoadProbe, FEW_CALLS, type LoadProbe } from "./door.ts";

const probeOf = (lagMs: number, heapShare: number): LoadProbe => ({
  lagMs: () => lagMs,
  heapShare: () => heapShare,
  close: () => undefined,
});

describe("the door", () => {
  test.each<[lagMs: number, heapShare: number, openCalls: number, reason: string | undefined]>([
    [0, 0, 0, undefined],
    [200, 0.92, FEW_CALLS + 1, undefined],
    [201, 0, FEW_CALLS + 1, "it is behind with its work"],
    [201, 0, FEW_CALLS, undefined],
    [0, 0.93, 0, "its memory is nearly full"],
  ])("at %s ms of lag, a heap of %s and %s open calls: %s", (lagMs, heapShare, openCalls, reason) => {
    const door = createDoor(probeOf(lagMs, heapShare));
    for (let count = 0; count < openCalls; count += 1) door.entered();

    expect(door.closedBecause()).toBe(reason);
  });

  test("lets as many in as it may, and the next one when one has left", () => {
    const door = createDoor(probeOf(0, 0), 2);
    door.entered();
    expect(door.closedBecause()).toBeUndefined();
    door.entered();
    expect(door.closedBecause()).toBe("it serves 2 calls, as many as it takes at once");
    door.left();
    expect(door.closedBecause()).toBeUndefined();
  });

  test("ends once, and tells whoever still listens", () => {
    const door = createDoor(probeOf(0, 0));
    const told: string[] = [];
    door.onEnding(() => told.push("waits"));
    const stop = door.onEnding(() => told.push("went on"));
    stop();
    door.end();
    expect([door.closedBecause(), door.isEnding, told]).toEqual(["it is ending", true, ["waits"]]);
  });
});

test("a loop that is late once was paused; late for a second, it is behind, and in time again it is not", async () => {
  const probe = createLoadProbe();
  onTestFinished(() => probe.close());
  const seen: boolean[] = [];
  /** Holds the event loop so that the next look is late. */
  const hold = async (): Promise<void> => {
    const untilMs = performance.now() + 400;
    while (performance.now() < untilMs);
    await new Promise((resolve) => setTimeout(resolve, 1));
    seen.push(probe.lagMs() > 200);
  };
  await new Promise((resolve) => setImmediate(resolve));

  for (let count = 0; count < 4; count += 1) await hold();
  while (probe.lagMs() > 200) await new Promise((resolve) => setTimeout(resolve, 5));

  expect(seen).toEqual([false, false, true, true]);
  expect(probe.heapShare()).toBeGreaterThan(0);
  expect(probe.heapShare()).toBeLessThan(0.92);
});
