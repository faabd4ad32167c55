import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll } from "vitest";
import { openSqliteLedger } from "../../src/ledger/sqlite/sqlite-ledger.ts";
import { describeLedger } from "./ledger-contract.ts";

let folder: string;
let fileCount = 0;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "purser-contract-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

describeLedger("the ledger in SQLite", () => {
  fileCount += 1;
  return openSqliteLedger({ path: join(folder, `ledger-${fileCount}.db`), seed: fileCount });
});
