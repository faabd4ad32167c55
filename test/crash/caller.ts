/**
 * A process that works on several ledger files until it is killed: started by kill-points.ts. For each file it checks what the last
 * kill left, then makes calls, several in flight, and closes. A line is written before the next thing happens.
 */
import { existsSync, statSync, writeSync } from "node:fs";
import type { Operation } from "../../src/core/decisions/operations.ts";
import type { Ledger } from "../../src/ledger/ledger.ts";
import { openSqliteLedger } from "../../src/ledger/sqlite/sqlite-ledger.ts";
import { verifySqliteLedger } from "../../src/ledger/sqlite/verify.ts";
import { limitOf, ownerOf, renewOf, reserveOf, rulesOf, settleOf, voidOf } from "../contract/samples.ts";

/** What a caller says, as JSON, a line each; `file` is the place of the ledger among its arguments. */
export type CallerLine = { file: number } & (
  | { kind: "verified"; differences: readonly string[] }
  /** A provider bills `cost` from the moment the reservation was answered. */
  | { kind: "asks" | "did"; what: "reserve" | "renew" | "settle" | "void"; id: string; cost: string }
  | { kind: "closed" }
);

const IN_FLIGHT = 4;
export const CALLER_LIMITS = [
  limitOf({ amount: 10n ** 15n }),
  limitOf({ name: "agent", per: ["agent"], amount: 10n ** 15n }),
  limitOf({ name: "tokens", measure: "tokens", amount: 10n ** 15n }),
];

function say(line: CallerLine): void {
  writeSync(1, `${JSON.stringify(line)}\n`);
}

async function work(input: { path: string; file: number; name: string; callCount: number }): Promise<void> {
  const { path, file, name, callCount } = input;
  // An empty file is no ledger yet: whoever was to make it was killed before.
  if (existsSync(path) && statSync(path).size > 0) {
    say({ file, kind: "verified", differences: verifySqliteLedger(path).differences });
  }
  const ledger = await openSqliteLedger({ path });
  await ledger.beat(ownerOf(name));
  await ledger.configure(rulesOf(CALLER_LIMITS));
  let index = 0;
  const caller = async (): Promise<void> => {
    while (index < callCount) await call(ledger, { file, name, index: (index += 1) });
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, caller));
  await ledger.close();
  say({ file, kind: "closed" });
}

async function call(ledger: Ledger, { file, name, index }: { file: number; name: string; index: number }): Promise<void> {
  const id = `${name}-${index}`;
  const cost = BigInt((index * 37) % 101);
  const step = async (what: "reserve" | "renew" | "settle" | "void", operation: Operation): Promise<void> => {
    say({ file, kind: "asks", what, id, cost: String(cost) });
    await ledger.apply([operation]);
    say({ file, kind: "did", what, id, cost: String(cost) });
  };
  await step("reserve", reserveOf(id, { ownerId: name, scopes: { agent: `a${index % 3}` } }));
  if (index % 7 === 3) return step("void", voidOf(id));
  if (index % 3 === 1) await step("renew", renewOf(id, cost, [50, 20]));
  await step("settle", settleOf(id, cost));
}

if (import.meta.main) {
  const [name = "", callCount = "0", ...paths] = process.argv.slice(2);
  await Promise.all(paths.map((path, file) => work({ path, file, name, callCount: Number(callCount) })));
  process.exit(0);
}
