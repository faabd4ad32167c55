/**
 * Owns the witness: one line in a small file beside the ledger that says how far the ledger had come. Nothing inside a file can tell its
 * own past from its present: an older copy that was put back, or a file whose write-ahead log was lost, is sound and lacks its end.
 * Does not own the chain (rows.ts). It guards against accidents; whoever can write the ledger's file can write this one.
 * Invariant: the witness never names an entry that is not durable. It is written after a commit, without a sync of its own: after a power
 * cut it may be behind the ledger, never ahead of it. Whatever cannot be read is no witness.
 */
import { closeSync, constants, openSync, readFileSync, writeSync } from "node:fs";
import { crc32 } from "node:zlib";
import type { ChainHead } from "./statements/entries.ts";

/** While batches follow each other, so often; the last is written by whoever finds nothing left to do. A write costs some microseconds. */
const BETWEEN_MS = 20;

/** Where the witness of a ledger lies. */
export function witnessPath(path: string): string {
  return `${path}-witness`;
}

/** Every line is as long as every other, so that one overwrites the last whole. */
function lineOf({ seq, hash }: ChainHead): string {
  const said = `entry ${String(seq).padStart(16, "0")} ${hash}`;
  return `${said} ${sumOf(said)}\n`;
}

function sumOf(text: string): string {
  return crc32(text).toString(16).padStart(8, "0");
}

/** How far the ledger had come at least. @returns `undefined` if nobody says so. */
export function readWitness(path: string): ChainHead | undefined {
  let text: string;
  try {
    text = readFileSync(witnessPath(path), "latin1");
  } catch {
    // A ledger of before there were witnesses, a copy, or one whose witness cannot be read: it is checked by its chain alone.
    return undefined;
  }
  const [, said = "", seq = "", hash = "", sum] = /^(entry (\d{16}) ([0-9a-f]{64})) ([0-9a-f]{8})\n$/.exec(text) ?? [];
  return sum === undefined || sum !== sumOf(said) ? undefined : { seq: Number(seq), hash };
}

/**
 * Compares a ledger with what its witness saw before. @param witness read before the ledger was, which may go on meanwhile.
 *
 * @param hashAt the hash of an entry, `undefined` if it is not there any more.
 * @returns what is missing, as a sentence; `undefined` if nothing is known to be.
 */
export function sentenceOfLoss(
  path: string,
  { witness, head, hashAt }: { witness: ChainHead | undefined; head: ChainHead; hashAt: (seq: number) => string | undefined },
): string | undefined {
  if (witness === undefined) return undefined;
  const by = `(says ${witnessPath(path)})`;
  if (head.seq < witness.seq) {
    const end = head.seq === 0 ? "it holds no entry" : `it ends with entry ${head.seq}`;
    return `${end}, but entry ${witness.seq} had been written ${by}: an older copy was put back, or its write-ahead log (-wal) is gone`;
  }
  const hash = hashAt(witness.seq);
  if (hash === undefined || hash === witness.hash) return undefined;
  return `its entry ${witness.seq} is another one than was written here ${by}: the file or its write-ahead log (-wal) is that of another ledger, or an older copy that went on`;
}

/** Writes the witness of one ledger. */
export class Witness {
  readonly #path: string;
  readonly #now: () => number;
  #file: number | undefined;
  #head: ChainHead | undefined;
  #told = 0;
  #toldAtMs = -Infinity;

  /** @param now a clock that never goes back, in milliseconds. */
  constructor(path: string, now: () => number) {
    this.#path = witnessPath(path);
    this.#now = now;
  }

  /** A commit came this far. */
  saw(head: ChainHead): void {
    this.#head = head;
    if (this.#now() - this.#toldAtMs >= BETWEEN_MS) this.flush();
  }

  /** Writes what was seen last. */
  flush(): void {
    if (this.#head === undefined || this.#head.seq <= this.#told) return;
    this.#toldAtMs = this.#now();
    try {
      this.#file ??= openSync(this.#path, constants.O_WRONLY | constants.O_CREAT, 0o600);
      writeSync(this.#file, lineOf(this.#head), 0);
      this.#told = this.#head.seq;
    } catch {
      // A full disk: the ledger itself says so. The witness stays behind, which is what it may be.
    }
  }

  close(): void {
    this.flush();
    if (this.#file !== undefined) closeSync(this.#file);
    this.#file = undefined;
  }
}
