/**
 * Goal: what a limit does on the way to its end: it tells once, moves a session to a cheaper model between two turns, slows it down,
 * lets running work finish, and stops; and what it does with calls that nothing can price or bound.
 * Method: the clock moved by the test, usage said to the simulator.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text as textOf } from "node:stream/consumers";
import { describe, expect, it, onTestFinished } from "vitest";
import { createTestClock, startBench, type Bench, type TestClock } from "../harness.ts";
import { ask, holdAnswers, messageOf, MODEL, until, type Answer } from "../http.ts";

const START_MS = Date.parse("2026-11-20T10:00:00Z");
const DAY_MS = 24 * 3_600_000;

/** A call that will have used so many output tokens. */
function use(
  bench: Bench,
  outputTokens: number,
  options: { headers?: Record<string, string>; stopReason?: string } = {},
): Promise<Answer> {
  const { headers = {}, ...rest } = options;
  const behaviour = JSON.stringify({ kind: "answer", outputTokens, ...rest });
  return ask(bench.url, { headers: { "x-simulator-behaviour": behaviour, ...headers }, body: messageOf({ max_tokens: 100 }) });
}

const decisionOf = ({ headers }: Answer): unknown => headers["x-purser-decision"];
const codeOf = ({ error }: Answer): unknown => error?.details["code"];

async function newBench(yaml: string): Promise<Bench & { clock: TestClock }> {
  const clock = createTestClock(START_MS);
  return { ...(await startBench({ yaml, clock })), clock };
}

describe("alert", () => {
  it("is told once per threshold and window, however many calls cross it, and calls go on", async () => {
    const bench = await newBench(
      "limits: [{ name: told, per: agent, outputTokens: 1_000, every: day, at: { 50%: alert, 80%: alert, 100%: alert } }]\n",
    );
    const told = (): string[] => bench.alerts.map(({ limit, threshold, scope }) => `${limit} ${threshold} ${scope["agent"]}`);

    await Promise.all(Array.from({ length: 6 }, () => use(bench, 90)));
    expect(told()).toEqual(["told 50% default"]);
    await use(bench, 100);
    await use(bench, 100);
    await Promise.all(Array.from({ length: 4 }, () => use(bench, 100)));
    expect(told()).toEqual(["told 50% default", "told 80% default", "told 100% default"]);

    await Promise.all(Array.from({ length: 6 }, () => use(bench, 90, { headers: { "x-purser-agent": "b" } })));
    expect(told().slice(3)).toEqual(["told 50% b"]);

    bench.clock.advance(DAY_MS);
    await Promise.all(Array.from({ length: 6 }, () => use(bench, 90)));
    expect(told().slice(4)).toEqual(["told 50% default"]);
    expect(bench.simulator.requests).toHaveLength(24);
  });

  it("comes with a stop, once, for all the calls that are stopped", async () => {
    const bench = await newBench("limits: [{ name: hard, per: all, outputTokens: 100, every: day }]\n");
    await use(bench, 100);

    const answers = await Promise.all([0, 1, 2].map(() => ask(bench.url, { body: messageOf({ max_tokens: 1 }) })));

    expect(answers.map(({ status }) => status)).toEqual([402, 402, 402]);
    expect(bench.alerts.map(({ limit, threshold, actions }) => ({ limit, threshold, actions }))).toEqual([
      { limit: "hard", threshold: "100%", actions: ["stop"] },
    ]);
  });
});

describe("pause", () => {
  it("makes calls wait for the window's end if that is near, and refuses those that come long before it", async () => {
    const bench = await newBench(
      "limits: [{ name: paused, per: agent, requests: 1, every: hour, at: { 100%: { pause: { upTo: 15m } } } }]\n",
    );
    await use(bench, 10);
    const early = await use(bench, 10);
    expect({ status: early.status, details: early.error?.details }).toMatchObject({
      status: 402,
      details: { code: "limit_reached", limit: "paused", resetsAt: "2026-11-20T11:00:00Z" },
    });

    bench.clock.advance(50 * 60_000);
    const waiting = use(bench, 10);
    const hurried = await use(bench, 10, { headers: { "x-purser-deadline": "30000" } });
    expect(codeOf(hurried)).toBe("limit_reached");
    await until(() => bench.gateway.engine.waitingOn("agent=default requests@hour:UTC") === 1);
    bench.clock.advance(10 * 60_000);

    const served = await waiting;
    expect([served.status, decisionOf(served)]).toEqual([200, "waited"]);
    expect(bench.simulator.requests).toHaveLength(2);
    expect(bench.alerts.map(({ threshold, actions }) => ({ threshold, actions }))).toEqual([
      { threshold: "100%", actions: ["pause"] },
      { threshold: "100%", actions: ["pause"] },
    ]);
  });
});

describe("downgrade", () => {
  const OPUS = "claude-opus-5-5";
  const HAIKU = "claude-haiku-5-5";
  const yaml = `
limits: [{ name: session-spend, per: session, usd: 10, at: { $0.01: downgrade } }]
models: { downgrade: { ${OPUS}: ${HAIKU} } }
`;
  const user = (content: unknown) => ({ role: "user", content });
  const toolCall = { role: "assistant", content: [{ type: "tool_use", id: "toolu_1", name: "look", input: {} }] };
  const toolResult = user([{ type: "tool_result", tool_use_id: "toolu_1", content: "seen" }]);

  const inSession = (bench: Bench, messages: unknown[], session = "s"): Promise<Answer> =>
    ask(bench.url, {
      headers: { "x-purser-session": session },
      body: messageOf({ model: OPUS, messages, tools: [{ name: "look", input_schema: { type: "object" } }] }),
    });

  it("waits for the end of a turn, then stays for the session, and changes nothing but the model", async () => {
    const bench = await newBench(yaml);
    bench.simulator.always({ kind: "answer", inputTokens: 4_000, outputTokens: 100 });
    const first = await inSession(bench, [user("look")]);

    const inTurn = await inSession(bench, [user("look"), toolCall, toolResult]);
    const turn = [user("look"), toolCall, toolResult, { role: "assistant", content: "I saw." }, user("again")];
    const atTurn = await inSession(bench, turn);
    const afterwards = await inSession(bench, [...turn, toolCall, toolResult]);
    const otherSession = await inSession(bench, [user("look")], "other");

    expect([first, inTurn, atTurn, afterwards, otherSession].map(({ headers }) => headers["x-purser-model"])).toEqual([
      undefined,
      undefined,
      HAIKU,
      HAIKU,
      undefined,
    ]);
    expect(decisionOf(atTurn)).toBe("downgraded");
    const body = bench.simulator.requests[2]?.body.toString() ?? "";
    expect(body.replace(HAIKU, OPUS)).toBe(
      messageOf({ model: OPUS, messages: turn, tools: [{ name: "look", input_schema: { type: "object" } }] }),
    );
    expect(await bench.calls()).toMatchObject([{}, {}, { facts: { requestedModel: OPUS }, result: { model: HAIKU } }, {}, {}]);
  });

  it("that no model takes is skipped, and says so", async () => {
    const bench = await newBench(yaml);
    bench.simulator.always({ kind: "answer", inputTokens: 4_000, outputTokens: 100 });
    await inSession(bench, [user("look")]);

    const large = await ask(bench.url, {
      headers: { "x-purser-session": "s" },
      body: messageOf({ model: OPUS, speed: "fast", messages: [user("look again")] }),
    });

    expect({ decision: decisionOf(large), model: large.headers["x-purser-model"] }).toEqual({
      decision: "downgrade_skipped",
      model: undefined,
    });
  });
});

describe("throttle", () => {
  const yaml = "limits: [{ name: slow, per: agent, outputTokens: 1_000, every: day, at: { 10%: { throttle: 4s } } }]\n";

  it("lets calls of one value start that far apart, also those that come at once, and no others", async () => {
    const bench = await newBench(yaml);
    const clock = bench.clock;
    await use(bench, 100);
    const startedAtMs: number[] = [];
    bench.simulator.always(() => {
      startedAtMs.push(clock.nowMs() - START_MS);
      return { kind: "answer", outputTokens: 1 };
    });

    const asked = [0, 1, 2].map(() => ask(bench.url));
    const other = ask(bench.url, { headers: { "x-purser-agent": "b" } });
    expect(decisionOf(await other)).toBe("allowed");
    for (const count of [2, 3, 4]) {
      await until(() => startedAtMs.length === count || (clock.advance(100), false));
    }

    const answers = await Promise.all(asked);
    expect(startedAtMs[0]).toBe(0);
    // When they were let go, as the ledger has it: their way to the provider takes time of its own.
    const started = (await bench.calls()).filter(({ facts }) => facts.scopes.agent === "default").map((call) => call.startedAtMs);
    const [first = 0, second = 0, third = 0] = started.slice(1);
    expect(second - first).toBeGreaterThanOrEqual(4_000);
    expect(third - second).toBeGreaterThanOrEqual(4_000);
    expect(third - second).toBeLessThan(4_500);
    expect(answers.filter((answer) => decisionOf(answer) === "throttled")).toHaveLength(2);
  });

  it("of a start more than 30 s away answers 429 with the time until then", async () => {
    const bench = await newBench(yaml.replace("4s", "20s"));
    await use(bench, 100);
    const asked = [ask(bench.url)];
    await until(() => bench.simulator.requests.length === 2);
    const { timers } = bench.clock;
    asked.push(ask(bench.url));
    // The second start is 20 s away, the third 40 s.
    await until(() => bench.clock.timers > timers);

    const refused = await ask(bench.url);

    expect({ status: refused.status, code: codeOf(refused) }).toEqual({ status: 429, code: "rate_limited" });
    expect(Number(refused.headers["retry-after"])).toBe(10);
    bench.clock.advance(20_000);
    expect((await Promise.all(asked)).map(({ status }) => status)).toEqual([200, 200]);
  });

  it("never starts a call after its own deadline, and tells it at once", async () => {
    const bench = await newBench(yaml);
    await use(bench, 100);
    await ask(bench.url);

    const refused = await ask(bench.url, { headers: { "x-purser-deadline": "1000" } });

    expect({ status: refused.status, code: codeOf(refused), after: refused.headers["retry-after"] }).toEqual({
      status: 429,
      code: "rate_limited",
      // With a second to wait it is let through three seconds from now, one before its start.
      after: "3",
    });
    expect(bench.simulator.requests).toHaveLength(2);
  });
});

describe("grace", () => {
  const yaml =
    "limits: [{ name: day, per: agent, outputTokens: 1_000, every: day, at: { 100%: { grace: { overdraft: 50%, calls: 3 } } } }]\n";
  const session = (name: string) => ({ "x-purser-session": name });

  it("lets sessions in the middle of their work finish, starts nothing new, and ends with the window", async () => {
    const bench = await newBench(yaml);
    for (let calls = 0; calls < 10; calls += 1) {
      await use(bench, 100, { headers: session("running"), stopReason: calls === 9 ? "tool_use" : "end_turn" });
    }

    const goesOn = await use(bench, 10, { headers: session("running"), stopReason: "tool_use" });
    const startsNew = await use(bench, 10, { headers: session("new") });
    const lastStep = await use(bench, 10, { headers: session("running"), stopReason: "end_turn" });
    const nextTurn = await use(bench, 10, { headers: session("running") });

    expect([goesOn, startsNew, lastStep, nextTurn].map(({ status }) => status)).toEqual([200, 402, 200, 402]);
    expect([decisionOf(goesOn), decisionOf(lastStep)]).toEqual(["graced", "graced"]);
    bench.clock.advance(DAY_MS);
    expect((await use(bench, 10, { headers: session("new") })).status).toBe(200);
  });

  it("ends after its number of calls, and at its second ceiling", async () => {
    const bench = await newBench(yaml);
    for (let calls = 0; calls < 10; calls += 1) await use(bench, 100, { headers: session("s"), stopReason: "tool_use" });

    const statuses: number[] = [];
    for (let calls = 0; calls < 4; calls += 1) {
      statuses.push((await use(bench, 10, { headers: session("s"), stopReason: "tool_use" })).status);
    }
    const tooLarge = await newBench(yaml.replace("calls: 3", "calls: 20"));
    for (let calls = 0; calls < 14; calls += 1) await use(tooLarge, 100, { headers: session("s"), stopReason: "tool_use" });
    const fits = await use(tooLarge, 50, { headers: session("s"), stopReason: "tool_use" });
    const doesNotFit = await use(tooLarge, 50, { headers: session("s"), stopReason: "tool_use" });

    expect(statuses).toEqual([200, 200, 200, 402]);
    expect([fits.status, doesNotFit.status]).toEqual([200, 402]);
  });
});

describe("stop", () => {
  it("of a lifetime limit never resets by itself, and says so", async () => {
    const bench = await newBench("limits: [{ name: life, per: session, outputTokens: 100 }]\n");
    await use(bench, 100, { headers: { "x-purser-session": "s" } });

    bench.clock.advance(400 * DAY_MS);
    const { status, error } = await use(bench, 1, { headers: { "x-purser-session": "s" } });

    expect({ status, resetsAt: error?.details["resetsAt"] }).toEqual({ status: 402, resetsAt: null });
    expect(error?.message).toMatch(/never resets by itself/);
  });
});

describe("an idempotency key", () => {
  const keyed = (bench: Bench, key: string, headers: Record<string, string> = {}): Promise<Answer> =>
    ask(bench.url, { headers: { "x-purser-idempotency-key": key, ...headers } });

  it("answers 409 duplicate_call with the first call's id while that is open and for a day after, then is free", async () => {
    const bench = await newBench("limits: [{ name: roomy, per: all, usd: 100, every: month }]\n");
    const held = holdAnswers(bench.simulator);
    const first = keyed(bench, "k");
    await until(() => held.count === 1);
    const whileOpen = await keyed(bench, "k");
    held.release();
    const id = (await first).headers["x-purser-call"];
    const after = await keyed(bench, "k");
    const another = keyed(bench, "other");
    await until(() => held.count === 1);
    held.release();

    expect((await another).status).toBe(200);
    for (const { status, error } of [whileOpen, after]) {
      expect({ status, details: error?.details }).toEqual({ status: 409, details: { code: "duplicate_call", callId: id } });
    }
    bench.clock.advance(DAY_MS - 1);
    expect((await keyed(bench, "k")).status).toBe(409);
    bench.clock.advance(1);
    const again = keyed(bench, "k");
    await until(() => held.count === 1);
    held.release();
    expect((await again).status).toBe(200);
    expect(bench.simulator.requests).toHaveLength(3);
  });

  it("sent twice at the same instant is forwarded once", async () => {
    const bench = await newBench("limits: [{ name: roomy, per: all, usd: 100, every: month }]\n");

    const answers = await Promise.all(Array.from({ length: 8 }, () => keyed(bench, "k")));

    expect(answers.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([200, ...Array.from({ length: 7 }, () => 409)]);
    expect(bench.simulator.requests).toHaveLength(1);
  });

  it("is not used up by a refusal: who was told to come back may", async () => {
    const bench = await newBench("limits: [{ name: quick, per: all, requests: 1, every: 30s }]\n");
    await ask(bench.url);
    const refused = await keyed(bench, "k");
    bench.clock.advance(31_000);

    const again = await keyed(bench, "k");
    const third = await keyed(bench, "k");

    expect([refused.status, again.status, third.status]).toEqual([429, 200, 409]);
  });

  it("is not used up where nothing was sent: a provider that could not be reached may be tried again", async () => {
    const bench = await newBench("limits: [{ name: roomy, per: all, usd: 100, every: month }]\n");
    await bench.simulator.close();

    expect([(await keyed(bench, "k")).status, (await keyed(bench, "k")).status]).toEqual([502, 502]);
  });
});

const NEW_MODEL = "claude-opus-99";
const ASKS_NEW_MODEL = messageOf({ model: NEW_MODEL });

/** A provider that has a model Purser has never heard of: the simulator, with one of its models under a new name. */
async function benchWithNewModel(yaml: string): Promise<Bench> {
  let upstream = "";
  const renaming = createServer((request, response) => {
    void rename(upstream, request, response);
  });
  await new Promise<void>((resolve) => renaming.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void renaming.close());
  const { port } = renaming.address() as AddressInfo;
  const bench = await startBench({ yaml, env: { PURSER_ANTHROPIC_URL: `http://127.0.0.1:${port}` } });
  upstream = bench.simulator.url;
  return bench;
}

async function rename(upstream: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { text, status } = await ask(upstream, { body: (await textOf(request)).replace(NEW_MODEL, MODEL) });
  response.writeHead(status, { "content-type": "application/json" }).end(text.replaceAll(MODEL, NEW_MODEL));
}

describe("a model that nobody has priced", () => {
  it("is refused by name under a hard limit of money", async () => {
    const bench = await benchWithNewModel("limits: [{ name: money, per: all, usd: 10, every: day }]\n");

    const { status, error } = await ask(bench.url, { body: ASKS_NEW_MODEL });

    expect({ status, type: error?.type, details: error?.details }).toMatchObject({
      status: 402,
      type: "billing_error",
      details: { code: "unpriced_model", limit: "money" },
    });
    expect(error?.message).toContain(`"${NEW_MODEL}"`);
    expect(bench.simulator.requests).toEqual([]);
  });

  it.each([
    ["limits in other measures", "limits: [{ name: out, per: all, outputTokens: 10_000, every: day }]\n"],
    ["money that is only told", "limits: [{ name: out, per: all, usd: 10, every: day, at: { 100%: alert } }]\n"],
  ])("passes under %s, flagged, and its cost is unknown rather than zero", async (_name, yaml) => {
    const bench = await benchWithNewModel(yaml);

    const answer = await ask(bench.url, { body: ASKS_NEW_MODEL });

    const [call] = await bench.calls();
    expect(answer.status).toBe(200);
    expect(answer.headers).not.toHaveProperty("x-purser-cost-usd");
    expect(call).toMatchObject({ status: "settled", result: { model: NEW_MODEL, isEstimated: true } });
    expect(call?.result?.flags).toContain("unpriced");
    expect(call?.costNanoUsd).toBeUndefined();
    expect(call?.result?.tokens.outputTokens).toBeGreaterThan(0);
  });

  it("with onUnpricedModel: dearest is reserved and settled at the dearest price of its provider, and flagged", async () => {
    const bench = await benchWithNewModel(
      "onUnpricedModel: dearest\nlimits: [{ name: money, per: all, usd: 100, every: day }]\n",
    );

    const answer = await ask(bench.url, { body: ASKS_NEW_MODEL });

    const [call] = await bench.calls();
    expect(answer.status).toBe(200);
    expect(call?.decision?.priceIds.join()).toMatch(/#dearest$/);
    expect(call?.result?.flags).toContain("dearest_price");
    // The simulator bills what the model under the new name really costs.
    expect(call?.costNanoUsd).toBeGreaterThan(bench.simulator.bill.totalNanoUsd);
    expect(call?.reservedNanoUsd).toBeGreaterThanOrEqual(call?.costNanoUsd ?? 0n);
  });
});

describe("a call that nothing bounds", () => {
  const body = messageOf({ tools: [{ type: "web_search_20250305", name: "web_search" }] });

  it("is refused under a hard limit of money, with the part and what to do", async () => {
    const bench = await newBench("limits: [{ name: money, per: all, usd: 10, every: day }]\n");

    const { status, error } = await ask(bench.url, { body });

    expect({ status, code: error?.details["code"] }).toEqual({ status: 402, code: "unbounded_cost" });
    expect(error?.message).toMatch(/web_search_20250305.*max_uses/);
    expect(bench.simulator.requests).toEqual([]);
  });

  it("passes where the limit says what to reserve for it, and holds that until it ends", async () => {
    const bench = await newBench("limits: [{ name: money, per: all, usd: 10, every: day, unbounded: { reserve: 5.00 } }]\n");
    const held = holdAnswers(bench.simulator);

    const asked = ask(bench.url, { body });
    await until(() => held.count === 1);
    expect((await bench.calls())[0]).toMatchObject({ status: "reserved", reservedNanoUsd: 5_000_000_000n });
    held.release();

    expect((await asked).status).toBe(200);
    expect(await bench.calls()).toMatchObject([{ status: "settled", costNanoUsd: bench.simulator.bill.totalNanoUsd }]);
  });

  it("passes where the request caps it", async () => {
    const bench = await newBench("limits: [{ name: money, per: all, usd: 10, every: day }]\n");
    const capped = messageOf({ tools: [{ type: "web_search_20250305", name: "web_search", max_uses: 2 }] });

    expect((await ask(bench.url, { body: capped })).status).toBe(200);
  });
});
