/**
 * The Differential figure. Goal: with `purser.fetch` and through the gateway the official SDK gives its caller what it gives without either:
 * the same parsed result, headers, error, number of requests and stream events. Method: every recorded exchange is answered again by a
 * server of our own, asked for in the three ways by the same SDK; each third one fails first in a way that the SDK tries again.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import Anthropic, { APIError } from "@anthropic-ai/sdk";
import { Stream } from "@anthropic-ai/sdk/core/streaming";
import { describe, expect, onTestFinished, test } from "vitest";
import { createPurser } from "../../src/client/entry.ts";
import { createMemoryLedger } from "../../src/ledger/memory/memory-ledger.ts";
import { startBench } from "../e2e/harness.ts";
import { dataFolder, dataPath, NO_DATA, readJsonLines, reportFigure } from "./figures.ts";
import { readRecorded, type RecordedExchange } from "./recorded.ts";

/** Paths that are refused by both faces, since nothing says what they cost: the one difference there may be. */
const REFUSED = /^\/v1\/files/;
/** Belong to a connection, or are ours. */
const NOT_COMPARED = /^(connection|keep-alive|transfer-encoding|x-purser-.*)$/;
/** Every provider says it. */
const DATE = { date: "Sun, 22 Nov 2026 10:00:00 GMT", "x-own": "kept" };
const IN_FLIGHT = 16;
/** No money limit: some recorded models have retired from the price book. */
const ROOMY = { name: "roomy", per: "all", requests: 1_000_000, every: "day" };

interface Exchange {
  exchange: RecordedExchange;
  path: string;
  isStream: boolean;
}

/** What an SDK's caller sees of one call, and what the provider saw. */
interface Seen {
  result?: unknown;
  events?: unknown[];
  error?: unknown;
  requestId?: unknown;
  status?: number;
  headers?: [string, string][];
  requests: string[];
}

function readExchanges(): Exchange[] {
  const lines = readJsonLines<{ file: string; provider: string; stream: boolean }>(dataPath("http-pydantic-ai", "index.jsonl"));
  return lines
    .filter(({ provider }) => provider === "anthropic")
    .map(({ file, stream }) => {
      const exchange = readRecorded(file);
      const { pathname, search } = new URL(exchange.request.uri);
      return { exchange, path: pathname + search, isStream: stream };
    });
}

/** Answers as was recorded. Each third call fails once before. */
async function startAnswering(exchanges: readonly Exchange[]) {
  const requests = exchanges.map((): string[] => []);
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const body = await readText(request);
    const index = Number(request.headers["x-exchange"]);
    const recorded = exchanges[index]?.exchange.response ?? { status: 500, headers: {}, body: "" };
    requests[index]?.push(`${request.method} ${request.url} ${body}`);
    if (index % 3 === 0 && requests[index]?.length === 1) {
      response.writeHead(529, { "content-type": "application/json", "retry-after-ms": "1", "x-should-retry": "true", ...DATE });
      response.end(JSON.stringify({ type: "error", error: { type: "overloaded_error", message: "Overloaded" } }));
      return;
    }
    const told = Object.entries(recorded.headers).filter(([name]) => name !== "transfer-encoding");
    response.writeHead(recorded.status, { ...Object.fromEntries(told), "request-id": `req_${index}`, ...DATE });
    response.end(recorded.body);
  };
  const server = createServer((request, response) => void answer(request, response));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    server.close();
    server.closeAllConnections();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, requests };
}

async function readText(request: IncomingMessage): Promise<string> {
  let text = "";
  for await (const chunk of request.setEncoding("utf8")) text += String(chunk);
  return text;
}

async function ask(client: Anthropic, { exchange, path, isStream }: Exchange, index: number): Promise<Omit<Seen, "requests">> {
  const { method, body } = exchange.request;
  const options = { headers: { "x-exchange": String(index) }, ...(body === "" ? {} : { body: asJson(body) }), stream: isStream };
  try {
    const asked = method === "DELETE" ? client.delete<object>(path, options) : client.post<object>(path, options);
    const { data, response, request_id: requestId } = await asked.withResponse();
    const headers = [...response.headers].filter(([name]) => !NOT_COMPARED.test(name));
    const shown = { requestId, status: response.status, headers };
    if (!(data instanceof Stream)) return { result: data, ...shown };
    const events: unknown[] = [];
    for await (const event of data) events.push(event);
    return { events, ...shown };
  } catch (error) {
    if (!(error instanceof APIError)) throw error;
    const { status, headers = new Headers(), message, requestID, type } = error;
    const told = [...headers].filter(([name]) => !NOT_COMPARED.test(name));
    return { error: [error.constructor.name, message, error.error, type], requestId: requestID, status, headers: told };
  }
}

function asJson(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch {
    // An upload's body is no JSON; what it holds is nothing to this.
    return { upload: body.length };
  }
}

async function askAll(
  exchanges: readonly Exchange[],
  way: (url: string) => Promise<Omit<ConstructorParameters<typeof Anthropic>[0] & object, "apiKey">>,
): Promise<Seen[]> {
  const server = await startAnswering(exchanges);
  const client = new Anthropic({ apiKey: "sk-test", ...(await way(server.url)) });
  const seen: Seen[] = [];
  let next = 0;
  const work = async (): Promise<void> => {
    for (let index = next++; index < exchanges.length; index = next++) {
      const each = await ask(client, exchanges[index] as Exchange, index);
      seen[index] = { ...each, requests: server.requests[index] ?? [] };
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, work));
  return seen;
}

describe.skipIf(dataFolder === undefined)(
  `recorded exchanges with Anthropic's SDK${dataFolder === undefined ? ` (${NO_DATA})` : ""}`,
  () => {
    test("are the same directly, with purser.fetch and through the gateway", async () => {
      const exchanges = readExchanges();
      const isRefused = exchanges.map(({ path }) => REFUSED.test(path));

      const direct = await askAll(exchanges, (baseURL) => Promise.resolve({ baseURL }));
      const client = await askAll(exchanges, async (baseURL) => {
        const config = { limits: [ROOMY], upstreams: { anthropic: baseURL } };
        const purser = await createPurser({ config, ledger: createMemoryLedger() });
        onTestFinished(() => purser.close());
        // Some were recorded with answers that cost more than their requests allow: told, and nothing to this.
        purser.on("warning", () => undefined);
        return { baseURL, fetch: purser.fetch };
      });
      const gateway = await askAll(exchanges, async (upstream) => {
        const yaml = `limits: [${JSON.stringify(ROOMY)}]`;
        const bench = await startBench({
          yaml,
          env: { PURSER_ANTHROPIC_URL: upstream },
          gateway: { ledger: createMemoryLedger() },
        });
        return { baseURL: bench.url };
      });

      const different = { client: [] as string[], gateway: [] as string[] };
      exchanges.forEach(({ exchange }, index) => {
        if (isRefused[index] === true) return;
        for (const [name, seen] of Object.entries({ client, gateway })) {
          if (JSON.stringify(seen[index]) === JSON.stringify(direct[index])) continue;
          different[name as keyof typeof different].push(exchange.id);
          expect({ id: exchange.id, ...seen[index] }).toEqual({ id: exchange.id, ...direct[index] });
        }
      });
      expect(different).toEqual({ client: [], gateway: [] });
      for (const [index, refused] of isRefused.entries()) {
        for (const seen of refused ? [client[index], gateway[index]] : []) {
          expect(seen).toMatchObject({
            status: 404,
            error: ["NotFoundError", expect.stringContaining("not_metered"), {}, "not_found_error"],
            requests: [],
          });
        }
      }
      const compared = isRefused.filter((refused) => !refused).length;
      const streams = exchanges.filter(({ isStream }) => isStream).length;
      const retried = direct.filter(({ requests }, index) => isRefused[index] === false && requests.length > 1).length;
      const events = direct.reduce((sum, seen) => sum + (seen.events?.length ?? 0), 0);
      reportFigure(
        "Differential",
        "Anthropic",
        `${compared} of ${exchanges.length} recorded exchanges (${streams} streams, ${events} events; ${retried} tried again by the SDK) the same ` +
          `with purser.fetch and through the gateway: different ${different.client.length} and ${different.gateway.length}; ` +
          `${exchanges.length - compared} at /v1/files, which both refuse as not_metered`,
      );
    }, 120_000);
  },
);
