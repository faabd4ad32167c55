import { readFileSync } from "node:fs";

import * as fc from "fast-check";
import { describe, expect, it } from "vitest";

import type { RequestFacts } from "../provider.ts";
import { boundInputTokens } from "./bound.ts";
import { KNOWN_MODELS, modelFacts } from "./models.ts";
import { rejectedBy } from "./rejection.ts";
import { readRequest } from "./request.ts";

const encoder = new TextEncoder();

function factsOf(fields: Record<string, unknown>): RequestFacts {
  const result = readRequest(
    encoder.encode(JSON.stringify({ model: "claude-opus-5-5", max_tokens: 8, messages: [], ...fields })),
  );
  if (result.outcome === "refused") throw new Error(result.refusal.message);
  return result.facts;
}

const TOOL = { name: "x", input_schema: { type: "object" } };

describe("the bound of input", () => {
  it("is one token per byte of text", () => {
    const facts = factsOf({ messages: [{ role: "user", content: "日本語" }] });

    expect(boundInputTokens(facts, "claude-opus-5-5")).toBe(facts.bodyBytes);
  });

  it("adds each image at the model's largest", () => {
    const image = { type: "image", source: { type: "base64", media_type: "image/png", data: "A".repeat(40_000) } };
    const facts = factsOf({ messages: [{ role: "user", content: [image, image] }] });
    const text = facts.bodyBytes - 80_000;

    expect(boundInputTokens(facts, "claude-haiku-4-5")).toBe(text + 2 * 1_568);
    expect(boundInputTokens(facts, "claude-opus-4-7")).toBe(text + 2 * 4_784);
    expect(boundInputTokens(facts, "a model of tomorrow")).toBe(text + 2 * 4_784);
  });

  it.each([
    ["claude-haiku-5-5", {}, 286],
    ["claude-haiku-5-5", { tool_choice: { type: "any" } }, 406],
    ["claude-sonnet-4-5-20250929", {}, 496],
    ["claude-3-5-haiku-20241022", { tool_choice: { type: "tool", name: "x" } }, 355],
    ["claude-opus-5-5", {}, 675],
    ["claude-fable-5-2", { tool_choice: { type: "any" } }, 804],
  ])("adds the tool prompt of %s with %j", (model, fields, tokens) => {
    const facts = factsOf({ tools: [TOOL], ...fields });

    expect(boundInputTokens(facts, model)).toBe(facts.textBytes + tokens);
  });

  it("adds what the provider's own definitions of client tools cost", () => {
    const facts = factsOf({
      tools: [{ type: "bash_20250124", name: "bash" }, { type: "text_editor_20250728", name: "e" }, TOOL],
    });

    expect(boundInputTokens(facts, "claude-haiku-5-5")).toBe(facts.textBytes + 286 + 325 + 700);
    expect(boundInputTokens(facts, "claude-haiku-4-5")).toBe(facts.textBytes + 496 + 244 + 700);
  });

  it("takes the dearest known definition for a tool without a published figure", () => {
    const facts = factsOf({ tools: [{ type: "memory_20250818", name: "memory" }] });

    expect(boundInputTokens(facts, "claude-haiku-5-5")).toBe(facts.textBytes + 286 + 7_000);
  });

  it("counts the context once per sampling of a capped server tool", () => {
    const facts = factsOf({ tools: [{ type: "web_search_20250305", name: "web_search", max_uses: 4 }] });

    expect(boundInputTokens(facts, "claude-haiku-5-5")).toBe(5 * (facts.textBytes + 286));
  });

  it("never falls when text, an image or a tool is added", () => {
    const field = fc.record({ text: fc.string(), images: fc.nat(3), hasTool: fc.boolean(), uses: fc.nat(5) });
    const bodyOf = ({
      text,
      images,
      hasTool,
      uses,
    }: {
      text: string;
      images: number;
      hasTool: boolean;
      uses: number;
    }): RequestFacts =>
      factsOf({
        messages: [
          {
            role: "user",
            content: [
              { type: "text", text },
              ...Array.from({ length: images }, () => ({ type: "image", source: { type: "url" } })),
            ],
          },
        ],
        tools: [...(hasTool ? [TOOL] : []), { type: "web_fetch_20260209", name: "web_fetch", max_uses: uses }],
      });
    fc.assert(
      fc.property(field, fc.constantFrom(...KNOWN_MODELS), (fields, model) => {
        const base = boundInputTokens(bodyOf(fields), model);

        expect(boundInputTokens(bodyOf({ ...fields, text: `${fields.text}x` }), model)).toBeGreaterThan(base);
        expect(boundInputTokens(bodyOf({ ...fields, images: fields.images + 1 }), model)).toBeGreaterThan(base);
        expect(boundInputTokens(bodyOf({ ...fields, hasTool: true }), model)).toBeGreaterThanOrEqual(base);
        expect(boundInputTokens(bodyOf({ ...fields, uses: fields.uses + 1 }), model)).toBeGreaterThan(base);
      }),
    );
  });
});

describe("what is known of models", () => {
  it("covers every Claude model that has a price", () => {
    const text = readFileSync(new URL("../../../prices/anthropic.json", import.meta.url), "utf8");
    const priced = [...text.matchAll(/"model":"(claude-[^"]+)"/g)].map(([, model]) => model ?? "");

    const unlisted = priced.filter((model) => !modelFacts(model).isKnown);

    expect(priced.length).toBeGreaterThan(20);
    // Claude 2 has no facts beyond its price: read in the most careful way.
    expect(new Set(unlisted)).toEqual(new Set(["claude-2.0", "claude-2.1"]));
  });

  it.each([
    "claude-haiku-4-5-20251001",
    "claude-haiku-4-5@20251001",
    "us.anthropic.claude-haiku-4-5-20251001-v1:0",
    "claude-haiku-4-5[1m]",
  ])("knows %s as claude-haiku-4-5", (model) => {
    expect(modelFacts(model).facts).toBe(modelFacts("claude-haiku-4-5").facts);
  });

  it.each(["claude-opus-5-6", "claude-opus", "CLAUDE-OPUS-5", "constructor", "__proto__"])("knows nothing of %s", (model) => {
    expect(modelFacts(model).isKnown).toBe(false);
  });
});

describe("why a model would not take a request", () => {
  it.each([
    ["claude-haiku-5-5", {}, undefined],
    ["claude-haiku-5-5", { thinking: { type: "adaptive" }, output_config: { effort: "high" }, tools: [TOOL] }, undefined],
    ["claude-haiku-5-5", { thinking: { type: "enabled", budget_tokens: 2048 } }, "it does not take thinking enabled"],
    ["claude-haiku-4-5", { thinking: { type: "enabled", budget_tokens: 2048 } }, undefined],
    ["claude-haiku-4-5", { thinking: { type: "adaptive" } }, "it does not take thinking adaptive"],
    ["claude-opus-5-5", { thinking: { type: "disabled" } }, "it does not take thinking disabled"],
    ["claude-opus-5-5", { tools: [TOOL], tool_choice: { type: "any" } }, "it does not take a forced tool_choice"],
    ["claude-haiku-5-5", { tools: [TOOL], tool_choice: { type: "any" } }, undefined],
    ["claude-haiku-5-5", { speed: "fast" }, "it has no fast mode"],
    ["claude-opus-5-5", { speed: "fast" }, undefined],
    ["claude-haiku-4-5", { inference_geo: "us" }, "it does not take inference_geo"],
    ["claude-haiku-5-5", { inference_geo: "us" }, undefined],
    ["claude-haiku-5-5", { temperature: 0.3 }, "it does not take temperature, top_p or top_k"],
    ["claude-haiku-5-5", { temperature: 1 }, undefined],
    ["claude-haiku-4-5", { temperature: 0.3 }, undefined],
    ["claude-haiku-4-5", { output_config: { effort: "low" } }, "it does not take effort"],
    ["claude-haiku-4-5", { context_management: { edits: [{ type: "compact_20260112" }] } }, "it does not compact"],
    ["claude-opus-4-1", { tools: [{ type: "tool_search_tool_bm25_20251119", name: "s" }] }, "it has no tool search"],
    [
      "claude-haiku-5-5",
      { tools: [{ type: "computer_20251124", name: "c" }] },
      "no source states that it takes the tool computer_20251124",
    ],
    ["claude-haiku-5-5", { thread: { type: "continue", previous_message_id: "m" } }, "a continued thread stays with its model"],
    [
      "claude-3-haiku-20240307",
      { messages: [{ role: "assistant", content: [{ type: "thinking", thinking: "", signature: "" }] }] },
      "the conversation holds thinking blocks, and it does not think",
    ],
    ["my-model", {}, undefined],
    [
      "my-model",
      { temperature: 0 },
      "it does not take temperature, top_p or top_k (nothing is known of this model, so only plain requests are moved to it)",
    ],
  ])("asks %s about %j", (model, fields, reason) => {
    expect(rejectedBy(factsOf(fields), model)).toBe(reason);
  });
});
