/**
 * What must be in a ledger file after its processes were killed, known from what they said before: its rules share no code with the ledger's.
 */
import { compileLimits, totalsOf } from "../../src/core/decisions/counters.ts";
import { keepOwner } from "../../src/engine/owners.ts";
import type { CallRecord, Ledger } from "../../src/ledger/ledger.ts";
import { verifySqliteLedger } from "../../src/ledger/sqlite/verify.ts";
import { NOON_MS, ownerOf, rulesOf } from "../contract/samples.ts";
import { ADJUSTED, CALLER_LIMITS, type CallerLine, type Step } from "./caller.ts";
import { DirectLedger } from "./direct-ledger.ts";

interface Told {
  cost: bigint;
  asked: Set<Step>;
  did: Set<Step>;
}

/** Hears the lines of every process that worked on one file, and judges the file. */
export class Oracle {
  readonly #told = new Map<string, Told>();
  readonly problems: string[] = [];
  /** Settlements that were answered. */
  settledCount = 0;

  hear({ kind, what, id, cost }: CallerLine): void {
    const told = this.#told.get(id) ?? { cost: BigInt(cost), asked: new Set(), did: new Set() };
    this.#told.set(id, told);
    (kind === "asks" ? told.asked : told.did).add(what);
    if (kind === "did" && what === "settle") this.settledCount += 1;
  }

  /** What the provider bills: every call whose reservation was answered was made, unless it was about to be given back. */
  bill(): bigint {
    let sum = 0n;
    for (const { cost, asked, did } of this.#told.values()) if (did.has("reserve") && !asked.has("void")) sum += cost;
    return sum;
  }

  /** Opens the file, ends what dead processes left open, and compares everything with what was said. */
  async judgeFile(path: string): Promise<void> {
    const ledger = new DirectLedger(path);
    try {
      await this.#judgeLedger(ledger);
    } finally {
      ledger.end();
    }
    this.problems.push(...verifySqliteLedger(path).differences);
  }

  async #judgeLedger(ledger: Ledger): Promise<void> {
    const before = await totalsIn(ledger);
    if (before.spent + before.reserved < this.bill()) {
      this.problems.push(`recorded ${before.spent} + reserved ${before.reserved} is below the bill ${this.bill()}`);
    }
    const keeper = await keepOwner({
      ledger,
      clock: { nowMs: () => NOON_MS, after: () => () => undefined },
      notifier: { alert: () => undefined, warn: () => undefined },
      me: ownerOf("judge"),
      isDead: () => true,
      freed: () => undefined,
    });
    const { spent, reserved } = await totalsIn(ledger);
    if (reserved !== 0n) this.problems.push(`${reserved} is still held after recovery`);
    if (spent < this.bill()) this.problems.push(`recorded ${spent} is below the bill ${this.bill()}`);
    this.#judgeCalls(await ledger.calls({ limit: 1_000_000 }));
    await keeper.close();
  }

  /** @param calls all of the file, after the calls of dead processes were ended. */
  #judgeCalls(calls: readonly CallRecord[]): void {
    const found = new Map<string, CallRecord>();
    for (const call of calls) {
      if (found.has(call.callId)) this.problems.push(`${call.callId} is there twice`);
      found.set(call.callId, call);
      if (!this.#told.has(call.callId)) this.problems.push(`${call.callId} was never asked for`);
    }
    for (const [id, told] of this.#told) {
      const call = found.get(id);
      const allowed = endsAllowed(told);
      const status = call?.status ?? "absent";
      if (!allowed.includes(status)) this.problems.push(`${id} is ${status}; allowed: ${allowed.join(", ")}`);
      const costs = costsAllowed(told);
      if (status === "settled" && !costs.includes(call?.costNanoUsd ?? -1n)) {
        this.problems.push(`${id} is settled at ${call?.costNanoUsd} instead of ${costs.join(" or ")}`);
      }
    }
  }
}

async function totalsIn(ledger: Ledger): Promise<{ spent: bigint; reserved: bigint }> {
  const [compiled] = compileLimits(rulesOf(CALLER_LIMITS)).limits;
  const state = (await ledger.scopeStates()).get("all");
  return state === undefined || compiled === undefined ? { spent: 0n, reserved: 0n } : totalsOf(state, compiled, NOON_MS);
}

function endsAllowed({ asked, did }: Told): readonly string[] {
  if (asked.has("deny")) return did.has("deny") ? ["denied"] : ["denied", "absent"];
  if (did.has("settle")) return ["settled"];
  if (did.has("void")) return ["voided"];
  const open = did.has("reserve") ? ["expired"] : ["expired", "absent"];
  if (asked.has("settle")) return [...open, "settled"];
  if (asked.has("void")) return [...open, "voided"];
  return open;
}

function costsAllowed({ cost, asked, did }: Told): readonly bigint[] {
  if (did.has("adjust")) return [cost + ADJUSTED];
  return asked.has("adjust") ? [cost, cost + ADJUSTED] : [cost];
}
