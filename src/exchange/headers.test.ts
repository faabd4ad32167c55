import { describe, expect, test } from "vitest";
import {
  answerHeaders,
  credentialOf,
  deadlineOf,
  headerOf,
  idempotencyKeyOf,
  labelsOf,
  upstreamHeaders,
  variantOf,
} from "./headers.ts";

const KEY = "prs_abcdefgh_secret";
/** Names and values in turn, from lines as they stand in a request. */
const raw = (...lines: string[]): string[] =>
  lines.flatMap((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1).trim()]);
const namesOf = (headers: readonly string[]): string[] => headers.filter((_, index) => index % 2 === 0);

test("a header is found whatever its letters, the first one of several", () => {
  expect(headerOf(raw("A: 1", "X-Some: 2", "x-some: 3"), "x-some")).toBe("2");
  expect(headerOf(raw("x-some: a"), "a")).toBeUndefined();
});

describe("what goes upstream", () => {
  test("is everything the caller sent, in its order and letters, and the wish for an answer nobody compressed", () => {
    const headers = raw("X-Future: Kept", "anthropic-beta: a,b", "anthropic-beta: c", "content-type: application/json");

    expect(upstreamHeaders(headers, undefined)).toEqual([...headers, "accept-encoding", "identity"]);
  });

  test.each([
    "Connection",
    "Keep-Alive",
    "Proxy-Authorization",
    "Proxy-Authenticate",
    "Proxy-Connection",
    "TE",
    "Trailer",
    "Transfer-Encoding",
    "Upgrade",
    "Host",
    "Content-Length",
    "Content-Encoding",
    "Accept-Encoding",
    "Expect",
    "Cookie",
    "Forwarded",
    "X-Forwarded-For",
    "X-Forwarded-Proto",
    "X-Purser-Agent",
    "X-Purser-Deadline",
    "x-purser-anything",
  ])("is not %s", (name) => {
    expect(namesOf(upstreamHeaders([name, "x"], undefined))).toEqual(["accept-encoding"]);
  });

  test("is not what any of the connection headers lists", () => {
    const headers = raw("Connection: close, X-Mine", "X-Mine: 1", "CONNECTION: x-other", "X-Other: 2", "X-Kept: 3");

    expect(namesOf(upstreamHeaders(headers, undefined))).toEqual(["X-Kept", "accept-encoding"]);
  });

  test.each([
    ["x-api-key", KEY],
    ["Authorization", `Bearer ${KEY}`],
  ])("holds the gateway's own key in place of a virtual one at %s, and no trace of that", (name, value) => {
    const headers = upstreamHeaders(["X-Api-Key", "", name, value, "x-kept", "1"], ["x-api-key", "sk-real"]);

    expect(headerOf(headers, "x-api-key")).toBe("sk-real");
    expect(headers.join()).not.toContain("prs_");
    expect(namesOf(headers)).toEqual(["x-kept", "accept-encoding", "x-api-key"]);
  });

  test("holds no header in which only another provider's clients show their key", () => {
    expect(namesOf(upstreamHeaders(raw("Authorization: Bearer sk-own", "X-Api-Key: sk-ant"), undefined, "x-api-key"))).toEqual([
      "Authorization",
      "accept-encoding",
    ]);
  });

  test("holds a caller's own credential as it came", () => {
    const headers = raw("Authorization: Bearer sk-own", "x-api-key: sk-own");

    expect(upstreamHeaders(headers, undefined)).toEqual([...headers, "accept-encoding", "identity"]);
  });
});

test("what goes back is the provider's, less those of its connection and any that pretend to be ours", () => {
  const headers = raw(
    "request-id: req_1",
    "Retry-After: 3",
    "content-length: 9",
    "content-encoding: gzip",
    "set-cookie: a=1",
    "set-cookie: b=2",
    "connection: X-Hop",
    "x-hop: 1",
    "transfer-encoding: chunked",
    "keep-alive: timeout=5",
    "x-purser-cost-usd: 0",
  );

  expect(namesOf(answerHeaders(headers))).toEqual([
    "request-id",
    "Retry-After",
    "content-length",
    "content-encoding",
    "set-cookie",
    "set-cookie",
  ]);
});

describe("the credential", () => {
  test.each<[string, string[], ReturnType<typeof credentialOf>]>([
    ["none", ["x-api-key: ", "authorization: Bearer "], { outcome: "none" }],
    ["at the one door", ["X-Api-Key: sk-1"], { outcome: "one", value: "sk-1" }],
    ["at the other", ["authorization: bearer  sk-1 "], { outcome: "one", value: "sk-1" }],
    ["at both, the same", ["x-api-key: sk-1", "authorization: Bearer sk-1"], { outcome: "one", value: "sk-1" }],
    ["at both, another", ["x-api-key: sk-1", "authorization: Bearer sk-2"], { outcome: "two_different" }],
    ["twice at one door, another", ["x-api-key: sk-1", "x-api-key: sk-2"], { outcome: "two_different" }],
    ["of a kind nobody reads here", ["authorization: Basic c2stMQ=="], { outcome: "none" }],
    ["a virtual key elsewhere", [`x-goog-api-key: ${KEY}`], { outcome: "misplaced", where: "the header x-goog-api-key" }],
    ["a virtual key without Bearer", [`authorization: ${KEY}`], { outcome: "misplaced", where: "the header authorization" }],
    [
      "a virtual key in an address",
      [`authorization: Basic ${Buffer.from(`${KEY}:`).toString("base64")}`],
      { outcome: "misplaced", where: "the header authorization" },
    ],
  ])("%s", (_, lines, expected) => {
    expect(credentialOf(raw(...lines))).toEqual(expected);
  });
});

describe("labels", () => {
  const labels = (...lines: string[]) => {
    const read = labelsOf(raw(...lines));
    return read.outcome === "read" ? read.labels : read.problem;
  };

  test("are read without white space around them; empty ones were not said", () => {
    expect(
      labels("X-Purser-Project: p ", "x-purser-agent: a", "x-purser-user:", "x-purser-task: t", "x-purser-parent-session: up"),
    ).toEqual({ project: "p", agent: "a", task: "t", parentSessions: ["up"] });
  });

  test.each<[string, Record<string, string>]>([
    ["team=core", { team: "core" }],
    ["team=core, cost-center = 1=2 ,x.y_z=", { team: "core", "cost-center": "1=2", "x.y_z": "" }],
    ["", {}],
  ])("tags %j", (value, expected) => {
    expect({ ...(labels(`x-purser-tags: ${value}`) as { tags?: object }).tags }).toEqual(expected);
  });

  test.each<[string, string]>([
    ["team", 'x-purser-tags holds "team"'],
    ["=x", 'x-purser-tags holds "=x"'],
    ["te am=x", 'x-purser-tags holds "te am=x"'],
    ["__proto__=x", 'x-purser-tags holds "__proto__=x"'],
    ["a=1,a=2", "x-purser-tags names a twice"],
    [Array.from({ length: 21 }, (_, index) => `t${index}=x`).join(), "x-purser-tags holds 21 tags"],
    [`a=${"x".repeat(201)}`, "x-purser-tags: a has 201 characters"],
  ])("tags %j are refused", (value, problem) => {
    expect(labels(`x-purser-tags: ${value}`)).toContain(problem);
  });

  test.each([
    ["too long", `x-purser-agent: ${"a".repeat(201)}`, "x-purser-agent has 201 characters"],
    ["with a control character", "x-purser-session: a\u0007b", "x-purser-session holds a control character"],
  ])("%s are refused by name", (_, line, problem) => {
    expect(labels(line)).toContain(problem);
  });

  test("that stand twice must agree", () => {
    expect(labels("x-purser-agent: a", "X-Purser-Agent: b")).toContain("x-purser-agent stands twice");
    expect(labels("x-purser-agent: a", "X-Purser-Agent: a")).toEqual({ agent: "a" });
  });

  test("of Claude Code name its session, and a subagent as a child of it and of its parent", () => {
    const session = "x-claude-code-session-id: s";

    expect(labels(session)).toEqual({ session: "s" });
    expect(labels(session, "x-claude-code-agent-id: b", "x-claude-code-parent-agent-id: a")).toEqual({
      session: "s/b",
      parentSessions: ["s/a", "s"],
    });
    expect(labels(session, "x-claude-code-agent-id: b", "x-purser-session: mine")).toEqual({ session: "mine" });
  });
});

describe("the deadline", () => {
  const nowMs = Date.UTC(2026, 10, 22, 12);
  const of = (...lines: string[]) => deadlineOf(raw(...lines), nowMs);

  test.each<[string, string[], number | undefined]>([
    ["not said", [], undefined],
    ["milliseconds from now", ["x-purser-deadline: 1500"], nowMs + 1_500],
    ["an instant", ["x-purser-deadline: 2026-11-22T12:00:05Z"], nowMs + 5_000],
    ["an instant of another zone", ["x-purser-deadline: 2026-11-22T14:00:00.250+02:00"], nowMs + 250],
    ["an SDK's timeout", ["x-stainless-timeout: 600"], nowMs + 600_000],
    ["the sooner of both", ["x-stainless-timeout: 2", "x-purser-deadline: 5000"], nowMs + 2_000],
    ["an SDK's timeout that is none", ["x-stainless-timeout: NaN"], undefined],
  ])("%s", (_, lines, expected) => {
    expect(of(...lines)).toBe(expected);
  });

  test.each(["soon", "2026-11-22", "2026-11-22T12:00:00", "2026-02-30T12:00:00Z", "-5", "1.5", "March 7, 2026"])(
    "%s is refused with what is allowed",
    (value) => {
      expect(of(`x-purser-deadline: ${value}`)).toContain("ISO 8601");
    },
  );
});

test("what asks the provider to read a body in another way is told apart, and nothing else is", () => {
  const of = (...lines: string[]): string => variantOf(raw("anthropic-version: 2023-06-01", ...lines));

  expect(of("x-request-id: 1")).toBe(of("Authorization: Bearer x"));
  expect(of("Anthropic-Beta: a")).toBe(of("anthropic-beta: a"));
  expect(of("anthropic-beta: a")).not.toBe(of("anthropic-beta: a", "anthropic-beta: b"));
  expect(of()).not.toBe(variantOf(raw("anthropic-version: 2024-01-01")));
});

test("an idempotency key is the caller's text, within bounds", () => {
  expect(idempotencyKeyOf(raw("x-purser-idempotency-key:  once "))).toEqual({ outcome: "read", key: "once" });
  expect(idempotencyKeyOf(raw("x-purser-idempotency-key: "))).toEqual({ outcome: "read", key: undefined });
  expect(idempotencyKeyOf(raw(`x-purser-idempotency-key: ${"k".repeat(256)}`))).toMatchObject({ outcome: "invalid" });
});
