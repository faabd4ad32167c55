/** The SQLite ledger with fsync: rate, against a commit per call and a bare journal on the same disk, in old age, and at its start. */
import { closeSync, fdatasyncSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import Database from "better-sqlite3";
import type { Ledger } from "../../src/ledger/ledger.ts";
import { createMemoryLedger } from "../../src/ledger/memory/memory-ledger.ts";
import { openSqliteLedger } from "../../src/ledger/sqlite/sqlite-ledger.ts";
import { folder, startPurser } from "../gateway/targets.ts";
import { median, type Row, type Section } from "../table.ts";
import { TEN_LIMITS } from "../ten-limits.ts";
import { reserveOf, settleOf } from "./operations.ts";

/** Each ledger has threads of its own, which begin with nothing compiled. */
const WARM_UP_MS = 4_000;

export interface LedgerOptions {
  rounds: number;
  roundMs: number;
  /** Sessions and entries of the old ledger. */
  oldSize: number;
}

interface Figures {
  callsPerSecond: number;
  p50Ms: number;
  p99Ms: number;
  /** Of the whole process: comparable also where the machine is shared. */
  cpuUs: number;
}

interface Load {
  inFlight: number;
  ms: number;
  /** Ends earlier with so many calls. */
  callsMax?: number;
  firstIndex?: number;
  sessions?: number;
}

async function run(ledger: Ledger, { inFlight, ms, callsMax = Infinity, firstIndex = 0, sessions = 64 }: Load): Promise<Figures> {
  const cpuBefore = process.cpuUsage();
  const startedMs = performance.now();
  const latenciesMs: number[] = [];
  let index = firstIndex;
  const caller = async (): Promise<void> => {
    while (performance.now() < startedMs + ms && index - firstIndex < callsMax) {
      const operation = reserveOf((index += 1), Date.now(), sessions);
      const beganMs = performance.now();
      const [reserved] = await ledger.apply([operation]);
      latenciesMs.push(performance.now() - beganMs);
      if (reserved?.outcome !== "reserved") throw new Error(`not admitted: ${reserved?.outcome}`);
      const [settled] = await ledger.apply([settleOf(operation.call.callId, Date.now())]);
      if (settled?.outcome !== "done") throw new Error(`not settled: ${settled?.outcome}`);
    }
  };
  await Promise.all(Array.from({ length: inFlight }, caller));
  const elapsedMs = performance.now() - startedMs;
  latenciesMs.sort((a, b) => a - b);
  const at = (share: number): number => latenciesMs[Math.floor(latenciesMs.length * share)] ?? Number.NaN;
  const { user, system } = process.cpuUsage(cpuBefore);
  const calls = latenciesMs.length;
  return { callsPerSecond: (calls * 1_000) / elapsedMs, p50Ms: at(0.5), p99Ms: at(0.99), cpuUs: (user + system) / calls };
}

async function configured(ledger: Ledger): Promise<Ledger> {
  await ledger.configure({ version: "bench", limits: TEN_LIMITS, downgrade: new Map(), atMs: Date.now() });
  return ledger;
}

/** One call after the other, each phase a transaction of its own: ten counters to reserve, ten counters and a row to settle. */
function commitPerCall(path: string, ms: number): number {
  const database = new Database(path);
  database.pragma("journal_mode = wal");
  database.pragma("synchronous = full");
  database.exec(
    "create table counter (id integer primary key, reserved integer, spent integer) strict; create table call (id integer primary key, body text) strict",
  );
  for (let id = 0; id < 10; id += 1) database.prepare("insert into counter values (?, 0, 0)").run(id);
  const hold = database.prepare("update counter set reserved = reserved + ? where id = ?");
  const spend = database.prepare("update counter set reserved = reserved - ?, spent = spent + ? where id = ?");
  const add = database.prepare("insert into call (body) values (?)");
  const body = JSON.stringify(reserveOf(1, 0).call);
  const reserve = database.transaction(() => {
    for (let id = 0; id < 10; id += 1) hold.run(351_200_000, id);
  });
  const settle = database.transaction(() => {
    for (let id = 0; id < 10; id += 1) spend.run(351_200_000, 270_720_000, id);
    add.run(body);
  });
  const startedMs = performance.now();
  let calls = 0;
  for (; performance.now() < startedMs + ms; calls += 1) {
    reserve();
    settle();
  }
  const perSecond = (calls * 1_000) / (performance.now() - startedMs);
  database.close();
  return perSecond;
}

/** What the disk gives: two records of a call's size, each appended and synced, for `inFlight` calls at once. */
function journal(path: string, inFlight: number, ms: number): number {
  const file = openSync(path, "w");
  const record = Buffer.alloc(600 * inFlight, 120);
  const startedMs = performance.now();
  let calls = 0;
  for (; performance.now() < startedMs + ms; calls += inFlight) {
    for (let phase = 0; phase < 2; phase += 1) {
      writeSync(file, record);
      fdatasyncSync(file);
    }
  }
  closeSync(file);
  return (calls * 1_000) / (performance.now() - startedMs);
}

export async function measureLedger({ rounds, roundMs, oldSize }: LedgerOptions): Promise<Section[]> {
  const own = mkdtempSync(join(folder, "ledgers-"));
  let fileCount = 0;
  const path = (): string => join(own, `ledger-${(fileCount += 1)}.db`);
  const open = async (): Promise<Ledger> => configured(await openSqliteLedger({ path: path() }));

  const IN_FLIGHT = [1, 64, 512];
  const found = new Map<string, Figures[]>();
  const scale: { commit: number[]; journal: number[] } = { commit: [], journal: [] };
  for (let round = 0; round < rounds; round += 1) {
    for (const inFlight of round % 2 === 0 ? IN_FLIGHT : IN_FLIGHT.toReversed()) {
      for (const [store, ledger] of [
        ["sqlite", await open()] as const,
        ["memory", await configured(createMemoryLedger())] as const,
      ]) {
        await run(ledger, { inFlight, ms: WARM_UP_MS });
        const figures = await run(ledger, { inFlight, ms: roundMs, firstIndex: 10_000_000 });
        await ledger.close();
        found.set(`${store} ${inFlight}`, [...(found.get(`${store} ${inFlight}`) ?? []), figures]);
      }
    }
    scale.commit.push(commitPerCall(path(), roundMs));
    scale.journal.push(journal(path(), 64, roundMs));
  }
  const of = (name: string, what: (one: Figures) => number): number => median((found.get(name) ?? []).map(what));
  const commit = median(scale.commit);
  const rates: Row[] = [...found.keys()].toSorted().map((name) => ({
    "ledger, calls in flight": name,
    "reserve + settle a second": of(name, ({ callsPerSecond }) => callsPerSecond),
    "× a commit per call": of(name, ({ callsPerSecond }) => callsPerSecond) / commit,
    "reserve p50, ms": of(name, ({ p50Ms }) => p50Ms),
    "reserve p99, ms": of(name, ({ p99Ms }) => p99Ms),
    "µs of processor a call": of(name, ({ cpuUs }) => cpuUs),
  }));
  rates.push(
    {
      "ledger, calls in flight": "a commit per phase of a call, one at a time",
      "reserve + settle a second": commit,
      "× a commit per call": 1,
    },
    {
      "ledger, calls in flight": "bare journal, write + fdatasync, 64",
      "reserve + settle a second": median(scale.journal),
      "× a commit per call": median(scale.journal) / commit,
    },
  );
  const sections = [
    {
      title: "Reserve and settle under ten limits, every answer durable",
      note: `Not pinned: the ledger's writer is a thread of its own. ${WARM_UP_MS / 1_000} s of warm-up, ${rounds} rounds of ${roundMs / 1_000} s, medians.`,
      rows: rates,
    },
    await measureAge(path(), oldSize, roundMs),
  ];
  rmSync(own, { recursive: true });
  return sections;
}

async function measureAge(path: string, oldSize: number, roundMs: number): Promise<Section> {
  const ledger = await configured(await openSqliteLedger({ path }));
  await run(ledger, { inFlight: 64, ms: 1_000, callsMax: 500, sessions: 1_000 });
  const rows: Row[] = [];
  let made = 500;
  for (const size of [1_000, oldSize / 10, oldSize]) {
    const missing = Math.max(0, size - made);
    if (missing > 0) await run(ledger, { inFlight: 512, ms: Infinity, callsMax: missing, firstIndex: made, sessions: size });
    made += missing;
    // As many sessions as there are, in an order that finds each again only after all the others.
    const { callsPerSecond, cpuUs } = await run(ledger, { inFlight: 64, ms: roundMs, firstIndex: made, sessions: size });
    made += Math.round((callsPerSecond * roundMs) / 1_000) + 64;
    rows.push({
      "sessions and calls in the ledger": size.toLocaleString("en-US"),
      "reserve + settle a second": callsPerSecond,
      "µs of processor a call": cpuUs,
    });
  }
  await ledger.close();
  const startedMs = performance.now();
  await (await configured(await openSqliteLedger({ path }))).close();
  rows.push({
    "sessions and calls in the ledger": `opening and closing it then, ms`,
    "reserve + settle a second": performance.now() - startedMs,
  });
  const beganMs = performance.now();
  const gateway = await startPurser(9, { ledgerPath: path });
  rows.push({
    "sessions and calls in the ledger": `\`purser serve\` until it is ready, ms`,
    "reserve + settle a second": performance.now() - beganMs,
  });
  await gateway.stop();
  return { title: "In old age", note: "64 in flight, a session after the other.", rows };
}
