/** Heads of requests, and what must never get into one. */
import { describe, expect, it } from "vitest";
import { BadRequestError, writeHead, type RequestHead } from "./request-head.ts";

const POST: RequestHead = { method: "POST", path: "/v1/messages?a=b", headers: ["x-api-key", "k", "X-B", ""], bodyBytes: 2 };
const write = (changed: Partial<RequestHead>): string => writeHead({ ...POST, ...changed }, "provider.test:8080");

it("states host, connection and length itself, and everything else as it came", () => {
  expect(write({})).toBe(
    "POST /v1/messages?a=b HTTP/1.1\r\nhost: provider.test:8080\r\nconnection: keep-alive\r\nx-api-key: k\r\nX-B: \r\ncontent-length: 2\r\n\r\n",
  );
});

it("states no length for a request without a body", () => {
  expect(write({ method: "GET", bodyBytes: undefined, headers: [] })).not.toContain("content-length");
});

describe("refuses", () => {
  const values = ["a\r\nb: c", "a\nb", "a\rb", "a\0b", "\x7f", "\u0100", "a\r\n\r\nPOST / HTTP/1.1"];
  it.each(values)("the value %j", (value) => {
    expect(() => write({ headers: ["x-a", value] })).toThrow(BadRequestError);
  });

  it.each(["", "a b", "a:", "a\r\nb", "a\0", "\xe4"])("the name %j", (name) => {
    expect(() => write({ headers: [name, "x"] })).toThrow(BadRequestError);
  });

  it.each(["", "v1", "/a b", "/a\r\nb", "/a\0", "/\u0100"])("the path %j", (path) => {
    expect(() => write({ path })).toThrow(BadRequestError);
  });

  it.each(["Content-Length", "transfer-encoding", "HOST", "connection", "upgrade", "expect"])("a second %s", (name) => {
    expect(() => write({ headers: [name, "1"] })).toThrow(BadRequestError);
  });
});
