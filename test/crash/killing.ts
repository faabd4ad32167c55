/**
 * How processes are killed in the middle of what they write. With a C compiler: exactly at the start of their Nth call that changes a
 * file (kill-at.c). Without one: when they have said their Nth line, wherever that finds them. Which one it was is said with the figure.
 */
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";

/** How a run kills. */
export interface Killing {
  /** For the figure. */
  mechanism: string;
  /** Runs a program of this folder until it is killed or ends. @returns true if it was killed. */
  run(
    program: string,
    args: readonly string[],
    at: { call: number; line: number },
    hear: (line: string) => void,
  ): Promise<boolean>;
}

/** @param folder where the compiled library is put. */
export function prepareKilling(folder: string): Killing {
  const library = join(folder, "kill-at.so");
  const source = join(import.meta.dirname, "kill-at.c");
  const isExact = spawnSync("cc", ["-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"]).status === 0;
  return {
    mechanism: isExact ? "at the Nth call that changes a file" : "at the Nth line said (no C compiler for exact places)",
    async run(program, args, at, hear) {
      const exact = isExact ? { LD_PRELOAD: library, PURSER_KILL_AT: String(at.call) } : {};
      const child = spawn(process.execPath, [join(import.meta.dirname, program), ...args], {
        env: { ...process.env, NODE_COMPILE_CACHE: join(folder, "compiled"), ...exact },
        stdio: ["ignore", "pipe", "inherit"],
      });
      let lines = 0;
      for await (const line of createInterface(child.stdout)) {
        hear(line);
        lines += 1;
        if (!isExact && lines === at.line) child.kill("SIGKILL");
      }
      return (await exitOf(child)) === "SIGKILL";
    },
  };
}

/** @throws Error if the program ended badly by itself. */
async function exitOf(child: ChildProcess): Promise<NodeJS.Signals | null> {
  if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  if (child.signalCode === null && child.exitCode !== 0) throw new Error(`the program ended with ${child.exitCode}`);
  return child.signalCode;
}

/** Numbers below a bound, repeatable by their seed (Numerical Recipes). */
export function createRandom(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}
