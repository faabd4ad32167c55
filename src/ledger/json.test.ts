import * as fc from "fast-check";
import { expect, test } from "vitest";
import { fromJson, toJson } from "./json.ts";

test("everything the core hands to a store comes back as it was", () => {
  const leaf = fc.oneof(
    fc.string(),
    fc.bigInt(),
    fc.integer(),
    fc.double({ noNaN: true, noDefaultInfinity: true }).filter((value) => !Object.is(value, -0)),
    fc.constantFrom(Infinity, true, false, null),
  );
  const { value } = fc.letrec((tie) => ({
    value: fc.oneof(
      { depthSize: "small" },
      leaf,
      fc.array(tie("value")),
      fc.dictionary(fc.oneof(fc.string(), fc.constantFrom("#", "__proto__", "entries", "toJSON")), tie("value"), {
        noNullPrototype: true,
      }),
      fc.array(fc.tuple(fc.string(), tie("value"))).map((pairs) => new Map(pairs)),
      fc.array(fc.string()).map((values) => new Set(values)),
    ),
  }));

  fc.assert(
    fc.property(value, (given) => {
      const text = toJson(given);

      expect(fromJson(text)).toEqual(given);
      expect(text).not.toMatch(/[\n\r]/);
    }),
    { numRuns: 500 },
  );
});

test("a tag named like the mark is text and not a number", () => {
  expect(fromJson(toJson({ tags: { "#": "123" } }))).toEqual({ tags: { "#": "123" } });
  expect(fromJson(toJson({ tags: { "#": "inf" } }))).toEqual({ tags: { "#": "inf" } });
});

test("what nobody said is left out", () => {
  expect(toJson({ said: null, unsaid: undefined })).toBe('{"said":null}');
});
