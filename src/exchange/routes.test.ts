import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { routeOf, type Route } from "./routes.ts";

const ANTHROPIC = ["anthropic-version", "2023-06-01"];
const BEARER = ["authorization", "Bearer sk"];

describe("a path", () => {
  const metered = (path: string): Route => ({ kind: "metered", provider: "anthropic", api: "messages", path });
  const free = (path: string): Route => ({ kind: "free", provider: "anthropic", path });
  const rows: [string, string, string[], Route | Route["kind"]][] = [
    ["POST", "/v1/messages", [], metered("/v1/messages")],
    ["POST", "/v1/messages?beta=true&x=%20", [], metered("/v1/messages?beta=true&x=%20")],
    ["POST", "/anthropic/v1/messages", [], metered("/v1/messages")],
    ["GET", "/v1/messages", [], { kind: "wrong_method", path: "/v1/messages", allowed: "POST" }],
    ["POST", "/v1/messages/count_tokens", [], free("/v1/messages/count_tokens")],
    ["GET", "/v1/messages/count_tokens", [], "wrong_method"],
    ["GET", "/v1/models", ANTHROPIC, free("/v1/models")],
    ["GET", "/v1/models?limit=5", ANTHROPIC, free("/v1/models?limit=5")],
    ["GET", "/v1/models/claude-opus-5-5", ANTHROPIC, free("/v1/models/claude-opus-5-5")],
    ["POST", "/v1/models", ANTHROPIC, "wrong_method"],
    ["GET", "/v1/models", BEARER, "not_metered"],
    ["GET", "/v1/models", [], { kind: "ambiguous", path: "/v1/models" }],
    ["GET", "/v1/models", ["x-api-key", "k"], "ambiguous"],
    ["GET", "/anthropic/v1/models", [], free("/v1/models")],
    ["GET", "/openai/v1/models", ANTHROPIC, "not_metered"],
    ["POST", "/openai/v1/chat/completions", [], "not_metered"],
    ["POST", "/v1/messages/batches", [], { kind: "not_metered", path: "/v1/messages/batches" }],
    ["POST", "/v1/files", [], "not_metered"],
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

test("whatever is asked for, only the one path is metered, and what is passed on free costs nothing", () => {
  const part = fc.constantFrom(
    "v1",
    "messages",
    "models",
    "count_tokens",
    "anthropic",
    "openai",
    "..",
    ".",
    "",
    "%6d",
    "batches",
    "x",
  );
  const target = fc.array(part, { maxLength: 6 }).map((parts) => `/${parts.join("/")}`);
  const method = fc.constantFrom("GET", "POST", "PUT", "DELETE", "HEAD");
  fc.assert(
    fc.property(method, target, fc.constantFrom([], ANTHROPIC, BEARER), (asked, path, headers) => {
      const route = routeOf(asked, path, headers);

      const isMessages = asked === "POST" && ["/v1/messages", "/anthropic/v1/messages"].includes(path);
      expect(route.kind === "metered").toBe(isMessages);
      expect(route.kind === "free" ? route.path : "/v1/models").toMatch(/^\/v1\/(messages\/count_tokens|models(\/[^/]+)?)$/);
    }),
    { numRuns: 2_000 },
  );
});
