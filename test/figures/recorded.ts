/** Owns reading the recorded exchanges; their bodies are data, whatever they say. */
import { readFileSync } from "node:fs";
import { openMeter } from "../../src/providers/anthropic/meter.ts";
import type { MeterReading } from "../../src/providers/provider.ts";
import { dataPath, readJsonLines } from "./figures.ts";

export interface RecordedExchange {
  id: string;
  request: { body: string };
  response: { status: number; headers: Record<string, string>; body: string };
}

/** All recorded Anthropic exchanges that report usage. */
export function readAnthropicExchanges(): { exchange: RecordedExchange; isStream: boolean }[] {
  const index = readJsonLines<{ file: string; provider: string; stream: boolean; usage: unknown }>(
    dataPath("http-pydantic-ai", "index.jsonl"),
  );
  const lines = index.filter(({ provider, usage }) => provider === "anthropic" && typeof usage === "object" && usage !== null);
  return lines.map(({ file, stream }) => ({
    exchange: JSON.parse(readFileSync(dataPath("http-pydantic-ai", file), "utf8")) as RecordedExchange,
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
