/**
 * Goal: a limit counts what tools an agent runs, by name, and refuses one before it runs, with an answer for the model; nothing else of the
 * agent is touched, and an invocation counts once.
 */
import { execFile } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { createPurser, isToolRefusal, type LimitObject, type Purser } from "../../../src/client/entry.ts";
import { verifySqliteLedger } from "../../../src/ledger/sqlite/verify.ts";
import { messageInit, startClientBench } from "./harness.ts";

const ENTRY = fileURLToPath(new URL("../../../src/client/entry.ts", import.meta.url));

const limitOf = (more: Partial<LimitObject>): LimitObject => ({
  name: "tools",
  per: "session",
  every: "day",
  toolCalls: 2,
  ...more,
});

const spentOf = async (purser: Purser) => (await purser.status()).map(({ limit, scope, spent }) => [limit, scope, spent]);

/** A tool that says what it was asked, and how often it ran. */
function echoOf(purser: Purser, name = "echo") {
  const ran: unknown[] = [];
  const echo = purser.tool(name, (text: string, ..._beside: unknown[]) => {
    ran.push(text);
    return `heard ${text}`;
  });
  return { echo, ran };
}

describe("purser.tool", () => {
  it("holds a limit of sessions where nobody names one", async () => {
    const { purser } = await startClientBench({ limits: [limitOf({})] });
    const { echo, ran } = echoOf(purser);

    for (const text of ["one", "two", "three", "four"]) await echo(text);

    expect(ran).toEqual(["one", "two"]);
    expect(await spentOf(purser)).toEqual([["tools", { session: "default" }, 2]]);
  });

  it("counts by name, and refuses before the tool runs, until when, in words for the model", async () => {
    const { purser } = await startClientBench({ limits: [limitOf({ per: ["agent", "tool"] })] });
    const [{ echo, ran }, { echo: other }] = [echoOf(purser), echoOf(purser, "other")];
    const asAgent = <Result>(fn: () => Result): Result => purser.run({ agent: "a" }, fn);

    expect([await asAgent(() => echo("one")), await asAgent(() => echo("two"))]).toEqual(["heard one", "heard two"]);
    const refused = await asAgent(() => echo("three"));

    expect(ran).toEqual(["one", "two"]);
    expect(await asAgent(() => other("one"))).toBe("heard one");
    expect(await purser.run({ agent: "b" }, () => echo("one"))).toBe("heard one");
    if (!isToolRefusal(refused)) throw new Error("it was not refused");
    expect(refused).toMatchObject({ outcome: "refused", tool: "echo", code: "limit_reached", limit: "tools" });
    const midnight = `${new Date(Date.now() + 86_400_000).toISOString().slice(0, 10)}T00:00:00Z`;
    expect(refused.resetsAt).toBe(midnight);
    expect((JSON.parse(JSON.stringify(refused)) as { message: string }).message).toBe(
      "echo was not run. The limit tools of agent a and tool echo leaves no room for this call: 2 of 2 tool calls are used; " +
        `it resets at ${midnight}, so stop until then or ask the operator to raise it.`,
    );
    expect(await spentOf(purser)).toEqual([
      ["tools", { agent: "a", tool: "echo" }, 2],
      ["tools", { agent: "a", tool: "other" }, 1],
      ["tools", { agent: "b", tool: "echo" }, 1],
    ]);
  });

  it("leaves the rest of the agent as it was: calls of models are no tool calls, and tools no calls of models", async () => {
    const limits: LimitObject[] = [
      limitOf({ toolCalls: 1, tool: "ec*" }),
      { name: "calls", per: "session", requests: 2, every: "day" },
      { name: "money", per: "all", usd: 1, every: "day" },
      { name: "at-once", per: "all", concurrency: 1 },
    ];
    const { purser, url, calls } = await startClientBench({ limits });
    const { echo } = echoOf(purser);
    const { echo: free } = echoOf(purser, "free");

    await purser.run({ session: "s" }, async () => {
      await echo("one");
      expect(isToolRefusal(await echo("two"))).toBe(true);
      expect(await Promise.all([free("a"), free("b")])).toEqual(["heard a", "heard b"]);
      for (let turn = 0; turn < 2; turn += 1) {
        const response = await purser.fetch(`${url}/v1/messages`, messageInit());
        expect([response.status, await response.text()]).toMatchObject([200, expect.any(String)]);
      }
    });

    const told = (await calls()).map(({ facts, status, costNanoUsd }) => [
      facts.provider,
      facts.requestedModel,
      status,
      costNanoUsd,
    ]);
    expect(told.slice(0, 4)).toEqual([
      ["tool", "echo", "settled", 0n],
      ["tool", "echo", "denied", undefined],
      ["tool", "free", "settled", 0n],
      ["tool", "free", "settled", 0n],
    ]);
    expect(await spentOf(purser)).toMatchObject([
      ["tools", { session: "s" }, 1],
      ["calls", { session: "s" }, 2],
      ["money", {}, expect.any(String)],
      ["at-once", {}, 0],
    ]);
  });

  it("counts an invocation once by its id, wherever its library puts that, however often and however much at once it runs", async () => {
    const { purser } = await startClientBench({ limits: [limitOf({ toolCalls: 4 })] });
    const { echo, ran } = echoOf(purser);
    const beside: unknown[][] = [
      [{ toolCallId: "id-1" }],
      [{ toolUse: { id: "id-2" } }],
      [undefined, { toolCall: { id: "id-3" } }],
      [{}, { toolCall: { callId: "id-4" } }],
    ];

    await purser.run({ session: "s" }, async () => {
      const once = beside.map((arguments_) => echo("once", ...arguments_));
      await Promise.all([...once, ...beside.map((arguments_) => echo("again", ...arguments_))]);
      for (const arguments_ of beside) expect(await echo("later", ...arguments_)).toBe("heard later");
      expect(isToolRefusal(await echo("another", { toolCallId: "id-5" }))).toBe(true);
      expect(isToolRefusal(await echo("another", { toolCallId: "id-5" }))).toBe(true);
    });

    expect(ran.length).toBe(12);
    expect(await spentOf(purser)).toEqual([["tools", { session: "s" }, 4]]);
  });

  it("takes an id that may begin anew for one of its session only, and counts each time without one", async () => {
    const { purser } = await startClientBench({ limits: [limitOf({ per: "all", toolCalls: 100 })] });
    const { echo } = echoOf(purser);
    const named = purser.tool("named", ({ id }: { id: string }) => id, { toolUseId: ({ id }) => id });

    for (const session of ["s", "t"]) await purser.run({ session }, () => echo("", { toolCallId: "call_0" }));
    for (let turn = 0; turn < 2; turn += 1) {
      await echo("without");
      await echo("short", { toolCallId: "call_0" });
      await echo("long", { toolCallId: "toolu_01A09q90qw90lq917835lq9" });
      await named({ id: "toolu_01B09q90qw90lq917835lq9" });
    }

    expect(await spentOf(purser)).toEqual([["tools", {}, 2 + 2 + 2 + 1 + 1]]);
  });

  it("runs of fifty at once as many as the limit has room for", async () => {
    const { purser } = await startClientBench({ limits: [limitOf({ per: "all", toolCalls: 7 })] });
    const { echo, ran } = echoOf(purser);

    const answers = await Promise.all(Array.from({ length: 50 }, (_, at) => echo(`${at}`)));

    expect([ran.length, answers.filter(isToolRefusal).length]).toEqual([7, 43]);
    expect(await spentOf(purser)).toEqual([["tools", {}, 7]]);
  });

  it("throws what the tool throws, which counts; a name that cannot be stored is refused at once", async () => {
    const { purser } = await startClientBench({ limits: [limitOf({ per: "all" })] });
    const failing = purser.tool("failing", () => Promise.reject(new Error("no such file")));

    await expect(failing()).rejects.toThrow("no such file");
    expect(() => purser.tool("", () => undefined)).toThrow(RangeError);
    expect(await spentOf(purser)).toEqual([["tools", {}, 1]]);
  });

  it("begins to count from what is in the ledger, and stays counted when its process is killed while it runs", async () => {
    const bench = await startClientBench({ limits: [limitOf({ name: "before", per: "all", toolCalls: 50 })] });
    const { echo } = echoOf(bench.purser);
    await echo("one");
    await (await bench.purser.fetch(`${bench.url}/v1/messages`, messageInit())).text();
    const config = { limits: [limitOf({ name: "by-tool", per: "tool", toolCalls: 3 })] };
    const file = join(bench.ledgerPath, "..", "agent.mjs");
    await writeFile(
      file,
      `import { createPurser } from ${JSON.stringify(ENTRY)};
       const purser = await createPurser({ config: ${JSON.stringify(config)}, ledger: ${JSON.stringify(bench.ledgerPath)} });
       await purser.tool("echo", () => process.kill(process.pid, "SIGKILL"))();`,
    );
    const signal = await new Promise((resolve) => execFile(process.execPath, [file], (error) => resolve(error?.signal)));
    expect(signal).toBe("SIGKILL");

    const next = await createPurser({ config, ledger: bench.ledgerPath });
    try {
      expect((await bench.calls()).at(-1)).toMatchObject({ status: "expired", costNanoUsd: 0n });
      expect(await spentOf(next)).toEqual([["by-tool", { tool: "echo" }, 2]]);
      const { echo: again } = echoOf(next);
      expect([await again("three"), isToolRefusal(await again("four"))]).toEqual(["heard three", true]);
    } finally {
      await next.close();
    }
    expect(verifySqliteLedger(bench.ledgerPath).differences).toEqual([]);
  });
});
