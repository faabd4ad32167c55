import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { seedOf, textOfBytes } from "./text.ts";

describe("generated text", () => {
  it("has exactly the bytes asked for, whole characters only, wherever it starts", () => {
    fc.assert(
      fc.property(fc.nat(3_000), fc.nat(10_000_000), (bytes, offset) => {
        const text = textOfBytes(bytes, offset);
        expect(Buffer.byteLength(text)).toBe(bytes);
        expect(text).not.toContain("\ufffd");
      }),
    );
  });

  it("holds characters of one to four bytes", () => {
    const sizes = new Set(Array.from(textOfBytes(400, 0), (character) => Buffer.byteLength(character)));

    expect(sizes).toEqual(new Set([1, 2, 3, 4]));
  });

  it("is the same for the same request, and another for another", () => {
    expect(seedOf(Buffer.from("a question"))).toBe(seedOf(Buffer.from("a question")));
    expect(seedOf(Buffer.from("a question"))).not.toBe(seedOf(Buffer.from("a questiom")));
  });
});
