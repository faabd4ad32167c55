/** What went wrong on the way to a provider, on real sockets: the words decide whether a call is given back or counted. */
import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { describe, expect, onTestFinished, test } from "vitest";
import { createUpstream, UpstreamError, type Upstream, type UpstreamAnswer, type UpstreamCall } from "./upstream.ts";

async function listen(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return (server.address() as AddressInfo).port;
}

/** A provider that is told the text of every request whose body has come. */
async function startProvider(onRequest: (socket: Socket, text: string) => void): Promise<string> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    let text = "";
    socket.on("error", () => undefined);
    socket.on("data", (chunk) => {
      text += chunk.toString("latin1");
      if (text.endsWith("{}")) onRequest(socket, text);
    });
  });
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return `http://127.0.0.1:${await listen(server)}`;
}

function open(url: string, timeouts: { headersMs?: number } = {}): Upstream {
  const upstream = createUpstream(url, timeouts);
  onTestFinished(() => upstream.close());
  return upstream;
}

const call = (upstream: Upstream) =>
  upstream.send({
    method: "POST",
    path: "/v1/messages?beta=true",
    headers: ["x-a", "1", "x-a", "2"],
    body: new TextEncoder().encode("{}"),
  });

const send = (upstream: Upstream): Promise<UpstreamAnswer> => call(upstream).answer;

async function textOf({ body }: UpstreamAnswer): Promise<string> {
  let text = "";
  await body.read((chunk) => {
    text += chunk.toString("latin1");
    return undefined;
  });
  return text;
}

async function failureOf(sent: Promise<unknown>): Promise<UpstreamError["failure"]> {
  try {
    await sent;
  } catch (error) {
    if (error instanceof UpstreamError) return error.failure;
    throw error;
  }
  throw new Error("it was answered");
}

/** A port nobody listens on. */
async function closedPort(): Promise<number> {
  const server = createServer();
  const port = await listen(server);
  await new Promise((resolve) => server.close(resolve));
  return port;
}

test("a request goes out with its headers, target and body, behind the path of the provider's address", async () => {
  let seen = "";
  const url = await startProvider((socket, text) => {
    seen = text;
    socket.end("HTTP/1.1 201 Created\r\nX-Some: a\r\nx-some: b\r\ncontent-length: 2\r\n\r\nok");
  });
  const answer = await send(open(`${url}/base/`));

  expect(seen.startsWith("POST /base/v1/messages?beta=true HTTP/1.1\r\n")).toBe(true);
  expect(seen).toContain("x-a: 1\r\nx-a: 2\r\n");
  expect(answer.status).toBe(201);
  expect(answer.headers).toEqual(["X-Some", "a", "x-some", "b", "content-length", "2"]);
  expect(await textOf(answer)).toBe("ok");
});

describe("nothing was sent", () => {
  test("where nobody listens", async () => {
    const upstream = open(`http://127.0.0.1:${await closedPort()}`);

    expect(await failureOf(send(upstream))).toEqual({ kind: "not_sent", reason: "ECONNREFUSED" });
  });

  test("where the name leads nowhere", async () => {
    expect((await failureOf(send(open("http://nobody.invalid")))).kind).toBe("not_sent");
  });

  test("where the other side speaks no TLS", async () => {
    const server = createServer((socket) => socket.on("error", () => undefined).end("220 hello\r\n"));
    onTestFinished(() => void server.close());

    expect((await failureOf(send(open(`https://127.0.0.1:${await listen(server)}`)))).kind).toBe("not_sent");
  });

  test.each<[string, (socket: Socket) => void]>([
    [
      "resets the connection in the middle of the handshake",
      (socket) => void socket.once("data", () => socket.resetAndDestroy()),
    ],
    ["closes in the middle of the handshake", (socket) => void socket.once("data", () => socket.end())],
    ["closes before the handshake", (socket) => void socket.end()],
  ])("where the other side %s", async (_, close) => {
    const server = createServer((socket) => close(socket.on("error", () => undefined)));
    onTestFinished(() => void server.close());

    expect((await failureOf(send(open(`https://127.0.0.1:${await listen(server)}`)))).kind).toBe("not_sent");
  });

  test("where the caller left before there was a connection", async () => {
    const sent = call(open(await startProvider(() => undefined)));
    sent.abort();

    expect((await failureOf(sent.answer)).kind).toBe("not_sent");
  });
});

describe("it may have been sent", () => {
  test.each<[string, (socket: Socket) => void]>([
    ["closes", (socket) => socket.end()],
    ["resets the connection", (socket) => socket.resetAndDestroy()],
    ["answers what is no HTTP", (socket) => socket.end("220 hello\r\n\r\n")],
    ["breaks off within the head", (socket) => socket.end("HTTP/1.1 200 OK\r\ncontent-le")],
  ])("where the provider takes the request and %s", async (_, answer) => {
    const url = await startProvider(answer);

    expect((await failureOf(send(open(url)))).kind).toBe("lost");
  });

  test("where the caller left after the request had gone out", async () => {
    let sent: UpstreamCall | undefined;
    const url = await startProvider(() => sent?.abort());
    sent = call(open(url));

    expect((await failureOf(sent.answer)).kind).toBe("lost");
  });

  test("where no answer begins in time", async () => {
    const url = await startProvider(() => undefined);

    expect(await failureOf(send(open(url, { headersMs: 100 })))).toEqual({ kind: "timeout", reason: "headers_timeout" });
  });

  test("where a connection that was kept is closed under the next request", async () => {
    let count = 0;
    const url = await startProvider((socket) => {
      count += 1;
      if (count === 1) socket.write("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
      else socket.destroy();
    });
    const upstream = open(url);
    const first = await send(upstream);
    await textOf(first);

    expect((await failureOf(send(upstream))).kind).toBe("lost");
    expect(count).toBeGreaterThan(0);
  });
});

test("calls do not wait for one another: as many connections as there are calls", async () => {
  let waiting: Socket[] = [];
  const url = await startProvider((socket) => {
    waiting.push(socket);
    if (waiting.length < 50) return;
    for (const each of waiting) each.end("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    waiting = [];
  });
  const upstream = open(url);
  const answers = await Promise.all(Array.from({ length: 50 }, () => send(upstream)));

  expect(answers.map(({ status }) => status)).toEqual(Array.from({ length: 50 }, () => 200));
});

test("closing ends what runs", async () => {
  const url = await startProvider(() => undefined);
  const upstream = open(url);
  const sent = failureOf(send(upstream));
  const { hostname, port } = new URL(url);
  const probe = connect(Number(port), hostname);
  await once(probe, "connect");
  probe.destroy();
  await upstream.close();

  expect(["lost", "not_sent"]).toContain((await sent).kind);
});
