/**
 * The Streams figure, its forwarding part. Goal: what the provider wrote is what the client reads, to the byte, and what the ledger
 * holds is what the provider reported, or more where it could report no more. Method: every recorded stream is said again on raw
 * sockets through the real gateway and its SQLite ledger, split at random bytes 20 ways and cut after every event.
 */
import { Agent, request as httpRequest, type IncomingMessage } from "node:http";
import { describe, expect, onTestFinished, test } from "vitest";
import { buildPriceBook } from "../../src/core/pricing/price-book.ts";
import { rateUsage } from "../../src/core/pricing/rate.ts";
import { sumTokens, totalInputTokens, type Usage } from "../../src/core/usage/usage.ts";
import { OUTPUT_TOKENS_PER_SECOND_MAX } from "../../src/engine/settlement.ts";
import type { CallRecord } from "../../src/ledger/ledger.ts";
import { anthropic } from "../../src/providers/anthropic/anthropic.ts";
import type { MeterReading, RequestFacts } from "../../src/providers/provider.ts";
import { startBench, type Bench } from "../e2e/harness.ts";
import { dataFolder, NO_DATA, reportFigure } from "./figures.ts";
import { readAnthropicExchanges, readAnthropicStreams, type RecordedStream } from "./recorded.ts";
import { startReplay, type ReplayAnswer } from "./replay.ts";
import { readShippedRows } from "./shipped-prices.ts";

const WAYS = 20;
const IN_FLIGHT = 48;
/** No money limit: some recorded models have retired from the price book, and such calls have to be let through to be looked at. */
const YAML = "limits: [{ name: roomy, per: all, requests: 1_000_000, every: day }]\n";
const INPUT_PARTS = ["uncachedInputTokens", "cacheReadTokens", "cacheWrite5mTokens", "cacheWrite1hTokens"] as const;
const seed = Number(process.env["PURSER_SEED"] ?? Math.floor(Math.random() * 2 ** 32));
const book = buildPriceBook(readShippedRows());

interface Case {
  stream: RecordedStream;
  body: Buffer;
  facts: RequestFacts;
  /** How many events come before the connection dies; `undefined`: all, and a proper end. */
  cutAfter: number | undefined;
  /** Whether the answer goes so far that the provider says why it stopped, and with it what the answer came to. */
  isAllSaid: boolean;
  answer: ReplayAnswer;
}

/** What the client saw of one call. */
interface Seen {
  bytes: Buffer;
  isBroken: boolean;
  callId: string;
  tookMs: number;
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

/** Cuts at between 1 and 60 random bytes. */
function splitAtRandom(bytes: Uint8Array, random: () => number): Uint8Array[] {
  const places = Array.from({ length: 1 + Math.floor(random() * 60) }, () => Math.floor(random() * (bytes.length + 1)));
  const sorted = [0, ...places.toSorted((left, right) => left - right), bytes.length];
  return sorted.slice(1).map((end, index) => bytes.subarray(sorted[index], end));
}

/** The request as it was recorded; for a fixture that holds answers only, a short one for the same model. */
function requestsById(): (stream: RecordedStream) => Buffer {
  const recorded = new Map(readAnthropicExchanges().map(({ exchange }) => [exchange.id, exchange.request.body]));
  return (stream) => {
    const model = read(stream.bytes, { model: "unknown", cacheWrites: "none" }).model ?? "unknown";
    const made = { model, max_tokens: 8_192, stream: true, messages: [{ role: "user", content: `Say ${stream.id} again.` }] };
    return Buffer.from(recorded.get(stream.id) ?? JSON.stringify(made));
  };
}

function read(bytes: Uint8Array, { model, cacheWrites }: Pick<RequestFacts, "model" | "cacheWrites">): MeterReading {
  const meter = anthropic.openMeter({ contentType: "text/event-stream", requestedModel: model, cacheWrites });
  meter.push(bytes);
  meter.end();
  return meter.reading();
}

/** Every stream in every way: split at random bytes with an end, and cut after each event without one. */
function buildCases(streams: readonly RecordedStream[]): Case[] {
  const random = randomFrom(seed);
  const requestOf = requestsById();
  const cases: Case[] = [];
  for (const stream of streams) {
    const body = requestOf(stream);
    const request = anthropic.readRequest(body);
    if (request.outcome === "refused") throw new Error(`${stream.id}: its request is refused: ${request.refusal.message}`);
    const { facts } = request;
    const allSaidAfter = eventsUntilAllSaid(stream);
    const add = (pieces: Uint8Array[], cutAfter: number | undefined): void => {
      // Some answers come in one segment, some a few bytes at a time: never more than 20 writes each.
      const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
      const segmentBytes = Math.ceil((length + 1_000) / (1 + Math.floor(random() ** 3 * 20)));
      const answer = { requestId: `req_${cases.length}`, pieces, isCut: cutAfter !== undefined, segmentBytes };
      const isAllSaid = (cutAfter ?? stream.eventEnds.length) >= allSaidAfter;
      cases.push({ stream, body, facts, cutAfter, isAllSaid, answer });
    };
    for (let way = 0; way < WAYS; way += 1) add(splitAtRandom(stream.bytes, random), undefined);
    stream.eventEnds.forEach((end, index) => add([stream.bytes.subarray(0, end)], index + 1));
  }
  return cases;
}

/** One call on a kept-alive connection, read to its end or to the connection's. */
function ask(bench: Bench, agent: Agent, { body }: Case, index: number): Promise<Seen> {
  const { hostname, port } = new URL(bench.url);
  const startedAtMs = performance.now();
  return new Promise((resolve, reject) => {
    const headers = {
      "content-type": "application/json",
      "x-api-key": "k",
      "anthropic-version": "2023-06-01",
      "x-replay": index,
    };
    const options = { hostname, port, agent, path: "/v1/messages", method: "POST", headers };
    const request = httpRequest(options, (response: IncomingMessage) => {
      const chunks: Buffer[] = [];
      const done = (isBroken: boolean): void =>
        resolve({
          bytes: Buffer.concat(chunks),
          isBroken,
          callId: String(response.headers["x-purser-call"]),
          tookMs: performance.now() - startedAtMs,
        });
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("end", () => done(false));
      response.on("error", () => done(true));
    });
    request.on("error", reject);
    request.end(body);
  });
}

const written = ({ answer }: Case): Buffer => Buffer.concat(answer.pieces);

interface StopEvent {
  message?: { stop_reason: string | null };
  delta?: { stop_reason?: string | null };
}

/** After how many events the provider has said why it stopped; a second message in the same stream starts anew. */
function eventsUntilAllSaid({ bytes, eventEnds }: RecordedStream): number {
  const isSaid = eventEnds.map((end, index) => {
    const data = /^data: (.+)$/m.exec(new TextDecoder().decode(bytes.subarray(eventEnds[index - 1] ?? 0, end)))?.[1] ?? "{}";
    const { message, delta } = JSON.parse(data) as StopEvent;
    return typeof (message ?? delta)?.stop_reason === "string";
  });
  return isSaid.includes(true) ? isSaid.lastIndexOf(true) + 1 : Infinity;
}

function isUnfinished({ flags }: Usage): boolean {
  return flags.includes("malformed_usage");
}

/** What is wrong with how a call was settled; nothing for a call settled as design §10 says. */
function faultsOf(each: Case, call: CallRecord, seen: Seen): string[] {
  const { facts, answer } = each;
  const { usage } = read(written(each), facts);
  const { result, costNanoUsd } = call;
  if (call.status !== "settled" || result === undefined) return [`is ${call.status}`];
  // Nothing was said, or it ends without a report of what was generated: settled at the bound of its input and what time allows.
  if (usage === undefined || isUnfinished(usage)) {
    const isSafe = result.flags.includes("unknown") && result.isEstimated && costNanoUsd !== 0n;
    return isSafe ? [] : [`ends without a report, and is settled at ${costNanoUsd} (${result.flags.join()})`];
  }
  const reported = sumTokens(usage);
  const rated = rateUsage(usage, (model) => book.find("anthropic", model, call.startedAtMs));
  // A count that nobody prices leaves the whole call unpriced, whatever else could be priced.
  const isPriced = rated.outcome === "rated" && !rated.flags.includes("unknown_meter");
  const faults: string[] = [];
  const check = (isRight: boolean, what: string): void => void (isRight || faults.push(what));

  check(result.providerRequestId === answer.requestId, "has another call's request id");
  check(result.flags.includes("unpriced") === !isPriced, "is not flagged unpriced where it is");
  check(isPriced === (costNanoUsd !== undefined), `costs ${costNanoUsd} where its price is ${rated.outcome}`);
  check(!isPriced || costNanoUsd !== 0n || totalInputTokens(reported) + reported.outputTokens === 0, "costs $0");
  if (each.isAllSaid) {
    check(JSON.stringify(result.tokens) === JSON.stringify(reported), "differs from what was reported");
    check(!isPriced || costNanoUsd === rated.costNanoUsd, `costs ${costNanoUsd}, not the price of what was reported`);
    check(!result.flags.includes("estimated"), "is flagged estimated though all was reported");
    check(result.isEstimated === (rated.flags.length > 0 || !isPriced), "is exact or estimated for no reason");
    return faults;
  }
  const { outputTokens } = result.tokens;
  const most = Math.ceil((seen.tookMs / 1_000 + 1.1) * OUTPUT_TOKENS_PER_SECOND_MAX);
  const bounded = (tokens: number): number => Math.min(facts.maxTokens ?? Infinity, tokens);
  // A tool loop of the provider's own reads its input again with every step, so the first report is only the least of it.
  const isOpenEnded = facts.serverTools.length + facts.unboundedParts.length > 0;
  for (const part of INPUT_PARTS) {
    const isRight = isOpenEnded ? result.tokens[part] >= reported[part] : result.tokens[part] === reported[part];
    check(isRight, `has ${result.tokens[part]} ${part} where ${reported[part]} were reported`);
  }
  check(outputTokens >= Math.max(reported.outputTokens, bounded(OUTPUT_TOKENS_PER_SECOND_MAX)), `has ${outputTokens} output`);
  check(outputTokens <= Math.max(reported.outputTokens, bounded(most)), `has ${outputTokens} output after ${seen.tookMs} ms`);
  check(!isPriced || (costNanoUsd ?? 0n) >= rated.costNanoUsd, `costs ${costNanoUsd}, less than what was reported`);
  check(result.flags.includes("estimated") && result.isEstimated, "is not flagged estimated");
  return faults;
}

describe.skipIf(dataFolder === undefined)(`recorded streams (${dataFolder === undefined ? NO_DATA : `seed ${seed}`})`, () => {
  test(`pass unchanged and are settled as design §10 says, split ${WAYS} ways and cut after every event`, async () => {
    const streams = readAnthropicStreams();
    const cases = buildCases(streams);
    const replay = await startReplay(cases.map(({ answer }) => answer));
    onTestFinished(() => replay.close());
    const bench = await startBench({ yaml: YAML, env: { PURSER_ANTHROPIC_URL: replay.url } });
    const agent = new Agent({ keepAlive: true, maxSockets: IN_FLIGHT });
    onTestFinished(() => agent.destroy());
    const seen: Seen[] = [];
    let next = 0;
    const work = async (): Promise<void> => {
      for (;;) {
        const index = next;
        next += 1;
        const each = cases[index];
        if (each === undefined) return;
        seen[index] = await ask(bench, agent, each, index);
      }
    };

    await Promise.all(Array.from({ length: IN_FLIGHT }, work));
    const { engine, ledger } = bench.gateway;
    while (engine.runningCount + engine.unsettledCount > 0) await new Promise((done) => setImmediate(done));

    const calls = new Map((await bench.calls()).map((call) => [call.callId, call]));
    const faults: string[] = [];
    const priced = new Set<string>();
    const unfinished = new Set<string>();
    let bytes = 0;
    cases.forEach((each, index) => {
      const got = seen[index] as Seen;
      const place = `${each.stream.id} ${each.cutAfter === undefined ? "split" : `cut after event ${each.cutAfter}`}`;
      const call = calls.get(got.callId);
      const sent = written(each);
      bytes += got.bytes.length;
      if (!got.bytes.equals(sent)) faults.push(`${place}: ${got.bytes.length} bytes read of ${sent.length} written`);
      if (got.isBroken !== each.answer.isCut) faults.push(`${place}: ends ${got.isBroken ? "broken" : "cleanly"}`);
      if (call === undefined) faults.push(`${place}: is not in the ledger`);
      else faults.push(...faultsOf(each, call, got).map((fault) => `${place}: ${fault}`));
      if (call?.costNanoUsd !== undefined) priced.add(each.stream.id);
      if (each.cutAfter === undefined && call?.result?.flags.includes("unknown") === true) unfinished.add(each.stream.id);
    });
    expect(faults.slice(0, 20)).toEqual([]);
    expect([replay.requestCount, calls.size]).toEqual([cases.length, cases.length]);
    expect(await ledger.openCalls()).toEqual([]);

    const splits = streams.length * WAYS;
    reportFigure(
      "Streams",
      "forwarding",
      `${streams.length} streams (${priced.size} of them priced; ${unfinished.size} without an end, settled at their bound) through ` +
        `gateway and ledger: ${splits} random splits (seed ${seed}), ${cases.length - splits} cuts after an event, ${bytes} bytes, ` +
        `mismatches ${faults.length}`,
    );
  }, 300_000);
});
