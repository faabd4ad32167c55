/**
 * Owns YAML: text becomes a tree of texts, lists and maps, each with its place. Does not own what any of it means.
 * Invariant: a scalar keeps the characters that were written (`2.00`, `100_000`), because an amount must never pass through a float; and
 * a hostile file (aliases that multiply, nesting without end) becomes a problem, not a crash.
 */
import { isAlias, isCollection, isMap, isScalar, LineCounter, parseDocument } from "yaml";
import type { Document, Pair } from "yaml";
import type { ConfigNode, MapEntry } from "./node.ts";
import { DEPTH_MAX, joinPath } from "./node.ts";
import type { Place, Problems } from "./problems.ts";
import { quote } from "./problems.ts";

/** Large enough for thousands of limits; keeps the time of a broken file under a second. */
const TEXT_LENGTH_MAX = 512 * 1024;
/** Counted after aliases are followed, so that they cannot multiply without end. */
const NODES_MAX = 50_000;

/**
 * Reads one YAML document.
 *
 * @param file the name problems are told with.
 * @param rootPath where the document stands in the configuration: empty for a file, `limits` for the variable of that name.
 * @returns the tree, or `undefined` after noting at least one problem.
 */
export function readDocument(text: string, file: string, rootPath: string, problems: Problems): ConfigNode | undefined {
  const lines = new LineCounter();
  const problemsBefore = problems.problems.length;
  const placeAt = (offset: number, path: string): Place => {
    const { line, col } = lines.linePos(offset);
    return { file, line: Math.max(1, line), column: Math.max(1, col), path };
  };
  if (text.length > TEXT_LENGTH_MAX) {
    return problems.add(placeAt(0, rootPath), `${text.length} characters`, `at most ${TEXT_LENGTH_MAX} characters`);
  }
  const document = parseYaml(text, lines);
  if (document === undefined) return problems.add(placeAt(0, rootPath), "nesting without end", `at most ${DEPTH_MAX} levels`);
  for (const error of [...document.errors, ...document.warnings].slice(0, 20)) {
    problems.add(placeAt(error.pos[0], rootPath), `broken YAML (${firstLine(error.message)})`, "YAML 1.2, one document");
  }
  if (problems.problems.length > problemsBefore) return undefined;
  const tree = new TreeBuilder(document, placeAt, problems).build(document.contents, rootPath, 0, 0);
  return problems.problems.length > problemsBefore ? undefined : tree;
}

function parseYaml(text: string, lines: LineCounter): Document | undefined {
  try {
    // Uniqueness of keys is checked below: the package's own check takes minutes for a map of 60,000 keys.
    return parseDocument(text, { lineCounter: lines, uniqueKeys: false, prettyErrors: false });
  } catch (error) {
    // The parser is recursive: nesting that exhausts the stack is a property of the file, everything else is our mistake.
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}

function firstLine(message: string): string {
  return message.split("\n", 1)[0] ?? message;
}

class TreeBuilder {
  readonly #document: Document;
  readonly #placeAt: (offset: number, path: string) => Place;
  readonly #problems: Problems;
  #nodes = 0;

  constructor(document: Document, placeAt: (offset: number, path: string) => Place, problems: Problems) {
    this.#document = document;
    this.#placeAt = placeAt;
    this.#problems = problems;
  }

  /** @param offset where to point if the node itself has no place (an empty value). */
  build(node: unknown, path: string, offset: number, depth: number): ConfigNode | undefined {
    const place = this.#placeAt(offsetOf(node) ?? offset, path);
    this.#nodes += 1;
    if (this.#nodes > NODES_MAX)
      return this.#nodes === NODES_MAX + 1 ? this.#refuse(place, "too many values", `${NODES_MAX}`) : undefined;
    if (depth > DEPTH_MAX) return this.#refuse(place, "values nested too deep", `${DEPTH_MAX} levels`);
    if (isAlias(node)) return this.#follow(node.source, node.resolve(this.#document), place, path, depth);
    if (isMap(node)) return this.#buildMap(node.items, place, path, depth);
    if (isCollection(node)) return this.#buildList(node.items, place, path, depth);
    const text = scalarText(node);
    return text === undefined ? { kind: "nothing", place } : { kind: "text", place, text };
  }

  #refuse(place: Place, found: string, most: string): undefined {
    return this.#problems.add(place, found, `at most ${most}, aliases followed`);
  }

  #follow(name: string, target: unknown, place: Place, path: string, depth: number): ConfigNode | undefined {
    if (target === undefined)
      return this.#problems.add(place, `the alias ${quote(`*${name}`)}`, "aliases of an anchor before them");
    const node = this.build(target, path, 0, depth + 1);
    // A mistake in what an alias brings in is told where it is used.
    return node === undefined ? undefined : { ...node, place };
  }

  #buildList(items: readonly unknown[], place: Place, path: string, depth: number): ConfigNode {
    const built = items.map((item, index) => this.build(item, `${path}[${index}]`, 0, depth + 1));
    return { kind: "list", place, items: built.filter((item) => item !== undefined) };
  }

  #buildMap(pairs: readonly Pair[], place: Place, path: string, depth: number): ConfigNode {
    const entries: MapEntry[] = [];
    const firstPlaces = new Map<string, Place>();
    for (const pair of pairs) {
      const key = scalarText(pair.key);
      const offset = offsetOf(pair.key) ?? 0;
      if (key === undefined) {
        this.#problems.add(this.#placeAt(offset, path), "a key that is no plain text", "a name as key");
        continue;
      }
      const keyPath = joinPath(path, key);
      const keyPlace = this.#placeAt(offset, keyPath);
      const first = firstPlaces.get(key);
      if (first !== undefined) {
        this.#problems.add(keyPlace, `the key ${quote(key)} a second time`, `each key once; the first is on line ${first.line}`);
        continue;
      }
      firstPlaces.set(key, keyPlace);
      const value = this.build(pair.value, keyPath, offset, depth + 1);
      if (value !== undefined) entries.push({ key, keyPlace, value });
    }
    return { kind: "map", place, entries };
  }
}

/** The characters of a scalar: a quoted text without its quotes, anything else as it was written. */
function scalarText(node: unknown): string | undefined {
  if (!isScalar(node) || node.value === null) return undefined;
  return typeof node.value === "string" ? node.value : node.source;
}

function offsetOf(node: unknown): number | undefined {
  if (!isScalar(node) && !isCollection(node) && !isAlias(node)) return undefined;
  return node.range?.[0];
}
