/**
 * Goal: whatever a provider does to its answers, its bytes reach the caller as they came, the call ends and is counted, and the next one
 * is served. Method: providers on raw sockets, which write exactly what a case says.
 */
import { createServer, type AddressInfo, type Socket } from "node:net";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { CallRecord } from "../../src/ledger/ledger.ts";
import { startSharedBench, type Bench } from "./harness.ts";
import { begin, messageOf, until } from "./http.ts";

type Script = (socket: Socket) => void | Promise<void>;

/** One gateway before one provider, which follows a script for each request. */
let bench: Bench;
let closeAll: () => Promise<void>;
const connections = new Set<Socket>();
let scripts: Script[] = [];
let callsBefore = 0;

beforeAll(async () => {
  const server = createServer((socket) => {
    connections.add(socket);
    let text = "";
    socket.on("error", () => undefined).on("close", () => connections.delete(socket));
    socket.on("data", (bytes) => {
      text += bytes.toString("latin1");
      if (!text.endsWith("]}") && !text.endsWith("true}")) return;
      text = "";
      void scripts.shift()?.(socket);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const timeouts = { headersMs: 1_000, bodyMs: 1_000 };
  const shared = await startSharedBench({ env: { PURSER_ANTHROPIC_URL: url }, gateway: { timeouts } });
  bench = shared.bench;
  closeAll = async () => {
    for (const socket of connections) socket.destroy();
    server.close();
    await shared.close();
  };
});
afterAll(() => closeAll());

/** From here on, what is asked is answered so. */
async function follow(...next: Script[]): Promise<void> {
  scripts = next;
  callsBefore = (await bench.calls()).length;
}

const event = (type: string, data: object, end = "\n"): string =>
  `event: ${type}${end}data: ${JSON.stringify({ type, ...data })}${end}${end}`;
const START = { message: { id: "m", model: "claude-sonnet-5-5", usage: { input_tokens: 10, output_tokens: 1 } } };
const DELTA = { delta: { stop_reason: "end_turn" }, usage: { output_tokens: 7 } };
const streamOf = (end = "\n", between = ""): string =>
  [event("message_start", START, end), between, event("message_delta", DELTA, end), event("message_stop", {}, end)].join("");
const STREAM = streamOf();
const JSON_ANSWER = JSON.stringify({
  type: "message",
  id: "m",
  model: "claude-sonnet-5-5",
  content: [],
  stop_reason: "end_turn",
  usage: { input_tokens: 10, output_tokens: 7 },
});

const HEAD = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n";
const CHUNKED = `${HEAD}transfer-encoding: chunked\r\n\r\n`;
const lengthOf = (body: string | Buffer, type = "application/json"): string =>
  `HTTP/1.1 200 OK\r\ncontent-type: ${type}\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n`;
const chunk = (text: string | Buffer): Buffer =>
  Buffer.concat([Buffer.from(`${Buffer.byteLength(text).toString(16)}\r\n`), Buffer.from(text), Buffer.from("\r\n")]);
const LAST = "0\r\n\r\n";

const say =
  (...pieces: (string | Buffer)[]): Script =>
  (socket) => {
    for (const piece of pieces) socket.write(piece);
  };
/** A piece each turn of the event loop, so that each is a read of its own. */
const drip =
  (bytes: Buffer): Script =>
  async (socket) => {
    for (const byte of bytes) {
      await new Promise<void>((resolve) => socket.write(Uint8Array.of(byte), () => setImmediate(resolve)));
    }
  };

interface Heard {
  status: number;
  body: Buffer;
  isWhole: boolean;
}

/** Asks, and hears the answer to its end, however it ends. */
async function hear({ isStream = true } = {}): Promise<Heard> {
  const answer = await begin(bench.url, { body: messageOf(isStream ? { stream: true } : {}) });
  const chunks: Buffer[] = [];
  answer.on("data", (bytes: Buffer) => chunks.push(bytes));
  await new Promise<void>((resolve) => answer.once("close", () => resolve()).on("error", () => undefined));
  return { status: answer.statusCode ?? 0, body: Buffer.concat(chunks), isWhole: answer.complete };
}

/** The calls since the test began, once all have ended. */
async function endedCalls(): Promise<CallRecord[]> {
  await until(() => bench.gateway.engine.runningCount + bench.gateway.engine.unsettledCount === 0);
  return (await bench.calls()).slice(callsBefore);
}

async function expectNextIsServed(): Promise<void> {
  scripts = [GOOD];
  expect((await hear({ isStream: false })).body.toString()).toBe(JSON_ANSWER);
  expect((await endedCalls()).filter(({ status }) => status !== "settled")).toEqual([]);
}

const GOOD: Script = say(lengthOf(JSON_ANSWER), JSON_ANSWER);

describe("an answer that is whole", () => {
  const longLine = event("content_block_delta", { index: 0, delta: { type: "text_delta", text: "x".repeat(10_000_000) } });
  const bomb = gzipSync(Buffer.concat([Buffer.from(STREAM), Buffer.alloc(30_000_000, "\n")]));

  it.each<[string, Script, Buffer]>([
    ["with CRLF in its events", say(CHUNKED, chunk(streamOf("\r\n")), LAST), Buffer.from(streamOf("\r\n"))],
    ["with CR alone in its events", say(CHUNKED, chunk(streamOf("\r")), LAST), Buffer.from(streamOf("\r"))],
    ["with a byte order mark", say(CHUNKED, chunk(`\ufeff${STREAM}`), LAST), Buffer.from(`\ufeff${STREAM}`)],
    ["with a line of 10 MB", say(CHUNKED, chunk(streamOf("\n", longLine)), LAST), Buffer.from(streamOf("\n", longLine))],
    ["with trailers", say(CHUNKED, chunk(STREAM), "0\r\nx-checksum: 1\r\nx-b: 2\r\n\r\n"), Buffer.from(STREAM)],
    [
      "with extensions of its chunks",
      say(CHUNKED, `${STREAM.length.toString(16)};a="b"\r\n${STREAM}\r\n0\r\n\r\n`),
      Buffer.from(STREAM),
    ],
    [
      "behind informational answers",
      say("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nlink: x\r\n\r\n", CHUNKED, chunk(STREAM), LAST),
      Buffer.from(STREAM),
    ],
    [
      "a byte at a time, with characters cut",
      drip(Buffer.concat([Buffer.from(CHUNKED), chunk(streamOf("\n", ": ✓ é\n\n")), Buffer.from(LAST)])),
      Buffer.from(streamOf("\n", ": ✓ é\n\n")),
    ],
    ["ended by its connection", (socket) => void socket.end(`${HEAD}connection: close\r\n\r\n${STREAM}`), Buffer.from(STREAM)],
    [
      "whose sender closes its half first",
      (socket) => void socket.end(Buffer.concat([Buffer.from(CHUNKED), chunk(STREAM), Buffer.from(LAST)])),
      Buffer.from(STREAM),
    ],
    [
      "compressed to a thousandth",
      say(`${HEAD}content-encoding: gzip\r\n`, "transfer-encoding: chunked\r\n\r\n", chunk(bomb), LAST),
      bomb,
    ],
  ])("%s reaches the caller as it came, and is counted", async (_, script, bytes) => {
    await follow(script);

    const heard = await hear();

    expect([heard.status, heard.isWhole, heard.body.equals(bytes)]).toEqual([200, true, true]);
    const [call] = await endedCalls();
    expect(call).toMatchObject({ status: "settled", result: { isEstimated: false, tokens: { outputTokens: 7 } } });
    await expectNextIsServed();
  });

  it("with bytes behind it is passed on without them, and the next call gets its own answer", async () => {
    await follow(say(lengthOf(JSON_ANSWER), `${JSON_ANSWER}HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison`));

    expect((await hear({ isStream: false })).body.toString()).toBe(JSON_ANSWER);
    await until(() => connections.size === 0);
    await expectNextIsServed();
  });
});

describe("an answer that stops", () => {
  it.each<[string, Script, string]>([
    [
      "in the middle of an event, and goes silent",
      say(CHUNKED, chunk(event("message_start", START)), "20\r\nevent: me"),
      `${event("message_start", START)}event: me`,
    ],
    [
      "in the middle of a character",
      (socket) =>
        void socket.end(
          Buffer.concat([Buffer.from(CHUNKED), chunk(event("message_start", START)), Buffer.from("9\r\n: é").subarray(0, 6)]),
        ),
      "",
    ],
    ["with a broken chunk", say(CHUNKED, chunk(event("message_start", START)), "zz\r\n"), event("message_start", START)],
    [
      "before its length",
      (socket) => void socket.end(`${lengthOf("x".repeat(2_000), "text/event-stream")}${event("message_start", START)}`),
      event("message_start", START),
    ],
    [
      "by a reset",
      (socket) =>
        void socket.write(Buffer.concat([Buffer.from(CHUNKED), chunk(event("message_start", START))]), () =>
          setTimeout(() => socket.resetAndDestroy(), 20),
        ),
      event("message_start", START),
    ],
  ])("%s, is no whole one for the caller either, and is counted from what it said", async (_, script, beginning) => {
    await follow(script);

    const heard = await hear();

    expect([heard.status, heard.isWhole]).toEqual([200, false]);
    expect(heard.body.toString().startsWith(beginning)).toBe(true);
    const [call] = await endedCalls();
    expect(call?.result).toMatchObject({ isEstimated: true, tokens: { uncachedInputTokens: 10 } });
    await expectNextIsServed();
  });
});

describe("no answer", () => {
  it.each<[string, Script, number]>([
    ["silence", () => undefined, 504],
    ["1,000 informational answers", say("HTTP/1.1 102 Processing\r\n\r\n".repeat(1_000)), 502],
    [
      "informational answers for ever",
      (socket) => {
        const timer = setInterval(() => socket.write("HTTP/1.1 102 Processing\r\n\r\n"), 50);
        socket.once("close", () => clearInterval(timer));
      },
      504,
    ],
    ["another protocol", say("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n"), 502],
    ["a length and chunks", say(`${HEAD}content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`), 502],
    ["two lengths", say(`${HEAD}content-length: 3\r\ncontent-length: 2\r\n\r\nabc`), 502],
    ["headers without end", say(`${HEAD}${"x: y\r\n".repeat(100_000)}`), 502],
    ["a folded header", say(`${HEAD}x: y\r\n z\r\ncontent-length: 0\r\n\r\n`), 502],
    ["a closed connection", (socket) => void socket.end(), 502],
    ["a reset", (socket) => void socket.resetAndDestroy(), 502],
    ["half a head", (socket) => void socket.end(HEAD), 502],
  ])("but %s is told to the caller in time, and the call is counted at its bound", async (_, script, status) => {
    await follow(script);

    const heard = await hear();

    expect([heard.status, heard.isWhole]).toEqual([status, true]);
    expect((await endedCalls())[0]?.result?.flags).toContain("unknown");
    await expectNextIsServed();
  });
});

it("a kept connection that is reset under the next request loses it once: it is not sent a second time", async () => {
  let resets = 0;
  const reset: Script = (socket) => {
    resets += 1;
    socket.resetAndDestroy();
  };
  await follow(GOOD, reset, reset);

  expect((await hear({ isStream: false })).status).toBe(200);
  expect((await hear({ isStream: false })).status).toBe(502);

  expect(resets).toBe(1);
  expect((await endedCalls())[1]?.result?.flags).toContain("unknown");
  await expectNextIsServed();
});
