/** What `npm test` runs, in order, stopping at the first failure. CI runs the same. */
import { spawnSync } from "node:child_process";

const bin = (name: string): string => new URL(`../node_modules/.bin/${name}`, import.meta.url).pathname;
const steps: { name: string; command: string; args: string[] }[] = [
  { name: "format", command: bin("oxfmt"), args: ["--check", "."] },
  { name: "types", command: bin("tsc"), args: ["-b"] },
  { name: "lint", command: bin("oxlint"), args: ["--deny-warnings"] },
  { name: "tests", command: process.execPath, args: [bin("vitest"), "run", ...process.argv.slice(2)] },
];

for (const { name, command, args } of steps) {
  process.stdout.write(`— ${name}\n`);
  const { status, error } = spawnSync(command, args, { stdio: "inherit", cwd: new URL("..", import.meta.url) });
  if (error) throw error;
  if (status !== 0) {
    process.stdout.write(`— ${name} failed\n`);
    process.exit(status ?? 1);
  }
}
