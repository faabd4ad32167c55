/**
 * Goal: a gateway that is killed under load, again and again, loses no call that was answered, counts none twice, holds nothing for good,
 * and at no instant are recorded and reserved together below what the provider has billed (trust I1, I4). Method: the real process and
 * its real ledger; callers that keep 64 streams open; a provider with its own bill; from outside, ledger and bill are compared every few
 * milliseconds, also while the gateway is dead.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { compileLimits, totalsOf, type ScopeState } from "../../src/core/decisions/counters.ts";
import type { Limit } from "../../src/core/limits/limit.ts";
import type { CallRecord } from "../../src/ledger/ledger.ts";
import { openReading } from "../../src/ledger/sqlite/file.ts";
import { Queries } from "../../src/ledger/sqlite/queries.ts";
import { verifySqliteLedger } from "../../src/ledger/sqlite/verify.ts";
import { startSimulator, type Simulator } from "../../src/testing/testing.ts";
import { reportFigure } from "../figures/figures.ts";
import { DirectLedger } from "./direct-ledger.ts";
import { LoadedGateway } from "./loaded-gateway.ts";
import { createRandom } from "./random.ts";

const KILLS = process.env["PURSER_LONG"] === "1" ? 1_000 : 100;
const SEED = Number(process.env["PURSER_SEED"] ?? 20_261_125);
const STREAMS = 64;
const SAMPLE_MS = 10;
/** A gateway is killed when the provider has sent so many events since it began: somewhere in its first or second round of streams. */
const LIFE_EVENTS_MAX = 700;

let folder: string;
let simulator: Simulator;
/** What the provider sent. */
const sent = { events: 0 };

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "purser-gateway-kills-"));
  simulator = await startSimulator({ eventPaceMs: 15 });
  const step = async (): Promise<void> => void (sent.events += 1);
  simulator.always(() => ({ kind: "answer", outputTokens: 40, deltas: 8, step }));
});
afterAll(async () => {
  await simulator.close();
  rmSync(folder, { recursive: true, force: true });
});

/** Looks at the ledger's file from outside. */
class Watch {
  readonly #path: string;
  #open: { queries: Queries; close: () => void } | undefined;
  samples = 0;
  readonly below: string[] = [];

  constructor(path: string) {
    this.#path = path;
  }

  look(when: string): void {
    // The provider lives in this process: its bill stands still while the ledger is read.
    const bill = simulator.bill.accruedNanoUsd;
    this.#open ??= this.#opened();
    const limits = this.#open.queries.answer({ kind: "limits" }) as Limit[];
    const states = this.#open.queries.answer({ kind: "scopeStates" }) as Map<string, ScopeState>;
    const [all] = compileLimits({ version: "", limits, downgrade: new Map() }).limits;
    const state = states.get("all");
    const { spent, reserved } =
      all === undefined || state === undefined ? { spent: 0n, reserved: 0n } : totalsOf(state, all, Date.now());
    this.samples += 1;
    if (spent + reserved < bill) this.below.push(`${when}: recorded ${spent} + reserved ${reserved} < billed ${bill}`);
  }

  /** A file that nobody has open is recovered by whoever opens it next. */
  close(): void {
    this.#open?.close();
    this.#open = undefined;
  }

  #opened() {
    const db = openReading(this.#path);
    return { queries: new Queries(db), close: () => void db.close() };
  }
}

/** What is wrong with the ledger's calls, compared with the provider's bill. */
function problemsOf(calls: readonly CallRecord[], completed: ReadonlySet<string>): string[] {
  const byName = new Map<string, CallRecord>();
  const problems: string[] = [];
  for (const call of calls) {
    const name = call.facts.scopes.task;
    if (byName.has(name)) problems.push(`${name} is in the ledger twice`);
    byName.set(name, call);
    if (call.status === "reserved") problems.push(`${name} is still held`);
  }
  const sent = new Set<string>();
  for (const request of simulator.requests) {
    const name = (request.json as { metadata: { user_id: string } }).metadata.user_id;
    if (sent.has(name)) problems.push(`${name} was sent twice`);
    sent.add(name);
    const billed = simulator.bill.forRequest(request.requestId)?.costNanoUsd ?? 0n;
    const call = byName.get(name);
    const recorded = call?.costNanoUsd ?? 0n;
    if (recorded < billed) problems.push(`${name} is ${call?.status} at ${recorded}; billed ${billed}`);
    if (completed.has(name) && (call?.status !== "settled" || recorded !== billed)) {
      problems.push(`${name} was answered whole, and is ${call?.status} at ${recorded}; billed ${billed}`);
    }
  }
  return problems;
}

test(`a gateway killed ${KILLS} times under ${STREAMS} streams`, { timeout: 3_600_000 }, async () => {
  const gateway = new LoadedGateway(folder, simulator);
  const watch = new Watch(gateway.ledgerPath);
  const random = createRandom(SEED);
  // What Node compiled is kept by a process that ends, and spares each of the following ones most of its start.
  await gateway.start();
  await gateway.end("SIGTERM");
  await gateway.start();
  gateway.load(STREAMS);
  let inFlight = 0;
  for (let kill = 1; kill <= KILLS; kill += 1) {
    const killAt = sent.events + 1 + random(LIFE_EVENTS_MAX);
    while (sent.events < killAt) {
      watch.look(`life ${kill}`);
      await sleep(SAMPLE_MS);
    }
    inFlight += simulator.openStreams;
    // The file is left to nobody in every other life, so that the next gateway has to recover it.
    if (kill % 2 === 0) watch.close();
    await gateway.end("SIGKILL");
    if (kill % 2 === 1) watch.look(`dead after life ${kill}`);
    await gateway.start();
    watch.look(`started after life ${kill}`);
  }
  await gateway.stopLoad();
  await simulator.idle();
  watch.look("at the end");
  watch.close();
  expect(await gateway.end("SIGTERM")).toBe(0);

  const ledger = new DirectLedger(gateway.ledgerPath);
  const calls = await ledger.calls({ limit: 1_000_000 });
  const open = await ledger.openCalls();
  ledger.end();
  const problems = problemsOf(calls, new Set(gateway.completed));
  expect([problems, watch.below, gateway.oddities, open]).toEqual([[], [], [], []]);
  expect(verifySqliteLedger(gateway.ledgerPath).differences).toEqual([]);
  const expired = calls.filter(({ status }) => status === "expired").length;
  expect(gateway.completed.length).toBeGreaterThan(KILLS);
  expect(expired).toBeGreaterThan(KILLS);
  const line = `${KILLS} kills of a gateway with ${Math.round(inFlight / KILLS)} of ${STREAMS} streams open on average: of ${gateway.completed.length} calls answered whole 0 lost, 0 doubled, all settled as billed; ${expired} cut by a kill counted at their bound; ${watch.samples} looks, recorded + reserved never below the bill; 0 held at the end, seed ${SEED}`;
  process.stdout.write(`gateway kills: ${line}\n`);
  reportFigure("Crash", "gateway kills", line);
});
