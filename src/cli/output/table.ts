/**
 * Owns tables: which columns fit, how wide each is, and drawing them; boxed on a terminal, plain columns elsewhere.
 * Does not own what the cells say (commands/).
 * Invariant: a figure is never cut. What does not fit is, in this order: text made shorter, columns that may go left out (and
 * named under the table), the table turned into a list.
 */
import type { Screen } from "./screen.ts";
import type { Paint } from "./style.ts";
import { clean, cut, displayWidth, pad, wrap } from "./text.ts";

export interface Column {
  title: string;
  /** `figure`: right-aligned and never cut. `text`: may be cut. `whole`: text that is never cut, such as a time or a bar. */
  kind: "text" | "figure" | "whole";
  /** The higher, the sooner it is left out on a narrow screen; absent: never. */
  dropOrder?: number;
  /** Text is not made shorter than this. */
  widthMin?: number;
}

/** A cell: text from anywhere (it is cleaned here), or with a colour. */
export type Cell = string | { text: string; paint: Paint };

export interface TableInput {
  columns: readonly Column[];
  rows: readonly (readonly Cell[])[];
  /** A last row behind a line. */
  total?: readonly Cell[];
}

const TEXT_WIDTH_MIN = 8;

/** Draws a table, as lines without line ends. */
export function renderTable({ columns, rows, total }: TableInput, screen: Screen): string[] {
  const all = total === undefined ? rows : [...rows, total];
  const naturals = columns.map(({ title }, index) =>
    Math.max(displayWidth(title), ...all.map((row) => displayWidth(textOf(row[index])))),
  );
  const layout = fit(columns, naturals, screen.width);
  if (layout === undefined) return renderList(columns, all, screen);
  const pick = (row: readonly Cell[]): Cell[] => layout.shown.map((index) => row[index] ?? "");
  const shown = {
    columns: layout.shown.map((index) => columns[index] ?? { title: "", kind: "text" as const }),
    widths: layout.widths,
  };
  const titles = shown.columns.map(({ title }) => ({ text: title, paint: screen.style.bold }));
  const body = rows.map((row) => pick(row));
  const last = total === undefined ? [] : [pick(total)];
  const lines = screen.isTerminal ? boxed({ ...shown, titles, body, last }, screen) : plain({ ...shown, titles, body, last });
  const hidden = columns
    .filter((_column, index) => !layout.shown.includes(index))
    .map(({ title }) => title)
    .filter((title) => title !== "");
  const note = `Not shown at ${screen.width} columns: ${hidden.join(", ")}.`;
  return hidden.length === 0 ? lines : [...lines, ...wrap(note, screen.width).map((line) => screen.style.dim(line))];
}

interface Layout {
  shown: number[];
  widths: number[];
}

function fit(columns: readonly Column[], naturals: readonly number[], width: number): Layout | undefined {
  const shown = columns.map((_column, index) => index);
  for (;;) {
    const widths = narrow(
      shown.map((index) => [columns[index], naturals[index] ?? 0]),
      width - 3 * shown.length - 1,
    );
    if (widths !== undefined) return { shown, widths };
    const drop = shown.reduce<number | undefined>((best, index) => {
      const order = columns[index]?.dropOrder;
      if (order === undefined) return best;
      return best === undefined || order > (columns[best]?.dropOrder ?? 0) ? index : best;
    }, undefined);
    if (drop === undefined) return undefined;
    shown.splice(shown.indexOf(drop), 1);
  }
}

/** Takes columns away from the widest text until the row fits; `undefined` if it cannot. */
function narrow(parts: readonly (readonly [Column | undefined, number])[], room: number): number[] | undefined {
  const widths = parts.map(([, natural]) => natural);
  const least = parts.map(([column, natural]) =>
    column?.kind === "text" ? Math.min(natural, column.widthMin ?? TEXT_WIDTH_MIN) : natural,
  );
  if (sum(least) > room) return undefined;
  while (sum(widths) > room) {
    let widest = -1;
    widths.forEach((width, index) => {
      if (width > (least[index] ?? 0) && width > (widths[widest] ?? 0)) widest = index;
    });
    if (widest === -1) return undefined;
    widths[widest] = (widths[widest] ?? 0) - 1;
  }
  return widths;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

interface Drawing {
  columns: readonly Column[];
  widths: readonly number[];
  titles: readonly Cell[];
  body: readonly (readonly Cell[])[];
  last: readonly (readonly Cell[])[];
}

function boxed({ columns, widths, titles, body, last }: Drawing, { style }: Screen): string[] {
  const line = (left: string, middle: string, right: string): string =>
    style.dim(left + widths.map((width) => "─".repeat(width + 2)).join(middle) + right);
  const bar = style.dim("│");
  const draw = (row: readonly Cell[]): string =>
    `${bar} ${row.map((cell, index) => drawCell(cell, columns[index], widths[index] ?? 0)).join(` ${bar} `)} ${bar}`;
  const middle = line("├", "┼", "┤");
  return [
    line("╭", "┬", "╮"),
    draw(titles),
    middle,
    ...body.map((row) => draw(row)),
    ...(last.length === 0 ? [] : [middle, ...last.map((row) => draw(row))]),
    line("╰", "┴", "╯"),
  ];
}

function plain({ columns, widths, titles, body, last }: Drawing): string[] {
  const draw = (row: readonly Cell[]): string =>
    row
      .map((cell, index) => drawCell(cell, columns[index], widths[index] ?? 0))
      .join("  ")
      .trimEnd();
  return [titles, ...body, ...last].map((row) => draw(row));
}

function drawCell(cell: Cell, column: Column | undefined, width: number): string {
  const text = pad(cut(textOf(cell), width), width, column?.kind === "figure" ? "right" : "left");
  return typeof cell === "string" ? text : cell.paint(text);
}

/** One line per cell: for screens too narrow for any row. */
function renderList(columns: readonly Column[], rows: readonly (readonly Cell[])[], { style }: Screen): string[] {
  const width = Math.max(...columns.map(({ title }) => displayWidth(title)));
  return rows.flatMap((row, index) => [
    ...(index === 0 ? [] : [""]),
    ...columns.map(({ title }, column) => {
      const cell = row[column] ?? "";
      const text = textOf(cell);
      return `${style.dim(pad(title, width, "left"))}  ${typeof cell === "string" ? text : cell.paint(text)}`;
    }),
  ]);
}

function textOf(cell: Cell | undefined): string {
  return cell === undefined ? "" : clean(typeof cell === "string" ? cell : cell.text);
}
