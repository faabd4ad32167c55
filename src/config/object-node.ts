/**
 * Owns making the tree of a configuration that was written in code. Does not own what any of it means: it goes through the same readers
 * as a file's.
 * Invariant: an amount is read from its digits; `"0.10"` and `0.1` are the same, whatever a float makes of them.
 */
import type { ConfigNode, MapEntry } from "./node.ts";
import { DEPTH_MAX, joinPath } from "./node.ts";
import type { Place, Problems } from "./problems.ts";

/**
 * @param file the name problems are told with.
 * @returns the tree, or `undefined` after noting at least one problem.
 */
export function fromObject(value: unknown, file: string, rootPath: string, problems: Problems): ConfigNode | undefined {
  const before = problems.problems.length;
  const node = build(value, { file, line: undefined, column: undefined, path: rootPath }, 0, problems);
  return problems.problems.length > before ? undefined : node;
}

function build(value: unknown, place: Place, depth: number, problems: Problems): ConfigNode | undefined {
  if (depth > DEPTH_MAX) return problems.add(place, "values nested too deep", `at most ${DEPTH_MAX} levels`);
  const inner = (path: string, item: unknown): ConfigNode | undefined => build(item, { ...place, path }, depth + 1, problems);
  switch (typeof value) {
    case "string":
      return { kind: "text", place, text: value };
    case "number":
    case "bigint":
    case "boolean":
      return { kind: "text", place, text: String(value) };
    case "undefined":
      return undefined;
    case "object":
      break;
    default:
      return problems.add(place, `a ${typeof value}`, "text, numbers, lists and plain objects");
  }
  if (value === null) return { kind: "nothing", place };
  if (Array.isArray(value)) {
    const items = value.map((item, index) => inner(`${place.path}[${index}]`, item));
    return { kind: "list", place, items: items.filter((item) => item !== undefined) };
  }
  const entries = Object.entries(value).flatMap(([key, item]): MapEntry[] => {
    const path = joinPath(place.path, key);
    const built = inner(path, item);
    return built === undefined ? [] : [{ key, keyPlace: { ...place, path }, value: built }];
  });
  return { kind: "map", place, entries };
}
