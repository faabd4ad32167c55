import * as fc from "fast-check";
import { describe, expect, it } from "vitest";

import { editRequest } from "./edit.ts";
import { readRequest } from "./request.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder();

function edited(text: string, edit: { model?: string; maxTokens?: number }): string {
  const body = encoder.encode(text);
  const result = readRequest(body);
  if (result.outcome === "refused") throw new Error(result.refusal.message);
  return decoder.decode(editRequest(body, result.facts, edit));
}

describe("editing a request", () => {
  const text = '{ "max_tokens":\t8192,"x":[1.50,"é\\u00e9"], "model" : "claude-opus-5-5","messages":[] }\n';

  it("replaces the model's bytes only", () => {
    expect(edited(text, { model: "claude-haiku-5-5" })).toBe(text.replace("claude-opus-5-5", "claude-haiku-5-5"));
  });

  it("replaces max_tokens only", () => {
    expect(edited(text, { maxTokens: 7 })).toBe(text.replace("8192", "7"));
  });

  it("replaces both, whichever stands first", () => {
    expect(edited(text, { maxTokens: 100_000, model: "m" })).toBe(text.replace("8192", "100000").replace("claude-opus-5-5", "m"));
  });

  it("gives back the same body for an empty edit", () => {
    const body = encoder.encode(text);
    const result = readRequest(body);

    expect(result.outcome === "read" && editRequest(body, result.facts, {})).toBe(body);
  });

  it("puts max_tokens in front where the body has none, and replaces null", () => {
    expect(edited(' {"model":"m"}', { maxTokens: 5 })).toBe(' {"max_tokens":5,"model":"m"}');
    expect(edited('{"model":"m","max_tokens":null}', { maxTokens: 5 })).toBe('{"model":"m","max_tokens":5}');
  });

  it("writes a model name of any letters as JSON that reads back as it", () => {
    const name = 'a"b\\c\u0000é😀';

    expect((JSON.parse(edited(text, { model: name })) as { model: string }).model).toBe(name);
  });

  it("leaves every other byte as it was, for any body", () => {
    const fields = fc.dictionary(
      fc.string({ unit: "binary" }).filter((key) => !["model", "max_tokens"].includes(key)),
      fc.jsonValue({ maxDepth: 3 }),
      { maxKeys: 5 },
    );
    fc.assert(
      fc.property(
        fields,
        fc.nat(100_000),
        fc.option(fc.nat()),
        fc.option(fc.string()),
        fc.nat(),
        (others, old, maxTokens, model, place) => {
          const members = [
            ...Object.entries(others).filter(([key]) => !DECIDING.has(key)),
            ["model", "old"],
            ["max_tokens", old],
          ] as [string, unknown][];
          const turned = [...members.slice(place % members.length), ...members.slice(0, place % members.length)];
          const write = (entries: [string, unknown][]): string =>
            `{${entries.map(([key, value]) => `${JSON.stringify(key)}: ${JSON.stringify(value)}`).join(" ,\n")}}`;
          const expected = turned.map(([key, value]): [string, unknown] => {
            if (key === "model" && model !== null) return [key, model];
            return key === "max_tokens" && maxTokens !== null ? [key, maxTokens] : [key, value];
          });

          const result = edited(write(turned), {
            ...(model === null ? {} : { model }),
            ...(maxTokens === null ? {} : { maxTokens }),
          });

          expect(withoutModel(result, model)).toBe(withoutModel(write(expected), model));
        },
      ),
    );
  });
});

/** Fields whose kind is checked: random values would rightly be refused. */
const DECIDING = new Set([
  "stream",
  "messages",
  "system",
  "tools",
  "tool_choice",
  "thinking",
  "cache_control",
  "service_tier",
  "speed",
  "inference_geo",
  "thread",
  "metadata",
  "context_management",
  "container",
  "compaction",
  "fallbacks",
  "mcp_servers",
]);

/** The new name may be escaped more than JSON.stringify does: compared by what it reads as. */
function withoutModel(text: string, model: string | null): string {
  const read = JSON.parse(text) as { model: string };
  expect(read.model).toBe(model ?? "old");
  return text.replace(/("model": )"(?:[^"\\]|\\.)*"/, "$1");
}
