/**
 * Owns finding and reading the file of the configuration. Does not own its meaning (config.ts) or noticing changes (gateway/).
 * Invariant: a file that was named and cannot be read is a problem; only the default name may be missing.
 */
import { readFile } from "node:fs/promises";
import type { ReadConfigResult } from "./config.ts";
import { readConfig } from "./config.ts";
import type { Environment } from "./environment.ts";
import { readVariable } from "./environment.ts";
import { builtInPrices } from "./price-book.ts";

/** The file that is read if nobody names one, and if it is there. */
export const CONFIG_FILE_DEFAULT = "./purser.yaml";

/** What loading ends in: as reading does, with the file that was read. */
export type LoadConfigResult = ReadConfigResult & {
  /** The file read, or `undefined` if there was none and the built-in configuration holds. */
  fileName: string | undefined;
};

/**
 * Reads the configuration from its file and the environment.
 *
 * @param input.path the file somebody named on the command line; absent: `PURSER_CONFIG`, else {@link CONFIG_FILE_DEFAULT} if it is there.
 */
export async function loadConfig(input: { path: string | undefined; env: Environment }): Promise<LoadConfigResult> {
  const named = input.path ?? readVariable(input.env, "PURSER_CONFIG");
  const fileName = named ?? CONFIG_FILE_DEFAULT;
  const file = await readText(fileName);
  const knownPrices = builtInPrices();
  const isMissing = file.outcome === "failed" && file.code === "ENOENT" && named === undefined;
  if (isMissing)
    return { ...readConfig({ text: undefined, fileName: "(no file)", env: input.env, knownPrices }), fileName: undefined };
  const shownName = fileName.replace(/^\.\//, "");
  if (file.outcome === "failed") {
    const found = `a file that cannot be read (${file.code})`;
    const allowed = "a readable YAML file; `purser init` writes one";
    const message = `${shownName}: found ${found}; allowed: ${allowed}`;
    const problem = { file: shownName, line: undefined, column: undefined, path: "", found, allowed, message };
    return { outcome: "invalid", problems: [problem], fileName };
  }
  return { ...readConfig({ text: file.text, fileName: shownName, env: input.env, knownPrices }), fileName };
}

async function readText(path: string): Promise<{ outcome: "read"; text: string } | { outcome: "failed"; code: string }> {
  try {
    const bytes = await readFile(path);
    return { outcome: "read", text: new TextDecoder("utf-8", { fatal: true }).decode(bytes) };
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : "unknown error";
    return { outcome: "failed", code: code === "ERR_ENCODING_INVALID_ENCODED_DATA" ? "not UTF-8 text" : code };
  }
}
