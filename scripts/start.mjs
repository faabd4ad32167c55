// Runs a TypeScript file with the pinned Node, after installing what is missing.
// Plain JavaScript for Node 18, because on a fresh clone nothing else can be relied on yet.
// docs/decisions/0001-start-from-a-clone.md has the traps that shaped it.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const stampPath = join(root, "node_modules", ".purser-install");
const signals = ["SIGINT", "SIGTERM", "SIGHUP"];

let child;
let signalled;
for (const signal of signals) {
  process.on(signal, () => {
    signalled = signal;
    // A terminal's Ctrl-C reaches the whole process group by itself: sending it again would count as a second one.
    if (signal === "SIGINT" && process.stdin.isTTY) return;
    child?.kill(signal);
  });
}

const lockHash = createHash("sha256")
  .update(readFileSync(join(root, "package-lock.json")))
  .digest("hex");
if (!isInstalled()) {
  process.stderr.write("purser: installing the locked dependencies (once, about half a minute) …\n");
  const windows = process.platform === "win32";
  const installed = await run(windows ? "npm.cmd" : "npm", ["ci", "--no-audit", "--no-fund", "--loglevel=error"], {
    // The install's own chatter belongs beside ours: standard output is for the program that is started.
    stdio: ["ignore", 2, 2],
    shell: windows,
  });
  if (signalled !== undefined) process.exit(128 + (signalled === "SIGINT" ? 2 : signalled === "SIGHUP" ? 1 : 15));
  if (installed !== 0) {
    process.stderr.write("purser: 'npm ci' failed (above is why). It needs the npm registry and nothing else.\n");
    process.exit(1);
  }
  writeFileSync(stampPath, lockHash);
}
process.exit(await run(findNode(), process.argv.slice(2), { stdio: "inherit" }));

function isInstalled() {
  return existsSync(stampPath) && readFileSync(stampPath, "utf8") === lockHash;
}

/** The Node the lock file carries for this platform; else the one that runs this file, if it is new enough. */
function findNode() {
  const platform = process.platform === "win32" ? "win" : process.platform;
  const pinned = join(
    root,
    "node_modules",
    `node-${platform}-${process.arch}`,
    "bin",
    process.platform === "win32" ? "node.exe" : "node",
  );
  if (existsSync(pinned)) return pinned;
  const [major, minor] = process.versions.node.split(".").map(Number);
  if (major > 22 || (major === 22 && minor >= 19)) return process.execPath;
  process.stderr.write(
    `purser: no Node comes with the package for ${process.platform}-${process.arch}, and this one is ${process.versions.node}; install Node 22.19 or newer.\n`,
  );
  process.exit(1);
}

function run(command, args, options) {
  if (signalled !== undefined) return Promise.resolve(1);
  return new Promise((resolve) => {
    // Node keeps what it makes of the sources: a start, and each thread of the ledger, takes half the time from the second one on.
    const env = { NODE_COMPILE_CACHE: join(root, "node_modules", ".cache", "node"), ...process.env };
    child = spawn(command, args, { cwd: process.env.PURSER_CWD ?? process.cwd(), env, ...options });
    child.on("error", (error) => {
      process.stderr.write(`purser: ${command} could not be started: ${error.message}\n`);
      resolve(1);
    });
    child.on("exit", (code, signal) => resolve(code ?? (signal === "SIGINT" ? 130 : signal === "SIGHUP" ? 129 : 143)));
  });
}
