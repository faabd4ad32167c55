import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createWaitingLine, WAITERS_MAX, type Waiter, type WaitingLine } from "./waiting-line.ts";

/** A waiter that lies in line and writes down when it is woken. */
function lie(line: WaitingLine, blockedOn: readonly string[], woken: string[] = [], name = blockedOn.join()): Waiter {
  const waiter = line.join(blockedOn);
  if (waiter === undefined) throw new Error(`nobody may wait on ${blockedOn.join()} any more`);
  waiter.wake = () => woken.push(name);
  return waiter;
}

describe("who is held back", () => {
  test("a call not in line is held back by every waiter, a waiter only by those before it", () => {
    const line = createWaitingLine();
    const first = lie(line, ["a"]);
    const second = lie(line, ["b", "c"]);
    const third = lie(line, ["a", "d"]);

    expect(line.blockedBefore(first)).toEqual([]);
    expect(line.blockedBefore(second)).toEqual(["a"]);
    expect(line.blockedBefore(third)).toEqual(["a", "b", "c"]);
    expect(line.blockedBefore(undefined)).toEqual(["a", "b", "c", "d"]);
  });

  test("a waiter that moves to other series keeps its place", () => {
    const line = createWaitingLine();
    const first = lie(line, ["a"]);
    const second = lie(line, ["a"]);

    line.move(first, ["b"]);

    expect(line.blockedBefore(second)).toEqual(["b"]);
    expect(line.blockedBefore(first)).toEqual([]);
  });

  test("nobody is held back by one who has left", () => {
    const line = createWaitingLine();
    line.leave(lie(line, ["a"]));

    expect(line.blockedBefore(undefined)).toEqual([]);
    expect(line.size).toBe(0);
  });
});

describe("waking", () => {
  test("wakes the waiters of a freed series, first come first, and nobody else", () => {
    const line = createWaitingLine();
    const woken: string[] = [];
    lie(line, ["a"], woken, "first");
    lie(line, ["b"], woken, "second");
    lie(line, ["b", "a"], woken, "third");

    line.freed(["a"]);

    expect(woken).toEqual(["first", "third"]);
  });

  test("wakes those behind one that leaves, and nobody on other series", () => {
    const line = createWaitingLine();
    const woken: string[] = [];
    const first = lie(line, ["a"], woken, "first");
    lie(line, ["a"], woken, "second");
    lie(line, ["b"], woken, "third");

    line.leave(first);
    line.leave(first);

    expect(woken).toEqual(["second"]);
  });

  test("wakes those behind one that moves away, on the series it left only", () => {
    const line = createWaitingLine();
    const woken: string[] = [];
    const first = lie(line, ["a", "b"], woken, "first");
    lie(line, ["a"], woken, "second");
    lie(line, ["b"], woken, "third");

    line.move(first, ["b", "c"]);

    expect(woken).toEqual(["second"]);
  });

  test("wakes everybody when the rules change", () => {
    const line = createWaitingLine();
    const woken: string[] = [];
    lie(line, ["a"], woken);
    lie(line, ["b"], woken);

    line.wakeAll();

    expect(woken).toEqual(["a", "b"]);
  });
});

describe("a wake-up that comes before a call lies down", () => {
  const happenings: [string, (line: WaitingLine, before: Waiter) => void][] = [
    ["something was freed", (line) => line.freed(["x", "a"])],
    ["the waiter before it left", (line, before) => line.leave(before)],
    ["the waiter before it moved away", (line, before) => line.move(before, ["b"])],
    ["the rules changed", (line) => line.wakeAll()],
  ];

  test.each(happenings)("is noticed: %s", (_, happen) => {
    const line = createWaitingLine();
    const before = lie(line, ["a"]);
    const asked = line.freedCount;

    happen(line, before);

    expect(line.wasFreedSince(asked, ["a"])).toBe(true);
    expect(line.wasFreedSince(line.freedCount, ["a"])).toBe(false);
  });

  test("is not made up: what is freed elsewhere, or was freed before, changes nothing", () => {
    const line = createWaitingLine();
    line.freed(["a"]);
    const asked = line.freedCount;

    line.freed(["b"]);
    line.freed([]);

    expect(line.wasFreedSince(asked, ["a"])).toBe(false);
  });

  test("is never forgotten, however many series are freed", () => {
    const line = createWaitingLine();
    const asked = line.freedCount;
    line.freed(["a"]);

    for (let index = 0; index < 20_001; index += 1) line.freed([`other ${index}`]);

    expect(line.wasFreedSince(asked, ["a"])).toBe(true);
  });
});

describe("the length of the line", () => {
  test(`is at most ${WAITERS_MAX} on one series, and unbounded by waiters on others`, () => {
    const line = createWaitingLine();
    for (let index = 0; index < WAITERS_MAX; index += 1) lie(line, ["a", `own ${index}`]);

    expect(line.waitingOn("a")).toBe(WAITERS_MAX);
    expect(line.join(["b", "a"])).toBeUndefined();
    expect(line.size).toBe(WAITERS_MAX);
    expect(line.join(["b"])).toBeDefined();
  });

  test("is shorter again once one has left", () => {
    const line = createWaitingLine();
    const waiters = Array.from({ length: WAITERS_MAX }, () => lie(line, ["a"]));

    for (const waiter of waiters.slice(0, 1)) line.leave(waiter);

    expect(line.join(["a"])).toBeDefined();
    expect(line.join(["a"])).toBeUndefined();
  });
});

test("whatever comes and goes, a waiter is held back by exactly the series of those who came before it and wait", () => {
  const series = fc.uniqueArray(fc.constantFrom("a", "b", "c", "d"), { minLength: 1, maxLength: 3 });
  const step = fc.oneof(
    fc.record({ kind: fc.constant("join" as const), series }),
    fc.record({ kind: fc.constant("move" as const), which: fc.nat(20), series }),
    fc.record({ kind: fc.constant("leave" as const), which: fc.nat(20) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const line = createWaitingLine();
      const model: Waiter[] = [];
      for (const each of steps) {
        if (each.kind === "join") {
          const waiter = line.join(each.series);
          if (waiter !== undefined) model.push(waiter);
          continue;
        }
        const waiter = model[each.which % Math.max(1, model.length)];
        if (waiter === undefined) continue;
        if (each.kind === "move") line.move(waiter, each.series);
        else {
          line.leave(waiter);
          model.splice(model.indexOf(waiter), 1);
        }
      }
      for (const [index, waiter] of model.entries()) {
        const before = new Set(model.slice(0, index).flatMap(({ blockedOn }) => blockedOn));
        expect(new Set(line.blockedBefore(waiter))).toEqual(before);
      }
      expect(line.size).toBe(model.length);
    }),
  );
});
