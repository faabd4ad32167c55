/** Goal: nothing in a ledger file can be changed behind Purser's back without `verify` saying so. */
import Database from "better-sqlite3";
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import {
  adjustOf,
  at,
  expireOf,
  keyOf,
  LIFETIME,
  limitOf,
  MINUTE,
  NOON_MS,
  ownerOf,
  renewOf,
  reserveOf,
  rulesOf,
  settleOf,
  voidOf,
} from "../../../test/contract/samples.ts";
import { LedgerUnavailableError } from "../ledger.ts";
import { openSqliteLedger } from "./sqlite-ledger.ts";
import { verifySqliteLedger } from "./verify.ts";

let folder: string;
let sound: string;
let path: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "purser-verify-"));
  sound = join(folder, "sound.db");
  await writeEverything(sound);
});
beforeEach(() => {
  path = join(folder, "ledger.db");
  for (const suffix of ["-wal", "-shm"]) rmSync(path + suffix, { force: true });
  copyFileSync(sound, path);
});
afterAll(() => rmSync(folder, { recursive: true }));

/** A ledger with every kind of entry, every table in use, and windows long over. */
async function writeEverything(file: string): Promise<void> {
  const ledger = await openSqliteLedger({ path: file, seed: 1 });
  const limits = [
    limitOf({ amount: 100_000n, thresholds: [at(500n, { kind: "alert" }), at(100_000n, { kind: "stop" })] }),
    limitOf({ name: "agent", per: ["agent"], measure: "tokens", amount: 1_000_000n, window: MINUTE }),
    limitOf({ name: "slots", per: ["user"], measure: "concurrency", amount: 1_000n }),
  ];
  await ledger.configure(rulesOf(limits));
  await ledger.beat(ownerOf("owner-1"));
  await ledger.createKey(keyOf("key-1"));
  for (let index = 0; index < 40; index += 1) {
    const atMs = NOON_MS + index * 30_000;
    const id = `call-${index}`;
    const scopes = { agent: `a${index % 3}`, session: `s${index % 7}`, user: `u${index % 2}` };
    const end = [settleOf(id, 37n), voidOf(id), expireOf(id), renewOf(id, 55n)][index % 4] ?? settleOf(id, 37n);
    await ledger.apply([reserveOf(id, { atMs, scopes }), { ...end, atMs: atMs + 5_000 }]);
  }
  const atMs = NOON_MS + 40 * 30_000;
  await ledger.apply([settleOf("call-2", 12n, { atMs }), reserveOf("denied", { usd: 10n ** 9n, atMs })]);
  await ledger.apply([
    adjustOf("call-4", -9n, { atMs }),
    adjustOf("call-6", 8n, { atMs }),
    adjustOf("call-10", 5n, { atMs }),
    settleOf("call-10", 11n, { atMs }),
    adjustOf("call-10", 2n, { atMs, adjustmentId: "adj-2" }),
  ]);
  const sessions = limitOf({ name: "session", per: ["session"], amount: 100_000n, window: LIFETIME });
  await ledger.configure(rulesOf([...limits, sessions], NOON_MS + 3_600_000, "v2"));
  await ledger.close();
}

function change(sql: string): void {
  const db = new Database(path);
  db.exec("drop trigger if exists entries_never_change; drop trigger if exists entries_never_go;");
  const changed = db.prepare(sql).run();
  db.close();
  expect({ sql, changes: changed.changes }).toEqual({ sql, changes: 1 });
}

/** Without what the dropped triggers alone make differ. */
function differences(): string[] {
  return verifySqliteLedger(path).differences.filter((difference) => !difference.includes("trigger entries_never_"));
}

test("a sound ledger has no differences, and what was looked at is counted", () => {
  const shares: number[] = [];

  const report = verifySqliteLedger(path, { onProgress: (share) => shares.push(share) });

  expect(report.differences).toEqual([]);
  expect(report.callCount).toBe(41);
  expect(report.entryCount).toBeGreaterThan(90);
  expect(report.counterCount).toBeGreaterThan(20);
  expect(shares.at(-1)).toBe(1);
});

test("the sound ledger has rows in every table", () => {
  const db = new Database(path, { readonly: true });
  const empty = ["entries", "counters", "past_counters", "open_calls", "calls", "configs", "owners", "keys"].filter(
    (table) => db.prepare(`select 1 from ${table}`).get() === undefined,
  );
  const kinds = db.prepare("select count(distinct kind) as kinds from entries").get();
  db.close();

  expect(empty).toEqual([]);
  expect(kinds).toEqual({ kinds: 9 });
});

test("finds one edited counter, with what is stored and what it should be", () => {
  change(`update counters set state = replace(state, '["1', '["2') where scope_key = 'all'`);

  const found = differences();

  expect(found).toContainEqual(
    expect.stringMatching(
      /counter "all usd@day:UTC c:\d+:\d+": spent \d+, reserved \d+ are stored; its entries sum to spent \d+, reserved \d+/,
    ),
  );
  expect(found).toContainEqual(expect.stringContaining('table counters, row "all": its check sum'));
});

test("finds one edited counter whose window is over", () => {
  change(`
    update past_counters set spent = spent + 1
    where (scope_key, what, window_key) = (select scope_key, what, window_key from past_counters limit 1)
  `);

  expect(differences()).toContainEqual(expect.stringMatching(/counter "agent=a\d tokens@60000 \d+": spent/));
});

test("finds one edited entry, by its number", () => {
  change(
    "update entries set charges = replace(charges, '37', '36') where seq = (select min(seq) from entries where kind = 'settled')",
  );

  expect(differences()).toContainEqual(
    expect.stringMatching(/entry 2: its stored hash is [0-9a-f]{64}, recomputed [0-9a-f]{64}/),
  );
});

test("finds an entry whose instant or cost was edited", () => {
  change("update entries set at_ms = at_ms + 1 where seq = 5");
  change("update entries set cost_nano_usd = 36 where seq = 2");

  const found = differences();

  expect(found).toContainEqual(expect.stringContaining("entry 5: its stored hash"));
  expect(found).toContainEqual(expect.stringContaining('call "call-0" cost 36 (entry 2), but is charged 37'));
});

test.each([
  [
    "charges another amount",
    "charges = replace(charges, '-9', '-8')",
    "is corrected by -9, but is charged spent -8, reserved 0 in",
  ],
  ["charges something else than money", "charges = replace(charges, 'usd@', 'tokens@')", "is corrected by -9, but is charged"],
  ["comes to another cost", "cost_nano_usd = 29", 'call "call-4" cost 37 and is corrected by -9, but then costs 29'],
  ["belongs to a voided call", "call_id = 'call-1'", 'call "call-1" is corrected, but is not settled or expired'],
  ["has another id and amount", `body = replace(body, '"-9"', '"-7"')`, "is corrected by -7, but is charged spent -9"],
])("finds a correction that %s", (_what, changed, sentence) => {
  change(`update entries set ${changed} where seq = (select min(seq) from entries where kind = 'adjusted')`);

  expect(differences()).toContainEqual(expect.stringContaining(sentence));
});

test("finds a correction that was made twice, and one that its call's row does not hold", () => {
  change(
    "update entries set call_id = 'call-10', body = replace(body, 'adj-1', 'adj-2') where seq = (select min(seq) from entries where kind = 'adjusted' and call_id = 'call-6')",
  );
  change(
    "update entries set body = replace(body, 'adj-2', 'adj-1') where seq = (select max(seq) from entries where kind = 'adjusted')",
  );

  const found = differences();

  expect(found).toContainEqual(expect.stringContaining('call "call-10" is corrected a second time by "adj-1"'));
  expect(found).toContainEqual(expect.stringContaining('call "call-6": calls says expired'));
});

test("finds an entry that is gone, in the middle and at the end", () => {
  change("delete from entries where seq = 7");
  change("delete from entries where seq = (select max(seq) from entries)");

  const found = differences();

  expect(found).toContainEqual(expect.stringContaining("entry 7 is missing; the next one is 8"));
  expect(found).toContainEqual(expect.stringMatching(/counter "session=s\d\S* usd@life life"/));
});

test("finds a whole chain that was written anew over an edited entry, by the calls and counters beside it", () => {
  change("update entries set charges = replace(charges, '37', '0'), cost_nano_usd = 0 where seq = 2");

  const found = differences();

  expect(found).toContainEqual(expect.stringContaining("counter"));
  expect(found).toContainEqual(expect.stringContaining('call "call-0": calls says'));
});

test.each([
  ["an open call that was dropped", "delete from open_calls where call_id = 'call-3'", "is open, but is not listed"],
  [
    "an open call that holds less",
    "update open_calls set charges = replace(charges, '55', '5') where call_id = 'call-3'",
    "holds",
  ],
  ["a call whose cost was edited", "update calls set cost_nano_usd = 1 where call_id = 'call-0'", "calls says settled"],
  ["a call whose row is gone", "delete from calls where call_id = 'call-0'", "has no row in calls"],
  ["a call in another session", "update calls set session = 'other' where call_id = 'call-0'", "table calls"],
  ["a key whose hash was exchanged", "update keys set secret_hash = 'mine'", "table keys"],
  ["an owner that beats on", "update owners set beat_at_ms = beat_at_ms + 1", "table owners"],
  [
    "limits that were raised",
    "update configs set rules = replace(rules, '100000', '900000') where config_seq = 2",
    "table configs",
  ],
  ["a counter that is gone", "delete from counters where scope_key = 'all'", "is missing; its entries sum to"],
])("finds %s", (_what, sql, sentence) => {
  change(sql);

  expect(differences()).toContainEqual(expect.stringContaining(sentence));
});

test("says that there is no file instead of making one", () => {
  expect(() => verifySqliteLedger(join(folder, "none.db"))).toThrow(LedgerUnavailableError);
});

test("a byte flipped anywhere is found or changes nothing that is read", { timeout: 300_000 }, async () => {
  const flips = process.env["PURSER_LONG"] === "1" ? 10_000 : 300;
  const seed = Number(process.env["PURSER_SEED"] ?? 20_261_122);
  const whole = readFileSync(sound);
  const before = dump(sound);
  let state = seed;
  const random = (below: number): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  let foundCount = 0;
  const missed: string[] = [];
  for (let flip = 0; flip < flips; flip += 1) {
    const position = random(whole.length);
    const bit = random(8);
    const damaged = Buffer.from(whole);
    damaged[position] = (damaged[position] ?? 0) ^ (1 << bit);
    for (const suffix of ["-wal", "-shm"]) rmSync(path + suffix, { force: true });
    writeFileSync(path, damaged);

    if (verifySqliteLedger(path).differences.length > 0) foundCount += 1;
    else if (dump(path) !== before) missed.push(`byte ${position}, bit ${bit}`);
  }

  process.stdout.write(`verify: ${foundCount} of ${flips} flipped bits found, the others changed nothing, seed ${seed}\n`);
  expect(missed).toEqual([]);
  expect(foundCount).toBeGreaterThan(flips / 4);
});

/** Everything the tables say. */
function dump(file: string): string {
  const db = new Database(file, { readonly: true });
  db.defaultSafeIntegers(true);
  const tables = ["entries", "counters", "past_counters", "open_calls", "calls", "configs", "owners", "keys"];
  const text = tables
    .map((table) =>
      JSON.stringify(db.prepare(`select * from ${table}`).all(), (_key, value: unknown) =>
        typeof value === "bigint" ? `${value}` : value,
      ),
    )
    .join("\n");
  db.close();
  return text;
}

test("a file whose maker was killed before it was one is no ledger yet, in a sentence", () => {
  writeFileSync(path, "");

  expect(verifySqliteLedger(path).differences).toEqual([
    `${path}: it holds no ledger yet: whoever was to make one ended before; the next start makes it`,
  ]);
});
