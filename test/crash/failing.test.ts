/**
 * Goal: whichever call to the system fails, by a full disk or an I/O error, once or from then on: new calls are answered 503 and not
 * forwarded, running streams finish, settlements wait and land when the ledger can be written, the process lives, and in the end the
 * books equal the bill (trust I11, failures R). Method: one gateway, one ledger; round after round the next call to the system fails.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { reportFigure } from "../figures/figures.ts";
import type { FailingReport } from "./failing.ts";
import { compileShim, hasCompiler, NO_COMPILER, runUnderShim } from "./shim.ts";

if (!hasCompiler) reportFigure("Crash", "failing disk", `NOT RUN: failures at every call (${NO_COMPILER})`);

describe.skipIf(!hasCompiler)(`a ledger whose disk fails${hasCompiler ? "" : ` (${NO_COMPILER})`}`, () => {
  test("at any call costs no money and no stream", { timeout: 600_000 }, () => {
    const folder = mkdtempSync(join(tmpdir(), "purser-failing-"));
    const library = compileShim(folder);
    const path = join(folder, "ledger.db");

    const said = runUnderShim({ library, watched: path, program: "failing.ts", args: [path] });
    const { places, refused, made, waitingMost, problems } = JSON.parse(said) as FailingReport;

    expect(problems.slice(0, 20)).toEqual([]);
    // What is read lies in SQLite's own memory most of the time.
    const { "one read failed": _reads, ...changes } = places;
    expect(Math.min(...Object.values(changes))).toBeGreaterThan(0);
    expect(refused).toBeGreaterThan(10);
    expect(waitingMost).toBeGreaterThan(0);
    const where = Object.entries(places).map(([name, count]) => `${count} × ${name}`);
    const line = `${where.join(", ")}: ${refused} calls refused and not forwarded, ${made} made, at most ${waitingMost} endings waiting; 0 lost, 0 doubled, every stream finished, books equal the bill`;
    process.stdout.write(`failing disk: ${line}\n`);
    reportFigure("Crash", "failing disk", line);
    rmSync(folder, { recursive: true });
  });
});
