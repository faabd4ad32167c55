/**
 * Goal: the ledger is the provider's bill. Method: random calls from a printed seed, on every way a call can end, through real sockets,
 * the gateway and its SQLite ledger, compared call by call with the books the simulator keeps by itself.
 */
import { request as httpRequest } from "node:http";
import { expect, it } from "vitest";
import { formatUsd } from "../../src/core/money/money.ts";
import { startBench, type Bench } from "../e2e/harness.ts";
import { reportFigure } from "./figures.ts";

const CALLS = Number(process.env["PURSER_BOOKS_CALLS"] ?? 10_000);
const IN_FLIGHT = 64;
const MODELS = ["claude-opus-5-5", "claude-sonnet-5-5", "claude-haiku-5-5", "claude-sonnet-4-5", "claude-fable-5-2"];

/** Ways to end, each with what the provider is told to do; the last ones are plain so that most calls are. */
const PATHS = [
  { name: "2xx json", behaviour: { kind: "answer" }, stream: false },
  { name: "2xx stream", behaviour: { kind: "answer" }, stream: true },
  { name: "tool loop", behaviour: { kind: "answer", searches: 2 }, stream: true },
  {
    name: "iterations",
    behaviour: { kind: "answer", iterations: [{ kind: "compaction", uncachedInputTokens: 900, outputTokens: 40 }] },
    stream: true,
  },
  { name: "4xx", behaviour: { kind: "status", status: 400 }, stream: false },
  { name: "5xx", behaviour: { kind: "status", status: 529 }, stream: true },
  { name: "timeout", behaviour: { kind: "stall" }, stream: false },
  { name: "timeout in stream", behaviour: { kind: "stall", afterEvents: 3 }, stream: true },
  { name: "abort before first byte", behaviour: { kind: "stall" }, stream: true, abort: "sent" },
  { name: "abort after first byte", behaviour: { kind: "answer", eventPaceMs: 3 }, stream: true, abort: "first byte" },
  { name: "cut in mid-event", behaviour: { kind: "cut", afterEvents: 4 }, stream: true },
  { name: "error in stream", behaviour: { kind: "error_event", afterEvents: 3 }, stream: true },
  { name: "closed", behaviour: { kind: "close" }, stream: false },
  { name: "malformed json", behaviour: { kind: "malformed_json" }, stream: false },
  { name: "missing usage", behaviour: { kind: "answer", usage: "missing" }, stream: true },
  { name: "falling usage", behaviour: { kind: "answer", usage: "falling" }, stream: true },
  { name: "repeated usage", behaviour: { kind: "answer", usage: "repeated" }, stream: true },
  { name: "garbled usage", behaviour: { kind: "answer", usage: "negative" }, stream: true },
  { name: "malformed request", behaviour: { kind: "answer" }, stream: false, body: '{"model": "claude-opus-5-5", ' },
  { name: "refused", behaviour: { kind: "answer" }, stream: false, project: "poor" },
] as const satisfies readonly Path[];

interface Path {
  name: string;
  behaviour: Record<string, unknown>;
  stream: boolean;
  abort?: "sent" | "first byte";
  body?: string;
  project?: string;
}

const yamlOf = (more: string): string => `
limits:
  - { name: everything, per: all, usd: 1_000_000, every: day }
  - { name: agents, per: agent, usd: 500_000, every: month, at: { 50%: alert, 100%: stop } }
  - { name: tokens, per: [project, model], tokens: 4_000_000_000, every: 5h }
  - { name: at-once, per: all, concurrency: 500 }
  - { name: poor, per: project, where: { project: poor }, requests: 3, every: day }
${more}`;

/** mulberry32: small, seeded, good enough to choose paths. */
function createRandom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

it("is equal to the provider's bill where usage was reported, never below it elsewhere, and holds nothing in the end", async () => {
  const seed = Number(process.env["PURSER_SEED"] ?? Math.floor(Math.random() * 2 ** 31));
  console.log(`books: seed ${seed} (PURSER_SEED), ${CALLS} calls`);
  const random = createRandom(seed);
  const bench = await startBench({ yaml: yamlOf(""), gateway: { timeouts: { headersMs: 2_000, bodyMs: 2_000 } } });
  const plan = Array.from({ length: CALLS }, (_, index) => ({
    index,
    path: PATHS[index < PATHS.length * 320 ? index % PATHS.length : Math.floor(random() * 4)] as Path,
    model: MODELS[Math.floor(random() * MODELS.length)] ?? MODELS[0],
    text: "word ".repeat(1 + Math.floor(random() * 400)),
    isCached: random() < 0.3,
    agent: `agent-${Math.floor(random() * 20)}`,
  })).sort(() => random() - 0.5);

  let next = 0;
  let inFlightMost = 0;
  let inFlight = 0;
  let isReloaded = false;
  const work = async (): Promise<void> => {
    for (;;) {
      const item = plan[next];
      next += 1;
      if (item === undefined) return;
      if (next > plan.length / 2 && !isReloaded) {
        isReloaded = true;
        await bench.gateway.reload(
          bench.configOf(yamlOf("  - { name: added, per: agent, outputTokens: 900_000_000, every: day }\n")),
        );
      }
      inFlight += 1;
      inFlightMost = Math.max(inFlightMost, inFlight);
      await runCall(bench, item);
      inFlight -= 1;
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, work));
  await bench.simulator.idle();
  while (bench.gateway.engine.runningCount + bench.gateway.engine.unsettledCount > 0)
    await new Promise((done) => setImmediate(done));

  const { rows, ledgerNanoUsd } = await compare(bench, plan);
  expect(inFlightMost).toBe(IN_FLIGHT);
  expect(isReloaded).toBe(true);
  const enough = Math.min(300, Math.floor(CALLS / PATHS.length));
  const faults = [...rows].filter(([, { calls, below, unequal }]) => calls < enough || below > 0 || unequal > 0);
  expect(faults).toEqual([]);
  expect(await bench.gateway.ledger.openCalls()).toEqual([]);
  for (const state of (await bench.gateway.ledger.scopeStates()).values()) {
    for (const series of state.counters.values()) for (const counter of series.values()) expect(counter.reserved).toBe(0n);
  }

  const bill = bench.simulator.bill.totalNanoUsd;
  reportFigure(
    "Books",
    "ledger and bill",
    [
      `seed ${seed}: ${CALLS} calls, ${inFlightMost} in flight, a reload in the middle; bill $${formatUsd(bill)}, ledger $${formatUsd(ledgerNanoUsd)}`,
      ...[...rows]
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(
          ([name, { calls, equal, aboveNanoUsd }]) =>
            `${name.padEnd(24)} ${String(calls).padStart(5)} calls, ${String(equal).padStart(5)} equal, above by $${formatUsd(aboveNanoUsd)}`,
        ),
      "below the bill 0, reservations left 0",
    ].join("\n"),
  );
}, 300_000);

interface PlannedCall {
  index: number;
  path: Path;
  model: string | undefined;
  text: string;
  isCached: boolean;
  agent: string;
}

const seen = { count: 0, calls: new Set<string>() };

/** The calls that reached the provider; looks only at what came since it was asked last. */
function arrivedCalls({ simulator }: Bench): ReadonlySet<string> {
  for (; seen.count < simulator.requests.length; seen.count += 1) {
    seen.calls.add(String(simulator.requests[seen.count]?.headers["x-test-call"]));
  }
  return seen.calls;
}

/** One call on the wire; whatever happens to it is an answer. */
function runCall(bench: Bench, { index, path, model, text, isCached, agent }: PlannedCall): Promise<void> {
  const url = new URL(bench.url);
  const content = [{ type: "text", text, ...(isCached ? { cache_control: { type: "ephemeral" } } : {}) }];
  const tools = path.name === "tool loop" ? { tools: [{ type: "web_search_20250305", name: "web_search", max_uses: 2 }] } : {};
  const body =
    path.body ?? JSON.stringify({ model, max_tokens: 300, stream: path.stream, messages: [{ role: "user", content }], ...tools });
  return new Promise((resolve) => {
    const request = httpRequest({
      host: url.hostname,
      port: url.port,
      path: "/v1/messages",
      method: "POST",
      headers: {
        "content-type": "application/json",
        "x-api-key": "k",
        "anthropic-version": "2023-06-01",
        "x-purser-task": `call-${index}`,
        "x-purser-agent": agent,
        "x-purser-project": path.project ?? "rich",
        "x-test-call": `call-${index}`,
        "x-simulator-behaviour": JSON.stringify(path.behaviour),
      },
    });
    request.on("close", () => resolve());
    // A broken connection is one of the ends that are asked for.
    request.on("error", () => undefined);
    request.on("response", (response) => {
      response.on("error", () => undefined);
      if (path.abort === "first byte") response.once("data", () => request.destroy());
      response.resume();
    });
    if (path.abort === "sent") {
      const leave = (): void => {
        if (arrivedCalls(bench).has(`call-${index}`)) request.destroy();
        else setTimeout(leave, 5);
      };
      setTimeout(leave, 5);
    }
    request.end(body);
  });
}

interface Row {
  calls: number;
  equal: number;
  unequal: number;
  below: number;
  aboveNanoUsd: bigint;
}

function toText(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) => (typeof inner === "bigint" ? inner.toString() : inner));
}

async function compare(bench: Bench, plan: readonly PlannedCall[]): Promise<{ rows: Map<string, Row>; ledgerNanoUsd: bigint }> {
  const recorded = new Map((await bench.calls()).map((call) => [call.facts.scopes.task, call]));
  const billed = new Map(
    bench.simulator.requests.map((request) => [
      String(request.headers["x-test-call"]),
      bench.simulator.bill.forRequest(request.requestId),
    ]),
  );
  const rows = new Map<string, Row>();
  let ledgerNanoUsd = 0n;
  for (const { index, path } of plan) {
    const row = rows.get(path.name) ?? { calls: 0, equal: 0, unequal: 0, below: 0, aboveNanoUsd: 0n };
    rows.set(path.name, row);
    row.calls += 1;
    const line = billed.get(`call-${index}`);
    const call = recorded.get(`call-${index}`);
    const cost = call?.costNanoUsd ?? 0n;
    const bill = line?.costNanoUsd ?? 0n;
    ledgerNanoUsd += cost;
    if (cost === bill) row.equal += 1;
    else if (line?.reported === "truth") {
      row.unequal += 1;
      console.log(`unequal: ${path.name}`, toText(call?.result), toText(line));
    }
    if (cost < bill) row.below += 1;
    else row.aboveNanoUsd += cost - bill;
  }
  return { rows, ledgerNanoUsd };
}
