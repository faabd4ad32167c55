/**
 * The world as the engine sees it: this machine's clock, random names, keyed fingerprints, and which processes live.
 * Invariant: within a process the clock never goes back, whatever is done to the machine's.
 */
import { createHash, hash, randomBytes } from "node:crypto";
import { readFileSync, readlinkSync } from "node:fs";
import { hostname } from "node:os";
import type { Clock, FingerprintChain, IdSource } from "../engine/ports.ts";
import type { Owner } from "../ledger/ledger.ts";

/** Smaller steps back are noise of the two clocks; larger ones are somebody setting the clock. */
const STEP_BACK_MS = 1_000;

/** The two clocks of a machine: one that people set, and one that only goes on. */
export interface MachineClocks {
  wallMs(): number;
  monotonicMs(): number;
}

const THIS_MACHINE: MachineClocks = { wallMs: () => Date.now(), monotonicMs: () => performance.now() };

/** Follows the machine's clock forwards, and where that is set back goes on from where it was. */
export function createSystemClock(clocks = THIS_MACHINE): Clock {
  // With its fraction: looked at more than once a millisecond, a clock that only kept whole ones would stand still.
  let lastMs = clocks.wallMs();
  let lastMonotonicMs = clocks.monotonicMs();
  return {
    nowMs() {
      const wallMs = clocks.wallMs();
      const monotonicMs = clocks.monotonicMs();
      const expectedMs = lastMs + (monotonicMs - lastMonotonicMs);
      lastMs = wallMs < expectedMs - STEP_BACK_MS ? expectedMs : Math.max(wallMs, lastMs);
      lastMonotonicMs = monotonicMs;
      return Math.floor(lastMs);
    },
    after(waitMs, callBack, isBackground = false) {
      // setTimeout holds at most 2^31 - 1 ms; whoever waits longer looks again then.
      const timer = setTimeout(callBack, Math.min(waitMs, 2 ** 31 - 1));
      if (isBackground) timer.unref();
      return () => clearTimeout(timer);
    },
  };
}

const ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz";

/** The bytes as one number of many bits, five bits a letter, filled up with zeros in front. */
function toBase32(bytes: Uint8Array): string {
  let text = "";
  let bits = 0;
  let bitCount = 0;
  for (let index = bytes.length - 1; index >= 0; index -= 1) {
    bits |= (bytes[index] ?? 0) << bitCount;
    bitCount += 8;
    for (; bitCount >= 5; bitCount -= 5) {
      text = (ALPHABET[bits & 31] ?? "") + text;
      bits >>= 5;
    }
  }
  return bitCount > 0 ? (ALPHABET[bits] ?? "") + text : text;
}

/** Drawn from the system for many names at once: a draw costs more than all the rest of a name. */
const DRAWN_BYTES = 4_000;
const CHANCE_BYTES = 10;

/** Names of 48 bits of time and 80 of chance (as UUIDv7 and ULID have them), sortable as text. */
export function createIdSource(clock: Clock): IdSource {
  let drawn = randomBytes(DRAWN_BYTES);
  let used = 0;
  return {
    next(prefix) {
      const bytes = new Uint8Array(16);
      let atMs = clock.nowMs();
      for (let index = 5; index >= 0; index -= 1) {
        bytes[index] = atMs % 256;
        atMs = Math.floor(atMs / 256);
      }
      if (used === DRAWN_BYTES) {
        drawn = randomBytes(DRAWN_BYTES);
        used = 0;
      }
      bytes.set(drawn.subarray(used, used + CHANCE_BYTES), 6);
      used += CHANCE_BYTES;
      return `${prefix}_${toBase32(bytes)}`;
    },
    named: (prefix, text) => `${prefix}_k${toBase32(createHash("sha256").update(text).digest().subarray(0, 16))}`,
  };
}

const HASH_BYTES = 32;
/** One character a byte: 128 bits of a hash. */
const FINGERPRINT_CHARS = 16;

/**
 * Fingerprints under a key drawn at start: gone with the process. Each is the hash of the key, the one before and the hash of its part,
 * always of the same length, which makes it a keyed hash by itself: objects for HMAC cost ten times as much as all of this.
 */
export function createFingerprints(): FingerprintChain {
  const link = Buffer.concat([randomBytes(HASH_BYTES), Buffer.alloc(2 * HASH_BYTES)]);
  return (parts) => {
    link.fill(0, HASH_BYTES);
    return parts.map((part) => {
      link.write(hash("sha256", part, "binary"), 2 * HASH_BYTES, "latin1");
      const whole = hash("sha256", link, "binary");
      link.write(whole, HASH_BYTES, "latin1");
      return whole.slice(0, FINGERPRINT_CHARS);
    });
  };
}

/** SHA-256 of a secret, in hex: what is stored of it. */
export function hashSecret(secret: string): string {
  return createHash("sha256").update(secret).digest("hex");
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    // Not Linux, or not ours to read: what cannot be seen is unknown, and silence decides instead.
    return undefined;
  }
}

/** Fields 3 and 22 of /proc/PID/stat, behind the process's name: its state, and when it started, in ticks since boot. */
function readProcess(pid: number): { state: string; start: string } | undefined {
  const stat = readText(`/proc/${pid}/stat`);
  const fields = stat?.slice(stat.lastIndexOf(")") + 2).split(" ");
  return fields === undefined ? undefined : { state: fields[0] ?? "", start: fields[19] ?? "" };
}

/**
 * Names what a pid is unique in: the machine and, inside it, the container. Images often come with an empty machine id, and two
 * containers of one machine count their processes apart.
 */
function machineIdOf(): string {
  const machine = readText("/etc/machine-id");
  return [machine === undefined || machine === "" ? hostname() : machine, readLink("/proc/self/ns/pid") ?? ""].join(" ");
}

function readLink(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    // Without /proc there is no pid namespace to tell apart either.
    return undefined;
  }
}

/** This process, as other processes can check it. */
export function describeThisProcess(ownerId: string, startedAtMs: number): Owner {
  return {
    ownerId,
    pid: process.pid,
    processStart: readProcess(process.pid)?.start ?? "",
    bootId: readText("/proc/sys/kernel/random/boot_id") ?? "",
    machineId: machineIdOf(),
    startedAtMs,
    beatAtMs: startedAtMs,
  };
}

/** True if the owner is proven dead; false if it is proven alive; `undefined` where that cannot be seen from here. */
export function isOwnerDead(owner: Owner, me: Owner): boolean | undefined {
  if (owner.machineId !== me.machineId || owner.bootId === "" || me.bootId === "") return undefined;
  if (owner.bootId !== me.bootId) return true;
  if (owner.processStart === "" || me.processStart === "") return undefined;
  // Another one in this process, such as a worker's that was ended: only its silence tells.
  if (owner.pid === me.pid && owner.processStart === me.processStart && owner.ownerId !== me.ownerId) return undefined;
  const found = readProcess(owner.pid);
  // Nothing there can mean that another user's processes are hidden.
  if (found === undefined) return isPidFree(owner.pid) ? true : undefined;
  // One that ended and was never waited for keeps its entry, and nothing else.
  return found.start !== owner.processStart || found.state === "Z" || found.state === "X";
}

/** True only if the system says that there is no such process: one it does not let us signal is there. */
function isPidFree(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "ESRCH";
  }
}
