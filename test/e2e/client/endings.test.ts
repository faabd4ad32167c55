/**
 * Goal: every call ends once, however it ends: by the caller, by the provider, by nobody reading on, by the program's end. What is settled is
 * never below the provider's bill, and nothing stays held.
 */
import { setTimeout as sleepFor } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { describe, expect, it } from "vitest";
import { messageInit, REQUEST, startClientBench, sumOf, type ClientBench } from "./harness.ts";

const STREAM = { ...REQUEST, stream: true };
const decoder = new TextDecoder();

/** Collects garbage, as the engine does when it likes. */
setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

function ask({ purser, url }: ClientBench, body: object = REQUEST, init: RequestInit = {}): Promise<Response> {
  return purser.fetch(`${url}/v1/messages`, messageInit(body, init));
}

/** Waits until the provider's answer is over and the call has its ending. */
async function ended({ simulator, calls }: ClientBench) {
  await simulator.idle();
  for (;;) {
    const all = await calls();
    if (all.every(({ status }) => status !== "reserved")) return all;
  }
}

/** A stream of which the first events were read. */
async function beginStream(bench: ClientBench, init: RequestInit = {}) {
  const index = bench.simulator.requests.length;
  const asked = ask(bench, STREAM, init);
  await bench.simulator.arrived(index);
  bench.simulator.step(3);
  const response = await asked;
  const reader = response.body?.getReader() as ReadableStreamDefaultReader<Uint8Array>;
  let text = "";
  while (!text.includes("content_block_start")) text += decoder.decode((await reader.read()).value);
  return { response, reader };
}

/** A stream of which nothing is read; nothing of it is kept. */
async function beginAnswer(bench: ClientBench, init: RequestInit): Promise<void> {
  const index = bench.simulator.requests.length;
  const asked = ask(bench, STREAM, init);
  await bench.simulator.arrived(index);
  bench.simulator.step(3);
  expect((await asked).status).toBe(200);
}

const stepping = { simulator: { requireStepping: true } };

/** Settled as a stream that was cut: at least what the provider bills. */
function expectCut(bench: ClientBench, call: Awaited<ReturnType<ClientBench["calls"]>>[number] | undefined): void {
  expect(call?.status).toBe("settled");
  expect(call?.result?.flags).toContain("estimated");
  expect(call?.costNanoUsd).toBeGreaterThanOrEqual(bench.simulator.bill.totalNanoUsd);
}

describe("a caller that leaves", () => {
  it("in mid-stream by its signal learns its own reason, and the provider is left at once", async () => {
    const bench = await startClientBench(stepping);
    const controller = new AbortController();
    const { reader } = await beginStream(bench, { signal: controller.signal });
    const reason = new Error("the user closed the tab");

    const next = reader.read().catch((error: unknown) => error);
    controller.abort(reason);

    expect(await next).toBe(reason);
    const [call] = await ended(bench);
    expectCut(bench, call);
    expect(bench.simulator.aborted).toBe(1);
  });

  it("by its signal while it reads nothing learns it with the next read", async () => {
    const bench = await startClientBench(stepping);
    const controller = new AbortController();
    const { reader } = await beginStream(bench, { signal: controller.signal });

    controller.abort();
    const [call] = await ended(bench);

    expectCut(bench, call);
    await expect(reader.read()).rejects.toThrow(controller.signal.reason as Error);
  });

  it("by cancelling what it reads, or by breaking out of a loop over it, is gone", async () => {
    const bench = await startClientBench(stepping);
    const { reader } = await beginStream(bench);
    await reader.cancel("enough");
    const asked = ask(bench, STREAM);
    await bench.simulator.arrived(1);
    bench.simulator.step(3);
    for await (const _ of (await asked).body ?? []) break;

    const all = await ended(bench);

    expect(all.map(({ result }) => result?.flags.includes("estimated"))).toEqual([true, true]);
    expect(bench.simulator.aborted).toBe(2);
  });

  it("before the answer is told its reason, and the call counts as lost", async () => {
    const bench = await startClientBench(stepping);
    const controller = new AbortController();
    const asked = ask(bench, REQUEST, { signal: controller.signal }).catch((error: unknown) => error);
    await bench.simulator.arrived(0);

    controller.abort();

    expect(await asked).toBe(controller.signal.reason);
    const [call] = await ended(bench);
    expect(call?.result?.flags).toContain("unknown");
    expect(call?.costNanoUsd).toBeGreaterThanOrEqual(bench.simulator.bill.totalNanoUsd);
  });

  it("before anything was sent holds nothing and costs nothing", async () => {
    const bench = await startClientBench();

    await expect(ask(bench, REQUEST, { signal: AbortSignal.abort(new Error("never mind")) })).rejects.toThrow("never mind");

    expect(bench.simulator.requests).toEqual([]);
    expect((await bench.calls()).filter(({ status }) => status !== "voided")).toEqual([]);
  });

  it("while it waits in line leaves the line, and whoever comes behind goes on", async () => {
    const bench = await startClientBench({
      ...stepping,
      limits: [{ name: "one", per: "all", concurrency: 1 }],
    });
    const { reader } = await beginStream(bench);
    const controller = new AbortController();
    const second = ask(bench, REQUEST, { signal: controller.signal }).catch((error: unknown) => error);
    const third = ask(bench);
    await sleepFor(0);

    controller.abort();
    expect(await second).toBe(controller.signal.reason);
    await reader.cancel();
    await bench.simulator.arrived(1);
    bench.simulator.step(1_000);

    expect((await third).headers.get("x-purser-decision")).toBe("waited");
    expect(bench.simulator.requests).toHaveLength(2);
  });

  it("with onClientAbort: drain is not waited for, and the answer is read on for its bill", async () => {
    const bench = await startClientBench({ ...stepping, config: { onClientAbort: "drain" } });
    const controller = new AbortController();
    const { reader } = await beginStream(bench, { signal: controller.signal });
    const waiting = ask(bench, REQUEST, { signal: controller.signal }).catch((error: unknown) => error);
    await bench.simulator.arrived(1);

    controller.abort();
    await expect(reader.read()).rejects.toThrow(controller.signal.reason as Error);
    expect(await waiting).toBe(controller.signal.reason);
    bench.simulator.step(1_000);

    const all = await ended(bench);
    expect(all.map(({ result }) => result?.flags)).toEqual([[], []]);
    expect(sumOf(all)).toBe(bench.simulator.bill.totalNanoUsd);
    expect(bench.simulator.aborted).toBe(0);
  });
});

describe("an answer that nobody reads", () => {
  it("of JSON is settled all the same", async () => {
    const bench = await startClientBench();

    await ask(bench);

    expect((await bench.calls())[0]).toMatchObject({ status: "settled", costNanoUsd: bench.simulator.bill.totalNanoUsd });
  });

  it("in pieces is given up and settled once nobody holds it, read from or not, also while its signal is held", async () => {
    const bench = await startClientBench(stepping);
    const { signal } = new AbortController();
    await beginStream(bench, { signal });
    await beginAnswer(bench, { signal });

    for (let open = 2; open > 0;) {
      // Collected and told between turns of the event loop, not within them.
      await sleepFor(5);
      collect();
      open = (await bench.calls()).filter(({ status }) => status === "reserved").length;
    }

    await bench.simulator.idle();
    expect(bench.simulator.aborted).toBe(2);
    const all = await bench.calls();
    expect(all.map(({ status, result }) => [status, result?.isEstimated])).toEqual([
      ["settled", true],
      ["settled", true],
    ]);
    expect(sumOf(all)).toBeGreaterThanOrEqual(bench.simulator.bill.totalNanoUsd);
  });

  it("but is held stays open however often garbage is collected", async () => {
    const bench = await startClientBench(stepping);
    const { reader } = await beginStream(bench);

    for (let round = 0; round < 5; round += 1) {
      await sleepFor(5);
      collect();
    }

    bench.simulator.step(1_000);
    let last = await reader.read();
    while (!last.done) last = await reader.read();
    expect((await ended(bench))[0]?.result?.flags).toEqual([]);
  });
});

describe("a provider that fails", () => {
  it("to be reached rejects as fetch does, and costs nothing", async () => {
    const bench = await startClientBench({ config: {} });
    await bench.simulator.close();

    const direct = await fetch(`${bench.url}/v1/messages`, messageInit()).catch((error: unknown) => error as Error);
    const through = await ask(bench).catch((error: unknown) => error as Error);

    expect(through).toBeInstanceOf(TypeError);
    expect((through as Error).message).toBe((direct as Error).message);
    expect((through as { cause: { code: string } }).cause.code).toBe("ECONNREFUSED");
    expect((await bench.calls())[0]?.status).toBe("voided");
  });

  it("without an answer rejects as fetch does, and counts as lost", async () => {
    const bench = await startClientBench();
    bench.simulator.next({ kind: "close" });

    await expect(ask(bench)).rejects.toThrow("fetch failed");

    const [call] = await ended(bench);
    expect(call?.result?.flags).toContain("unknown");
    expect(call?.costNanoUsd).toBeGreaterThanOrEqual(bench.simulator.bill.totalNanoUsd);
  });

  it("in the middle of an answer gives what came, and then breaks off", async () => {
    const bench = await startClientBench();
    bench.simulator.next({ kind: "cut", afterBytes: 40 });
    bench.simulator.next({ kind: "cut", afterEvents: 4 });

    const json = await ask(bench);
    expect(json.status).toBe(200);
    await expect(json.json()).rejects.toThrow("terminated");
    const stream = await ask(bench, STREAM);
    const seen: string[] = [];
    const read = async (): Promise<void> => {
      for await (const chunk of stream.body ?? []) seen.push(decoder.decode(chunk));
    };
    await expect(read()).rejects.toThrow("terminated");

    expect(seen.join("")).toContain("message_start");
    const all = await ended(bench);
    expect(all.map(({ status }) => status)).toEqual(["settled", "settled"]);
    expect(sumOf(all)).toBeGreaterThanOrEqual(bench.simulator.bill.totalNanoUsd);
    expect(bench.warnings).toEqual([]);
  });
});

describe("purser.close", () => {
  it("waits for what runs, takes nothing new, and may be asked for twice", async () => {
    const bench = await startClientBench(stepping);
    const { reader } = await beginStream(bench);

    const closed = Promise.all([bench.purser.close(), bench.purser.close()]);
    await expect(ask(bench)).rejects.toThrow("this Purser is closed");
    bench.simulator.step(1_000);
    let last = await reader.read();
    while (!last.done) last = await reader.read();
    await closed;

    expect((await bench.calls()).map(({ status, result }) => [status, result?.flags])).toEqual([["settled", []]]);
  });

  it("cuts at its deadline what still runs, and settles it; who waits in line is told", async () => {
    const bench = await startClientBench({ ...stepping, limits: [{ name: "two", per: "all", concurrency: 2 }] });
    const { reader } = await beginStream(bench);
    const silent = ask(bench).catch((error: unknown) => error);
    await bench.simulator.arrived(1);
    const waiting = ask(bench).catch((error: unknown) => error);
    await sleepFor(0);

    await bench.purser.close({ deadlineMs: 50 });

    expect(String(await waiting)).toContain("was closed while the call waited");
    await expect(reader.read()).rejects.toThrow("Purser was closed");
    expect(String(await silent)).toContain("Purser was closed");
    const all = await bench.calls();
    expect(all.filter(({ status }) => status === "settled")).toHaveLength(2);
    expect(all.filter(({ status }) => status === "reserved")).toEqual([]);
  });

  it("ends a call at once when its caller leaves, also where what it is sent with hears no signal", async () => {
    const bench = await startClientBench({ fetch: () => new Promise(() => undefined) });
    const controller = new AbortController();
    const asked = ask(bench, REQUEST, { signal: controller.signal }).catch((error: unknown) => error);
    while ((await bench.calls()).length === 0) await sleepFor(1);
    controller.abort(new Error("no longer wanted"));

    expect(String(await asked)).toContain("no longer wanted");
    while ((await bench.calls()).some(({ status }) => status === "reserved")) await sleepFor(1);
    expect((await bench.calls()).map(({ status, result }) => [status, result?.flags])).toEqual([["settled", ["unknown"]]]);
  });
});
