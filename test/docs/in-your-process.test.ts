/** Goal: every example of docs/in-your-process.md, and the agent in examples/, runs as it is printed: only addresses are the simulator's. */
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, it, onTestFinished } from "vitest";
import { openSqliteLedger } from "../../src/ledger/sqlite/sqlite-ledger.ts";
import { startSimulator, type Simulator } from "../../src/testing/testing.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const text = await readFile(join(root, "docs/in-your-process.md"), "utf8");
const agent = await readFile(join(root, "examples/ticket-agent.ts"), "utf8");
const examples = [...text.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, code = ""]) => code);

/** Runs a program in a folder of its own, inside the repository, so that its imports are found as a user's would be. */
async function run(simulator: Simulator, code: string, yaml: string) {
  const folder = await mkdtemp(join(root, "test/docs/.example-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  await writeFile(join(folder, "purser.yaml"), yaml);
  // What is written in code is changed by no variable.
  await writeFile(
    join(folder, "example.ts"),
    code.replace("config: {", `config: { upstreams: { anthropic: "${simulator.url}" },`),
  );
  const isAiSdk = code.includes("@ai-sdk/");
  const env = {
    PATH: process.env["PATH"],
    ANTHROPIC_API_KEY: "sk-test",
    ANTHROPIC_BASE_URL: isAiSdk ? `${simulator.url}/v1` : simulator.url,
    PURSER_ANTHROPIC_URL: simulator.url,
  };
  const { stdout } = await promisify(execFile)(process.execPath, ["example.ts"], { cwd: folder, env });
  const ledger = await openSqliteLedger({ path: join(folder, /ledger: "(.+)"/.exec(code)?.[1] ?? ".purser/ledger.db") });
  onTestFinished(() => ledger.close());
  return { stdout, calls: await ledger.calls({ limit: 100 }) };
}

async function openSimulator(): Promise<Simulator> {
  const simulator = await startSimulator();
  onTestFinished(() => simulator.close());
  return simulator;
}

describe("docs/in-your-process.md", () => {
  it("has an example per SDK and per subject", () => {
    expect(examples).toHaveLength(5);
  });

  it.each(examples.map((code, index) => ({ title: `${index + 1}: ${/from "(.+)"/.exec(code)?.[1]}`, code })))(
    "runs its example $title",
    async ({ code }) => {
      const simulator = await openSimulator();

      const { calls } = await run(simulator, code, "limits: [{ name: roomy, per: all, usd: 100, every: day }]\n");

      expect(calls.map(({ status, costNanoUsd }) => [status, costNanoUsd])).toEqual([["settled", simulator.bill.totalNanoUsd]]);
    },
  );
});

describe("examples/ticket-agent.ts", () => {
  it("stops cleanly at a limit, hands back what it has, and says which limit and until when", async () => {
    const simulator = await openSimulator();
    simulator.always({ kind: "answer", content: [{ type: "text", text: "We look into it." }] });

    const { stdout, calls } = await run(
      simulator,
      agent,
      "limits: [{ name: three-a-day, per: agent, requests: 3, every: day }]\n",
    );

    const lines = stdout.trim().split("\n");
    expect(lines.slice(0, 4)).toEqual([
      "Answered 3 of 5 tickets.",
      "- I cannot log in. We look into it.",
      "- Where is my invoice? We look into it.",
      "- Please close my account. We look into it.",
    ]);
    expect(lines[4]).toMatch(/^Stopped by the limit three-a-day, until \d{4}-\d\d-\d\dT00:00:00\.000Z: The limit three-a-day/);
    expect(lines).toHaveLength(5);
    expect(simulator.requests).toHaveLength(3);
    expect(calls.map(({ status }) => status).toSorted()).toEqual(["denied", "settled", "settled", "settled"]);
  });

  it("answers them all where no limit says no", async () => {
    const simulator = await openSimulator();

    const { stdout } = await run(simulator, agent, "limits: [{ name: roomy, per: all, usd: 100, every: day }]\n");

    expect(stdout).toContain("Answered 5 of 5 tickets.");
    expect(stdout).not.toContain("Stopped");
  });
});
