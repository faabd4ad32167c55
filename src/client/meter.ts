/**
 * Owns calls of APIs that are paid per call and not by tokens: having them decided, running them, telling the engine what they used.
 * Does not own the decision or the ending (engine/), or what a unit costs (the configuration's prices).
 * Invariants: the function runs only once its reservation stands; a call ends once, whatever the function does; what nobody knows is
 * counted at all that was asked for.
 */
import type { Amount } from "../config/config-object.ts";
import type { PaidUnits } from "../core/usage/usage.ts";
import { parseUsd } from "../core/money/money.ts";
import type { Labels } from "../engine/identify.ts";
import type { RunningCall } from "../engine/running-call.ts";
import type { CallEnd } from "../engine/settlement.ts";
import { meteredApi, readingOf, TOOL_PROVIDER } from "../providers/metered.ts";
import { tellSettled } from "./events.ts";
import type { Caller } from "./fetch.ts";
import { openCall, type WaitOptions } from "./open-call.ts";
import { assertLabel } from "./scopes.ts";

/** So much of it: units that the configuration prices, or money. */
export type Used =
  | { /** A whole number of what `prices: { NAME: { usdPerUnit } }` prices. */ units: number; usd?: never }
  | { /** US dollars as they are written, such as `"0.005"`. */ usd: Amount; units?: never };

/** The most that a call can use, and how long it may wait for it. */
export type MeterOptions = Used & WaitOptions;

/** A call that was admitted, for the function that makes it. */
export interface MeteredCall {
  /** By which `purser calls --explain` finds the decision. */
  readonly callId: string;
  /** Fires when the caller's own does, or when Purser is closed. */
  readonly signal: AbortSignal;
  /** What the call really used, once that is known; said again, the last one counts. Not said: all that was asked for. */
  used: (actual: Used) => void;
  /** Nothing left this process: the call costs nothing and counts for nothing. */
  notSent: () => void;
}

export type Meter = <Result>(
  name: string,
  options: MeterOptions,
  fn: (call: MeteredCall) => Result | PromiseLike<Result>,
) => Promise<Result>;

/** @param around the scopes that hold where it is called. */
export function createMeter(caller: Caller, around: () => Labels): Meter {
  return async (name, options, fn) => {
    assertLabel("name", name);
    assertFree(caller, name);
    const asked = unitsOf(options);
    const call = await openCall(caller, { api: meteredApi(name, asked), labels: around(), wait: options });
    const running = new Running(caller, { name, asked, call, signal: options.signal });
    return running.run(fn);
  };
}

class Running {
  readonly #caller: Caller;
  readonly #name: string;
  readonly #asked: PaidUnits;
  readonly #call: RunningCall;
  readonly #signal: AbortSignal | undefined;
  readonly #cutting = new AbortController();
  #used: PaidUnits | undefined;
  #isSent = true;
  #isEnded = false;

  constructor(caller: Caller, input: { name: string; asked: PaidUnits; call: RunningCall; signal: AbortSignal | undefined }) {
    this.#caller = caller;
    this.#name = input.name;
    this.#asked = input.asked;
    this.#call = input.call;
    this.#signal = input.signal;
  }

  async run<Result>(fn: (call: MeteredCall) => Result | PromiseLike<Result>): Promise<Result> {
    const { ending } = this.#caller;
    const cut = (): void => this.#cut();
    ending.running.add(cut);
    this.#call.markSent();
    try {
      const result = await fn(this.#handle());
      await this.#end(this.#used ?? this.#asked);
      return result;
    } catch (error) {
      await this.#end(this.#used);
      throw error;
    } finally {
      ending.running.delete(cut);
    }
  }

  #handle(): MeteredCall {
    const { callId } = this.#call;
    const { signal } = this.#cutting;
    return {
      callId,
      signal: this.#signal === undefined ? signal : AbortSignal.any([this.#signal, signal]),
      used: (actual) => {
        this.#used = unitsOf(actual);
        this.#isSent = true;
      },
      notSent: () => {
        this.#isSent = false;
      },
    };
  }

  #cut(): void {
    this.#cutting.abort(new Error("Purser was closed"));
    void this.#end(this.#used);
  }

  async #end(used: PaidUnits | undefined): Promise<void> {
    if (this.#isEnded) return;
    this.#isEnded = true;
    const settled = await this.#call.end(this.#isSent ? endOf(this.#name, used) : { kind: "not_sent", reason: "not_sent" });
    tellSettled(this.#caller.events, this.#call, settled);
  }
}

/** What nobody says was used may have been used whole. */
function endOf(name: string, used: PaidUnits | undefined): CallEnd {
  return used === undefined
    ? { kind: "lost", by: "upstream" }
    : { kind: "completed", status: 200, reading: readingOf(name, used) };
}

/** Names that mean something else in the ledger. */
function assertFree({ targets }: Caller, name: string): void {
  const isTaken = name === TOOL_PROVIDER || targets.some(({ provider }) => provider === name);
  if (isTaken) throw new RangeError(`name is ${JSON.stringify(name)}; another name is allowed: that one is a provider's`);
}

function unitsOf({ units, usd }: { units?: unknown; usd?: unknown }): PaidUnits {
  if ((units === undefined) === (usd === undefined)) throw new RangeError("exactly one of units and usd is allowed");
  if (usd === undefined) {
    if (typeof units === "number" && Number.isSafeInteger(units) && units >= 0) return { count: units };
    throw new RangeError(`units is ${String(units)}; a whole number of at least 0 is allowed`);
  }
  const statedNanoUsd = isAmount(usd) ? parseUsd(String(usd)) : undefined;
  if (statedNanoUsd !== undefined) return { statedNanoUsd };
  const found = isAmount(usd) ? String(usd) : typeof usd;
  throw new RangeError(`usd is ${found}; US dollars as a plain number such as "0.005" are allowed, up to 9 decimals`);
}

function isAmount(value: unknown): value is Amount {
  return typeof value === "string" || typeof value === "number" || typeof value === "bigint";
}
