/**
 * Goal: callers that leave, dawdle or lie cost nobody else anything: no busy connection to the provider, no money held, no slower answers.
 * Method: real sockets; what is left behind is looked for at the provider and in the ledger.
 */
import { once } from "node:events";
import type { Socket } from "node:net";
import { describe, expect, it, onTestFinished } from "vitest";
import { startBench, type Bench } from "./harness.ts";
import { ask, begin, connectTo, exchange, messageOf, until } from "./http.ts";

/** Nothing runs, nothing is held, and the next call is served. */
async function expectNothingLeft(bench: Bench): Promise<void> {
  await bench.simulator.idle();
  await until(() => bench.gateway.engine.runningCount + bench.gateway.engine.unsettledCount === 0);
  expect((await bench.calls()).filter(({ status }) => status === "reserved")).toEqual([]);
  expect(bench.simulator.openStreams).toBe(0);
  expect((await ask(bench.url)).status).toBe(200);
}

describe("callers that leave", () => {
  it("1,000 times in the middle of a stream leave no busy connection and no reservation", async () => {
    const bench = await startBench({ yaml: "limits: [{ name: few, per: all, concurrency: 50 }]\n" });
    bench.simulator.always({ kind: "answer", outputTokens: 200, deltas: 20, eventPaceMs: 50 });
    const body = messageOf({ stream: true });
    for (let round = 0; round < 20; round += 1) {
      const heads = await Promise.all(Array.from({ length: 50 }, () => begin(bench.url, { body })));
      expect(heads.filter(({ statusCode }) => statusCode !== 200)).toEqual([]);
      for (const head of heads) head.destroy();
    }

    await until(() => bench.gateway.engine.runningCount === 0);
    bench.simulator.always({ kind: "answer", outputTokens: 20 });
    await expectNothingLeft(bench);
    expect((await bench.calls()).length).toBe(1_001);
  }, 90_000);

  it("after any byte of their request leave nothing behind", async () => {
    const bench = await startBench();
    const body = messageOf();
    const head = `POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: k\r\nanthropic-version: 2023-06-01\r\ncontent-length: ${body.length}\r\n\r\n`;
    const bytes = head + body;
    for (let at = 0; at < bytes.length; at += 50) {
      const offsets = Array.from({ length: Math.min(50, bytes.length - at) }, (_, index) => at + index + 1);
      await Promise.all(
        offsets.map(async (offset) => {
          const socket = await connectTo(bench.url);
          await new Promise<void>((resolve) => socket.write(bytes.slice(0, offset), () => resolve()));
          socket.destroy();
        }),
      );
    }

    await expectNothingLeft(bench);
    // Only the request that was whole can have become a call.
    expect((await bench.calls()).length).toBeLessThanOrEqual(2);
  }, 60_000);
});

describe("callers that leave while they are answered", () => {
  it.each([
    ["an answer", {}],
    ["a stream", { stream: true }],
  ])(
    "after any byte of %s leave nothing behind, and every call is counted",
    async (_, extra) => {
      const bench = await startBench();
      const body = messageOf(extra);
      const request = `POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: k\r\nanthropic-version: 2023-06-01\r\nconnection: close\r\ncontent-length: ${body.length}\r\n\r\n${body}`;
      const answer = await exchange(bench.url, request);
      const leaveAfter = async (bytes: number): Promise<void> => {
        const socket = await connectTo(bench.url);
        const gone = once(socket, "close");
        let read = 0;
        socket.on("data", (chunk) => (read += chunk.length) >= bytes && socket.destroy());
        socket.on("error", () => undefined).write(request);
        await gone;
      };
      const offsets = Array.from({ length: answer.length }, (_, index) => index + 1).filter((at) => at < 40 || at % 7 === 0);
      for (let at = 0; at < offsets.length; at += 25) await Promise.all(offsets.slice(at, at + 25).map(leaveAfter));

      await expectNothingLeft(bench);
      const calls = await bench.calls();
      expect(calls).toHaveLength(offsets.length + 2);
      expect(calls.filter(({ status }) => status !== "settled")).toEqual([]);
    },
    60_000,
  );
});

describe("callers that lie", () => {
  const CHUNKED =
    "POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: k\r\nanthropic-version: 2023-06-01\r\ntransfer-encoding: chunked\r\n\r\n";
  const body = messageOf();

  it("about the size of a chunk make no call", async () => {
    const bench = await startBench();
    const lies = {
      "no size": `zz\r\n${body}\r\n0\r\n\r\n`,
      "a negative size": `-5\r\n${body}\r\n0\r\n\r\n`,
      "a size below what follows": `5\r\n${body}\r\n0\r\n\r\n`,
      "a size beyond any number": `${"f".repeat(20)}\r\n${body}\r\n0\r\n\r\n`,
      "a bare line feed behind a size": `${body.length.toString(16)}\n${body}\r\n0\r\n\r\n`,
      "a last chunk that is not the last": `0\r\n${body}\r\n0\r\n\r\n`,
    };
    for (const [lie, chunks] of Object.entries(lies)) {
      expect([lie, await exchange(bench.url, CHUNKED + chunks)]).not.toEqual([lie, expect.stringMatching(/^HTTP\/1\.1 200/)]);
    }

    expect(bench.simulator.requests).toEqual([]);
    await expectNothingLeft(bench);
  });

  it("about the size of a chunk, and then send no more, are given up", async () => {
    const bench = await startBench({ gateway: { timeouts: { slowBodyMs: 100 } } });

    expect(await exchange(bench.url, `${CHUNKED}ffff\r\n${body}`)).toContain("too slowly");

    expect(bench.simulator.requests).toEqual([]);
    await expectNothingLeft(bench);
  });
});

describe("callers that dawdle", () => {
  it("2,000 of them, silent, in the middle of heads or of bodies, make nobody else wait", async () => {
    const bench = await startBench();
    const timeOf = async (): Promise<number> => {
      const startedMs = performance.now();
      expect((await ask(bench.url)).status).toBe(200);
      return performance.now() - startedMs;
    };
    const medianOf = async (): Promise<number> => {
      const times: number[] = [];
      for (let count = 0; count < 60; count += 1) times.push(await timeOf());
      return times.sort((left, right) => left - right)[30] ?? Number.NaN;
    };
    await medianOf();
    const calmMs = await medianOf();
    const beginnings = [
      "",
      "POST /v1/mess",
      "POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: k\r\ncontent-length: 500\r\n\r\n{",
    ];
    const sockets = await Promise.all(
      Array.from({ length: 2_000 }, async (_, index): Promise<Socket> => {
        const socket = await connectTo(bench.url);
        socket.on("error", () => undefined).write(beginnings[index % 3] ?? "");
        return socket;
      }),
    );
    onTestFinished(() => sockets.forEach((socket) => socket.destroy()));

    // The machine is shared, so this is generous: a scan of all open sockets per call would be far above it.
    expect(await medianOf()).toBeLessThan(3 * calmMs + 5);
  }, 60_000);

  it("are told 400 after a while, and their memory is free again", async () => {
    const bench = await startBench({ gateway: { timeouts: { slowBodyMs: 100 } } });
    const socket = await connectTo(bench.url);
    onTestFinished(() => void socket.destroy());
    let text = "";
    socket.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
    socket.write("POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: k\r\ncontent-length: 500\r\n\r\n{");

    await until(() => text.includes("too slowly"));

    expect(text.startsWith("HTTP/1.1 400 ")).toBe(true);
    await expectNothingLeft(bench);
  });
});
