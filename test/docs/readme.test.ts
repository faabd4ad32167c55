/** Goal: what the README and docs/operating.md tell a newcomer to type is there, and the limits shown are limits. */
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { readConfig } from "../../src/config/config.ts";

const read = (path: string): Promise<string> => readFile(fileURLToPath(new URL(`../../${path}`, import.meta.url)), "utf8");
const readme = await read("README.md");
const scripts = (JSON.parse(await read("package.json")) as { scripts: Record<string, string> }).scripts;
const commands = (await read("src/cli/program.ts")) + (await read("docs/cli.md"));

it("shows limits that hold without a warning", () => {
  const [, text] = /```yaml\n([\s\S]*?)```/.exec(readme) ?? [];

  const result = readConfig({ text, fileName: "README.md", env: {} });

  expect(result).toMatchObject({ outcome: "read", warnings: [] });
  expect(result.outcome === "read" ? result.config.limits.map(({ name }) => name) : []).toEqual([
    "session-spend",
    "agent-day",
    "everything-month",
  ]);
});

it("names only npm scripts that exist", () => {
  const named = [...readme.matchAll(/\bnpm (?:run )?([a-z]+(?::[a-z]+)?)/g)]
    .map(([, name = ""]) => name)
    .filter((name) => name !== "and");

  expect(named.filter((name) => scripts[name] === undefined)).toEqual([]);
  expect(named).toContain("start");
});

it.each(["README.md", "docs/operating.md"])("names only commands that exist in %s", async (path) => {
  const named = [...(await read(path)).matchAll(/(?:npx )?purser ([a-z]+)/g)].map(([, name = ""]) => name);

  expect(named.filter((name) => !commands.includes(`purser ${name}`))).toEqual([]);
  expect(named.length).toBeGreaterThan(2);
});
