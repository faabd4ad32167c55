/** The Streams figure over OpenAI's protocols: every recorded stream, cut every way, read to the same usage, and its bytes passed on. */
import { createParser } from "eventsource-parser";
import { afterAll, describe, expect, test } from "vitest";
import { UsageChunkFilter } from "../../src/providers/openai/filter.ts";
import { fromUsage } from "../../src/providers/openai/usage.ts";
import type { MeterReading } from "../../src/providers/provider.ts";
import { dataFolder, NO_DATA, reportFigure } from "./figures.ts";
import { readOpenAiStreams, type OpenAiStream } from "./recorded-openai.ts";

const SPLITS = 20;
const seed = Number(process.env["PURSER_SEED"] ?? Math.floor(Math.random() * 2 ** 32));
const counts = { streams: 0, unfinished: 0, splits: 0, cuts: 0, filtered: 0 };

/** Mulberry32: small, and the same numbers for the same seed everywhere. */
function randomFrom(start: number): () => number {
  let state = start;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

function readChunks({ api }: OpenAiStream, chunks: Iterable<Uint8Array>): MeterReading {
  const meter = api.openMeter({ contentType: "text/event-stream", requestedModel: "unknown" });
  for (const chunk of chunks) meter.push(chunk);
  meter.end();
  return meter.reading();
}

/** Cuts at between 1 and 200 random bytes. */
function splitAtRandom(bytes: Uint8Array, random: () => number): Uint8Array[] {
  const places = Array.from({ length: 1 + Math.floor(random() * 200) }, () => Math.floor(random() * (bytes.length + 1)));
  const sorted = [0, ...places.toSorted((left, right) => left - right), bytes.length];
  return sorted.slice(1).map((end, index) => bytes.slice(sorted[index], end));
}

interface OthersReading {
  usage: Record<string, unknown> | undefined;
  tier: unknown;
  isEnded: boolean;
}

const ENDS = new Set(["response.completed", "response.incomplete", "response.failed"]);

/** The usage as another event parser and the plainest reading give it: the last one that was said, and the tier beside it. */
function readByOthers(bytes: Uint8Array): OthersReading {
  const read: OthersReading = { usage: undefined, tier: undefined, isEnded: false };
  const parser = createParser({
    onEvent({ data }) {
      if (data === "[DONE]") {
        read.isEnded = true;
        return;
      }
      const event = parse(data) as { type?: string; response?: OthersEvent } & OthersEvent;
      const told = event.response ?? event;
      read.usage = told.usage ?? read.usage;
      read.tier = told.service_tier ?? read.tier;
      if (ENDS.has(event.type ?? "")) read.isEnded = true;
    },
  });
  parser.feed(new TextDecoder().decode(bytes));
  return read;
}

function parse(data: string): object {
  try {
    return JSON.parse(data) as object;
  } catch {
    // Some fixture's line is no JSON: it says nothing.
    return {};
  }
}

interface OthersEvent {
  usage?: Record<string, unknown> | null;
  service_tier?: string | null;
}

function joinAll(pieces: readonly Uint8Array[]): string {
  return new TextDecoder().decode(Buffer.concat(pieces));
}

/** What a caller that did not ask for usage gets. */
function filtered(chunks: Iterable<Uint8Array>): string {
  const filter = new UsageChunkFilter();
  const passed: Uint8Array[] = [];
  for (const chunk of chunks) passed.push(filter.push(chunk).slice());
  return joinAll([...passed, filter.end()]);
}

describe.skipIf(dataFolder === undefined)(
  `OpenAI's recorded streams (${dataFolder === undefined ? NO_DATA : `seed ${seed}`})`,
  () => {
    const streams = dataFolder === undefined ? [] : readOpenAiStreams();
    const readings = new Map(streams.map((stream) => [stream.id, readChunks(stream, [stream.bytes])]));
    counts.streams = streams.length;

    test.each(streams.map((stream) => [stream.id, stream] as const))(
      "are read as another parser and plain reading read them: %s",
      (id, stream) => {
        const reading = readings.get(id);
        const { usage, tier, isEnded } = readByOthers(stream.bytes);
        const theirs = usage === undefined ? undefined : fromUsage(usage, reading?.model ?? "", { serviceTier: tier });
        expect(reading?.usage?.samplings).toEqual(theirs?.samplings);
        expect(reading?.usage?.serviceTier).toEqual(theirs?.serviceTier);
        expect(reading?.isFinal).toBe(isEnded && usage !== undefined);
        if (reading?.isFinal !== true) counts.unfinished += 1;
      },
    );

    test(`are read the same split at random bytes ${SPLITS} ways`, () => {
      const random = randomFrom(seed);
      for (const stream of streams) {
        for (let way = 0; way < SPLITS; way += 1) {
          const chunks = splitAtRandom(stream.bytes, random);
          expect([stream.id, readChunks(stream, chunks)]).toEqual([stream.id, readings.get(stream.id)]);
          counts.splits += 1;
        }
      }
    });

    test("are read the same byte by byte", () => {
      for (const stream of streams) {
        const bytes = Array.from(stream.bytes, (byte) => Uint8Array.of(byte));
        expect([stream.id, readChunks(stream, bytes)]).toEqual([stream.id, readings.get(stream.id)]);
      }
    });

    test("tell no end and no usage that did not come, cut after any event", () => {
      for (const stream of streams) {
        const meter = stream.api.openMeter({ contentType: "text/event-stream", requestedModel: "unknown" });
        for (const [index, end] of stream.eventEnds.entries()) {
          meter.push(stream.bytes.subarray(stream.eventEnds[index - 1] ?? 0, end));
          const { usage, isFinal } = meter.reading();
          const theirs = readByOthers(stream.bytes.subarray(0, end));
          const isSaid = theirs.usage !== undefined;
          // A chat's last report stands in a chunk without choices: nothing comes after it but the end.
          expect([stream.id, end, isFinal && !isSaid]).toEqual([stream.id, end, false]);
          expect([stream.id, end, isSaid && usage === undefined]).toEqual([stream.id, end, false]);
          counts.cuts += 1;
        }
      }
    });

    test("lose their usage chunk and nothing else where nobody asked for it, split at random bytes", () => {
      const random = randomFrom(seed);
      for (const stream of streams.filter(({ api }) => api.openFilter !== undefined)) {
        const events = new TextDecoder().decode(stream.bytes).split(/(?<=\n\n)/);
        const isUsage = (event: string): boolean => {
          if (!event.startsWith("data: {")) return false;
          const { choices, usage, prompt_filter_results: found } = parse(event.slice(6)) as Record<string, unknown>;
          return Array.isArray(choices) && choices.length === 0 && usage !== null && usage !== undefined && found === undefined;
        };
        const expected = events.filter((event) => !isUsage(event)).join("");
        counts.filtered += events.length - events.filter((event) => !isUsage(event)).length;
        for (let way = 0; way < SPLITS; way += 1) {
          expect([stream.id, filtered(splitAtRandom(stream.bytes, random))]).toEqual([stream.id, expected]);
        }
      }
      expect(counts.filtered).toBeGreaterThan(10);
    });
  },
);

afterAll(() => {
  if (dataFolder === undefined || counts.cuts === 0) return;
  const { streams, unfinished, splits, cuts, filtered: taken } = counts;
  reportFigure(
    "Streams",
    "OpenAI",
    `${streams} streams (${unfinished} of them without usage or without an end), ${splits} random splits (seed ${seed}) and every byte by ` +
      `itself: usage identical; ${cuts} cuts after an event: no end and no usage that did not come; ${taken} usage chunks taken out, every other byte passed`,
  );
});
