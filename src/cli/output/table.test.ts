import * as fc from "fast-check";
import { expect, it } from "vitest";
import { createScreen } from "./screen.ts";
import { renderTable, type Column } from "./table.ts";
import { displayWidth } from "./text.ts";

const columns: readonly Column[] = [
  { title: "Agent", kind: "text" },
  { title: "Tokens", kind: "figure", dropOrder: 1 },
  { title: "Cost", kind: "figure" },
];
const screenOf = (width: number) => createScreen({ isTerminal: true, columns: width, hasColor: false });
const piped = createScreen({ isTerminal: false, hasColor: false });

it("boxes a table on a terminal, with the total behind a line", () => {
  const lines = renderTable({ columns, rows: [["triage", "1,200", "$0.10"]], total: ["Total", "1,200", "$0.10"] }, screenOf(80));

  expect(lines).toEqual([
    "╭────────┬────────┬───────╮",
    "│ Agent  │ Tokens │  Cost │",
    "├────────┼────────┼───────┤",
    "│ triage │  1,200 │ $0.10 │",
    "├────────┼────────┼───────┤",
    "│ Total  │  1,200 │ $0.10 │",
    "╰────────┴────────┴───────╯",
  ]);
});

it("is plain columns where there is no terminal, and cuts nothing", () => {
  const agent = "a".repeat(300);

  const lines = renderTable({ columns, rows: [[agent, "1", "$0.10"]] }, piped);

  expect(lines[1]).toBe(`${agent}       1  $0.10`);
});

it("shortens text first, then leaves a column out and names it", () => {
  const rows = [["a-rather-long-agent-name", "123,456,789", "$1,234.5678"]];

  expect(renderTable({ columns, rows }, screenOf(44))).toContain("│ a-rather-lo… │ 123,456,789 │ $1,234.5678 │");
  const narrow = renderTable({ columns, rows }, screenOf(32));
  expect(narrow).toContain("│ a-rather-long… │ $1,234.5678 │");
  expect(narrow.at(-1)).toBe("Not shown at 32 columns: Tokens.");
});

it("becomes a list where no row fits", () => {
  const wide = [{ title: "Cost", kind: "figure" as const }];
  const figure = "9".repeat(50);

  expect(renderTable({ columns: wide, rows: [[figure]] }, screenOf(40))).toEqual([`Cost  ${figure}`]);
});

it("never cuts a figure, and never draws wider than the screen unless it is a list", () => {
  const figure = fc.bigInt({ min: 0n, max: 10n ** 20n }).map((value) => `$${value}`);
  const row = fc.tuple(fc.string({ unit: "binary", maxLength: 60 }), figure, figure);
  fc.assert(
    fc.property(fc.array(row, { minLength: 1, maxLength: 5 }), fc.integer({ min: 30, max: 160 }), (rows, width) => {
      const lines = renderTable({ columns, rows }, screenOf(width));
      for (const [, , cost] of rows) expect(lines.some((line) => line.includes(cost))).toBe(true);
      const isBoxed = lines[0]?.startsWith("╭") === true;
      expect(isBoxed && lines.some((line) => displayWidth(line) > width)).toBe(false);
    }),
  );
});

it("cleans every cell", () => {
  const lines = renderTable({ columns, rows: [["\u001B[2Jevil\u202E", "1", "$1"]] }, screenOf(80));

  expect(lines.join("")).not.toMatch(/[\p{Cc}\p{Cf}]/u);
  expect(lines.join("\n")).toContain(String.raw`\x1b[2Jevil\u202e`);
});
