/** Answers for tests, from a seed: whole ones in every framing, and broken ones. Bytes as one character each. */

export interface Random {
  /** 0 to `count` - 1. */
  below(count: number): number;
  chance(share: number): boolean;
  one<T>(of: readonly T[]): T;
}

/** Mulberry32: enough for cases, the same everywhere. */
export function createRandom(seed: number): Random {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const below = (count: number): number => Math.floor(next() * count);
  return { below, chance: (share) => next() < share, one: <T>(of: readonly T[]): T => of[below(of.length)] as T };
}

const NAMES = [
  "Content-Type",
  "request-id",
  "x-a",
  "X-B",
  "set-cookie",
  "date",
  "Via",
  "connection",
  "Keep-Alive",
  "x-!#$%&'*+-.^_`|~",
];
const VALUES = [
  "text/event-stream",
  "a",
  "",
  "a b\tc",
  "keep-alive",
  "close",
  "timeout=5",
  "keep-alive, Close",
  "\xe4\xf6\xff",
  '"q;=,"',
];
const BODIES = [
  "",
  "{}",
  "x",
  "event: ping\ndata: {}\n\n",
  "\r\n\r\n",
  "0\r\n\r\n",
  "HTTP/1.1 200 OK\r\n\r\n",
  "\u00ff\u0000\u0080",
  "y".repeat(300),
];

/** A whole answer. */
export function buildAnswer(random: Random): string {
  let text = "";
  while (random.chance(0.12)) text += `HTTP/1.1 ${random.one([102, 103, 199])} Wait\r\n${buildHeaders(random, 2)}\r\n`;
  const version = random.chance(0.06) ? "1.0" : "1.1";
  const status = random.one([200, 200, 200, 201, 204, 205, 304, 400, 404, 429, 500, 529, 599, 999]);
  const reason = random.one([" OK", " ", "", " a\tb \xe4", " Too Many Requests"]);
  text += `HTTP/${version} ${status}${reason}\r\n${buildHeaders(random, 4)}`;
  text += buildFramedBody(random, random.one(BODIES) + random.one(BODIES));
  return random.chance(0.08) ? text + random.one(["x", "\r\n", "HTTP/1.1 200 OK\r\n\r\n"]) : text;
}

function buildHeaders(random: Random, most: number): string {
  let text = "";
  for (let count = random.below(most + 1); count > 0; count -= 1) {
    text += `${random.one(NAMES)}:${random.one(["", " ", "  ", "\t"])}${random.one(VALUES)}${random.one(["", "", " ", " \t"])}\r\n`;
  }
  return text;
}

function buildFramedBody(random: Random, body: string): string {
  const name = random.one(["content-length", "Content-Length"]);
  switch (random.below(5)) {
    case 0:
      return `\r\n${body}`;
    case 1:
      return `${name}: ${random.one(["", "0", "00"])}${body.length}\r\n\r\n${body}`;
    case 2:
      return `${name}: 0\r\n\r\n`;
    default:
      return `${random.one(["transfer-encoding: chunked", "Transfer-Encoding:CHUNKED"])}\r\n\r\n${buildChunks(random, body)}`;
  }
}

const EXTENSIONS = [";a", ";a=b", ';a="b c"', ';a="b\\"c";d', ";name=value;other"];

function buildChunks(random: Random, body: string): string {
  let text = "";
  for (let at = 0; at < body.length;) {
    const bytes = Math.min(body.length - at, 1 + random.below(random.one([1, 4, 40, 400])));
    const size = random.chance(0.5) ? bytes.toString(16) : bytes.toString(16).toUpperCase();
    text += `${random.one(["", "", "", "0", "000"])}${size}${random.chance(0.1) ? random.one(EXTENSIONS) : ""}\r\n`;
    text += `${body.slice(at, at + bytes)}\r\n`;
    at += bytes;
  }
  return `${text}${random.one(["0", "0", "00"])}\r\n${random.chance(0.15) ? buildHeaders(random, 2) : ""}\r\n`;
}

const BYTES = ["\r", "\n", " ", "\t", ":", ";", "0", "f", "g", "\0", "\x7f", "\xff", "\r\n", "\r\n ", "=", '"', ","];
const LINES = [
  "content-length: 3",
  "Content-Length: 3",
  "content-length: 3, 3",
  "content-length: +3",
  "content-length:",
  "content-length: 0x3",
  "content-length: 9007199254740993",
  "content-length: 99999999999999999999",
  "transfer-encoding: chunked",
  "transfer-encoding: gzip, chunked",
  "transfer-encoding: chunked, identity",
  "transfer-encoding: gzip",
  "transfer-encoding:",
  "transfer-encoding : chunked",
  " folded",
  ": nameless",
  "no colon",
  "bad name: x",
  "x: a\0b",
  "connection: close",
  "connection: upgrade",
  "upgrade: h2c",
];

/** An answer with something wrong in it, or nothing: some changes are harmless. */
export function breakAnswer(random: Random, answer: string): string {
  const at = random.chance(0.6) ? random.below(Math.max(1, answer.indexOf("\r\n\r\n"))) : random.below(answer.length + 1);
  const lineAt = lineStart(answer, at);
  switch (random.below(8)) {
    case 0:
      return answer.slice(0, at);
    case 1:
      return answer.slice(0, at) + answer.slice(at + 1 + random.below(3));
    case 2:
      return answer.slice(0, at) + random.one(BYTES) + answer.slice(at);
    case 3:
      return answer.slice(0, at) + random.one(BYTES) + answer.slice(at + 1);
    case 4:
      return answer.slice(0, lineAt) + answer.slice(lineAt, at) + answer.slice(lineAt);
    case 5:
      return answer.replace(
        /^HTTP\/1\.[01] \d+/,
        random.one([
          "HTTP/2.0 200",
          "HTTP/1.2 200",
          "http/1.1 200",
          "HTTP/1.1  200",
          "HTTP/1.1 20",
          "HTTP/1.1 099",
          "HTTP/1.1 2000",
          "ICY 200",
          "HTTP/1.1 101",
          "HTTP/0.9 200",
        ]),
      );
    default:
      return `${answer.slice(0, lineAt)}${random.one(LINES)}\r\n${answer.slice(lineAt)}`;
  }
}

/** Where the line begins in which `at` stands; never the first, which is no header's place. */
function lineStart(answer: string, at: number): number {
  const before = answer.lastIndexOf("\r\n", Math.max(at - 1, 0));
  return before < 0 ? answer.indexOf("\r\n") + 2 : before + 2;
}

/** The bytes, cut at random places. */
export function cutAtRandom(random: Random, bytes: Buffer): Buffer[] {
  const pieces: Buffer[] = [];
  const usual = random.one([1, 3, 20, 200, 2_000]);
  for (let at = 0; at < bytes.length;) {
    const end = Math.min(bytes.length, at + 1 + random.below(usual));
    // Copies: a reader may change what it was given.
    pieces.push(Buffer.from(bytes.subarray(at, end)));
    at = end;
  }
  return pieces;
}
