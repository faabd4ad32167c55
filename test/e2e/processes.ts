/** Purser as a process of its own, with real signals, sockets and files. */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { onTestFinished } from "vitest";

const MAIN = new URL("../../src/cli/main.ts", import.meta.url).pathname;

export interface Running {
  child: ChildProcess;
  out: () => string;
  err: () => string;
  /** Resolves with what matched as soon as it was printed. */
  printed(pattern: RegExp, where?: "out" | "err"): Promise<RegExpExecArray>;
  /** Resolves with the exit code. */
  ended: Promise<number | null>;
}

export interface RunOptions {
  cwd: string;
  env?: Record<string, string>;
  /** Options of Node itself. */
  node?: readonly string[];
}

/** Runs one command line; killed with the test if it still runs then. */
export function run(words: readonly string[], { cwd, env = {}, node = [] }: RunOptions): Running {
  const child = spawn(process.execPath, [...node, MAIN, ...words], { cwd, env: { PATH: process.env["PATH"] ?? "", ...env } });
  const text = { out: "", err: "" };
  const looks = new Set<() => void>();
  const hear = (where: "out" | "err") => (chunk: Buffer) => {
    text[where] += chunk.toString();
    for (const look of looks) look();
  };
  child.stdout.on("data", hear("out"));
  child.stderr.on("data", hear("err"));
  const ended = once(child, "close").then(([code]) => code as number | null);
  onTestFinished(() => void child.kill("SIGKILL"));
  return {
    child,
    out: () => text.out,
    err: () => text.err,
    ended,
    async printed(pattern, where = "out") {
      return new Promise((resolve, reject) => {
        const look = (): void => {
          const found = pattern.exec(text[where]);
          if (found === null) return;
          looks.delete(look);
          resolve(found);
        };
        looks.add(look);
        void ended.then((code) => reject(new Error(`ended with ${code} before ${pattern}:\n${text.out}\n${text.err}`)));
        look();
      });
    },
  };
}

/** Runs `purser serve` on any free port, and resolves once it listens. */
export async function serve(words: readonly string[], options: RunOptions): Promise<Running & { url: string }> {
  const running = run(["serve", "--port", "0", ...words], options);
  const [, url = ""] = await running.printed(/^Gateway +(http:\S+)\n[^]*^Look .*\n/m);
  return { ...running, url };
}
