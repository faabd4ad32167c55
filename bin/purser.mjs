#!/usr/bin/env node
// The `purser` command: the built program where the package was installed, the sources where it was cloned.
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

const sources = fileURLToPath(new URL("../src/cli/main.ts", import.meta.url));
if (existsSync(sources)) {
  process.argv.splice(2, 0, sources);
  await import("../scripts/start.mjs");
} else {
  await import("../dist/cli/main.js");
}
