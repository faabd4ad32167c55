/** What the provider is asked to count: the request itself, less what no model reads, or nothing at all. */
import { describe, expect, test } from "vitest";
import { anthropic } from "./anthropic.ts";
import { countPath, countRequest, readCount } from "./count.ts";

const encode = (text: string): Uint8Array => new TextEncoder().encode(text);
const decode = (bytes: Uint8Array | undefined): string | undefined => bytes && new TextDecoder().decode(bytes);

function factsOf(body: string) {
  const read = anthropic.readRequest(encode(body));
  if (read.outcome === "refused") throw new Error(read.refusal.message);
  return read.facts;
}

const countedOf = (body: string, model?: string): string | undefined => {
  const facts = factsOf(body);
  return decode(countRequest(encode(body), facts, model ?? facts.model));
};

const MODEL = "claude-haiku-5-5";

describe("what is counted", () => {
  test("is every byte of what the model reads, in its order, and nothing else", () => {
    const messages = `[ {"role":"user","content":"a\\"}],\\\\"} , {"role":"assistant","content":[{"type":"tool_use","id":"t","name":"n","input":{"x":1.0,"x":2}}]}]`;
    const body = ` {"max_tokens" : 5,"messages": ${messages} , "stream":true,"system":"Be kind. \\u00e9 é","stop_sequences":["}",","],"model":"${MODEL}","metadata":{"user_id":"u"},"tools":[{"name":"n","input_schema":{}}],"temperature":1 }`;

    expect(countedOf(body)).toBe(
      `{"messages": ${messages} ,"system":"Be kind. \\u00e9 é","model":"${MODEL}","tools":[{"name":"n","input_schema":{}}]}`,
    );
  });

  test("is the request as it would be sent to another model", () => {
    const body = `{"model":"claude-opus-5-5","max_tokens":5,"messages":[{"role":"user","content":"Hello."}]}`;

    expect(countedOf(body, MODEL)).toBe(`{"model":"${MODEL}","messages":[{"role":"user","content":"Hello."}]}`);
  });

  test.each([
    ["a field that is not known", `"diagnostics":{}`],
    ["a name of such a field written with escapes", `"\\u0064iagnostics":{}`],
    ["a server tool, capped or not", `"tools":[{"type":"web_search_20250305","name":"web_search","max_uses":1}]`],
    ["a thread", `"thread":{"type":"continue","id":"t"}`],
    ["fallbacks", `"fallbacks":[{"model":"m"}]`],
    ["a container", `"container":"c"`],
    ["compaction", `"context_management":{"edits":[{"type":"compact_20260112"}]}`],
  ])("is nothing where there is %s", (_what, field) => {
    expect(
      countedOf(`{"model":"${MODEL}","max_tokens":5,"messages":[{"role":"user","content":"Hi."}],${field}}`),
    ).toBeUndefined();
  });

  test("is nothing where a document is not in the body as text", () => {
    const document = `{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"AAAA"}}`;

    expect(countedOf(`{"model":"${MODEL}","max_tokens":5,"messages":[{"role":"user","content":[${document}]}]}`)).toBeUndefined();
  });
});

describe("the answer", () => {
  const plain = factsOf(`{"model":"${MODEL}","messages":[]}`);
  const clearing = factsOf(
    `{"model":"${MODEL}","messages":[],"context_management":{"edits":[{"type":"clear_tool_uses_20250919"}]}}`,
  );

  test.each([
    [`{"input_tokens":14}`, 14],
    [`{"input_tokens":0}`, 0],
    [`{"input_tokens":-1}`, undefined],
    [`{"input_tokens":1.5}`, undefined],
    [`{"input_tokens":"14"}`, undefined],
    [`{}`, undefined],
    [`[14]`, undefined],
    [`{"input_tokens":14`, undefined],
  ])("%s says %s", (answer, tokens) => {
    expect(readCount(encode(answer), plain)).toBe(tokens);
  });

  test("says what stood there before a threshold cleared parts of it", () => {
    expect(readCount(encode(`{"input_tokens":14,"context_management":{"original_input_tokens":40}}`), clearing)).toBe(40);
    expect(readCount(encode(`{"input_tokens":14}`), clearing)).toBeUndefined();
  });

  test("bounds with a twentieth, 500 tokens and the largest images above it", () => {
    const bound = (counted: number): number | undefined =>
      anthropic.counting?.boundOf(counted, { ...plain, imageCount: 2 }, MODEL);

    expect(bound(100_000)).toBe(105_500 + 2 * 4_784);
    expect(bound(1)).toBe(1 + 1 + 500 + 2 * 4_784);
  });
});

test("asks beside the call, with its query", () => {
  expect(countPath("/v1/messages")).toBe("/v1/messages/count_tokens");
  expect(countPath("/v1/messages?beta=true")).toBe("/v1/messages/count_tokens?beta=true");
});
