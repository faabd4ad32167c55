import { expect, test } from "vitest";
import { createPlaces } from "./places.ts";

test("counts, by counter series, who was told a time that has not come yet", () => {
  const places = createPlaces();
  places.promise("a", 1_000);
  places.promise("a", 2_000);
  places.promise("b", 1_500);

  expect(places.ahead(999)).toEqual({ a: 2, b: 1 });
  expect(places.ahead(1_000)).toEqual({ a: 1, b: 1 });
  expect(places.ahead(1_999)).toEqual({ a: 1 });
  expect(places.ahead(2_000)).toEqual({});
});

test("remembers a bounded number: more only make the answer later, never earlier", () => {
  const places = createPlaces();
  for (let index = 0; index < 5_000; index += 1) places.promise("a", 10_000);

  expect(places.ahead(0)).toEqual({ a: 1_000 });
  places.promise("b", 10_000);
  expect(places.ahead(0)).toMatchObject({ b: 1 });
});
