import * as fc from "fast-check";
import { expect, test } from "vitest";
import { readConfig } from "./config.ts";
import { initTemplate } from "./template.ts";

const isLong = process.env["PURSER_LONG"] === "1";
const numRuns = isLong ? 25_000 : 500;

/** What is wrong with how a text was read: every outcome is fine, as long as every line of it names its place. */
function findFault(text: string | undefined, env: Record<string, string> = {}): string | undefined {
  const result = readConfig({ text, fileName: "purser.yaml", env });
  if (result.outcome === "invalid" && result.problems.length === 0) return "refused without a problem";
  const told = result.outcome === "read" ? result.warnings : result.problems;
  return told.find(({ file, line, column, message }) => {
    const isPlaced = file !== "" && (line === undefined || (line >= 1 && (column ?? 0) >= 1));
    return !isPlaced || message.includes("\n") || message.length > 1_000;
  })?.message;
}

const WORDS =
  "limits name per where usd tokens requests concurrency every at all agent session tag:x 100% $5 0% 80% alert stop grace pause upTo throttle downgrade models prices free true null ~ 5 1_000 -1 .nan 1e9 0x1 day 5h {} [] : - & * ! | > # ' \" a b \n".split(
    " ",
  );

test("any text ends in an outcome", { timeout: 600_000 }, () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary", maxLength: 200 }), (text) => {
      expect(findFault(text)).toBeUndefined();
      const fault = findFault(undefined, {
        PURSER_LIMITS: text,
        PURSER_PORT: text,
        PURSER_LEDGER: text,
        PURSER_ANTHROPIC_URL: text,
      });
      expect(fault).toBeUndefined();
    }),
    { numRuns },
  );
});

test("any words of the language end in an outcome", { timeout: 600_000 }, () => {
  const word = fc.oneof(fc.constantFrom(...WORDS), fc.constantFrom("\n", " ", "  ", ": ", ", ", "{ ", " }", "[", "]", "\n  - "));
  fc.assert(
    fc.property(fc.array(word, { maxLength: 60 }), (words) => {
      expect(findFault(words.join(""))).toBeUndefined();
    }),
    { numRuns },
  );
});

test("any broken template ends in an outcome", { timeout: 600_000 }, () => {
  const text = initTemplate();
  const template = text.slice(text.indexOf("\n")).replaceAll(/^( *)# (?=\s*(?:- )?[\w-]+:)/gm, "$1");
  fc.assert(
    fc.property(
      fc.nat({ max: template.length }),
      fc.nat({ max: 30 }),
      fc.oneof(fc.constantFrom(...WORDS), fc.string({ maxLength: 5 })),
      (start, length, inserted) => {
        expect(findFault(template.slice(0, start) + inserted + template.slice(start + length))).toBeUndefined();
      },
    ),
    { numRuns },
  );
});

test("any tree of settings ends in an outcome", { timeout: 600_000 }, () => {
  const { tree } = fc.letrec<{ tree: unknown }>((tie) => ({
    tree: fc.oneof(
      { depthSize: "small" },
      fc.constantFrom<unknown>(...WORDS, null, true, 5, 0.5, -1, 1e300),
      fc.array(tie("tree"), { maxLength: 4 }),
      fc.dictionary(fc.constantFrom(...WORDS, "server", "port", "budget", "daily_tokens", "upstreams"), tie("tree"), {
        maxKeys: 5,
      }),
    ),
  }));
  fc.assert(
    fc.property(tree, (value) => {
      expect(findFault(JSON.stringify(value))).toBeUndefined();
    }),
    { numRuns },
  );
});
