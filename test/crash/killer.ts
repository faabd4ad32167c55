/** Kills processes at calls that change a ledger's files (dying.ts). */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Death, DeathAnswer } from "./dying.ts";
import { toldOf } from "./ledger-files.ts";
import { compileShim, startUnderShim, type Answering } from "./shim.ts";

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
