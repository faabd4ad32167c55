import { createMemoryLedger } from "../../src/ledger/memory/memory-ledger.ts";
import { describeLedger } from "./ledger-contract.ts";

describeLedger("the ledger in memory", async () => createMemoryLedger());
