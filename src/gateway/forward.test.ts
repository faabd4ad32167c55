/** Carrying calls between raw sockets, with the engine on a ledger in memory. */
import { once } from "node:events";
import { createServer, type Server, type ServerResponse } from "node:http";
import { connect, createServer as createSocketServer, type AddressInfo, type Socket } from "node:net";
import { describe, expect, onTestFinished, test } from "vitest";
import { startEngine, type EngineBench } from "../engine/engine.fixture.ts";
import { forward } from "./forward.ts";
import { createUpstream, UpstreamError, type Upstream, type UpstreamFailure } from "./upstream.ts";

const START = `event: message_start\ndata: ${JSON.stringify({
  type: "message_start",
  message: { id: "m", model: "claude-haiku-5-5", usage: { input_tokens: 10, output_tokens: 1 } },
})}\n\n`;
const HEAD = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n";

interface Bench extends EngineBench {
  port: number;
  failures: UpstreamFailure[];
  responses: ServerResponse[];
  /** All calls of the ledger have their ending. */
  ended(): Promise<void>;
}

/** A gateway that does nothing but carry calls. */
async function startCarrier(upstream: Upstream): Promise<Bench> {
  const bench = await startEngine("limits: [{ name: roomy, per: all, usd: 1000, every: day }]");
  const failures: UpstreamFailure[] = [];
  const responses: ServerResponse[] = [];
  const server = createServer((request, response) => {
    responses.push(response);
    request.resume();
    void (async () => {
      const opening = await bench.engine.open(bench.callOf());
      if (opening.outcome !== "admitted") throw new Error(opening.outcome);
      await forward({
        call: opening.call,
        upstream,
        path: "/v1/messages",
        requestIdHeader: "request-id",
        headers: [],
        response,
        onClientAbort: "cancel",
        refuse: (failure) => {
          failures.push(failure);
          response.writeHead(502).end();
        },
      });
    })();
  });
  const port = await listen(server);
  const ended = async (): Promise<void> => {
    while (bench.engine.runningCount + bench.engine.unsettledCount > 0) await new Promise((resolve) => setImmediate(resolve));
  };
  return { ...bench, port, failures, responses, ended };
}

async function listen(server: Server | ReturnType<typeof createSocketServer>): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void server.close());
  return (server.address() as AddressInfo).port;
}

/** A provider on raw sockets, that answers every request as told once its body has come. */
async function startProvider(answer: (socket: Socket) => void): Promise<Upstream> {
  const server = createSocketServer((socket) => {
    let received = "";
    socket.on("error", () => undefined);
    socket.on("data", (chunk) => {
      received += chunk.toString("latin1");
      if (!received.endsWith("]}")) return;
      received = "";
      answer(socket);
    });
  });
  const upstream = createUpstream(`http://127.0.0.1:${await listen(server)}`);
  onTestFinished(() => upstream.close());
  return upstream;
}

const chunkOf = (text: string): string => `${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`;

/** Asks on a raw socket, and waits for the connection to end: what was read, and whether it was reset. */
async function ask(port: number, version = "1.1"): Promise<{ text: string; wasReset: boolean }> {
  const socket = connect({ port, host: "127.0.0.1" });
  const chunks: Buffer[] = [];
  let wasReset = false;
  socket.on("error", () => (wasReset = true));
  socket.on("data", (chunk: Buffer) => chunks.push(chunk));
  socket.write(`POST /v1/messages HTTP/${version}\r\nhost: x\r\ncontent-length: 0\r\n\r\n`);
  await new Promise((resolve) => socket.once("close", resolve));
  return { text: Buffer.concat(chunks).toString(), wasReset };
}

/** Asks on a raw socket and reads nothing yet; `readAll` reads until the connection ends: the body without its chunks' lengths. */
function askWithoutReading(port: number): { readAll(): Promise<{ body: string; hasEnd: boolean }> } {
  const socket = connect({ port, host: "127.0.0.1" });
  socket.on("error", () => undefined);
  socket.write("POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n");
  return {
    async readAll() {
      const chunks: Buffer[] = [];
      socket.on("data", (chunk: Buffer) => chunks.push(chunk));
      await new Promise((resolve) => socket.once("close", resolve));
      return unchunk(Buffer.concat(chunks));
    },
  };
}

function unchunk(answer: Buffer): { body: string; hasEnd: boolean } {
  let rest = answer.subarray(answer.indexOf("\r\n\r\n") + 4);
  const parts: Buffer[] = [];
  for (;;) {
    const lineEnd = rest.indexOf("\r\n");
    const length = Number.parseInt(rest.toString("latin1", 0, Math.max(0, lineEnd)), 16);
    if (lineEnd < 0 || length === 0) return { body: Buffer.concat(parts).toString(), hasEnd: length === 0 };
    parts.push(rest.subarray(lineEnd + 2, lineEnd + 2 + length));
    rest = rest.subarray(lineEnd + 2 + length + 2);
  }
}

describe("an answer that breaks off", () => {
  test("ends without an end, with everything in it that was written before, also for a caller that reads late", async () => {
    const piece = `event: content_block_delta\ndata: {"type":"content_block_delta","x":"${"y".repeat(2_000)}"}\n\n`;
    let bench: Bench | undefined;
    let body = START;
    const upstream = await startProvider((socket) => {
      socket.write(`${HEAD}transfer-encoding: chunked\r\n\r\n${chunkOf(START)}`);
      // Until the caller's socket holds no more, and something lies in the gateway: then the provider dies.
      const writeOne = (): void => {
        body += piece;
        const isHeld = (bench?.responses[0]?.writableLength ?? 0) > 0;
        socket.write(chunkOf(piece), () => (isHeld ? socket.destroy() : setImmediate(writeOne)));
      };
      writeOne();
    });
    bench = await startCarrier(upstream);
    const caller = askWithoutReading(bench.port);
    while (bench.flaky.memory.entries.length === 0) await new Promise((resolve) => setImmediate(resolve));
    await bench.ended();

    const read = await caller.readAll();

    expect([read.body.length, read.hasEnd]).toEqual([body.length, false]);
    expect((await bench.flaky.memory.calls({ limit: 1 }))[0]).toMatchObject({
      status: "settled",
      result: { flags: ["estimated"] },
    });
  });

  test("is reset where the connection's end would be taken for the answer's: a caller of HTTP/1.0", async () => {
    const upstream = await startProvider((socket) => {
      socket.write(`${HEAD}transfer-encoding: chunked\r\n\r\n${chunkOf(START)}`, () => socket.destroy());
    });
    const bench = await startCarrier(upstream);

    expect((await ask(bench.port, "1.0")).wasReset).toBe(true);
    await bench.ended();
  });

  test("that came whole ends cleanly for the same caller", async () => {
    const upstream = await startProvider((socket) => {
      socket.write(`${HEAD}transfer-encoding: chunked\r\n\r\n${chunkOf(START)}0\r\n\r\n`);
    });
    const bench = await startCarrier(upstream);
    const { text, wasReset } = await ask(bench.port, "1.0");

    expect(wasReset).toBe(false);
    expect(text.endsWith(START)).toBe(true);
  });

  test("before anything of it was written closes the connection without an answer", async () => {
    const upstream = await startProvider((socket) => {
      socket.write("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{", () => socket.destroy());
    });
    const bench = await startCarrier(upstream);

    expect((await ask(bench.port)).text).toBe("");
    await bench.ended();
    expect((await bench.flaky.memory.calls({ limit: 1 }))[0]?.result?.flags).toEqual(["unknown"]);
  });
});

async function failAfter(before: Promise<void> | void, failure: UpstreamFailure): Promise<never> {
  await before;
  throw new UpstreamError(failure, undefined);
}

describe("a call that never reached the provider", () => {
  const failing = (failure: UpstreamFailure, before: () => Promise<void> | void): Upstream => ({
    send: () => ({ answer: failAfter(before(), failure), abort: () => undefined }),
    close: () => Promise.resolve(),
  });

  test("costs nothing, also where its caller left meanwhile", async () => {
    const failure: UpstreamFailure = { kind: "not_sent", reason: "ECONNREFUSED" };
    let bench: Bench | undefined;
    bench = await startCarrier(
      failing(failure, async () => {
        const [response] = bench?.responses ?? [];
        response?.destroy();
        if (response !== undefined) await once(response, "close");
      }),
    );

    await ask(bench.port);
    await bench.ended();

    expect((await bench.flaky.memory.calls({ limit: 1 }))[0]).toMatchObject({ status: "voided", costNanoUsd: 0n });
    expect(bench.failures).toEqual([]);
  });

  test("is told to a caller that is still there", async () => {
    const bench = await startCarrier(failing({ kind: "not_sent", reason: "ECONNREFUSED" }, () => undefined));
    const response = await fetch(`http://127.0.0.1:${bench.port}/v1/messages`, { method: "POST" });

    expect(response.status).toBe(502);
    expect(bench.failures).toEqual([{ kind: "not_sent", reason: "ECONNREFUSED" }]);
  });

  test.each<UpstreamFailure>([
    { kind: "lost", reason: "ECONNRESET" },
    { kind: "timeout", reason: "headers_timeout" },
  ])("but may have costs its bound: %j", async (failure) => {
    const bench = await startCarrier(failing(failure, () => undefined));
    await fetch(`http://127.0.0.1:${bench.port}/v1/messages`, { method: "POST" });
    await bench.ended();

    const [call] = await bench.flaky.memory.calls({ limit: 1 });
    expect(call).toMatchObject({ status: "settled", result: { flags: ["unknown"] } });
    expect(call?.costNanoUsd).toBeGreaterThan(0n);
    expect(bench.failures).toEqual([failure]);
  });

  test("by a mistake of ours holds nothing afterwards", async () => {
    const bench = await startEngine("limits: [{ name: roomy, per: all, usd: 1000, every: day }]");
    const opening = await bench.engine.open(bench.callOf());
    if (opening.outcome !== "admitted") throw new Error(opening.outcome);
    const upstream: Upstream = {
      send: () => {
        throw new TypeError("ours");
      },
      close: () => Promise.resolve(),
    };
    const server = createServer((_request, response) => {
      const carried = forward({
        call: opening.call,
        upstream,
        path: "/",
        requestIdHeader: "request-id",
        headers: [],
        response,
        onClientAbort: "cancel",
        refuse: () => undefined,
      });
      carried.catch((error: Error) => response.writeHead(500).end(error.message));
    });
    const response = await fetch(`http://127.0.0.1:${await listen(server)}`);

    expect(await response.text()).toBe("ours");
    expect([bench.engine.runningCount, await bench.reserved()]).toEqual([0, 0n]);
  });
});
