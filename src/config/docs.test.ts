import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { describeLimit } from "../core/limits/describe.ts";
import { readConfig } from "./config.ts";
import { VARIABLES } from "./environment.ts";
import { initTemplate } from "./template.ts";

const DOC = readFileSync(new URL("../../docs/configuration.md", import.meta.url), "utf8");
const EXAMPLES = [...DOC.matchAll(/```yaml\n([\s\S]*?)```/g)].map(([, text]) => text ?? "");

function read(text: string): ReturnType<typeof readConfig> {
  return readConfig({ text, fileName: "docs/configuration.md", env: {} });
}

test("docs/configuration.md has its examples", () => {
  expect(EXAMPLES.length).toBe(9);
});

test.each(EXAMPLES)("the example is read as it stands: %#", (text) => {
  const result = read(text);

  expect(result.outcome === "invalid" ? result.problems : []).toEqual([]);
});

test("the sentence quoted beside the first example is what describeLimit says", () => {
  const result = read(EXAMPLES[0] ?? "");
  const [limit] = result.outcome === "read" ? result.config.limits : [];
  const sentence = limit === undefined ? "" : describeLimit(limit, { nowMs: Date.UTC(2026, 10, 22) });

  expect(DOC).toContain(`> ${sentence}\n`);
});

test("the settings shown as defaults are the defaults", () => {
  const shown = read(EXAMPLES[7] ?? "");
  const defaults = read("");

  expect(shown.outcome === "read" && shown.config.version).toBe(defaults.outcome === "read" && defaults.config.version);
});

test("the mistakes quoted are told in these words", () => {
  const text = `${"\n".repeat(8)}limits: [{ name: a, per: all, usd: 1 }, { name: b, per: all, usd: 1 },\n\n {name: c, per: all, usd: 1,\n    every:\n fortnight}]\n`;
  const result = readConfig({ text, fileName: "purser.yaml", env: { PURSER_PORT: "abc" } });
  const told = result.outcome === "invalid" ? result.problems.map(({ message }) => message.replace(/^(\D+)\d+:\d+:/, "$1")) : [];
  const quoted = /```text\n([\s\S]*?)```/.exec(DOC)?.[1] ?? "";

  expect(
    quoted
      .trim()
      .split("\n")
      .map((line) => line.replace(/^(\D+)\d+:\d+:/, "$1")),
  ).toEqual(told);
});

test("every variable that is named belongs to a setting or to the table", () => {
  const named = new Set([...DOC.matchAll(/PURSER_[A-Z_]+[A-Z]/g)].map(([name]) => name));
  const known = new Set([
    ...VARIABLES.map(({ name }) => name),
    "PURSER_CONFIG",
    "PURSER_LIMITS",
    "PURSER_LEDGER",
    "PURSER_LOG_LEVEL",
  ]);

  expect([...named].filter((name) => !known.has(name))).toEqual([]);
});

test("the file that `purser init` writes is read without a warning, also with all its suggestions switched on", () => {
  const template = initTemplate();
  const switchedOn = template.slice(template.indexOf("\n")).replaceAll(/^( *)# (?=\s*(?:- )?[\w-]+:)/gm, "$1");
  const results = [template, switchedOn].map(read);

  expect(results.map((result) => (result.outcome === "invalid" ? result.problems : result.config.limits.length))).toEqual([2, 5]);
  expect(results[0]).toMatchObject({ warnings: [] });
  expect(template.startsWith("# yaml-language-server: $schema=")).toBe(true);
  expect(template.split("\n").every((line) => line.length <= 130)).toBe(true);
});
