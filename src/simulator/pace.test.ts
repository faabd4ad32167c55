/** When things are written, what happens when nobody reads, and what a call costs that does not come to its end. */
import { connect, type Socket } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { ask, question, readEvents, toRequestBytes } from "./raw.fixture.ts";
import { startSimulator, type Simulator, type SimulatorOptions } from "./simulator.ts";

const NOW = Date.parse("2026-11-22T12:00:00Z");
const SIZES = { inputTokens: 1_000, outputTokens: 40, deltas: 4 } as const;
const STREAM = { body: question({ stream: true }) };

let simulator: Simulator;
afterEach(() => simulator.close());

async function start(options: SimulatorOptions = {}): Promise<void> {
  simulator = await startSimulator(options);
}

function open(request = STREAM): Socket {
  const socket = connect(simulator.port, "127.0.0.1");
  // An abrupt end of the connection is what these tests are about.
  socket.on("error", () => undefined);
  socket.write(toRequestBytes(request));
  return socket;
}

/** Reads until the text holds so many event ends. */
function readUntilEvents(socket: Socket, count: number): Promise<string> {
  return new Promise((resolve) => {
    let text = "";
    const onData = (chunk: Buffer) => {
      text += chunk.toString();
      if (text.split("\n\n").length <= count) return;
      socket.off("data", onData);
      resolve(text);
    };
    socket.on("data", onData);
  });
}

describe("stepping", () => {
  it("writes event n + 1 only after the test has read event n and says so", async () => {
    await start();
    const permits = Array.from({ length: 10 }, () => Promise.withResolvers<void>());
    let asked = 0;
    simulator.next({ kind: "answer", ...SIZES, step: () => permits[asked++]?.promise ?? Promise.resolve() });
    const socket = open();
    const written: (number | undefined)[] = [];
    for (const [index, permit] of permits.slice(0, 5).entries()) {
      const arrived = readUntilEvents(socket, 1);
      permit.resolve();
      await arrived;
      written.push(simulator.requests[0]?.eventsWritten);
      expect(asked).toBeLessThanOrEqual(index + 2);
    }
    socket.destroy();

    expect(written).toEqual([1, 2, 3, 4, 5]);
  });

  it("holds all events of all streams until they are allowed, where the simulator requires it", async () => {
    await start({ requireStepping: true });
    const answer = ask(simulator, STREAM);
    await simulator.arrived(0);
    expect(simulator.requests[0]?.eventsWritten).toBe(0);

    simulator.step(1_000);

    expect(readEvents((await answer).body).at(-1)?.name).toBe("message_stop");
  });

  it("gives the permit of a client that left to the next one", async () => {
    await start({ requireStepping: true });
    const left = open();
    await simulator.arrived(0);
    left.destroy();
    await simulator.ended(0);
    const answer = ask(simulator, { body: question() });
    await simulator.arrived(1);

    simulator.step();

    expect((await answer).isComplete).toBe(true);
  });
});

describe("back-pressure", () => {
  it("stops writing a 200 MB answer when the reader stops, and bills all that was generated when it leaves", async () => {
    await start({ now: () => NOW });
    simulator.next({ kind: "answer", inputTokens: 1_000, outputTokens: 64, textBytes: 200e6, deltas: 3_200 });
    const socket = open({ body: question({ stream: true }) });
    await readUntilEvents(socket, 3);
    socket.pause();

    const bytes = await settle(() => simulator.requests[0]?.bytesWritten ?? 0);

    expect(bytes).toBeGreaterThan(60_000);
    expect(bytes).toBeLessThan(32e6);
    expect(simulator.openStreams).toBe(1);
    socket.destroy();
    await simulator.ended(0);
    expect(simulator.openStreams).toBe(0);
    expect(simulator.aborted).toBe(1);
    expect(simulator.bill.lines[0]?.costNanoUsd).toBeLessThan(4_000_000n + 64n * 20_000n);
  });

  it("writes all 20 MB to a reader that reads", async () => {
    await start();
    simulator.next({ kind: "answer", outputTokens: 64, textBytes: 20e6, deltas: 320 });
    const socket = open();
    let bytes = 0;
    await new Promise<void>((resolve) => {
      socket.on("data", (chunk: Buffer) => {
        bytes += chunk.length;
        if (chunk.toString("latin1").endsWith("0\r\n\r\n")) resolve();
      });
    });
    socket.destroy();

    expect(bytes).toBeGreaterThan(20e6);
    expect(simulator.requests[0]?.bytesWritten).toBeGreaterThan(20e6);
    expect(bytes).toBeGreaterThan(simulator.bytesWritten);
  });
});

describe("a client that leaves", () => {
  it.each([
    // 80 tokens per second: a quarter of a second is 20 of the 40 tokens.
    [250, 20],
    [500, 40],
    [60_000, 40],
  ])("is billed the tokens generated in %i ms of silence before the head", async (elapsedMs, tokens) => {
    let nowMs = NOW;
    await start({ now: () => nowMs });
    simulator.next({ kind: "stall", ...SIZES });
    const socket = open({ body: question() });
    await simulator.arrived(0);

    nowMs += elapsedMs;
    const accrued = simulator.bill.accruedNanoUsd;
    socket.destroy();
    await simulator.ended(0);

    const cost = 4_000_000n + BigInt(tokens) * 20_000n;
    expect(accrued).toBe(cost);
    expect(simulator.bill.lines).toMatchObject([
      { reason: "aborted", reported: "nothing", reportedCostNanoUsd: undefined, costNanoUsd: cost },
    ]);
    expect(simulator.requests[0]).toMatchObject({ status: undefined, state: "aborted" });
  });

  it("is billed what the events held where the clock says less", async () => {
    await start({ now: () => NOW });
    simulator.next({ kind: "stall", afterEvents: 6, ...SIZES });
    const socket = open();
    await readUntilEvents(socket, 6);
    socket.destroy();
    await simulator.ended(0);

    // Three of four deltas: 30 tokens.
    expect(simulator.bill.lines).toMatchObject([{ reason: "aborted", costNanoUsd: 4_600_000n }]);
  });

  it("is billed only the samplings of a search loop that ran", async () => {
    await start({ now: () => NOW });
    simulator.next({ kind: "stall", ...SIZES, searches: 3 });
    const socket = open();
    await simulator.arrived(0);
    socket.destroy();
    await simulator.ended(0);

    expect(simulator.bill.lines).toMatchObject([{ costNanoUsd: 4_000_000n, webSearchPicoUsd: 0n }]);
  });

  it("before its body has arrived, costs nothing and is on no line", async () => {
    await start();
    const socket = connect(simulator.port, "127.0.0.1");
    socket.write(toRequestBytes(STREAM).subarray(0, -5));
    await settle(() => simulator.requests.length);
    socket.destroy();
    await simulator.ended(0);

    expect(simulator.requests).toMatchObject([{ state: "aborted" }]);
    expect(simulator.bill.lines).toEqual([]);
  });
});

describe("pace", () => {
  it("waits between events", async () => {
    const waits: number[] = [];
    await start({ eventPaceMs: 25, sleep: (ms) => (waits.push(ms), Promise.resolve()) });
    simulator.next({ kind: "answer", ...SIZES });

    const answer = await ask(simulator, STREAM);

    expect(waits).toEqual(
      readEvents(answer.body)
        .slice(1)
        .map(() => 25),
    );
  });

  it("writes nothing before the model would have written it", async () => {
    let nowMs = NOW;
    const sleep = (ms: number) => ((nowMs += ms), Promise.resolve());
    await start({ now: () => nowMs, sleep, isPacedByGeneration: true, outputTokensPerSecond: 100 });
    simulator.always({ kind: "answer", ...SIZES });

    await ask(simulator, STREAM);
    expect(nowMs - NOW).toBe(400);
    await ask(simulator);
    expect(nowMs - NOW).toBe(800);
  });

  it("goes on where a stall ends", async () => {
    await start();
    const gate = Promise.withResolvers<void>();
    simulator.next({ kind: "stall", afterEvents: 3, until: () => gate.promise, ...SIZES });
    const socket = open();
    const first = await readUntilEvents(socket, 3);
    const rest = readUntilEvents(socket, 7);
    gate.resolve();

    expect(first).not.toContain("content_block_delta");
    expect(await rest).toContain("message_stop");
    socket.destroy();
  });
});

describe("closing", () => {
  it("ends open answers, bills them as closed, and frees the port", async () => {
    await start({ now: () => NOW });
    simulator.next({ kind: "stall", afterEvents: 2, ...SIZES });
    const socket = open();
    await readUntilEvents(socket, 2);
    const ended = new Promise<void>((resolve) => socket.once("close", () => resolve()));
    const { port } = simulator;

    await simulator.close();
    await ended;

    expect(simulator.bill.lines).toMatchObject([{ reason: "closed", costNanoUsd: 4_000_000n }]);
    expect(simulator).toMatchObject({ aborted: 0, openStreams: 0 });
    const again = await startSimulator({ port });
    await again.close();
  });
});

/** Waits, turn by turn of the event loop, until a number is above zero and has stopped changing. */
async function settle(read: () => number): Promise<number> {
  let last = 0;
  for (let quiet = 0; quiet < 200; quiet++) {
    await new Promise<void>((resolve) => setImmediate(resolve));
    if (read() !== last || last === 0) quiet = 0;
    last = read();
  }
  return last;
}
