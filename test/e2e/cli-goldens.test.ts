/**
 * Goal: what people see stays as it was looked at. Method: a seeded ledger, a fixed clock, a screen of 80 and of 160 columns and none;
 * each output is kept in golden/ to be read beside the code.
 */
import { writeFile } from "node:fs/promises";
import { beforeAll, describe, expect, it } from "vitest";
import { displayWidth } from "../../src/cli/output/text.ts";
import type { Ledger } from "../../src/ledger/ledger.ts";
import { PIPED, runCli, seededLedger, terminal, useTemporaryFolder } from "./cli-harness.ts";
import { SEED_YAML } from "./cli-seed.ts";

useTemporaryFolder();
let ledger: Ledger;
beforeAll(async () => {
  ledger = await seededLedger();
  await writeFile("purser.yaml", SEED_YAML);
});

const screens = { "80": terminal(80), "160": terminal(160), piped: PIPED };
const commands = {
  status: "status",
  report: "report",
  "report-tags": "report --since 2026-11-01 --by project,tag:team,model",
  calls: "calls --limit 12",
  explain: "calls --explain call_r1",
  "explain-refused": "calls --explain call_r3",
  check: "check",
  cost: "cost --model claude-opus-5 --input 60_000 --cache-read 200,000 --cache-write-1h 4000 --output 1536 --batch",
  keys: "keys list",
  help: "--help",
};

describe.each(Object.entries(commands))("%s", (name, command) => {
  it.each(Object.entries(screens))("looks as it was approved on a screen of %s", async (width, screen) => {
    const { out, err, exitCode } = await runCli(command, { ledger, screen });

    expect({ err, exitCode }).toEqual({ err: "", exitCode: 0 });
    for (const line of out.split("\n")) expect(displayWidth(line)).toBeLessThanOrEqual(screen.width);
    // The version of a configuration changes with every setting that Purser learns.
    const stable = out.replaceAll(/onfiguration [0-9a-f]{12}/g, "onfiguration 0123456789ab");
    await expect(stable).toMatchFileSnapshot(`golden/${name}-${width}.txt`);
  });
});
