/**
 * Owns a provider that says again what was recorded, on raw sockets: the bytes, the places at which they are cut, and a connection that
 * dies where it is told to. Does not own what is recorded (recorded.ts) or what is expected of it (the tests).
 * Invariant: what it wrote is known to the byte; a cut is a connection that closes before the body's end was said.
 */
import { createServer, type AddressInfo, type Socket } from "node:net";

/** How to answer the request whose header `x-replay` is the answer's place in the list. */
export interface ReplayAnswer {
  requestId: string;
  /** Each is one chunk of the body. */
  pieces: readonly Uint8Array[];
  /** True: the connection is destroyed once the pieces are written, and no end is said. */
  isCut: boolean;
  /** Bytes after which the socket is written to anew, anywhere: in the head, in a chunk's length, in a character. */
  segmentBytes: number;
}

export interface Replay {
  url: string;
  /** How many requests came. */
  readonly requestCount: number;
  close(): Promise<void>;
}

/** Listens on a free port; answers as the list says. */
export async function startReplay(answers: readonly ReplayAnswer[]): Promise<Replay> {
  const sockets = new Set<Socket>();
  let requestCount = 0;
  const server = createServer({ noDelay: true }, (socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    // The gateway drops connections too; what that means for the call is what the test looks at.
    socket.on("error", () => socket.destroy());
    readRequests(socket, (head) => {
      requestCount += 1;
      const answer = answers[Number(/^x-replay: *(\d+)\r?$/im.exec(head)?.[1])];
      if (answer === undefined) socket.destroy(new Error("a request without a recorded answer"));
      else writeAnswer(socket, answer);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    get requestCount() {
      return requestCount;
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
}

/** Tells the head of each request once its body has come whole. Bodies have a length: the gateway says it of every one. */
function readRequests(socket: Socket, onRequest: (head: string) => void): void {
  let received = Buffer.alloc(0);
  socket.on("data", (chunk) => {
    received = Buffer.concat([received, chunk]);
    for (;;) {
      const headEnd = received.indexOf("\r\n\r\n");
      if (headEnd < 0) return;
      const head = received.toString("latin1", 0, headEnd);
      const end = headEnd + 4 + Number(/^content-length: *(\d+)\r?$/im.exec(head)?.[1] ?? 0);
      if (received.length < end) return;
      received = received.subarray(end);
      onRequest(head);
    }
  });
}

function writeAnswer(socket: Socket, { requestId, pieces, isCut, segmentBytes }: ReplayAnswer): void {
  const head = `HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\nrequest-id: ${requestId}\r\n\r\n`;
  // An empty chunk would be the body's end.
  const chunks = pieces.filter(({ length }) => length > 0);
  const framed = chunks.flatMap((piece) => [Buffer.from(`${piece.length.toString(16)}\r\n`), piece, Buffer.from("\r\n")]);
  const wire = Buffer.concat([Buffer.from(head), ...framed, ...(isCut ? [] : [Buffer.from("0\r\n\r\n")])]);
  const writeFrom = (at: number): void => {
    if (socket.destroyed) return;
    const isLast = at + segmentBytes >= wire.length;
    socket.write(wire.subarray(at, at + segmentBytes), () => {
      if (!isLast) setImmediate(() => writeFrom(at + segmentBytes));
      else if (isCut) socket.destroy();
    });
  };
  writeFrom(0);
}
