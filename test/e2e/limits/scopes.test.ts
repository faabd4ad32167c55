/**
 * Goal: every call counts for the right value of every scope, whatever it says or leaves out about itself: a limit on one value holds for
 * that value alone, what a key binds nobody overrides, and a conversation is one session without being named.
 */
import { describe, expect, it } from "vitest";
import { hashSecret } from "../../../src/exchange/system.ts";
import { createVirtualKeySecret } from "../../../src/gateway/virtual-key.ts";
import { createTestClock, startBench, type Bench } from "../harness.ts";
import { ask, messageOf } from "../http.ts";

/** One request per value and for ever: the second one of the same value is refused. */
const onePer = (scope: string): string => `limits: [{ name: one, per: ${scope}, requests: 1 }]\n`;

interface Sent {
  headers?: Record<string, string | undefined>;
  body?: string;
}

/** What becomes of calls sent one after the other: "ok", or the scope value that had no room. */
async function outcomes(bench: Bench, calls: readonly Sent[]): Promise<unknown[]> {
  const results: unknown[] = [];
  for (const call of calls) {
    const { status, error } = await ask(bench.url, call);
    results.push(status === 200 ? "ok" : (error?.details["scope"] ?? error?.details["code"]));
  }
  return results;
}

const labelled = (name: string, value: string): Sent => ({ headers: { [`x-purser-${name}`]: value } });
const ofModel = (model: string): Sent => ({ body: messageOf({ model }) });

describe("a limit per", () => {
  it.each<[scope: string, calls: Sent[], expected: unknown[]]>([
    ["all", [{}, labelled("agent", "b")], ["ok", {}]],
    ["project", [labelled("project", "p"), labelled("project", "p"), labelled("project", "q")], ["ok", { project: "p" }, "ok"]],
    ["agent", [labelled("agent", "a"), labelled("agent", "a"), labelled("agent", "b")], ["ok", { agent: "a" }, "ok"]],
    ["session", [labelled("session", "s"), labelled("session", "s"), labelled("session", "t")], ["ok", { session: "s" }, "ok"]],
    ["user", [labelled("user", "u"), labelled("user", "u"), labelled("user", "v")], ["ok", { user: "u" }, "ok"]],
    ["task", [labelled("task", "t"), labelled("task", "t"), labelled("task", "u")], ["ok", { task: "t" }, "ok"]],
    [
      "tag:team",
      [labelled("tags", "team=x, y=1"), labelled("tags", "team=x"), labelled("tags", "team=z")],
      ["ok", { "tag:team": "x" }, "ok"],
    ],
    [
      "model",
      // The alias, its dated form, another platform's spelling: one model. A name that only begins alike is another.
      [ofModel("claude-haiku-4-5"), ofModel("claude-haiku-4-5-20251001"), ofModel("claude-haiku-5-5")],
      ["ok", { model: "claude-haiku-4-5-20251001" }, "ok"],
    ],
    [
      "[project, agent]",
      [
        { headers: { "x-purser-project": "p", "x-purser-agent": "a" } },
        { headers: { "x-purser-project": "p", "x-purser-agent": "a" } },
        { headers: { "x-purser-project": "p", "x-purser-agent": "b" } },
        { headers: { "x-purser-project": "q", "x-purser-agent": "a" } },
      ],
      ["ok", { project: "p", agent: "a" }, "ok", "ok"],
    ],
  ])("%s counts each value by itself", async (scope, calls, expected) => {
    const bench = await startBench({ yaml: onePer(scope) });

    expect(await outcomes(bench, calls)).toEqual(expected);
    expect(bench.simulator.requests).toHaveLength(expected.filter((outcome) => outcome === "ok").length);
  });

  it.each(["project", "agent", "user", "key", "task", "tag:team"])(
    "%s counts a label left out as a value like any other",
    async (scope) => {
      const bench = await startBench({ yaml: onePer(scope) });

      expect(await outcomes(bench, [{}, {}])).toEqual(["ok", { [scope]: "default" }]);
    },
  );
});

async function newKey(
  bench: Bench,
  bound: { project: string; agent: string; allow?: string[] },
): Promise<{ keyId: string; secret: string }> {
  const { keyId, secret } = createVirtualKeySecret();
  const { project, agent, allow = [] } = bound;
  const times = { createdAtMs: 0, expiresAtMs: undefined, revokedAtMs: undefined };
  await bench.gateway.ledger.createKey({ keyId, secretHash: hashSecret(secret), project, agent, allow, ...times });
  return { keyId, secret };
}

const WITH_KEY = { env: { ANTHROPIC_API_KEY: "sk-upstream" } };

describe("a virtual key", () => {
  it("binds project and agent: nothing its caller says counts for others", async () => {
    const bench = await startBench({ ...WITH_KEY, yaml: onePer("[project, agent]") });
    const { secret } = await newKey(bench, { project: "p", agent: "a" });
    const pretending = { "x-api-key": secret, "x-purser-project": "other", "x-purser-agent": "other" };

    expect(await outcomes(bench, [{ headers: pretending }, { headers: { "x-api-key": secret } }])).toEqual([
      "ok",
      { project: "p", agent: "a" },
    ]);
    const [call] = await bench.calls();
    expect(call?.facts.scopes).toMatchObject({ project: "p", agent: "a" });
  });

  it("is replaced by the upstream's own, at either door", async () => {
    const bench = await startBench(WITH_KEY);
    const { secret } = await newKey(bench, { project: "p", agent: "a" });

    await ask(bench.url, { headers: { "x-api-key": secret } });
    await ask(bench.url, { headers: { "x-api-key": undefined, authorization: `Bearer ${secret}` } });

    for (const { rawHeaders, headers } of bench.simulator.requests) {
      expect(headers).toMatchObject({ "x-api-key": "sk-upstream" });
      expect(headers).not.toHaveProperty("authorization");
      expect(rawHeaders.join()).not.toContain(secret);
    }
  });

  it("is a scope of its own, and so is having none", async () => {
    const bench = await startBench({ ...WITH_KEY, yaml: onePer("key") });
    const [one, two] = [await newKey(bench, { project: "p", agent: "a" }), await newKey(bench, { project: "p", agent: "a" })];
    const by = (secret: string): Sent => ({ headers: { "x-api-key": secret } });

    expect(await outcomes(bench, [by(one.secret), by(two.secret), {}, by(one.secret), {}])).toEqual([
      "ok",
      "ok",
      "ok",
      { key: one.keyId },
      { key: "default" },
    ]);
  });

  it.each([
    ["user", "user", { "x-purser-user": "u" }, { "x-purser-user": "v" }],
    ["tag:team", "tag:team", { "x-purser-tags": "team=u" }, { "x-purser-tags": "team=v" }],
  ])(
    "lets its caller set %s only if it was made to: otherwise it is a note in the report",
    async (scope, allowed, first, second) => {
      const bench = await startBench({ ...WITH_KEY, yaml: onePer(scope) });
      const strict = await newKey(bench, { project: "p", agent: "strict" });
      const trusting = await newKey(bench, { project: "p", agent: "trusting", allow: [allowed] });
      const by = (secret: string, labels: Record<string, string>): Sent => ({ headers: { "x-api-key": secret, ...labels } });

      expect(
        await outcomes(bench, [
          by(trusting.secret, first),
          by(trusting.secret, second),
          by(strict.secret, first),
          by(strict.secret, second),
        ]),
      ).toEqual([
        "ok",
        "ok",
        // Both count for the value that nobody named.
        "ok",
        { [scope]: "default" },
      ]);
      const noted = (await bench.calls())[2]?.facts.attribution;
      expect(scope === "user" ? noted?.user : noted?.tags["team"]).toBe("u");
    },
  );

  it("lets its caller always name session and task", async () => {
    const bench = await startBench({ ...WITH_KEY, yaml: onePer("[session, task]") });
    const { secret } = await newKey(bench, { project: "p", agent: "a" });
    const as = (session: string, task: string): Sent => ({
      headers: { "x-api-key": secret, "x-purser-session": session, "x-purser-task": task },
    });

    expect(await outcomes(bench, [as("s", "t"), as("s", "u"), as("r", "t"), as("s", "t")])).toEqual([
      "ok",
      "ok",
      "ok",
      { session: "s", task: "t" },
    ]);
  });
});

type Message = { role: string; content: unknown };

const user = (content: unknown): Message => ({ role: "user", content });
const assistant = (content: string): Message => ({ role: "assistant", content });
const marked = (text: string): Message => user([{ type: "text", text, cache_control: { type: "ephemeral" } }]);
const unmarked = (text: string): Message => user([{ type: "text", text }]);
const conversation = (...messages: Message[]): Sent => ({ body: messageOf({ messages }) });

/** The sessions that calls were counted for, numbered in the order of their first call. */
async function sessionsOf(bench: Bench): Promise<number[]> {
  const names = (await bench.calls()).map(({ facts }) => facts.scopes.session);
  const distinct = [...new Set(names)];
  return names.map((name) => distinct.indexOf(name));
}

describe("a session that nobody names", () => {
  it("goes on as long as the conversation does", async () => {
    const bench = await startBench({ yaml: "limits: [{ name: two, per: session, requests: 2 }]\n" });
    const turns = [user("1"), assistant("one"), user("2"), assistant("two"), user("3")];

    const results = await outcomes(bench, [
      conversation(...turns.slice(0, 1)),
      conversation(...turns.slice(0, 3)),
      conversation(...turns),
      conversation(user("another")),
    ]);

    expect(results).toEqual(["ok", "ok", { session: expect.stringMatching(/^sess_/) as unknown }, "ok"]);
  });

  it("is the same for a retry of the same request", async () => {
    const bench = await startBench({ yaml: "limits: [{ name: two, per: session, requests: 2 }]\n" });

    expect(await outcomes(bench, [{}, {}, {}])).toEqual(["ok", "ok", { session: expect.any(String) as unknown }]);
  });

  it("is the same when cache marks move on from turn to turn", async () => {
    const bench = await startBench();

    await outcomes(bench, [
      conversation(marked("1")),
      conversation(unmarked("1"), assistant("one"), marked("2")),
      conversation(unmarked("1"), assistant("one"), unmarked("2"), assistant("two"), marked("3")),
    ]);

    expect(await sessionsOf(bench)).toEqual([0, 0, 0]);
  });

  it("is another where only the beginning is alike, for another agent, and for another key", async () => {
    const bench = await startBench(WITH_KEY);
    const { secret } = await newKey(bench, { project: "p", agent: "a" });

    await outcomes(bench, [
      conversation(user("1"), assistant("one"), user("2")),
      conversation(user("1"), assistant("other"), user("2")),
      { ...conversation(user("1"), assistant("one"), user("2")), headers: { "x-purser-agent": "b" } },
      { ...conversation(user("1"), assistant("one"), user("2")), headers: { "x-api-key": secret } },
      conversation(user("1"), assistant("one"), user("2"), assistant("two"), user("3")),
    ]);

    expect(await sessionsOf(bench)).toEqual([0, 1, 2, 3, 0]);
  });

  it("ends after thirty minutes without a call", async () => {
    const clock = createTestClock(Date.parse("2026-11-20T10:00:00Z"));
    const bench = await startBench({ clock });

    await outcomes(bench, [{}]);
    clock.advance(29 * 60_000);
    await outcomes(bench, [{}]);
    clock.advance(31 * 60_000);
    await outcomes(bench, [{}]);

    expect(await sessionsOf(bench)).toEqual([0, 0, 1]);
  });
});

describe("a child session", () => {
  const child = (session: string, parent?: string): Sent => ({
    headers: { "x-purser-session": session, ...(parent === undefined ? {} : { "x-purser-parent-session": parent }) },
  });

  it("counts for its parent as well: children do not multiply a budget", async () => {
    const bench = await startBench({ yaml: "limits: [{ name: three, per: session, requests: 3 }]\n" });

    const results = await outcomes(bench, [
      child("root"),
      child("c1", "root"),
      child("c2", "root"),
      child("c3", "root"),
      child("other"),
    ]);

    expect(results).toEqual(["ok", "ok", "ok", { session: "root" }, "ok"]);
  });

  it("of a child counts for its parent's parents, though it names only its own", async () => {
    const bench = await startBench({ yaml: "limits: [{ name: three, per: session, requests: 3 }]\n" });

    const results = await outcomes(bench, [
      child("root"),
      child("c", "root"),
      child("grandchild", "c"),
      child("great-grandchild", "grandchild"),
      child("root"),
    ]);

    expect(results).toEqual(["ok", "ok", "ok", { session: "root" }, { session: "root" }]);
    expect((await bench.calls())[2]?.facts.scopes.parentSessions).toEqual(["c", "root"]);
  });

  it("knows its parent's parents also after a restart", async () => {
    const yaml = "limits: [{ name: two, per: session, requests: 2 }]\n";
    const bench = await startBench({ yaml });
    await outcomes(bench, [child("c", "root")]);
    await bench.gateway.close(1_000);
    const again = await startBench({ yaml, ledgerPath: bench.ledgerPath });

    expect(await outcomes(again, [child("grandchild", "c"), child("root")])).toEqual(["ok", { session: "root" }]);
  });

  it("that names itself, or a ring of parents, counts once each", async () => {
    const bench = await startBench({ yaml: "limits: [{ name: two, per: session, requests: 2 }]\n" });

    expect(await outcomes(bench, [child("a", "a"), child("a", "b"), child("b", "a")])).toEqual(["ok", "ok", { session: "a" }]);
  });

  it("nested deeper than eight counts for the nearest eight", async () => {
    const bench = await startBench();
    const names = Array.from({ length: 12 }, (_, index) => `s${index}`);

    await outcomes(
      bench,
      names.map((name, index) => child(name, names[index - 1])),
    );

    const last = (await bench.calls()).at(-1);
    expect(last?.facts.scopes.parentSessions).toEqual(["s10", "s9", "s8", "s7", "s6", "s5", "s4", "s3"]);
  });
});

describe("Claude Code", () => {
  const session = "0190f7a2-1111-4222-8333-444455556666";
  const claude = (more: Record<string, string> = {}): Sent => ({
    headers: { "user-agent": "claude-cli/2.1.0 (external, cli)", "x-claude-code-session-id": session, ...more },
  });

  it("is one session with its subagents, each of them a session of its own", async () => {
    const bench = await startBench({ yaml: "limits: [{ name: three, per: session, requests: 3 }]\n" });
    const sub = claude({ "x-claude-code-agent-id": "sub" });
    const subOfSub = claude({ "x-claude-code-agent-id": "subsub", "x-claude-code-parent-agent-id": "sub" });

    expect(await outcomes(bench, [claude(), sub, subOfSub, claude()])).toEqual(["ok", "ok", "ok", { session }]);
    expect((await bench.calls()).map(({ facts }) => [facts.scopes.session, ...facts.scopes.parentSessions])).toEqual([
      [session],
      [`${session}/sub`, session],
      [`${session}/subsub`, `${session}/sub`, session],
      [session],
    ]);
  });

  it("is told 429 billing_error, which it ends on, without a time to come back", async () => {
    const bench = await startBench({ yaml: onePer("all") });
    await ask(bench.url, claude());

    const { status, headers, error } = await ask(bench.url, claude());

    expect({ status, type: error?.type, code: error?.details["code"] }).toEqual({
      status: 429,
      type: "billing_error",
      code: "limit_reached",
    });
    expect(headers).toMatchObject({ "x-should-retry": "false" });
    expect(headers).not.toHaveProperty("retry-after");
  });

  it("is one session by the user id in its body, where an older build sends no header", async () => {
    const bench = await startBench({ yaml: onePer("session") });
    const userId = `user_${"a".repeat(64)}_account__session_${session}`;
    const body = (content: string): Sent => ({
      body: messageOf({ metadata: { user_id: userId }, messages: [{ role: "user", content }] }),
    });

    expect(await outcomes(bench, [body("1"), body("2")])).toEqual(["ok", { session }]);
  });
});
