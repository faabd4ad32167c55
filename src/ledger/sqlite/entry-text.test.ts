/** Goal: whatever a reservation or a settlement says comes back from its entry; what is spelled out once is spelled out. */
import Database from "better-sqlite3";
import { beforeEach, describe, expect, test } from "vitest";
import type { LimitView } from "../../core/decisions/admit.ts";
import { compileLimits, type Charge, type LimitSet } from "../../core/decisions/counters.ts";
import type { NewEntry, StoredDecision } from "../../core/decisions/operations.ts";
import { toNanoUsd, ZERO_USD } from "../../core/money/money.ts";
import { NO_TOKENS } from "../../core/usage/usage.ts";
import { at, DAY, limitOf, NOON_MS, reserveOf } from "../../../test/contract/samples.ts";
import { EntryWriter, readBody, readCharges, type EntryText, type EntryToWrite } from "./entry-text.ts";
import { Spelled } from "./spelled.ts";
import { Charges } from "./verify-charges.ts";

const limits = [
  limitOf({ name: "all", amount: 1_000n, window: DAY, thresholds: [at(900n, { kind: "stop" })] }),
  { ...limitOf({ name: "agent", per: ["agent"], amount: 2_000n, window: DAY }), fit: "off" as const },
  limitOf({ name: "slots", per: ["session"], measure: "concurrency", amount: 7n }),
];
const set = compileLimits({ version: "v1", limits, downgrade: new Map() });
const DAY_KEY = "c:1795564800:1795651200";
const DAY_END_MS = 1_795_651_200_000;

function chargeOf(scopeKey: string, what: string, windowKey: string, amounts: Partial<Charge> = {}): Charge {
  return { scopeKey, what, windowKey, spent: 0n, reserved: 5n, ...amounts };
}

const charges = [
  chargeOf("all", "usd@day:UTC", DAY_KEY),
  chargeOf("agent=a%20b", "usd@day:UTC", DAY_KEY),
  chargeOf("session=s&~key=k", "concurrency", "now", { reserved: 1n }),
];

function viewOf(index: number, changes: Partial<LimitView> = {}): LimitView {
  const { limit, ceiling } = set.limits[index] ?? { limit: limits[0] as never, ceiling: undefined };
  const { scopeKey, what, spent, reserved } = charges[index] ?? charges[0] ?? chargeOf("", "", "");
  return {
    limit: limit.name,
    scope: [{}, { agent: "a b" }, { session: "s" }][index] ?? {},
    counterId: `${scopeKey} ${what}`,
    measure: limit.measure,
    amount: limit.amount,
    ceiling,
    graceCeiling: undefined,
    spent: 12n,
    reserved: 2n ** 70n,
    bound: spent + reserved,
    windowEndMs: index === 2 ? Infinity : DAY_END_MS,
    clearsAtMs: NOON_MS,
    ...(limit.fit === undefined ? {} : { fit: limit.fit }),
    ...changes,
  };
}

const { call } = reserveOf("call-1", { atMs: NOON_MS, scopes: { agent: "a b", session: "s" } });

function reservedOf(decision: Partial<StoredDecision> = {}, admit: Partial<StoredDecision["admit"]> = {}): NewEntry {
  const views = [viewOf(0), viewOf(1), viewOf(2)];
  const input = { views, paces: [], heldBack: [], isPriceKnown: true, unboundedParts: [], nowMs: NOON_MS, ...admit };
  return {
    kind: "reserved",
    callId: call.callId,
    atMs: NOON_MS,
    costNanoUsd: undefined,
    charges,
    body: {
      kind: "reserved",
      ownerId: "owner\n1",
      call,
      decision: {
        limitsVersion: "v1",
        admit: input,
        marks: [],
        skippedReason: undefined,
        requestedModel: call.requestedModel,
        model: "m",
        canonicalModel: "canonical",
        maxTokens: undefined,
        usdBound: toNanoUsd(5n),
        inputTokensBound: 1,
        outputTokensBound: 2,
        priceIds: ["p"],
        ...decision,
      },
    },
  };
}

function settledOf(settled: readonly Charge[], isLate = false): NewEntry {
  const result = {
    costNanoUsd: toNanoUsd(4n),
    tokens: { ...NO_TOKENS, outputTokens: 3 },
    costParts: [
      {
        meter: "output" as const,
        model: "other",
        kind: "advisor" as const,
        priceId: "p",
        quantity: 3,
        unitUsd: "1.5",
        unitQuantity: 1_000_000 as const,
        multipliers: [{ name: "batch" as const, bps: 5_000 }],
        costUsd: "0.000000004",
      },
    ],
    priceIds: ["p"],
    webSearchRequests: 0,
    isEstimated: true,
    flags: ["estimated"],
    model: "m",
    status: 200,
    stopReason: undefined,
    providerRequestId: "req",
    error: { type: "t", message: "two\nlines" },
  };
  const overrunNanoUsd = isLate ? toNanoUsd(2n ** 61n) : ZERO_USD;
  return {
    kind: "settled",
    callId: call.callId,
    atMs: NOON_MS + 1,
    costNanoUsd: toNanoUsd(4n),
    charges: settled,
    body: { kind: "settled", result, isLate, overrunNanoUsd },
  };
}

let entries: (EntryText & { atMs: number })[];
let writer: EntryWriter;

beforeEach(() => {
  entries = [];
  writer = new EntryWriter();
});

/** Writes the next entry. @returns what is read of it, and its text. */
function write(entry: NewEntry, reserved?: EntryToWrite["reserved"], limitSet: LimitSet = set) {
  const seq = entries.length + 1;
  const text = writer.write({ seq, entry, said: undefined, reserved }, limitSet);
  entries.push({ ...text, atMs: entry.atMs });
  // As a process that opens the file reads it.
  const spelled = new Spelled((at) => entries[at - 1]);
  const read = { charges: readCharges(text.charges, spelled), body: readBody({ ...text, atMs: entry.atMs }, spelled) };
  return { ...text, read, said: { charges: entry.charges, body: entry.body } };
}

describe("a reservation", () => {
  test.each<[string, Partial<StoredDecision>, Partial<StoredDecision["admit"]>]>([
    ["as most are", {}, {}],
    ["of a call without price", { usdBound: undefined, priceIds: [] }, { isPriceKnown: false }],
    [
      "made smaller",
      { marks: ["fitted"], maxTokens: 7 },
      {
        fit: {
          askedMaxTokens: 9,
          leastMaxTokens: 3,
          inputTokensBound: 1,
          usd: { fixed: 1n, perOutputToken: 2n ** 65n, searches: ZERO_USD },
        },
      },
    ],
    [
      "with everything that is rare",
      {
        isForced: true,
        skippedReason: "why",
        requestedModel: "asked",
        countedTokens: 3,
        extension: { inputTokens: 1, outputTokens: 2, newTokens: 3 },
      },
      { heldBack: ["x"], unboundedParts: ["y"], nowMs: NOON_MS - 1, deadlineAtMs: NOON_MS + 5, pausedSinceMs: 1 },
    ],
    [
      "with a pace",
      {},
      { paces: [{ key: "k", limit: "all", intervalMs: 2, nextStartMs: 3, notBeforeMs: 4, grantedStartMs: undefined }] },
    ],
    ["that nothing bounds", {}, { views: [viewOf(0, { bound: undefined }), viewOf(1), viewOf(2)] }],
    [
      "with grace",
      {},
      { views: [viewOf(0, { graceCeiling: 950n, clearsAtMs: DAY_END_MS }), viewOf(1, { clearsAtMs: Infinity })] },
    ],
    ["whose window ends otherwise than its name says", {}, { views: [viewOf(0, { windowEndMs: DAY_END_MS + 1 })] }],
    ["whose scope its key does not say", {}, { views: [viewOf(1, { scope: { agent: "a\ud800b" } })] }],
    ["with a limit that stands twice in it", {}, { views: [viewOf(2), viewOf(2), viewOf(0)] }],
    ["with a limit that is not in force", {}, { views: [viewOf(0, { amount: 3n })] }],
    ["of other limits", { limitsVersion: "v0" }, {}],
  ])("%s comes back", (_what, decision, admit) => {
    const first = write(reservedOf(decision, admit));
    const second = write(reservedOf(decision, admit));

    expect(first.read).toEqual(first.said);
    expect(second.read).toEqual(second.said);
  });

  test("spells counters and limits out once, and again when its writer does not know where they stand", () => {
    const first = write(reservedOf());
    const second = write(reservedOf());
    writer.forget();
    const third = write(reservedOf());

    expect(second.charges.length).toBeLessThan(first.charges.length / 2);
    expect(second.body.length).toBeLessThan(first.body.length);
    expect([third.charges, third.body]).toEqual([first.charges, first.body]);
  });

  test("in another window spells out the counter of that one", () => {
    write(reservedOf());
    const next = chargeOf("all", "usd@day:UTC", "c:1795651200:1795737600");
    const later = write({ ...reservedOf(), charges: [next, ...charges.slice(1)] });

    expect(later.charges).toContain(next.windowKey);
    expect(later.read).toEqual(later.said);
  });

  test("of limits that were exchanged spells them out", () => {
    write(reservedOf());
    const other = compileLimits({ version: "v2", limits: [...limits].reverse(), downgrade: new Map() });
    const later = write(reservedOf({ limitsVersion: "v2" }), undefined, other);

    expect(later.read).toEqual(later.said);
  });
});

describe("a settlement", () => {
  const freed = charges.map((charge) => ({ ...charge, spent: 4n, reserved: -charge.reserved }));

  test.each<[string, Charge[], boolean]>([
    ["of everything", freed, false],
    ["that leaves a counter as it was", freed.slice(1), true],
    ["that changes nothing", [], false],
    ["of a counter that a limit added since", [...freed, chargeOf("user=u", "usd@life", "life")], false],
    ["in another order", freed.toReversed(), false],
  ])("%s comes back", (_what, settled, isLate) => {
    write(reservedOf());
    const known = write(settledOf(settled, isLate), { position: 1, charges });
    const unknown = write(settledOf(settled, isLate));

    expect(known.read).toEqual(known.said);
    expect(unknown.read).toEqual(unknown.said);
  });
});

test("a reference that leads nowhere is an error, and a difference", () => {
  const text = { charges: '{"of":[1024],"at":[0],"amounts":["1","0"]}', body: "{}" };
  const db = new Database(":memory:");
  db.exec(
    `create table entries (seq integer, charges text); insert into entries values (1, '{"of":[3072],"at":[],"amounts":[]}')`,
  );
  const check = new Charges(db);

  expect(() => readCharges(text.charges, new Spelled(() => undefined))).toThrow("entry 1 is missing");
  expect(() => readCharges(text.charges, new Spelled(() => text))).toThrow("spells out no such counter");
  expect(check.read({ seq: 2n, charges: text.charges })).toBeUndefined();
  expect(check.read({ seq: 1n, charges: text.charges })).toBeUndefined();
  expect(check.read({ seq: 2n, charges: '{"of":9,"at":[],"amounts":[]}' })).toBeUndefined();
  db.close();
});
