/**
 * `npm run bench`: every benchmark, or the parts named after `--`. `--save` writes what was found under bench/results and draws the chart.
 * Not for comparing machines: everything that is compared runs in one interleaved run.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { drawChart } from "./chart.ts";
import { measureClient } from "./client/client.ts";
import { measureDecision } from "./decision.ts";
import { measureGateway } from "./gateway/gateway.ts";
import { measureLedger } from "./ledger/ledger.ts";
import { describeMachine } from "./machine.ts";
import { profileGateway } from "./profile.ts";
import { soak } from "./soak.ts";
import { toTable, type Section } from "./table.ts";

const PARTS = ["scan", "decision", "ledger", "client", "gateway"] as const;
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: "string", default: "3" },
    seconds: { type: "string", default: "1" },
    "warm-up": { type: "string", default: "12" },
    full: { type: "boolean", default: false },
    save: { type: "boolean", default: false },
    profile: { type: "boolean", default: false },
    soak: { type: "string" },
    rate: { type: "string", default: "300" },
  },
});
const unknown = positionals.find((part) => !(PARTS as readonly string[]).includes(part));
if (unknown !== undefined) {
  process.stderr.write(`bench: no part is called ${unknown}; there are: ${PARTS.join(", ")}\n`);
  process.exit(2);
}
const parts: readonly string[] = positionals.length > 0 ? positionals : PARTS;
const rounds = Number(values.rounds);
const roundMs = Number(values.seconds) * 1_000;
const warmUpMs = Number(values["warm-up"]) * 1_000;
const here = (file: string): string => fileURLToPath(new URL(file, import.meta.url));

const machine = describeMachine();
process.stdout.write(
  `${Object.entries(machine)
    .map(([name, value]) => `${name}: ${value}`)
    .join("\n")}\n`,
);
const sections: Section[] = [];
const show = (found: readonly Section[]): void => {
  sections.push(...found);
  for (const section of found) process.stdout.write(`\n${textOf(section)}\n`);
};

if (values.profile) {
  show(await profileGateway({ warmUpMs, ms: roundMs * 8 }));
} else if (values.soak !== undefined) {
  show([await soak({ minutes: Number(values.soak), rate: Number(values.rate) })]);
} else {
  if (parts.includes("scan")) {
    process.stdout.write("\nReading a request, against decoding and JSON.parse\n");
    const { status } = spawnSync(process.execPath, [here("providers/json/scan.ts")], { stdio: "inherit" });
    if (status !== 0) process.exit(status ?? 1);
  }
  if (parts.includes("decision")) show([await measureDecision()]);
  if (parts.includes("ledger")) show(await measureLedger({ rounds, roundMs, oldSize: values.full ? 1_000_000 : 100_000 }));
  if (parts.includes("client")) show([await measureClient({ rounds, roundMs, warmUpMs })]);
  if (parts.includes("gateway")) show(await measureGateway({ rounds, roundMs, warmUpMs }));
  if (values.save) save();
}
process.exit(0);

function textOf({ title, note, rows }: Section): string {
  return [`## ${title}`, "", ...(note === undefined ? [] : [note, ""]), toTable(rows)].join("\n");
}

function save(): void {
  const name = `${machine["date"]}-${machine["commit"]?.replaceAll(" ", "-")}`;
  mkdirSync(here("results"), { recursive: true });
  const head = Object.entries(machine).map(([key, value]) => `- ${key}: ${value}`);
  writeFileSync(here(`results/${name}.json`), `${JSON.stringify({ machine, sections }, null, 2)}\n`);
  writeFileSync(
    here(`results/${name}.md`),
    `# Benchmarks of ${machine["date"]}\n\n${head.join("\n")}\n\n${sections.map(textOf).join("\n\n")}\n`,
  );
  const chart = drawChart(sections);
  if (chart !== undefined) writeFileSync(here("../docs/benchmarks.svg"), chart);
}
