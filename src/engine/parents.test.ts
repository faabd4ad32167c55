import { describe, expect, test } from "vitest";
import { startEngine } from "./engine.fixture.ts";
import { createParentFinder } from "./parents.ts";

const ROOMY = "limits: [{ name: roomy, per: all, usd: 1000, every: day }]";

async function start() {
  const bench = await startEngine(ROOMY);
  return { ...bench, finder: createParentFinder(bench.flaky.ledger) };
}

describe("the parents of a session", () => {
  test("are those it names, nearest first, and theirs", async () => {
    const { finder } = await start();
    await finder.find("child", ["parent"]);

    expect(await finder.find("grandchild", ["child"])).toEqual(["child", "parent"]);
  });

  test("stay, whether or not they are named again", async () => {
    const { finder } = await start();
    await finder.find("child", ["parent"]);

    expect(await finder.find("child", [])).toEqual(["parent"]);
    expect(await finder.find("child", ["other"])).toEqual(["other", "parent"]);
  });

  test("are none for a session that names none, at once", async () => {
    const { finder } = await start();

    expect(finder.find("alone", [])).toEqual([]);
  });

  test("are never itself, also where sessions name each other in a ring", async () => {
    const { finder } = await start();
    await finder.find("a", ["b"]);

    expect(await finder.find("b", ["a"])).toEqual(["a"]);
    expect(await finder.find("a", ["b"])).toEqual(["b"]);
    expect(await finder.find("a", ["a"])).toEqual(["b"]);
  });

  test("are eight at most", async () => {
    const { finder } = await start();
    for (let depth = 1; depth <= 12; depth += 1) await finder.find(`s${depth}`, [`s${depth - 1}`]);

    expect(await finder.find("s13", ["s12"])).toEqual(["s12", "s11", "s10", "s9", "s8", "s7", "s6", "s5"]);
  });

  test("are read back from the ledger by a process that has not seen them", async () => {
    const bench = await start();
    await bench.engine.open(bench.callOf({ labels: { session: "child", parentSessions: ["parent"] } }));
    const another = createParentFinder(bench.flaky.ledger);

    expect(await another.find("grandchild", ["child"])).toEqual(["child", "parent"]);
  });

  test("are those it names where the ledger cannot be read", async () => {
    const { finder, flaky } = await start();
    flaky.failWith = () => "before";

    expect(await finder.find("child", ["parent"])).toEqual(["parent"]);
  });
});
