/**
 * Goal: scopes follow the code. Whatever a program nests, schedules or streams, each call counts for those around it, and what runs side by
 * side never mixes.
 */
import { EventEmitter, once } from "node:events";
import { Readable } from "node:stream";
import { setImmediate as nextTurn, setTimeout as sleepFor } from "node:timers/promises";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createScopeStack, labelsOfScopes, type CallScopes } from "../../../src/client/scopes.ts";
import type { CallRecord } from "../../../src/ledger/ledger.ts";
import { messageInit, startClientBench, type ClientBench } from "./harness.ts";

async function ask({ url, purser }: ClientBench, fetch = purser.fetch, headers: Record<string, string> = {}): Promise<void> {
  const response = await fetch(`${url}/v1/messages`, messageInit(undefined, { headers }));
  await response.text();
}

const scopesOf = ({ facts }: CallRecord) => facts.scopes;

describe("purser.run", () => {
  it("holds in promises, timers, streams and event emitters that are begun inside it", async () => {
    const bench = await startClientBench();
    const { purser } = bench;
    const emitter = new EventEmitter();

    await purser.run({ agent: "inside" }, async () => {
      await nextTurn();
      await ask(bench);
      await new Promise<void>((resolve, reject) => setTimeout(() => void ask(bench).then(resolve, reject), 1));
      for await (const _ of Readable.from([1, 2])) await ask(bench);
      const heard = once(emitter, "asked");
      emitter.on("go", () => void ask(bench).then(() => emitter.emit("asked")));
      queueMicrotask(() => emitter.emit("go"));
      await heard;
    });
    await ask(bench);

    expect((await bench.calls()).map((call) => scopesOf(call).agent)).toEqual([...Array(5).fill("inside"), "default"]);
  });

  it("counts a child session for its parents, nearest first, at most eight deep", async () => {
    const bench = await startClientBench({ limits: [{ name: "sessions", per: "session", requests: 100, every: "day" }] });
    const { purser } = bench;
    const deeper = (depth: number): Promise<void> =>
      depth === 11 ? ask(bench) : purser.run({ session: `s${depth}` }, () => deeper(depth + 1));

    await deeper(1);

    const [call] = await bench.calls();
    expect(call && scopesOf(call)).toMatchObject({
      session: "s10",
      parentSessions: ["s9", "s8", "s7", "s6", "s5", "s4", "s3", "s2"],
    });
    const counted = (await purser.status()).map(({ scope, spent }) => [scope["session"], spent]);
    expect(new Map(counted as [string, number][])).toEqual(new Map(Array.from({ length: 9 }, (_, at) => [`s${at + 2}`, 1])));
  });

  it("merges what is around with what is nearer, which wins; the headers of one call win over both", async () => {
    const bench = await startClientBench();
    const { purser } = bench;

    await purser.run({ project: "p", agent: "a", tags: { team: "red", tier: "1" } }, () =>
      purser.run({ agent: "b", task: "t", tags: { tier: "2" } }, () =>
        ask(bench, purser.fetch, { "x-purser-user": "u", "x-purser-task": "h" }),
      ),
    );

    const [call] = await bench.calls();
    expect(call && scopesOf(call)).toMatchObject({
      project: "p",
      agent: "b",
      task: "h",
      user: "u",
      tags: { team: "red", tier: "2" },
    });
    expect(bench.simulator.requests[0]?.headers).not.toHaveProperty("x-purser-user");
  });

  it("gives back what the function gives, and throws what it throws", async () => {
    const { purser } = await startClientBench();

    expect(purser.run({ agent: "a" }, () => 7)).toBe(7);
    expect(() =>
      purser.run({ agent: "a" }, () => {
        throw new TypeError("own");
      }),
    ).toThrow(new TypeError("own"));
  });
});

describe("purser.with", () => {
  it("gives calls their scopes where code cannot nest, inside those around it", async () => {
    const bench = await startClientBench();
    const writer = bench.purser.with({ agent: "writer", session: "draft" });

    await bench.purser.run({ project: "p", session: "whole" }, () => ask(bench, writer.fetch));
    await ask(bench, writer.with({ task: "title" }).fetch);
    await writer.run({ user: "u" }, () => ask(bench, bench.purser.fetch));

    const [first, second, third] = (await bench.calls()).map(scopesOf);
    expect(first).toMatchObject({ project: "p", agent: "writer", session: "draft", parentSessions: ["whole"] });
    expect(second).toMatchObject({ agent: "writer", session: "draft", task: "title" });
    expect(third).toMatchObject({ agent: "writer", session: "draft", user: "u" });
  });
});

describe("scopes that cannot be used", () => {
  it.each<[CallScopes, string]>([
    [{ agent: "" }, 'agent is ""; a text that is not empty is allowed'],
    [{ session: "x".repeat(201) }, "session has 201 characters; at most 200 are allowed"],
    [{ user: "a\nb" }, "user holds a control character"],
    [{ project: 7 as unknown as string }, "project is 7; a text"],
    [{ tags: { "no spaces": "x" } }, 'tags holds "no spaces"; names of letters'],
    [{ tags: Object.fromEntries(Array.from({ length: 21 }, (_, at) => [`t${at}`, "x"])) }, "tags holds 21 tags; at most 20"],
  ])("are told at once: %j", (scopes, message) => {
    expect(() => labelsOfScopes(scopes)).toThrow(RangeError);
    expect(() => labelsOfScopes(scopes)).toThrow(message);
  });
});

/** A program: runs with scopes, several at once or one after the other, waits of several kinds, and calls. */
type Program =
  | { kind: "call" }
  | { kind: "wait"; how: "turn" | "timer" | "microtask" }
  | { kind: "run"; scopes: CallScopes; inside: Program[] }
  | { kind: "all"; branches: Program[][] };

const { program } = fc.letrec<{ program: Program[]; step: Program }>((tie) => ({
  program: fc.array(tie("step"), { maxLength: 4 }),
  step: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    fc.constant<Program>({ kind: "call" }),
    fc.record({
      kind: fc.constant("wait" as const),
      how: fc.constantFrom("turn" as const, "timer" as const, "microtask" as const),
    }),
    fc.record({
      kind: fc.constant("run" as const),
      scopes: fc.record({ agent: fc.constantFrom("a", "b"), session: fc.constantFrom("s", "t", "u") }, { requiredKeys: [] }),
      inside: tie("program"),
    }),
    fc.record({ kind: fc.constant("all" as const), branches: fc.array(tie("program"), { maxLength: 3 }) }),
  ),
}));

describe("programs of runs side by side and inside each other", () => {
  it("see at every call exactly what stands around it", async () => {
    let called = 0;
    await fc.assert(
      fc.asyncProperty(program, async (steps) => {
        const stack = createScopeStack();
        const wrong: unknown[] = [];
        const follow = async (inside: readonly Program[], agent?: string, sessions: readonly string[] = []): Promise<void> => {
          for (const step of inside) {
            if (step.kind === "wait") await waitBy(step.how);
            else if (step.kind === "all") await Promise.all(step.branches.map((branch) => follow(branch, agent, sessions)));
            else if (step.kind === "run") {
              const { session } = step.scopes;
              const isDeeper = session !== undefined && session !== sessions[0];
              const around = isDeeper ? [session, ...sessions] : sessions;
              await stack.run(labelsOfScopes(step.scopes), () => follow(step.inside, step.scopes.agent ?? agent, around));
            } else {
              called += 1;
              const seen = stack.current();
              const [session, ...parents] = sessions;
              const isRight =
                seen.agent === agent &&
                seen.session === session &&
                (seen.parentSessions ?? []).join() === [...new Set(parents)].join();
              if (!isRight) wrong.push({ seen, agent, sessions });
            }
          }
        };

        await follow(steps);

        expect(wrong).toEqual([]);
        expect(stack.current()).toEqual({});
      }),
      { numRuns: 500 },
    );
    // Programs without a call prove nothing.
    expect(called).toBeGreaterThan(300);
  });
});

function waitBy(how: "turn" | "timer" | "microtask"): Promise<void> {
  if (how === "turn") return nextTurn();
  return how === "timer" ? sleepFor(0) : Promise.resolve();
}
