import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["src/**/*.test.ts", "test/**/*.test.ts"],
    testTimeout: 30_000,
    hookTimeout: 30_000,
    // Two workers: the suites start real servers and child processes, and CI has two cores.
    maxWorkers: 2,
    // Prints the figures of the run at its end.
    globalSetup: ["test/figures/print-figures.ts"],
  },
});
