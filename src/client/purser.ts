/**
 * Composition root of the client: chooses the concrete ledger, clock and providers, and puts them together.
 * Does not own the gateway, which does the same for other processes.
 */
import type { Config } from "../config/config.ts";
import { readConfigObject, type ConfigObject } from "../config/config-object.ts";
import { parseLedgerLocation } from "../config/ledger-location.ts";
import { builtInPrices } from "../config/price-book.ts";
import type { Labels } from "../engine/identify.ts";
import { startEngine, type StartedEngine } from "../exchange/start-engine.ts";
import { within } from "../exchange/incoming.ts";
import { createSystemClock } from "../exchange/system.ts";
import type { Ledger } from "../ledger/ledger.ts";
import type { StatusJson } from "../reports/status-report.ts";
import { createEnding, type OwnEnding } from "./ending.ts";
import { createEvents, type Events, type PurserEvents } from "./events.ts";
import { createFetch, type Caller } from "./fetch.ts";
import { InvalidConfigError } from "./invalid-config-error.ts";
import { createLanguageModelMiddleware, type LanguageModelMiddleware } from "./language-model.ts";
import { createMeter, type Meter } from "./meter.ts";
import { createMiddleware, type SdkMiddleware } from "./middleware.ts";
import type { Fetch } from "./request.ts";
import { createScopeStack, labelsOfScopes, type CallScopes, type ScopeStack } from "./scopes.ts";
import { readStatus } from "./status.ts";
import { targetsOf } from "./targets.ts";
import { createTool, type ToolWrapper } from "./tool.ts";

/** How a Purser is made. */
export interface CreatePurserOptions {
  /** The members of `purser.yaml`, or the path of a file of them. @defaultValue what holds without a file: $50 a day for everything */
  config?: string | ConfigObject;
  /** Where calls are kept: a path, `sqlite:PATH`, or a ledger that is open. @defaultValue `.purser/ledger.db` */
  ledger?: string | Ledger;
  /** What calls are sent with. @defaultValue the process's own `fetch` */
  fetch?: Fetch;
}

/** What a call can be made with, under certain scopes. */
export interface PurserHandle {
  /** For the `fetch` option of an SDK. What goes to no provider passes untouched. */
  readonly fetch: Fetch;
  /**
   * Calls any other API that is paid per call (search, images, speech) under the same limits: the most it can use is set aside before
   * the function runs, and what it used is settled after.
   *
   * @remarks A function that throws is counted at all that was asked for, since nobody can see whether the other side counted it; one
   * that knows better says so with `call.used` or `call.notSent` before it throws.
   * @throws {@link LimitReachedError} if a limit says no: the function did not run.
   * @example
   * const results = await purser.meter("web-search", { units: 1 }, ({ signal }) => fetch(searchUrl, { signal }));
   */
  readonly meter: Meter;
  /**
   * Counts a tool under the limits of `toolCalls`, and refuses it before it runs: what it returns then says until when, for the model to
   * read, and the agent goes on.
   *
   * @example
   * const search = purser.tool("web_search", async ({ query }: { query: string }) => find(query));
   */
  readonly tool: ToolWrapper;
  /** For the `middleware` option of `@anthropic-ai/sdk` and its clients that sign or encode after the request is made (Bedrock, Vertex). */
  readonly middleware: SdkMiddleware;
  /** For `wrapLanguageModel` of the AI SDK: calls of that model count for these scopes. The model's provider is given {@link fetch}. */
  languageModel(scopes: CallScopes): LanguageModelMiddleware;
  /** Runs a function with scopes around everything in it, however deep; what is nearer to a call wins. */
  run<Result>(scopes: CallScopes, fn: () => Result): Result;
  /** The same for code that cannot nest: a handle whose calls have these scopes. */
  with(scopes: CallScopes): PurserHandle;
  /** What every limit holds now; with scopes, those that calls with them are counted by. */
  status(scopes?: CallScopes): Promise<StatusJson[]>;
}

/** Limits and the ledger, in this process. */
export interface Purser extends PurserHandle {
  /** Calls a listener whenever something happened; the returned function stops that. */
  on<Name extends keyof PurserEvents>(name: Name, listener: (event: PurserEvents[Name]) => void): () => void;
  /**
   * Takes no more calls, waits for those that run, and closes the ledger. What still runs at the deadline is cut and settled at what is
   * known.
   *
   * @param options.deadlineMs @defaultValue 10,000
   */
  close(options?: { deadlineMs?: number }): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Opens the ledger and puts the limits in force.
 *
 * @throws {@link InvalidConfigError} naming every mistake; whatever opening the ledger throws.
 * @example
 * const purser = await createPurser({ config: { limits: [{ name: "day", per: "all", usd: 5, every: "day" }] } });
 * const anthropic = new Anthropic({ fetch: purser.fetch });
 */
export async function createPurser(options: CreatePurserOptions = {}): Promise<Purser> {
  return startPurser(await readOptions(options), options);
}

async function readOptions({ config = {} }: CreatePurserOptions): Promise<Config> {
  if (typeof config !== "string") return configOf(readConfigObject({ config, knownPrices: builtInPrices() }));
  // Only here, so that a configuration in code needs no YAML.
  const { loadConfig } = await import("../config/load-config.ts");
  return configOf(await loadConfig({ path: config, env: process.env }));
}

/** The configuration that was read. @throws {@link InvalidConfigError} */
export function configOf(read: ReturnType<typeof readConfigObject>): Config {
  if (read.outcome === "invalid") throw new InvalidConfigError(read.problems);
  return read.config;
}

/** The same with a configuration that is read already. */
export async function startPurser(config: Config, options: Omit<CreatePurserOptions, "config">): Promise<Purser> {
  const { ledger: wanted } = options;
  const isOwn = wanted === undefined || typeof wanted === "string";
  const ledger = isOwn ? await openLedger(wanted ?? config.ledger.path) : wanted;
  try {
    return await startOn(ledger, { config, isOwn, fetch: options.fetch });
  } catch (error) {
    if (isOwn) await ledger.close();
    throw error;
  }
}

async function openLedger(where: string): Promise<Ledger> {
  const parsed = parseLedgerLocation(where);
  if (parsed.outcome !== "read") {
    throw new RangeError(`ledger: found ${parsed.found}; allowed: ${parsed.allowed}`);
  }
  // Only here, so that a ledger that is handed in needs no driver.
  const { openSqliteLedger } = await import("../ledger/sqlite/sqlite-ledger.ts");
  return openSqliteLedger({ path: parsed.location.path, isBackground: true });
}

async function startOn(
  ledger: Ledger,
  { config, isOwn, fetch }: { config: Config; isOwn: boolean; fetch: Fetch | undefined },
): Promise<Purser> {
  const clock = createSystemClock();
  const events = createEvents();
  const started = await startEngine({ ledger, config, clock, notifier: events.notifier, keepsLimits: true });
  const ending = createEnding(started.engine, clock);
  const stack = createScopeStack();
  const caller: Caller = {
    engine: started.engine,
    clock,
    ids: started.ids,
    config: started.config,
    targets: targetsOf(config.upstreams),
    events,
    fetch,
    ending,
  };
  const parts = { caller, stack, readStatus: (labels: Labels) => readStatus({ ledger, clock, labels }) };
  return purserOf(handleOf(parts, {}), { events, ending, started, ledger: isOwn ? ledger : undefined });
}

interface Parts {
  caller: Caller;
  stack: ScopeStack;
  readStatus(labels: Labels): Promise<StatusJson[]>;
}

function handleOf(parts: Parts, bound: Labels): PurserHandle {
  const { caller, stack } = parts;
  const around = (): Labels => within(stack.current(), bound);
  const run: PurserHandle["run"] = (scopes, fn) => stack.run(within(bound, labelsOfScopes(scopes)), fn);
  return {
    fetch: createFetch(caller, around),
    meter: createMeter(caller, around),
    tool: createTool(caller, around),
    middleware: createMiddleware(caller, around),
    languageModel: (scopes) => createLanguageModelMiddleware(run, scopes),
    run,
    with: (scopes) => handleOf(parts, within(bound, labelsOfScopes(scopes))),
    status: (scopes = {}) => parts.readStatus(within(bound, labelsOfScopes(scopes))),
  };
}

function purserOf(
  handle: PurserHandle,
  parts: { events: Events; ending: OwnEnding; started: StartedEngine; ledger: Ledger | undefined },
): Purser {
  const { events, ending, started, ledger } = parts;
  let closed: Promise<void> | undefined;
  const closeOnce = async (deadlineMs: number): Promise<void> => {
    await ending.end(deadlineMs);
    await started.close();
    await ledger?.close();
  };
  const close: Purser["close"] = ({ deadlineMs = CLOSE_MS } = {}) => (closed ??= closeOnce(deadlineMs));
  return { ...handle, on: (name, listener) => events.on(name, listener), close, [Symbol.asyncDispose]: () => close() };
}

/** Most calls end sooner; whoever knows better says so. */
const CLOSE_MS = 10_000;
