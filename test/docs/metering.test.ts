/** Goal: every example of docs/metering-other-apis.md runs as it is printed, and prints what the page says. */
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, it, onTestFinished } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));
const text = await readFile(join(root, "docs/metering-other-apis.md"), "utf8");
const examples = [...text.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, code = ""]) => code);

/** Runs a program in a folder of its own, with the source in place of the package. */
async function printed(code: string): Promise<string[]> {
  const folder = await mkdtemp(join(root, "test/docs/.example-"));
  onTestFinished(() => rm(folder, { recursive: true }));
  await writeFile(join(folder, "example.ts"), code.replace('from "purser"', 'from "../../../src/client/entry.ts"'));
  const { stdout } = await promisify(execFile)(process.execPath, ["example.ts"], { cwd: folder });
  return stdout.trim().split("\n");
}

it("meters an API that is paid per call", async () => {
  expect(await printed(examples[0] ?? "")).toEqual(["3", "limit_reached research null"]);
});

it("counts tools, and refuses one in words for the model", async () => {
  const quoted = /^> (.+)$/m.exec(text)?.[1];

  expect(await printed(examples[1] ?? "")).toEqual(["a page about tides", "a page about moons", quoted]);
});
