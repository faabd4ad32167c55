/**
 * What must be in a ledger file after its processes were killed, known from what they said before: its rules share no code with the ledger's.
 */
import { compileLimits, totalsOf } from "../../src/core/decisions/counters.ts";
import { keepOwner } from "../../src/engine/owners.ts";
import type { CallRecord, Ledger } from "../../src/ledger/ledger.ts";
import { openSqliteLedger } from "../../src/ledger/sqlite/sqlite-ledger.ts";
import { verifySqliteLedger } from "../../src/ledger/sqlite/verify.ts";
import { NOON_MS, ownerOf, rulesOf } from "../contract/samples.ts";
import { CALLER_LIMITS, type CallerLine } from "./caller.ts";

interface Told {
  cost: bigint;
  asked: Set<string>;
  did: Set<string>;
}

/** Hears the lines of every process that worked on one file, and judges the file. */
export class Oracle {
  readonly #told = new Map<string, Told>();
  readonly problems: string[] = [];
  /** Settlements that were answered. */
  settledCount = 0;

  hear(line: CallerLine): void {
    if (line.kind === "closed") return;
    if (line.kind === "verified") {
      // A file whose maker was killed before its first call is no ledger yet; opening makes it one.
      if (this.#told.size > 0) this.problems.push(...line.differences);
      return;
    }
    const told = this.#told.get(line.id) ?? { cost: BigInt(line.cost), asked: new Set(), did: new Set() };
    this.#told.set(line.id, told);
    (line.kind === "asks" ? told.asked : told.did).add(line.what);
    if (line.kind === "did" && line.what === "settle") this.settledCount += 1;
  }

  /** What the provider bills: every call whose reservation was answered was made, unless it was about to be given back. */
  bill(): bigint {
    let sum = 0n;
    for (const { cost, asked, did } of this.#told.values()) if (did.has("reserve") && !asked.has("void")) sum += cost;
    return sum;
  }

  /** Opens the file, ends what dead processes left open, and compares everything with what was said. */
  async judgeFile(path: string): Promise<void> {
    const ledger = await openSqliteLedger({ path });
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
    this.judge(await ledger.calls({ limit: 1_000_000 }));
    await keeper.close();
    await ledger.close();
    this.problems.push(...verifySqliteLedger(path).differences);
  }

  /** @param calls all of the file, after the calls of dead processes were ended. */
  judge(calls: readonly CallRecord[]): void {
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
      if (status === "settled" && call?.costNanoUsd !== told.cost) {
        this.problems.push(`${id} is settled at ${call?.costNanoUsd} instead of ${told.cost}`);
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
  if (did.has("settle")) return ["settled"];
  if (did.has("void")) return ["voided"];
  const open = did.has("reserve") ? ["expired"] : ["expired", "absent"];
  if (asked.has("settle")) return [...open, "settled"];
  if (asked.has("void")) return [...open, "voided"];
  return open;
}
