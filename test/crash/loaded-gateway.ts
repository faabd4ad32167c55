/**
 * `purser serve` as a process of its own, in front of a provider in this one, under the load of many streams: started, killed and
 * started again on the same ledger while the callers go on.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Simulator } from "../../src/testing/testing.ts";
import { begin, messageOf } from "../e2e/http.ts";

const MAIN = join(import.meta.dirname, "../../src/cli/main.ts");
/** A limit that everything counts for and nothing reaches. */
const CONFIG =
  "limits: [{ name: all-spend, per: all, usd: 1_000_000 }, { name: agent-spend, per: agent, usd: 1_000_000, every: day }]\n";

export class LoadedGateway {
  readonly ledgerPath: string;
  readonly #folder: string;
  readonly #simulator: Simulator;
  #child: ChildProcess | undefined;
  /** Resolves with where the gateway listens; renewed with each start. */
  #url = Promise.withResolvers<string>();
  #isStopped = false;
  #calls = 0;
  #loops: Promise<void>[] = [];
  /** Calls that were sent and not yet answered whole. */
  inFlight = 0;
  /** The names of calls whose answer came to its end. */
  readonly completed: string[] = [];
  turnedAway = 0;
  /** Answers that were neither whole nor broken off by a kill. */
  readonly oddities: string[] = [];

  constructor(folder: string, simulator: Simulator) {
    this.#folder = folder;
    this.#simulator = simulator;
    this.ledgerPath = join(folder, "ledger.db");
    writeFileSync(join(folder, "purser.yaml"), CONFIG);
  }

  /** Resolves when it listens. */
  async start(): Promise<void> {
    const child = spawn(process.execPath, [MAIN, "serve", "--port", "0", "--ledger", this.ledgerPath], {
      cwd: this.#folder,
      env: {
        PATH: process.env["PATH"] ?? "",
        PURSER_ANTHROPIC_URL: this.#simulator.url,
        NODE_COMPILE_CACHE: join(this.#folder, "compiled"),
      },
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#child = child;
    let [out, err] = ["", ""];
    child.stderr.on("data", (chunk: Buffer) => (err = (err + chunk.toString()).slice(-4_000)));
    const url = await new Promise<string>((resolve, reject) => {
      child.stdout.on("data", (chunk: Buffer) => {
        out += chunk.toString();
        const found = /^Gateway +(http:\S+)\n/m.exec(out);
        if (found?.[1] !== undefined) resolve(found[1]);
      });
      child.once("exit", (code, signal) => reject(new Error(`the gateway ended with ${code ?? signal}: ${out}${err}`)));
    });
    this.#url.resolve(url);
  }

  /** Ends it by a signal. @returns its exit code; `null` after SIGKILL. */
  async end(signal: "SIGKILL" | "SIGTERM"): Promise<number | null> {
    this.#url = Promise.withResolvers<string>();
    const ended = once(this.#child ?? spawn("true"), "exit") as Promise<[number | null]>;
    this.#child?.kill(signal);
    return (await ended)[0];
  }

  /** Lets so many callers ask one stream after the other, from now on. */
  load(callers: number): void {
    this.#loops = Array.from({ length: callers }, async (_nothing, caller) => {
      while (!this.#isStopped) await this.#call(`agent-${caller % 5}`);
    });
  }

  /** Resolves when every caller has its last answer. */
  async stopLoad(): Promise<void> {
    this.#isStopped = true;
    await Promise.all(this.#loops);
  }

  async #call(agent: string): Promise<void> {
    const url = await this.#url.promise;
    if (this.#isStopped) return;
    const name = `call-${(this.#calls += 1)}`;
    // The provider reads the name in the body, the ledger in the header.
    const body = messageOf({ stream: true, metadata: { user_id: name } });
    this.inFlight += 1;
    try {
      const response = await begin(url, { body, headers: { "x-purser-agent": agent, "x-purser-task": name } });
      let text = "";
      for await (const chunk of response) text += String(chunk);
      if (text.includes("event: message_stop")) this.completed.push(name);
      // A machine that is busy with other tests is behind with its work, which a gateway says before any of it.
      else if (response.statusCode === 503 && text.includes('"code":"overloaded"')) this.turnedAway += 1;
      else this.oddities.push(`${name}: ${response.statusCode} ${text.slice(0, 200)}`);
    } catch (error) {
      // Broken off by the kill: a caller asks again, as another call.
      const code = error instanceof Error && "code" in error ? error.code : undefined;
      if (code !== "ECONNRESET" && code !== "ECONNREFUSED") this.oddities.push(`${name}: ${String(error)}`);
    } finally {
      this.inFlight -= 1;
    }
  }
}
