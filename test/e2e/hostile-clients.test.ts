/**
 * Goal: what clients send that lies, dawdles or swells ends in an answer or a closed connection, costs no memory to speak of, and nobody
 * else anything. Method: raw bytes on real sockets; where memory and exits count, against `purser serve` as a process of its own.
 */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import type { ClientRequest } from "node:http";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { startSimulator } from "../../src/testing/testing.ts";
import { startSharedBench, type Bench } from "./harness.ts";
import { allOf, ask, connectTo, exchange, headOf, messageOf, openRequest, readAnswer } from "./http.ts";
import { serve } from "./processes.ts";

const BODY_BYTES_MAX = 16 * 1024 * 1024;

/** A gateway process in front of a simulator, both ended with the test. */
async function startProcess() {
  const folder = await mkdtemp(join(tmpdir(), "purser-hostile-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const simulator = await startSimulator();
  onTestFinished(() => simulator.close());
  const env = {
    PURSER_ANTHROPIC_URL: simulator.url,
    PURSER_LOG_LEVEL: "error",
    PURSER_SERVER_BODYBYTESMAX: String(BODY_BYTES_MAX),
    PURSER_LIMITS: "[{ name: roomy, per: all, usd: 1_000_000, every: day }]",
  };
  const gateway = await serve(["--ledger", "ledger.db"], { cwd: folder, env });
  return { gateway, simulator };
}

describe("2,000 sockets that send a byte now and then", () => {
  it("make nobody else slow and end nothing", async () => {
    const { gateway } = await startProcess();
    const beginnings = [
      "P",
      "POST /v1/messages HTTP/1.1\r\n",
      "POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: k\r\ncontent-length: 5000\r\n\r\n{",
    ];
    const worstOf = async (): Promise<number> => {
      const times: number[] = [];
      for (let count = 0; count < 100; count += 1) {
        const startedMs = performance.now();
        expect((await ask(gateway.url)).status).toBe(200);
        times.push(performance.now() - startedMs);
      }
      return times.toSorted((left, right) => left - right)[98] ?? Number.NaN;
    };
    await worstOf();
    const calmMs = await worstOf();
    const sockets: Socket[] = [];
    onTestFinished(() => sockets.forEach((socket) => socket.destroy()));
    while (sockets.length < 2_000) {
      const more = await Promise.all(Array.from({ length: 100 }, () => connectTo(gateway.url)));
      for (const socket of more) {
        socket.on("error", () => undefined).write(beginnings[sockets.length % beginnings.length] ?? "");
        sockets.push(socket);
      }
    }
    let turn = 0;
    const dribble = setInterval(() => {
      for (let count = 0; count < 50; count += 1) sockets[(turn += 1) % sockets.length]?.write("x");
    }, 100);
    onTestFinished(() => clearInterval(dribble));

    // The machine is shared with other tests: a noisy try says nothing, all three of them do.
    const tries = [await worstOf()];
    while (tries.length < 3 && Math.min(...tries) > 2 * calmMs) tries.push(await worstOf());

    expect(Math.min(...tries)).toBeLessThan(2 * calmMs + 20);
    expect(gateway.child.exitCode).toBeNull();
    expect(gateway.err()).toBe("");
  }, 120_000);
});

describe("a body of 100 MB", () => {
  it.each([
    ["with its length", { "content-length": String(100 * 1024 * 1024) }],
    ["in chunks", { "transfer-encoding": "chunked" }],
  ])(
    "%s is refused as too large, and takes no more memory than twice what a body may have",
    async (_, headers) => {
      const { gateway } = await startProcess();
      const peakOf = async (): Promise<number> => {
        const status = await readFile(`/proc/${gateway.child.pid}/status`, "utf8");
        return Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1]) * 1024;
      };
      for (let count = 0; count < 20; count += 1) await ask(gateway.url);
      const before = await peakOf();

      const asked = openRequest(gateway.url, { headers: { ...headers } });
      asked.on("error", () => undefined);
      const answered = headOf(asked).then(readAnswer);
      await writeAll(asked, 100);
      const answer = await answered;

      expect([answer.status, answer.error?.details["code"]]).toEqual([413, "request_too_large"]);
      expect((await peakOf()) - before).toBeLessThan(2 * BODY_BYTES_MAX);
      expect((await ask(gateway.url)).status).toBe(200);
    },
    60_000,
  );
});

/** Writes megabytes as fast as they are taken; a connection that is closed meanwhile ends it. */
async function writeAll(request: ClientRequest, megabytes: number): Promise<void> {
  const chunk = Buffer.alloc(1024 * 1024, " ");
  for (let count = 0; count < megabytes && !request.destroyed; count += 1) {
    if (!request.write(chunk)) {
      await new Promise<void>((resolve) => {
        request.once("drain", resolve).once("close", resolve);
      });
    }
  }
  request.end();
}

describe("on one gateway,", () => {
  let bench: Bench;
  let closeBench: () => Promise<void>;
  beforeAll(async () => {
    ({ bench, close: closeBench } = await startSharedBench({
      yaml: "limits: [{ name: roomy, per: all, usd: 1_000 }]\n",
      gateway: { timeouts: { slowBodyMs: 2_000 } },
    }));
  }, 60_000);
  afterAll(() => closeBench());

  const head = "POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: k\r\nanthropic-version: 2023-06-01\r\nconnection: close\r\n";
  const body = messageOf();
  const size = body.length.toString(16);
  const chunked = (text: string): string => `${head}transfer-encoding: chunked\r\n\r\n${text}`;

  it.each([
    ["a chunk larger than it says", chunked(`5\r\n${body}\r\n0\r\n\r\n`)],
    ["a size that is no number", chunked(`zz\r\n${body}\r\n0\r\n\r\n`)],
    ["a size below zero", chunked(`-5\r\n${body}\r\n0\r\n\r\n`)],
    ["a size of 64 bits", chunked(`ffffffffffffffff\r\n${body}\r\n0\r\n\r\n`)],
    ["a size of 70 bits", chunked(`fffffffffffffffff0\r\n${body}\r\n0\r\n\r\n`)],
    ["no line end behind a chunk", chunked(`${size}\r\n${body}0\r\n\r\n`)],
    ["bare line feeds", chunked(`${size}\n${body}\n0\n\n`)],
    ["a coding nobody knows", `${head}transfer-encoding: xchunked\r\n\r\n${body}`],
    ["chunks that are not the last coding", `${head}transfer-encoding: chunked, gzip\r\n\r\n${size}\r\n${body}\r\n0\r\n\r\n`],
    ["a length with a sign", `${head}content-length: +${body.length}\r\n\r\n${body}`],
    ["a length in hexadecimal", `${head}content-length: 0x${size}\r\n\r\n${body}`],
    ["a folded header", `${head}x-folded: a\r\n b\r\ncontent-length: ${body.length}\r\n\r\n${body}`],
    ["a space before a colon", `${head}content-length : ${body.length}\r\n\r\n${body}`],
    ["a NUL in a header", `${head}x-nul: a\u0000b\r\ncontent-length: ${body.length}\r\n\r\n${body}`],
    ["a NUL in the path", `POST /v1/messages\u0000 HTTP/1.1\r\nhost: x\r\n\r\n`],
  ])("framing that lies (%s) reaches no provider and harms nobody", async (_, bytes) => {
    const before = bench.simulator.requests.length;

    const answer = await exchange(bench.url, bytes);

    expect(answer).toMatch(/^(?:HTTP\/1\.1 4\d\d |$)/);
    expect(bench.simulator.requests.length).toBe(before);
    expect((await ask(bench.url)).status).toBe(200);
  });

  it("three requests sent at once on one connection are answered in their order, each once", async () => {
    const sizes = [11, 22, 33];
    const socket = await connectTo(bench.url);
    const requests = sizes.map((maxTokens, index) => {
      const text = messageOf({ max_tokens: maxTokens });
      const last = index === sizes.length - 1 ? "connection: close\r\n" : "";
      const plain = head.replace("connection: close\r\n", last);
      return `${plain}x-purser-session: pipelined-${maxTokens}\r\ncontent-length: ${text.length}\r\n\r\n${text}`;
    });
    socket.write(requests.join(""));

    const answers = (await allOf(socket)).split("HTTP/1.1 200 OK").slice(1);

    const ids = answers.map((text) => /x-purser-call: (\S+)/i.exec(text)?.[1]);
    const calls = new Map((await bench.calls()).map(({ callId, facts }) => [callId, facts.scopes.session]));
    expect(ids.map((id) => calls.get(id ?? ""))).toEqual(sizes.map((maxTokens) => `pipelined-${maxTokens}`));
  });

  const ways: [name: string, body: string | Buffer, statuses: readonly number[]][] = [
    [
      "100,000 lists in each other",
      messageOf({ metadata: {} }).replace("{}", `{"x":${"[".repeat(100_000)}${"]".repeat(100_000)}}`),
      [400],
    ],
    [
      "100,000 objects in each other",
      messageOf({ metadata: {} }).replace("{}", `${'{"x":'.repeat(100_000)}1${"}".repeat(100_000)}`),
      [400],
    ],
    [
      "a million keys",
      `{${Array.from({ length: 1_000_000 }, (_, key) => `"k${key}":0`).join(",")},${messageOf().slice(1)}`,
      [200, 400],
    ],
    [
      "a hundred thousand empty messages",
      messageOf().replace('"messages":[', `"messages":[${'{"role":"user","content":""},'.repeat(100_000)}`),
      [200, 400, 413],
    ],
    ["a raw NUL in a text", messageOf().replace("Hello", "He\u0000llo"), [400]],
    [
      "half a character, as UTF-8",
      Buffer.concat([
        Buffer.from(messageOf().slice(0, -10)),
        Buffer.from([0xed, 0xa0, 0x80]),
        Buffer.from(messageOf().slice(-10)),
      ]),
      [400],
    ],
    ["a number of 100,000 digits", messageOf({ max_tokens: 7 }).replace(":7", `:${"9".repeat(100_000)}`), [400]],
    ["a key of a megabyte", messageOf({ ["k".repeat(1_000_000)]: 1 }), [200, 400]],
  ];

  it.each(ways)(
    "a body with %s is answered, and others meanwhile",
    async (_, bytes, statuses) => {
      const answer = ask(bench.url, { body: bytes });
      const other = await ask(bench.url);
      const { status } = await answer;

      expect(statuses).toContain(status);
      expect(other.status).toBe(200);
    },
    30_000,
  );

  it.each(["\\u0000", "\\ud800", "\\udfff\\ud800", "\\ud83d"])(
    "an escaped %s in a text reaches the provider as it is",
    async (escape) => {
      const text = messageOf().replace("Hello", `He${escape}llo`);

      const { status } = await ask(bench.url, { body: text });

      expect([status, bench.simulator.requests.at(-1)?.body.toString()]).toEqual([200, text]);
    },
  );
});
