/** Prints what reading a request costs beside what decoding and JSON.parse cost. Run: node bench/providers/json/scan.ts */
import { readRequest } from "../../../src/providers/anthropic/request.ts";
import { scanJson } from "../../../src/providers/json/scan.ts";
import { ANY_KIND, type JsonSlot } from "../../../src/providers/json/slot.ts";

const ANYTHING: JsonSlot<null> = { name: "", kinds: ANY_KIND, allowed: "a value" };
const CODE = 'const value = await call("a");\n  if (value === undefined) return;\n';
const decoder = new TextDecoder();

/** A conversation of about this size, of text in blocks of 2 kB and tool calls between them. */
function conversation(bytes: number, text: string): Uint8Array {
  const block = text.repeat(Math.ceil(Math.min(2_000, bytes / 2) / text.length));
  const messages = Array.from({ length: Math.ceil(bytes / (block.length + 250)) }, (_, index) => ({
    role: index % 2 === 0 ? "user" : "assistant",
    content: [
      { type: "text", text: block },
      { type: "tool_use", id: "toolu_01", name: "bash", input: { command: block.slice(0, 100), lines: [1, 2, 3] } },
    ],
  }));
  return new TextEncoder().encode(JSON.stringify({ model: "claude-opus-5-5", max_tokens: 1024, stream: true, messages }));
}

/** Median, in microseconds, after a quarter of the runs as warm-up. */
function medianUs(run: () => unknown, runs: number): number {
  for (let index = 0; index < runs / 4; index += 1) run();
  const times = Array.from({ length: runs }, () => {
    const startMs = performance.now();
    run();
    return (performance.now() - startMs) * 1_000;
  });
  return times.toSorted((a, b) => a - b)[runs >> 1] ?? Number.NaN;
}

console.table(
  [
    { name: "4 kB", body: conversation(4_000, CODE), runs: 4_000 },
    { name: "200 kB", body: conversation(200_000, CODE), runs: 400 },
    { name: "1 MB", body: conversation(1_000_000, CODE), runs: 100 },
    { name: "1 MB, Japanese", body: conversation(330_000, "吾輩は猫である。名前はまだ無い。"), runs: 100 },
  ].map(({ name, body, runs }) => {
    const scanUs = medianUs(() => scanJson(body, ANYTHING, null), runs);
    const readUs = medianUs(() => readRequest(body), runs);
    const parseUs = medianUs(() => JSON.parse(decoder.decode(body)) as unknown, runs);
    return {
      body: name,
      bytes: body.length,
      "scan µs": Math.round(scanUs),
      "readRequest µs": Math.round(readUs),
      "decode + JSON.parse µs": Math.round(parseUs),
      "scan ÷ parse": (scanUs / parseUs).toFixed(2),
      "read ÷ parse": (readUs / parseUs).toFixed(2),
    };
  }),
);
