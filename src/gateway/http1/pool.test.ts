/** Which connection carries which request, on real sockets: what is used again, what is not, and what is let go. */
import { once } from "node:events";
import { createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { createServer as createTlsServer, setDefaultCACertificates, type TLSSocket } from "node:tls";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { createRandom, cutAtRandom } from "./answers.fixture.ts";
import { createCertificate } from "./certificate.fixture.ts";
import type { Connection, Origin } from "./connection.ts";
import { Pool, type Sending, type Timeouts } from "./pool.ts";
import { writeHead } from "./request-head.ts";

const OK = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const TIMEOUTS: Timeouts = { connectMs: 10_000, headersMs: 10_000, bodyMs: 10_000 };

interface Provider {
  origin: Origin;
  /** Every connection that was ever made, in order. */
  sockets: Socket[];
  /** By number of the connection, what was asked on it. */
  asked: number[];
}

/** Answers each request, told by the end of its head, as it is told to. */
async function startProvider(answer: (socket: Socket, requestCount: number, path: string) => unknown): Promise<Provider> {
  const sockets: Socket[] = [];
  const asked: number[] = [];
  let requestCount = 0;
  const server = createServer((socket) => {
    const index = sockets.push(socket) - 1;
    let text = "";
    socket.on("error", () => undefined);
    socket.on("data", (bytes) => {
      text += bytes.toString("latin1");
      for (let end = text.indexOf("\r\n\r\n"); end >= 0; end = text.indexOf("\r\n\r\n")) {
        const [, path = ""] = text.split(" ", 2);
        text = text.slice(end + 4);
        asked.push(index);
        requestCount += 1;
        void answer(socket, requestCount, path);
      }
    });
  });
  const port = await listen(server);
  onTestFinished(() => sockets.forEach((socket) => socket.destroy()));
  return { origin: { isTls: false, hostname: "127.0.0.1", port }, sockets, asked };
}

async function listen(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void server.close());
  return (server.address() as AddressInfo).port;
}

function open(origin: Origin, timeouts: Partial<Timeouts> = {}): Pool {
  const pool = new Pool(origin, { ...TIMEOUTS, ...timeouts });
  onTestFinished(() => pool.close());
  return pool;
}

/** A request, and how it went. */
class Asked implements Sending {
  readonly head: string;
  readonly body = undefined;
  isGivenUp = false;
  text = "";
  connection: Connection | undefined;
  holdsBack = false;
  readonly #done = Promise.withResolvers<string>();

  constructor(path = "/") {
    this.head = writeHead({ method: "GET", path, headers: [], bodyBytes: undefined }, "provider.test");
  }

  /** The body, or the code of what went wrong. */
  get done(): Promise<string> {
    return this.#done.promise;
  }
  onCarried(by: Connection): void {
    this.connection = by;
  }
  onBegin(): void {}
  onHead(): void {}
  onPayload(bytes: Buffer): boolean {
    this.text += bytes.toString("latin1");
    return this.holdsBack;
  }
  onEnd(): void {
    this.#done.resolve(this.text);
  }
  onFailure(error: Error): void {
    this.#done.resolve("code" in error ? String(error.code) : error.message);
  }
}

function begin(pool: Pool): Asked {
  const asked = new Asked();
  pool.send(asked);
  return asked;
}

const ask = (pool: Pool): Promise<string> => begin(pool).done;

/** The event loop has looked at all sockets once more. */
const looked = async (): Promise<void> => {
  for (let count = 0; count < 3; count += 1) await new Promise((resolve) => setImmediate(resolve));
};

/** Until what the sockets of this process have to say has been heard. */
const heard = (socket: Socket): Promise<unknown> => (socket.closed ? Promise.resolve() : once(socket, "close"));

describe("a connection is used again", () => {
  test("for the next request, the one that was used last", async () => {
    const provider = await startProvider((socket) => socket.write(OK));
    const pool = open(provider.origin);

    expect(await Promise.all([ask(pool), ask(pool), ask(pool)])).toEqual(["ok", "ok", "ok"]);
    await looked();
    for (let count = 0; count < 3; count += 1) {
      await ask(pool);
      await looked();
    }

    expect(provider.sockets).toHaveLength(3);
    expect(new Set(provider.asked.slice(3)).size).toBe(1);
  });

  test("for the next request right behind an answer, rather than a new one", async () => {
    const provider = await startProvider((socket) => socket.write(OK));
    const pool = open(provider.origin);
    for (let count = 0; count < 5; count += 1) await ask(pool);

    expect(provider.sockets).toHaveLength(1);
  });

  test.each<[string, string]>([
    ["the answer ended the connection", "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"],
    ["the other side keeps it too short", "HTTP/1.1 200 OK\r\nkeep-alive: timeout=2\r\ncontent-length: 2\r\n\r\nok"],
    ["something stood behind the answer", `${OK}HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison`],
    ["it is HTTP/1.0", "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok"],
  ])("not where %s", async (_, answer) => {
    const provider = await startProvider((socket) => socket.write(answer));
    const pool = open(provider.origin);
    expect(await ask(pool)).toBe("ok");
    await heard(provider.sockets[0]!);

    expect(await ask(pool)).toBe("ok");
    expect(provider.asked).toEqual([0, 1]);
  });

  test("not where it spoke unasked: another's answer is never taken for this one's", async () => {
    const provider = await startProvider((socket, count) => {
      socket.write(OK);
      if (count === 1) setTimeout(() => socket.write("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison"), 5);
    });
    const pool = open(provider.origin);
    await ask(pool);
    await heard(provider.sockets[0]!);

    expect(await ask(pool)).toBe("ok");
    expect(provider.asked).toEqual([0, 1]);
  });

  test("not where the other side closed it while it was idle: the next request is not lost", async () => {
    const provider = await startProvider((socket) => socket.end(OK));
    const pool = open(provider.origin);
    for (let count = 0; count < 20; count += 1) expect(await ask(pool)).toBe("ok");

    expect(provider.asked).toEqual(Array.from({ length: 20 }, (_, index) => index));
  });

  test.each([
    ["used", 3_900, 1],
    ["not used", 4_000, 2],
  ])("and %s after %i ms, when the other side does not say how long it keeps it", async (_, idleMs, connections) => {
    vi.useFakeTimers({ toFake: ["performance"] });
    onTestFinished(() => void vi.useRealTimers());
    const provider = await startProvider((socket) => socket.write(OK));
    const pool = open(provider.origin);
    await ask(pool);
    await looked();
    vi.advanceTimersByTime(idleMs);
    await ask(pool);

    expect(provider.sockets).toHaveLength(connections);
  });

  test("not after it was idle for long, nor kept for ever", async () => {
    const answer = "HTTP/1.1 200 OK\r\nkeep-alive: timeout=3\r\ncontent-length: 2\r\n\r\nok";
    const provider = await startProvider((socket) => socket.write(answer));
    const pool = open(provider.origin, { bodyMs: 400 });
    await ask(pool);
    expect(pool.size).toBe(1);

    await heard(provider.sockets[0]!);
    expect(pool.size).toBe(0);
  });
});

test("whatever answers look like and wherever they are cut, each of 600 requests gets its own", async () => {
  const random = createRandom(20_261_125);
  const provider = await startProvider(async (socket, _count, path) => {
    const body = `${path} `.repeat(random.below(40) + 1);
    const head = random.chance(0.2) ? "HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\n" : "HTTP/1.1 200 OK\r\n";
    const sized = `${head}content-length: ${body.length}\r\n`;
    const chunks = body.replaceAll(/.{1,50}/g, (part) => `${part.length.toString(16)}\r\n${part}\r\n`);
    const answer = random.one([
      `${sized}\r\n${body}`,
      `${sized}connection: close\r\n\r\n${body}`,
      `${head}transfer-encoding: chunked\r\n\r\n${chunks}0\r\n\r\n`,
      `${head}transfer-encoding: chunked\r\n\r\n${chunks}0\r\nx-a: b\r\n\r\n`,
    ]);
    for (const piece of cutAtRandom(random, Buffer.from(answer.slice(0, -1)))) {
      socket.write(piece);
      if (random.chance(0.3)) await new Promise((resolve) => setImmediate(resolve));
    }
    // What comes behind an answer comes with its end: later, nobody could tell it from the next answer.
    const behind = random.chance(0.1) ? random.one(["\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison"]) : "";
    socket.write(answer.slice(-1) + behind);
  });
  const pool = open(provider.origin);
  const wrong: string[] = [];
  const askOn = async (caller: number): Promise<void> => {
    for (let index = 0; index < 60; index += 1) {
      const path = `/${caller}-${index}`;
      const asked = new Asked(path);
      pool.send(asked);
      const text = await asked.done;
      if (text.replaceAll(`${path} `, "") !== "") wrong.push(`${path}: ${text}`);
      if (random.chance(0.3)) await looked();
    }
  };
  await Promise.all(Array.from({ length: 10 }, (_, caller) => askOn(caller)));

  expect(wrong).toEqual([]);
  expect(provider.asked).toHaveLength(600);
});

describe("a request that is closed by its caller", () => {
  test("ends its connection at once, before and after the answer began, and 500 of them leave none", async () => {
    const provider = await startProvider((socket, count) => {
      if (count % 2 === 0) socket.write("HTTP/1.1 200 OK\r\n\r\nbeginning");
    });
    const pool = open(provider.origin);
    const all = Array.from({ length: 500 }, () => begin(pool));
    while (provider.asked.length < 500 || all.filter(({ text }) => text !== "").length < 250) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    for (const { connection } of all) connection?.close(Object.assign(new Error("left"), { code: "left" }));

    expect(pool.size).toBe(0);
    expect(new Set(await Promise.all(all.map(({ done }) => done)))).toEqual(new Set(["left"]));
    await Promise.all(provider.sockets.map(heard));
  });

  test("is told once, whatever comes later", async () => {
    const provider = await startProvider((socket) => socket.write(OK));
    const pool = open(provider.origin);
    const asked = begin(pool);
    await asked.done;
    asked.connection?.close(new Error("late"));

    expect(await asked.done).toBe("ok");
  });
});

describe("a reader that does not go on", () => {
  test("holds the other side back, is not timed out for it, and reads on where it stopped", async () => {
    const part = Buffer.alloc(65_536, "x");
    let written = 0;
    const provider = await startProvider((socket) => {
      socket.write("HTTP/1.1 200 OK\r\n\r\n");
      const go = (): void => {
        while (written < 400 && socket.write(part)) written += 1;
        written += 1;
        if (written < 400) socket.once("drain", go);
        else socket.end();
      };
      go();
    });
    const pool = open(provider.origin, { bodyMs: 250 });
    const asked = new Asked();
    asked.holdsBack = true;
    pool.send(asked);
    await new Promise((resolve) => setTimeout(resolve, 600));
    const before = asked.text.length;
    expect(written).toBeLessThan(400);
    expect(before).toBeLessThan(1_000_000);

    asked.holdsBack = false;
    asked.connection?.resume(asked);

    expect((await asked.done).length).toBeGreaterThan(20_000_000);
  });
});

describe("time runs out", () => {
  test("where an answer stops in its middle", async () => {
    const provider = await startProvider((socket) => socket.write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab"));

    expect(await ask(open(provider.origin, { bodyMs: 50 }))).toBe("body_timeout");
  });

  test("where only informational answers come: they are no beginning", async () => {
    const provider = await startProvider((socket) => {
      const timer = setInterval(() => socket.write("HTTP/1.1 102 Processing\r\n\r\n"), 10);
      socket.once("close", () => clearInterval(timer));
    });

    expect(await ask(open(provider.origin, { headersMs: 100 }))).toBe("headers_timeout");
  });

  test("but not while this process does not listen: what came meanwhile is read", async () => {
    const provider = await startProvider((socket) => {
      socket.write(OK);
      const untilMs = performance.now() + 500;
      while (performance.now() < untilMs);
    });

    expect(await ask(open(provider.origin, { headersMs: 100, bodyMs: 100 }))).toBe("ok");
  });

  test("where nobody accepts", async () => {
    // Connected, and never spoken to: no handshake.
    const port = await listen(createServer((socket) => void socket.on("error", () => undefined)));

    expect(await ask(open({ isTls: true, hostname: "127.0.0.1", port }, { connectMs: 50 }))).toBe("connect_timeout");
  });
});

describe("TLS", () => {
  const { key, cert } = createCertificate("localhost");

  async function startTls(): Promise<{ port: number; sockets: TLSSocket[] }> {
    const sockets: TLSSocket[] = [];
    const server = createTlsServer({ key, cert, ALPNProtocols: ["h2", "http/1.1"] }, (socket) => {
      sockets.push(socket);
      socket.on("error", () => undefined);
      socket.on("data", () => socket.write(OK));
    });
    onTestFinished(() => sockets.forEach((socket) => socket.destroy()));
    return { port: await listen(server), sockets };
  }

  test("names the host and HTTP/1.1, and goes on with its session", async () => {
    setDefaultCACertificates([cert]);
    const { port, sockets } = await startTls();
    const pool = open({ isTls: true, hostname: "localhost", port });
    expect(await ask(pool)).toBe("ok");
    expect(await Promise.all([ask(pool), ask(pool)])).toEqual(["ok", "ok"]);

    expect(sockets.map(({ servername, alpnProtocol }) => [servername, alpnProtocol])).toEqual([
      ["localhost", "http/1.1"],
      ["localhost", "http/1.1"],
    ]);
    expect(sockets[1]?.isSessionReused()).toBe(true);
  });

  test("with a certificate for another name is refused before anything is sent", async () => {
    setDefaultCACertificates([cert]);
    const { port, sockets } = await startTls();

    expect(await ask(open({ isTls: true, hostname: "127.0.0.1", port }))).toBe("ERR_TLS_CERT_ALTNAME_INVALID");
    expect(sockets.map(({ bytesRead }) => bytesRead).filter((bytes) => bytes > 1_000)).toEqual([]);
  });

  test("with a certificate that nobody vouches for is refused", async () => {
    setDefaultCACertificates([]);
    const { port } = await startTls();

    expect(await ask(open({ isTls: true, hostname: "localhost", port }))).toBe("DEPTH_ZERO_SELF_SIGNED_CERT");
  });
});
