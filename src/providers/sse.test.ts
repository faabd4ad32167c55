import * as fc from "fast-check";
import { createParser } from "eventsource-parser";
import { describe, expect, test } from "vitest";
import { SseReader, type SseEvent } from "./sse.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

interface Read {
  name: string | undefined;
  data: string | undefined;
}

/** Cuts bytes at the given places. */
function cut(bytes: Uint8Array, at: readonly number[]): Uint8Array[] {
  const places = [0, ...at.map((place) => place % (bytes.length + 1)).toSorted((left, right) => left - right), bytes.length];
  return places.slice(1).map((end, index) => bytes.slice(places[index], end));
}

function readAll(chunks: readonly Uint8Array[], options: Partial<ConstructorParameters<typeof SseReader>[0]> = {}): Read[] {
  const events: Read[] = [];
  const onEvent = ({ name, data }: SseEvent): void => {
    events.push({ name, data: data === undefined ? undefined : decoder.decode(data) });
  };
  const reader = new SseReader({
    skipEvents: [],
    skipLines: [],
    wants: () => true,
    dataBytesMax: 1_000_000,
    onEvent,
    ...options,
  });
  for (const chunk of chunks) reader.push(chunk);
  return events;
}

/** What a parser of others reads, given the whole text at once. */
function readByOthers(bytes: Uint8Array): Read[] {
  const events: Read[] = [];
  const parser = createParser({ onEvent: ({ event, data }) => events.push({ name: event, data }) });
  parser.feed(decoder.decode(bytes));
  return events;
}

const line = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.constantFrom(
      "",
      "data: x",
      "data:x",
      "data",
      "data:",
      "data:  two",
      "event: done",
      "event:",
      ": note",
      "id: 7",
      "retry: 10",
    ),
  },
  {
    weight: 2,
    arbitrary: fc.string({ unit: "grapheme", maxLength: 80 }).map((text) => `data: ${text.replaceAll(/[\r\n]/g, "")}`),
  },
  { weight: 1, arbitrary: fc.string({ maxLength: 12 }).map((text) => text.replaceAll(/[\r\n]/g, "")) },
);
const stream = fc
  .record({
    lines: fc.array(fc.tuple(line, fc.constantFrom("\n", "\r", "\r\n")), { maxLength: 30 }),
    hasBom: fc.boolean(),
  })
  .map(({ lines, hasBom }) => encoder.encode(`${hasBom ? "\uFEFF" : ""}${lines.map((parts) => parts.join("")).join("")}`));

describe("reading events", () => {
  test("agrees with another parser, however the bytes are cut", () => {
    fc.assert(
      fc.property(stream, fc.array(fc.nat({ max: 5_000 }), { maxLength: 20 }), (bytes, places) => {
        expect(readAll(cut(bytes, places))).toEqual(readByOthers(bytes));
      }),
      { numRuns: 2_000 },
    );
  });

  test("agrees with itself byte by byte", () => {
    fc.assert(
      fc.property(stream, (bytes) => {
        expect(readAll(Array.from(bytes, (byte) => Uint8Array.of(byte)))).toEqual(readAll([bytes]));
      }),
    );
  });

  test.each<[string, string, Read[]]>([
    ["line feeds", "event: a\ndata: 1\n\n", [{ name: "a", data: "1" }]],
    ["carriage returns", "event: a\rdata: 1\r\r", [{ name: "a", data: "1" }]],
    ["both", "event: a\r\ndata: 1\r\n\r\n", [{ name: "a", data: "1" }]],
    ["a byte order mark", "\uFEFFdata: 1\n\n", [{ name: undefined, data: "1" }]],
    ["a mark that is not the first thing", "\n\uFEFFdata: 1\n\n", []],
    ["comments between the lines of an event", ": hi\ndata: 1\n: there\ndata: 2\n\n", [{ name: undefined, data: "1\n2" }]],
    ["several data lines", "data: 1\ndata\ndata:3\n\n", [{ name: undefined, data: "1\n\n3" }]],
    ["a name behind the data", "data: 1\nevent: late\n\n", [{ name: "late", data: "1" }]],
    ["an event without data", "event: a\n\ndata: 1\n\n", [{ name: undefined, data: "1" }]],
    ["the last event without its blank line", "data: 1\n\ndata: 2\n", [{ name: undefined, data: "1" }]],
    ["letters of several bytes", "data: ✔ 日本 🙂\n\n", [{ name: undefined, data: "✔ 日本 🙂" }]],
  ])("reads %s", (_, text, expected) => {
    const bytes = encoder.encode(text);
    expect(readAll([bytes])).toEqual(expected);
    for (let at = 0; at <= bytes.length; at += 1) expect(readAll(cut(bytes, [at]))).toEqual(expected);
  });

  test("hands over what the stream's end cut, saying so", () => {
    const events: SseEvent[] = [];
    const reader = new SseReader({
      skipEvents: [],
      skipLines: [],
      wants: () => true,
      dataBytesMax: 100,
      onEvent: (event) => events.push(event),
    });
    reader.push(encoder.encode("data: 1\n\ndata: half"));
    expect(events.map((event) => event.isWhole)).toEqual([true]);
    reader.end();
    expect(events.map((event) => event.isWhole)).toEqual([true, false]);
    reader.end();
    expect(events).toHaveLength(2);
  });
});

describe("dropping what nobody wants", () => {
  const skipLines = [encoder.encode('data: {"type":"skip')];

  test("asks once per event, with its name and the first 64 bytes", () => {
    const asked: [string | undefined, string][] = [];
    const wants = (name: string | undefined, head: string): boolean => asked.push([name, head]) < 0;
    const long = "x".repeat(100);
    expect(readAll([encoder.encode(`event: a\ndata: ${long}\ndata: more\n\ndata: short\n\n`)], { wants })).toEqual([]);
    expect(asked).toEqual([
      ["a", "x".repeat(64)],
      [undefined, "short"],
    ]);
  });

  test("drops by the beginning of the line without asking, wherever the line is cut", () => {
    const bytes = encoder.encode('event: s\ndata: {"type":"skip_me","x":1}\n\nevent: k\ndata: {"type":"keep"}\n\n');
    const wants = (_: string | undefined, head: string): boolean => head.includes("keep");
    for (let at = 0; at <= bytes.length; at += 1) {
      expect(readAll(cut(bytes, [at]), { skipLines, wants })).toEqual([{ name: "k", data: '{"type":"keep"}' }]);
    }
  });

  test("drops whole events by their beginning exactly where they would be refused, whatever stands around them", () => {
    const skipEvents = [encoder.encode('event: s\ndata: {"type":"skip"')];
    const wants = (_: string | undefined, head: string): boolean => !head.startsWith('{"type":"skip"');
    const part = fc.constantFrom(
      'event: s\ndata: {"type":"skip"',
      '{"type":"skip"',
      "event: s",
      "data: ",
      "id: 1",
      "x",
      ": c",
      "\n",
      "\n\n",
      "\r",
      "\r\n",
    );
    const text = fc.array(part, { maxLength: 30 }).map((parts) => encoder.encode(parts.join("")));
    fc.assert(
      fc.property(text, fc.array(fc.nat({ max: 600 }), { maxLength: 5 }), (bytes, places) => {
        const isSeen = ({ data }: Read): boolean => data?.startsWith('{"type":"skip"') !== true;
        expect(readAll(cut(bytes, places), { skipEvents, wants }).filter(isSeen)).toEqual(
          readAll([bytes], { wants }).filter(isSeen),
        );
      }),
      { numRuns: 3_000 },
    );
  });

  test("does not mistake the second data line of an event for its beginning", () => {
    expect(readAll([encoder.encode('data: [\ndata: {"type":"skip"}\n\n')], { skipLines })).toEqual([
      { name: undefined, data: '[\n{"type":"skip"}' },
    ]);
  });

  test("reports an event that is too long without holding it", () => {
    const events: SseEvent[] = [];
    const reader = new SseReader({
      skipEvents: [],
      skipLines: [],
      wants: () => true,
      dataBytesMax: 1_000,
      onEvent: (event) => events.push(event),
    });
    reader.push(encoder.encode("event: big\ndata: "));
    for (let count = 0; count < 10_000; count += 1) reader.push(new Uint8Array(1_024).fill(0x61));
    reader.push(encoder.encode("\n\nevent: next\ndata: 1\n\n"));
    expect(events.map(({ name, data }) => [name, data?.length])).toEqual([
      ["big", undefined],
      ["next", 1],
    ]);
  });
});
