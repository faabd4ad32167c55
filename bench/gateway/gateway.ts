/**
 * The gateway against what others put between: nginx, Portkey's gateway, a bare node:http + undici proxy, and nothing at all. One run,
 * interleaved, order reversed on odd rounds, medians.
 */
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Connection, forConnection, type LoadResult } from "../load/client.ts";
import { buildRequest, JSON_ANSWER, JSON_BODY, STREAM_ANSWER, STREAM_BODY_BYTES, type Manner } from "../load/traffic.ts";
import { cpuUs, LOAD_CORE, rssBytes, startPinned, watchOthers } from "../machine.ts";
import { median, type Row, type Section } from "../table.ts";
import {
  direct,
  folder,
  nextLine,
  startBareProxy,
  startNginx,
  startPortkey,
  startProvider,
  startPurser,
  type Target,
} from "./targets.ts";

export interface GatewayOptions {
  rounds: number;
  roundMs: number;
  warmUpMs: number;
}

interface Kind {
  name: string;
  connections: number;
  bytes: number;
  isStream: boolean;
}

const KINDS: Kind[] = [
  { name: "4 KB, 1 connection", connections: 1, bytes: 4_096, isStream: false },
  { name: "4 KB, 16 connections", connections: 16, bytes: 4_096, isStream: false },
  { name: "4 KB, 64 connections", connections: 64, bytes: 4_096, isStream: false },
  { name: "200 KB, 64 connections", connections: 64, bytes: 200_000, isStream: false },
  { name: "streams of 61 events, 64 connections", connections: 64, bytes: 4_096, isStream: true },
];
const OPEN_RATE = 300;
const PACED_RATE = 20;
const IDLE_STREAMS = 2_000;
/** A sample during which others used more of a core than this is taken again. */
const OTHERS_MAX = 0.15;
const RETAKES_MAX = 3;

const here = (file: string): string => fileURLToPath(new URL(file, import.meta.url));

/** The generator in C where there is a compiler; else the one in JavaScript, which may be the bottleneck in front of nginx. */
function compileLoad(): string | undefined {
  const path = join(folder, "load");
  return spawnSync("cc", ["-O2", "-o", path, here("../load/load.c")]).status === 0 ? path : undefined;
}

interface Sample extends LoadResult {
  perSecond: number;
  proxyCpuUs: number;
  others: number;
}

let requestCount = 0;
function requestFile(target: Target, kind: { bytes: number; isStream: boolean; manner?: Manner }): string {
  const path = join(folder, `request-${(requestCount += 1)}`);
  writeFileSync(path, buildRequest({ ...kind, host: `127.0.0.1:${target.port}`, headers: target.headers }));
  return path;
}

const payloadOf = (isStream: boolean): number => (isStream ? STREAM_BODY_BYTES : JSON_BODY.length);

async function sample(target: Target, load: () => Promise<LoadResult>): Promise<Sample> {
  for (let take = 1; ; take += 1) {
    const others = watchOthers(() => [...target.pids, ...loadPids]);
    const cpuBeforeUs = target.pids.reduce((sum, pid) => sum + cpuUs(pid), 0);
    const result = await load();
    const proxyCpuUs = (target.pids.reduce((sum, pid) => sum + cpuUs(pid), 0) - cpuBeforeUs) / result.calls;
    // The generator in C is a process of its own each time, gone by now: what it used, it said.
    const foreign = others() - (isShortLived ? result.cpuUs / (result.elapsedMs * 1_000) : 0);
    const perSecond = (result.calls * 1_000) / result.elapsedMs;
    if (!(foreign > OTHERS_MAX) || take === RETAKES_MAX) return { ...result, perSecond, proxyCpuUs, others: foreign };
  }
}

let loadPids: number[] = [];
let isShortLived = false;

export async function measureGateway(options: GatewayOptions): Promise<Section[]> {
  const sections: Section[] = [];
  const loadPath = compileLoad();
  const jsonFile = join(folder, "answer.json");
  const streamFile = join(folder, "answer.stream");
  writeFileSync(jsonFile, JSON_ANSWER);
  writeFileSync(streamFile, STREAM_ANSWER);
  const provider =
    loadPath === undefined ? startProvider() : startPinned(LOAD_CORE, loadPath, ["provider", jsonFile, streamFile]);
  const { targets, missing } = await startTargets(Number(await nextLine(provider)));
  const generator = startPinned(LOAD_CORE, process.execPath, [here("../load/client.ts")]);
  const ask = async (line: string): Promise<LoadResult> => {
    generator.stdin?.write(`${line}\n`);
    return JSON.parse(await nextLine(generator)) as LoadResult;
  };
  const closed = async (target: Target, kind: Kind, file: string, ms: number): Promise<LoadResult> => {
    const line = `${target.port} ${kind.connections} ${ms} ${file} ${payloadOf(kind.isStream)}`;
    if (loadPath === undefined) return ask(`closed ${line}`);
    return JSON.parse(await nextLine(startPinned(LOAD_CORE, loadPath, ["closed", ...line.split(" ")]))) as LoadResult;
  };
  loadPids = [provider.pid ?? 0, ...(loadPath === undefined ? [generator.pid ?? 0] : [])];
  isShortLived = loadPath !== undefined;

  const files = new Map<string, string>();
  for (const target of targets) for (const kind of KINDS) files.set(`${target.name} ${kind.name}`, requestFile(target, kind));
  const fileOf = (target: Target, kind: Kind): string => files.get(`${target.name} ${kind.name}`) ?? "";
  const canDo = (target: Target, kind: { isStream: boolean }): boolean => target.canStream || !kind.isStream;
  for (const target of targets) {
    if (target.pids.length === 0) continue;
    await closed(target, KINDS[2]!, fileOf(target, KINDS[2]!), options.warmUpMs);
    for (const kind of KINDS.slice(3))
      if (canDo(target, kind)) await closed(target, kind, fileOf(target, kind), options.warmUpMs / 2);
  }

  const kept = new Map<string, number[]>();
  const cpuRows: Row[] = [];
  const rateRows: Row[] = [];
  const ratioRows: Row[] = [];
  for (const kind of KINDS) {
    const able = targets.filter((target) => canDo(target, kind));
    const samples = new Map<string, Sample[]>(able.map(({ name }) => [name, []]));
    for (let round = 0; round < options.rounds; round += 1) {
      for (const target of round % 2 === 0 ? able : able.toReversed())
        samples.get(target.name)?.push(await sample(target, () => closed(target, kind, fileOf(target, kind), options.roundMs)));
    }
    kept.set(
      kind.name,
      [...samples.values()].flat().map(({ others }) => others),
    );
    const of = (name: string, what: (one: Sample) => number): number => median((samples.get(name) ?? []).map(what));
    const rate = (name: string): number => of(name, ({ perSecond }) => perSecond);
    rateRows.push({ "calls per second": kind.name, ...byTarget(able, (name) => rate(name)) });
    cpuRows.push({
      "µs of processor a call": kind.name,
      ...byTarget(able.slice(1), (name) => of(name, ({ proxyCpuUs }) => proxyCpuUs)),
    });
    ratioRows.push({
      "purser ÷": kind.name,
      nginx: rate("purser") / rate("nginx"),
      "bare proxy": rate("purser") / rate("bare proxy"),
      Portkey: rate("purser") / rate("Portkey"),
    });
  }
  const busy = Math.max(...[...kept.values()].flat());
  const quiet =
    busy > OTHERS_MAX
      ? ` **The machine was not quiet**: up to ${busy.toFixed(2)} of a core went to others; only ratios say something, and they little.`
      : "";
  const how = `${loadPath === undefined ? "Generator in JavaScript (no C compiler): in front of nginx it may be the limit" : "Generator and provider in C"}. Warm-up ${options.warmUpMs / 1_000} s a proxy at 4 KB and half of it at 200 KB and streams; ${options.rounds} rounds of ${options.roundMs / 1_000} s, order reversed on odd ones; medians.${quiet}`;
  sections.push({ title: "Throughput, each proxy on one core", note: [how, ...missing].join(" "), rows: rateRows });
  sections.push({ title: "Purser against the others", rows: ratioRows });
  sections.push({ title: "Processor time of the proxy", rows: cpuRows });
  sections.push(await measureLatency(targets, ask, options));
  generator.stdin?.end();
  for (const target of targets) await target.stop();
  provider.kill("SIGKILL");
  sections.push(...(await measureStreams(options)));
  return sections;
}

function byTarget(targets: readonly Target[], what: (name: string) => number): Row {
  return Object.fromEntries(targets.map(({ name }) => [name, what(name)]));
}

async function startTargets(providerPort: number): Promise<{ targets: Target[]; missing: string[] }> {
  const started = [
    direct(providerPort),
    await startNginx(providerPort),
    await startBareProxy(providerPort),
    await startPurser(providerPort),
    await startPortkey(providerPort),
  ];
  const missing = started.filter((one) => typeof one === "string");
  for (const line of missing) process.stdout.write(`${line}\n`);
  return { targets: started.filter((one) => typeof one !== "string"), missing };
}

type Ask = (line: string) => Promise<LoadResult>;

async function measureLatency(targets: readonly Target[], ask: Ask, options: GatewayOptions): Promise<Section> {
  const kind = { bytes: 4_096, isStream: false };
  const samples = new Map<string, LoadResult[]>(targets.map(({ name }) => [name, []]));
  for (let round = -1; round < options.rounds; round += 1) {
    for (const target of round % 2 === 0 ? targets : targets.toReversed()) {
      const ms = Math.max(2_000, options.roundMs * 2);
      const one = await ask(`open ${target.port} ${OPEN_RATE} ${ms} ${requestFile(target, kind)} ${payloadOf(false)}`);
      if (round >= 0) samples.get(target.name)?.push(one);
    }
  }
  const of = (name: string, what: (one: LoadResult) => number): number => median((samples.get(name) ?? []).map(what)) / 1_000;
  const rows = targets.map(({ name }) => ({
    [`ms at ${OPEN_RATE} requests a second`]: name,
    p50: of(name, ({ p50Us }) => p50Us),
    p99: of(name, ({ p99Us }) => p99Us),
    "p50 added": of(name, ({ p50Us }) => p50Us) - of("direct", ({ p50Us }) => p50Us),
    "p99 added": of(name, ({ p99Us }) => p99Us) - of("direct", ({ p99Us }) => p99Us),
  }));
  return {
    title: "Latency at a fixed rate of arrival, 4 KB",
    note: "From the sending of a request to the last byte of its answer; requests are sent whether or not earlier ones are answered.",
    rows,
  };
}

/** Paced and held streams: the provider in JavaScript, which can do both. */
async function measureStreams(options: GatewayOptions): Promise<Section[]> {
  const provider = startProvider();
  const providerPort = Number(await nextLine(provider));
  const generator = startPinned(LOAD_CORE, process.execPath, [here("../load/client.ts")]);
  const ask: Ask = async (line) => {
    generator.stdin?.write(`${line}\n`);
    return JSON.parse(await nextLine(generator)) as LoadResult;
  };
  const started = [
    direct(providerPort),
    await startNginx(providerPort),
    await startBareProxy(providerPort),
    await startPurser(providerPort),
  ];
  const targets = started.filter((one) => typeof one !== "string");
  const samples = new Map<string, LoadResult[]>(targets.map(({ name }) => [name, []]));
  for (let round = -1; round < Math.min(2, options.rounds); round += 1) {
    for (const target of round % 2 === 0 ? targets : targets.toReversed()) {
      if (round < 0)
        await ask(`closed ${target.port} 16 1500 ${requestFile(target, { bytes: 4_096, isStream: true })} ${STREAM_BODY_BYTES}`);
      const file = requestFile(target, { bytes: 4_096, isStream: true, manner: "paced" });
      const one = await ask(
        `open ${target.port} ${PACED_RATE} ${Math.max(1_500, options.roundMs * 2)} ${file} ${STREAM_BODY_BYTES}`,
      );
      if (round >= 0) samples.get(target.name)?.push(one);
    }
  }
  const of = (name: string, what: (one: LoadResult) => number | undefined): number =>
    median((samples.get(name) ?? []).map((one) => what(one) ?? Number.NaN)) / 1_000;
  const paced = targets.map(({ name }) => ({
    ms: name,
    "first byte p50": of(name, ({ firstByteP50Us }) => firstByteP50Us),
    "first byte p99": of(name, ({ firstByteP99Us }) => firstByteP99Us),
    "first byte added p50":
      of(name, ({ firstByteP50Us }) => firstByteP50Us) - of("direct", ({ firstByteP50Us }) => firstByteP50Us),
    "an event p50": of(name, ({ eventP50Us }) => eventP50Us),
    "an event p99": of(name, ({ eventP99Us }) => eventP99Us),
  }));
  generator.stdin?.end();
  const idle: Row[] = [];
  for (const target of targets.slice(1)) idle.push(await measureIdle(target, () => provider.stdin?.write("release\n")));
  for (const target of targets) await target.stop();
  provider.kill("SIGKILL");
  return [
    {
      title: "Streams with an event every 10 ms",
      note: `${PACED_RATE} streams a second of 61 events; an event's delay is from the provider's sending to its arrival at the caller.`,
      rows: paced,
    },
    { title: `${IDLE_STREAMS.toLocaleString("en-US")} streams open at once, nothing moving`, rows: idle },
  ];
}

async function measureIdle(target: Target, release: () => void): Promise<Row> {
  const [pid = 0] = target.pids;
  const beforeMb = rssBytes(pid) / 1e6;
  const request = buildRequest({
    bytes: 4_096,
    isStream: true,
    manner: "held",
    host: `127.0.0.1:${target.port}`,
    headers: target.headers,
  });
  const running: Promise<number>[] = [];
  const begun = new Set<number>();
  for (let index = 0; index < IDLE_STREAMS; index += 1) {
    const connection = new Connection(target.port, undefined, () => begun.add(index));
    running.push(
      connection.send(forConnection(request, index)).then(({ status, payloadBytes }) => {
        connection.close();
        return status === 200 ? payloadBytes : 0;
      }),
    );
    if (index % 50 === 49) await new Promise((resolve) => setTimeout(resolve, 25));
  }
  const untilMs = performance.now() + 20_000;
  while (begun.size < IDLE_STREAMS && performance.now() < untilMs) await new Promise((resolve) => setTimeout(resolve, 50));
  if (begun.size < IDLE_STREAMS) throw new Error(`${target.name}: only ${begun.size} of ${IDLE_STREAMS} streams began`);
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  const heldMb = rssBytes(pid) / 1e6;
  release();
  const whole = (await Promise.all(running)).filter((bytes) => bytes === STREAM_BODY_BYTES).length;
  if (whole !== IDLE_STREAMS) throw new Error(`${target.name}: ${whole} of ${IDLE_STREAMS} held streams ended whole`);
  return {
    "memory (RSS), MB": target.name,
    before: beforeMb,
    "with all open": heldMb,
    "KB a stream": ((heldMb - beforeMb) * 1_000) / IDLE_STREAMS,
  };
}
