/**
 * Owns reading a request's body: whole, bounded, decoded. Does not own what is in it (providers/).
 * Invariants: never more than the limit is held, before and after decoding; what is refused is refused as soon as it is known.
 */
import type { IncomingMessage } from "node:http";
import { createGunzip } from "node:zlib";

export type BodyResult =
  | { outcome: "read"; body: Buffer }
  | { outcome: "too_large"; found: string }
  | { outcome: "unsupported_encoding"; found: string }
  | { outcome: "malformed"; problem: string }
  /** The caller left before it had sent everything. */
  | { outcome: "gone" };

/** Reads a body of at most `bytesMax` bytes, as sent and as decoded. */
export async function readBody(request: IncomingMessage, bytesMax: number): Promise<BodyResult> {
  const encoding = (request.headers["content-encoding"] ?? "identity").trim().toLowerCase();
  if (encoding !== "identity" && encoding !== "gzip") return { outcome: "unsupported_encoding", found: encoding };
  const declared = Number(request.headers["content-length"] ?? 0);
  if (declared > bytesMax) return { outcome: "too_large", found: `${declared} bytes` };
  return encoding === "gzip" ? readGzip(request, bytesMax) : readPlain(request, bytesMax);
}

async function readPlain(request: IncomingMessage, bytesMax: number): Promise<BodyResult> {
  const chunks: Buffer[] = [];
  let length = 0;
  try {
    // Left before its end, the request goes on: whoever sends it has to be able to read the answer.
    for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      length += chunk.length;
      if (length > bytesMax) return { outcome: "too_large", found: `more than ${bytesMax} bytes` };
      chunks.push(chunk);
    }
  } catch {
    // An incoming body breaks off in one way only: its sender left.
    return { outcome: "gone" };
  }
  const [only] = chunks;
  return { outcome: "read", body: chunks.length === 1 && only !== undefined ? only : Buffer.concat(chunks, length) };
}

async function readGzip(request: IncomingMessage, bytesMax: number): Promise<BodyResult> {
  const gunzip = createGunzip();
  request.on("error", () => gunzip.destroy(new Error("gone")));
  request.on("aborted", () => gunzip.destroy(new Error("gone")));
  request.pipe(gunzip);
  const chunks: Buffer[] = [];
  let length = 0;
  try {
    for await (const chunk of gunzip as AsyncIterable<Buffer>) {
      length += chunk.length;
      if (length > bytesMax) return { outcome: "too_large", found: `more than ${bytesMax} bytes once decoded` };
      chunks.push(chunk);
    }
  } catch (error) {
    if (request.destroyed && !request.complete) return { outcome: "gone" };
    return {
      outcome: "malformed",
      problem: `its gzip encoding is broken (${error instanceof Error ? error.message : "unknown"})`,
    };
  }
  return { outcome: "read", body: Buffer.concat(chunks, length) };
}
