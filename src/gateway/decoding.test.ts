import { brotliCompressSync, constants, createGzip, deflateSync, gzipSync } from "node:zlib";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { ResponseMeter } from "../providers/provider.ts";
import { feedMeter } from "./decoding.ts";

/** A meter that keeps what it was given. */
function createKeepingMeter() {
  const chunks: Buffer[] = [];
  let ends = 0;
  let bytes = 0;
  const meter: ResponseMeter = {
    push: (chunk) => {
      bytes += chunk.length;
      if (bytes < 10_000_000) chunks.push(Buffer.from(chunk));
    },
    end: () => void (ends += 1),
    reading: () => ({ usage: undefined, isFinal: false, model: undefined, stopReason: undefined, error: undefined }),
  };
  return { meter, text: () => Buffer.concat(chunks).toString(), ends: () => ends, bytes: () => bytes };
}

async function feed(encoding: string | undefined, chunks: readonly Uint8Array[]) {
  const kept = createKeepingMeter();
  const feeding = feedMeter(kept.meter, encoding);
  for (const chunk of chunks) feeding.push(chunk);
  await feeding.end();
  return kept;
}

const TEXT = "event: message_start\ndata: Grüße 🙂\n\n".repeat(500);
const ENCODED: [string, Uint8Array][] = [
  ["gzip", gzipSync(TEXT)],
  ["x-gzip", gzipSync(TEXT)],
  [" GZIP ", gzipSync(TEXT)],
  ["deflate", deflateSync(TEXT)],
  ["br", brotliCompressSync(TEXT)],
];

describe("an answer that was compressed", () => {
  test.each(ENCODED)("with %s is read as it was written, and its end is told once", async (encoding, bytes) => {
    const kept = await feed(encoding, [bytes]);

    expect(kept.text()).toBe(TEXT);
    expect(kept.ends()).toBe(1);
  });

  test("is read the same however it is cut", async () => {
    const places = fc.array(fc.nat(gzipSync(TEXT).length), { maxLength: 20 });
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...ENCODED), places, async ([encoding, bytes], cuts) => {
        const sorted = [0, ...cuts.filter((cut) => cut <= bytes.length).toSorted((left, right) => left - right), bytes.length];
        const chunks = sorted.slice(1).map((end, index) => bytes.subarray(sorted[index], end));
        expect((await feed(encoding, chunks)).text()).toBe(TEXT);
      }),
      { numRuns: 30 },
    );
  });

  test("is read as it comes, not at its end", async () => {
    const gzip = createGzip();
    const kept = createKeepingMeter();
    const feeding = feedMeter(kept.meter, "gzip");
    gzip.on("data", (chunk: Buffer) => feeding.push(chunk));
    gzip.write("first");
    await new Promise<void>((resolve) => gzip.flush(constants.Z_SYNC_FLUSH, resolve));
    while (kept.text() !== "first") await new Promise((resolve) => setImmediate(resolve));

    expect(kept.ends()).toBe(0);
    gzip.destroy();
    await feeding.end();
  });

  test.each(ENCODED)("with %s and breaks off counts as far as it came", async (encoding, bytes) => {
    const kept = await feed(encoding, [bytes.subarray(0, bytes.length - 12)]);

    expect(TEXT.startsWith(kept.text())).toBe(true);
    expect(kept.ends()).toBe(1);
  });

  test("and is none counts as nothing, and ends", async () => {
    const kept = await feed("gzip", [new TextEncoder().encode("this is not gzip"), new Uint8Array(100_000)]);

    expect(kept.text()).toBe("");
    expect(kept.ends()).toBe(1);
  });

  test("and unfolds without an end is read no further than 256 MiB", async () => {
    const bomb = brotliCompressSync(Buffer.alloc(400 * 1_024 * 1_024), { params: { [constants.BROTLI_PARAM_QUALITY]: 1 } });
    const kept = await feed("br", [bomb, bomb]);

    expect(kept.bytes()).toBeLessThanOrEqual(256 * 1_024 * 1_024);
    expect(kept.ends()).toBe(1);
  });
});

test.each([undefined, "identity", "zstd"])("an answer with the encoding %s is handed on as it is", async (encoding) => {
  const kept = await feed(encoding, [new TextEncoder().encode(TEXT)]);

  expect(kept.text()).toBe(TEXT);
  expect(kept.ends()).toBe(1);
});
