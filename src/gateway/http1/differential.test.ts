/**
 * Goal: our reader of answers understands exactly what llhttp (in undici) understands, or refuses. Method: the same answers, whole and
 * broken, from a seed; ours gets them cut at random places. Where we refuse what llhttp reads, the reason stands in a list, by name.
 */
import { Duplex } from "node:stream";
import { Client } from "undici";
import { describe, expect, it } from "vitest";
import { AnswerReader } from "./answer-reader.ts";
import { breakAnswer, buildAnswer, createRandom, cutAtRandom, type Random } from "./answers.fixture.ts";
import { BadAnswerError, type BadAnswerReason } from "./bad-answer.ts";

const CASES = process.env["PURSER_LONG"] === "1" ? 200_000 : 3_000;
const SEED = Number(process.env["PURSER_SEED"] ?? 20_261_125);

interface Reading {
  status: number | undefined;
  headers: string[];
  body: string;
  isClean: boolean;
  code: string;
}

const nothing = (): Reading => ({ status: undefined, headers: [], body: "", isClean: false, code: "" });

/** Ours. */
function readOurs(pieces: readonly Buffer[]): Reading {
  const reading = nothing();
  const reader = new AnswerReader({
    onHead: ({ status, headers }) => Object.assign(reading, { status, headers }),
    onPayload: (bytes) => (reading.body += bytes.toString("latin1")),
    onEnd: () => (reading.isClean = true),
  });
  try {
    for (const piece of pieces) reader.push(piece);
    reader.end();
  } catch (error) {
    if (!(error instanceof BadAnswerError)) throw error;
    reading.code = error.code;
  }
  return reading;
}

/** A socket that, once it is written to, says this, and then nothing more. */
function socketOf(bytes: Buffer): Duplex {
  let speakOnce = (): void => {
    speakOnce = () => undefined;
    // Behind the writing: an answer before its request would be refused.
    setImmediate(() => {
      socket.push(bytes);
      socket.push(null);
    });
  };
  const socket = new Duplex({
    read: () => undefined,
    write(_chunk, _encoding, done) {
      speakOnce();
      done();
    },
  });
  return socket;
}

/** llhttp's, as undici drives it. */
async function readTheirs(bytes: Buffer): Promise<Reading> {
  const options = {
    maxHeaderSize: 65_536,
    connect: (_options: unknown, connected: (error: null, socket: Duplex) => void): void =>
      queueMicrotask(() => connected(null, socketOf(bytes))),
  };
  const client = new Client("http://provider.invalid", options as object);
  const reading = await new Promise<Reading>((resolve) => {
    const reading = nothing();
    client.dispatch(
      { method: "POST", path: "/", headers: [], body: "x" },
      {
        onRequestStart: () => undefined,
        onResponseStart({ rawHeaders }, status) {
          if (status < 200) return;
          reading.status = status;
          // undici leaves the spaces behind a value, which are no part of it.
          reading.headers = (rawHeaders as Buffer[]).map((part) => part.toString("latin1").replace(/[ \t]+$/, ""));
        },
        onResponseData: (_controller, chunk) => void (reading.body += chunk.toString("latin1")),
        onResponseEnd() {
          reading.isClean = true;
          resolve(reading);
        },
        onResponseError: () => resolve(reading),
      },
    );
  });
  await client.destroy();
  return reading;
}

/** What we refuse and llhttp reads, each with an answer that shows it. */
const STRICTER: { name: string; code: BadAnswerReason; isIn: RegExp; example: string }[] = [
  {
    name: "another version than 1.0 and 1.1",
    code: "bad_status_line",
    isIn: /HTTP\/(?:0\.9|2\.0) /,
    example: "HTTP/2.0 200 OK\r\ncontent-length: 0\r\n\r\n",
  },
  {
    name: "a control character in the reason",
    code: "bad_status_line",
    // oxlint-disable-next-line no-control-regex -- that is what it looks for
    isIn: /HTTP\/1\.[01] \d{3} [^\r\n]*[\0-\x08\x0b-\x1f\x7f]/,
    example: "HTTP/1.1 200 O\0K\r\ncontent-length: 0\r\n\r\n",
  },
  {
    name: "a carriage return that ends no line",
    code: "bad_status_line",
    isIn: /HTTP\/1\.[01] \d{3}[^\r\n]*\r[^\n]/,
    example: "HTTP/1.1 201\r\rcontent-length: 0\r\n\r\n",
  },
  {
    name: "an empty line before the answer",
    code: "bad_status_line",
    isIn: /^[\r\n]|\r\n\r\n[\r\n]+HTTP/,
    example: "\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
  },
  {
    name: "an informational answer that announces a body, or ends the connection",
    code: "bad_header",
    isIn: /HTTP\/1\.[01] 1\d\d [^]*(?:content-length|transfer-encoding|connection):/i,
    example: "HTTP/1.1 103 Early\r\ncontent-length: 3\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
  },
  {
    name: "another transfer coding than chunked alone",
    code: "bad_transfer_encoding",
    isIn: /transfer-encoding:/i,
    example: "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
  },
  {
    name: "chunks in HTTP/1.0",
    code: "bad_length",
    isIn: /HTTP\/1\.0 [^]*transfer-encoding/i,
    example: "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
  },
  {
    name: "a length that no number holds exactly",
    code: "bad_length",
    isIn: /content-length: *9{0,3}\d{13,}/i,
    example: "HTTP/1.1 204 OK\r\ncontent-length: 9007199254740993\r\n\r\n",
  },
  {
    name: "the body's end stated behind it",
    code: "bad_chunk",
    isIn: /0\r\n(?:[^]*\r\n)?(?:content-length|transfer-encoding)/i,
    example: "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\ntransfer-encoding: chunked\r\n\r\n",
  },
  {
    name: "an extension of a chunk without its name, or without the value behind its equals sign",
    code: "bad_chunk",
    isIn: /;(?:[;=\r]|[^\r\n]*(?:=[\r;]|;[;=\r]))/,
    example: "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;a=\r\nx\r\n0\r\n\r\n",
  },
];

/**
 * Where they are wrong: undici takes the spaces behind a length for digits of it and breaks off at "100 Continue", and llhttp takes a tab
 * behind a coding for a part of its name.
 */
const IS_MISREAD = /content-length:[\t ]*\d+[\t ]+\r\n|transfer-encoding:[^\r\n]*\t|HTTP\/1\.[01] 100\b/i;

const compared = ({ status, headers, body, isClean }: Reading): string => JSON.stringify([status, headers, body, isClean]);

describe("answers", () => {
  it(`are read as llhttp reads them: ${CASES.toLocaleString("en-US")} cases, seed ${SEED}`, { timeout: 900_000 }, async () => {
    const random = createRandom(SEED);
    const seen = { clean: 0, broken: 0, stricter: 0 };
    for (let index = 0; index < CASES; index += 1) {
      const text = caseOf(random);
      if (IS_MISREAD.test(text)) continue;
      const bytes = Buffer.from(text, "latin1");
      const ours = readOurs(cutAtRandom(random, bytes));
      const theirs = await readTheirs(bytes);
      const isAlike = compared(ours) === compared(theirs);
      seen[!isAlike ? "stricter" : ours.isClean ? "clean" : "broken"] += 1;
      if (isAlike) continue;
      const listed = STRICTER.find(({ code, isIn }) => !ours.isClean && code === ours.code && isIn.test(text));
      expect(listed?.name ?? { text, ours, theirs }).toBe(listed?.name ?? "one of the list");
    }

    expect(seen.clean).toBeGreaterThan(CASES / 5);
    expect(seen.broken).toBeGreaterThan(CASES / 5);
  });

  it.each(STRICTER)("are refused, where llhttp reads them, for $name", async ({ code, isIn, example }) => {
    const bytes = Buffer.from(example, "latin1");
    const theirs = await readTheirs(bytes);

    expect(readOurs([Buffer.from(bytes)]).code).toBe(code);
    expect(theirs.isClean).toBe(true);
    expect(example).toMatch(isIn);
  });
});

function caseOf(random: Random): string {
  let text = buildAnswer(random);
  for (let breaks = random.one([0, 1, 1, 2]); breaks > 0; breaks -= 1) text = breakAnswer(random, text);
  return text;
}
