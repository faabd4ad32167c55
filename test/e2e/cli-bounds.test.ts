/** Goal: what reservations are worth, and whether one was too little, is seen without asking. */
import { expect, test } from "vitest";
import { createMemoryLedger } from "../../src/ledger/memory/memory-ledger.ts";
import { limitOf, reserveOf, rulesOf, settleOf } from "../contract/samples.ts";
import { runCli, terminal, useTemporaryFolder } from "./cli-harness.ts";

useTemporaryFolder();

test("status says how near bounds are to costs, and how many calls passed theirs by how much", async () => {
  const ledger = createMemoryLedger();
  await ledger.configure(rulesOf([limitOf({ name: "everything-day", amount: 10n ** 12n })]));
  const bound = 10_000_000n;
  const costs = [bound, bound / 2n, bound / 2n, bound + 1_000_000n, bound + 500_000n];
  for (const [index, cost] of costs.entries()) {
    await ledger.apply([reserveOf(`call-${index}`, { usd: bound })]);
    await ledger.apply([settleOf(`call-${index}`, cost)]);
  }

  const { out } = await runCli("status", { ledger, screen: terminal(160) });
  const json = await runCli("status --json", { ledger });

  expect(out).toContain("Bound ÷ actual: 1.2 over the last 5 settled calls");
  expect(out).toContain("2 of them cost more than the bound, $0.0015 in all.");
  expect(out).toContain("everything-day, all calls: 2 used more than their bound; all of it is counted.");
  // 50 million set aside for 41.5 million.
  expect(JSON.parse(json.out)).toMatchObject([{ boundToActual: 1.2048, boundsPassed: 2 }]);
});
