/**
 * Programs that run with syscalls.c between them and the system: compiling it, starting a program under it, and, inside such a program,
 * speaking to it.
 */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { unlinkSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";

/** Why tests that need it do not run. In CI they fail instead: a figure must not go missing in silence. */
export const NO_COMPILER = "not run: needs Linux and a C compiler named cc";
const isCi = (process.env["CI"] ?? "") !== "";
export const hasCompiler: boolean =
  isCi || (process.platform === "linux" && spawnSync("cc", ["--version"], { stdio: "ignore" }).status === 0);

/** @returns the library, in that folder. */
export function compileShim(folder: string): string {
  const library = join(folder, "syscalls.so");
  const source = join(import.meta.dirname, "syscalls.c");
  const { status, stderr, error } = spawnSync("cc", ["-shared", "-fPIC", "-O1", "-Wall", "-o", library, source, "-ldl"], {
    encoding: "utf8",
  });
  if (status !== 0) throw new Error(`${source} cannot be compiled (${NO_COMPILER}): ${error?.message ?? stderr}`);
  return library;
}

/** How a program of this folder is started. */
export interface UnderShim {
  library: string;
  /** The start of the paths whose files count. */
  watched: string;
  program: string;
  args?: readonly string[];
  env?: Record<string, string>;
}

function commandOf({ library, watched, program, args = [], env = {} }: UnderShim) {
  // A fork has the one thread that forked: nothing may be left to others.
  const options = program === "dying.ts" ? ["--single-threaded"] : [];
  return {
    args: [...options, join(import.meta.dirname, program), ...args],
    env: { ...process.env, LD_PRELOAD: library, PURSER_WATCHED: watched, ...env },
  };
}

/** Runs a program to its end. @returns what it said. @throws Error if it ended badly. */
export function runUnderShim(input: UnderShim): string {
  const { args, env } = commandOf(input);
  const run = spawnSync(process.execPath, args, { env, encoding: "utf8", maxBuffer: 2 ** 28 });
  if (run.status === 0) return run.stdout;
  throw new Error(`${input.program} ended with ${run.status ?? run.signal}: ${run.stdout.slice(-2_000)}${run.stderr}`);
}

/** A program that answers every line with a line. */
export interface Answering {
  ask(line: string): Promise<string>;
  /** Ends it. @throws Error if it ended badly. */
  end(): Promise<void>;
}

export function startUnderShim(input: UnderShim): Answering {
  const { args, env } = commandOf(input);
  const child = spawn(process.execPath, args, { env, stdio: ["pipe", "pipe", "inherit"] });
  const ended = once(child, "exit");
  const answers = createInterface(child.stdout)[Symbol.asyncIterator]();
  return {
    async ask(line) {
      child.stdin.write(`${line}\n`);
      const { value, done } = await answers.next();
      if (done === true) throw new Error(`${input.program} ended without an answer to ${line}`);
      return value;
    },
    async end() {
      child.stdin.end();
      const [code, signal] = (await ended) as [number | null, string | null];
      if (code !== 0) throw new Error(`${input.program} ended with ${code ?? signal}`);
    },
  };
}

/** A name no file has: the shim takes it for a command. @returns false if it answered EPERM, true for ENOENT or success. */
function command(text: string): boolean | undefined {
  try {
    unlinkSync(`purser:${text}`);
    return undefined;
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code === "ENOENT") return true;
    if (code === "EPERM") return false;
    throw error;
  }
}

/**
 * Forks this process, which must have no other thread at work. The child goes on with `"child"`, is killed at its `at`th call that
 * changes a watched file, and must end itself with {@link endAtOnce}; the parent learns what became of it.
 */
export function forkToDie(at: number): "child" | "killed" | "ended" {
  const answer = command(`fork ${at}`);
  if (answer === undefined) return "child";
  return answer ? "killed" : "ended";
}

/** Ends a forked child. */
export function endAtOnce(): never {
  command("exit");
  throw new Error("not under the shim");
}

/** Kills a forked child: the number that Node knows as its process's own is its parent's. */
export function dieAtOnce(): never {
  command("die");
  throw new Error("not under the shim");
}

/** As errno numbers them on Linux. */
export const ERRORS = { EIO: 5, ENOSPC: 28 } as const;

/** Lets calls on watched files fail: `count` of them from the `from`th on. Kinds: writes, syncs, reads. */
export function failCalls(input: { error: keyof typeof ERRORS; kinds: string; from: number; count: number }): void {
  command(`fail ${ERRORS[input.error]} ${input.kinds} ${input.from} ${input.count}`);
}

/** @returns true if a call failed since {@link failCalls}. */
export function stopFailing(): boolean {
  return command("failed") === true;
}
