/** The Streams figure, its reading part: every recorded stream, cut every way, read to the same usage. The forwarding part is elsewhere. */
import { createParser } from "eventsource-parser";
import { afterAll, describe, expect, test } from "vitest";
import { buildPriceBook } from "../../src/core/pricing/price-book.ts";
import { rateUsage } from "../../src/core/pricing/rate.ts";
import { totalInputTokens, type Usage } from "../../src/core/usage/usage.ts";
import { openMeter } from "../../src/providers/anthropic/meter.ts";
import { fromUsage } from "../../src/providers/anthropic/usage.ts";
import type { MeterReading } from "../../src/providers/provider.ts";
import { SseReader } from "../../src/providers/sse.ts";
import { dataFolder, dataPath, NO_DATA, readJsonLines, reportFigure } from "./figures.ts";
import { readAnthropicStreams, type RecordedStream } from "./recorded.ts";
import { readShippedRows } from "./shipped-prices.ts";

const SPLITS = 20;
const seed = Number(process.env["PURSER_SEED"] ?? Math.floor(Math.random() * 2 ** 32));
const book = buildPriceBook(readShippedRows());
const counts = { streams: 0, unfinished: 0, splits: 0, cuts: 0, vectors: 0 };

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

function readChunks(chunks: Iterable<Uint8Array>): MeterReading {
  const meter = openMeter({ contentType: "text/event-stream", requestedModel: "claude-sonnet-4-5" });
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

interface MergedMessage {
  id: string | undefined;
  model: string;
  usage: Record<string, unknown>;
}

/** The usage as another event parser and the plainest merging give it: per message, later reports overwrite what they name. */
function mergeByOthers(bytes: Uint8Array): MergedMessage[] {
  const messages: MergedMessage[] = [];
  const overwrite = (usage: Record<string, unknown> | undefined): void => {
    const last = messages.at(-1);
    for (const [key, value] of Object.entries(usage ?? {})) if (value !== null && last !== undefined) last.usage[key] = value;
  };
  const parser = createParser({
    onEvent({ data }) {
      const event = JSON.parse(data) as { type: string; message?: MergedMessage; usage?: Record<string, unknown> };
      const { message } = event;
      if (event.type === "message_start" && message !== undefined && message.id !== messages.at(-1)?.id) {
        messages.push({ ...message, usage: {} });
      }
      overwrite(event.type === "message_start" ? message?.usage : event.type === "message_delta" ? event.usage : undefined);
    },
  });
  parser.feed(new TextDecoder().decode(bytes));
  return messages;
}

function startUsage(stream: RecordedStream): Usage {
  const first = stream.eventEnds.find((end) => new TextDecoder().decode(stream.bytes.subarray(0, end)).includes("message_start"));
  const [message] = mergeByOthers(stream.bytes.subarray(0, first));
  return fromUsage(message?.usage, message?.model ?? "");
}

const inputOf = (usage: Usage): number => usage.samplings.reduce((sum, { tokens }) => sum + totalInputTokens(tokens), 0);

describe.skipIf(dataFolder === undefined)(`recorded streams (${dataFolder === undefined ? NO_DATA : `seed ${seed}`})`, () => {
  const streams = dataFolder === undefined ? [] : readAnthropicStreams();
  const readings = new Map(streams.map((stream) => [stream.id, readChunks([stream.bytes])]));
  counts.streams = streams.length;

  test.each(streams.map((stream) => [stream.id, stream] as const))(
    "are read as another parser and plain merging read them: %s",
    (id, stream) => {
      const reading = readings.get(id);
      const merged = mergeByOthers(stream.bytes).map(({ usage, model }) => fromUsage(usage, model));
      expect(reading?.usage?.samplings).toEqual(merged.flatMap(({ samplings }) => samplings));
      expect(reading?.usage?.webSearchRequests).toBe(merged.reduce((sum, usage) => sum + usage.webSearchRequests, 0));
      const text = new TextDecoder().decode(stream.bytes);
      const isEnded = /"type": ?"message_delta"/.test(text) && /"type": ?"message_stop"/.test(text);
      expect(reading?.isFinal).toBe(isEnded);
      if (!isEnded) counts.unfinished += 1;
    },
  );

  test(`are read the same split at random bytes ${SPLITS} ways`, () => {
    const random = randomFrom(seed);
    for (const stream of streams) {
      for (let way = 0; way < SPLITS; way += 1) {
        expect([stream.id, readChunks(splitAtRandom(stream.bytes, random))]).toEqual([stream.id, readings.get(stream.id)]);
        counts.splits += 1;
      }
    }
  });

  test("are read the same byte by byte", () => {
    for (const stream of streams) {
      const bytes = function* (): Generator<Uint8Array> {
        for (const byte of stream.bytes) yield Uint8Array.of(byte);
      };
      expect([stream.id, readChunks(bytes())]).toEqual([stream.id, readings.get(stream.id)]);
    }
  });

  test("give at least the reported input side when cut after any event, never nothing, never an end that did not come", () => {
    for (const stream of streams) {
      const started = startUsage(stream);
      const meter = openMeter({ contentType: "text/event-stream", requestedModel: "claude-sonnet-4-5" });
      let [isStarted, isStopped] = [false, false];
      for (const [index, end] of stream.eventEnds.entries()) {
        const event = stream.bytes.subarray(stream.eventEnds[index - 1] ?? 0, end);
        meter.push(event);
        isStarted ||= new TextDecoder().decode(event).includes("message_start");
        isStopped ||= new TextDecoder().decode(event).includes("message_stop");
        const { usage, isFinal } = meter.reading();
        expect([stream.id, end, usage !== undefined]).toEqual([stream.id, end, isStarted]);
        if (usage === undefined) continue;
        const cost = rateUsage(usage, (model) => book.find("anthropic", model, Date.UTC(2026, 7, 21)));
        expect([stream.id, end, inputOf(usage) >= inputOf(started)]).toEqual([stream.id, end, true]);
        expect([stream.id, end, cost.outcome === "rated" && cost.costNanoUsd > 0n]).toEqual([
          stream.id,
          end,
          inputOf(started) > 0,
        ]);
        expect([stream.id, end, isFinal && !isStopped]).toEqual([stream.id, end, false]);
        counts.cuts += 1;
      }
    }
  });
});

interface SseVector {
  test: string;
  chunks: (string | { reset: unknown })[];
  events: { type: string; event?: string; data?: string }[];
}

describe.skipIf(dataFolder === undefined)(
  `event-stream vectors of others${dataFolder === undefined ? ` (${NO_DATA})` : ""}`,
  () => {
    const vectors = dataFolder === undefined ? [] : readJsonLines<SseVector>(dataPath("suite-sse", "vectors.jsonl"));
    // Resetting a parser and its own size limit are features of that parser.
    const usable = vectors.filter(
      ({ test: name, chunks }) => chunks.every((chunk) => typeof chunk === "string") && !name.startsWith("maxBufferSize"),
    );

    test.each(usable.map((vector) => [vector.test, vector] as const))("are read alike: %s", (_, { chunks, events }) => {
      const read: { event: string | undefined; data: string }[] = [];
      const reader = new SseReader({
        skipEvents: [],
        skipLines: [],
        wants: () => true,
        dataBytesMax: 1_000_000,
        onEvent: ({ name, data }) => read.push({ event: name, data: new TextDecoder("utf-8", { ignoreBOM: true }).decode(data) }),
      });
      // Two vectors write the byte order mark as one character per byte.
      for (const chunk of chunks)
        reader.push(new TextEncoder().encode((chunk as string).replaceAll("\u00EF\u00BB\u00BF", "\uFEFF")));
      expect(read).toEqual(events.filter(({ type }) => type === "event").map(({ event, data }) => ({ event, data })));
      counts.vectors += 1;
    });
  },
);

afterAll(() => {
  if (dataFolder === undefined || counts.cuts === 0) return;
  const { streams, unfinished, splits, cuts, vectors } = counts;
  reportFigure(
    "Streams",
    "reading",
    `${streams} streams (${unfinished} of them without an end), ${splits} random splits (seed ${seed}) and every byte by itself: ` +
      `usage identical; ${cuts} cuts after an event: input side kept, never $0; ${vectors} event-stream vectors read alike`,
  );
});
