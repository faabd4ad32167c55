/**
 * Goal: a gateway that ends drops nobody it can still serve, answers everybody else, and leaves no money held; one that has more to do
 * than it can turns calls away before any work and serves those it has taken. Method: real sockets, a real ledger, answers that stand
 * still until the test lets them go.
 */
import { describe, expect, it } from "vitest";
import { FEW_CALLS, type LoadProbe } from "../../src/gateway/door.ts";
import { startBench, type Bench } from "./harness.ts";
import { ask, begin, connectTo, holdAnswers, messageOf, openRequest, readAnswer, headOf, until } from "./http.ts";

const STREAM = messageOf({ stream: true });

/** Streams that stand still after their first event, all of them begun. */
async function openStreams(bench: Bench, count: number) {
  const standing: (() => void)[] = [];
  let isOpen = false;
  bench.simulator.always(() => {
    let steps = 0;
    const step = (): Promise<void> =>
      isOpen || (steps += 1) < 3 ? Promise.resolve() : new Promise((resolve) => standing.push(resolve));
    return { kind: "answer", outputTokens: 20, step };
  });
  const heads = await Promise.all(Array.from({ length: count }, () => begin(bench.url, { body: STREAM })));
  await until(() => standing.length === count);
  return {
    heads,
    release: () => {
      isOpen = true;
      for (const letGo of standing) letGo();
    },
  };
}

async function reservedOf(bench: Bench): Promise<number> {
  return (await bench.calls()).filter(({ status }) => status === "reserved").length;
}

describe("a gateway that ends", () => {
  it("lets 200 open streams finish, refuses new connections, and drops none", async () => {
    const bench = await startBench();
    const { heads, release } = await openStreams(bench, 200);
    const kept = await connectTo(bench.url);

    const closing = bench.gateway.close(20_000);
    await expect(connectTo(bench.url)).rejects.toThrow("ECONNREFUSED");
    const answers = Promise.all(heads.map(readAnswer));
    release();

    expect((await answers).filter(({ text }) => !text.includes("event: message_stop"))).toEqual([]);
    expect(await closing).toEqual({ cut: 0 });
    kept.destroy();
    const again = await startBench({ ledgerPath: bench.ledgerPath });
    const calls = await again.calls();
    expect([calls.length, calls.filter(({ status }) => status !== "settled")]).toEqual([200, []]);
    expect(calls.filter(({ result }) => result?.isEstimated === true)).toEqual([]);
  }, 90_000);

  it("cuts what is left at its deadline, and settles it at what is known: nothing stays reserved", async () => {
    const bench = await startBench();
    const { heads } = await openStreams(bench, 50);
    const answers = Promise.allSettled(heads.map(readAnswer));

    expect(await bench.gateway.close(50)).toEqual({ cut: 50 });

    expect((await answers).every(({ status }) => status === "rejected")).toBe(true);
    const again = await startBench({ ledgerPath: bench.ledgerPath });
    const calls = await again.calls();
    expect([calls.length, calls.filter(({ status }) => status !== "settled")]).toEqual([50, []]);
    expect(calls.every(({ result }) => result?.isEstimated === true)).toBe(true);
  });

  it("answers callers that wait in line, and requests on connections it still has", async () => {
    const bench = await startBench({ yaml: "limits: [{ name: one, per: all, concurrency: 1 }]\n" });
    const held = holdAnswers(bench.simulator);
    const first = ask(bench.url);
    await until(() => held.count === 1);
    const waiting = ask(bench.url);
    const sending = openRequest(bench.url, { headers: { "content-length": String(messageOf().length) } });
    const late = headOf(sending).then(readAnswer);
    sending.write(messageOf().slice(0, 10));
    await until(() => bench.gateway.engine.waitingOn("all concurrency") === 1);

    const closing = bench.gateway.close(20_000);
    const told = await waiting;
    sending.end(messageOf().slice(10));

    for (const answer of [told, await late]) {
      expect([answer.status, answer.error?.details["code"], answer.headers["retry-after"]]).toEqual([503, "overloaded", "5"]);
      expect(answer.headers.connection).toBe("close");
    }
    held.release();
    expect((await first).status).toBe(200);
    expect(await closing).toEqual({ cut: 0 });
  });
});

describe("a gateway with more to do than it can", () => {
  const calm = { lagMs: 0, heapShare: 0.1 };
  const loadOf = (state: typeof calm): LoadProbe => ({
    lagMs: () => state.lagMs,
    heapShare: () => state.heapShare,
    close: () => undefined,
  });

  it.each([
    ["behind with its work", { ...calm, lagMs: 250 }],
    ["nearly full", { ...calm, heapShare: 0.95 }],
  ])("turns calls away when it is %s, before their bodies are read, and serves those it has taken", async (words, strained) => {
    const state = { ...calm };
    const bench = await startBench({ gateway: { load: loadOf(state) } });
    const { heads, release } = await openStreams(bench, FEW_CALLS + 1);
    Object.assign(state, strained);

    const request = openRequest(bench.url, { headers: { "content-length": "1000000" } });
    request.flushHeaders();
    const turnedAway = await headOf(request).then((head) => {
      request.destroy();
      return head;
    });
    const many = await Promise.all(Array.from({ length: 50 }, () => ask(bench.url)));
    release();
    const served = await Promise.all(heads.map(readAnswer));
    Object.assign(state, calm);
    const after = await ask(bench.url);

    expect([turnedAway.statusCode, turnedAway.headers["retry-after"]]).toEqual([503, "5"]);
    expect(many.every(({ status, error }) => status === 503 && error?.message.includes(words) === true)).toBe(true);
    expect(served.every(({ text }) => text.includes("event: message_stop"))).toBe(true);
    expect(after.status).toBe(200);
    expect([bench.simulator.requests.length, await reservedOf(bench)]).toEqual([FEW_CALLS + 2, 0]);
    expect((await ask(bench.url, { method: "GET", path: "/healthz" })).status).toBe(200);
  });

  it("takes as many calls as it may hold open, and the next as soon as one has ended", async () => {
    const bench = await startBench({ gateway: { openCallsMax: 5 } });
    const { heads, release } = await openStreams(bench, 5);

    expect((await ask(bench.url)).status).toBe(503);
    release();
    await Promise.all(heads.map(readAnswer));
    await until(async () => (await ask(bench.url)).status === 200);
  });
});
