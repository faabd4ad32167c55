/** Goal: whatever a chat's stream is cut into, its usage chunk is gone and every other byte is there, in order. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { UsageChunkFilter } from "./filter.ts";

const encoder = new TextEncoder();
const USAGE = '{"id":"c","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}';
/** What is not the usage chunk, however much it looks like it. */
const KEPT = [
  '{"id":"c","choices":[{"delta":{"content":"é"}}],"usage":null}',
  '{"id":"c","choices":[],"usage":null}',
  '{"id":"c","choices":[{"delta":{}}],"usage":{"prompt_tokens":1}}',
  '{"id":"c","choices":[{"delta":{"content":"\\"choices\\":[],\\"usage\\":{}"}}]}',
  '{"choices":[],"usage":{"prompt_tokens":1},"prompt_filter_results":[]}',
  '{"choices":[],"usage":{',
  "[DONE]",
  `{"choices":[{"delta":{"content":"${"x".repeat(20_000)}"}}]}`,
];

function filtered(bytes: Uint8Array, cuts: readonly number[]): string {
  const filter = new UsageChunkFilter();
  const places = [0, ...cuts.map((cut) => Math.floor(cut * bytes.length)).toSorted((one, other) => one - other), bytes.length];
  const passed = places.slice(1).map((end, index) => filter.push(bytes.slice(places[index], end)).slice());
  return Buffer.concat([...passed, filter.end()]).toString("utf8");
}

describe("a chat's stream", () => {
  const cuts = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 40 });
  const events = fc.array(fc.constantFrom(USAGE, ...KEPT), { maxLength: 12 });
  const ending = fc.constantFrom("\n\n", "\r\n\r\n");

  test("loses its usage chunk and nothing else, wherever it is cut", () => {
    fc.assert(
      fc.property(events, ending, cuts, (payloads, end, places) => {
        const told = (list: readonly string[]): string => list.map((payload) => `data: ${payload}${end}`).join("");

        const passed = filtered(encoder.encode(told(payloads)), places);

        expect(passed).toBe(told(payloads.filter((payload) => payload !== USAGE)));
      }),
      { numRuns: 300 },
    );
  });

  test("that breaks off inside an event has its last bytes passed on at its end", () => {
    expect(filtered(encoder.encode('data: {"choices":[],"usa'), [0.5])).toBe('data: {"choices":[],"usa');
  });

  test("passes an event on with its last byte, not with the next event", () => {
    const filter = new UsageChunkFilter();

    expect(filter.push(encoder.encode(`data: ${KEPT[0]}\n`))).toHaveLength(0);
    expect(new TextDecoder().decode(filter.push(encoder.encode("\n")))).toBe(`data: ${KEPT[0]}\n\n`);
  });
});
