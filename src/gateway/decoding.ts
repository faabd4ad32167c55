/**
 * Owns reading along with an answer that its upstream compressed although it was asked not to: the caller gets the bytes as they came,
 * the meter gets them decoded. Invariant: decoding is bounded, so that no answer can fill the memory.
 */
import { createBrotliDecompress, createGunzip, createInflate } from "node:zlib";
import type { ResponseMeter } from "../providers/provider.ts";

/** More than any answer; a bomb reaches it and is metered as unreadable. */
const DECODED_BYTES_MAX = 256 * 1_024 * 1_024;

export interface MeterFeed {
  push(chunk: Uint8Array): void;
  /** Resolves once everything pushed was read. */
  end(): Promise<void>;
}

/** Feeds a meter with an answer in this `content-encoding`. */
export function feedMeter(meter: ResponseMeter, encoding: string | undefined): MeterFeed {
  const decoder = decoderFor(encoding?.trim().toLowerCase());
  if (decoder === undefined) {
    return {
      push: (chunk) => meter.push(chunk),
      end: () => {
        meter.end();
        return Promise.resolve();
      },
    };
  }
  let decodedBytes = 0;
  let isBroken = false;
  const finished = new Promise<void>((resolve) => {
    decoder.on("data", (chunk: Buffer) => {
      decodedBytes += chunk.length;
      if (decodedBytes > DECODED_BYTES_MAX) decoder.destroy();
      else meter.push(chunk);
    });
    decoder.on("close", resolve);
    // An encoding that breaks off is an answer that breaks off: what was read so far counts.
    decoder.on("error", () => {
      isBroken = true;
    });
  });
  return {
    push(chunk) {
      if (!isBroken && !decoder.destroyed) decoder.write(chunk);
    },
    async end() {
      if (!isBroken && !decoder.destroyed) decoder.end();
      await finished;
      meter.end();
    },
  };
}

function decoderFor(encoding: string | undefined) {
  if (encoding === "gzip" || encoding === "x-gzip") return createGunzip();
  if (encoding === "deflate") return createInflate();
  if (encoding === "br") return createBrotliDecompress();
  return undefined;
}
