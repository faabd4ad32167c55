/**
 * Owns reading a request's body: whole, bounded, decoded. Does not own what is in it (providers/).
 * Invariants: never more than the limit is held, before and after decoding, nor more than there is memory for all bodies together; what
 * is refused is refused as soon as it is known.
 */
import type { IncomingMessage } from "node:http";
import { createGunzip } from "node:zlib";
import type { SlowBodies } from "./slow-bodies.ts";

export type BodyResult =
  | { outcome: "read"; body: Buffer }
  | { outcome: "too_large"; found: string }
  | { outcome: "unsupported_encoding"; found: string }
  | { outcome: "malformed"; problem: string }
  | { outcome: "too_slow" }
  /** Bodies of other calls fill what memory there is for them. */
  | { outcome: "overloaded" }
  /** The caller left before it had sent everything. */
  | { outcome: "gone" };

/** Counts the bytes of all bodies that are held at once: calls that wait hold theirs. */
export interface BodyMemory {
  /** False: there is no room for so many more; nothing is taken then. */
  take(bytes: number): boolean;
  giveBack(bytes: number): void;
}

/** @param bytesMax what all bodies together may take. */
export function createBodyMemory(bytesMax: number): BodyMemory {
  let held = 0;
  return {
    take(bytes) {
      if (held + bytes > bytesMax) return false;
      held += bytes;
      return true;
    },
    giveBack: (bytes) => void (held -= bytes),
  };
}

/**
 * Reads a body of at most `bytesMax` bytes, as sent and as decoded.
 *
 * @returns `read`: its bytes are taken from the memory, for the caller to give back.
 */
export async function readBody(
  request: IncomingMessage,
  { bytesMax, memory, slowBodies, nowMs }: { bytesMax: number; memory: BodyMemory; slowBodies: SlowBodies; nowMs: number },
): Promise<BodyResult> {
  const encoding = (request.headers["content-encoding"] ?? "identity").trim().toLowerCase();
  if (encoding !== "identity" && encoding !== "gzip") return { outcome: "unsupported_encoding", found: encoding };
  const declared = Number(request.headers["content-length"] ?? 0);
  if (declared > bytesMax) return { outcome: "too_large", found: `${declared} bytes` };
  const kept = new KeptChunks({ bytesMax, memory, expectedBytes: encoding === "gzip" ? 0 : declared });
  const result = await readInto(kept, request, { isGzip: encoding === "gzip", slowBodies, nowMs });
  if (result.outcome !== "read") kept.giveBack();
  return result;
}

/** Bodies up to this size are put together as they come; of larger ones too little may ever arrive to set so much apart. */
const ASSEMBLED_BYTES_MAX = 1_048_576;

/** The chunks of one body. */
class KeptChunks {
  readonly #bytesMax: number;
  readonly #memory: BodyMemory;
  readonly #expectedBytes: number;
  readonly #chunks: Buffer[] = [];
  /** Of the length that was announced, filled up to `bytes`. */
  #assembled: Buffer | undefined;
  bytes = 0;

  /** @param input.expectedBytes how many will come; 0: unknown. */
  constructor(input: { bytesMax: number; memory: BodyMemory; expectedBytes: number }) {
    this.#bytesMax = input.bytesMax;
    this.#memory = input.memory;
    this.#expectedBytes = input.expectedBytes;
  }

  /** @returns why it is not kept; `undefined`: it is. */
  add(chunk: Buffer): BodyResult | undefined {
    if (this.bytes + chunk.length > this.#bytesMax) return { outcome: "too_large", found: `more than ${this.#bytesMax} bytes` };
    if (!this.#memory.take(chunk.length)) return { outcome: "overloaded" };
    this.#keep(chunk);
    this.bytes += chunk.length;
    return undefined;
  }

  #keep(chunk: Buffer): void {
    const expected = this.#expectedBytes;
    const isFirstOfMore = this.bytes === 0 && chunk.length < expected && expected <= ASSEMBLED_BYTES_MAX;
    if (isFirstOfMore) this.#assembled = Buffer.allocUnsafeSlow(expected);
    if (this.#assembled === undefined) this.#chunks.push(chunk);
    else chunk.copy(this.#assembled, this.bytes);
  }

  whole(): Buffer {
    // A body of an announced length ends with it: Node takes nothing less for a whole one.
    if (this.#assembled !== undefined) return this.#assembled.subarray(0, this.bytes);
    const [only] = this.#chunks;
    return this.#chunks.length === 1 && only !== undefined ? only : Buffer.concat(this.#chunks, this.bytes);
  }

  giveBack(): void {
    this.#memory.giveBack(this.bytes);
  }
}

/** By events: an iterator costs more promises than the rest of a small call. */
function readInto(
  kept: KeptChunks,
  request: IncomingMessage,
  { isGzip, slowBodies, nowMs }: { isGzip: boolean; slowBodies: SlowBodies; nowMs: number },
): Promise<BodyResult> {
  return new Promise((resolve) => {
    const gunzip = isGzip ? createGunzip() : undefined;
    const source = gunzip ?? request;
    let isDone = false;
    const done = (result: BodyResult): void => {
      if (isDone) return;
      isDone = true;
      unwatch();
      source.off("data", add).off("end", whole);
      // Left before its end, the request goes on: whoever sends it has to be able to read the answer.
      if (gunzip !== undefined) {
        request.unpipe(gunzip);
        gunzip.destroy();
      }
      resolve(result);
    };
    const add = (chunk: Buffer): void => {
      const problem = kept.add(chunk);
      if (problem !== undefined) done(problem);
    };
    const whole = (): void => done({ outcome: "read", body: kept.whole() });
    // An incoming body breaks off in one way only: its sender left. What came last may not have been read yet.
    const gone = (): void => {
      if (!request.readableEnded) done({ outcome: "gone" });
    };
    const unwatch = slowBodies.watch({
      sinceMs: nowMs,
      get bytes() {
        return kept.bytes;
      },
      tooSlow: () => done({ outcome: "too_slow" }),
    });
    source.on("data", add).on("end", whole);
    request.on("error", gone).on("close", gone);
    if (gunzip === undefined) return;
    gunzip.on("error", ({ message }) => done({ outcome: "malformed", problem: `its gzip encoding is broken (${message})` }));
    request.pipe(gunzip);
  });
}
