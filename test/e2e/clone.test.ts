/**
 * Goal: a person clones the repository, types `npm start`, and has a gateway; a signal to npm ends all of it.
 * Method: a real clone in an empty folder, the machine's own Node and npm, the real registry; nothing of this checkout's install is used.
 */
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { existsSync, readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startSimulator, type Simulator } from "../../src/testing/testing.ts";
import { ask, until } from "./http.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
/** An install takes half a minute on an idle machine. */
const START_MS_MAX = 240_000;

const whyNot = reasonNotToRun();

/** Why no clone can be made here; `undefined`: one can. */
function reasonNotToRun(): string | undefined {
  if (spawnSync("git", ["--version"]).status !== 0) return "git is not on the PATH, and this test clones the repository with it";
  if (spawnSync("git", ["rev-parse", "HEAD"], { cwd: ROOT }).status !== 0)
    return "this folder is no git repository: nothing can be cloned";
  return undefined;
}

/** The environment of somebody who has just opened a shell: the machine's Node, nothing of ours, nothing of the npm that runs the tests. */
function freshEnvironment(more: Record<string, string>): NodeJS.ProcessEnv {
  const isInherited = (name: string): boolean => /^(npm_|PURSER_|VITEST|NODE|INIT_CWD$|COLOR$|GIT_)/i.test(name);
  const kept = Object.entries(process.env).filter(([name]) => !isInherited(name));
  const folders = (process.env["PATH"] ?? "").split(delimiter);
  const path = folders.filter((folder) => !folder.includes("node_modules") && !folder.includes("node-gyp-bin")).join(delimiter);
  return { ...Object.fromEntries(kept), PATH: path, ...more };
}

interface Started {
  npm: ChildProcess;
  stdout(): string;
  stderr(): string;
  /** Resolves with the address it prints. */
  url(): Promise<string>;
  /** Resolves when npm itself has ended. */
  ended: Promise<void>;
}

function npmStart(folder: string, more: Record<string, string>): Started {
  const npm = spawn("npm", ["start"], { cwd: folder, env: freshEnvironment(more), stdio: ["ignore", "pipe", "pipe"] });
  let stdout = "";
  let stderr = "";
  npm.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  npm.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  const ended = new Promise<void>((resolve) => npm.once("close", () => resolve()));
  return {
    npm,
    stdout: () => stdout,
    stderr: () => stderr,
    ended,
    url: async () => {
      await until(() => /http:\/\/127\.0\.0\.1:\d+/.test(stdout) || npm.exitCode !== null);
      const [url] = /http:\/\/127\.0\.0\.1:\d+/.exec(stdout) ?? [];
      if (url === undefined) throw new Error(`npm start ended without an address:\n${stdout}\n${stderr}`);
      return url;
    },
  };
}

/** Processes that run in a folder or name it on their command line. */
function processesOf(folder: string): string[] {
  if (!existsSync("/proc/self/cmdline")) {
    const { stdout } = spawnSync("ps", ["-A", "-o", "pid=,command="], { encoding: "utf8" });
    return stdout.split("\n").filter((line) => line.includes(folder));
  }
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        const command = readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
        const cwd = readlinkSync(`/proc/${pid}/cwd`);
        return command.includes(folder) || `${cwd}${sep}`.startsWith(folder + sep) ? [`${pid} ${command}`] : [];
      } catch {
        // It ended while it was looked at, or belongs to somebody else.
        return [];
      }
    });
}

function isPortOpen(url: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(Number(new URL(url).port), "127.0.0.1");
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}

describe.skipIf(whyNot !== undefined)(`a fresh clone${whyNot === undefined ? "" : ` (not tested: ${whyNot})`}`, () => {
  let folder = "";
  let clone = "";
  let simulator: Simulator;
  const started: Started[] = [];
  const start = (more: Record<string, string> = {}): Started => {
    const run = npmStart(clone, { PURSER_PORT: "0", PURSER_ANTHROPIC_URL: simulator.url, ...more });
    started.push(run);
    return run;
  };

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "purser-clone-"));
    clone = join(folder, "purser");
    const { status, stderr } = spawnSync("git", ["clone", "--quiet", ROOT, clone], { encoding: "utf8" });
    if (status !== 0) throw new Error(`git clone failed: ${stderr}`);
    simulator = await startSimulator();
  });

  afterAll(async () => {
    for (const { npm } of started) npm.kill("SIGKILL");
    for (const line of processesOf(clone)) process.kill(Number.parseInt(line, 10), "SIGKILL");
    await simulator.close();
    rmSync(folder, { recursive: true, force: true });
  });

  it("holds nothing that was installed or built", () => {
    expect(existsSync(join(clone, "node_modules"))).toBe(false);
    expect(existsSync(join(clone, "dist"))).toBe(false);
    expect(existsSync(join(clone, "package-lock.json"))).toBe(true);
  });

  it(
    "that gets SIGTERM during its install ends at once: no server starts afterwards, and no process is left",
    async () => {
      const run = start();
      await until(() => existsSync(join(clone, "node_modules")) || run.npm.exitCode !== null);
      expect(run.stderr()).toContain("installing");

      run.npm.kill("SIGTERM");
      await run.ended;

      await until(() => processesOf(clone).length === 0);
      expect(run.stdout()).not.toMatch(/http:\/\//);
      expect(existsSync(join(clone, ".purser"))).toBe(false);
    },
    START_MS_MAX,
  );

  it(
    "installs and runs with `npm start`, serves a call, and is gone with all it started when npm gets SIGTERM",
    async () => {
      const run = start();
      const url = await run.url();

      const health = await ask(url, { method: "GET", path: "/healthz" });
      const answer = await ask(url);
      expect({ health: health.status, call: answer.status }).toEqual({ health: 200, call: 200 });
      expect(answer.headers["x-purser-decision"]).toBe("allowed");
      expect(simulator.requests).toHaveLength(1);
      expect(existsSync(join(clone, ".purser", "ledger.db"))).toBe(true);

      run.npm.kill("SIGTERM");
      await run.ended;

      expect(await isPortOpen(url)).toBe(false);
      expect(processesOf(clone)).toEqual([]);
      expect(run.stderr()).toContain("every call was settled");
    },
    START_MS_MAX,
  );

  it(
    "starts a second time without an install or a network, and goes on with its ledger",
    async () => {
      const run = start({ npm_config_registry: "http://127.0.0.1:9" });
      const url = await run.url();

      expect((await ask(url)).status).toBe(200);
      expect(run.stderr()).not.toContain("installing");

      run.npm.kill("SIGINT");
      await run.ended;
      expect(processesOf(clone)).toEqual([]);
    },
    START_MS_MAX,
  );
});
