/**
 * Owns finding out whether a write-ahead log was damaged behind SQLite's back. SQLite reads a log up to the first frame whose check
 * sum is wrong and takes everything behind it for a write that never ended: right after a power cut, and a silent loss of answered
 * calls after any other damage.
 * Does not own the log: it is only read, and SQLite alone writes it.
 * Invariant: with one fsync per commit, a power cut or a failed commit leaves at most one transaction whose sums fit each other and
 * not those before. Two or more of them in one piece behind a broken frame were answered, and are lost to damage.
 *
 * @see https://www.sqlite.org/fileformat2.html#the_write_ahead_log
 */
import { readFileSync } from "node:fs";

const HEADER_BYTES = 32;
const FRAME_HEADER_BYTES = 24;
/** The last bit says in which byte order check sums are taken. */
const MAGIC = 0x377f0682;

/** What is wrong with a log. */
export interface WalDamage {
  /** The first frame that is not what was written, from 1 on. */
  frame: number;
  /** Whole transactions behind it, which SQLite would leave out without a word. */
  transactionsBehind: number;
}

/** Looks at the log beside a ledger file. @returns `undefined` if there is none, or nothing in it is lost. */
export function findWalDamage(path: string): WalDamage | undefined {
  for (;;) {
    const log = readLog(path);
    if (log === undefined || log.length < HEADER_BYTES) return undefined;
    const damage = damageIn(log);
    // A log that another process began anew meanwhile was read half old and half new.
    if (damage === undefined || isSameLog(path, log)) return damage;
  }
}

function readLog(path: string): Buffer | undefined {
  try {
    return readFileSync(`${path}-wal`);
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
}

function isSameLog(path: string, log: Buffer): boolean {
  return readLog(path)?.subarray(0, HEADER_BYTES).equals(log.subarray(0, HEADER_BYTES)) ?? false;
}

function damageIn(log: Buffer): WalDamage | undefined {
  const magic = log.readUInt32BE(0);
  const pageBytes = log.readUInt32BE(8);
  if ((magic & ~1) >>> 0 !== MAGIC || pageBytes < 512 || pageBytes > 65_536) return undefined;
  const frameBytes = FRAME_HEADER_BYTES + pageBytes;
  const frameCount = Math.floor((log.length - HEADER_BYTES) / frameBytes);
  const salts = log.subarray(16, 24);
  const sum = new CheckSum((magic & 1) === 0);
  sum.add(log, 0, 24);
  let firstBad: number | undefined;
  let transactions = 0;
  let mostBehind = 0;
  /** Goes on from the sum that is stored: what fits from here on was written in one piece. */
  const beginAnew = (frame: number, offset: number): void => {
    firstBad ??= frame;
    transactions = 0;
    sum.set(log, offset);
  };
  if (!sum.equals(log, 24)) beginAnew(1, 24);
  for (let frame = 1; frame <= frameCount; frame += 1) {
    const offset = HEADER_BYTES + (frame - 1) * frameBytes;
    // Other salts: left over from before the log was begun anew.
    if (!log.subarray(offset + 8, offset + 16).equals(salts)) {
      beginAnew(frame, offset + 16);
      continue;
    }
    sum.add(log, offset, 8);
    sum.add(log, offset + FRAME_HEADER_BYTES, pageBytes);
    if (!sum.equals(log, offset + 16)) beginAnew(frame, offset + 16);
    const endsTransaction = log.readUInt32BE(offset + 4) !== 0;
    if (endsTransaction) transactions += 1;
    if (firstBad !== undefined) mostBehind = Math.max(mostBehind, transactions);
  }
  return firstBad !== undefined && mostBehind >= 2 ? { frame: firstBad, transactionsBehind: mostBehind } : undefined;
}

/** The log's running check sum: two 32-bit sums over pairs of words, as the format says. */
class CheckSum {
  #first = 0;
  #second = 0;
  readonly #isLittleEndian: boolean;

  constructor(isLittleEndian: boolean) {
    this.#isLittleEndian = isLittleEndian;
  }

  add(bytes: Buffer, offset: number, length: number): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset + offset, length);
    for (let at = 0; at < length; at += 8) {
      this.#first = (this.#first + view.getUint32(at, this.#isLittleEndian) + this.#second) >>> 0;
      this.#second = (this.#second + view.getUint32(at + 4, this.#isLittleEndian) + this.#first) >>> 0;
    }
  }

  set(bytes: Buffer, offset: number): void {
    this.#first = bytes.readUInt32BE(offset);
    this.#second = bytes.readUInt32BE(offset + 4);
  }

  equals(bytes: Buffer, offset: number): boolean {
    return bytes.readUInt32BE(offset) === this.#first && bytes.readUInt32BE(offset + 4) === this.#second;
  }
}

/** The sentence for people. */
export function sentenceOfDamage({ frame, transactionsBehind }: WalDamage): string {
  return `its write-ahead log (-wal) is damaged at frame ${frame}: ${transactionsBehind} transactions behind it would be lost`;
}
