import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { ApiName } from "./apis.ts";
import { routeOf, type Route, type BatchAction } from "./routes.ts";

const ANTHROPIC = ["anthropic-version", "2023-06-01"];
const BEARER = ["authorization", "Bearer sk"];

describe("a path", () => {
  const metered = (path: string): Route => ({ kind: "metered", provider: "anthropic", api: "messages", path });
  const free = (path: string, method: "GET" | "POST" = "GET"): Route => ({ kind: "free", provider: "anthropic", method, path });
  const openai = (api: ApiName, path: string): Route => ({ kind: "metered", provider: "openai", api, path });
  const openaiFree = (method: "GET" | "POST" | "DELETE", path: string): Route => ({
    kind: "free",
    provider: "openai",
    method,
    path,
  });
  const batch = (action: BatchAction, batchId: string | undefined, method: "GET" | "POST" | "DELETE", path: string): Route => ({
    kind: "batch",
    provider: "anthropic",
    action,
    batchId,
    method,
    path,
  });
  const rows: [string, string, string[], Route | Route["kind"]][] = [
    ["POST", "/v1/messages", [], metered("/v1/messages")],
    ["POST", "/v1/messages?beta=true&x=%20", [], metered("/v1/messages?beta=true&x=%20")],
    ["POST", "/anthropic/v1/messages", [], metered("/v1/messages")],
    ["GET", "/v1/messages", [], { kind: "wrong_method", provider: "anthropic", path: "/v1/messages", allowed: "POST" }],
    ["POST", "/v1/messages/count_tokens", [], free("/v1/messages/count_tokens", "POST")],
    ["GET", "/v1/messages/count_tokens", [], "wrong_method"],
    ["GET", "/v1/models", ANTHROPIC, free("/v1/models")],
    ["GET", "/v1/models?limit=5", ANTHROPIC, free("/v1/models?limit=5")],
    ["GET", "/v1/models/claude-opus-5-5", ANTHROPIC, free("/v1/models/claude-opus-5-5")],
    ["POST", "/v1/models", ANTHROPIC, "wrong_method"],
    ["GET", "/v1/models", BEARER, openaiFree("GET", "/v1/models")],
    ["GET", "/v1/models/gpt-6.2-sol", BEARER, openaiFree("GET", "/v1/models/gpt-6.2-sol")],
    ["GET", "/v1/models", [...BEARER, ...ANTHROPIC], free("/v1/models")],
    ["GET", "/v1/models", [], { kind: "ambiguous", path: "/v1/models" }],
    ["GET", "/v1/models", ["x-api-key", "k"], "ambiguous"],
    ["GET", "/anthropic/v1/models", [], free("/v1/models")],
    ["GET", "/openai/v1/models", ANTHROPIC, openaiFree("GET", "/v1/models")],
    ["POST", "/v1/chat/completions", [], openai("chat", "/v1/chat/completions")],
    ["POST", "/v1/chat/completions?x=1", ANTHROPIC, openai("chat", "/v1/chat/completions?x=1")],
    ["POST", "/openai/v1/chat/completions", [], openai("chat", "/v1/chat/completions")],
    ["POST", "/openai/v1/responses", [], openai("responses", "/v1/responses")],
    ["POST", "/v1/embeddings", [], openai("embeddings", "/v1/embeddings")],
    ["GET", "/v1/embeddings", [], { kind: "wrong_method", provider: "openai", path: "/v1/embeddings", allowed: "POST" }],
    ["GET", "/v1/chat/completions?limit=2", [], openaiFree("GET", "/v1/chat/completions?limit=2")],
    ["GET", "/v1/chat/completions/chatcmpl-1/messages", [], openaiFree("GET", "/v1/chat/completions/chatcmpl-1/messages")],
    ["DELETE", "/v1/chat/completions/chatcmpl-1", [], openaiFree("DELETE", "/v1/chat/completions/chatcmpl-1")],
    ["GET", "/v1/responses/resp_1?stream=true", [], openaiFree("GET", "/v1/responses/resp_1?stream=true")],
    ["GET", "/v1/responses/resp_1/input_items", [], openaiFree("GET", "/v1/responses/resp_1/input_items")],
    ["DELETE", "/v1/responses/resp_1", [], openaiFree("DELETE", "/v1/responses/resp_1")],
    ["POST", "/v1/responses/resp_1/cancel", [], openaiFree("POST", "/v1/responses/resp_1/cancel")],
    ["POST", "/v1/responses/input_tokens", [], openaiFree("POST", "/v1/responses/input_tokens")],
    ["POST", "/v1/responses/resp_1", [], "wrong_method"],
    ["POST", "/v1/responses/compact", [], { kind: "not_metered", provider: "openai", path: "/v1/responses/compact" }],
    ["POST", "/v1/completions", [], { kind: "not_metered", provider: "openai", path: "/v1/completions" }],
    ["POST", "/v1/images/generations", BEARER, "not_metered"],
    ["POST", "/openai/v1/messages", [], "not_metered"],
    ["POST", "/anthropic/v1/chat/completions", [], "not_metered"],
    ["POST", "/v1/messages/batches?beta=true", [], batch("submit", undefined, "POST", "/v1/messages/batches?beta=true")],
    ["GET", "/anthropic/v1/messages/batches", [], batch("list", undefined, "GET", "/v1/messages/batches")],
    ["GET", "/v1/messages/batches/msgbatch_1", [], batch("read", "msgbatch_1", "GET", "/v1/messages/batches/msgbatch_1")],
    ["DELETE", "/v1/messages/batches/b_1", [], batch("delete", "b_1", "DELETE", "/v1/messages/batches/b_1")],
    ["POST", "/v1/messages/batches/b_1/cancel", [], batch("cancel", "b_1", "POST", "/v1/messages/batches/b_1/cancel")],
    ["GET", "/v1/messages/batches/b_1/results", [], batch("results", "b_1", "GET", "/v1/messages/batches/b_1/results")],
    ["POST", "/v1/messages/batches/b_1", [], "wrong_method"],
    ["GET", "/v1/messages/batches/b_1/other", [], "not_metered"],
    ["POST", "/openai/v1/messages/batches", [], "not_metered"],
    ["POST", "/v1/files", [], "ambiguous"],
    ["POST", "/v1/files", ANTHROPIC, { kind: "not_metered", provider: "anthropic", path: "/v1/files" }],
    ["POST", "/v1/files", BEARER, { kind: "not_metered", provider: "openai", path: "/v1/files" }],
    ["GET", "/v1/models", ["authorization", "Basic eA=="], "ambiguous"],
    ["POST", "/v1/complete", [], "not_metered"],
    ["GET", "/healthz", [], { kind: "health" }],
    ["GET", "/readyz?x=1", [], { kind: "ready" }],
    ["GET", "/", [], "unknown"],
    ["POST", "/v2/messages", [], "unknown"],
    ["POST", "/gemini/v1/messages", [], "unknown"],
    ["POST", "/anthropic/anthropic/v1/messages", [], "unknown"],
    ["POST", "/v1//messages", [], "unknown"],
    ["POST", "//v1/messages", [], "unknown"],
    ["POST", "/v1/./messages", [], "unknown"],
    ["POST", "/v1/models/../messages", [], "unknown"],
    ["POST", "/v1/%6dessages", [], "unknown"],
    ["POST", "/v1/messages%2fbatches", [], "unknown"],
    ["POST", "/v1\\messages", [], "unknown"],
    ["POST", "http://evil.example/v1/messages", [], "unknown"],
    ["POST", "/V1/MESSAGES", [], "unknown"],
    ["POST", "/v1/messages/", [], "not_metered"],
    ["POST", "/v1/messages#x", [], "unknown"],
  ];

  test.each(rows)("%s %s with %j", (method, target, headers, expected) => {
    expect(routeOf(method, target, headers)).toMatchObject(typeof expected === "string" ? { kind: expected } : expected);
  });
});

test("whatever is asked for, only four paths are metered, and what is passed on free costs nothing", () => {
  const part = fc.constantFrom(
    ..."v1 messages models count_tokens chat completions responses embeddings resp_1 cancel".split(" "),
    ..."input_items anthropic openai .. . %6d batches x".split(" "),
    "",
  );
  const target = fc.array(part, { maxLength: 6 }).map((parts) => `/${parts.join("/")}`);
  const method = fc.constantFrom("GET", "POST", "PUT", "DELETE", "HEAD");
  const metered = /^(\/anthropic)?\/v1\/messages$|^(\/openai)?\/v1\/(chat\/completions|responses|embeddings)$/;
  const free =
    /^\/v1\/(messages\/count_tokens|models(\/[^/]+)?|chat\/completions(\/[^/]+(\/messages)?)?|responses\/resp_1(\/(input_items|cancel))?)$/;
  fc.assert(
    fc.property(method, target, fc.constantFrom([], ANTHROPIC, BEARER), (asked, path, headers) => {
      const route = routeOf(asked, path, headers);

      expect(route.kind === "metered").toBe(asked === "POST" && metered.test(path));
      expect(route.kind === "free" ? route.path : "/v1/models").toMatch(free);
    }),
    { numRuns: 5_000 },
  );
});
