/**
 * The Differential figure over OpenAI's protocols. Goal: through the gateway the official SDK gives its caller what it gives without it: the
 * same parsed result, headers, error, number of requests and stream events. Method: every recorded exchange is answered again by a server of
 * our own, asked for both ways by the same SDK; each third one fails first in a way that the SDK tries again.
 */
import { readFileSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import OpenAI, { APIError } from "openai";
import { Stream } from "openai/core/streaming";
import { describe, expect, onTestFinished, test } from "vitest";
import { routeOf } from "../../src/exchange/routes.ts";
import { createMemoryLedger } from "../../src/ledger/memory/memory-ledger.ts";
import { startBench } from "../e2e/harness.ts";
import { dataFolder, dataPath, NO_DATA, readJsonLines, reportFigure } from "./figures.ts";

/** Belong to a connection, or are ours. */
const NOT_COMPARED = /^(connection|keep-alive|transfer-encoding|x-purser-.*)$/;
/** Every provider says it. */
const DATE = { date: "Sun, 22 Nov 2026 10:00:00 GMT", "x-own": "kept" };
const IN_FLIGHT = 8;
/** No money limit: some recorded models have retired from the price book. */
const YAML = "limits: [{ name: roomy, per: all, requests: 1_000_000, every: day }]\n";

interface Exchange {
  id: string;
  path: string;
  isStream: boolean;
  request: { method: string; uri: string; body: string | null };
  response: { status: number; headers: Record<string, string>; body: string };
}

/** What an SDK's caller sees of one call, and what the provider saw. */
interface Seen {
  result?: unknown;
  events?: unknown[];
  error?: unknown;
  requestId?: unknown;
  status?: number | undefined;
  headers?: [string, string][];
  requests: string[];
}

function readExchanges(): Exchange[] {
  const lines = readJsonLines<{ file: string; provider: string; stream: boolean }>(dataPath("http-pydantic-ai", "index.jsonl"));
  return lines
    .filter(({ provider }) => provider === "openai")
    .map(({ file, stream }) => {
      const exchange = JSON.parse(readFileSync(dataPath("http-pydantic-ai", file), "utf8")) as Exchange;
      const { pathname, search } = new URL(exchange.request.uri);
      return { ...exchange, path: pathname + search, isStream: stream };
    });
}

/** Answers as was recorded. Each third call fails once before. */
async function startAnswering(exchanges: readonly Exchange[]): Promise<{ url: string; requests: string[][] }> {
  const requests = exchanges.map((): string[] => []);
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    let body = "";
    for await (const chunk of request.setEncoding("utf8")) body += String(chunk);
    const index = Number(request.headers["x-exchange"]);
    const recorded = exchanges[index]?.response ?? { status: 500, headers: {}, body: "" };
    requests[index]?.push(`${request.method} ${request.url} ${body}`);
    if (index % 3 === 0 && requests[index]?.length === 1) {
      response.writeHead(503, { "content-type": "application/json", "retry-after-ms": "1", ...DATE });
      response.end(JSON.stringify({ error: { type: "server_error", code: "overloaded", message: "Overloaded", param: null } }));
      return;
    }
    const told = Object.entries(recorded.headers).filter(([name]) => name !== "transfer-encoding");
    response.writeHead(recorded.status, { ...Object.fromEntries(told), "x-request-id": `req_${index}`, ...DATE });
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

async function ask(client: OpenAI, { request, path, isStream }: Exchange, index: number): Promise<Omit<Seen, "requests">> {
  const { method, body } = request;
  const sent = body === null || body === "" ? {} : { body: asJson(body) };
  const options = { headers: { "x-exchange": String(index) }, ...sent, stream: isStream };
  const place = path.replace(/^\/v1/, "");
  try {
    const asked =
      method === "DELETE"
        ? client.delete<object>(place, options)
        : method === "GET"
          ? client.get<object>(place, options)
          : client.post<object>(place, options);
    const { data, response, request_id: requestId } = await asked.withResponse();
    const headers = [...response.headers].filter(([name]) => !NOT_COMPARED.test(name));
    const shown = { requestId, status: response.status, headers };
    if (!(data instanceof Stream)) return { result: data, ...shown };
    const events: unknown[] = [];
    for await (const event of data) events.push(event);
    return { events, ...shown };
  } catch (error) {
    if (!(error instanceof APIError)) throw error;
    const { status, headers, message, requestID, type, code, param } = error as APIError<number | undefined, Headers | undefined>;
    const told = [...(headers ?? [])].filter(([name]) => !NOT_COMPARED.test(name));
    return {
      error: [error.constructor.name, message, error.error, type, code, param],
      requestId: requestID,
      status,
      headers: told,
    };
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

async function askAll(exchanges: readonly Exchange[], through: (upstream: string) => Promise<string>): Promise<Seen[]> {
  const server = await startAnswering(exchanges);
  const client = new OpenAI({ apiKey: "sk-test", baseURL: `${await through(server.url)}/v1` });
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
  `recorded exchanges with OpenAI's SDK${dataFolder === undefined ? ` (${NO_DATA})` : ""}`,
  () => {
    test("are the same directly and through the gateway", async () => {
      const exchanges = readExchanges();
      const isPassed = exchanges.map(({ path, request }) => {
        const { kind } = routeOf(request.method, path, ["authorization", "Bearer k"]);
        return kind === "metered" || kind === "free";
      });

      const direct = await askAll(exchanges, (url) => Promise.resolve(url));
      const gateway = await askAll(exchanges, async (upstream) => {
        const own = { ledger: createMemoryLedger() };
        return (await startBench({ yaml: YAML, env: { PURSER_OPENAI_URL: upstream }, gateway: own })).url;
      });

      for (const [index, { id }] of exchanges.entries()) {
        const expected = isPassed[index] === true ? direct[index] : { status: 404, requests: [] };
        expect({ id, ...gateway[index] }).toMatchObject({ id, ...expected });
        expect(gateway[index]?.events?.length).toBe(isPassed[index] === true ? direct[index]?.events?.length : undefined);
      }
      const passed = exchanges.filter((_, index) => isPassed[index] === true);
      const streams = passed.filter(({ isStream }) => isStream).length;
      const retried = direct.filter(({ requests }, index) => isPassed[index] === true && requests.length > 1).length;
      const events = direct.reduce((sum, seen) => sum + (seen.events?.length ?? 0), 0);
      reportFigure(
        "Differential",
        "OpenAI through the gateway",
        `${passed.length} of ${exchanges.length} recorded exchanges (${streams} streams, ${events} events; ${retried} tried again by the SDK) the ` +
          `same; ${exchanges.length - passed.length} at paths that are refused as not_metered`,
      );
    }, 240_000);
  },
);
