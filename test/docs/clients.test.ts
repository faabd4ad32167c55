/** Goal: every example of docs/clients.md runs as it is printed, but for the address. */
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import { startBench } from "../e2e/harness.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const text = await readFile(join(root, "docs/clients.md"), "utf8");
const examples = [...text.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, code = ""]) => code);

it("has an example per client", () => {
  expect(examples).toHaveLength(7);
});

it.each(examples.map((code) => ({ title: code.match(/from "(.+)"/)?.[1], code })))(
  "runs its example of $title",
  async ({ code }) => {
    const bench = await startBench();
    bench.simulator.always({ kind: "answer", content: [{ type: "text", text: "hello" }] });
    // Inside the repository, so that the example's imports are found as a user's would be.
    const folder = await mkdtemp(join(root, "test/docs/.example-"));
    const file = join(folder, "example.ts");
    await writeFile(file, code.replaceAll("http://127.0.0.1:4141", bench.url));

    const { ANTHROPIC_BASE_URL: _address, OPENAI_BASE_URL: _other, ...env } = process.env;
    await promisify(execFile)(process.execPath, [file], {
      env: { ...env, ANTHROPIC_API_KEY: "sk-test", OPENAI_API_KEY: "sk-test" },
    });

    expect(await bench.calls()).toMatchObject([{ status: "settled" }]);
    await rm(folder, { recursive: true });
  },
);
