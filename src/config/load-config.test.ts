import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { loadConfig } from "./load-config.ts";

let folder = "";

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "purser-config-"));
});

afterAll(async () => {
  await rm(folder, { recursive: true });
});

async function write(name: string, content: string | Uint8Array): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, content);
  return path;
}

test("reads the file that is named, before the one of the variable", async () => {
  const named = await write("named.yaml", "timezone: Asia/Tokyo\n");
  const ofVariable = await write("variable.yaml", "timezone: Europe/Berlin\n");
  const env = { PURSER_CONFIG: ofVariable };

  const first = await loadConfig({ path: named, env });
  const second = await loadConfig({ path: undefined, env });

  expect(first).toMatchObject({ outcome: "read", fileName: named, config: { timeZone: "Asia/Tokyo" } });
  expect(second).toMatchObject({ outcome: "read", fileName: ofVariable, config: { timeZone: "Europe/Berlin" } });
});

test("without any file the built-in configuration holds", async () => {
  // The suite runs in the repository, which has no purser.yaml of its own.
  const result = await loadConfig({ path: undefined, env: {} });

  expect(result).toMatchObject({ outcome: "read", fileName: undefined, config: { isDefaultLimit: true } });
});

test.each([
  ["is not there", async () => join(folder, "missing.yaml"), "ENOENT"],
  ["is a folder", async () => folder, "EISDIR"],
  ["is no text", async () => write("binary.yaml", Uint8Array.of(0xff, 0xfe, 0x00)), "not UTF-8 text"],
])("a named file that %s is a problem", async (_name, make, told) => {
  const path = await make();
  const result = await loadConfig({ path, env: {} });

  expect(result.outcome === "invalid" && result.problems[0]?.message).toBe(
    `${path}: found a file that cannot be read (${told}); allowed: a readable YAML file; \`purser init\` writes one`,
  );
});

test("a mistake is told with the file's name", async () => {
  const path = await write("bad.yaml", "\ntimezone: Mars\n");
  const result = await loadConfig({ path, env: {} });

  expect(result.outcome === "invalid" && result.problems[0]?.message).toContain(`${path}:2:11: timezone: found "Mars"`);
});

test("an own price far from the known one of its model is a mistake of unit", async () => {
  const path = await write("price.yaml", "prices:\n  claude-opus-5-5:\n    inputUsdPerMTok: 0.04\n    outputUsdPerMTok: 15\n");
  const result = await loadConfig({ path, env: {} });

  expect(result.outcome === "invalid" && result.problems[0]?.message).toContain(
    ':3:22: prices.claude-opus-5-5.inputUsdPerMTok: found "0.04"',
  );
});
