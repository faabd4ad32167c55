/**
 * Every call by which a process changed its files, in order, and between them what the process said: recorded by the shim, from which
 * the files are rebuilt as they were at any place, or as a power cut there could have left them.
 */
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { runUnderShim, type UnderShim } from "./shim.ts";

/** Stands for the folder itself: syncing it keeps what was unlinked in it. */
const FOLDER = ".";

/** `file` is a name without its folder. */
export type Change =
  | { kind: "write"; file: string; at: number; bytes: Buffer }
  | { kind: "sync"; file: string }
  | { kind: "truncate"; file: string; size: number }
  | { kind: "unlink"; file: string }
  | { kind: "said"; text: string };

/** Runs a program to its end. @returns what it did to the files of the folder `watched`. */
export function record(input: UnderShim): Change[] {
  const log = `${input.watched}.record`;
  runUnderShim({ ...input, env: { PURSER_RECORD: log } });
  const bytes = readFileSync(log);
  rmSync(log);
  const changes: Change[] = [];
  for (let at = 0; at < bytes.length;) {
    const endOfLine = bytes.indexOf("\n", at);
    const [kind = "", place = "", length = "", ...path] = bytes.toString("utf8", at, endOfLine).split(" ");
    at = endOfLine + 1 + Number(length);
    const written = bytes.subarray(endOfLine + 1, at);
    changes.push(changeOf({ kind, place: Number(place), path: path.join(" "), written }, input.watched));
  }
  return changes;
}

/** A record as syscalls.c writes it. */
function changeOf(
  { kind, place, path, written }: { kind: string; place: number; path: string; written: Buffer },
  folder: string,
): Change {
  const file = path === folder ? FOLDER : basename(path);
  switch (kind) {
    case "said":
      return { kind, text: written.toString() };
    case "write":
      return { kind, file, at: place, bytes: written };
    case "truncate":
      return { kind, file, size: place };
    case "sync":
    case "unlink":
      return { kind, file };
    default:
      throw new Error(`an unknown record: ${kind}`);
  }
}

/** The files of a folder, by name. */
export type Image = Map<string, Buffer>;

/** Carries out one change. */
export function change(image: Image, { ...change }: Change): void {
  if (change.kind === "said" || change.kind === "sync") return;
  if (change.kind === "unlink") return void image.delete(change.file);
  const before = image.get(change.file) ?? Buffer.alloc(0);
  if (change.kind === "truncate") {
    const after = Buffer.alloc(change.size);
    before.copy(after);
    return void image.set(change.file, after);
  }
  const end = change.at + change.bytes.length;
  // The image's own: grown with room, so that a thousand appended pages are not copied a thousand times.
  const after = end <= before.length ? before : grownTo(before, end);
  change.bytes.copy(after, change.at);
  image.set(change.file, after);
}

/** The bytes and zeros behind them, in the same memory if there is room. */
function grownTo(bytes: Buffer, length: number): Buffer {
  const room = bytes.buffer.byteLength - bytes.byteOffset;
  if (room >= length && bytes.byteOffset === 0) {
    return Buffer.from(bytes.buffer, 0, length);
  }
  const grown = Buffer.from(new ArrayBuffer(Math.max(2 * length, 64 * 1_024)), 0, length);
  bytes.copy(grown);
  return grown;
}

/** Puts the files in a folder, in place of those that are there. */
export function putImage(image: Image, folder: string, names: readonly string[]): void {
  for (const name of names) {
    const bytes = image.get(name);
    if (bytes === undefined) rmSync(join(folder, name), { force: true });
    else writeFileSync(join(folder, name), bytes);
  }
}

/** What a disk keeps at once or not at all. */
const SECTOR_BYTES = 512;
const BLOCK_BYTES = 4_096;

/** File systems give a file its new length together with a block of it, and pages of a database are blocks: no half page at its end. */
function toWholeBlocks(bytes: Buffer): Buffer {
  const whole = Buffer.alloc(Math.ceil(bytes.length / BLOCK_BYTES) * BLOCK_BYTES);
  bytes.copy(whole);
  return whole;
}

/**
 * What a power cut may leave of changes: those before the last sync of their file are kept, of the others any subset,
 * writes by the sector.
 */
export function cutPower(changes: readonly Change[], random: (below: number) => number): Image {
  const lastSync = new Map<string, number>();
  for (const [index, one] of changes.entries()) if (one.kind === "sync") lastSync.set(one.file, index);
  const image: Image = new Map();
  // Between nothing and everything: how much of what was not synced is on the disk.
  const keptShare = random(5) * 25;
  const isKept = (): boolean => random(100) < keptShare;
  for (const [index, one] of changes.entries()) {
    if (one.kind === "said" || one.kind === "sync") continue;
    const isSynced = index < (lastSync.get(one.kind === "unlink" ? FOLDER : one.file) ?? -1);
    if (isSynced) change(image, one);
    else if (one.kind !== "write") {
      if (isKept()) change(image, one);
    } else {
      for (let from = 0; from < one.bytes.length; from += SECTOR_BYTES) {
        const bytes = one.bytes.subarray(from, from + SECTOR_BYTES);
        if (isKept()) change(image, { ...one, at: one.at + from, bytes });
      }
    }
  }
  for (const [file, bytes] of image) if (!file.includes("-")) image.set(file, toWholeBlocks(bytes));
  return image;
}
