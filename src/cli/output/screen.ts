/**
 * Owns what a command knows of the place its output goes to. Does not own finding that out (main.ts).
 * Invariant: where there is no terminal there is no colour, no box, no bar, and nothing is cut: somebody else's program reads it.
 */
import { createStyle, type Style } from "./style.ts";

export interface Screen {
  isTerminal: boolean;
  /** In columns; `Infinity` where there is no terminal. */
  width: number;
  /** Lines that can be seen at once; `Infinity` where there is no terminal. */
  height: number;
  style: Style;
}

/** Narrower than this, a table is a list. */
const WIDTH_MIN = 30;

/** Describes the output. */
export function createScreen(input: {
  isTerminal: boolean;
  columns?: number | undefined;
  rows?: number | undefined;
  hasColor: boolean;
}): Screen {
  const { isTerminal, columns = 80, rows = 24, hasColor } = input;
  return {
    isTerminal,
    width: isTerminal ? Math.max(WIDTH_MIN, columns) : Infinity,
    height: isTerminal ? rows : Infinity,
    style: createStyle(isTerminal && hasColor),
  };
}
