/**
 * Owns laying the environment's variables over the tree of the file: a variable wins. Does not own which variable stands for which setting
 * (environment.ts).
 */
import { readDocument } from "./document.ts";
import type { Environment } from "./environment.ts";
import { FOR_DEVELOPMENT, namesOf, OTHERS, placeOf, readVariable, SCALARS, VARIABLES } from "./environment.ts";
import type { ConfigNode, MapEntry } from "./node.ts";
import type { Problems } from "./problems.ts";
import { nearest, quote } from "./problems.ts";

/** Lays the variables over the tree of the file. */
export function overlayEnvironment(root: ConfigNode | undefined, env: Environment, problems: Problems): ConfigNode | undefined {
  let tree = root;
  for (const { path, ...names } of SCALARS) {
    const variable = chooseVariable(namesOf({ path, ...names }), env, path.join("."), problems);
    if (variable !== undefined) tree = withValue(tree, path, variable);
  }
  const limits = readVariable(env, "PURSER_LIMITS");
  const limitsNode = limits === undefined ? undefined : readDocument(limits, "PURSER_LIMITS", "limits", problems);
  if (limitsNode !== undefined) tree = withValue(tree, ["limits"], limitsNode);
  warnUnknown(env, problems);
  return tree;
}

function chooseVariable(names: readonly string[], env: Environment, path: string, problems: Problems): ConfigNode | undefined {
  const [first, second] = names.flatMap((name) => {
    const text = readVariable(env, name);
    return text === undefined ? [] : [{ name, text: text.trim() }];
  });
  if (first === undefined) return undefined;
  if (second !== undefined && second.text !== first.text) {
    problems.add(placeOf(second.name, path), quote(second.text), `the same as ${first.name}, which stands for the same setting`);
  }
  return { kind: "text", place: placeOf(first.name, path), text: first.text };
}

/** A tree with one value replaced or added. Where the file holds something that is no map, it stays, and its reader tells. */
function withValue(tree: ConfigNode | undefined, [name, ...rest]: readonly string[], value: ConfigNode): ConfigNode | undefined {
  if (name === undefined) return value;
  if (tree !== undefined && tree.kind !== "map" && tree.kind !== "nothing") return tree;
  const entries: readonly MapEntry[] = tree?.kind === "map" ? tree.entries : [];
  const inner = withValue(entries.find(({ key }) => key === name)?.value, rest, value);
  const others = entries.filter(({ key }) => key !== name);
  const entry = inner === undefined ? [] : [{ key: name, keyPlace: inner.place, value: inner }];
  return { kind: "map", place: tree?.place ?? value.place, entries: [...others, ...entry] };
}

/** A misspelt variable would be ignored in silence, and its setting not hold. */
function warnUnknown(env: Environment, problems: Problems): void {
  const known = [...OTHERS, ...VARIABLES.map(({ name }) => name)];
  for (const name of Object.keys(env).toSorted()) {
    if (!name.startsWith("PURSER_") || known.includes(name) || FOR_DEVELOPMENT.has(name)) continue;
    const meant = nearest(name, known);
    problems.warn(placeOf(name, ""), `no setting has this variable${meant === undefined ? "" : `; did you mean ${meant}?`}`);
  }
}
