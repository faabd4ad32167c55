import { once } from "node:events";
import { createServer } from "node:http";
import { connect, type AddressInfo, type Socket } from "node:net";
import { gzipSync } from "node:zlib";
import { describe, expect, onTestFinished, test } from "vitest";
import { createBodyMemory, readBody, type BodyMemory, type BodyResult } from "./body.ts";
import { createSlowBodies } from "./slow-bodies.ts";

const BYTES_MAX = 100_000;

/** A server that reads bodies, and a raw connection to it. */
async function connectToReader(
  memory: BodyMemory = createBodyMemory(Infinity),
  slowBodyMs?: number,
): Promise<{ socket: Socket; read: Promise<BodyResult> }> {
  const server = createServer();
  const slowBodies = createSlowBodies({ nowMs: () => performance.now() }, slowBodyMs);
  const read = new Promise<BodyResult>((resolve) => {
    server.on("request", (request, response) => {
      void readBody(request, { bytesMax: BYTES_MAX, memory, slowBodies, nowMs: performance.now() }).then((result) => {
        resolve(result);
        response.end();
        return undefined;
      });
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const socket = connect((server.address() as AddressInfo).port, "127.0.0.1");
  socket.on("error", () => undefined);
  socket.resume();
  await once(socket, "connect");
  onTestFinished(() => {
    slowBodies.close();
    socket.destroy();
    server.closeAllConnections();
    server.close();
  });
  return { socket, read };
}

const head = (...lines: string[]): string => `POST / HTTP/1.1\r\nhost: x\r\n${lines.map((line) => `${line}\r\n`).join("")}\r\n`;

async function send(bytes: Uint8Array, ...lines: string[]): Promise<BodyResult> {
  const { socket, read } = await connectToReader();
  socket.write(head(`content-length: ${bytes.length}`, ...lines));
  socket.write(bytes);
  return read;
}

const textOf = (result: BodyResult): string => (result.outcome === "read" ? result.body.toString() : result.outcome);

describe("a body", () => {
  test("is read as it came, whole", async () => {
    expect(textOf(await send(Buffer.from("Grüße")))).toBe("Grüße");
    expect(textOf(await send(Buffer.alloc(0)))).toBe("");
  });

  test("is read in however many pieces it comes, without saying its length", async () => {
    const { socket, read } = await connectToReader();
    socket.write(head("transfer-encoding: chunked"));
    for (const piece of ["3\r\nabc\r\n", "1\r\nd\r\n", "0\r\n\r\n"]) {
      socket.write(piece);
      await new Promise((resolve) => setImmediate(resolve));
    }

    expect(textOf(await read)).toBe("abcd");
  });

  test("may have exactly as many bytes as are allowed, and not one more", async () => {
    expect((await send(Buffer.alloc(BYTES_MAX))).outcome).toBe("read");
    expect(await send(Buffer.alloc(BYTES_MAX + 1))).toEqual({ outcome: "too_large", found: `${BYTES_MAX + 1} bytes` });
  });

  test("that says to be too large is refused before any of it came", async () => {
    const { socket, read } = await connectToReader();
    socket.write(head("content-length: 999999999"));

    expect(await read).toEqual({ outcome: "too_large", found: "999999999 bytes" });
  });

  test("that turns out too large is refused in its middle, and its sender can still read an answer", async () => {
    const { socket, read } = await connectToReader();
    socket.write(head("transfer-encoding: chunked"));
    const chunk = `${(50_000).toString(16)}\r\n${"x".repeat(50_000)}\r\n`;
    socket.write(chunk + chunk + chunk);

    expect(await read).toEqual({ outcome: "too_large", found: `more than ${BYTES_MAX} bytes` });
    expect(socket.destroyed).toBe(false);
  });

  test("whose sender leaves in its middle is gone", async () => {
    for (const encoding of ["identity", "gzip"]) {
      const { socket, read } = await connectToReader();
      socket.write(head("content-length: 1000", `content-encoding: ${encoding}`));
      socket.write(gzipSync("x".repeat(500)).subarray(0, 10));
      await new Promise((resolve) => setImmediate(resolve));
      socket.destroy();

      expect(await read).toEqual({ outcome: "gone" });
    }
  });
});

describe("a compressed body", () => {
  test.each(["gzip", "GZIP", " gzip "])("with %j is decoded", async (encoding) => {
    expect(textOf(await send(gzipSync("Grüße"), `content-encoding: ${encoding}`))).toBe("Grüße");
  });

  test("is judged as decoded", async () => {
    expect((await send(gzipSync(Buffer.alloc(BYTES_MAX)), "content-encoding: gzip")).outcome).toBe("read");
    expect(await send(gzipSync(Buffer.alloc(BYTES_MAX + 1)), "content-encoding: gzip")).toMatchObject({
      outcome: "too_large",
      found: expect.stringContaining(`more than ${BYTES_MAX} bytes`) as string,
    });
  });

  test.each<[string, Uint8Array]>([
    ["no gzip at all", Buffer.from("{}")],
    ["cut", gzipSync("x".repeat(5_000)).subarray(0, 30)],
    ["damaged", Buffer.concat([gzipSync("x").subarray(0, -6), Buffer.alloc(6)])],
    ["nothing", Buffer.alloc(0)],
  ])("that is %s is refused with the reason", async (_, bytes) => {
    const result = await send(bytes, "content-encoding: gzip");

    expect(result).toMatchObject({ outcome: "malformed" });
    expect(result.outcome === "malformed" && result.problem).toContain("gzip encoding is broken");
  });

  test.each(["br", "deflate", "gzip, gzip", "x"])("with %j is not read", async (encoding) => {
    expect(await send(Buffer.from("{}"), `content-encoding: ${encoding}`)).toEqual({
      outcome: "unsupported_encoding",
      found: encoding,
    });
  });
});

describe("the memory for all bodies together", () => {
  /** How many bytes of it are taken. */
  function createWatchedMemory(bytesMax: number) {
    const memory = createBodyMemory(bytesMax);
    let taken = 0;
    const watched: BodyMemory = {
      take(bytes) {
        const isTaken = memory.take(bytes);
        if (isTaken) taken += bytes;
        return isTaken;
      },
      giveBack(bytes) {
        memory.giveBack(bytes);
        taken -= bytes;
      },
    };
    return { memory: watched, taken: () => taken };
  }

  async function sendTo(memory: BodyMemory, bytes: Uint8Array, ...lines: string[]): Promise<BodyResult> {
    const { socket, read } = await connectToReader(memory);
    socket.write(head(`content-length: ${bytes.length}`, ...lines));
    socket.write(bytes);
    return read;
  }

  test("is taken by a body that was read, for its caller to give back", async () => {
    const { memory, taken } = createWatchedMemory(1_000);
    expect((await sendTo(memory, Buffer.alloc(600))).outcome).toBe("read");
    expect(taken()).toBe(600);

    expect((await sendTo(memory, Buffer.alloc(401))).outcome).toBe("overloaded");
    expect((await sendTo(memory, Buffer.alloc(400))).outcome).toBe("read");
    memory.giveBack(1_000);
    expect((await sendTo(memory, Buffer.alloc(1_000))).outcome).toBe("read");
  });

  test.each<[string, Uint8Array, string[], BodyResult["outcome"]]>([
    ["overloaded", gzipSync(Buffer.alloc(90_000)), ["content-encoding: gzip"], "overloaded"],
    ["malformed", gzipSync("x".repeat(5_000)).subarray(0, 30), ["content-encoding: gzip"], "malformed"],
    ["too large", gzipSync(Buffer.alloc(BYTES_MAX + 1)), ["content-encoding: gzip"], "too_large"],
  ])("is free again after a body that is %s", async (name, bytes, lines, outcome) => {
    const { memory, taken } = createWatchedMemory(name === "too large" ? Infinity : 80_000);

    expect((await sendTo(memory, bytes, ...lines)).outcome).toBe(outcome);
    expect(taken()).toBe(0);
  });
});

describe("a body that comes drop by drop", () => {
  test.each(["content-encoding: identity", "content-encoding: gzip"])(
    "is given up (%s), and its memory given back",
    async (encoding) => {
      const memory = createBodyMemory(1_000);
      const { socket, read } = await connectToReader(memory, 50);
      socket.write(`${head("content-length: 900", encoding)}x`);

      expect((await read).outcome).toBe("too_slow");
      expect(memory.take(1_000)).toBe(true);
    },
  );
});
