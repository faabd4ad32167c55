/** What is read as an answer and what is refused, without sockets. Cases where llhttp decides are in differential.test.ts. */
import { describe, expect, it } from "vitest";
import type { AnswerHead } from "./answer-head.ts";
import { AnswerReader } from "./answer-reader.ts";
import { BadAnswerError } from "./bad-answer.ts";

interface Reading {
  head: AnswerHead | undefined;
  payload: string;
  payloadCount: number;
  isWhole: boolean;
  hasMore: boolean;
  code: string | undefined;
}

/** Reads an answer given in pieces; the connection ends behind them unless it is kept. */
function read(pieces: readonly (string | Buffer)[], { isKept = false } = {}): Reading {
  const reading: Reading = { head: undefined, payload: "", payloadCount: 0, isWhole: false, hasMore: false, code: undefined };
  let ends = 0;
  const reader = new AnswerReader({
    onHead: (head) => (reading.head = head),
    onPayload(bytes) {
      reading.payload += bytes.toString("latin1");
      reading.payloadCount += 1;
    },
    onEnd: () => (ends += 1),
  });
  try {
    for (const piece of pieces) reader.push(typeof piece === "string" ? Buffer.from(piece, "latin1") : Buffer.from(piece));
    if (!isKept) reader.end();
  } catch (error) {
    if (!(error instanceof BadAnswerError)) throw error;
    reading.code = error.code;
  }
  expect(ends).toBe(reader.isWhole ? 1 : 0);
  return { ...reading, isWhole: reader.isWhole, hasMore: reader.hasMore };
}

const OK = "HTTP/1.1 200 OK\r\n";
const CHUNKED = `${OK}transfer-encoding: chunked\r\n\r\n`;

describe("a body ends", () => {
  it.each<[string, string, string]>([
    ["after its length", `${OK}content-length: 3\r\n\r\nabc`, "abc"],
    ["at once, with a length of 0", `${OK}content-length: 0\r\n\r\n`, ""],
    ["with the last chunk", `${CHUNKED}3\r\nabc\r\n00A;x=y\r\n0123456789\r\n0\r\n\r\n`, "abc0123456789"],
    ["behind the trailers, which are dropped", `${CHUNKED}1\r\na\r\n0\r\nx-a: 1\r\nx-b: 2\r\n\r\n`, "a"],
    ["at once, with a status that has none", "HTTP/1.1 204 No Content\r\n\r\n", ""],
  ])("%s", (_, answer, payload) => {
    expect(read([answer], { isKept: true })).toMatchObject({ payload, isWhole: true, hasMore: false, code: undefined });
  });

  it("with the connection where nothing else is said", () => {
    expect(read([`${OK}\r\n`, "abc"], { isKept: true })).toMatchObject({ payload: "abc", isWhole: false });
    expect(read([`${OK}\r\n`, "abc"])).toMatchObject({ payload: "abc", isWhole: true, code: undefined });
  });

  it.each<[string, string]>([
    ["a head", OK],
    ["a length", `${OK}content-length: 4\r\n\r\nabc`],
    ["a chunk", `${CHUNKED}4\r\nabc`],
    ["the line behind a chunk", `${CHUNKED}3\r\nabc\r`],
    ["chunks", `${CHUNKED}3\r\nabc\r\n`],
    ["the last chunk", `${CHUNKED}3\r\nabc\r\n0\r\n`],
    ["trailers", `${CHUNKED}3\r\nabc\r\n0\r\nx: y\r\n`],
    ["nothing", ""],
    ["informational answers", "HTTP/1.1 103 Early Hints\r\n\r\n"],
  ])("too early within %s, which is never a clean end", (_, answer) => {
    expect(read([answer])).toMatchObject({ isWhole: false, code: "ended_early" });
  });

  it("with what came before it delivered, where a chunk is broken", () => {
    expect(read([`${CHUNKED}3\r\nabc\r\n4\r\ndefgX`])).toMatchObject({ payload: "abcdefg", code: "bad_chunk" });
  });

  it("and bytes behind it are seen, in the same read or later", () => {
    expect(read([`${OK}content-length: 1\r\n\r\nabc`]).hasMore).toBe(true);
    expect(read([`${CHUNKED}0\r\n\r\n\n`]).hasMore).toBe(true);
    expect(read([`${OK}content-length: 1\r\n\r\na`, "b"]).hasMore).toBe(true);
  });
});

it("reads the same wherever the bytes are cut", () => {
  const answer = `HTTP/1.1 103 Early\r\nlink: x\r\n\r\n${OK}X-A:  1 \r\ntransfer-encoding: chunked\r\n\r\n5;e="q;"\r\nh\xe9llo\r\n1\r\n\r\r\n0\r\nt: 1\r\n\r\n`;
  const whole = { ...read([answer]), payloadCount: 0 };
  expect(whole).toMatchObject({ payload: "h\xe9llo\r", isWhole: true });

  for (let first = 0; first <= answer.length; first += 1) {
    const second = Math.min(answer.length, first + 7);
    const pieces = [answer.slice(0, first), answer.slice(first, second), answer.slice(second)];
    expect({ ...read(pieces), payloadCount: 0 }).toEqual(whole);
  }
  expect({ ...read(Array.from(answer)), payloadCount: 0 }).toEqual(whole);
});

it("hands over the payload of one read as one piece, in the memory it came in", () => {
  const bytes = Buffer.from(`${CHUNKED}1\r\na\r\n2\r\nbc\r\n3\r\ndef\r\n`, "latin1");
  const pieces: Buffer[] = [];
  const reader = new AnswerReader({ onHead: () => undefined, onPayload: (piece) => pieces.push(piece), onEnd: () => undefined });
  reader.push(bytes);

  expect(pieces.map(String)).toEqual(["abcdef"]);
  expect(pieces[0]?.buffer).toBe(bytes.buffer);
});

describe("the connection", () => {
  it.each<[string, string, boolean]>([
    ["is kept by default", `${OK}content-length: 0\r\n\r\n`, true],
    ["is kept behind chunks", `${CHUNKED}0\r\n\r\n`, true],
    ["ends where the answer says so", `${OK}connection: x, Close\r\ncontent-length: 0\r\n\r\n`, false],
    ["ends with HTTP/1.0", "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n", false],
    ["ends where it ends the body", `${OK}\r\n`, false],
    ["ends where a body was announced that cannot be", "HTTP/1.1 304 X\r\ncontent-length: 3\r\n\r\n", false],
  ])("%s", (_, answer, isKept) => {
    expect(read([answer]).head?.isKept).toBe(isKept);
  });

  it("says how long it is kept", () => {
    expect(read([`${OK}Keep-Alive: timeout=7, max=10\r\ncontent-length: 0\r\n\r\n`]).head?.keepAliveMs).toBe(7_000);
  });
});

describe("refused", () => {
  it.each<[string, string, string]>([
    ["what is no HTTP, at its first bytes", "220 hello", "bad_status_line"],
    ["a status below 100", "HTTP/1.1 099 X\r\n\r\n", "bad_status_line"],
    ["a bare line feed, before the head is whole", `${OK}x: y\nz`, "bad_header"],
    ["a folded line", `${OK}x: y\r\n z\r\ncontent-length: 0\r\n\r\n`, "bad_header"],
    ["a space before the colon", `${OK}content-length : 0\r\n\r\n`, "bad_header"],
    ["NUL behind a long run of spaces", `${OK}x:${" ".repeat(60_000)}\0\r\n\r\n`, "bad_header"],
    ["NUL in a value", `${OK}x: a\0b\r\n\r\n`, "bad_header"],
    ["a bare carriage return in a value", `${OK}x: a\rb\r\n\r\n`, "bad_header"],
    ["a length and chunks", `${OK}content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n`, "bad_length"],
    ["two different lengths", `${OK}content-length: 3\r\ncontent-length: 4\r\n\r\n`, "bad_length"],
    ["two lengths in one line", `${OK}content-length: 3, 3\r\n\r\n`, "bad_length"],
    ["a length with a sign", `${OK}content-length: +3\r\n\r\n`, "bad_length"],
    ["another coding", `${OK}transfer-encoding: gzip\r\n\r\n`, "bad_transfer_encoding"],
    ["a chunk without a size", `${CHUNKED}\r\n`, "bad_chunk"],
    ["a space behind a chunk's size", `${CHUNKED}1 \r\n`, "bad_chunk"],
    ["a chunk larger than any number", `${CHUNKED}${"f".repeat(14)}\r\n`, "bad_chunk"],
    ["a size of endless zeros", `${CHUNKED}${"0".repeat(17)}`, "bad_chunk"],
    ["a chunk longer than its size", `${CHUNKED}1\r\nab\r\n`, "bad_chunk"],
    ["a bare line feed behind a size", `${CHUNKED}1\na\r\n`, "bad_chunk"],
    ["trailers that are none", `${CHUNKED}0\r\nno colon\r\n\r\n`, "bad_chunk"],
    ["another protocol", "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n", "switched_protocols"],
  ])("is %s", (_, answer, code) => {
    expect(read([answer], { isKept: true }).code).toBe(code);
  });
});

describe("bounded is", () => {
  const line = (bytes: number): string => `x: ${"y".repeat(bytes - 5)}\r\n`;

  it.each<[string, string, string | undefined]>([
    ["a header line of 16 KB", `${OK}${line(16_384)}content-length: 0\r\n\r\n`, undefined],
    ["a longer one", `${OK}${line(16_385)}content-length: 0\r\n\r\n`, "bad_header"],
    ["a head of 64 KB", `${OK}${line(16_000).repeat(4)}content-length: 0\r\n\r\n`, undefined],
    ["a longer one, also without its end", `${OK}${line(16_000).repeat(5)}`, "head_too_large"],
    ["a head of 512 lines", `${OK}${"x: y\r\n".repeat(511)}content-length: 0\r\n\r\n`, undefined],
    ["more lines", `${OK}${"x: y\r\n".repeat(512)}content-length: 0\r\n\r\n`, "bad_header"],
    ["a chunk's extension", `${CHUNKED}1;${"x".repeat(16_400)}`, "bad_chunk"],
    ["the extensions of many chunks", `${CHUNKED}${"1;xxxxxxxxxx\r\na\r\n".repeat(2_000)}`, "bad_chunk"],
    ["the trailers", `${CHUNKED}0\r\n${"x: y\r\n".repeat(3_000)}`, "bad_chunk"],
    ["32 informational answers", `${"HTTP/1.1 100 Continue\r\n\r\n".repeat(32)}${OK}content-length: 0\r\n\r\n`, undefined],
    ["more of them", "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(33), "too_many_interim_answers"],
  ])("%s", (_, answer, code) => {
    expect(read([answer], { isKept: true }).code).toBe(code);
  });
});
