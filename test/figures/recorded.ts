/** Owns reading the recorded exchanges; their bodies are data, whatever they say. */
import { readFileSync } from "node:fs";
import { openMeter } from "../../src/providers/anthropic/meter.ts";
import type { MeterReading } from "../../src/providers/provider.ts";
import { dataPath, readJsonLines } from "./figures.ts";

export interface RecordedExchange {
  id: string;
  request: { method: string; uri: string; body: string };
  response: { status: number; headers: Record<string, string>; body: string };
}

/** One recorded exchange. @param file as the index names it. */
export function readRecorded(file: string): RecordedExchange {
  return JSON.parse(readFileSync(dataPath("http-pydantic-ai", file), "utf8")) as RecordedExchange;
}

/** All recorded Anthropic exchanges that report usage. */
export function readAnthropicExchanges(): { exchange: RecordedExchange; isStream: boolean }[] {
  const index = readJsonLines<{ file: string; provider: string; stream: boolean; usage: unknown }>(
    dataPath("http-pydantic-ai", "index.jsonl"),
  );
  const lines = index.filter(({ provider, usage }) => provider === "anthropic" && typeof usage === "object" && usage !== null);
  return lines.map(({ file, stream }) => ({
    exchange: readRecorded(file),
    isStream: stream,
  }));
}

/** What the meter reads of a recorded answer. */
export function meterExchange(exchange: RecordedExchange): MeterReading {
  const request = JSON.parse(exchange.request.body) as { model: string };
  const meter = openMeter({ contentType: exchange.response.headers["content-type"] ?? "", requestedModel: request.model });
  meter.push(new TextEncoder().encode(exchange.response.body));
  meter.end();
  return meter.reading();
}

/** One recorded event stream, as bytes. */
export interface RecordedStream {
  id: string;
  bytes: Uint8Array;
  /** Where its events end, in bytes, the last one being the end of the stream. */
  eventEnds: number[];
}

/** All recorded Anthropic streams: those of pydantic-ai as they came, those of the AI SDK's fixtures written as events again. */
export function readAnthropicStreams(): RecordedStream[] {
  const whole = readAnthropicExchanges().filter(({ isStream }) => isStream);
  const fixtures = readJsonLines<{ file: string; package: string; stream: boolean }>(dataPath("http-vercel-ai", "index.jsonl"));
  const lines = fixtures.filter((fixture) => fixture.package === "anthropic" && fixture.stream);
  return [
    ...whole.map(({ exchange }) => toStream(exchange.id, exchange.response.body)),
    ...lines.flatMap(({ file }) => readFixture(file)),
  ];
}

/** Some fixtures hold the streams of several calls one behind the other: each begins after the stop of the one before. */
function readFixture(file: string): RecordedStream[] {
  const payloads = readFileSync(dataPath("http-vercel-ai", file), "utf8").split("\n");
  const streams: string[][] = [[]];
  for (const payload of payloads.filter((line) => line.trim() !== "")) {
    const { type } = JSON.parse(payload) as { type: string };
    const isNext = type === "message_start" && streams.at(-1)?.some((event) => event.startsWith("event: message_stop"));
    if (isNext === true) streams.push([]);
    streams.at(-1)?.push(`event: ${type}\ndata: ${payload}\n\n`);
  }
  const name = file.split("/").at(-1) ?? file;
  return streams.map((events, index) => toStream(streams.length === 1 ? name : `${name} #${index + 1}`, events.join("")));
}

/** A text as events. */
export function toStream(id: string, text: string): RecordedStream {
  const bytes = new TextEncoder().encode(text);
  const eventEnds: number[] = [];
  let at = 0;
  for (const event of text.split(/(?<=\r?\n\r?\n)/)) {
    at += new TextEncoder().encode(event).length;
    eventEnds.push(at);
  }
  return { id, bytes, eventEnds };
}
