/** Goal: `createPurser` in programs of their own: what it reads, what it refuses, and that it never keeps a program from ending. */
import { execFile } from "node:child_process";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, it, onTestFinished } from "vitest";
import { createPurser, InvalidConfigError } from "../../../src/client/entry.ts";
import { openSqliteLedger } from "../../../src/ledger/sqlite/sqlite-ledger.ts";
import { startSimulator } from "../../../src/testing/testing.ts";
import { messageInit } from "./harness.ts";

const ENTRY = fileURLToPath(new URL("../../../src/client/entry.ts", import.meta.url));
const run = promisify(execFile);

async function makeFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "purser-create-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** Runs a program in a folder, and answers what it prints. */
async function program(folder: string, lines: string, env: Record<string, string> = {}): Promise<string> {
  const file = join(folder, "agent.mjs");
  await writeFile(file, `import { createPurser } from ${JSON.stringify(ENTRY)};\n${lines}`);
  const { PATH = "" } = process.env;
  const { stdout } = await run(process.execPath, [file], { cwd: folder, env: { PATH, ...env }, timeout: 20_000 });
  return stdout;
}

describe("a program", () => {
  it("that never closes ends by itself, its calls settled, and the next one finds nothing to recover", async () => {
    const folder = await makeFolder();
    const simulator = await startSimulator();
    onTestFinished(() => simulator.close());
    const ask = `
      const purser = await createPurser();
      purser.on("warning", ({ event }) => console.log(event));
      const response = await purser.fetch(process.env.PURSER_ANTHROPIC_URL + "/v1/messages", ${JSON.stringify(messageInit())});
      console.log(response.status, response.headers.get("x-purser-decision"));
    `;
    const env = { PURSER_ANTHROPIC_URL: simulator.url };

    expect(await program(folder, ask, env)).toBe("200 allowed\n");
    expect(await program(folder, ask, env)).toBe("200 allowed\n");

    const ledger = await openSqliteLedger({ path: join(folder, ".purser/ledger.db") });
    onTestFinished(() => ledger.close());
    const calls = await ledger.calls({ limit: 10 });
    expect(calls.map(({ status, costNanoUsd }) => [status, costNanoUsd !== undefined])).toEqual([
      ["settled", true],
      ["settled", true],
    ]);
    expect(calls.reduce((sum, { costNanoUsd }) => sum + (costNanoUsd ?? 0n), 0n)).toBe(simulator.bill.totalNanoUsd);
  });

  it("that names a file gets its limits; one that names none those of ./purser.yaml or the environment, else those in force", async () => {
    const folder = await makeFolder();
    await writeFile(join(folder, "purser.yaml"), "limits: [{ name: found, per: all, usd: 1, every: day }]\n");
    await writeFile(join(folder, "other.yaml"), "limits: [{ name: named, per: all, usd: 1, every: day }]\n");
    const shown = await program(
      folder,
      `
      const show = async (options) => {
        const purser = await createPurser(options);
        console.log((await purser.status()).map(({ limit }) => limit).join());
        await purser.close();
      };
      await show({ config: "other.yaml", ledger: "one.db" });
      await show();
      Object.assign(process.env, { PURSER_CONFIG: "other.yaml", PURSER_LEDGER: "sqlite:two.db" });
      await show();
      await show({ config: {}, ledger: "three.db" });
      await show({ config: {}, ledger: "one.db" });
    `,
    );

    expect(shown.trim().split("\n")).toEqual(["named", "found", "named", "everything-day", "named"]);
    expect((await readdir(folder)).filter((name) => name.endsWith(".db")).toSorted()).toEqual(["one.db", "three.db", "two.db"]);
  });
});

describe("what cannot be used", () => {
  it("is told with every mistake, and nothing is opened", async () => {
    const folder = await makeFolder();
    const ledger = join(folder, "ledger.db");
    const config = { limits: [{ name: "A", per: "agents", usd: "ten" }] };

    const thrown = await createPurser({ config, ledger }).catch((error: unknown) => error);

    expect(InvalidConfigError.is(thrown)).toBe(true);
    expect((thrown as InvalidConfigError).problems.map(({ path }) => path)).toEqual([
      "limits[0].name",
      "limits[0].per",
      "limits[0].usd",
    ]);
    await expect(createPurser({ config: {}, ledger: "postgres://db" })).rejects.toThrow("ledger: found a PostgreSQL address");
    await expect(createPurser({ config: join(folder, "none.yaml"), ledger })).rejects.toThrow(
      "a file that cannot be read (ENOENT)",
    );
    await expect(openSqliteLedger({ path: ledger }).then((opened) => opened.close())).resolves.toBeUndefined();
  });
});
