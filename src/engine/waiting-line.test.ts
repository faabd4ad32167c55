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

describe("the paused", () => {
  test("hold nobody back, are held back, and are woken beside the first in turn", () => {
    const line = createWaitingLine();
    const woken: string[] = [];
    const paused = line.join(["a"], true);
    if (paused === undefined) throw new Error("the line is full");
    paused.wake = () => woken.push("paused");
    const other = line.join(["a"], true);
    if (other === undefined) throw new Error("the line is full");
    other.wake = () => woken.push("paused too");
    const second = lie(line, ["a"], woken, "second");
    lie(line, ["a"], woken, "third");

    expect(line.blockedBefore(second)).toEqual([]);
    expect(line.blockedBefore(undefined)).toEqual(["a"]);
    line.freed(["a"]);
    expect(woken).toEqual(["second", "paused", "paused too"]);
  });

  test("let those go on whom they held back before, and have a place of their own in the length of the line", () => {
    const line = createWaitingLine();
    const woken: string[] = [];
    const first = lie(line, ["a"], woken, "first");
    const second = lie(line, ["a"], woken, "second");

    // As while it is decided: who moves is awake.
    first.wake = () => undefined;
    line.move(first, ["a"], true);
    expect([woken, line.blockedBefore(second)]).toEqual([["second"], []]);
    line.move(first, ["a"]);
    expect(line.blockedBefore(second)).toEqual(["a"]);

    for (let index = 2; index < WAITERS_MAX; index += 1) lie(line, ["a"]);
    expect(line.join(["a"])).toBeUndefined();
    expect(line.join(["a"], true)).toBeDefined();
    expect(line.waitingOn("a")).toBe(WAITERS_MAX + 1);
  });
});

describe("waking", () => {
  test("wakes the first waiter of every freed series, and nobody whom it holds back", () => {
    const line = createWaitingLine();
    const woken: string[] = [];
    lie(line, ["a"], woken, "first");
    lie(line, ["b"], woken, "second");
    lie(line, ["b", "a"], woken, "third");
    lie(line, ["a", "c"], woken, "fourth");
    lie(line, ["d"], woken, "fifth");

    line.freed(["a", "c"]);

    expect(woken).toEqual(["first", "fourth"]);
  });

  test("wakes the first waiter of every series when anything may have been freed", () => {
    const line = createWaitingLine();
    const woken: string[] = [];
    for (const [name, series] of Object.entries({ first: ["a"], second: ["a"], third: ["a", "b"] }))
      lie(line, series, woken, name);
    const asked = line.freedCount;

    line.freedSomewhere();

    expect(woken).toEqual(["first", "third"]);
    expect(line.wasFreedSince(asked, ["x"])).toBe(true);
  });

  test("wakes the next behind one that leaves, and nobody on other series", () => {
    const line = createWaitingLine();
    const woken: string[] = [];
    const first = lie(line, ["a"], woken, "first");
    lie(line, ["a"], woken, "second");
    lie(line, ["b"], woken, "third");
    lie(line, ["a"], woken, "fourth");

    line.leave(first);
    line.leave(first);

    expect(woken).toEqual(["second"]);
  });

  test("wakes the next behind one that moves away, on the series it left only", () => {
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

/** Calls that take from series and wait on them, decided as the pipeline does it: asked at one instant, answered at a later one. */
class Model {
  readonly line = createWaitingLine();
  readonly free = new Map<string, number>(SERIES.map((id) => [id, 1]));
  /** Those that are being decided. */
  readonly pending: (() => void)[] = [];
  readonly inLine: Asking[] = [];
  decisionCount = 0;

  ask(needs: ReadonlyMap<string, number>): void {
    this.#decide({ needs, waiter: undefined });
  }

  give(series: readonly string[]): void {
    for (const id of series) this.free.set(id, (this.free.get(id) ?? 0) + 1);
    this.line.freed(series);
  }

  leave(asking: Asking): void {
    this.inLine.splice(this.inLine.indexOf(asking), 1);
    if (asking.waiter !== undefined) this.line.leave(asking.waiter);
    asking.waiter = undefined;
    asking.isGone = true;
  }

  blockedOn({ needs }: Asking, heldBack: readonly string[]): string[] {
    return [...needs].filter(([id, need]) => need > (this.free.get(id) ?? 0) || heldBack.includes(id)).map(([id]) => id);
  }

  #decide(asking: Asking): void {
    this.decisionCount += 1;
    const freedBefore = this.line.freedCount;
    const heldBack = this.line.blockedBefore(asking.waiter);
    this.pending.push(() => {
      if (asking.isGone === true) return;
      const blockedOn = this.blockedOn(asking, heldBack);
      if (blockedOn.length === 0) {
        for (const [id, need] of asking.needs) this.free.set(id, (this.free.get(id) ?? 0) - need);
        if (asking.waiter !== undefined) this.leave(asking);
        return;
      }
      if (asking.waiter === undefined) {
        asking.waiter = this.line.join(blockedOn);
        this.inLine.push(asking);
      } else this.line.move(asking.waiter, blockedOn);
      const { waiter } = asking;
      if (waiter === undefined) throw new Error("the line is longer than this model makes it");
      if (this.line.wasFreedSince(freedBefore, blockedOn)) this.#decide(asking);
      else waiter.wake = () => this.#wake(asking, waiter);
    });
  }

  #wake(asking: Asking, waiter: Waiter): void {
    waiter.wake = () => undefined;
    this.#decide(asking);
  }
}

interface Asking {
  needs: ReadonlyMap<string, number>;
  waiter: Waiter | undefined;
  isGone?: boolean;
}

const SERIES = ["a", "b", "c", "d"] as const;

test("once everything has settled, nobody waits who would be admitted in its turn", () => {
  const series = fc.uniqueArray(fc.constantFrom(...SERIES), { minLength: 1, maxLength: 3 });
  const needs = fc.uniqueArray(fc.tuple(fc.constantFrom(...SERIES), fc.integer({ min: 1, max: 4 })), {
    minLength: 1,
    maxLength: 3,
    selector: ([id]) => id,
  });
  const step = fc.oneof(
    fc.record({ kind: fc.constant("ask" as const), needs }),
    fc.record({ kind: fc.constant("give" as const), series }),
    fc.record({ kind: fc.constant("leave" as const), which: fc.nat(20) }),
    fc.record({ kind: fc.constant("answer" as const), which: fc.nat(20) }),
    fc.record({ kind: fc.constant("settle" as const) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
      const model = new Model();
      const answer = (which: number): void => model.pending.splice(which % Math.max(1, model.pending.length), 1)[0]?.();
      const settle = (): void => {
        while (model.pending.length > 0) answer(0);
        const heldBack: string[] = [];
        for (const asking of model.inLine) {
          const blockedOn = model.blockedOn(asking, heldBack);
          expect(blockedOn, `waits in line with ${JSON.stringify([...asking.needs])}`).not.toEqual([]);
          heldBack.push(...blockedOn);
        }
      };
      for (const each of steps) {
        if (each.kind === "ask") model.ask(new Map(each.needs));
        else if (each.kind === "give") model.give(each.series);
        else if (each.kind === "answer") answer(each.which);
        else if (each.kind === "settle") settle();
        else {
          const asking = model.inLine[each.which % Math.max(1, model.inLine.length)];
          if (asking !== undefined) model.leave(asking);
        }
      }
      settle();
    }),
    { numRuns: 2_000 },
  );
});

test("a line of 90 that is let go one by one takes one decision for each, not one for everybody at every turn", () => {
  const model = new Model();
  const answerAll = (): void => {
    while (model.pending.length > 0) model.pending.shift()?.();
  };
  const count = 90;
  for (let index = 0; index < count; index += 1) model.ask(new Map([["a", 4]]));
  answerAll();
  for (let back = 0; back < 3; back += 1) model.give(["a"]);
  answerAll();
  for (let left = count - 1; left > 0; left -= 1) {
    expect(model.inLine).toHaveLength(left);
    for (let back = 0; back < 4; back += 1) model.give(["a"]);
    answerAll();
  }

  expect(model.inLine).toHaveLength(0);
  expect(model.decisionCount).toBeLessThan(6 * count);
});
