/** Kills processes at calls that change a ledger's files (dying.ts), and lays the files out that they begin with. */
import { copyFileSync, existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Death, DeathAnswer } from "./dying.ts";
import { compileShim, startUnderShim, type Answering } from "./shim.ts";

const SUFFIXES = ["", "-wal", "-shm", "-journal", "-told"];

/** A file, and beside it the lines that were said about it. */
export const toldOf = (path: string): string => `${path}-told`;

/** What a kill leaves is in the system's memory: the files need no disk, and a sync is free without one. */
const MEMORY = "/dev/shm";

export class Killer {
  readonly #folder: string;
  readonly #dying: Answering;

  constructor() {
    this.#folder = mkdtempSync(join(existsSync(MEMORY) ? MEMORY : tmpdir(), "purser-kills-"));
    this.#dying = startUnderShim({
      library: compileShim(this.#folder),
      watched: join(this.#folder, "ledger-"),
      program: "dying.ts",
    });
  }

  /** The path of a file whose changes count. */
  path(name: string): string {
    return join(this.#folder, `ledger-${name}.db`);
  }

  /** Lets a process live a story on a file until its change of that number. */
  async kill(death: Omit<Death, "told">): Promise<DeathAnswer> {
    const told = toldOf(death.path);
    if (!existsSync(told)) writeFileSync(told, "");
    return (await this.#dying.ask(JSON.stringify({ ...death, told } satisfies Death))) as DeathAnswer;
  }

  /** Leaves nothing behind. */
  async end(): Promise<void> {
    await this.#dying.end();
    rmSync(this.#folder, { recursive: true });
  }
}

/** A ledger's files and what was said, as they are at another path. */
export function copyLedger(from: string, to: string): void {
  removeLedger(to);
  for (const suffix of SUFFIXES) if (existsSync(from + suffix)) copyFileSync(from + suffix, to + suffix);
}

export function removeLedger(path: string): void {
  for (const suffix of SUFFIXES) rmSync(path + suffix, { force: true });
}
