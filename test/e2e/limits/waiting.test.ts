/**
 * Goal: calls in flight never make a limit refuse money that is there, and never let it be passed: whoever comes too many waits, in the
 * order of arrival, holds nothing while it waits, and is told honestly when it waited for nothing.
 * Method: answers held at the provider, the clock moved by the test.
 */
import { describe, expect, it } from "vitest";
import { createTestClock, startBench, type Bench } from "../harness.ts";
import { ask, holdAnswers, messageOf, openRequest, until, type Answer } from "../http.ts";

const START_MS = Date.parse("2026-11-20T10:00:00Z");
const ONE_AT_A_TIME = "limits: [{ name: one, per: all, concurrency: 1 }]\n";

const named = (name: string, maxTokens = 256): string =>
  messageOf({ max_tokens: maxTokens, messages: [{ role: "user", content: name }] });

/** What reached the provider, by the name in the message. */
function forwarded(bench: Bench): string[] {
  return bench.simulator.requests.map(({ json }) => (json as { messages: { content: string }[] }).messages[0]?.content ?? "");
}

function waiting(bench: Bench, counterId = "all concurrency"): number {
  return bench.gateway.engine.waitingOn(counterId);
}

const statusesOf = async (asked: readonly Promise<Answer>[]): Promise<number[]> =>
  (await Promise.all(asked)).map(({ status }) => status);

describe("many calls at once", () => {
  it("against a limit that fits four: four run, the others wait and are served, and none is refused before the money is spent", async () => {
    const bench = await startBench({ yaml: "limits: [{ name: out, per: all, outputTokens: 1_024, every: day }]\n" });
    const held = holdAnswers(bench.simulator, { outputTokens: 64 });
    const asked = Array.from({ length: 20 }, () => ask(bench.url));
    // 256 each: four fit. Settled at 64 each, the fourteenth finds 13 × 64 spent, which leaves less than 256.
    const served = 13;

    for (let ended = 0; ended < served; ended += 1) {
      const fitting = Math.floor((1_024 - ended * 64) / 256);
      await until(() => held.count === Math.min(fitting, served - ended));
      expect(held.count).toBeLessThanOrEqual(fitting);
      held.release(1);
      await until(async () => (await bench.calls()).filter(({ status }) => status === "settled").length === ended + 1);
    }

    const answers = await Promise.all(asked);
    const refused = answers.filter(({ status }) => status !== 200);
    expect(refused).toHaveLength(20 - served);
    for (const { status, error } of refused) {
      expect({ status, details: error?.details }).toMatchObject({
        status: 402,
        details: { code: "limit_reached", spent: served * 64, reserved: 0 },
      });
    }
    expect(held.most).toBe(4);
    expect(answers.filter(({ headers }) => headers["x-purser-decision"] === "waited")).toHaveLength(served - 4);
  });

  it("against a limit on concurrency: never more than it allows at the provider, and all are served", async () => {
    const bench = await startBench({ yaml: "limits: [{ name: two, per: agent, concurrency: 2 }]\n" });
    const held = holdAnswers(bench.simulator);
    const asked = ["a", "a", "a", "a", "b"].map((agent) => ask(bench.url, { headers: { "x-purser-agent": agent } }));

    await until(() => held.count === 3 && waiting(bench, "agent=a concurrency") === 2);
    held.release(3);
    await until(() => held.count === 2);
    held.release(2);

    expect(await statusesOf(asked)).toEqual([200, 200, 200, 200, 200]);
    expect(held.most).toBe(3);
  });
});

describe("a call that waits", () => {
  it("is served first in, first out", async () => {
    const bench = await startBench({ yaml: ONE_AT_A_TIME });
    const held = holdAnswers(bench.simulator);
    const asked: Promise<Answer>[] = [];
    for (const [index, name] of ["first", "second", "third", "fourth"].entries()) {
      asked.push(ask(bench.url, { body: named(name) }));
      await until(() => held.count === 1 && waiting(bench) === index);
    }

    for (let left = 4; left > 0; left -= 1) {
      await until(() => held.count === 1 && waiting(bench) === left - 1);
      held.release();
    }

    expect(await statusesOf(asked)).toEqual([200, 200, 200, 200]);
    expect(forwarded(bench)).toEqual(["first", "second", "third", "fourth"]);
  });

  it("is not passed by a smaller one that would fit on the same counter", async () => {
    const bench = await startBench({ yaml: "limits: [{ name: out, per: all, outputTokens: 1_000, every: day }]\n" });
    const held = holdAnswers(bench.simulator, { outputTokens: 10 });
    const counter = "all outputTokens@day:UTC";
    const asked = [ask(bench.url, { body: named("runs", 600) })];
    await until(() => held.count === 1);
    asked.push(ask(bench.url, { body: named("large", 900) }));
    await until(() => waiting(bench, counter) === 1);
    asked.push(ask(bench.url, { body: named("small", 300) }));
    await until(() => waiting(bench, counter) === 2);

    for (let index = 0; index < 3; index += 1) {
      held.release();
      if (index < 2) await until(() => held.count === 1 && waiting(bench, counter) === 1 - index);
    }

    expect(await statusesOf(asked)).toEqual([200, 200, 200]);
    expect(forwarded(bench)).toEqual(["runs", "large", "small"]);
  });

  it("and whose client leaves frees its place, and never reaches the provider", async () => {
    const bench = await startBench({ yaml: ONE_AT_A_TIME });
    const held = holdAnswers(bench.simulator);
    const runs = ask(bench.url, { body: named("runs") });
    await until(() => held.count === 1);
    const leaving = openRequest(bench.url, {});
    leaving.on("error", () => undefined);
    leaving.end(named("leaves"));
    await until(() => waiting(bench) === 1);
    const next = ask(bench.url, { body: named("next") });
    await until(() => waiting(bench) === 2);

    leaving.destroy();
    await until(() => waiting(bench) === 1);
    held.release();
    await until(() => held.count === 1);
    held.release();

    expect(await statusesOf([runs, next])).toEqual([200, 200]);
    expect(forwarded(bench)).toEqual(["runs", "next"]);
    expect((await bench.calls()).map(({ status }) => status)).toEqual(["settled", "settled"]);
  });

  it("for 60 s is told held_by_calls_in_flight, each caller another time to come back", async () => {
    const clock = createTestClock(START_MS);
    const bench = await startBench({ yaml: ONE_AT_A_TIME, clock });
    const held = holdAnswers(bench.simulator);
    const runs = ask(bench.url);
    await until(() => held.count === 1);
    const asked = ["a", "b", "c"].map((session) => ask(bench.url, { headers: { "x-purser-session": session } }));
    await until(() => waiting(bench) === 3);

    clock.advance(59_999);
    expect(waiting(bench)).toBe(3);
    clock.advance(1);
    const answers = await Promise.all(asked);
    held.release();

    expect((await runs).status).toBe(200);
    for (const { status, error } of answers) {
      expect({ status, type: error?.type, details: error?.details }).toMatchObject({
        status: 429,
        type: "rate_limit_error",
        details: { code: "held_by_calls_in_flight", limit: "one", amount: 1, spent: 0, reserved: 1 },
      });
    }
    const seconds = answers.map(({ headers }) => Number(headers["retry-after"]));
    expect(new Set(seconds).size).toBe(3);
    expect(seconds.every((wait) => wait >= 1 && wait <= 59)).toBe(true);
    expect(bench.simulator.requests).toHaveLength(1);
  });

  it("never waits past its own deadline, however it states it", async () => {
    const clock = createTestClock(START_MS);
    const bench = await startBench({ yaml: ONE_AT_A_TIME, clock });
    const held = holdAnswers(bench.simulator);
    const runs = ask(bench.url);
    await until(() => held.count === 1);
    const deadlines: (() => Record<string, string>)[] = [
      () => ({ "x-purser-deadline": "5000" }),
      () => ({ "x-purser-deadline": new Date(clock.nowMs() + 5_000).toISOString() }),
      () => ({ "x-purser-deadline": new Date(clock.nowMs() + 3_605_000).toISOString().replace("Z", "+01:00") }),
      () => ({ "x-stainless-timeout": "5" }),
      () => ({ "x-stainless-timeout": "600", "x-purser-deadline": "5000" }),
    ];

    for (const headersNow of deadlines) {
      const asked = ask(bench.url, { headers: headersNow() });
      await until(() => waiting(bench) === 1);
      clock.advance(4_999);
      expect(waiting(bench)).toBe(1);
      clock.advance(1);
      expect((await asked).error?.details["code"]).toBe("held_by_calls_in_flight");
    }
    held.release();
    expect((await runs).status).toBe(200);
  });

  it("is the hundredth at most: the next is answered at once", async () => {
    const bench = await startBench({ yaml: ONE_AT_A_TIME });
    const held = holdAnswers(bench.simulator);
    const asked = Array.from({ length: 101 }, () => ask(bench.url));
    await until(() => held.count === 1 && waiting(bench) === 100);

    const refused = await ask(bench.url);

    expect(refused).toMatchObject({ status: 429, error: { details: { code: "held_by_calls_in_flight" } } });
    const releasing = setInterval(() => held.release(), 1);
    expect(new Set(await statusesOf(asked))).toEqual(new Set([200]));
    clearInterval(releasing);
    expect(held.most).toBe(1);
  });

  it("for a window that ends within ten seconds goes on at its end, without a refusal", async () => {
    const clock = createTestClock(START_MS);
    const bench = await startBench({ yaml: "limits: [{ name: quick, per: all, requests: 1, every: 6s }]\n", clock });
    expect((await ask(bench.url)).status).toBe(200);
    const asked = ask(bench.url);
    await until(() => waiting(bench, "all requests@6000") === 1);

    clock.advance(6_200);
    const answer = await asked;

    expect(answer.status).toBe(200);
    expect(answer.headers["x-purser-decision"]).toBe("waited");
    expect(Number(answer.headers["x-purser-delay-ms"])).toBe(6_200);
  });
});

describe("a call that is refused", () => {
  it("consumes nothing: what comes after it finds the limit as it was", async () => {
    const bench = await startBench({ yaml: "limits: [{ name: out, per: all, outputTokens: 500, every: day }]\n" });

    const refused = await Promise.all(Array.from({ length: 5 }, () => ask(bench.url, { body: named("large", 501) })));
    const served = await ask(bench.url, { body: named("fits", 500) });

    expect(new Set(refused.map(({ error }) => error?.details["code"]))).toEqual(new Set(["limit_too_small"]));
    expect(served.status).toBe(200);
    expect(bench.simulator.requests).toHaveLength(1);
  });
});
