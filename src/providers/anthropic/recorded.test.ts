/**
 * Goal: what is read and bounded here holds for requests that real clients sent and the provider really billed.
 * Method: every recorded exchange is read, edited and read again; where the whole input stands in the body, the bound of its input is
 * compared with the input the provider reported.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { describe, expect, it } from "vitest";

import { boundInputTokens } from "./bound.ts";
import { editRequest } from "./edit.ts";
import { readRequest } from "./request.ts";

interface RecordedUsage {
  input_tokens?: number | null;
  cache_creation_input_tokens?: number | null;
  cache_read_input_tokens?: number | null;
}

interface Recorded {
  path: string;
  request: { method: string; body: string | null };
  usage?: RecordedUsage | null;
}

const folder = join(process.env["PURSER_DATA"] ?? "../shared/data", "http-pydantic-ai", "records");
const isThere = existsSync(folder);
if (!isThere) console.warn("skipped: recorded requests; set PURSER_DATA to the folder that holds http-pydantic-ai.");

function readRecords(): { file: string; body: Uint8Array; usage: RecordedUsage | undefined }[] {
  return readdirSync(folder)
    .filter((file) => file.startsWith("anthropic-"))
    .map((file) => ({ file, record: JSON.parse(readFileSync(join(folder, file), "utf8")) as Recorded }))
    .filter(({ record }) => record.path === "/v1/messages")
    .map(({ file, record }) => ({
      file,
      body: new TextEncoder().encode(record.request.body ?? ""),
      usage: record.usage ?? undefined,
    }));
}

function inputOf(usage: RecordedUsage): number {
  return (usage.input_tokens ?? 0) + (usage.cache_creation_input_tokens ?? 0) + (usage.cache_read_input_tokens ?? 0);
}

describe.skipIf(!isThere)("recorded requests", () => {
  const records = isThere ? readRecords() : [];

  it("are all read, with the model and max_tokens they hold", () => {
    const decoder = new TextDecoder();

    for (const { file, body } of records) {
      const result = readRequest(body);
      const expected = JSON.parse(decoder.decode(body)) as {
        model: string;
        max_tokens: number;
        messages: unknown[];
        stream?: boolean;
      };
      if (result.outcome !== "read") throw new Error(`${file}: ${result.refusal.message}`);
      expect(result.facts).toMatchObject({
        model: expected.model,
        maxTokens: expected.max_tokens,
        isStream: expected.stream === true,
      });
      expect(
        result.facts.messageSpans.map(({ start, end }) => JSON.parse(decoder.decode(body.subarray(start, end))) as unknown),
      ).toEqual(expected.messages);
      const edited = editRequest(body, result.facts, { model: "claude-haiku-5-5", maxTokens: 7 });
      expect(JSON.parse(decoder.decode(edited))).toEqual({ ...expected, model: "claude-haiku-5-5", max_tokens: 7 });
    }
    expect(records.length).toBeGreaterThan(300);
    console.info(`figure: ${records.length} recorded Anthropic requests read and edited, 0 refused`);
  });

  it("never took more input than their bound, where all of it stands in the body", () => {
    const ratios = records.flatMap(({ body, usage }) => {
      const result = readRequest(body);
      if (result.outcome !== "read" || usage === undefined) return [];
      const { facts } = result;
      if (facts.unboundedParts.length > 0 || facts.remoteInputs.length > 0) return [];
      return [boundInputTokens(facts, facts.model) / inputOf(usage)];
    });

    ratios.sort((a, b) => a - b);
    expect(ratios.length).toBeGreaterThan(150);
    expect(ratios[0]).toBeGreaterThanOrEqual(1);
    const [least, median] = [ratios[0], ratios[ratios.length >> 1]].map((ratio) => (ratio ?? 0).toFixed(2));
    console.info(
      `figure: input bound ÷ reported input over ${ratios.length} recorded calls: least ${least}, median ${median}, never below 1`,
    );
  });
});
