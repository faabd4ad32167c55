/**
 * Goal: no way around the gate. Class H of the failures in the field: once a limit is spent, no route, method, door for the credential,
 * spelling or label reaches the provider with anything that costs; what is free passes and costs nothing.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { routeOf } from "../../../src/exchange/routes.ts";
import { hashSecret } from "../../../src/exchange/system.ts";
import { createVirtualKeySecret } from "../../../src/gateway/virtual-key.ts";
import { startSharedBench, type Bench } from "../harness.ts";
import { ask, messageOf } from "../http.ts";

const METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"];
const PATHS = [
  "/v1/messages",
  "/v1/messages?beta=true",
  "/v1/messages/",
  "/v1/messages/count_tokens",
  "/v1/messages/batches",
  "/v1/messages/batches/b_1/results",
  "/v1/models",
  "/v1/models/claude-sonnet-5-5",
  "/v1/complete",
  "/v1/files",
  "/v1/skills",
  "/v1/agents",
  "/v1/environments",
  "/v1/sessions",
  "/v1/chat/completions",
  "/v1/chat/completions/chatcmpl-1",
  "/v1/responses",
  "/v1/responses/resp_1",
  "/v1/responses/resp_1/cancel",
  "/v1/responses/compact",
  "/v1/completions",
  "/v1/embeddings",
  "/v1/realtime",
  "/v1/whatever/comes/next",
];
/** What is stored there is read, listed, stopped and thrown away for nothing. */
const FREE_AT_OPENAI = [
  "DELETE /v1/chat/completions/chatcmpl-1",
  "DELETE /v1/responses/resp_1",
  "GET /v1/chat/completions",
  "GET /v1/chat/completions/chatcmpl-1",
  "GET /v1/models",
  "GET /v1/models/claude-sonnet-5-5",
  "GET /v1/responses/resp_1",
  "POST /v1/responses/resp_1/cancel",
];
const PREFIXES = ["", "/anthropic", "/openai"];

const DOORS: Record<string, (secret: string) => Record<string, string | undefined>> = {
  "x-api-key": (secret) => ({ "x-api-key": secret }),
  bearer: (secret) => ({ "x-api-key": undefined, authorization: `Bearer ${secret}` }),
  both: (secret) => ({ "x-api-key": secret, authorization: `Bearer ${secret}` }),
  none: () => ({ "x-api-key": undefined }),
};

let bench: Bench;
let closeBench: () => Promise<void>;
let virtualKey = "";

beforeAll(async () => {
  ({ bench, close: closeBench } = await startSharedBench({
    yaml: "limits: [{ name: spent, per: all, requests: 0, every: month }]\n",
    env: { ANTHROPIC_API_KEY: "sk-upstream", OPENAI_API_KEY: "sk-upstream" },
  }));
  const { keyId, secret } = createVirtualKeySecret();
  const times = { createdAtMs: 0, expiresAtMs: undefined, revokedAtMs: undefined };
  await bench.gateway.ledger.createKey({ keyId, secretHash: hashSecret(secret), project: "p", agent: "a", allow: [], ...times });
  virtualKey = secret;
});
afterAll(() => closeBench());

describe("with a limit that is spent", () => {
  it.each(Object.keys(DOORS))(
    "nothing that costs reaches the provider through any route, with the credential at %s",
    async (door) => {
      const before = bench.simulator.requests.length;
      const openaiBefore = bench.openai.requests.length;
      const answered: { path: string; status: number }[] = [];
      for (const secret of ["sk-own", virtualKey]) {
        const headers = DOORS[door]?.(secret) ?? {};
        const targets = PREFIXES.flatMap((prefix) =>
          PATHS.flatMap((path) => METHODS.map((method) => ({ method, path: prefix + path }))),
        );
        const answers = await Promise.all(
          targets.map(async ({ method, path }) => {
            const body = method === "GET" ? {} : { body: messageOf() };
            const { status } = await ask(bench.url, { method, path, headers, ...body });
            return { path, status };
          }),
        );
        answered.push(...answers);
      }

      const passed = bench.simulator.requests.slice(before).map(({ method, pathname }) => `${method} ${pathname}`);
      expect(new Set(passed)).toEqual(
        new Set([
          "POST /v1/messages/count_tokens",
          "GET /v1/models",
          "GET /v1/models/claude-sonnet-5-5",
          "GET /v1/messages/batches",
          "GET /v1/messages/batches/b_1/results",
        ]),
      );
      expect(bench.simulator.bill.totalNanoUsd).toBe(0n);
      const asked = bench.openai.requests.slice(openaiBefore).map(({ method, path }) => `${method} ${path}`);
      expect(new Set(asked)).toEqual(new Set(FREE_AT_OPENAI));
      expect(bench.openai.bill.lines).toEqual([]);
      const ok = answered.filter(({ status }) => status < 400).map(({ path }) => path.replace(/^\/(anthropic|openai)/, ""));
      const free = ["/v1/messages/count_tokens", "/v1/messages/batches"];
      expect(ok.every((path) => path.startsWith("/v1/models") || free.includes(path))).toBe(true);
    },
  );

  it.each([
    ["a stream", { stream: true }, {}],
    ["another model", { model: "claude-haiku-5-5" }, {}],
    ["fewer tokens than none", { max_tokens: 0 }, {}],
    ["other labels", {}, { "x-purser-project": "p", "x-purser-agent": "a", "x-purser-session": "s", "x-purser-user": "u" }],
    ["a parent", {}, { "x-purser-parent-session": "default" }],
    ["a fresh idempotency key", {}, { "x-purser-idempotency-key": "k" }],
    ["the claim to be a retry", {}, { "x-stainless-retry-count": "2" }],
    ["the claim of a decision made", {}, { "x-purser-decision": "allowed", "x-purser-call": "call_1" }],
    ["another method named in a header", {}, { "x-http-method-override": "GET" }],
    ["another host", {}, { host: "api.anthropic.com", "x-forwarded-host": "api.anthropic.com" }],
    ["another path named in a header", {}, { "x-original-url": "/v1/models", "x-rewrite-url": "/v1/models" }],
    ["an upgrade of the protocol", {}, { connection: "upgrade", upgrade: "h2c", "http2-settings": "AAMAAABkAAQAAP__" }],
  ])("%s gets no further", async (_name, body, headers) => {
    const before = bench.simulator.requests.length;

    const { status, error } = await ask(bench.url, { body: messageOf(body), headers });

    expect({ status, code: error?.details["code"] }).toEqual({ status: 402, code: "limit_too_small" });
    expect(bench.simulator.requests).toHaveLength(before);
  });
});

describe("the table of routes", () => {
  it("forwards what it lists and nothing else, whatever is asked", () => {
    const forwarded = new Set<string>();
    for (const prefix of PREFIXES) {
      for (const path of PATHS) {
        for (const method of [...METHODS, "HEAD", "OPTIONS", "CONNECT", "TRACE"]) {
          const route = routeOf(method, prefix + path, ["anthropic-version", "2023-06-01"]);
          if (route.kind === "batch") forwarded.add(`${route.provider} batch ${method} ${path}: ${route.action}`);
          if (route.kind === "metered" || route.kind === "free")
            forwarded.add(`${route.provider} ${route.kind} ${method} ${route.path.replace(/\?.*/, "")}`);
        }
      }
    }

    expect([...forwarded].toSorted()).toEqual([
      "anthropic batch GET /v1/messages/batches/b_1/results: results",
      "anthropic batch GET /v1/messages/batches: list",
      "anthropic batch POST /v1/messages/batches: submit",
      "anthropic free GET /v1/models",
      "anthropic free GET /v1/models/claude-sonnet-5-5",
      "anthropic free POST /v1/messages/count_tokens",
      "anthropic metered POST /v1/messages",
      ...FREE_AT_OPENAI.map((free) => `openai free ${free}`),
      "openai metered POST /v1/chat/completions",
      "openai metered POST /v1/embeddings",
      "openai metered POST /v1/responses",
    ]);
  });
});

describe("every answer of the provider", () => {
  it("has its call in the ledger, and every call forwarded its answer", async () => {
    const { bench: open, close } = await startSharedBench();
    const asked = [{ path: "/v1/messages" }, { path: "/anthropic/v1/messages" }, { path: "/v1/messages?beta=true" }];

    const answers = await Promise.all(asked.map((options) => ask(open.url, options)));

    const ids = (await open.calls()).map(({ callId }) => callId);
    expect(new Set(answers.map(({ headers }) => headers["x-purser-call"]))).toEqual(new Set(ids));
    expect(open.simulator.requests).toHaveLength(ids.length);
    await close();
  });
});
