/**
 * Owns printing the figures at the end of a run. Does not own measuring them.
 * Invariant: what was not measured is said, and why; N of M counts figures whose every part was measured.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { dataFolder, FIGURES, FIGURES_FOLDER_VARIABLE, NO_DATA } from "./figures.ts";

/** Vitest calls it before the first test, and what it returns after the last. Workers inherit the environment. */
export function setup(): () => void {
  const folder = mkdtempSync(join(tmpdir(), "purser-figures-"));
  process.env[FIGURES_FOLDER_VARIABLE] = folder;
  return () => {
    process.stdout.write(`\n${formatFigures((name, part) => readPart(folder, name, part))}\n`);
    rmSync(folder, { recursive: true, force: true });
  };
}

/** One line per part of every figure, then how many figures were measured whole. */
export function formatFigures(read: (name: string, part: string) => string | undefined): string {
  const lines: string[] = [];
  let measured = 0;
  for (const [name, parts] of Object.entries(FIGURES)) {
    const found = parts.map((part) => ({ part, line: read(name, part) }));
    if (found.every(({ line }) => line !== undefined)) measured += 1;
    for (const { part, line } of found) lines.push(`  ${name} · ${part}: ${line ?? "not measured"}`);
  }
  const why = dataFolder === undefined ? [`  (${NO_DATA})`] : [];
  return [`figures: ${measured} of ${Object.keys(FIGURES).length} measured`, ...lines, ...why].join("\n");
}

function readPart(folder: string, name: string, part: string): string | undefined {
  try {
    return readFileSync(join(folder, `${name}.${part}.txt`), "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}
