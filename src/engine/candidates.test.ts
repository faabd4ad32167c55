import { describe, expect, test } from "vitest";
import { readConfig } from "../config/config.ts";
import { buildPriceBook, type BuiltPriceBook } from "../core/pricing/price-book.ts";
import { anthropic } from "../providers/anthropic/anthropic.ts";
import { candidatesFor } from "./candidates.ts";
import { book, factsOf, START_MS, type RequestInput } from "./engine.fixture.ts";

interface Setting extends RequestInput {
  downgrade?: Record<string, string>;
  prices?: BuiltPriceBook;
  onUnpricedModel?: "deny" | "dearest";
}

function candidatesOf({ downgrade = {}, prices = book, onUnpricedModel = "deny", ...request }: Setting) {
  const facts = factsOf(request);
  const rules = { downgrade: new Map(Object.entries(downgrade)), book: prices, onUnpricedModel, atMs: START_MS };
  return candidatesFor({ provider: anthropic, facts, ...rules });
}

function only(setting: Setting) {
  const [candidate, ...others] = candidatesOf(setting);
  if (candidate === undefined || others.length > 0) throw new Error(`${others.length + 1} candidates`);
  return candidate;
}

/** The built-in book with one model of the configuration's own. */
function bookWith(yaml: string): BuiltPriceBook {
  const read = readConfig({ text: `prices: { ${yaml} }`, fileName: "purser.yaml", env: {} });
  if (read.outcome === "invalid") throw new Error(read.problems.map(({ message }) => message).join());
  return buildPriceBook([...book.rows, ...read.config.prices]);
}

const OWN = "own-model: { provider: anthropic, inputUsdPerMTok: 1, outputUsdPerMTok: 2, from: 2026-01-01, source: a contract }";
const contextOf = (model: string): number => book.find("anthropic", model, START_MS)?.contextTokensMax ?? 0;
const outputOf = (model: string): number => book.find("anthropic", model, START_MS)?.outputTokensMax ?? 0;

describe("the model asked for", () => {
  test("keeps its spelling, is counted under its own name, and is bounded by bytes and max_tokens", () => {
    const candidate = only({ model: "claude-sonnet-4-5", maxTokens: 2_000, text: "x".repeat(10_000) });

    expect(candidate).toMatchObject({
      model: "claude-sonnet-4-5",
      canonicalModel: "claude-sonnet-4-5-20250929",
      maxTokens: 2_000,
      outputTokensBound: 2_000,
      rejectedBy: undefined,
      unboundedParts: [],
    });
    expect(candidate.inputTokensBound).toBeGreaterThanOrEqual(10_000);
    expect(candidate.inputTokensBound).toBeLessThan(10_200);
  });

  test("is bounded by its own maximum where the request names none", () => {
    const facts = { ...factsOf({ model: "claude-haiku-5-5" }), maxTokens: undefined };
    const [candidate] = candidatesFor({
      provider: anthropic,
      facts,
      book,
      downgrade: new Map(),
      onUnpricedModel: "deny",
      atMs: START_MS,
    });

    expect(candidate).toMatchObject({ maxTokens: undefined, outputTokensBound: outputOf("claude-haiku-5-5") });
  });

  test("never reads more than its context window holds", () => {
    const text = "x".repeat(contextOf("claude-sonnet-4-5") + 50_000);

    expect(only({ model: "claude-sonnet-4-5", text }).inputTokensBound).toBe(contextOf("claude-sonnet-4-5"));
  });

  test("may read a whole context window where input lies outside the body", () => {
    const source = { type: "url", url: "https://example.com/a.pdf" };
    const messages = [{ role: "user", content: [{ type: "document", source }] }];

    expect(only({ model: "claude-sonnet-4-5", more: { messages } }).inputTokensBound).toBe(contextOf("claude-sonnet-4-5"));
  });

  test("may read its context window once more for every search it is allowed", () => {
    const tools = [{ type: "web_search_20250305", name: "web_search", max_uses: 3 }];
    const plain = only({ model: "claude-sonnet-4-5" });
    const searching = only({ model: "claude-sonnet-4-5", more: { tools } });

    expect(searching.inputTokensBound).toBe(4 * contextOf("claude-sonnet-4-5"));
    expect(searching.usdBound).toBeGreaterThan((plain.usdBound ?? 0n) + 30_000_000n);
  });

  test("has a part without a bound where a server tool has no cap", () => {
    const tools = [{ type: "web_search_20250305", name: "web_search" }];

    expect(only({ more: { tools } }).unboundedParts).toEqual(["web_search_20250305"]);
  });
});

describe("a model whose sizes nobody published", () => {
  const prices = bookWith(OWN);

  test("is bounded by the body alone", () => {
    const candidate = only({ model: "own-model", prices, text: "x".repeat(3_000_000) });

    expect(candidate.inputTokensBound).toBeGreaterThanOrEqual(3_000_000);
    expect(candidate.unboundedParts).toEqual([]);
  });

  test("has no bound for input that lies outside the body", () => {
    const source = { type: "url", url: "https://example.com/a.pdf" };
    const messages = [{ role: "user", content: [{ type: "document", source }] }];

    expect(only({ model: "own-model", prices, more: { messages } }).unboundedParts).toEqual(["document"]);
  });
});

describe("a model without a price", () => {
  test("has no bound in money, and bounds in tokens", () => {
    const candidate = only({ model: "claude-nobody-knows-1" });

    expect(candidate).toMatchObject({ usdBound: undefined, priceIds: [], canonicalModel: "claude-nobody-knows-1" });
    expect(candidate.outputTokensBound).toBe(1_000);
  });

  test("is bounded by the dearest prices where the configuration says so", () => {
    const dearest = only({ model: "claude-nobody-knows-1", onUnpricedModel: "dearest" });

    expect(dearest.canonicalModel).toBe("claude-nobody-knows-1");
    expect(dearest.priceIds.join()).toContain("#dearest");
    for (const model of ["claude-opus-5-5", "claude-fable-5-2"]) {
      expect(dearest.usdBound).toBeGreaterThanOrEqual(only({ model }).usdBound ?? 0n);
    }
  });

  test("that is free costs nothing, whatever nothing bounds", () => {
    const prices = bookWith("own-model: { provider: anthropic, free: true, source: ours }");
    const tools = [{ type: "web_search_20250305", name: "web_search" }];

    expect(only({ model: "own-model", prices, more: { tools } })).toMatchObject({
      usdBound: 0n,
      unboundedParts: [],
      tenCallsNanoUsd: 0n,
    });
  });
});

describe("models to fall back to", () => {
  const modelsOf = (setting: Setting): string[] => candidatesOf(setting).map(({ model }) => model);
  const downgrade = { "claude-opus-5-5": "claude-sonnet-5-5", "claude-sonnet-5-5": "claude-haiku-5-5" };

  test("come in the order of their chain, each with its own bound", () => {
    const candidates = candidatesOf({ model: "claude-opus-5-5", downgrade });
    const bounds = candidates.map(({ usdBound }) => usdBound ?? 0n);

    expect(candidates.map(({ model }) => model)).toEqual(["claude-opus-5-5", "claude-sonnet-5-5", "claude-haiku-5-5"]);
    expect(bounds).toEqual(bounds.toSorted((left, right) => (left > right ? -1 : 1)));
  });

  test("begin in the middle of a chain for a model in its middle", () => {
    expect(modelsOf({ model: "claude-sonnet-5-5", downgrade })).toEqual(["claude-sonnet-5-5", "claude-haiku-5-5"]);
    expect(modelsOf({ model: "claude-haiku-5-5", downgrade })).toEqual(["claude-haiku-5-5"]);
  });

  test("are found by every spelling of a model", () => {
    expect(modelsOf({ model: "claude-opus-5-5[1m]", downgrade })).toEqual([
      "claude-opus-5-5[1m]",
      "claude-sonnet-5-5",
      "claude-haiku-5-5",
    ]);
    const dated = { "claude-opus-5-5": "claude-sonnet-4-5-20250929", "claude-sonnet-4-5": "claude-haiku-5-5" };
    expect(modelsOf({ model: "claude-opus-5-5", downgrade: dated })).toEqual([
      "claude-opus-5-5",
      "claude-sonnet-4-5-20250929",
      "claude-haiku-5-5",
    ]);
  });

  test.each<[string, Record<string, string>]>([
    ["on itself", { "claude-opus-5-5": "claude-opus-5-5" }],
    ["under another spelling", { "claude-opus-5-5": "claude-opus-5-5[1m]" }],
  ])("end where a chain closes %s", (_, ring) => {
    expect(modelsOf({ model: "claude-opus-5-5", downgrade: ring })).toEqual(["claude-opus-5-5"]);
  });

  test("end where a ring closes", () => {
    const ring = { ...downgrade, "claude-haiku-5-5": "claude-opus-5-5" };
    expect(modelsOf({ model: "claude-sonnet-5-5", downgrade: ring })).toEqual([
      "claude-sonnet-5-5",
      "claude-haiku-5-5",
      "claude-opus-5-5",
    ]);
  });

  test("have max_tokens lowered to what they can write; the model asked for keeps its own", () => {
    const most = outputOf("claude-haiku-5-5");
    const [asked, , fallback] = candidatesOf({ model: "claude-opus-5-5", maxTokens: most + 1_000, downgrade });

    expect(asked).toMatchObject({ maxTokens: most + 1_000, outputTokensBound: most + 1_000 });
    expect(fallback).toMatchObject({ maxTokens: most, outputTokensBound: most });
  });

  test("are rejected where the conversation does not fit their context, judged by what it is expected to be", () => {
    const context = contextOf("claude-haiku-5-5");
    const rejectedAt = (bytes: number): string | undefined =>
      candidatesOf({ model: "claude-opus-5-5", text: "x".repeat(bytes), downgrade })[2]?.rejectedBy;

    expect(rejectedAt(context * 3)).toBeUndefined();
    expect(rejectedAt(context * 4 + 10)).toContain(`do not fit its context of ${context}`);
  });

  test("cost more for a conversation whose cache they have to write anew", () => {
    const history = [
      { role: "user", content: [{ type: "text", text: "x".repeat(8_000), cache_control: { type: "ephemeral" } }] },
      { role: "assistant", content: "Yes." },
      { role: "user", content: "Go on." },
    ];
    const warm = candidatesOf({ model: "claude-opus-5-5", downgrade, more: { messages: history } });
    const [asked, next] = warm;

    // Ten reads at $0.20 against one write and nine reads of the cheaper model.
    expect(asked?.tenCallsNanoUsd).toBeGreaterThan(0n);
    expect(next?.tenCallsNanoUsd).toBeGreaterThan(0n);
    const again = candidatesOf({ model: "claude-sonnet-5-5", more: { messages: history } })[0];
    expect(next?.tenCallsNanoUsd).toBeGreaterThan(again?.tenCallsNanoUsd ?? 0n);
  });
});
