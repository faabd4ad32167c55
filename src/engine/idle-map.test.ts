import * as fc from "fast-check";
import { expect, test } from "vitest";
import { IdleMap } from "./idle-map.ts";

const create = () => new IdleMap<number>({ sizeMax: 2, idleMsMax: 100 });

test("keeps what was put until it is older than it may be", () => {
  const map = create();
  map.put("a", 1, 0);

  map.forget(100);
  expect(map.get("a")).toBe(1);

  map.forget(101);
  expect(map.get("a")).toBeUndefined();
});

test("forgets the oldest first where there is too much", () => {
  const map = create();
  for (const [index, key] of ["a", "b", "c"].entries()) map.put(key, index, 0);

  map.forget(0);

  expect([map.get("a"), map.get("b"), map.get("c")]).toEqual([undefined, 1, 2]);
});

test("what is put again is the newest", () => {
  const map = create();
  map.put("a", 1, 0);
  map.put("b", 2, 50);
  map.put("a", 3, 90);

  map.forget(151);

  expect([map.get("a"), map.get("b")]).toEqual([3, undefined]);
});

test("goes on forgetting after the oldest was taken out, and after all were", () => {
  const map = create();
  map.put("a", 1, 0);
  map.put("b", 2, 50);
  map.delete("a");
  map.forget(101);
  expect(map.get("b")).toBe(2);

  map.forget(151);
  expect(map.get("b")).toBeUndefined();

  map.put("c", 3, 200);
  map.forget(301);
  expect(map.get("c")).toBeUndefined();
});

test("forgets as a map that is looked through from its beginning does", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.integer({ min: 0, max: 5 }), fc.nat({ max: 60 }), fc.nat({ max: 3 }))), (steps) => {
      const map = create();
      const model = new Map<string, { value: number; atMs: number }>();
      let nowMs = 0;
      steps.forEach(([name, laterMs, what], index) => {
        const key = `${name}`;
        nowMs += laterMs;
        if (what === 0) map.delete(key);
        else map.put(key, index, nowMs);
        model.delete(key);
        if (what !== 0) model.set(key, { value: index, atMs: nowMs });
        if (what === 3) return;
        map.forget(nowMs);
        for (const [oldest, { atMs }] of model) if (model.size > 2 || nowMs - atMs > 100) model.delete(oldest);
        for (let each = 0; each <= 5; each += 1) expect(map.get(`${each}`)).toBe(model.get(`${each}`)?.value);
      });
    }),
  );
});
