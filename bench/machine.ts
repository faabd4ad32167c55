/**
 * Owns what the benchmarks know of the machine: pinning, processor time and memory of processes, what others use meanwhile.
 * Where the system is not Linux, what it cannot tell is `NaN`, and nothing is pinned.
 */
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { availableParallelism, cpus, release, totalmem, type } from "node:os";

export const PROXY_CORE = 0;
export const LOAD_CORE = 1;

const canPin = availableParallelism() >= 2 && spawnSync("taskset", ["-V"]).status === 0;

export const PINNING = canPin
  ? `with taskset: the proxy on core ${PROXY_CORE}, load generator and provider together on core ${LOAD_CORE}`
  : "not pinned (taskset, or a second core, is missing): only ratios say something";

const children = new Set<ChildProcess>();

/** Starts a process on one core. It is killed when the benchmark ends, unless that is killed itself. */
export function startPinned(core: number, command: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): ChildProcess {
  const words = canPin ? ["taskset", "-c", String(core), command, ...args] : [command, ...args];
  const child = spawn(words[0] ?? "", words.slice(1), { stdio: ["pipe", "pipe", "inherit"], env: { ...process.env, ...env } });
  children.add(child);
  child.once("exit", () => children.delete(child));
  return child;
}

export function endAll(): void {
  for (const child of children) child.kill("SIGKILL");
}

/** Processor time of a process so far, all its threads. */
export function cpuUs(pid: number): number {
  try {
    return readdirSync(`/proc/${pid}/task`).reduce((sum, thread) => {
      const [ns = "0"] = readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8").split(" ");
      return sum + Number(ns) / 1_000;
    }, 0);
  } catch {
    return Number.NaN;
  }
}

export function rssBytes(pid: number): number {
  return statusOf(pid, "VmRSS") * 1_024;
}

function statusOf(pid: number, field: string): number {
  try {
    return Number(new RegExp(`${field}:\\s+(\\d+)`).exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]);
  } catch {
    return Number.NaN;
  }
}

export function openFiles(pid: number): number {
  try {
    return readdirSync(`/proc/${pid}/fd`).length;
  } catch {
    return Number.NaN;
  }
}

/** Of one core, what processes that are not of this benchmark used between two calls of the function returned. */
export function watchOthers(pids: () => readonly number[]): () => number {
  const busyUs = (): number => {
    try {
      const [, user = "0", nice = "0", system = "0"] = readFileSync("/proc/stat", "utf8").split(/\s+/, 4);
      return (Number(user) + Number(nice) + Number(system)) * 10_000;
    } catch {
      return Number.NaN;
    }
  };
  const own = (): number => [process.pid, ...pids()].reduce((sum, pid) => sum + cpuUs(pid), 0);
  const [busyBefore, ownBefore, atMs] = [busyUs(), own(), performance.now()];
  return () => Math.max(0, (busyUs() - busyBefore - (own() - ownBefore)) / ((performance.now() - atMs) * 1_000));
}

export function describeMachine(): Record<string, string> {
  const git = (args: string[]): string => spawnSync("git", args, { encoding: "utf8" }).stdout?.trim() ?? "";
  const changed = git(["status", "--porcelain", "--untracked-files=no"]);
  return {
    commit: `${git(["rev-parse", "--short=10", "HEAD"])}${changed === "" ? "" : " with changes"}`,
    date: new Date().toISOString().slice(0, 10),
    processor: `${cpus().length} × ${cpus()[0]?.model ?? "unknown"}`,
    memory: `${Math.round(totalmem() / 2 ** 30)} GiB`,
    system: `${type()} ${release()}`,
    node: process.versions.node,
    pinning: PINNING,
  };
}
