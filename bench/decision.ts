/** A decision over ten limits: the rules alone, reserve and settle on a book in memory, nothing durable. */
import { createMemoryLedger } from "../src/ledger/memory/memory-ledger.ts";
import { reserveOf, settleOf } from "./ledger/operations.ts";
import { median, type Section } from "./table.ts";
import { TEN_LIMITS } from "./ten-limits.ts";

const CALLS = 5_000;

export async function measureDecision(): Promise<Section> {
  const reserveUs: number[] = [];
  const settleUs: number[] = [];
  for (let round = 0; round < 6; round += 1) {
    const ledger = createMemoryLedger();
    await ledger.configure({ version: "bench", limits: TEN_LIMITS, downgrade: new Map(), atMs: Date.now() });
    const reserves = Array.from({ length: CALLS }, (_, index) => reserveOf(index, Date.now()));
    const settles = reserves.map(({ call }) => settleOf(call.callId, Date.now()));
    for (const [operations, into] of [[reserves, reserveUs] as const, [settles, settleUs] as const]) {
      const startedMs = performance.now();
      for (const operation of operations) await ledger.apply([operation]);
      // The first round compiles.
      if (round > 0) into.push(((performance.now() - startedMs) * 1_000) / CALLS);
    }
    await ledger.close();
  }
  const rows = [
    { "ten limits": "reserve (the decision)", µs: median(reserveUs) },
    { "ten limits": "settle", µs: median(settleUs) },
  ];
  return {
    title: "A decision in memory",
    note: `Medians of 5 rounds of ${CALLS.toLocaleString("en-US")} calls, checking of the operation and the promise included.`,
    rows,
  };
}
