/**
 * Composition root of the gateway: chooses the concrete ledger, clock, provider and upstream, and puts them together.
 * Does not own the command line around it (cli/commands/serve.ts).
 */
import { watchFile, unwatchFile } from "node:fs";
import type { AddressInfo } from "node:net";
import { totalmem } from "node:os";
import { loadConfig, type LoadConfigResult } from "../config/load-config.ts";
import type { Config } from "../config/config.ts";
import { createBatchResults } from "../engine/batch-results.ts";
import { createBatches } from "../engine/batches.ts";
import type { Engine } from "../engine/pipeline.ts";
import type { Clock, Notifier } from "../engine/ports.ts";
import { isLedgerUnavailable } from "../engine/refusing.ts";
import type { Ledger } from "../ledger/ledger.ts";
import { openSqliteLedger } from "../ledger/sqlite/sqlite-ledger.ts";
import { archiveInThread } from "../ledger/sqlite/archive-in-thread.ts";
import { keepArchiving } from "./archiving.ts";
import { createBatchDesk } from "./batches.ts";
import { keepBatches } from "./batch-keeper.ts";
import { createBodyMemory } from "./body.ts";
import { createDoor, createLoadProbe, type LoadProbe } from "./door.ts";
import { createKeyFinder } from "./keys.ts";
import { createGatewayServer, type Account } from "./server.ts";
import type { ProviderName } from "../exchange/apis.ts";
import { createSlowBodies } from "./slow-bodies.ts";
import { startEngine } from "../exchange/start-engine.ts";
import { createSystemClock } from "../exchange/system.ts";
import { createUpstream } from "./upstream.ts";

/** How often the configuration's file is looked at; a look is one stat. */
const RELOAD_LOOK_MS = 250;
/** Of the machine's memory, bodies of requests may take one part in so many. */
const BODY_MEMORY_SHARE = 4;
/** How soon a change that the ledger could not take is tried again. */
const RELOAD_RETRY_MS = 1_000;

export interface GatewayInput {
  config: Config;
  /** Read again when it changes; `undefined`: there is no file. */
  configPath?: string | undefined;
  env: Readonly<Record<string, string | undefined>>;
  notifier: Notifier;
  /** Defaults to this machine's clock. */
  clock?: Clock;
  /** Defaults to the SQLite file of the configuration. Closed with the gateway. */
  ledger?: Ledger;
  timeouts?: { headersMs?: number; bodyMs?: number; slowBodyMs?: number };
  /** How this process does. Defaults to looking at it. */
  load?: LoadProbe;
  /** Calls that are open at once. Defaults to some thousands. */
  openCallsMax?: number;
  /** What the bodies of all calls together may take. Defaults to a quarter of the machine's memory. */
  bodyMemoryBytesMax?: number;
  /** Told after each reload that took effect, and of each that did not. */
  onReload?: (result: LoadConfigResult) => void;
}

export interface Gateway {
  /** Where it listens, such as `http://127.0.0.1:4141`. */
  url: string;
  engine: Engine;
  ledger: Ledger;
  /** The configuration in force. */
  config(): Config;
  /** Puts another configuration in force, in the middle of traffic. */
  reload(config: Config): Promise<void>;
  /**
   * Takes no more calls, lets those running finish until the deadline, then cuts them and settles what is known.
   *
   * @returns how many were cut.
   */
  close(deadlineMs: number): Promise<{ cut: number }>;
}

/** Connections that wait to be accepted: beyond it the operating system drops them without a word. It caps this where it allows less. */
const BACKLOG = 4_096;

/** Opens the ledger, recovers what dead processes left, and listens. */
export async function startGateway(input: GatewayInput): Promise<Gateway> {
  const ledger = input.ledger ?? (await openSqliteLedger({ path: input.config.ledger.path }));
  try {
    return await startOn(ledger, input);
  } catch (error) {
    // Its threads would keep the process from ending.
    await ledger.close();
    throw error;
  }
}

async function startOn(ledger: Ledger, input: GatewayInput): Promise<Gateway> {
  const clock = input.clock ?? createSystemClock();
  const started = await startEngine({ ledger, config: input.config, clock, notifier: input.notifier });
  const { engine, ids } = started;

  const accounts = openAccounts(input);
  const closeAccounts = (): Promise<unknown> => Promise.all(Object.values(accounts).map(({ upstream }) => upstream.close()));
  const load = input.load ?? createLoadProbe(() => ledger.waitedMs());
  const door = createDoor(load, input.openCallsMax);
  const slowBodies = createSlowBodies(clock, input.timeouts?.slowBodyMs);
  const { notifier } = input;
  const shared = { ledger, clock, ids, notifier, rules: started.rules };
  const results = createBatchResults({ ...shared, freed: (counterIds) => engine.freed(counterIds) });
  const batches = createBatches({ ...shared, common: engine.common, results });
  const keeper = keepBatches({ ledger, results, accounts, clock, notifier });
  const runningCount = (): number => engine.runningCount + batches.runningCount;
  const server = createGatewayServer({
    engine,
    answerBatch: createBatchDesk({ batches, results, ledger, keeper, notifier }),
    accounts,
    settings: () => ({
      bodyBytesMax: started.config().server.bodyBytesMax,
      onClientAbort: started.config().onClientAbort,
      // Where it listens was decided at start; a reload does not move it.
      isPassthroughAllowed: isLoopback(input.config.server.host) || started.config().server.passthroughKeys === "allow",
    }),
    door,
    slowBodies,
    bodyMemory: createBodyMemory(input.bodyMemoryBytesMax ?? memoryBytes() / BODY_MEMORY_SHARE),
    findKey: createKeyFinder(ledger, clock),
    clock,
    ids,
    notifier: input.notifier,
    isReady: () => !door.isEnding && started.isLedgerWritable(),
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    const { port, host } = input.config.server;
    server.listen({ port, host, backlog: BACKLOG }, () => {
      server.off("error", reject);
      resolve();
    });
  }).catch(async (error: unknown) => {
    load.close();
    slowBodies.close();
    await closeAccounts();
    await keeper.close();
    await started.close();
    throw error;
  });

  // A ledger that was handed in is its owner's.
  const archiving =
    input.ledger === undefined
      ? keepArchiving({
          clock,
          notifier: input.notifier,
          keepDays: () => started.config().ledger.keepDays,
          archive: (instants) => archiveInThread({ path: input.config.ledger.path, ...instants }),
        })
      : undefined;

  const reload = async (wanted: Config): Promise<void> => {
    await started.reload(wanted);
    const fixed = changedForGood(input.config, wanted);
    if (fixed.length > 0) input.notifier.warn("restart_needed", { settings: fixed.join(", ") });
  };
  const stopWatching = watchConfig(input, reload, started.config);

  return {
    url: urlOf(server.address() as AddressInfo),
    engine,
    ledger,
    config: started.config,
    reload,
    async close(deadlineMs) {
      door.end();
      stopWatching();
      const archived = archiving?.close();
      const deadlineAtMs = clock.nowMs() + deadlineMs;
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeIdleConnections();
      while (runningCount() > 0 && clock.nowMs() < deadlineAtMs) await sleep(Math.min(20, deadlineAtMs - clock.nowMs()));
      const cut = runningCount();
      // A call is settled before the end of its answer is written: what is settled still has to reach its caller.
      await writtenOut(closed, () => server.closeIdleConnections(), cut > 0 ? 0 : Math.min(WRITE_OUT_MS_MAX, deadlineMs));
      server.closeAllConnections();
      await closed;
      // Answers that are read on for callers who left end here too, so that they are settled before the ledger closes.
      await closeAccounts();
      await keeper.close();
      load.close();
      slowBodies.close();
      while (runningCount() > 0 && clock.nowMs() < deadlineAtMs + CUT_MS_MAX) await sleep(5);
      await engine.flush(deadlineAtMs + CUT_MS_MAX);
      await archived;
      await started.close();
      await ledger.close();
      return { cut };
    },
  };
}

/** What this machine has, or the container this runs in. */
function memoryBytes(): number {
  const constrained = process.constrainedMemory();
  return constrained > 0 ? Math.min(totalmem(), constrained) : totalmem();
}

/** Time for cut calls to be settled after the deadline. */
const CUT_MS_MAX = 5_000;

/** Time for the last answers to be written once every call is settled: a caller that does not read is not waited for longer. */
const WRITE_OUT_MS_MAX = 2_000;

/** Waits until every connection has ended, closing those that became idle, for at most so long. */
async function writtenOut(closed: Promise<void>, closeIdle: () => void, waitMs: number): Promise<void> {
  const looking = setInterval(closeIdle, 5);
  let limit: NodeJS.Timeout | undefined;
  await Promise.race([closed, new Promise<void>((resolve) => (limit = setTimeout(resolve, waitMs)))]);
  clearInterval(looking);
  clearTimeout(limit);
}

function sleep(waitMs: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, waitMs));
}

function openAccounts({ config, env, timeouts }: GatewayInput): Record<ProviderName, Account> {
  const open = (provider: ProviderName, keyVariable: string): Account => ({
    upstream: createUpstream(config.upstreams[provider], timeouts),
    host: new URL(config.upstreams[provider]).host,
    key: nonEmpty(env[keyVariable]),
    keyVariable,
  });
  return { anthropic: open("anthropic", "ANTHROPIC_API_KEY"), openai: open("openai", "OPENAI_API_KEY") };
}

function nonEmpty(text: string | undefined): string | undefined {
  return text === "" ? undefined : text;
}

function urlOf({ address, family, port }: AddressInfo): string {
  return `http://${family === "IPv6" ? `[${address}]` : address}:${port}`;
}

/** True if only this machine can reach the address. */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127(\.\d{1,3}){3}$/.test(host);
}

/** Settings that were decided at start: changing them in the file changes nothing until the next one, which has to be said. */
function changedForGood(started: Config, next: Config): string[] {
  return [
    ...(started.upstreams.anthropic === next.upstreams.anthropic ? [] : ["upstreams.anthropic"]),
    ...(started.upstreams.openai === next.upstreams.openai ? [] : ["upstreams.openai"]),
    ...(started.server.host === next.server.host ? [] : ["server.host"]),
    ...(started.server.port === next.server.port ? [] : ["server.port"]),
  ];
}

/** Reads the file again whenever it changes. A file that cannot be used changes nothing and is told. */
function watchConfig(
  { config: started, configPath, env, onReload, notifier }: GatewayInput,
  reload: (config: Config) => Promise<void>,
  inForce: () => Config,
): () => void {
  if (configPath === undefined) return () => undefined;
  let isStopped = false;
  let lastLook = Promise.resolve();
  const look = async (): Promise<void> => {
    const result = await loadConfig({ path: configPath, env });
    if (isStopped || (result.outcome === "read" && result.config.version === inForce().version)) return;
    if (result.outcome === "read") await reload(result.config);
    onReload?.(result);
  };
  const tell = (error: unknown): void => {
    notifier.warn("reload_failed", { reason: error instanceof Error ? error.message : "unknown" });
    // A ledger that cannot be written now takes the change later: the file will not change a second time for that.
    if (!isStopped && isLedgerUnavailable(error)) setTimeout(listener, RELOAD_RETRY_MS).unref();
  };
  // One look after the other, so that the later change wins.
  const listener = (): void => {
    lastLook = lastLook.then(look).catch(tell);
  };
  watchFile(configPath, { interval: RELOAD_LOOK_MS, persistent: false }, listener);
  const second = setTimeout(() => void lookAgain(), 2 * RELOAD_LOOK_MS).unref();
  /** A change between the reading and the first look of the watch is seen by neither: one more reading finds it. */
  async function lookAgain(): Promise<void> {
    const result = await loadConfig({ path: configPath, env });
    // Whatever is wrong with the file was told at the start, or is told with its next change.
    if (result.outcome === "read" && result.config.version !== started.version && inForce() === started) listener();
  }
  return () => {
    isStopped = true;
    clearTimeout(second);
    unwatchFile(configPath, listener);
  };
}
