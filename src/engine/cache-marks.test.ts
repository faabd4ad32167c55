import { expect, test } from "vitest";
import * as fc from "fast-check";
import { withoutCacheMarks } from "./cache-marks.ts";

const encode = (text: string): Uint8Array => new TextEncoder().encode(text);
const strip = (text: string): string => new TextDecoder().decode(withoutCacheMarks(encode(text)));

test.each([
  ["as the last key", '{"type":"text","text":"é","cache_control":{"type":"ephemeral"}}'],
  ["as the first key", '{"cache_control":{"type":"ephemeral","ttl":"1h"},"type":"text","text":"é"}'],
  ["in the middle", '{"type":"text","cache_control":{"type":"ephemeral"},"text":"é"}'],
  ["as null", '{"type":"text","text":"é","cache_control":null}'],
  ["with spaces", '{"type":"text","text":"é" ,\n "cache_control" : { "type" : "ephemeral" }}'],
])("a mark %s is taken out with its comma", (_, text) => {
  expect(strip(text).replaceAll(" ", "")).toBe('{"type":"text","text":"é"}');
});

test("a mark alone in its object leaves an empty object", () => {
  expect(strip('{"cache_control":{"type":"ephemeral"}}')).toBe("{}");
});

test("several marks are taken out", () => {
  const block = '{"a":1,"cache_control":{"type":"ephemeral"}}';
  expect(strip(`[${block},${block}]`)).toBe('[{"a":1},{"a":1}]');
});

test("text that talks of a mark stays as it is", () => {
  const text = '{"text":"write \\"cache_control\\": {} there, or cache_control"}';
  expect(strip(text)).toBe(text);
});

test("a message without a mark is the same object, whatever its bytes", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      expect(withoutCacheMarks(bytes)).toBe(bytes);
    }),
  );
});
