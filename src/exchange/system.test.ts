import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import * as fc from "fast-check";
import { describe, expect, onTestFinished, test } from "vitest";
import type { Owner } from "../ledger/ledger.ts";
import { createFingerprints, createIdSource, createSystemClock, describeThisProcess, hashSecret, isOwnerDead } from "./system.ts";

const NOON_MS = Date.UTC(2026, 10, 22, 12);

/** Two clocks that a test moves: `pass` moves both, `set` moves the one that people set. */
function createMachine() {
  let [wallMs, monotonicMs] = [NOON_MS, 5_000];
  return {
    clocks: { wallMs: () => wallMs, monotonicMs: () => monotonicMs },
    pass(byMs: number) {
      wallMs += byMs;
      monotonicMs += byMs;
    },
    set(byMs: number) {
      wallMs += byMs;
    },
  };
}

describe("the clock", () => {
  test("follows the machine's", () => {
    const machine = createMachine();
    const clock = createSystemClock(machine.clocks);
    expect(clock.nowMs()).toBe(NOON_MS);
    machine.pass(1_234);
    expect(clock.nowMs()).toBe(NOON_MS + 1_234);
    machine.set(3_600_000);
    expect(clock.nowMs()).toBe(NOON_MS + 1_234 + 3_600_000);
  });

  test("goes on from where it was where the machine's is set back, and follows it again once that has caught up", () => {
    const machine = createMachine();
    const clock = createSystemClock(machine.clocks);
    clock.nowMs();
    machine.set(-3_600_000);

    expect(clock.nowMs()).toBe(NOON_MS);
    machine.pass(1_800_000);
    expect(clock.nowMs()).toBe(NOON_MS + 1_800_000);
    machine.set(3_600_000);
    machine.pass(1);
    expect(clock.nowMs()).toBe(NOON_MS + 1_800_001);
  });

  test("goes on also where it is looked at many times a millisecond", () => {
    const machine = createMachine();
    const clock = createSystemClock(machine.clocks);
    clock.nowMs();
    machine.set(-3_600_000);
    for (let look = 0; look < 10_000; look += 1) {
      machine.pass(0.1);
      clock.nowMs();
    }

    expect(clock.nowMs()).toBeGreaterThanOrEqual(NOON_MS + 999);
  });

  test("stands still over a small step back, and never goes back, whatever is done to the machine's", () => {
    const steps = fc.array(
      fc.record({ kind: fc.constantFrom("pass" as const, "set" as const), byMs: fc.integer({ min: -10_000, max: 10_000 }) }),
    );
    fc.assert(
      fc.property(steps, (each) => {
        const machine = createMachine();
        const clock = createSystemClock(machine.clocks);
        let beforeMs = clock.nowMs();
        for (const { kind, byMs } of each) {
          machine[kind](kind === "pass" ? Math.abs(byMs) : byMs);
          const nowMs = clock.nowMs();
          expect(nowMs).toBeGreaterThanOrEqual(beforeMs);
          expect(Number.isInteger(nowMs)).toBe(true);
          beforeMs = nowMs;
        }
      }),
    );
  });

  test("calls back once, and not at all where it was cancelled", async () => {
    const clock = createSystemClock();
    const called: string[] = [];
    const cancel = clock.after(1, () => called.push("cancelled"));
    clock.after(2 ** 40, () => called.push("much later"))();
    cancel();

    await new Promise<void>((resolve) => {
      clock.after(5, () => {
        called.push("in time");
        resolve();
      });
    });

    expect(called).toEqual(["in time"]);
  });
});

describe("names", () => {
  test("are unique, say what they name, and sort by time as text", () => {
    let nowMs = NOON_MS;
    const ids = createIdSource({ nowMs: () => (nowMs += 1), after: () => () => undefined });
    const names = Array.from({ length: 5_000 }, () => ids.next("call"));

    expect(new Set(names).size).toBe(5_000);
    expect(names.toSorted()).toEqual(names);
    expect(names.every((name) => /^call_[0-9a-hjkmnp-tv-z]{26}$/.test(name))).toBe(true);
    expect(ids.next("sess")).toMatch(/^sess_/);
  });

  test("are unique within one millisecond, over sources", () => {
    const clock = { nowMs: () => NOON_MS, after: () => () => undefined };
    const sources = [createIdSource(clock), createIdSource(clock)];
    const names = Array.from({ length: 20_000 }, (_, index) => sources[index % 2]?.next("call"));

    expect(new Set(names).size).toBe(20_000);
  });

  test("of a text are the same on every machine, another for another text, and do not show it", () => {
    const ids = createIdSource(createSystemClock());

    expect(ids.named("call", "k once")).toBe(createIdSource(createSystemClock()).named("call", "k once"));
    expect(ids.named("call", "k once")).not.toBe(ids.named("call", "k twice"));
    expect(ids.named("call", "secret")).not.toContain("secret");
  });
});

describe("fingerprints", () => {
  const parts = ["a", "bc", "d"].map((text) => new TextEncoder().encode(text));

  test("of a beginning are the same whatever follows it", () => {
    const fingerprints = createFingerprints();

    expect(fingerprints(parts)).toHaveLength(3);
    expect(fingerprints(parts).slice(0, 2)).toEqual(fingerprints(parts.slice(0, 2)));
    expect(new Set(fingerprints(parts)).size).toBe(3);
  });

  test("tell apart what reads alike when it is joined", () => {
    const fingerprints = createFingerprints();
    const joined = ["ab", "c", "d"].map((text) => new TextEncoder().encode(text));

    expect(fingerprints(joined).at(-1)).not.toBe(fingerprints(parts).at(-1));
  });

  test("mean nothing to another process", () => {
    expect(createFingerprints()(parts)).not.toEqual(createFingerprints()(parts));
  });
});

test("a secret's hash is SHA-256 in hex", () => {
  // The published test vector of "abc".
  expect(hashSecret("abc")).toBe("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
});

/** Owner probing reads /proc; elsewhere silence decides. */
describe.skipIf(process.platform !== "linux")("the owner of a reservation", () => {
  const me = describeThisProcess("own_me", NOON_MS);

  function startChild(command: string, args: string[]): ChildProcess {
    const child = spawn(command, args, { stdio: ["ignore", "pipe", "ignore"] });
    onTestFinished(() => void child.kill("SIGKILL"));
    return child;
  }

  const ownerOf = (pid: number | undefined): Owner => {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const processStart = stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? "";
    return { ...me, ownerId: "own_other", pid: pid ?? 0, processStart };
  };

  test("is alive while its process runs, stopped or not, and dead once it was killed", async () => {
    const child = startChild(process.execPath, ["-e", "process.stdout.write('up'); setInterval(() => 0, 1000)"]);
    await once(child.stdout as NodeJS.ReadableStream, "data");
    const owner = ownerOf(child.pid);
    expect(isOwnerDead(owner, me)).toBe(false);
    child.kill("SIGSTOP");
    expect(isOwnerDead(owner, me)).toBe(false);

    child.kill("SIGKILL");
    await once(child, "exit");

    expect(isOwnerDead(owner, me)).toBe(true);
  });

  test("in this very process is known by its silence alone: a worker may have been ended", () => {
    expect(isOwnerDead({ ...me, ownerId: "own_other" }, me)).toBeUndefined();
  });

  test("is dead once it has ended, although nobody waited for it", async () => {
    // The shell becomes a sleep that never waits for the child it started.
    const parent = startChild("sh", ["-c", "sh -c 'echo $$; read line' <&0 & exec sleep 60"]);
    const [line] = (await once(parent.stdout as NodeJS.ReadableStream, "data")) as [Buffer];
    const pid = Number(line.toString().trim());
    const owner = { ...me, pid, processStart: ownerOf(pid).processStart };
    process.kill(pid, "SIGKILL");
    while (!/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, "utf8"))) await new Promise((resolve) => setImmediate(resolve));

    expect(isOwnerDead(owner, me)).toBe(true);
  });

  test("is dead where its number belongs to a process that started later", () => {
    expect(isOwnerDead({ ...me, processStart: "1" }, me)).toBe(true);
    expect(isOwnerDead(me, me)).toBe(false);
  });

  test("is dead after a boot, and cannot be seen on another machine", () => {
    expect(isOwnerDead({ ...me, bootId: "before" }, me)).toBe(true);
    expect(isOwnerDead({ ...me, machineId: "another" }, me)).toBeUndefined();
    expect(isOwnerDead({ ...me, machineId: "another", bootId: "before" }, me)).toBeUndefined();
  });

  test("cannot be seen where the system does not say when it started", () => {
    expect(isOwnerDead({ ...me, processStart: "" }, me)).toBeUndefined();
    expect(isOwnerDead({ ...me, bootId: "" }, me)).toBeUndefined();
  });
});
