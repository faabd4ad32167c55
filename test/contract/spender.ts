/**
 * A process that spends from a shared ledger file: started by processes.test.ts, told what to do by its arguments.
 * Prints every call that was answered as settled with its cost, then how many were admitted and what they cost together.
 */
import { openSqliteLedger } from "../../src/ledger/sqlite/sqlite-ledger.ts";
import { limitOf, ownerOf, reserveOf, rulesOf, settleOf, voidOf } from "./samples.ts";

const [path = "", name = "", callCount = "0", inFlight = "1", amount = "0"] = process.argv.slice(2);

const ledger = await openSqliteLedger({ path });
await ledger.beat(ownerOf(name));
await ledger.configure(
  rulesOf([
    limitOf({ amount: BigInt(amount) }),
    limitOf({ name: "agent", per: ["agent"], amount: BigInt(amount) }),
    limitOf({ name: "rate", measure: "requests", amount: 1_000_000n }),
  ]),
);

let index = 0;
let admitted = 0;
let spent = 0n;

async function caller(): Promise<void> {
  while (index < Number(callCount)) {
    const mine = (index += 1);
    const id = `${name}-${mine}`;
    const cost = BigInt((mine * 37) % 101);
    const [answer] = await ledger.apply([reserveOf(id, { ownerId: name, scopes: { agent: name } })]);
    if (answer?.outcome !== "reserved") continue;
    if (mine % 10 === 0) {
      await ledger.apply([voidOf(id)]);
      continue;
    }
    admitted += 1;
    spent += cost;
    await ledger.apply([settleOf(id, cost)]);
    process.stdout.write(`${id} ${cost}\n`);
  }
}

// Everybody begins at once: the file of the one who starts first is not to itself.
process.stdout.write("ready\n");
await new Promise((resolve) => {
  process.stdin.once("data", resolve);
});
await Promise.all(Array.from({ length: Number(inFlight) }, caller));
await ledger.close();
process.stdout.write(`${JSON.stringify({ admitted, spent: String(spent) })}\n`);
process.exit(0);
