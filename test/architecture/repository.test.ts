/**
 * Goal: what the repository promises about itself holds: its entry points exist, its lock file is whole and names no registry, its
 * documents name files that are there, and nothing in it is a secret.
 */
import { spawnSync } from "node:child_process";
import { existsSync, globSync, readFileSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const LEFT_OUT = /(^|\/)(node_modules|dist|\.git|\.tsbuild|\.purser|coverage)(\/|$)/;

const read = (path: string): string => readFileSync(join(ROOT, path), "utf8");

/** Every file that belongs to the project. */
const FILES = globSync("**", { cwd: ROOT, exclude: (name) => LEFT_OUT.test(typeof name === "string" ? name : "") })
  .map((path) => path.replaceAll("\\", "/"))
  .concat(globSync([".ci/*", ".gitignore", ".npmrc", ".oxlintrc.json"], { cwd: ROOT }))
  .filter((path) => !LEFT_OUT.test(path) && statSync(join(ROOT, path)).isFile());

interface Manifest {
  license: string;
  files: string[];
  bin: Record<string, string>;
  exports: Record<string, string | Record<string, string>>;
  scripts: Record<string, string>;
  dependencies: Record<string, string>;
  devDependencies: Record<string, string>;
  optionalDependencies: Record<string, string>;
}

const manifest = JSON.parse(read("package.json")) as Manifest;

describe("the package", () => {
  it("is under the licence it names", () => {
    expect(manifest.license).toBe("Apache-2.0");
    expect(read("LICENSE")).toMatch(/Apache License\s+Version 2\.0, January 2004/);
  });

  it("exports files that are there once it is built, and ships them", () => {
    const built = spawnSync(join(ROOT, "node_modules", ".bin", "tsc"), ["-b"], { cwd: ROOT, encoding: "utf8" });
    expect(built.stdout).toBe("");
    const targets = Object.values(manifest.exports).flatMap((target) =>
      typeof target === "string" ? [target] : Object.values(target),
    );

    const paths = [...targets, ...Object.values(manifest.bin)].map((path) => path.replace(/^\.\//, ""));

    expect(paths.filter((path) => !existsSync(join(ROOT, path)))).toEqual([]);
    const isShipped = (path: string): boolean =>
      path === "package.json" || manifest.files.some((shipped) => path === shipped || path.startsWith(`${shipped}/`));
    expect(paths.filter((path) => !isShipped(path))).toEqual([]);
    expect(manifest.files.filter((path) => !existsSync(join(ROOT, path)))).toEqual([]);
  }, 120_000);

  it("can be imported by its own name", async () => {
    const name = "purser/testing";
    const testing = (await import(name)) as Record<string, unknown>;

    expect(Object.keys(testing)).toEqual(["startOpenAiSimulator", "startSimulator"]);
  });

  it("names every dependency exactly", () => {
    const { dependencies, devDependencies, optionalDependencies } = manifest;
    const versions = Object.entries({ ...dependencies, ...devDependencies, ...optionalDependencies });

    expect(versions.filter(([, version]) => !/^(npm:@?[\w/.-]+@)?\d+\.\d+\.\d+$/.test(version))).toEqual([]);
  });

  it("installs nothing that no line uses", () => {
    const names = Object.keys({ ...manifest.dependencies, ...manifest.devDependencies });
    const text = FILES.filter((path) => /\.(ts|mjs|json)$/.test(path) && !/^(package|package-lock)\.json$/.test(path))
      .map(read)
      .join("\n");

    // Types are used by being there; the type-aware half of the linter is started by the linter; LangChain's core is asked for by its client.
    const implied = new Set(["oxlint-tsgolint", "typescript", "@langchain/core"]);
    expect(names.filter((name) => !name.startsWith("@types/") && !implied.has(name) && !text.includes(name))).toEqual([]);
  });
});

describe("the lock file", () => {
  const lock = JSON.parse(read("package-lock.json")) as {
    packages: Record<string, { version?: string; integrity?: string; resolved?: string; link?: boolean }>;
  };
  const packages = Object.entries(lock.packages).filter(([path]) => path !== "");

  it("holds an integrity for every package", () => {
    expect(packages.length).toBeGreaterThan(50);
    expect(packages.filter(([, { integrity }]) => integrity?.startsWith("sha512-") !== true).map(([path]) => path)).toEqual([]);
  });

  it("names no registry", () => {
    expect(packages.filter(([, { resolved }]) => resolved !== undefined).map(([path]) => path)).toEqual([]);
    expect(read(".npmrc")).not.toMatch(/registry\s*=\s*http/);
  });

  it("holds what the manifest asks for, kept back for a week after its release", () => {
    const root = lock.packages[""] as unknown as Manifest;

    expect(root.dependencies).toEqual(manifest.dependencies);
    expect(root.devDependencies).toEqual(manifest.devDependencies);
    expect(read(".npmrc")).toMatch(/^min-release-age=7$/m);
  });
});

describe("documents", () => {
  const documents = FILES.filter((path) => path.endsWith(".md"));

  it.each(documents)("%s links to files that are there", (path) => {
    const links = [...read(path).matchAll(/\]\((?!https?:|#|mailto:)([^)#\s]+)/g)].flatMap(([, link]) => link ?? []);

    expect(links.filter((link) => !existsSync(join(ROOT, dirname(path), link)))).toEqual([]);
  });

  it.each(documents)("%s names paths and scripts that are there", (path) => {
    const text = read(path);
    const named = [...text.matchAll(/`((?:src|test|docs|scripts|bench|prices|bin)\/[\w./-]*)`/g)].flatMap(
      ([, name]) => name ?? [],
    );
    const scripts = [...text.matchAll(/npm run ([\w:-]+)/g)].flatMap(([, name]) => name ?? []);

    expect(named.filter((name) => !existsSync(join(ROOT, name)))).toEqual([]);
    expect(scripts.filter((name) => !(name in manifest.scripts))).toEqual([]);
  });
});

describe("nothing in the repository", () => {
  /** What keys of providers and clouds look like; short made-up ones ("sk-test") do not. */
  const SECRETS = [
    /sk-ant-[a-z0-9]+-[\w-]{32,}/,
    /sk-(?:proj-)?[A-Za-z0-9]{32,}/,
    /\bAKIA[0-9A-Z]{16}\b/,
    /\bgh[pousr]_[A-Za-z0-9]{36}\b/,
    /\bxox[abprs]-[\w-]{20,}/,
    /\bAIza[\w-]{35}\b/,
    /-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----/,
    /\beyJ[\w-]{20,}\.eyJ[\w-]{20,}\.[\w-]{20,}/,
    /prs_[a-z0-9]{8}_[\w-]{43}_[0-9a-f]{8}/,
  ];

  it("is a secret", () => {
    const found = FILES.flatMap((path) => {
      const text = read(path);
      return SECRETS.filter((secret) => secret.test(text)).map((secret) => `${path}: ${secret.source}`);
    });

    expect(found).toEqual([]);
  });

  it("is a file of somebody's machine", () => {
    const strays = FILES.filter((path) => /(^|\/)(\.env|\.DS_Store|.*\.(db|db-wal|db-shm|pem|key|log))$/.test(path));

    expect(strays).toEqual([]);
  });

  it("stands open: no work is left as a note in the code", () => {
    // Written apart, so that this line is none of them.
    const notes = /\b(T[O]DO|F[I]XME|X[X]X)\b/;

    expect(FILES.filter((path) => /\.(ts|mjs)$/.test(path) && notes.test(read(path)))).toEqual([]);
  });
});
