/**
 * The Streams figure over OpenAI's protocols, its forwarding part. Goal: what the provider wrote is what the client reads, to the byte (less the
 * usage chunk, where the client did not ask for it), and what the ledger holds is what the provider reported, or a bound where it reported
 * nothing. Method: every recorded stream is said again on raw sockets through the real gateway and its SQLite ledger, split at random bytes,
 * and cut after random events.
 */
import { Agent, request as httpRequest } from "node:http";
import { describe, expect, onTestFinished, test } from "vitest";
import { buildPriceBook } from "../../src/core/pricing/price-book.ts";
import { rateUsage } from "../../src/core/pricing/rate.ts";
import { sumTokens } from "../../src/core/usage/usage.ts";
import type { CallRecord } from "../../src/ledger/ledger.ts";
import { openaiChat } from "../../src/providers/openai/openai.ts";
import type { MeterReading } from "../../src/providers/provider.ts";
import { startBench, type Bench } from "../e2e/harness.ts";
import { dataFolder, NO_DATA, reportFigure } from "./figures.ts";
import { readOpenAiStreams, type OpenAiStream } from "./recorded-openai.ts";
import { startReplay, type ReplayAnswer } from "./replay.ts";
import { readShippedRows } from "./shipped-prices.ts";

const SPLITS = 4;
const CUTS = 4;
const IN_FLIGHT = 32;
/** No money limit: most recorded models are not in the price book, and such calls have to be let through to be looked at. */
const YAML = "limits: [{ name: roomy, per: all, requests: 1_000_000, every: day }]\n";
const seed = Number(process.env["PURSER_SEED"] ?? Math.floor(Math.random() * 2 ** 32));
const book = buildPriceBook(readShippedRows());

interface Case {
  stream: OpenAiStream;
  body: string;
  isUsageAsked: boolean;
  answer: ReplayAnswer;
}

interface Seen {
  text: string;
  isBroken: boolean;
  callId: string;
}

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

function splitAtRandom(bytes: Uint8Array, random: () => number): Uint8Array[] {
  const places = Array.from({ length: 1 + Math.floor(random() * 40) }, () => Math.floor(random() * (bytes.length + 1)));
  const sorted = [0, ...places.toSorted((left, right) => left - right), bytes.length];
  return sorted.slice(1).map((end, index) => bytes.subarray(sorted[index], end));
}

function readWhole({ api }: OpenAiStream, bytes: Uint8Array): MeterReading {
  const meter = api.openMeter({ contentType: "text/event-stream", requestedModel: "unknown" });
  meter.push(bytes);
  meter.end();
  return meter.reading();
}

function buildCases(streams: readonly OpenAiStream[]): Case[] {
  const random = randomFrom(seed);
  const cases: Case[] = [];
  for (const stream of streams) {
    const model = readWhole(stream, stream.bytes).model ?? "unknown";
    const add = (bytes: Uint8Array, isCut: boolean): void => {
      const isUsageAsked = random() < 0.5;
      const options = isUsageAsked ? { stream_options: { include_usage: true } } : {};
      const said = `Say ${stream.id} again.`;
      const asked =
        stream.api === openaiChat
          ? { model, stream: true, max_completion_tokens: 8_192, messages: [{ role: "user", content: said }], ...options }
          : { model, stream: true, max_output_tokens: 8_192, input: said };
      const pieces = splitAtRandom(bytes, random);
      const segmentBytes = Math.ceil((bytes.length + 1_000) / (1 + Math.floor(random() * 10)));
      const answer = { requestId: `req_${cases.length}`, pieces, isCut, segmentBytes };
      cases.push({ stream, body: JSON.stringify(asked), isUsageAsked, answer });
    };
    for (let way = 0; way < SPLITS; way += 1) add(stream.bytes, false);
    for (let way = 0; way < CUTS; way += 1) {
      const events = 1 + Math.floor(random() * stream.eventEnds.length);
      add(stream.bytes.subarray(0, stream.eventEnds[events - 1]), true);
    }
  }
  return cases;
}

function ask(bench: Bench, agent: Agent, { stream, body }: Case, index: number): Promise<Seen> {
  const { hostname, port } = new URL(bench.url);
  const path = stream.api === openaiChat ? "/v1/chat/completions" : "/v1/responses";
  const headers = { "content-type": "application/json", authorization: "Bearer k", "x-replay": index };
  return new Promise((resolve, reject) => {
    const request = httpRequest({ hostname, port, agent, path, method: "POST", headers }, (response) => {
      const chunks: Buffer[] = [];
      const callId = String(response.headers["x-purser-call"]);
      const done = (isBroken: boolean): void => resolve({ text: Buffer.concat(chunks).toString("utf8"), isBroken, callId });
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("end", () => done(false));
      response.on("error", () => done(true));
    });
    request.on("error", reject);
    request.end(body);
  });
}

/** What the client is to read: everything, less the usage chunk that it did not ask for. */
function expectedText({ stream, isUsageAsked, answer }: Case): string {
  const text = Buffer.concat(answer.pieces).toString("utf8");
  if (isUsageAsked || stream.api !== openaiChat) return text;
  return text
    .split(/(?<=\n\n)/)
    .filter((event) => !/^data: \{.*"choices":\s?\[\].*"usage":\s?\{/.test(event) || event.includes("prompt_filter_results"))
    .join("");
}

/** What is wrong with how a call was settled. */
function faultsOf({ stream, answer }: Case, call: CallRecord | undefined): string[] {
  const reading = readWhole(stream, Buffer.concat(answer.pieces));
  const { result, costNanoUsd } = call ?? {};
  if (call?.status !== "settled" || result === undefined) return [`is ${call?.status}`];
  if (reading.error !== undefined && reading.usage === undefined) return costNanoUsd === 0n ? [] : ["an error costs something"];
  if (!reading.isFinal || reading.usage === undefined) {
    const isSafe = result.isEstimated && costNanoUsd !== 0n && result.tokens.outputTokens > 0;
    return isSafe ? [] : [`ends without a report, and is settled at ${costNanoUsd} (${result.flags.join()})`];
  }
  const rated = rateUsage(reading.usage, (model) => book.find("openai", model, call.startedAtMs));
  const isPriced = rated.outcome === "rated" && !rated.flags.includes("unknown_meter");
  const faults: string[] = [];
  if (JSON.stringify(result.tokens) !== JSON.stringify(sumTokens(reading.usage))) faults.push("differs from what was reported");
  // What has no price, or a fee that no usage says, is counted at what was reserved for it.
  if (costNanoUsd !== (isPriced ? rated.costNanoUsd : call.reservedNanoUsd)) faults.push(`costs ${costNanoUsd}`);
  return faults;
}

describe.skipIf(dataFolder === undefined)(
  `OpenAI's recorded streams, forwarded (${dataFolder === undefined ? NO_DATA : `seed ${seed}`})`,
  () => {
    test("reach the client to the byte and the ledger with what was reported", async () => {
      const cases = buildCases(readOpenAiStreams());
      const replay = await startReplay(cases.map(({ answer }) => answer));
      onTestFinished(() => replay.close());
      const bench = await startBench({ yaml: YAML, env: { PURSER_OPENAI_URL: replay.url } });
      const agent = new Agent({ keepAlive: true, maxSockets: IN_FLIGHT });
      onTestFinished(() => agent.destroy());

      const seen = await Promise.all(cases.map((each, index) => ask(bench, agent, each, index)));

      const calls = new Map((await bench.calls()).map((call) => [call.callId, call]));
      for (const [index, each] of cases.entries()) {
        const found = seen[index];
        const who = [index, each.stream.id, each.isUsageAsked];
        expect([...who, found?.isBroken, found?.text]).toEqual([...who, each.answer.isCut, expectedText(each)]);
        expect([...who, faultsOf(each, calls.get(found?.callId ?? ""))]).toEqual([...who, []]);
      }
      expect(replay.requestCount).toBe(cases.length);
      const cuts = cases.filter(({ answer }) => answer.isCut).length;
      reportFigure(
        "Streams",
        "OpenAI forwarded",
        `${cases.length} calls through the gateway (seed ${seed}; ${cuts} cut after an event): every byte but the usage chunks nobody asked for ` +
          `reached the client, every call settled by what was reported, or counted at a bound`,
      );
    }, 240_000);
  },
);
