/** Purser as the benchmark measures it: ten limits, the SQLite ledger with fsync. Prints its port. */
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readConfig } from "../../src/config/config.ts";
import { startGateway } from "../../src/gateway/serve.ts";

const limits = ["all", "project", "agent", "session", "model"].flatMap((per) => [
  `  - { name: ${per}-usd, per: ${per}, usd: 1_000_000, every: day, at: { 50%: alert, 100%: stop } }`,
  `  - { name: ${per}-tokens, per: ${per}, tokens: 900_000_000_000, every: month }`,
]);
const env = {
  PURSER_PORT: "0",
  PURSER_LEDGER: join(mkdtempSync(join(tmpdir(), "purser-bench-")), "ledger.db"),
  PURSER_ANTHROPIC_URL: process.argv[2] ?? "",
};
const read = readConfig({ text: `limits:\n${limits.join("\n")}\n`, fileName: "bench.yaml", env });
if (read.outcome === "invalid") throw new Error(read.problems.map(({ message }) => message).join("\n"));
const gateway = await startGateway({ config: read.config, env, notifier: { alert: () => undefined, warn: () => undefined } });
process.once("SIGINT", () => process.exit(0));
process.send?.(Number(new URL(gateway.url).port));
