import * as fc from "fast-check";
import { expect, it } from "vitest";
import { clean, cut, displayWidth, pad, wrap } from "./text.ts";

const anyText = fc.string({ unit: "binary" });

it("lets nothing through that a terminal acts on", () => {
  fc.assert(
    fc.property(anyText, (text) => {
      expect(clean(text)).not.toMatch(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u);
    }),
  );
});

it.each([
  ["a colour", "\u001B[31mred", String.raw`\x1b[31mred`],
  ["a C1 control", "\u009B2J", String.raw`\x9b2J`],
  ["a change of direction", "user\u202Egpj.exe", String.raw`user\u202egpj.exe`],
  ["a line end", "one\r\ntwo", String.raw`one\x0d\ntwo`],
  ["an invisible letter", "ad\u200Bmin", String.raw`ad\u200bmin`],
  ["half a character", "\uD83D", String.raw`\ud83d`],
  ["plain text", "Grüße, 世界 🚀", "Grüße, 世界 🚀"],
])("shows %s as what it is", (_what, text, shown) => {
  expect(clean(text)).toBe(shown);
});

it.each([
  ["agent", 5],
  ["Grüße", 5],
  ["世界", 4],
  ["🚀", 2],
  ["e\u0301", 1],
  ["", 0],
])("measures %s as %i columns", (text, width) => {
  expect(displayWidth(text)).toBe(width);
});

it("cuts to at most the width, and says that it did", () => {
  fc.assert(
    fc.property(anyText, fc.integer({ min: 1, max: 30 }), (text, width) => {
      const safe = clean(text);
      const short = cut(safe, width);
      expect(displayWidth(short)).toBeLessThanOrEqual(width);
      expect(displayWidth(safe) > width ? short.endsWith("…") : short === safe).toBe(true);
    }),
  );
});

it("fills to a width on either side", () => {
  expect(pad("世", 4, "left")).toBe("世  ");
  expect(pad("7", 4, "right")).toBe("   7");
});

it("breaks at spaces and keeps every word", () => {
  expect(wrap("one two three four", 9, "  ")).toEqual(["one two", "  three", "  four"]);
});
