import { describe, expect, test } from "vitest";
import type { Owner } from "../ledger/ledger.ts";
import { BEAT_MS, keepOwner, SILENT_MS_MAX } from "./owners.ts";
import { START_MS, startEngine, type EngineBench } from "./engine.fixture.ts";
import type { RunningCall } from "./running-call.ts";

const YAML = "limits: [{ name: l, per: all, usd: 5, every: day }]";

function ownerOf(ownerId: string, beatAtMs = START_MS): Owner {
  return { ownerId, pid: 1, processStart: "1", bootId: "b", machineId: "m", startedAtMs: START_MS, beatAtMs };
}

/** A bench on which another process, `own_other`, left one call open; this process is `own_me`. */
async function start(isDead: (owner: Owner) => boolean | undefined) {
  const bench = await startEngine(YAML, { ownerId: "own_other" });
  const { flaky, clock, notifier } = bench;
  await flaky.memory.beat(ownerOf("own_other"));
  const call = await admit(bench);
  const freed: string[] = [];
  const keep = () =>
    keepOwner({ ledger: flaky.ledger, clock, notifier, me: ownerOf("own_me"), isDead, freed: (ids) => void freed.push(...ids) });
  const statusOf = async () => (await flaky.memory.calls({ limit: 1, callId: call.callId }))[0];
  return { ...bench, call, keep, freed, statusOf };
}

async function admit(bench: EngineBench): Promise<RunningCall> {
  const opening = await bench.engine.open(bench.callOf());
  if (opening.outcome !== "admitted") throw new Error(`the call is ${opening.outcome}`);
  return opening.call;
}

describe("a process that is gone", () => {
  test("has its calls counted at their bound, and is forgotten", async () => {
    const bench = await start(() => true);

    await bench.keep();

    const record = await bench.statusOf();
    expect(record?.status).toBe("expired");
    expect(record?.costNanoUsd).toBe(record?.reservedNanoUsd);
    expect(record?.costNanoUsd).toBeGreaterThan(0n);
    expect(await bench.reserved()).toBe(0n);
    expect(bench.freed).toHaveLength(1);
    expect((await bench.flaky.memory.owners()).map(({ ownerId }) => ownerId)).toEqual(["own_me"]);
    expect(bench.notifier.warnings).toEqual([{ event: "recovered", details: { ownerId: "own_other", pid: 1, calls: 1 } }]);
  });

  test("and settles late after all has its charge corrected, once", async () => {
    const bench = await start(() => true);
    bench.call.markSent();
    await bench.keep();

    const meter = bench.call.openMeter("application/json");
    const usage = { input_tokens: 10, output_tokens: 5 };
    meter.push(new TextEncoder().encode(JSON.stringify({ model: "claude-haiku-5-5", stop_reason: "end_turn", usage })));
    meter.end();
    await bench.call.end({ kind: "completed", status: 200, reading: meter.reading() });

    const record = await bench.statusOf();
    expect(record).toMatchObject({ status: "settled", isLate: true });
    expect(record?.costNanoUsd).toBeLessThan(record?.reservedNanoUsd ?? 0n);
    const states = await bench.flaky.memory.scopeStates();
    const spent = [...states.values()].flatMap(({ counters }) =>
      [...counters.values()].flatMap((series) => [...series.values()]),
    );
    expect(spent.map((counter) => counter.spent)).toEqual([record?.costNanoUsd]);
  });
});

describe("a process that was forgotten while it lived, and reserved after that", () => {
  test("has its calls counted at their bound by the next start", async () => {
    const bench = await start(() => undefined);
    await bench.flaky.memory.removeOwner("own_other");

    await bench.keep();

    expect((await bench.statusOf())?.status).toBe("expired");
    expect(await bench.reserved()).toBe(0n);
    expect(bench.freed).toHaveLength(1);
    expect(bench.notifier.warnings).toEqual([{ event: "recovered", details: { calls: 1 } }]);
  });
});

describe("a process that begins while another looks for what nobody holds", () => {
  test("keeps its calls", async () => {
    const bench = await startEngine(YAML, { ownerId: "own_other" });
    const { flaky, clock, notifier } = bench;
    const { memory } = flaky;
    let begun: Promise<unknown> | undefined;
    const begin = async (): Promise<void> => {
      await (begun ??= memory.beat(ownerOf("own_other")).then(() => admit(bench)));
    };
    let looks = 0;
    const ledger = Object.assign(Object.create(flaky.ledger) as typeof flaky.ledger, {
      owners: async () => {
        const found = await memory.owners();
        // The first look is the beat's.
        if ((looks += 1) > 1) await begin();
        return found;
      },
      openCalls: async (ownerId?: string) => {
        const found = await memory.openCalls(ownerId);
        if (ownerId === undefined) await begin();
        return found;
      },
    });

    await keepOwner({ ledger, clock, notifier, me: ownerOf("own_me"), isDead: () => undefined, freed: () => undefined });

    expect((await memory.calls({ limit: 9 })).map(({ status }) => status)).toEqual(["reserved"]);
  });
});

describe("a process that cannot be seen from here", () => {
  test(`keeps its calls while it was silent for no more than ${SILENT_MS_MAX} ms, and loses them then`, async () => {
    const bench = await start(() => undefined);
    await bench.keep();

    await bench.clock.advance(SILENT_MS_MAX);
    expect((await bench.statusOf())?.status).toBe("reserved");
    await bench.clock.advance(BEAT_MS);

    expect((await bench.statusOf())?.status).toBe("expired");
  });
});

describe("a process on a machine whose clock differs", () => {
  test.each([
    ["hours behind", -7_200_000],
    ["hours ahead", 7_200_000],
  ])("keeps its calls while it beats: %s", async (_, aheadMs) => {
    const bench = await start(() => undefined);
    const beat = (): Promise<void> => bench.flaky.memory.beat(ownerOf("own_other", bench.clock.nowMs() + aheadMs));
    await beat();
    await bench.keep();

    for (let beats = 0; beats < 30; beats += 1) {
      await bench.clock.advance(BEAT_MS);
      await beat();
    }
    expect((await bench.statusOf())?.status).toBe("reserved");
    await bench.clock.advance(SILENT_MS_MAX + 2 * BEAT_MS);

    expect((await bench.statusOf())?.status).toBe("expired");
  });

  test("keeps its calls when this machine's clock is set forward by a day", async () => {
    const bench = await start(() => undefined);
    await bench.keep();

    bench.clock.jump(86_400_000);
    await bench.clock.advance(BEAT_MS);

    expect((await bench.statusOf())?.status).toBe("reserved");
  });
});

describe("a process that is proven alive", () => {
  test("keeps its calls however long it is silent", async () => {
    const bench = await start(() => false);
    await bench.keep();

    await bench.clock.advance(10 * SILENT_MS_MAX);

    expect((await bench.statusOf())?.status).toBe("reserved");
  });
});

describe("this process", () => {
  test("beats every five seconds", async () => {
    const bench = await start(() => true);
    await bench.keep();

    await bench.clock.advance(BEAT_MS * 3);

    expect((await bench.flaky.memory.owners())[0]).toMatchObject({ ownerId: "own_me", beatAtMs: START_MS + BEAT_MS * 3 });
  });

  test("says once that the ledger cannot be written, goes on beating, and says when it can", async () => {
    const bench = await start(() => false);
    const owner = await bench.keep();
    bench.flaky.failWith = () => "before";

    await bench.clock.advance(BEAT_MS * 3);
    expect(owner.isLedgerWritable()).toBe(false);
    expect(bench.notifier.eventsOf()).toEqual(["ledger_unavailable"]);
    bench.flaky.failWith = () => undefined;
    await bench.clock.advance(BEAT_MS);

    expect(owner.isLedgerWritable()).toBe(true);
  });

  test("does not start where the ledger cannot be written", async () => {
    const bench = await start(() => false);
    bench.flaky.failWith = ({ kind }) => (kind === "beat" ? "before" : undefined);

    await expect(bench.keep()).rejects.toThrow("the disk is full");
    expect(bench.clock.timerCount).toBe(0);
  });

  test("signs off with nothing open, and beats no more", async () => {
    const bench = await start(() => true);
    const owner = await bench.keep();

    await owner.close();

    expect(await bench.flaky.memory.owners()).toEqual([]);
    expect(bench.clock.timerCount).toBe(0);
  });

  test("stays known where it leaves calls open, so that the next process recovers them", async () => {
    const bench = await startEngine(YAML);
    const call = await admit(bench);
    const { flaky, clock, notifier } = bench;
    const input = { ledger: flaky.ledger, clock, notifier, isDead: () => true, freed: () => undefined };
    const owner = await keepOwner({ ...input, me: ownerOf("own_me") });

    await owner.close();
    expect(notifier.eventsOf()).toEqual(["left_open"]);
    await keepOwner({ ...input, me: ownerOf("own_next") });

    expect((await flaky.memory.calls({ limit: 1, callId: call.callId }))[0]?.status).toBe("expired");
    expect(await bench.reserved()).toBe(0n);
  });
});
