/** Goal: the example of docs/batches.md runs as it is printed, but for the address, and its batch is held. */
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import { startBench } from "../e2e/harness.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const text = await readFile(join(root, "docs/batches.md"), "utf8");
const [, code = ""] = /```ts\n([\s\S]*?)```/.exec(text) ?? [];

it("hands a batch in, which is held", async () => {
  const bench = await startBench();
  // Inside the repository, so that the example's imports are found as a user's would be.
  const folder = await mkdtemp(join(root, "test/docs/.example-"));
  const file = join(folder, "example.ts");
  await writeFile(file, code.replaceAll("http://127.0.0.1:4141", bench.url));

  const { ANTHROPIC_BASE_URL: _address, ...env } = process.env;
  await promisify(execFile)(process.execPath, [file], { env: { ...env, ANTHROPIC_API_KEY: "sk-test" } });

  expect(bench.simulator.batchIds).toHaveLength(1);
  expect(await bench.calls()).toMatchObject([{ status: "reserved" }]);
  await rm(folder, { recursive: true });
});
