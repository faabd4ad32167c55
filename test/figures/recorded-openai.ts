/** Owns reading the recorded exchanges of OpenAI's protocols; their bodies are data, whatever they say. */
import { readFileSync } from "node:fs";
import { openaiChat, openaiEmbeddings, openaiResponses } from "../../src/providers/openai/openai.ts";
import type { MeterReading, Provider } from "../../src/providers/provider.ts";
import { dataPath, readJsonLines } from "./figures.ts";
import { toStream, type RecordedExchange, type RecordedStream } from "./recorded.ts";

export interface OpenAiExchange extends RecordedExchange {
  /** The protocol it speaks. */
  api: Provider;
  isStream: boolean;
  /** Absent: it only asked for what was made before. */
  model: string | undefined;
}

interface IndexLine {
  file: string;
  provider: string;
  path: string;
  stream: boolean;
  usage: unknown;
}

function apiOf(path: string): Provider {
  if (path.includes("/chat/completions")) return openaiChat;
  return path.includes("/embeddings") ? openaiEmbeddings : openaiResponses;
}

/** All recorded exchanges that report usage, of these providers. */
export function readOpenAiExchanges(providers: readonly string[] = ["openai", "azure"]): OpenAiExchange[] {
  const index = readJsonLines<IndexLine>(dataPath("http-pydantic-ai", "index.jsonl"));
  const lines = index.filter(
    ({ provider, usage }) => providers.includes(provider) && typeof usage === "object" && usage !== null,
  );
  return lines.map(({ file, path, stream }) => {
    const exchange = JSON.parse(readFileSync(dataPath("http-pydantic-ai", file), "utf8")) as RecordedExchange;
    const { body } = exchange.request as { body: string | null };
    const { model } = (body === null || body === "" ? {} : JSON.parse(body)) as { model?: string };
    return { ...exchange, api: apiOf(path), isStream: stream, model };
  });
}

/** What the meter reads of a recorded answer. */
export function meterOpenAi({ api, response, model }: OpenAiExchange): MeterReading {
  const meter = api.openMeter({ contentType: response.headers["content-type"] ?? "", requestedModel: model ?? "unknown" });
  meter.push(new TextEncoder().encode(response.body));
  meter.end();
  return meter.reading();
}

export interface OpenAiStream extends RecordedStream {
  api: Provider;
}

const PACKAGES = new Set(["openai", "azure", "open-responses", "openai-compatible"]);
/** Other protocols than the two that are metered. */
const OTHERS = /\/(completion|speech-translation)\//;

/** All recorded streams: those of pydantic-ai as they came, those of the AI SDK's fixtures written as events again. */
export function readOpenAiStreams(): OpenAiStream[] {
  const whole = readOpenAiExchanges(["openai", "azure", "openrouter"]).filter(({ isStream }) => isStream);
  const fixtures = readJsonLines<{ file: string; package: string; stream: boolean }>(dataPath("http-vercel-ai", "index.jsonl"));
  const lines = fixtures.filter((fixture) => PACKAGES.has(fixture.package) && fixture.stream && !OTHERS.test(fixture.file));
  return [
    ...whole.map(({ id, api, response }) => ({ ...toStream(id, response.body), api })),
    ...lines.flatMap(({ file }) => readFixture(file)),
  ];
}

/** Some fixtures hold the streams of several calls one behind the other: each begins after the end of the one before. */
function readFixture(file: string): OpenAiStream[] {
  const payloads = readFileSync(dataPath("http-vercel-ai", file), "utf8")
    .split("\n")
    .filter((line) => line.trim() !== "");
  const isChat = payloads.some((payload) => payload.includes("chat.completion.chunk"));
  const streams: string[][] = [[]];
  for (const payload of payloads) {
    // One of them holds text that is no JSON.
    const type = /^\{"type":"([a-z_.]+)"/.exec(payload)?.[1];
    if (type === "response.created" && streams.at(-1)?.length !== 0) streams.push([]);
    streams.at(-1)?.push(type === undefined ? `data: ${payload}\n\n` : `event: ${type}\ndata: ${payload}\n\n`);
  }
  const name = file.split("/").slice(-4).join("/");
  return streams.map((events, index) => ({
    // The fixtures leave out the last line of a chat.
    ...toStream(`${name} #${index + 1}`, events.join("") + (isChat ? "data: [DONE]\n\n" : "")),
    api: isChat ? openaiChat : openaiResponses,
  }));
}
