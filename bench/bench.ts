/** What `npm run bench` runs: every benchmark, one after the other. Ratios in one run on one machine; absolutes only beside it. */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { cpus } from "node:os";
import { fileURLToPath } from "node:url";

const BENCHMARKS = [
  { title: "Reading a request, against decoding and JSON.parse", file: "providers/json/scan.ts" },
  { title: "The SQLite ledger with fsync, against the one in memory", file: "ledger.ts" },
  { title: "The gateway, against a bare node:http + undici proxy", file: "gateway/gateway.ts" },
];

process.stdout.write(`Node ${process.versions.node}, ${cpus().length} × ${cpus()[0]?.model ?? "unknown processor"}\n`);
for (const { title, file } of BENCHMARKS) {
  const path = fileURLToPath(new URL(file, import.meta.url));
  if (!existsSync(path)) throw new Error(`bench/${file} is missing`);
  process.stdout.write(`\n${title}\n`);
  const { status } = spawnSync(process.execPath, [path, ...process.argv.slice(2)], { stdio: "inherit" });
  if (status !== 0) process.exit(status ?? 1);
}
