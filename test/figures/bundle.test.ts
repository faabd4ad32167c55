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

test("purser/client with all that calls to one provider load is at most 60 kB, compressed, without the database driver", async () => {
  const build = await rolldown({ input: ENTRY, platform: "node", external: ["better-sqlite3"], logLevel: "silent" });
  const { output } = await build.generate({ format: "esm", minify: true });
  await build.close();
  const chunks = output.filter((piece) => piece.type === "chunk");
  const withImports = (start: typeof chunks): typeof chunks => {
    const names = start.flatMap(({ imports }) => imports);
    const more = chunks.filter((chunk) => names.includes(chunk.fileName) && !start.includes(chunk));
    return more.length === 0 ? start : withImports([...start, ...more]);
  };
  const gzipBytes = (pieces: typeof chunks): number => gzipSync(pieces.map(({ code }) => code).join("\n")).length;
  const sizeWith = (provider: string): number => {
    const own = chunks.filter(({ facadeModuleId }) => facadeModuleId?.endsWith(`/providers/${provider}.ts`) === true);
    expect(own).toHaveLength(1);
    const loaded = withImports([...chunks.filter(({ isEntry }) => isEntry), ...own]);
    const modules = loaded.flatMap(({ moduleIds }) => moduleIds);
    expect(modules.filter((id) => /node_modules\/|\/ledger\/sqlite\//.test(id))).toEqual([]);
    return gzipBytes(loaded);
  };

  const bytes = { anthropic: sizeWith("anthropic/anthropic"), openai: sizeWith("openai/openai") };

  expect(Math.max(bytes.anthropic, bytes.openai)).toBeLessThanOrEqual(GZIP_BYTES_MAX);
  const kB = (size: number): string => (size / 1_000).toFixed(1);
  reportFigure(
    "Bundle",
    "client",
    `${kB(bytes.anthropic)} kB gzip for a program that calls Anthropic, ${kB(bytes.openai)} for one that calls OpenAI (allowed ` +
      `${kB(GZIP_BYTES_MAX)}); ${kB(gzipBytes(chunks))} with all that only a second provider, a configuration's file, a ledger's path or ` +
      "a status loads; the ledger's threads and the driver are files of their own",
  );
});
