/**
 * Goal: docs/cli.md tells the truth. Method: every `console` block is run on the seeded ledger, in order, and its output stands in the
 * file; every `sh` block is run as a process. `UPDATE_DOCS=1` writes the outputs.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { createProgram } from "../../src/cli/program.ts";
import type { CliIo } from "../../src/cli/cli-io.ts";
import { openSqliteLedger } from "../../src/ledger/sqlite/sqlite-ledger.ts";
import type { Ledger } from "../../src/ledger/ledger.ts";
import { PIPED, runCli, seededLedger, splitWords, useTemporaryFolder } from "./cli-harness.ts";
import { seedLedger, SEED_YAML } from "./cli-seed.ts";

const DOCS = new URL("../../docs/cli.md", import.meta.url);
const MAIN = new URL("../../src/cli/main.ts", import.meta.url).pathname;
const text = await readFile(DOCS, "utf8");

useTemporaryFolder();

/** The seeded ledger, with a key whose id does not change. */
async function ledgerOfDocs(): Promise<Ledger> {
  const ledger = await seededLedger();
  const times = { createdAtMs: Date.parse("2026-11-20T09:00:00Z"), expiresAtMs: undefined, revokedAtMs: undefined };
  await ledger.createKey({ keyId: "q7k2mzxa", secretHash: "00", project: "support", agent: "triage", allow: ["user"], ...times });
  return ledger;
}

it("shows the output of every example as it is", async () => {
  const ledger = await ledgerOfDocs();
  const file = await openSqliteLedger({ path: "ledger.db" });
  await seedLedger(file);
  await file.close();
  let shown = "";
  let end = 0;
  for (const match of text.matchAll(/```console\n\$ npx purser (.*)\n([^]*?)```/g)) {
    const [block, line = ""] = match;
    const { out, err } = await runCli(line, { ledger });
    // The version of a configuration changes with every setting that Purser learns.
    const output = `${out}${err}`.replaceAll("\r\n", "\n").replaceAll(/onfiguration [0-9a-f]{12}/g, "onfiguration 0123456789ab");
    shown += `${text.slice(end, match.index)}\`\`\`console\n$ npx purser ${line}\n${output}\`\`\``;
    end = match.index + block.length;
    // The examples behind these two look at the ledger's own limits.
    if (line.startsWith("check")) await writeFile("purser.yaml", SEED_YAML);
  }
  shown += text.slice(end);
  if (process.env["UPDATE_DOCS"] === "1") await writeFile(DOCS, shown);

  expect(shown).toBe(process.env["UPDATE_DOCS"] === "1" ? shown : text);
  expect(end).toBeGreaterThan(0);
});

/** Run to its end, and looked at more closely, in cli-serve.test.ts: it takes half a minute. */
const RUN_ELSEWHERE = new Set(["demo"]);
const processes = Array.from(text.matchAll(/```sh\nnpx purser (.*)\n```/g), ([, line = ""]) => line).filter(
  (line) => !RUN_ELSEWHERE.has(line),
);

it.each(processes)(
  "runs purser %s",
  async (line) => {
    const folder = await mkdtemp(join(tmpdir(), "purser-docs-"));
    onTestFinished(async () => rm(folder, { recursive: true, force: true }));
    const child = spawn(process.execPath, [MAIN, ...splitWords(line)], { cwd: folder, env: { PATH: process.env["PATH"] ?? "" } });
    onTestFinished(() => void child.kill("SIGKILL"));
    let out = "";
    child.stdout.on("data", (chunk: Buffer) => {
      out += chunk.toString();
      if (line.startsWith("serve") && out.includes("\nLook")) child.kill("SIGTERM");
    });

    const [code] = (await once(child, "close")) as [number | null];

    expect(code).toBe(0);
    expect(out).not.toBe("");
  },
  90_000,
);

it("has a section for every command", () => {
  const names = createProgram({ screen: PIPED } as CliIo, "0").commands.map((command) => command.name());
  const headings = [...text.matchAll(/^## .*/gm)].join("\n");

  expect(names.filter((name) => !headings.includes(`\`${name}\``))).toEqual([]);
});
