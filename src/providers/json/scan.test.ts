import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

import * as fc from "fast-check";
import { describe, expect, it } from "vitest";

import { decodeString, utf8Width } from "./bytes.ts";
import { describeFault } from "./fault.ts";
import { DEPTH_MAX, scanJson } from "./scan.ts";
import { ANY_KIND, JSON_KIND, JsonMembers, type JsonSlot } from "./slot.ts";

const ANYTHING: JsonSlot<null> = { name: "", kinds: ANY_KIND, allowed: "a value" };
const encoder = new TextEncoder();

function faultOf(text: string | Uint8Array, slot: JsonSlot<null> = ANYTHING): string | undefined {
  const fault = scanJson(typeof text === "string" ? encoder.encode(text) : text, slot, null);
  return fault === undefined ? undefined : describeFault(fault);
}

/** The oracle: strict UTF-8 without a byte order mark, then JSON.parse. */
function isJson(bytes: Uint8Array): boolean {
  try {
    JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes));
    return true;
  } catch {
    return false;
  }
}

describe("places and words", () => {
  const cases: [text: string, told: string][] = [
    ["", "line 1, column 1 (byte 0): found the end of the text, allowed is a value"],
    ["\uFEFF{}", "line 1, column 1 (byte 0): found a byte order mark, allowed is JSON in UTF-8 without a byte order mark"],
    ['{"a":1,\n "b" 2}', `line 2, column 6 (byte 13): found "2", allowed is ":" after a key`],
    ['{"é":1,}', `line 1, column 8 (byte 8): found "}", allowed is a key in quotes`],
    ["[1 2]", 'line 1, column 4 (byte 3, [0]): found "2", allowed is "," or "]"'],
    ["[01]", 'line 1, column 3 (byte 2, [0]): found "1", allowed is "," or "]"'],
    ["[1.]", 'line 1, column 4 (byte 3, [0]): found "]", allowed is a digit'],
    ["[tru]", 'line 1, column 5 (byte 4, [0]): found "]", allowed is the word true'],
    ['["a\nb"]', "line 1, column 4 (byte 3, [0]): found the byte 0x0A, allowed is an escape for a control character"],
    ['["\\x"]', 'line 1, column 4 (byte 3, [0]): found "x", allowed is one of "\\/bfnrtu after a backslash'],
    ['["\\u12g4"]', 'line 1, column 7 (byte 6, [0]): found "g", allowed is four hexadecimal digits after \\u'],
    ['["a', "line 1, column 4 (byte 3, [0]): found the end of the text, allowed is a closing quote"],
    ["{} x", 'line 1, column 4 (byte 3): found "x", allowed is nothing more'],
    ["\0", "line 1, column 1 (byte 0): found the byte 0x00, allowed is a value"],
  ];

  it.each(cases)("names the place in %j", (text, told) => {
    expect(faultOf(text)).toBe(told);
  });

  it("names the byte of malformed UTF-8 inside a string", () => {
    const bytes = new Uint8Array([0x22, 0x61, 0xc3, 0x28, 0x22]);

    expect(faultOf(bytes)).toBe("line 1, column 3 (byte 2): found the byte 0xC3, allowed is well-formed UTF-8");
  });
});

describe("agreement with JSON.parse", () => {
  it("accepts what JSON.parse accepts, for any value", () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 8 }), fc.integer({ min: 0, max: 3 }), (text, shift) => {
        const bytes = shifted(encoder.encode(text), shift);

        expect(faultOf(bytes)).toBeUndefined();
      }),
      { numRuns: 2_000 },
    );
  });

  it("agrees about texts with one byte changed, taken out or put in", () => {
    let accepted = 0;
    fc.assert(
      fc.property(
        fc.json({ maxDepth: 4 }),
        fc.nat(),
        fc.oneof(fc.nat(255), fc.constantFrom(...encoder.encode('{}[],:"\\0-1.eEtfnu \n'))),
        fc.constantFrom("change", "delete", "insert"),
        (text, place, byte, how) => {
          const bytes = mutate(encoder.encode(text), place, byte, how);
          const isAccepted = faultOf(bytes) === undefined;
          if (isAccepted) accepted += 1;

          expect(isAccepted).toBe(isJson(bytes));
        },
      ),
      { numRuns: 20_000 },
    );
    expect(accepted).toBeGreaterThan(500);
  });

  it("agrees about strings of any bytes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (inside) => {
        const bytes = new Uint8Array([0x22, ...inside, 0x22]);

        expect(faultOf(bytes) === undefined).toBe(isJson(bytes));
      }),
      { numRuns: 20_000 },
    );
  });

  it("agrees about numbers", () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom("0", "1", "9", "-", "+", ".", "e", "E"), { maxLength: 8 }), (parts) => {
        const bytes = encoder.encode(parts.join(""));

        expect(faultOf(bytes) === undefined).toBe(isJson(bytes));
      }),
      { numRuns: 20_000 },
    );
  });

  it("checks UTF-8 as the platform's decoder does", () => {
    const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 4 }), (bytes) => {
        const width = utf8Width(bytes, 0, bytes.length);
        let isValid = true;
        try {
          decoder.decode(bytes.subarray(0, width));
        } catch {
          isValid = false;
        }
        expect(width === 0 || isValid).toBe(true);
      }),
      { numRuns: 20_000 },
    );
  });

  it("decodes strings as JSON.parse does", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        const bytes = encoder.encode(JSON.stringify(text));

        expect(decodeString(bytes, 0, bytes.length)).toBe(JSON.parse(new TextDecoder().decode(bytes)));
      }),
    );
  });
});

describe("the JSON test suite", () => {
  const folder = join(process.env["PURSER_DATA"] ?? "../shared/data", "suite-json-parsing", "test_parsing");
  const isThere = existsSync(folder);
  if (!isThere) console.warn("skipped: the JSON test suite; set PURSER_DATA to the folder that holds suite-json-parsing.");

  it.skipIf(!isThere)("refuses every n_ file, accepts every y_ file, and agrees with JSON.parse about the rest", () => {
    const files = readdirSync(folder).filter((file) => file.endsWith(".json"));
    const wrong = files.filter((file) => {
      const bytes = new Uint8Array(readFileSync(join(folder, file)));
      const isAccepted = faultOf(bytes) === undefined;
      if (file.startsWith("y_")) return !isAccepted;
      if (file.startsWith("n_")) return isAccepted;
      return isAccepted !== isJson(bytes);
    });

    expect(wrong).toEqual([]);
    expect(files.length).toBeGreaterThan(300);
    console.info(`figure: ${files.length} JSON test suite files, 0 differences`);
  });
});

describe("hostile texts", () => {
  it(`accepts ${DEPTH_MAX} levels of nesting and refuses one more`, () => {
    expect(faultOf("[".repeat(DEPTH_MAX) + "]".repeat(DEPTH_MAX))).toBeUndefined();
    expect(faultOf("[".repeat(DEPTH_MAX + 1) + "]".repeat(DEPTH_MAX + 1))).toContain(`allowed is at most ${DEPTH_MAX} levels`);
  });

  it("refuses 100,000 levels of nesting without a stack overflow", () => {
    expect(faultOf('{"a":['.repeat(100_000))).toContain("levels of nesting");
  });

  it("reads a million keys without remembering them", () => {
    const text = `{${Array.from({ length: 1_000_000 }, (_, index) => `"k${index % 10}":${index}`).join(",")}}`;

    expect(faultOf(text)).toBeUndefined();
  });

  it("accepts escaped lone surrogates and escaped NUL, as JSON.parse does", () => {
    expect(faultOf('["\\ud800","\\u0000"]')).toBeUndefined();
  });

  it("ends with a fault or none for any bytes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        expect(faultOf(bytes) === undefined).toBe(isJson(bytes));
      }),
    );
  });
});

describe("known keys", () => {
  const inner: JsonSlot<null> = {
    name: "inner",
    kinds: JSON_KIND.object,
    allowed: "an object",
    members: new JsonMembers<null>([{ name: "type", kinds: JSON_KIND.string, allowed: "a string" }]),
  };
  const root: JsonSlot<null> = {
    name: "",
    kinds: JSON_KIND.object,
    allowed: "an object",
    members: new JsonMembers<null>([
      { name: "model", kinds: JSON_KIND.string, allowed: "a string" },
      { name: "list", kinds: JSON_KIND.array, allowed: "an array", element: inner },
    ]),
  };

  it("refuses a known key that stands twice", () => {
    expect(faultOf('{"model":"a","x":1,"model":"b"}', root)).toBe(
      'line 1, column 20 (byte 19, model): found the key "model" a second time in one object, allowed is each key that decides once',
    );
  });

  it("refuses a known key that stands twice, once with escapes", () => {
    expect(faultOf('{"model":"a","mod\\u0065l":"b"}', root)).toContain('the key "model" a second time');
    expect(faultOf('{"\\u006d\\u006f\\u0064\\u0065\\u006C":"a","model":"b"}', root)).toContain('the key "model" a second time');
  });

  it("lets unknown keys stand as often as they like", () => {
    expect(faultOf('{"x":1,"x":2,"model":"a","y":{"model":1,"model":2}}', root)).toBeUndefined();
  });

  it("names the path to a value of the wrong kind", () => {
    expect(faultOf('{"list":[{},{"type":"a"},{"type":7}]}', root)).toBe(
      "line 1, column 34 (byte 33, list[2].type): found the number 7, allowed is a string",
    );
  });

  it("sees a key once per object, however the objects nest", () => {
    expect(faultOf('{"list":[{"type":"a"},{"type":"a"}],"model":"m"}', root)).toBeUndefined();
  });
});

/** The same bytes at another alignment, with bytes around them that must not be read. */
function shifted(bytes: Uint8Array, shift: number): Uint8Array {
  const memory = new Uint8Array(bytes.length + 8).fill(0x22);
  memory.set(bytes, shift);
  return memory.subarray(shift, shift + bytes.length);
}

function mutate(bytes: Uint8Array, place: number, byte: number, how: string): Uint8Array {
  const at = bytes.length === 0 ? 0 : place % bytes.length;
  const before = bytes.subarray(0, at);
  if (how === "delete") return new Uint8Array([...before, ...bytes.subarray(at + 1)]);
  if (how === "insert") return new Uint8Array([...before, byte, ...bytes.subarray(at)]);
  return new Uint8Array([...before, byte, ...bytes.subarray(at + 1)]);
}
