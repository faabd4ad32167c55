/** The simulator's books can differ from Purser's only while it shares no code with it. */
import { readdirSync, readFileSync } from "node:fs";
import { expect, it } from "vitest";

const FOLDER = new URL("./", import.meta.url);
const SHIPPED = readdirSync(FOLDER).filter((name) => name.endsWith(".ts") && !/\.(test|fixture)\.ts$/.test(name));

function importsOf(name: string): string[] {
  const text = readFileSync(new URL(name, FOLDER), "utf8");
  const statements = text.matchAll(
    /^(?:import|export)\b[^;"=]*?\bfrom "([^"]+)"|^import "([^"]+)"|\b(?:import|require)\("([^"]+)"\)/gm,
  );
  return [...statements].map((match) => match.slice(1).find(Boolean) ?? "");
}

it.each(SHIPPED)("%s imports only node builtins and its own folder", (name) => {
  const foreign = importsOf(name).filter((target) => !target.startsWith("node:") && !/^\.\/[^/]+\.ts$/.test(target));

  expect(foreign).toEqual([]);
});

it("finds the imports it judges", () => {
  expect(SHIPPED).toContain("simulator.ts");
  expect(importsOf("simulator.ts")).toEqual(expect.arrayContaining(["node:http", "./bill.ts"]));
});
