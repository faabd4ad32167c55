/**
 * A process that makes calls on a ledger file, several in flight, and closes it. What it asks for and what was answered is said on its
 * standard output, a line each, before the next thing happens: recorded together with what it did to the file (recording.ts).
 */
import { writeSync } from "node:fs";
import { candidateOf, limitOf, ownerOf, renewOf, reserveOf, rulesOf, settleOf, voidOf, adjustOf } from "../contract/samples.ts";
import type { Operation } from "../../src/core/decisions/operations.ts";
import type { Ledger } from "../../src/ledger/ledger.ts";
import { openSqliteLedger } from "../../src/ledger/sqlite/sqlite-ledger.ts";

/** What is done with a call. `deny`: a reservation that no limit has room for. */
export type Step = "reserve" | "deny" | "renew" | "settle" | "void" | "adjust";

/** What a caller says, as JSON, a line each. A provider bills `cost` from the moment the reservation was answered. */
export type CallerLine = { kind: "asks" | "did"; what: Step; id: string; cost: string };

/** What a correction adds. */
export const ADJUSTED = 7n;
const IN_FLIGHT = 4;
const CEILING = 10n ** 15n;
export const CALLER_LIMITS = [
  limitOf({ amount: CEILING }),
  limitOf({ name: "agent", per: ["agent"], amount: CEILING }),
  limitOf({ name: "tokens", measure: "tokens", amount: CEILING }),
];

/** Everything that is done with one call, in order. Calls differ in how they end. */
export function stepsOf(name: string, index: number): { what: Step; id: string; cost: bigint; operation: Operation }[] {
  const id = `${name}-${index}`;
  const cost = BigInt((index * 37) % 101);
  const step = (what: Step, operation: Operation) => ({ what, id, cost, operation });
  const reserve = reserveOf(id, { ownerId: name, scopes: { agent: `a${index % 3}` } });
  if (index % 11 === 5) {
    const tooDear = candidateOf({ usdBound: (CEILING + 1n) as ReturnType<typeof candidateOf>["usdBound"] });
    return [step("deny", { ...reserve, candidates: [tooDear] })];
  }
  if (index % 7 === 3) return [step("reserve", reserve), step("void", voidOf(id))];
  return [
    step("reserve", reserve),
    ...(index % 3 === 1 ? [step("renew", renewOf(id, cost, [50, 20]))] : []),
    step("settle", settleOf(id, cost)),
    ...(index % 5 === 2 ? [step("adjust", adjustOf(id, ADJUSTED, { adjustmentId: `adj-${id}` }))] : []),
  ];
}

/** Writes one line to a file that is open. */
export function say(file: number, line: CallerLine): void {
  writeSync(file, `${JSON.stringify(line)}\n`);
}

async function makeCalls(ledger: Ledger, name: string, callCount: number): Promise<void> {
  let index = 0;
  const caller = async (): Promise<void> => {
    while (index < callCount) {
      for (const { operation, ...step } of stepsOf(name, (index += 1))) {
        const line = { what: step.what, id: step.id, cost: String(step.cost) };
        say(1, { kind: "asks", ...line });
        await ledger.apply([operation]);
        say(1, { kind: "did", ...line });
      }
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, caller));
}

if (import.meta.main) {
  const [path = "", name = "", callCount = "0"] = process.argv.slice(2);
  const ledger = await openSqliteLedger({ path });
  await ledger.beat(ownerOf(name));
  await ledger.configure(rulesOf(CALLER_LIMITS));
  await makeCalls(ledger, name, Number(callCount));
  await ledger.close();
  process.exit(0);
}
