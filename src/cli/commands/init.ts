/**
 * `purser init`: writes a first, commented `purser.yaml`.
 * Invariant: a file that is there is never written over.
 */
import type { Command } from "commander";
import { writeFile } from "node:fs/promises";
import { CONFIG_FILE_DEFAULT } from "../../config/load-config.ts";
import { initTemplate } from "../../config/template.ts";
import { writeLines, type CliIo } from "../cli-io.ts";
import { CliError, EXIT } from "../exit.ts";
import { clean } from "../output/text.ts";
import { addLedgerOption } from "../settings.ts";

/** Adds the command. */
export function addInitCommand(program: Command, io: CliIo): void {
  const command = program
    .command("init")
    .description("write a commented purser.yaml")
    .argument("[file]", "where to write it", CONFIG_FILE_DEFAULT);
  addLedgerOption(command).action(async (file: string) => runInit(io, file));
}

async function runInit(io: CliIo, file: string): Promise<void> {
  try {
    await writeFile(file, initTemplate(), { flag: "wx" });
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : "";
    if (code === "EEXIST") {
      throw new CliError(
        EXIT.foundWrong,
        `${clean(file)} is there already and was left as it is; name another file, or move it away first`,
      );
    }
    throw new CliError(EXIT.failed, `${clean(file)} could not be written (${code === "" ? String(error) : code})`, {
      cause: error,
    });
  }
  const shown = clean(file.replace(/^\.\//, ""));
  writeLines(io, [
    `Wrote ${shown}: two limits that hold at once, and more to choose from in comments.`,
    "What it means, in plain words:",
    `  npx purser check${shown === "purser.yaml" ? "" : ` ${shown}`}`,
  ]);
}
