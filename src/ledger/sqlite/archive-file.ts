/**
 * Owns the file that archived entries go to: a line of JSON each, every column as it stood, so that the chain can be followed in it.
 * Does not own which entries those are (archive-plan.ts).
 * Invariants: nothing is overwritten; what was synced survives a power cut; a file that broke off says all that it holds in whole lines.
 */
import { closeSync, createReadStream, fsyncSync, ftruncateSync, openSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { createInterface } from "node:readline";
import { hashOfEntry } from "./rows.ts";
import type { EntryRow } from "./statements/entries.ts";

const FORMAT = "purser-archive-1";
/** Written in pieces of about this many characters. */
const BUFFER_CHARS = 1 << 20;

/** A file being written. */
export class ArchiveFile {
  readonly path: string;
  readonly #handle: number;
  #text: string;
  /** Bytes written so far. */
  #length = 0;
  /** Up to here everything is of closings that came to be. */
  #kept: number;

  /** @throws the file system's error; `EEXIST` if there is one of this name. */
  constructor(path: string, begin: { fromSeq: number; previousHash: string }) {
    this.path = path;
    this.#handle = openSync(path, "wx", 0o600);
    this.#text = `${JSON.stringify({ format: FORMAT, ...begin })}\n`;
    this.#flush();
    this.#kept = this.#length;
  }

  write({ seq, kind, callId, atMs, costNanoUsd, charges, body, hash }: EntryRow): void {
    const cost = costNanoUsd === undefined ? null : `${costNanoUsd}`;
    this.#text += `${JSON.stringify({ seq, kind, callId, atMs, costNanoUsd: cost, charges, body, hash })}\n`;
    if (this.#text.length > BUFFER_CHARS) this.#flush();
  }

  /** Returns once everything written so far is on disk, and the file's name with it. */
  sync(): void {
    this.#flush();
    fsyncSync(this.#handle);
    const folder = openSync(dirname(this.path), "r");
    try {
      fsyncSync(folder);
    } finally {
      closeSync(folder);
    }
  }

  /** What was written stays. */
  keep(): void {
    this.#flush();
    this.#kept = this.#length;
  }

  /** Takes back what was written since {@link keep}: its closing did not come to be. */
  takeBack(): void {
    this.#text = "";
    ftruncateSync(this.#handle, this.#kept);
    this.#length = this.#kept;
  }

  close(): void {
    closeSync(this.#handle);
  }

  #flush(): void {
    const bytes = Buffer.from(this.#text);
    for (let at = 0; at < bytes.length;) at += writeSync(this.#handle, bytes, at, bytes.length - at, this.#length + at);
    this.#length += bytes.length;
    this.#text = "";
  }
}

/** What an archive holds. */
export interface ArchiveCheck {
  path: string;
  fromSeq: number;
  throughSeq: number;
  entryCount: number;
  /** The hash of the last entry: the ledger's closing names it. */
  throughHash: string;
  /** One sentence each; empty: every entry is what was written. */
  differences: readonly string[];
}

const DIFFERENCES_MAX = 200;

/** Follows the chain through an archive. @throws the file system's error if it cannot be read. */
export async function checkArchive(path: string): Promise<ArchiveCheck> {
  const differences: string[] = [];
  const differs = (sentence: string): void =>
    void (differences.length < DIFFERENCES_MAX && differences.push(`${path}: ${sentence}`));
  let line = 0;
  let previousHash = "";
  let fromSeq = 0;
  let nextSeq = 0;
  for await (const text of createInterface({ input: createReadStream(path), crlfDelay: Infinity })) {
    line += 1;
    const read = parse(text);
    if (line === 1) {
      if (read?.["format"] !== FORMAT) differs(`line 1 does not say that it is an archive (${FORMAT})`);
      previousHash = textOf(read?.["previousHash"]);
      fromSeq = nextSeq = Number(read?.["fromSeq"] ?? 0);
      continue;
    }
    const entry = read && entryOf(read, previousHash);
    if (entry === undefined) {
      differs(`line ${line} is not an entry: the file broke off, or was changed`);
      continue;
    }
    if (entry.seq !== nextSeq) differs(`line ${line} is entry ${entry.seq}; expected ${nextSeq}`);
    if (entry.recomputed !== entry.hash) {
      differs(`entry ${entry.seq}: its stored hash is ${entry.hash}, recomputed ${entry.recomputed}`);
    }
    previousHash = entry.hash;
    nextSeq += 1;
  }
  if (line === 0) differs("it is empty");
  return { path, fromSeq, throughSeq: nextSeq - 1, entryCount: nextSeq - fromSeq, throughHash: previousHash, differences };
}

function parse(text: string): Record<string, unknown> | undefined {
  try {
    const value = JSON.parse(text) as unknown;
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    // Reported by the caller, with the line.
    return undefined;
  }
}

/** `undefined`: it is no entry. */
function entryOf(
  read: Record<string, unknown>,
  previousHash: string,
): { seq: number; hash: string; recomputed: string } | undefined {
  const { seq, kind, callId, atMs, charges, body } = read;
  const cost = read["costNanoUsd"];
  const isWhole = [kind, callId, charges, body].every((part) => typeof part === "string") && Number.isSafeInteger(seq);
  if (!isWhole || !Number.isSafeInteger(atMs) || (cost !== null && !/^\d+$/.test(textOf(cost)))) return undefined;
  const recomputed = hashOfEntry({
    seq: Number(seq),
    kind: textOf(kind),
    callId: textOf(callId),
    atMs: Number(atMs),
    costNanoUsd: cost === null ? undefined : BigInt(textOf(cost)),
    charges: textOf(charges),
    body: textOf(body),
    previousHash,
  });
  return { seq: Number(seq), hash: textOf(read["hash"]), recomputed };
}

function textOf(value: unknown): string {
  return typeof value === "string" ? value : "";
}
