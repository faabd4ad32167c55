/**
 * Owns reading a request's body: whole, bounded, decoded. Does not own what is in it (providers/).
 * Invariants: never more than the limit is held, before and after decoding, nor more than there is memory for all bodies together; what
 * is refused is refused as soon as it is known.
 */
import type { IncomingMessage } from "node:http";
import { createGunzip } from "node:zlib";

export type BodyResult =
  | { outcome: "read"; body: Buffer }
  | { outcome: "too_large"; found: string }
  | { outcome: "unsupported_encoding"; found: string }
  | { outcome: "malformed"; problem: string }
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
export async function readBody(request: IncomingMessage, bytesMax: number, memory: BodyMemory): Promise<BodyResult> {
  const encoding = (request.headers["content-encoding"] ?? "identity").trim().toLowerCase();
  if (encoding !== "identity" && encoding !== "gzip") return { outcome: "unsupported_encoding", found: encoding };
  const declared = Number(request.headers["content-length"] ?? 0);
  if (declared > bytesMax) return { outcome: "too_large", found: `${declared} bytes` };
  const kept = keepChunks(bytesMax, memory);
  const result = encoding === "gzip" ? await readGzip(request, kept) : await readPlain(request, kept);
  if (result.outcome !== "read") kept.giveBack();
  return result;
}

interface Kept {
  /** Why nothing more is kept; `undefined`: it is. */
  add(chunk: Buffer): BodyResult | undefined;
  whole(): Buffer;
  giveBack(): void;
}

function keepChunks(bytesMax: number, memory: BodyMemory): Kept {
  const chunks: Buffer[] = [];
  let length = 0;
  return {
    add(chunk) {
      if (length + chunk.length > bytesMax) return { outcome: "too_large", found: `more than ${bytesMax} bytes` };
      if (!memory.take(chunk.length)) return { outcome: "overloaded" };
      length += chunk.length;
      chunks.push(chunk);
      return undefined;
    },
    whole() {
      const [only] = chunks;
      return chunks.length === 1 && only !== undefined ? only : Buffer.concat(chunks, length);
    },
    giveBack: () => memory.giveBack(length),
  };
}

async function readPlain(request: IncomingMessage, kept: Kept): Promise<BodyResult> {
  try {
    // Left before its end, the request goes on: whoever sends it has to be able to read the answer.
    for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      const problem = kept.add(chunk);
      if (problem !== undefined) return problem;
    }
  } catch {
    // An incoming body breaks off in one way only: its sender left.
    return { outcome: "gone" };
  }
  return { outcome: "read", body: kept.whole() };
}

async function readGzip(request: IncomingMessage, kept: Kept): Promise<BodyResult> {
  const gunzip = createGunzip();
  request.on("error", () => gunzip.destroy(new Error("gone")));
  request.on("aborted", () => gunzip.destroy(new Error("gone")));
  request.pipe(gunzip);
  try {
    for await (const chunk of gunzip as AsyncIterable<Buffer>) {
      const problem = kept.add(chunk);
      if (problem !== undefined) return problem;
    }
  } catch (error) {
    if (request.destroyed && !request.complete) return { outcome: "gone" };
    return {
      outcome: "malformed",
      problem: `its gzip encoding is broken (${error instanceof Error ? error.message : "unknown"})`,
    };
  }
  return { outcome: "read", body: kept.whole() };
}
