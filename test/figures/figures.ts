/**
 * Owns the register of figures this project shows, where recorded data is found, and handing a measured figure to the end of the run.
 * Does not own measuring (the tests beside this file and elsewhere) or printing (print-figures.ts).
 * Invariant: a figure counts as measured only if every part of it reported a line in this run.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** Every figure, and the parts that are measured apart. A test adds its part here and calls {@link reportFigure}. */
export const FIGURES = {
  Cost: ["recorded exchanges", "recorded OpenAI exchanges", "cost cases"],
  Streams: ["reading", "forwarding", "OpenAI", "OpenAI forwarded"],
  Books: ["ledger and bill"],
  "Night story": ["spend"],
  Hard: ["simulated schedules", "rounds on the engine", "rounds over sockets, 1 process", "rounds over sockets, 3 processes"],
  Waiting: ["own process", "another process"],
  Crash: ["kills", "gateway kills", "kill images", "power cuts", "failed commits", "failing disk", "damage", "upgrades"],
  Differential: ["Anthropic", "OpenAI through the gateway"],
  Bundle: ["client"],
  Processes: ["clients and a gateway"],
  "Not in the way": ["coding agents", "over sockets"],
  Overload: ["five times the load"],
  Batch: ["10,000 requests"],
} as const;

export type FigureName = keyof typeof FIGURES;
export type FigurePart<Name extends FigureName> = (typeof FIGURES)[Name][number];

/** Set by print-figures.ts before any test runs: one folder per run. */
export const FIGURES_FOLDER_VARIABLE = "PURSER_FIGURES_FOLDER";

/**
 * The folder of recorded data, or `undefined` if there is none: `PURSER_DATA`, then `../shared/data` from the repository's root.
 * A test that needs it skips where it is absent.
 */
export const dataFolder: string | undefined = findData();

/** For a title of a suite: why it is skipped. */
export const NO_DATA = "skipped: no recorded data; looked for it in PURSER_DATA and in ../shared/data";

/** A path inside the recorded data. Only where {@link dataFolder} is defined. */
export function dataPath(...parts: string[]): string {
  if (dataFolder === undefined) throw new Error(NO_DATA);
  return join(dataFolder, ...parts);
}

/** Reads a file of one JSON value per line. */
export function readJsonLines<Line>(path: string): Line[] {
  const lines = readFileSync(path, "utf8").split("\n");
  return lines.filter((line) => line.trim() !== "").map((line) => JSON.parse(line) as Line);
}

/** Hands over one part of a figure, as the line a person reads. */
export function reportFigure<Name extends FigureName>(name: Name, part: FigurePart<Name>, line: string): void {
  const folder = process.env[FIGURES_FOLDER_VARIABLE];
  // Outside a run that prints figures (a test started by an editor) there is nobody to hand it to.
  if (folder === undefined) return;
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, `${name}.${part}.txt`), line);
}

function findData(): string | undefined {
  const named = process.env["PURSER_DATA"];
  const candidates = [named, fileURLToPath(new URL("../../../shared/data", import.meta.url))];
  return candidates.find((folder) => folder !== undefined && folder !== "" && existsSync(join(folder, "README.md")));
}
