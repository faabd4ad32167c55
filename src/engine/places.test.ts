import { expect, test } from "vitest";
import { createPlaces } from "./places.ts";

test("gives each caller the place behind those who were told a time that has not come yet", () => {
  const places = createPlaces();
  const placeAt = (who: string, nowMs: number): number => places.of({ series: "a", who, nowMs });
  expect(placeAt("x", 0)).toBe(0);
  places.promise({ series: "a", who: "x", atMs: 1_000 });
  places.promise({ series: "a", who: "y", atMs: 2_000 });
  places.promise({ series: "b", who: "z", atMs: 1_500 });

  expect(placeAt("z", 999)).toBe(2);
  expect(placeAt("z", 1_000)).toBe(1);
  expect(placeAt("z", 2_000)).toBe(0);
});

test("a caller who asks again keeps its place", () => {
  const places = createPlaces();
  places.promise({ series: "a", who: "x", atMs: 1_000 });
  places.promise({ series: "a", who: "y", atMs: 2_000 });
  places.promise({ series: "a", who: "x", atMs: 3_000 });

  expect(places.of({ series: "a", who: "x", nowMs: 0 })).toBe(0);
  expect(places.of({ series: "a", who: "y", nowMs: 0 })).toBe(1);
});

test("remembers a bounded number; those beyond share the last place", () => {
  const places = createPlaces();
  for (let index = 0; index < 1_500; index += 1) places.promise({ series: "a", who: `caller ${index}`, atMs: 10_000 });

  expect(places.of({ series: "a", who: "caller 1499", nowMs: 0 })).toBe(1_000);
  expect(places.of({ series: "a", who: "another", nowMs: 0 })).toBe(1_000);
  expect(places.of({ series: "a", who: "another", nowMs: 10_000 })).toBe(0);
});
