/**
 * Owns colours and emphasis. Does not own when there are any: the caller says so (a terminal that wants them, no `NO_COLOR`).
 * Invariant: without colours every function answers its text unchanged.
 */
import { styleText } from "node:util";

export type Paint = (text: string) => string;

export interface Style {
  bold: Paint;
  dim: Paint;
  red: Paint;
  yellow: Paint;
  green: Paint;
  cyan: Paint;
}

const same: Paint = (text) => text;

/** The colours of a terminal, or none. */
export function createStyle(hasColor: boolean): Style {
  const paint = (format: keyof Style): Paint => (hasColor ? (text) => styleText(format, text, { validateStream: false }) : same);
  return {
    bold: paint("bold"),
    dim: paint("dim"),
    red: paint("red"),
    yellow: paint("yellow"),
    green: paint("green"),
    cyan: paint("cyan"),
  };
}
