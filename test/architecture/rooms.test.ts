/**
 * Goal: the rooms are what they say they are. What each may import is written down here once and compared with what the compiler is told
 * and with every import there is; core and what stands on it see no world; every room says what it owns.
 */
import { existsSync, globSync, readFileSync } from "node:fs";
import { dirname, join, normalize, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/** The table of the design: what each room may import. `gateway` and `cli` hold the composition roots, which choose the stores. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  core: [],
  providers: ["core"],
  ledger: ["core"],
  "ledger/memory": ["core", "ledger"],
  "ledger/sqlite": ["core", "ledger"],
  config: ["core"],
  engine: ["core", "providers", "ledger"],
  exchange: ["core", "providers", "ledger", "config", "engine"],
  reports: ["core", "ledger"],
  simulator: [],
  testing: ["core", "ledger", "ledger/memory", "simulator"],
  gateway: ["core", "providers", "ledger", "ledger/sqlite", "config", "engine", "exchange", "reports"],
  client: ["core", "providers", "ledger", "ledger/sqlite", "config", "engine", "exchange", "reports"],
  cli: [
    "core",
    "providers",
    "ledger",
    "ledger/sqlite",
    "config",
    "engine",
    "exchange",
    "reports",
    "gateway",
    "simulator",
    "testing",
  ],
};
const ROOMS = Object.keys(MAY_IMPORT);
/** Rooms that see no clock, no chance, no environment, no input and no output. */
const PURE = ["core", "providers", "ledger", "engine", "reports"];
/** The only files that choose a concrete store. */
const ROOTS = ["src/gateway/serve.ts", "src/client/purser.ts", "src/cli/main.ts", "src/cli/demo/"];

const read = (path: string): string => readFileSync(join(ROOT, path), "utf8");

function roomOf(path: string): string {
  const parts = path.split("/");
  const inner = parts.slice(1, 3).join("/");
  return ROOMS.includes(inner) ? inner : (parts[1] ?? "");
}

/** Shipped sources, as paths from the root. */
const SOURCES = globSync("src/**/*.ts", { cwd: ROOT })
  .map((path) => path.replaceAll("\\", "/"))
  .filter((path) => !/\.(test|fixture)\.ts$/.test(path));

/** Code without comments and without what stands between quotes. */
function codeOf(path: string): string {
  return read(path)
    .replaceAll(/\/\*[\s\S]*?\*\//g, "")
    .replaceAll(/(?<![:"'`])\/\/.*$/gm, "")
    .replaceAll(/"(?:[^"\\\n]|\\.)*"/g, '""');
}

/** What a file imports, as it is written; without types, only what runs. */
function specifiersOf(path: string, { withTypes = true } = {}): string[] {
  const text = read(path).replaceAll(/\/\*[\s\S]*?\*\//g, "");
  const statements = /(?:^|\n)\s*(?:import|export)\s(?:[^;"'`]*?\sfrom\s)?\s*["']([^"']+)["']|\bimport\(\s*["']([^"']+)["']/g;
  return [...text.matchAll(statements)].flatMap(([statement, standing, called]) =>
    !withTypes && /^\s*(import|export) type\s/.test(statement) ? [] : (standing ?? called ?? []),
  );
}

/** Files of ours that a file imports. */
function importsOf(path: string, which: { withTypes?: boolean } = {}): string[] {
  return specifiersOf(path, which)
    .filter((specifier) => specifier.startsWith("."))
    .map((specifier) => normalize(join(dirname(path), specifier)).replaceAll("\\", "/"));
}

interface Project {
  references?: { path: string }[];
  compilerOptions: { types?: string[]; lib?: string[] };
}

const projectOf = (room: string): Project => JSON.parse(read(`src/${room}/tsconfig.json`)) as Project;

describe("the rooms", () => {
  it("are all the folders that hold sources", () => {
    expect(new Set(SOURCES.map(roomOf))).toEqual(new Set(ROOMS));
  });

  it("are all built, in one project each", () => {
    const { references = [] } = JSON.parse(read("tsconfig.json")) as Project;

    expect(references.map(({ path }) => path).toSorted(byText)).toEqual(
      [...ROOMS.map((room) => `./src/${room}`), "./tsconfig.test.json"].toSorted(byText),
    );
  });

  it.each(ROOMS)("%s is told to the compiler with what it may import and nothing else", (room) => {
    const references = (projectOf(room).references ?? []).map(({ path }) =>
      relative("src", join("src", room, path)).replaceAll("\\", "/"),
    );

    expect(references.toSorted(byText)).toEqual([...(MAY_IMPORT[room] ?? [])].toSorted(byText));
  });

  it.each(ROOMS)("%s imports only what it may", (room) => {
    const allowed = new Set([room, ...(MAY_IMPORT[room] ?? [])]);
    const wrong = SOURCES.filter((path) => roomOf(path) === room).flatMap((path) =>
      importsOf(path)
        .filter((imported) => imported.startsWith("src/") && !allowed.has(roomOf(imported)))
        .map((imported) => `${path} imports ${imported}`),
    );

    expect(wrong).toEqual([]);
  });

  it("import files that are there, by their own names", () => {
    const missing = SOURCES.flatMap((path) => importsOf(path).filter((imported) => !existsSync(join(ROOT, imported))));

    expect(missing).toEqual([]);
  });

  it("leave choosing a store to the composition roots", () => {
    const choosing = SOURCES.filter((path) => !/^(ledger\/|testing$)/.test(roomOf(path)))
      .filter((path) => importsOf(path, { withTypes: false }).some((imported) => roomOf(imported).startsWith("ledger/")))
      .filter((path) => !ROOTS.some((root) => path.startsWith(root)));

    expect(choosing).toEqual([]);
  });

  it("do not stand on what is made for tests, except for the demo", () => {
    const standing = SOURCES.filter((path) => !["testing", "simulator"].includes(roomOf(path))).filter(
      (path) =>
        !/^src\/cli\/(demo\/|commands\/demo\.ts$)/.test(path) &&
        importsOf(path).some((imported) => /^src\/(testing|simulator)\//.test(imported)),
    );

    expect(standing).toEqual([]);
  });
});

describe.each(PURE)("%s", (room) => {
  const files = SOURCES.filter((path) => roomOf(path) === room);

  it("names no clock, no chance, no environment, no input and no output", () => {
    const world =
      /(?<![.\w])(Date|Math\.random|Intl|process(?=\.)|globalThis|performance|setTimeout|setInterval|setImmediate|queueMicrotask|fetch|crypto|console|require)\b(?!["'\s]*:)/g;
    const found = files.flatMap((path) => [...codeOf(path).matchAll(world)].map(([name]) => `${path}: ${name}`));

    expect(found).toEqual([]);
  });

  it("imports nothing of Node, and of packages only arithmetic", () => {
    const packages = files.flatMap((path) => specifiersOf(path).filter((specifier) => !specifier.startsWith(".")));

    expect(packages.filter((name) => name !== "temporal-polyfill")).toEqual([]);
  });

  it("is compiled without Node's types", () => {
    expect(projectOf(room).compilerOptions.types ?? []).toEqual([]);
  });
});

describe("the simulator", () => {
  it("imports nothing of ours and no package, so that its books can differ", () => {
    const files = SOURCES.filter((path) => roomOf(path) === "simulator");
    const packages = files.flatMap((path) => specifiersOf(path).filter((specifier) => !/^(\.|node:)/.test(specifier)));

    expect(packages).toEqual([]);
  });
});

describe("every room", () => {
  it.each(ROOMS.filter((room) => !room.includes("/")))(
    "%s says what it owns, what not, what always holds, and how to add to it",
    (room) => {
      const text = existsSync(join(ROOT, "src", room, "README.md")) ? read(`src/${room}/README.md`) : "";

      expect(missingParts(text, [/Owns/, /Does not own/, /Invariants?/, /How to (add|change)/])).toEqual([]);
    },
  );

  it.each(globSync("src/*/*/README.md", { cwd: ROOT }))("%s says what it owns, what not, and what always holds", (path) => {
    expect(missingParts(read(path), [/Owns/, /Does not own/, /Invariants?/])).toEqual([]);
  });

  it("names in its table files that are there", () => {
    const missing = globSync("src/**/README.md", { cwd: ROOT }).flatMap((path) => {
      const rows = read(path)
        .split("\n")
        .filter((line) => line.startsWith("| `"));
      const names = rows.flatMap((row) =>
        [...(row.split("|")[1] ?? "").matchAll(/`([\w./-]+)`/g)].flatMap(([, name]) => name ?? []),
      );
      return names
        .filter((name) => /\.ts$|\/$/.test(name) && !existsSync(join(ROOT, dirname(path), name)))
        .map((name) => `${path}: ${name}`);
    });

    expect(missing).toEqual([]);
  });
});

/** Headings or bold words that are missing. */
function missingParts(text: string, parts: readonly RegExp[]): string[] {
  return parts.filter((part) => !new RegExp(`(^#+ |\\*\\*)${part.source}`, "m").test(text)).map(String);
}

function byText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
