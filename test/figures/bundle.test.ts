/**
 * The Bundle figure. Goal: a program that is bundled with `purser/client` carries little of it. Method: the entry point is bundled and
 * minified without the database driver, as a bundler of today does it; what is loaded only where a path is given stands in pieces of its own.
 */
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
// Comes with vitest; a bundler of our own would be one more package for one number.
import { rolldown } from "rolldown";
import { expect, test } from "vitest";
import { reportFigure } from "./figures.ts";

const ENTRY = fileURLToPath(new URL("../../src/client/client.ts", import.meta.url));
const GZIP_BYTES_MAX = 60_000;

test("purser/client with all it always loads is at most 60 kB, compressed, without the database driver", async () => {
  const build = await rolldown({ input: ENTRY, platform: "node", external: ["better-sqlite3"], logLevel: "silent" });
  const { output } = await build.generate({ format: "esm", minify: true });
  await build.close();
  const chunks = output.filter((piece) => piece.type === "chunk");
  const always = new Set<string>();
  const follow = (fileName: string): void => {
    if (always.has(fileName)) return;
    always.add(fileName);
    chunks.find((chunk) => chunk.fileName === fileName)?.imports.forEach(follow);
  };
  chunks.filter(({ isEntry }) => isEntry).forEach(({ fileName }) => follow(fileName));
  const loaded = chunks.filter(({ fileName }) => always.has(fileName));
  const gzipBytes = (pieces: typeof chunks): number => gzipSync(pieces.map(({ code }) => code).join("\n")).length;

  const bytes = gzipBytes(loaded);

  const modules = loaded.flatMap(({ moduleIds }) => moduleIds);
  expect(modules.filter((id) => /node_modules\/yaml\/|\/ledger\/sqlite\//.test(id))).toEqual([]);
  expect(bytes).toBeLessThanOrEqual(GZIP_BYTES_MAX);
  reportFigure(
    "Bundle",
    "client",
    `${(bytes / 1_000).toFixed(1)} kB gzip (allowed ${GZIP_BYTES_MAX / 1_000}), ${(gzipBytes(chunks) / 1_000).toFixed(1)} kB with what only ` +
      "a configuration's file or a ledger's path loads; the ledger's threads and the driver are files of their own",
  );
});
